#!/bin/sh
# Builds the wheel with `pip install .` in a fresh virtual environment, runs the program from there and tests
# the Python package.
# It compiles the crate once more; TQ4_WHEEL_TARGET names a build directory to keep between runs.
set -eu
cd "$(dirname "$0")/.."
repository=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR="${TQ4_WHEEL_TARGET:-$PWD/target/wheel}"

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check . pytest ml_dtypes

# Nothing but the environment on the path, and no package in this directory: both must be the wheel's.
cd "$work"
tq4="$work/venv/bin/tq4"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$repository/Cargo.toml" | head -n 1)
[ "$("$tq4" --version)" = "tq4 $version" ]
"$work/venv/bin/python" - "$version" <<'PYTHON'
import importlib.metadata
import os
import subprocess
import sys
import sysconfig

assert importlib.metadata.version("tq4") == sys.argv[1]
tq4 = sysconfig.get_path("scripts") + "/tq4"
bare = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
devices = subprocess.run([tq4, "devices"], capture_output=True, check=True, env=bare)
assert devices.stdout and b"XDG_RUNTIME_DIR" not in devices.stderr
# A reader that has seen enough, help, and bad usage end as they do in the program itself.
reader, writer = os.pipe()
os.close(reader)
assert subprocess.run([tq4, "fixture", "few", "--bits", "2"], stdout=writer).returncode == 0
assert b"Usage: tq4" in subprocess.run([tq4, "--help"], capture_output=True, check=True).stdout
assert subprocess.run([tq4, "none"], capture_output=True).returncode == 2
PYTHON
"$tq4" demo --lanes reference >demo.txt
grep -q '^decision: ' demo.txt
"$tq4" quantize --source-model tq4-demo/source --output quantised >quantize.txt
grep -q 'whole model' quantize.txt
export PYTHONDONTWRITEBYTECODE=1
"$work/venv/bin/python" -m pytest -q -p no:cacheprovider "$repository/python/tests" "$repository/examples/python"
echo "wheel: tq4 $version installed and ran"
