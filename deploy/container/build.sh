#!/usr/bin/env bash
# Builds the container image of the static binary with podman, docker or buildah, whichever is there (or $ENGINE).
# Usage: deploy/container/build.sh [TAG], default: hah-vault:VERSION. BINARY: one that is built already.
set -euo pipefail
cd "$(dirname "$0")/../.."

engine=${ENGINE:-$(command -v podman || command -v buildah || command -v docker)} ||
    { echo "none of podman, buildah and docker is in the PATH" >&2; exit 1; }
binary=${BINARY:-$(deploy/build-static.sh)}
version=$("$binary" --version | cut -d ' ' -f 2)

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
install -m 0555 "$binary" "$context/hah-vault"
install -m 0444 "${CA_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$context/ca-certificates.crt"
"$engine" build --tag "${1:-hah-vault:$version}" --label "org.opencontainers.image.version=$version" \
    --file deploy/container/Containerfile "$context"
