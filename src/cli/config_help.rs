//! The long help of `config` and `check`.

/// Of `config`.
pub(super) const CONFIG_AFTER: &str = "\
Nothing is connected to and no secret is read. Secrets are shown as [redacted] or as the reference
that stands for them.

Flags beat environment variables, and these beat the file. Where the file has several vault (consul,
nomad) blocks, one that names its address uses nothing of the environment, and one that does not is the
environment's cluster: VAULT_ADDR and so on fill in what it does not say.

The file is HCL (or JSON). Every block and key is optional. Shortened here; in the file each key has a
line of its own:

  repository {
    url        = \"r2://ACCOUNT/BUCKET/prefix\"           # as --repo
    writer_key = kv(\"secret/hah-vault\", \"writer_key\")
    identities = [\"/path/identity.txt\"]                 # not on a host that only backs up
    kv         = \"secret/hah-vault\"                     # or: these fields, where nothing else gives them:
                                                        # [r2_]access_key_id, …, writer_key
    secrets_from = \"home\"                               # which vault kv(), creds() and aws() ask
    s3 {
      endpoint, region, profile, addressing, ca_bundle  # as --s3-*
      access_key_id = kv(…)  secret_access_key = kv(…)  session_token = kv(…)
      credentials   = aws(\"aws/sts/backup\")             # in their place
    }
  }
  vault \"home\" {            # a label where there are several
    source    = \"vault-home\"                            # the source's name [vault, or vault-LABEL]
    backup    = true                                    # false: only secrets come from it
    address   = \"https://vault:8200\"                    # or a list, or consul://service/vault?tag=active
    catalog   = \"home\"                                  # which consul has the catalog
    namespace, token, leader_addresses = { \"http://10.0.0.1:8200\" = \"https://…\" }, follow_redirect
    auth \"approle\" { mount, role_id, secret_id, wrapped, role_name }
    auth \"jwt\" | \"kubernetes\" { mount, role, jwt }      # one of these
    auth \"cert\" { mount, name }
    auth \"userpass\" | \"ldap\" { mount, username, password }
    auth \"token\" { token }
  }
  consul \"home\" { address, token = creds(\"consul/creds/backup\"), catalog_token, datacenter, stale,
                  namespace, partition, secrets_from }
  nomad  \"home\" { address, token = creds(\"nomad/creds/backup\"), region, stale, keystore, catalog,
                  secrets_from }
  # vault, consul and nomad also:
    tls { ca_file, ca_folder, ca_pem, client_certificate, client_key, server_name, skip_verify }
    headers = { name = env(…) }, proxy, basic_auth = \"user:password\"
    connect_timeout, answer_timeout, first_byte_timeout, idle_timeout = \"60s\"
  file \"extra\" { path = \"/var/extra.db\", raw = true }
  # and every source: source, backup, compression = \"off\", horizon = \"90d\", shrink_warn_below_percent,
  # retention { keep_daily = 14 … } or { keep_all = true } for gc and the agent

Secrets are references: env(\"NAME\"), file(\"/path\") (read at each use), kv(\"mount/path\", \"field\"),
creds(\"engine/creds/role\") for tokens, aws(\"aws/creds/role\") for S3 keys. A secret that is written out works
and is warned of. In JSON: {\"env\": \"NAME\"}, {\"kv\": [\"mount/path\", \"field\"]}.

The same without a file:
  HAH_VAULT_AUTH            how to log in to Vault: token, approle, jwt, kubernetes, cert, userpass, ldap
  HAH_VAULT_AUTH_…          MOUNT, ROLE, ROLE_ID[_FILE], SECRET_ID[_FILE], SECRET_ID_WRAPPED, ROLE_NAME,
                            JWT[_FILE], NAME, USERNAME, PASSWORD[_FILE], TOKEN_FILE
  HAH_VAULT_CONSUL_CREDS    path of Consul's token in Vault: consul/creds/backup
  HAH_VAULT_NOMAD_CREDS     path of Nomad's: nomad/creds/backup
  HAH_VAULT_KV              path of the S3 keys and the writer key: secret/hah-vault
In a Nomad job, HAH_VAULT_AUTH=jwt finds ${NOMAD_SECRETS_DIR}/nomad_vault.jwt and logs in at jwt-nomad by itself.

Tokens that Vault makes are given back at the end, also after an error or ctrl-C.

Examples:
  hah-vault config
  hah-vault --config /etc/hah-vault/config.hcl config --json | jq -r 'select(.origin != \"default\")'";

/// Of `check`.
pub(super) const CHECK_AFTER: &str = "\
Tested: the configuration; each address, its TLS and whether a server with a leader answers there; logging
in and how long the token lasts; whether it may take snapshots; the clocks of this host, the store and the
servers; the store (list, put, get, delete); the repository and its keys. Failures do not stop the rest.
A token that is made for the test is given back.

Exit code 0: all is well, 3: something failed, 1: everything failed.

Examples:
  hah-vault check
  hah-vault check vault --json";
