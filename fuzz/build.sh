#!/bin/sh
# Builds the fuzz targets as `cargo fuzz build` does, but with tq4 and the targets alone instrumented: they
# are what is tested, and their dependencies take as long again. Further arguments go to cargo.
set -eu
cd "$(dirname "$0")"
flags='["-Zsanitizer=address", "-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=4",
  "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters", "-Cllvm-args=-sanitizer-coverage-pc-table",
  "-Cllvm-args=-sanitizer-coverage-trace-compares"]'
flags=$(echo "$flags" | tr -d '\n')
# Sanitizers and flags of one package are for nightly compilers; this lets the stable one take them.
# A named target keeps the flags away from build scripts.
export RUSTC_BOOTSTRAP=1
exec cargo build -Zprofile-rustflags --target x86_64-unknown-linux-gnu \
  --config "profile.dev.package.tq4.rustflags=$flags" \
  --config "profile.dev.package.tq4-fuzz.rustflags=$flags" "$@"
