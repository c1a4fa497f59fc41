//! Every key that a configuration may have: what it takes, and which variable says the same.
//!
//! The one list from which the parser, the nearest-key hints, the environment and `hah-vault config` work.

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A text.
    Text,
    /// A path.
    Path,
    /// A text, or a list of texts.
    Texts,
    /// true or false.
    Flag,
    /// 0 to 100.
    Percent,
    /// 0 to 1,000,000.
    Count,
    /// A number and a unit: `30s`, `15m`, `12h`, `90d`, `2w`.
    Duration,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A reference to a secret.
    Secret(References),
    /// `{ "from" = "to" }`.
    TextMap,
    /// `{ "name" = reference }`.
    SecretMap,
}

/// Which references may stand for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum References {
    /// `env(…)`, `file(…)`: what is needed before there is a Vault.
    Local,
    /// And `kv(…)`.
    Vault,
    /// And `creds(…)`: tokens of Consul and Nomad.
    Engine,
    /// `aws(…)` alone.
    Aws,
}

/// A variable that says the same as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// Its value is the key's.
    Same(&'static str),
    /// It says the opposite.
    Not(&'static str),
    /// Its value is a path: `file(…)`.
    File(&'static str),
    /// Its value is a path in Vault: `creds(…)`.
    Creds(&'static str),
}

impl Variable {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same(name) | Self::Not(name) | Self::File(name) | Self::Creds(name) => name,
        }
    }
}

/// A key. `name` of one in a sub-block is dotted: `tls.ca_file`.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub shape: Shape,
    /// Variables that say the same, the strongest first. The last is the one that our own readers of variables know.
    pub variables: &'static [Variable],
    /// Keys of one group exclude or complete each other: all of them come from one place. Empty for none.
    pub group: &'static str,
}

const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, shape, variables: &[], group: "" }
}

const fn set(name: &'static str, shape: Shape, variables: &'static [Variable]) -> Key {
    Key { name, shape, variables, group: "" }
}

const fn grouped(name: &'static str, shape: Shape, variables: &'static [Variable], group: &'static str) -> Key {
    Key { name, shape, variables, group }
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The store and the keys.
    Repository,
    /// A Vault or OpenBao.
    Vault,
    /// A Consul.
    Consul,
    /// A Nomad.
    Nomad,
    /// A file.
    File,
    /// The agent.
    Agent,
}

impl Kind {
    /// All, in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Repository, Self::Vault, Self::Consul, Self::Nomad, Self::File, Self::Agent];

    /// Whether snapshots come from it. The others are there once, and have no label.
    pub fn is_source(self) -> bool {
        !matches!(self, Self::Repository | Self::Agent)
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Vault => "vault",
            Self::Consul => "consul",
            Self::Nomad => "nomad",
            Self::File => "file",
            Self::Agent => "agent",
        }
    }

    /// Its keys.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        let lists: &[&[Key]] = match self {
            Self::Repository => &[REPOSITORY],
            Self::Vault => &[VAULT, SERVER, SOURCE, RETENTION],
            Self::Consul => &[CONSUL, SERVER, SOURCE, RETENTION],
            Self::Nomad => &[NOMAD, SERVER, SOURCE, RETENTION],
            Self::File => &[FILE, SOURCE, RETENTION],
            Self::Agent => &[AGENT, RETENTION],
        };
        lists.iter().copied().flatten()
    }

    /// A key by its dotted name.
    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

/// The ways to log in to Vault, and the keys that each takes.
pub const LOGINS: [(&str, &[&str]); 7] = [
    ("token", &["token"]),
    ("approle", &["mount", "role_id", "secret_id", "wrapped", "role_name"]),
    ("jwt", &["mount", "role", "jwt"]),
    ("kubernetes", &["mount", "role", "jwt"]),
    ("cert", &["mount", "name"]),
    ("userpass", &["mount", "username", "password"]),
    ("ldap", &["mount", "username", "password"]),
];

use References::{Aws, Engine, Local, Vault};
use Shape::{Choice, Count, Duration, Flag, Path, Percent, Secret, SecretMap, Text, TextMap, Texts};
use Variable::{Creds, File, Not, Same};

const REPOSITORY: &[Key] = &[
    set("url", Text, &[Same("HAH_VAULT_REPO")]),
    grouped(
        "writer_key",
        Secret(Vault),
        &[File("HAH_VAULT_WRITER_KEY_FILE"), Same("HAH_VAULT_WRITER_KEY")],
        "writer key",
    ),
    set("identities", Texts, &[Same("HAH_VAULT_IDENTITY")]),
    key("key_files", Texts),
    key("secrets_from", Text),
    set("kv", Text, &[Same("HAH_VAULT_KV")]),
    set("s3.endpoint", Text, &[Same("AWS_ENDPOINT_URL_S3"), Same("AWS_ENDPOINT_URL")]),
    set("s3.region", Text, &[Same("AWS_REGION"), Same("AWS_DEFAULT_REGION")]),
    grouped("s3.profile", Text, &[Same("AWS_PROFILE")], "S3 keys"),
    key("s3.addressing", Choice(&["path", "virtual"])),
    set("s3.ca_bundle", Path, &[Same("AWS_CA_BUNDLE")]),
    grouped("s3.access_key_id", Secret(Vault), &[Same("AWS_ACCESS_KEY_ID")], "S3 keys"),
    grouped("s3.secret_access_key", Secret(Vault), &[Same("AWS_SECRET_ACCESS_KEY")], "S3 keys"),
    grouped("s3.session_token", Secret(Vault), &[Same("AWS_SESSION_TOKEN")], "S3 keys"),
    grouped("s3.credentials", Secret(Aws), &[], "S3 keys"),
];

const SOURCE: &[Key] = &[
    key("source", Text),
    key("backup", Flag),
    key("shrink_warn_below_percent", Percent),
    key("compression", Choice(&["auto", "off"])),
    key("horizon", Duration),
    key("schedule", Text),
    key("time_zone", Text),
    key("jitter", Duration),
];

/// What gc keeps: of all sources, or of one. Nothing said: the default policy.
const RETENTION: &[Key] = &[
    key("retention.keep_last", Count),
    key("retention.keep_within", Duration),
    key("retention.keep_hourly", Count),
    key("retention.keep_daily", Count),
    key("retention.keep_weekly", Count),
    key("retention.keep_monthly", Count),
    key("retention.keep_yearly", Count),
    key("retention.keep_tags", Texts),
    key("retention.keep_all", Flag),
];

const AGENT: &[Key] = &[
    key("listen", Text),
    set("token_file", Path, &[Same("HAH_VAULT_AGENT_TOKEN_FILE")]),
    key("hosts", Texts),
    key("open_metrics", Flag),
    key("instance", Text),
    key("restore_folder", Path),
    key("state_folder", Path),
    key("runs_at_once", Count),
    key("retries", Count),
    key("retry_delay", Duration),
    key("stop_timeout", Duration),
    key("budget", Text),
    key("tls.certificate", Path),
    key("tls.key", Path),
    key("tls.client_ca", Path),
    key("lock.kind", Choice(&["none", "consul", "lease"])),
    key("lock.consul", Text),
    key("lock.key", Text),
    key("lock.name", Text),
    key("lock.ttl", Duration),
    key("lock.delay", Duration),
    key("lock.patience", Duration),
    key("consul_service.name", Text),
    key("consul_service.id", Text),
    key("consul_service.tags", Texts),
    key("consul_service.consul", Text),
    key("consul_service.deregister_after", Duration),
    key("schedule.backup", Text),
    key("schedule.gc", Text),
    key("schedule.verify", Text),
    key("schedule.rehearse", Text),
    key("schedule.read_data_percent", Percent),
    key("schedule.time_zone", Text),
    key("schedule.jitter", Duration),
];

const FILE: &[Key] = &[key("path", Path), key("raw", Flag)];

/// Keys of all servers that no variable says.
const SERVER: &[Key] =
    &[key("connect_timeout", Duration), key("first_byte_timeout", Duration), key("idle_timeout", Duration)];

const VAULT: &[Key] = &[
    set("address", Texts, &[Same("BAO_AGENT_ADDR"), Same("VAULT_AGENT_ADDR"), Same("BAO_ADDR"), Same("VAULT_ADDR")]),
    set("namespace", Text, &[Same("BAO_NAMESPACE"), Same("VAULT_NAMESPACE")]),
    grouped("token", Secret(Local), &[Same("BAO_TOKEN"), Same("VAULT_TOKEN")], "login"),
    grouped(
        "auth",
        Choice(&["token", "approle", "jwt", "kubernetes", "cert", "userpass", "ldap"]),
        &[Same("HAH_VAULT_AUTH")],
        "login",
    ),
    grouped("auth.token", Secret(Local), &[File("HAH_VAULT_AUTH_TOKEN_FILE")], "login"),
    grouped("auth.mount", Text, &[Same("HAH_VAULT_AUTH_MOUNT")], "login"),
    grouped("auth.role", Text, &[Same("HAH_VAULT_AUTH_ROLE")], "login"),
    grouped(
        "auth.role_id",
        Secret(Local),
        &[File("HAH_VAULT_AUTH_ROLE_ID_FILE"), Same("HAH_VAULT_AUTH_ROLE_ID")],
        "login",
    ),
    grouped(
        "auth.secret_id",
        Secret(Local),
        &[File("HAH_VAULT_AUTH_SECRET_ID_FILE"), Same("HAH_VAULT_AUTH_SECRET_ID")],
        "login",
    ),
    grouped("auth.wrapped", Flag, &[Same("HAH_VAULT_AUTH_SECRET_ID_WRAPPED")], "login"),
    grouped("auth.role_name", Text, &[Same("HAH_VAULT_AUTH_ROLE_NAME")], "login"),
    grouped("auth.jwt", Secret(Local), &[File("HAH_VAULT_AUTH_JWT_FILE"), Same("HAH_VAULT_AUTH_JWT")], "login"),
    grouped("auth.name", Text, &[Same("HAH_VAULT_AUTH_NAME")], "login"),
    grouped("auth.username", Text, &[Same("HAH_VAULT_AUTH_USERNAME")], "login"),
    grouped(
        "auth.password",
        Secret(Local),
        &[File("HAH_VAULT_AUTH_PASSWORD_FILE"), Same("HAH_VAULT_AUTH_PASSWORD")],
        "login",
    ),
    set("leader_addresses", TextMap, &[Same("HAH_VAULT_LEADER_ADDRESSES")]),
    set("follow_redirect", Flag, &[Not("BAO_DISABLE_REDIRECTS"), Not("VAULT_DISABLE_REDIRECTS")]),
    key("catalog", Text),
    grouped("tls.ca_file", Path, &[Same("BAO_CACERT"), Same("VAULT_CACERT")], "authorities"),
    grouped("tls.ca_pem", Text, &[Same("BAO_CACERT_BYTES"), Same("VAULT_CACERT_BYTES")], "authorities"),
    grouped("tls.ca_folder", Path, &[Same("BAO_CAPATH"), Same("VAULT_CAPATH")], "authorities"),
    grouped("tls.client_certificate", Path, &[Same("BAO_CLIENT_CERT"), Same("VAULT_CLIENT_CERT")], "certificate"),
    grouped("tls.client_key", Path, &[Same("BAO_CLIENT_KEY"), Same("VAULT_CLIENT_KEY")], "certificate"),
    set("tls.server_name", Text, &[Same("BAO_TLS_SERVER_NAME"), Same("VAULT_TLS_SERVER_NAME")]),
    set("tls.skip_verify", Flag, &[Same("BAO_SKIP_VERIFY"), Same("VAULT_SKIP_VERIFY")]),
    set(
        "proxy",
        Secret(Local),
        &[Same("BAO_PROXY_ADDR"), Same("VAULT_PROXY_ADDR"), Same("BAO_HTTP_PROXY"), Same("VAULT_HTTP_PROXY")],
    ),
    set("basic_auth", Secret(Local), &[Same("VAULT_HTTP_AUTH")]),
    set("headers", SecretMap, &[Same("BAO_HEADERS"), Same("VAULT_HEADERS")]),
    set("answer_timeout", Duration, &[Same("BAO_CLIENT_TIMEOUT"), Same("VAULT_CLIENT_TIMEOUT")]),
];

const CONSUL: &[Key] = &[
    set("address", Texts, &[Same("CONSUL_HTTP_ADDR")]),
    grouped(
        "token",
        Secret(Engine),
        &[Creds("HAH_VAULT_CONSUL_CREDS"), File("CONSUL_HTTP_TOKEN_FILE"), Same("CONSUL_HTTP_TOKEN")],
        "token",
    ),
    key("catalog_token", Secret(Local)),
    key("secrets_from", Text),
    key("datacenter", Text),
    key("stale", Flag),
    set("namespace", Text, &[Same("CONSUL_NAMESPACE")]),
    set("partition", Text, &[Same("CONSUL_PARTITION")]),
    grouped("tls.ca_file", Path, &[Same("CONSUL_CACERT")], "authorities"),
    grouped("tls.ca_pem", Text, &[], "authorities"),
    grouped("tls.ca_folder", Path, &[Same("CONSUL_CAPATH")], "authorities"),
    grouped("tls.client_certificate", Path, &[Same("CONSUL_CLIENT_CERT")], "certificate"),
    grouped("tls.client_key", Path, &[Same("CONSUL_CLIENT_KEY")], "certificate"),
    set("tls.server_name", Text, &[Same("CONSUL_TLS_SERVER_NAME")]),
    set("tls.skip_verify", Flag, &[Not("CONSUL_HTTP_SSL_VERIFY")]),
    key("proxy", Secret(Local)),
    set("basic_auth", Secret(Local), &[Same("CONSUL_HTTP_AUTH")]),
    key("headers", SecretMap),
    key("answer_timeout", Duration),
];

const NOMAD: &[Key] = &[
    set("address", Texts, &[Same("NOMAD_ADDR"), Same("NOMAD_UNIX_ADDR")]),
    grouped("token", Secret(Engine), &[Creds("HAH_VAULT_NOMAD_CREDS"), Same("NOMAD_TOKEN")], "token"),
    key("secrets_from", Text),
    set("region", Text, &[Same("NOMAD_REGION")]),
    key("stale", Flag),
    set("keystore", Path, &[Same("HAH_VAULT_NOMAD_KEYSTORE")]),
    key("catalog", Text),
    grouped("tls.ca_file", Path, &[Same("NOMAD_CACERT")], "authorities"),
    grouped("tls.ca_pem", Text, &[], "authorities"),
    grouped("tls.ca_folder", Path, &[Same("NOMAD_CAPATH")], "authorities"),
    grouped("tls.client_certificate", Path, &[Same("NOMAD_CLIENT_CERT")], "certificate"),
    grouped("tls.client_key", Path, &[Same("NOMAD_CLIENT_KEY")], "certificate"),
    set("tls.server_name", Text, &[Same("NOMAD_TLS_SERVER_NAME")]),
    set("tls.skip_verify", Flag, &[Same("NOMAD_SKIP_VERIFY")]),
    key("proxy", Secret(Local)),
    set("basic_auth", Secret(Local), &[Same("NOMAD_HTTP_AUTH")]),
    key("headers", SecretMap),
    key("answer_timeout", Duration),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_key_is_listed_twice_and_every_login_has_its_keys() {
        for kind in Kind::ALL {
            let names: Vec<&str> = kind.keys().map(|key| key.name).collect();
            let unique: BTreeSet<&str> = names.iter().copied().collect();
            assert_eq!(names.len(), unique.len(), "{kind:?}");
        }
        let Some(Key { shape: Choice(choices), .. }) = Kind::Vault.key("auth") else { panic!("no auth") };
        assert_eq!(*choices, LOGINS.map(|(name, _)| name));
        for (_, keys) in LOGINS {
            for name in keys {
                assert!(Kind::Vault.key(&format!("auth.{name}")).is_some(), "{name}");
            }
        }
    }
}
