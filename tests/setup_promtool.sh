#!/usr/bin/env bash
# Fetches promtool and Prometheus for the tests into target/tools: one checks alert rules and metrics, the other scrapes the
# agent. Takes them out of Debian's package of Prometheus, without installing that: it would start a server. Does nothing
# where both are there.
set -euo pipefail

cd "$(dirname "$0")/.."
tools=${CARGO_TARGET_DIR:-target}/tools
has() { command -v "$1" >/dev/null || [ -x "$tools/$1" ]; }
if has promtool && has prometheus; then
    exit 0
fi
for command in apt-get dpkg-deb; do
    command -v "$command" >/dev/null || { echo "tests need promtool and prometheus in the PATH or in $tools: please install them" >&2; exit 1; }
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$tools"
# Its own lists and cache, from the machine's own sources: nothing of the system's apt changes.
apt=(apt-get -q -o "Dir::State::lists=$scratch/lists" -o "Dir::Cache=$scratch/cache" -o Acquire::Languages=none
    -o APT::Sandbox::User=)
"${apt[@]}" update
(cd "$scratch" && "${apt[@]}" download prometheus)
dpkg-deb -x "$scratch"/prometheus_*.deb "$scratch/unpacked"
install -m 0755 "$scratch/unpacked/usr/bin/promtool" "$scratch/unpacked/usr/bin/prometheus" "$tools/"
"$tools/promtool" --version 2>&1 | head -n 1
