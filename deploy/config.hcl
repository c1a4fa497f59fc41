# All that a configuration file can say. Every block and key is optional; what is commented out shows the default, or a
# form that excludes what stands before it. Environment variables beat this file where there is one block of a kind:
# `hah-vault config` shows what holds and where it comes from, `hah-vault check` tests it.
# Looked for at --config, HAH_VAULT_CONFIG, ~/.config/hah-vault/config.hcl, /etc/hah-vault/config.hcl.

repository {
  # As --repo: a path, s3://BUCKET/PREFIX, r2://ACCOUNT/BUCKET/PREFIX.
  url = "r2://0123456789abcdef0123456789abcdef/backups/home"

  # Secrets are references. A secret that is written out works too, and is warned of.
  #   env("NAME")                       a variable
  #   file("/path")                     a file, read at each use; blanks at its ends do not count
  #   kv("mount/path", "field")         a field in Vault's KV, version 1 or 2
  #   creds("engine/creds/role")        a token that Vault's Consul or Nomad engine makes
  #   aws("engine/creds/role")          S3 keys that Vault's AWS engine makes
  writer_key = kv("secret/hah-vault", "writer_key")

  # Which vault block kv(), creds() and aws() ask; needed where there are several.
  secrets_from = "home"

  # Instead of naming each: the fields writer_key, access_key_id, secret_access_key and session_token, or the last three
  # with r2_ before them, of one secret, where nothing else gives them.
  # kv = "secret/hah-vault"

  # On machines that restore.
  # identities = ["/etc/hah-vault/identity.txt"]
  # key_files  = ["/etc/hah-vault/repository-key.age"]

  s3 {
    access_key_id     = kv("secret/hah-vault", "r2_access_key_id")
    secret_access_key = kv("secret/hah-vault", "r2_secret_access_key")
    # session_token   = kv("secret/hah-vault", "r2_session_token")
    # credentials     = aws("aws/sts/backup")   # in the place of the three
    # profile         = "backup"                # of the AWS files
    # endpoint        = "https://s3.example.com"
    # region          = "eu-west-1"
    # addressing      = "path"                  # or "virtual"
    # ca_bundle       = "/etc/ssl/s3.pem"
  }
}

# The label may be left out where there is one block of the kind. The source is called vault-home, without a label vault.
vault "home" {
  # source  = "vault-home"
  # backup  = false          # no snapshots: only secrets come from it

  # One, a list, or Consul's catalog: "consul://service/vault?tag=active".
  address = ["https://vault-1.example.com:8200", "https://vault-2.example.com:8200"]
  # catalog = "home"         # which consul block has the catalog

  # Of the login and of secrets; snapshots are always of the root namespace.
  # namespace = "team"

  # One way to log in.
  auth "approle" {
    mount     = "approle"
    role_id   = "5b3d4a0c-0000-0000-0000-000000000000"
    secret_id = file("/etc/hah-vault/secret-id")
    # wrapped   = true       # secret_id is a response-wrapping token
    # role_name = "backup"   # which role that token must be of
  }
  # auth "jwt" {                # also "kubernetes", whose jwt has a default
  #   mount = "jwt-nomad"
  #   role  = "backup"
  #   jwt   = file("/secrets/nomad_vault.jwt")
  # }
  # auth "kubernetes" { role = "backup" }
  # auth "cert"       { name = "backup" }
  # auth "userpass" {           # and auth "ldap"
  #   username = "backup"
  #   password = file("/etc/hah-vault/password")
  # }
  # token = file("/run/vault-token")

  # Where a standby names a leader that cannot be reached under that address.
  leader_addresses = { "http://10.0.0.1:8200" = "https://vault-1.example.com:8200" }
  # follow_redirect = false

  tls {
    ca_file = "/etc/ssl/vault-ca.pem"
    # ca_folder          = "/etc/ssl/vault"
    # ca_pem             = "-----BEGIN CERTIFICATE-----…"
    # client_certificate = "/etc/hah-vault/client.pem"
    # client_key         = "/etc/hah-vault/client.key"
    # server_name        = "vault.service.consul"
    # skip_verify        = true   # whoever stands between sees the token and the snapshot
  }

  # headers    = { "CF-Access-Client-Secret" = env("CF_ACCESS_CLIENT_SECRET") }
  # proxy      = env("VAULT_PROXY")
  # basic_auth = file("/etc/hah-vault/user-and-password")   # user:password
  # connect_timeout    = "10s"
  # answer_timeout     = "60s"
  # first_byte_timeout = "15m"
  # idle_timeout       = "60s"

  # For every source:
  shrink_warn_below_percent = 50   # a snapshot that is much smaller than the one before; 0: never
  # compression = "off"            # closes guessing of secrets by watching sizes
  # horizon     = "90d"            # store again what is older
  schedule    = "5 * * * *"        # the agent's; or "every 10m"; "never"
  # time_zone = "Europe/Berlin"
  # jitter    = "2m"               # begin up to so much later
  # retention {                    # for this source, of gc and the agent; instead of the agent block's
  #   keep_last = 10               # or keep_all = true
  # }
}

consul {
  address = "https://consul.example.com:8501"
  token   = creds("consul/creds/backup")
  # secrets_from  = "home"
  # catalog_token = "anonymous"    # for the catalog, where the token comes from a Vault that is found in it
  # datacenter    = "dc1"
  # stale         = true           # from any server, also one that is behind
  # namespace     = "default"
  # partition     = "default"
}

nomad {
  address = "https://nomad.example.com:4646"
  token   = creds("nomad/creds/backup")
  # region   = "global"
  # stale    = true
  # keystore = "/opt/nomad/server/keystore"   # Nomad 1.4 to 1.8
}

# Any file; its source is called as the label says.
file "notes" {
  path = "/var/lib/notes.db"
  raw  = true                      # no Raft snapshot
}

# What `hah-vault agent` does.
agent {
  listen     = "127.0.0.1:8205"    # or "unix:///run/hah-vault/agent.sock"; beyond this machine only with a token
  token_file = "/etc/hah-vault/agent.token"   # one token a line: openssl rand -hex 32; or HAH_VAULT_AGENT_TOKEN_FILE
  # hosts          = ["backup.example.com"]   # names, besides addresses and localhost, under which it is reached
  # open_metrics   = true                     # /metrics without a token
  # instance       = "backup-1"               # default: the host's name
  # restore_folder = "/var/lib/hah-vault/restores"   # POST /v1/restores writes here, and nowhere else
  # state_folder   = "/var/lib/hah-vault"     # what ran when, without a lock to note it in; default: $XDG_STATE_HOME/hah-vault
  # runs_at_once   = 1
  # retries        = 3                        # of a failed run, after retry_delay, twice that, and so on
  # retry_delay    = "60s"
  # stop_timeout   = "20s"                    # runs may finish within this
  # budget         = "10GB"
  # tls {
  #   certificate = "/etc/hah-vault/agent.pem"
  #   key         = "/etc/hah-vault/agent.key"
  #   client_ca   = "/etc/hah-vault/clients.pem"   # turns clients without a certificate away
  # }

  schedule {
    backup    = "every 1h"         # of sources that have none of their own
    gc        = "30 3 * * *"
    verify    = "0 4 * * *"
    # rehearse = "0 5 * * 0"         # needs an identity
    read_data_percent = 5          # of the packs, with each verification
    # time_zone = "UTC"
    # jitter    = "0s"
  }

  retention {                      # of gc and the agent; these are the default
    keep_last    = 3
    keep_within  = "1d"
    keep_hourly  = 48
    keep_daily   = 14
    keep_weekly  = 8
    keep_monthly = 12
    keep_yearly  = 3
    keep_tags    = ["keep"]        # default: none
    # keep_all   = true            # alone: gc deletes only what crashed runs left
  }

  # One replica at a time: "consul", "lease" (in the store), or "none".
  lock {
    kind = "none"
    # consul   = "home"                   # label of a consul block
    # key      = "consul-snapshot/lock"   # Consul's own snapshot agent waits for it, too
    # name     = "agent"                  # of the lease
    # ttl      = "15s"                    # lease: "5m"
    # delay    = "15s"
    # patience = "10m"                    # then go on without a lock that cannot be reached; "0s": never
  }

  # consul_service {                    # be seen in Consul, with two checks
  #   name   = "hah-vault"
  #   id     = "hah-vault-backup-1"
  #   tags   = ["agent"]
  #   consul = "home"
  #   deregister_after = "72h"
  # }
}
