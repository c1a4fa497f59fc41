#!/usr/bin/env bash
# Installs Chromium and its driver from Debian's packages for the tests of the agent's web page: some 100 MB, less than a minute
# on a good line. Does nothing where both are there; elsewhere it names what is missing.
set -euo pipefail

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    exit 0
fi
exec "$(dirname "$0")/install_debian.sh" chromium chromium-driver
