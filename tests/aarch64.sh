#!/bin/sh
# Compiles the reference and its tests for aarch64 and runs them in qemu's emulation of a process. Rust for that target,
# a linker and qemu are Debian's packages, out of the sources that apt has here, unpacked into a folder that is removed
# again: nothing is installed. Further arguments go to `cargo test`. Exit code 77: the packages cannot be had.
set -eu
cd "$(dirname "$0")/aarch64"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/deb"

# A package list of its own, with both architectures.
cat >"$work/apt.conf" <<CONF
APT::Architectures { "$(dpkg --print-architecture)"; "arm64"; };
APT::Sandbox::User "root";
Dir::State::lists "$work/lists";
Dir::Cache "$work/cache";
CONF
export APT_CONFIG="$work/apt.conf"
not_run() {
  tail -n 3 "$work/apt.log"
  echo "NOT RUN: the reference on aarch64: Debian's packages rustc-web, libstd-rust-web-dev:arm64 and qemu-user-static"
  exit 77
}
apt-get update -q >"$work/apt.log" 2>&1 || not_run
# The package of the name $2 among those that $1 depends on; the name has a version in it.
dependency() {
  apt-cache depends "$1" | sed -n "s/^ *Depends: \($2\)\$/\1/p" | head -n 1
}
# rustc-web is the compiler that Debian keeps new for its browsers.
library=$(dependency libstd-rust-web-dev 'libstd-rust-web-[0-9.]*')
gcc=$(dependency gcc-aarch64-linux-gnu 'gcc-[0-9]*-aarch64-linux-gnu')
(cd "$work/deb" && apt-get download -q \
  rustc-web "$library" "$(dependency "$library" 'libllvm[0-9]*')" libstd-rust-web-dev libstd-rust-web-dev:arm64 \
  "$gcc" "$(dependency "$gcc" 'libgcc-[0-9]*-dev-arm64-cross')" binutils-aarch64-linux-gnu \
  libc6-dev-arm64-cross libc6-arm64-cross qemu-user-static) >"$work/apt.log" 2>&1 || not_run
for deb in "$work"/deb/*.deb; do
  dpkg -x "$deb" "$root"
  rm "$deb"
done

# Both find their libraries where they would be installed.
libraries=$root/usr/lib/$(uname -m)-linux-gnu:$root/usr/lib
cat >"$work/rustc" <<RUSTC
#!/bin/sh
LD_LIBRARY_PATH=$libraries exec $root/usr/bin/rustc "\$@"
RUSTC
cat >"$work/aarch64-linux-gnu-gcc" <<GCC
#!/bin/sh
LD_LIBRARY_PATH=$libraries exec $root/usr/bin/$(echo "$gcc" | sed 's/\(gcc-[0-9]*\)-\(.*\)/\2-\1/') \
  -B$root/usr/bin/aarch64-linux-gnu- "\$@"
GCC
chmod +x "$work/rustc" "$work/aarch64-linux-gnu-gcc"
export RUSTC="$work/rustc" CARGO_TARGET_DIR="$work/target" CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$work/aarch64-linux-gnu-gcc"
# Linked whole, so that the emulator needs no libraries.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-Ctarget-feature=+crt-static -Dwarnings"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$root/usr/bin/qemu-aarch64-static"
cargo test --locked --quiet "$@"
