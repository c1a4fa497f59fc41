#!/usr/bin/env bash
# Fetches a real Consul for the tests into target/tools/consul, without installing it: Debian packages one only in
# bullseye (1.8.7). Takes it through apt, which checks the archive's signature, from the mirror that this machine's
# own Debian sources name. Does nothing where `consul` is there already.
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
if [ -z "$mirror" ]; then
    echo "tests need consul in the PATH or in $tools, and no Debian mirror is known here: please install it" >&2
    exit 1
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$tools"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# Its own lists and cache: nothing of the system's apt changes, so nothing has to be pinned.
apt=(apt-get -q -o "Dir::Etc::sourcelist=$scratch/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$scratch/lists" -o "Dir::Cache=$scratch/cache" -o Acquire::Languages=none
    -o APT::Sandbox::User= -o APT::Update::Error-Mode=any -o Acquire::Check-Valid-Until=false)
echo "deb [signed-by=$keyring] $mirror bullseye main" >"$scratch/sources.list"
"${apt[@]}" update
(cd "$scratch" && "${apt[@]}" download consul)
dpkg-deb -x "$scratch"/consul_*.deb "$scratch/unpacked"
install -m 0755 "$scratch/unpacked/usr/bin/consul" "$tools/consul"
"$tools/consul" version | head -n 1
