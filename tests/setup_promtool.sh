#!/usr/bin/env bash
# promtool and Prometheus for the tests: one checks the alert rules and the metrics, the other scrapes the agent. Debian's
# package of Prometheus has both; installed, it would start a server.
set -euo pipefail
exec "$(dirname "$0")/fetch_debian.sh" prometheus promtool prometheus
