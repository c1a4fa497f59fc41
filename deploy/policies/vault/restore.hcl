# Vault policy of a restore, for a token that a person makes on the day and revokes afterwards. Never on a backup host:
# whoever may restore can put any state in the place of this one.

# The backup before the restore.
path "sys/storage/raft/snapshot" {
  capabilities = ["read", "update"]
}

# A snapshot of another cluster, with other unseal keys (--force).
path "sys/storage/raft/snapshot-force" {
  capabilities = ["update"]
}

# Whether the node is still a member afterwards.
path "sys/storage/raft/configuration" {
  capabilities = ["read"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
