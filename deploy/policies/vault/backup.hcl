# Vault policy of a backup host: read snapshots, have short-lived tokens made, read the store's keys, give all of it back.
# Leave out what you do not use.

# A snapshot. No other right on storage is needed.
path "sys/storage/raft/snapshot" {
  capabilities = ["read"]
}

# HAH_VAULT_CONSUL_CREDS, HAH_VAULT_NOMAD_CREDS.
path "consul/creds/hah-vault" {
  capabilities = ["read"]
}
path "nomad/creds/hah-vault" {
  capabilities = ["read"]
}

# HAH_VAULT_KV: the store's keys and the writer key. KV version 2; for version 1: "secret/hah-vault".
path "secret/data/hah-vault" {
  capabilities = ["read"]
}

# Leases are renewed during a long run, and revoked at its end.
path "sys/leases/renew" {
  capabilities = ["update"]
}
path "sys/leases/revoke" {
  capabilities = ["update"]
}

# The policy `default` has these; they stand here for tokens without it.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
