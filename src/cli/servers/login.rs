//! How a block, or the environment, logs in to Vault.

use super::super::settings::variable;
use super::build;
use crate::config::{Reference, Section};
use crate::source::settings::VaultSettings;
use crate::source::token::Token;
use crate::source::vault::login::Login;
use crate::source::{ServiceKind, SourceError};
use std::path::{Path, PathBuf};

/// Where Kubernetes puts a service account's token.
const KUBERNETES_JWT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The file of a workload identity `identity { name = "vault" file = true }`, in a task's folder for secrets.
const NOMAD_JWT: &str = "nomad_vault.jwt";
/// Where Nomad's documentation mounts the auth method for its workload identities.
const NOMAD_MOUNT: &str = "jwt-nomad";

/// The login of a block; without one, the token that the settings name.
pub(super) fn login(section: &Section, settings: &VaultSettings) -> Result<Login, SourceError> {
    let read = Read { section };
    let mount = |default: &str| section.text("auth.mount").unwrap_or(default).to_owned();
    Ok(match section.text("auth") {
        None => Login::Token(settings.token.clone()),
        Some("token") => Login::Token(read.token("auth.token")?.unwrap_or_else(|| settings.token.clone())),
        Some("approle") => Login::AppRole {
            mount: mount("approle"),
            role_id: read.needed("auth.role_id")?,
            secret_id: read.token("auth.secret_id")?,
            wrapped: read.flag("auth.wrapped")?,
            role_name: read.text("auth.role_name"),
        },
        Some("jwt") => {
            let nomad = || nomad_jwt().map(|path| (Token::File { path, optional: false }, NOMAD_MOUNT));
            let found = read.token("auth.jwt")?.map(|jwt| (jwt, "jwt")).or_else(nomad);
            let (jwt, default_mount) = found.ok_or_else(|| read.missing("auth.jwt"))?;
            Login::Jwt { mount: mount(default_mount), role: read.text("auth.role"), jwt }
        }
        Some("kubernetes") => {
            let jwt = read.token("auth.jwt")?;
            let role = read.text("auth.role").ok_or_else(|| read.missing("auth.role"))?;
            let own = || Token::File { path: KUBERNETES_JWT.into(), optional: false };
            Login::Kubernetes { mount: mount("kubernetes"), role, jwt: jwt.unwrap_or_else(own) }
        }
        Some("cert") => Login::Cert { mount: mount("cert"), name: read.text("auth.name") },
        Some(method @ ("userpass" | "ldap")) => Login::Userpass {
            mount: mount(method),
            username: read.text("auth.username").ok_or_else(|| read.missing("auth.username"))?,
            password: read.needed("auth.password")?,
        },
        Some(_) => {
            let reason = "it is none of token, approle, jwt, kubernetes, cert, userpass, ldap";
            return Err(read.wrong("auth", reason));
        }
    })
}

/// The default workload identity of a Nomad task, if it is there.
fn nomad_jwt() -> Option<PathBuf> {
    let path = Path::new(&variable("NOMAD_SECRETS_DIR")?).join(NOMAD_JWT);
    path.exists().then_some(path)
}

/// Reads the settings of a login.
struct Read<'s> {
    section: &'s Section,
}

impl Read<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.section.text(key).map(str::to_owned)
    }

    fn token(&self, key: &str) -> Result<Option<Token>, SourceError> {
        let reference: Option<&Reference> = self.section.secret(key);
        reference.map(|reference| build::token(self.section, key, reference, ServiceKind::Vault)).transpose()
    }

    fn needed(&self, key: &str) -> Result<Token, SourceError> {
        self.token(key)?.ok_or_else(|| self.missing(key))
    }

    /// A flag of the file, or of a variable.
    fn flag(&self, key: &str) -> Result<bool, SourceError> {
        match self.section.text(key) {
            None => Ok(self.section.flag(key) == Some(true)),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(_) => Err(self.wrong(key, "it is neither true nor false")),
        }
    }

    /// The key as a person would write it: the variable, or the key and its block's place.
    fn wrong(&self, key: &str, reason: impl Into<String>) -> SourceError {
        let origin = self.section.origin_of(if self.section.setting(key).is_some() { key } else { "auth" });
        let variable = self.section.kind.key(key).and_then(|key| key.variables.last()).map_or("", |v| v.name());
        SourceError::Setting {
            service: ServiceKind::Vault,
            name: format!("{key}, or {variable} ({origin})"),
            reason: reason.into(),
        }
    }

    fn missing(&self, key: &str) -> SourceError {
        self.wrong(key, format!("the login by {} needs it", self.section.text("auth").unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::source::Secret;
    use crate::source::token::TokenKind;

    /// The login of a block, its lines with semicolons between, and of variables.
    fn read(block: &str, variables: &[(&str, &str)]) -> Result<Login, SourceError> {
        let text = format!("vault {{\n{}\n}}\n", block.replace("; ", "\n"));
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let config = Config::parse(Path::new("c.hcl"), &text).expect(block).merged(&lookup);
        let section = config.sections.into_iter().next().expect("a block");
        let settings = build::vault(&section).expect("settings");
        login(&section, &settings)
    }

    fn shown(token: &Token, kind: TokenKind) -> String {
        match token {
            Token::File { path, .. } => path.display().to_string(),
            other => other.require(ServiceKind::Vault, kind).as_ref().map_or("none", Secret::expose).to_owned(),
        }
    }

    #[test]
    fn each_way_to_log_in_is_read_from_the_file_and_from_variables() {
        let approle =
            "auth \"approle\" {; role_id = \"r\"; secret_id = file(\"/s\"); wrapped = true; role_name = \"n\"; }";
        let by_env = [
            ("HAH_VAULT_AUTH", "approle"),
            ("HAH_VAULT_AUTH_ROLE_ID", "r"),
            ("HAH_VAULT_AUTH_SECRET_ID_FILE", "/s"),
            ("HAH_VAULT_AUTH_SECRET_ID_WRAPPED", "1"),
            ("HAH_VAULT_AUTH_ROLE_NAME", "n"),
        ];
        for login in [read(approle, &[]), read("", &by_env)] {
            let Ok(Login::AppRole { mount, role_id, secret_id: Some(id), wrapped: true, role_name }) = login else {
                panic!("{login:?}")
            };
            assert_eq!((mount.as_str(), role_name.as_deref()), ("approle", Some("n")));
            assert_eq!(
                (shown(&role_id, TokenKind::RoleId), shown(&id, TokenKind::SecretId)),
                ("r".into(), "/s".into())
            );
        }
        let kubernetes = "auth \"kubernetes\" { role = \"b\" }";
        let by_env = [("HAH_VAULT_AUTH", "kubernetes"), ("HAH_VAULT_AUTH_ROLE", "b")];
        for login in [read(kubernetes, &[]), read("", &by_env)] {
            let Ok(Login::Kubernetes { mount, role, jwt }) = login else { panic!("{login:?}") };
            assert_eq!((mount.as_str(), role.as_str()), ("kubernetes", "b"));
            assert_eq!(shown(&jwt, TokenKind::Jwt), KUBERNETES_JWT);
        }
        let ldap = "auth \"ldap\" {; mount = \"m\"; username = \"u\"; password = \"p\"; }";
        let by_env = [
            ("HAH_VAULT_AUTH", "userpass"),
            ("HAH_VAULT_AUTH_MOUNT", "m"),
            ("HAH_VAULT_AUTH_USERNAME", "u"),
            ("HAH_VAULT_AUTH_PASSWORD", "p"),
        ];
        for login in [read(ldap, &[]), read("", &by_env)] {
            let Ok(Login::Userpass { mount, username, password }) = login else { panic!("{login:?}") };
            assert_eq!((mount.as_str(), username.as_str()), ("m", "u"));
            assert_eq!(shown(&password, TokenKind::Password), "p");
        }
        let jwt = read("auth \"jwt\" {; role = \"b\"; jwt = file(\"/j\"); }", &[]);
        assert!(
            matches!(&jwt, Ok(Login::Jwt { mount, role: Some(role), .. }) if mount == "jwt" && role == "b"),
            "{jwt:?}"
        );
        let cert = read("auth \"cert\" { name = \"n\" }", &[]);
        assert!(
            matches!(&cert, Ok(Login::Cert { mount, name: Some(name) }) if mount == "cert" && name == "n"),
            "{cert:?}"
        );
        let token = read("token = file(\"/t\")", &[]);
        assert!(matches!(&token, Ok(Login::Token(Token::File { optional: false, .. }))), "{token:?}");
    }

    #[test]
    fn what_a_login_lacks_is_named_as_key_and_variable() {
        for (block, variables, words) in [
            ("auth \"approle\" {; }", &[][..], "auth.role_id, or HAH_VAULT_AUTH_ROLE_ID (c.hcl:2)"),
            ("auth \"kubernetes\" {; }", &[], "HAH_VAULT_AUTH_ROLE (c.hcl:2)"),
            ("", &[("HAH_VAULT_AUTH", "ldap")], "HAH_VAULT_AUTH_USERNAME (HAH_VAULT_AUTH)"),
            ("", &[("HAH_VAULT_AUTH", "magic")], "none of token, approle"),
            (
                "",
                &[
                    ("HAH_VAULT_AUTH", "approle"),
                    ("HAH_VAULT_AUTH_ROLE_ID", "r"),
                    ("HAH_VAULT_AUTH_SECRET_ID_WRAPPED", "maybe"),
                ],
                "neither true nor false",
            ),
        ] {
            let error = read(block, variables).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
