#!/usr/bin/env bash
# Installs Chromium and its driver from Debian's packages for the tests of the agent's web page: some 100 MB, less than a minute
# on a good line. Does nothing where both are there; elsewhere it names what is missing.
set -euo pipefail

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "the tests of the web page need the commands chromium and chromedriver: please install them" >&2
    exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium chromium-driver
