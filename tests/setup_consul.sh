#!/usr/bin/env bash
# Fetches a real Consul for the tests into target/tools/consul, without installing it: Debian packages one only in
# bullseye (1.8.7). Takes it through apt, which checks the archive's signature, from the mirror that this machine's
# own Debian sources name (or Debian's usual one). Does nothing where `consul` is there already.
set -euo pipefail

cd "$(dirname "$0")/.."
tools=${CARGO_TARGET_DIR:-target}/tools
if command -v consul >/dev/null || [ -x "$tools/consul" ]; then
    exit 0
fi
for command in apt-get dpkg-deb; do
    command -v "$command" >/dev/null || { echo "tests need consul in the PATH or in $tools: please install it" >&2; exit 1; }
done

sources=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true)
mirror=$(grep -oE 'https?://[^ ]+/debian/?( |$)' <<<"$sources" | head -n 1 | tr -d ' ' || true)
mirror=${mirror:-http://deb.debian.org/debian}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$tools"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
if [ ! -e "$keyring" ]; then
    # Debian's relatives have its keys as a package.
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends debian-archive-keyring
fi
# Its own lists and cache: nothing of the system's apt changes, so nothing has to be pinned.
apt=(apt-get -q -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o Acquire::Languages=none
    -o APT::Sandbox::User= -o APT::Update::Error-Mode=any -o Acquire::Check-Valid-Until=false)
# Old releases move to the archive one day.
for from in "$mirror" http://archive.debian.org/debian; do
    echo "deb [signed-by=$keyring] $from bullseye main" >"$work/sources.list"
    if "${apt[@]}" update; then break; fi
done
(cd "$work" && "${apt[@]}" download consul)
dpkg-deb -x "$work"/consul_*.deb "$work/root"
install -m 0755 "$work/root/usr/bin/consul" "$tools/consul"
"$tools/consul" version | head -n 1
