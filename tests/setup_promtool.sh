#!/usr/bin/env bash
# promtool for the tests: it checks the alert rules and the metrics. Debian's package of Prometheus has it; installed, that
# would start a server.
set -euo pipefail
exec "$(dirname "$0")/fetch_debian.sh" prometheus promtool
