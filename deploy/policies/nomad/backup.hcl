# Nomad policy of the backup job, for Nomad 1.11.3 and newer; before, snapshots need a management token. The job's own
# workload identity gets it, so no token is stored anywhere:
#
#   nomad acl policy apply -namespace default -job hah-vault-backup hah-vault-backup deploy/policies/nomad/backup.hcl
#
# Restoring needs a management token, whatever the version.
operator {
  capabilities = ["snapshot-save"]
}
