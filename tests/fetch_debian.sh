#!/usr/bin/env bash
# Fetches commands for the tests into target/tools, out of a Debian package that is not installed:
#
#   tests/fetch_debian.sh PACKAGE COMMAND...        does nothing where all commands are there
#
# apt gets the package, and checks the archive's signature: from this machine's own sources, or, with SUITE set, from that
# suite of the Debian mirror that they name. Its lists and its cache are its own: nothing of the system's apt changes.
set -euo pipefail

package=$1
shift
cd "$(dirname "$0")/.."
tools=${CARGO_TARGET_DIR:-target}/tools
missing=()
for command in "$@"; do
    command -v "$command" >/dev/null || [ -x "$tools/$command" ] || missing+=("$command")
done
[ ${#missing[@]} -eq 0 ] && exit 0

give_up() {
    echo "tests need ${missing[*]} in the PATH or in $tools$1: please install" >&2
    exit 1
}
for command in apt-get dpkg-deb; do
    command -v "$command" >/dev/null || give_up ''
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$tools"
apt=(apt-get -q -o "Dir::State::lists=$scratch/lists" -o "Dir::Cache=$scratch/cache" -o Acquire::Languages=none
    -o APT::Sandbox::User=)
if [ -n "${SUITE:-}" ]; then
    sources=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true)
    mirror=$(grep -oE 'https?://[^ ]+/debian/?( |$)' <<<"$sources" | head -n 1 | tr -d ' ' || true)
    [ -n "$mirror" ] || give_up ', and no Debian mirror is known here'
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keyring] $mirror $SUITE main" >"$scratch/sources.list"
    # Old suites are signed for good, with a date long past.
    apt+=(-o "Dir::Etc::sourcelist=$scratch/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o APT::Update::Error-Mode=any -o Acquire::Check-Valid-Until=false)
fi
"${apt[@]}" update
(cd "$scratch" && "${apt[@]}" download "$package")
dpkg-deb -x "$scratch/$package"_*.deb "$scratch/unpacked"
for command in "${missing[@]}"; do
    install -m 0755 "$scratch/unpacked/usr/bin/$command" "$tools/$command"
done
