#!/usr/bin/env bash
# Installs what the tests run beside the product: the real `age` and `zstd` commands, ssh-keygen, Python 3, shellcheck,
# systemd-analyze, a real Consul, and promtool; under CI also Chromium, without which the tests of the web page say so and
# pass.
# Does nothing where they are already there. Debian and its relatives; elsewhere it names what is missing.
set -euo pipefail

"$(dirname "$0")/setup_consul.sh"
"$(dirname "$0")/setup_promtool.sh"
[ -z "${CI:-}" ] || "$(dirname "$0")/setup_chromium.sh"

missing=()
for pair in age:age zstd:zstd ssh-keygen:openssh-client python3:python3 shellcheck:shellcheck systemd-analyze:systemd; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] || "$(dirname "$0")/install_debian.sh" "${missing[@]}"
