#!/usr/bin/env bash
# A real Consul for the tests: Debian packages one only in bullseye (1.8.7).
set -euo pipefail
SUITE=bullseye exec "$(dirname "$0")/fetch_debian.sh" consul consul
