#!/usr/bin/env bash
# Sets up Vault for backups from a Nomad job that logs in with its workload identity: policy, auth method, role. Can be
# run again: policy and role are set to the same values, and an auth method that is there is left as it is. Needs the
# vault (or bao) command, VAULT_ADDR, a token that may write policies and auth methods, and NOMAD_JWKS_URL: where Vault
# reaches Nomad's keys, https://NOMAD:4646/.well-known/jwks.json.
# Settings: NAME (hah-vault-backup), MOUNT (jwt-nomad), NOMAD_JOB (the job's id, NAME), NOMAD_NAMESPACE (default),
# AUDIENCE (vault.io), TOKEN_TTL (20m), TOKEN_MAX_TTL (4h), NOMAD_CA_FILE (the authority of Nomad's certificate).
set -euo pipefail

name=${NAME:-hah-vault-backup}
mount=${MOUNT:-jwt-nomad}
job=${NOMAD_JOB:-$name}
namespace=${NOMAD_NAMESPACE:-default}
audience=${AUDIENCE:-vault.io}
jwks_url=${NOMAD_JWKS_URL:?where Vault reaches the keys of Nomad, https://NOMAD:4646/.well-known/jwks.json}
here=$(cd "$(dirname "$0")" && pwd)
vault=$(command -v vault || command -v bao) || { echo "neither vault nor bao is in the PATH" >&2; exit 1; }
for value in "$name" "$mount" "$job" "$namespace" "$audience"; do
    # They go into JSON as they are.
    [[ $value =~ ^[A-Za-z0-9._/-]+$ ]] || { echo "not a plain name: $value" >&2; exit 1; }
done

"$vault" policy write "$name" "$here/../policies/vault/backup.hcl"
methods=$("$vault" auth list -format=json)
if [[ $methods != *"\"$mount/\""* ]]; then
    "$vault" auth enable -path="$mount" jwt
fi
# The mount may serve other jobs: what is set already stays.
known=$("$vault" read -field=jwks_url "auth/$mount/config" 2>/dev/null || true)
if [ -z "$known" ]; then
    config=(jwks_url="$jwks_url" jwt_supported_algs="RS256,EdDSA")
    if [ -n "${NOMAD_CA_FILE:-}" ]; then
        config+=(jwks_ca_pem=@"$NOMAD_CA_FILE")
    fi
    "$vault" write "auth/$mount/config" "${config[@]}"
elif [ "$known" != "$jwks_url" ]; then
    echo "auth/$mount trusts the keys at $known, not at $jwks_url: set another MOUNT, or the same URL" >&2
    exit 1
fi

# Only this job of this namespace: the claims are signed by Nomad.
"$vault" write "auth/$mount/role/$name" - <<END
{
  "role_type": "jwt",
  "bound_audiences": ["$audience"],
  "bound_claims": { "nomad_namespace": "$namespace", "nomad_job_id": "$job" },
  "user_claim": "/nomad_job_id",
  "user_claim_json_pointer": true,
  "claim_mappings": { "nomad_namespace": "nomad_namespace", "nomad_job_id": "nomad_job_id", "nomad_task": "nomad_task" },
  "token_policies": ["$name"],
  "token_type": "service",
  "token_ttl": "${TOKEN_TTL:-20m}",
  "token_max_ttl": "${TOKEN_MAX_TTL:-4h}"
}
END

cat <<END
Done. In the job: HAH_VAULT_AUTH=jwt, HAH_VAULT_AUTH_MOUNT=$mount, HAH_VAULT_AUTH_ROLE=$name, and
  identity { name = "vault", aud = ["$audience"], file = true }
END
