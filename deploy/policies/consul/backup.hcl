# Consul policy of a backup host, for saving and restoring. Consul has no smaller right for snapshots: they hold every
# token, and `acl = "write"` is as much as a management token. So let Vault make the token for each run:
#
#   consul acl policy create -name hah-vault-backup -rules @deploy/policies/consul/backup.hcl
#   vault write consul/roles/hah-vault consul_policies=hah-vault-backup ttl=15m max_ttl=2h
#
# and set HAH_VAULT_CONSUL_CREDS=consul/creds/hah-vault.
acl = "write"

# Addresses such as consul://service/vault are looked up with this token, too.
service_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
