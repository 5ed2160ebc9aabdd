#!/bin/sh
# Builds the wheel with `pip install .` in a fresh virtual environment and runs the program from there.
# It compiles the crate once more; TQ4_WHEEL_TARGET names a build directory to keep between runs.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR="${TQ4_WHEEL_TARGET:-$PWD/target/wheel}"

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check .

# Nothing but the environment on the path: the program must be the wheel's.
tq4="$work/venv/bin/tq4"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
[ "$("$tq4" --version)" = "tq4 $version" ]
"$work/venv/bin/python" - "$version" <<'PYTHON'
import importlib.metadata
import subprocess
import sys
import sysconfig

assert importlib.metadata.version("tq4") == sys.argv[1]
tq4 = sysconfig.get_path("scripts") + "/tq4"
assert subprocess.run([tq4, "devices"], capture_output=True, check=True).stdout
PYTHON
cd "$work"
"$tq4" demo --lanes reference >demo.txt
grep -q '^decision: ' demo.txt
"$tq4" quantize --source-model tq4-demo/source --output quantised >quantize.txt
grep -q 'whole model' quantize.txt
echo "wheel: tq4 $version installed and ran"
