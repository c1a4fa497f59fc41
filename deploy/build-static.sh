#!/usr/bin/env bash
# Builds one fully static hah-vault for Linux and prints its path. Needs rustup and a C compiler for musl
# (Debian: musl-tools). Usage: deploy/build-static.sh [x86_64|aarch64], default: this machine's architecture.
#
# musl, not a static glibc: glibc's resolver loads the modules of the host's nsswitch.conf at run time, which needs the
# same glibc on the host. musl reads /etc/hosts and /etc/resolv.conf itself, so the binary runs in an empty root folder.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=${1:-$(uname -m)}
target=$arch-unknown-linux-musl
cc_variable=CC_${target//-/_}
if [ -z "${!cc_variable:-}" ]; then
    compiler=$arch-linux-musl-gcc
    [ "$arch" != "$(uname -m)" ] || command -v "$compiler" >/dev/null || compiler=musl-gcc
    command -v "$compiler" >/dev/null ||
        { echo "no C compiler for $target: install musl-tools, or set $cc_variable" >&2; exit 1; }
    export "$cc_variable=$compiler"
fi
[ -d "$(rustc --print target-libdir --target "$target")" ] || rustup target add "$target" >&2

# The same bytes wherever the source and the crates lie.
separator=$'\x1f'
export CARGO_ENCODED_RUSTFLAGS="-Ctarget-feature=+crt-static${separator}--remap-path-prefix=$PWD=/hah-vault\
${separator}--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
folder=${CARGO_TARGET_DIR:-target}/static
cargo build --release --locked --bin hah-vault --target "$target" --target-dir "$folder" >&2
echo "$folder/$target/release/hah-vault"
