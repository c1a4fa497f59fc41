# Consul policy of the agent's replicas for their lock and their entry in the catalog. Snapshots need backup.hcl too.
key_prefix "hah-vault/" {
  policy = "write"
}
session_prefix "" {
  policy = "write"
}
service "hah-vault" {
  policy = "write"
}
node_prefix "" {
  policy = "read"
}
