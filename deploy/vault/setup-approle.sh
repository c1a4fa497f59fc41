#!/usr/bin/env bash
# Sets up Vault for backups from a host that logs in by AppRole: policy, auth method, role. Can be run again: policy and
# role are set to the same values, and an auth method that is there is left as it is. Needs the vault (or bao) command,
# VAULT_ADDR, and a token that may write policies and auth methods. Prints what to do with the role; makes no secret id,
# which belongs on the backup host alone.
# Settings: NAME (hah-vault-backup), MOUNT (approle), TOKEN_TTL (20m), TOKEN_MAX_TTL (4h), CIDRS (the host's addresses).
set -euo pipefail

name=${NAME:-hah-vault-backup}
mount=${MOUNT:-approle}
here=$(cd "$(dirname "$0")" && pwd)
vault=$(command -v vault || command -v bao) || { echo "neither vault nor bao is in the PATH" >&2; exit 1; }

"$vault" policy write "$name" "$here/../policies/vault/backup.hcl"
methods=$("$vault" auth list -format=json)
if [[ $methods != *"\"$mount/\""* ]]; then
    "$vault" auth enable -path="$mount" approle
fi
role=(
    token_policies="$name"
    token_ttl="${TOKEN_TTL:-20m}"
    token_max_ttl="${TOKEN_MAX_TTL:-4h}"
    token_type=service # a batch token cannot give its leases back
    bind_secret_id=true
)
if [ -n "${CIDRS:-}" ]; then
    role+=(token_bound_cidrs="$CIDRS" secret_id_bound_cidrs="$CIDRS")
fi
"$vault" write "auth/$mount/role/$name" "${role[@]}"

cat <<END
Role id: $("$vault" read -field=role_id "auth/$mount/role/$name/role-id")

On the backup host, with a token that may do no more than this:
  vault write -wrap-ttl=5m -force -field=wrapping_token auth/$mount/role/$name/secret-id
Its output goes, once, to where the service reads it; or, without wrapping, the secret id itself:
  vault write -force -field=secret_id auth/$mount/role/$name/secret-id | systemd-creds encrypt --name=secret-id - /etc/credstore.encrypted/secret-id
Then HAH_VAULT_AUTH=approle, HAH_VAULT_AUTH_MOUNT=$mount, HAH_VAULT_AUTH_ROLE_ID, HAH_VAULT_AUTH_SECRET_ID_FILE,
and for a wrapped one HAH_VAULT_AUTH_SECRET_ID_WRAPPED=true.
END
