#!/usr/bin/env bash
# Installs Debian packages for the tests; elsewhere it says what is missing.
#
#   tests/install_debian.sh PACKAGE...
set -euo pipefail

if ! command -v apt-get >/dev/null; then
    echo "tests need the commands of these packages, please install them: $*" >&2
    exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
