//! From a block to a server's settings. Our own readers of variables do the work: a block is read under the names of the
//! variables that say the same.

use super::super::settings::variable;
use crate::config::{Origin, Reference, Section, Setting};
use crate::source::address::BasicAuth;
use crate::source::settings::{Authorities, ConsulSettings, FreshToken, NomadSettings, Reach, VaultSettings};
use crate::source::token::{Token, read_file};
use crate::source::{Secret, ServiceKind, SourceError, env};

/// What stands for Consul's anonymous token.
const ANONYMOUS: &str = "anonymous";

/// Vault's. The token of its own is `~/.vault-token`, or the block's.
pub(super) fn vault(section: &Section) -> Result<VaultSettings, SourceError> {
    let service = ServiceKind::Vault;
    let lookup = |name: &str| section.variable(name, &variable);
    let mut settings = env::vault(&lookup).map_err(|error| located(error, section))?;
    extras(&mut settings.reach, section, service)?;
    if let Some(reference) = section.secret("token") {
        settings.token = token(section, "token", reference, service)?;
    }
    Ok(settings)
}

/// Consul's, with a token that needs no Vault.
pub(super) fn consul(section: &Section) -> Result<ConsulSettings, SourceError> {
    let service = ServiceKind::Consul;
    let lookup = |name: &str| section.variable(name, &variable);
    let mut settings = env::consul(&lookup).map_err(|error| located(error, section))?;
    extras(&mut settings.reach, section, service)?;
    settings.datacenter = section.text("datacenter").map(str::to_owned);
    settings.stale = section.flag("stale") == Some(true);
    if let Some(reference) = section.secret("token").filter(|reference| !reference.needs_vault()) {
        settings.token = token(section, "token", reference, service)?;
    }
    Ok(settings)
}

/// Nomad's, with a token that needs no Vault.
pub(super) fn nomad(section: &Section) -> Result<NomadSettings, SourceError> {
    let service = ServiceKind::Nomad;
    let lookup = |name: &str| section.variable(name, &variable);
    let mut settings = env::nomad(&lookup).map_err(|error| located(error, section))?;
    extras(&mut settings.reach, section, service)?;
    settings.stale = section.flag("stale") == Some(true);
    if let Some(reference) = section.secret("token").filter(|reference| !reference.needs_vault()) {
        settings.token = token(section, "token", reference, service)?;
    }
    Ok(settings)
}

/// The token with which a Consul's catalog is asked: its own, or what is there without Vault. None if only Vault has it.
pub(super) fn catalog_token(section: &Section) -> Result<Option<Token>, SourceError> {
    let service = ServiceKind::Consul;
    if let Some(reference) = section.secret("catalog_token") {
        return match reference {
            Reference::Literal(text) if text.expose() == ANONYMOUS => Ok(Some(Token::None)),
            reference => token(section, "catalog_token", reference, service).map(Some),
        };
    }
    let Some(Setting { origin, .. }) = section.setting("token") else { return Ok(Some(Token::None)) };
    match section.secret("token") {
        Some(reference) if !reference.needs_vault() => token(section, "token", reference, service).map(Some),
        // HAH_VAULT_CONSUL_CREDS is for the snapshot; the job's own token finds Vault.
        Some(_) if matches!(origin, Origin::Variable(_)) => {
            let file =
                variable("CONSUL_HTTP_TOKEN_FILE").map(|path| Token::File { path: path.into(), optional: false });
            let given = || variable("CONSUL_HTTP_TOKEN").map(|token| Token::Given(Secret::new(token)));
            Ok(Some(file.or_else(given).unwrap_or_default()))
        }
        _ => Ok(None),
    }
}

/// Patience with a token that Vault has made just now.
pub(super) fn freshness(reference: &Reference) -> FreshToken {
    if matches!(reference, Reference::Creds(_)) { FreshToken::JUST_MADE } else { FreshToken::OLD }
}

/// A wrong setting of the file is named by its place rather than by the variable that says the same.
fn located(error: SourceError, section: &Section) -> SourceError {
    let SourceError::Setting { service, name, reason } = error else { return error };
    let key = section.key_of_variable(&name);
    let is_in_file = |key: &&str| section.setting(key).is_some_and(|s| matches!(s.origin, Origin::File { .. }));
    let name = match key.filter(is_in_file) {
        Some(key) => format!("{key} ({})", section.origin_of(key)),
        None => name,
    };
    SourceError::Setting { service, name, reason }
}

/// A secret that is there without Vault, as something that is read at each use.
pub(super) fn token(
    section: &Section,
    key: &str,
    reference: &Reference,
    service: ServiceKind,
) -> Result<Token, SourceError> {
    match reference {
        Reference::File(path) => Ok(Token::File { path: path.clone(), optional: false }),
        reference => local(section, key, reference, service).map(Token::Given),
    }
}

/// A secret that is there without Vault, as of now.
pub(super) fn local(
    section: &Section,
    key: &str,
    reference: &Reference,
    service: ServiceKind,
) -> Result<Secret, SourceError> {
    let wrong =
        |reason: String| SourceError::Setting { service, name: format!("{key} ({})", section.origin_of(key)), reason };
    match reference {
        Reference::Literal(secret) => Ok(secret.clone()),
        Reference::Env(name) => {
            variable(name).map(Secret::new).ok_or_else(|| wrong(format!("the variable {name} is not set")))
        }
        Reference::File(path) => {
            let what = "file with a secret,";
            let text =
                read_file(path).map_err(|source| SourceError::File { service, what, path: path.clone(), source })?;
            match text.expose().trim() {
                "" => Err(wrong(format!("the file {} is empty", path.display()))),
                trimmed => Ok(Secret::from(trimmed)),
            }
        }
        _ => Err(wrong("it is in Vault, which cannot be asked for it here".into())),
    }
}

/// What no variable says, or not for every kind.
fn extras(reach: &mut Reach, section: &Section, service: ServiceKind) -> Result<(), SourceError> {
    let patience = &mut reach.patience;
    for (key, limit) in [
        ("connect_timeout", &mut patience.connect),
        ("answer_timeout", &mut patience.answer),
        ("first_byte_timeout", &mut patience.first_byte),
        ("idle_timeout", &mut patience.gap),
    ] {
        if let Some(duration) = section.duration(key) {
            *limit = duration;
        }
    }
    for (name, reference) in section.secrets("headers") {
        if name.to_ascii_lowercase().starts_with("x-vault-") {
            let name = format!("headers ({})", section.origin_of("headers"));
            let reason = "headers that begin with X-Vault- cannot be set so".into();
            return Err(SourceError::Setting { service, name, reason });
        }
        reach.headers.push((name.clone(), local(section, "headers", reference, service)?));
    }
    if let Some(reference) = section.secret("proxy") {
        reach.proxy = Some(local(section, "proxy", reference, service)?);
    }
    if let Some(reference) = section.secret("basic_auth") {
        reach.basic_auth = Some(BasicAuth::parse(local(section, "basic_auth", reference, service)?.expose()));
    }
    if let Some(pem) = section.text("tls.ca_pem") {
        reach.tls.authorities = Authorities::Pem(pem.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;
    use std::time::Duration;

    /// A block, its lines with semicolons between.
    fn section(text: &str) -> Section {
        let config = Config::parse(Path::new("c.hcl"), &text.replace("; ", "\n")).expect(text);
        config.sections.into_iter().next().expect("a block")
    }

    #[test]
    fn what_no_variable_says_is_read_too() {
        let consul = section(
            "consul {; address = \"http://consul:8500\"; datacenter = \"dc2\"; stale = true; idle_timeout = \"5s\"; \
             headers = { \"A\" = \"1\" }; basic_auth = \"me:pa:ss\"; proxy = \"http://p\"; token = \"t\"; tls {; ca_pem = \
             \"PEM\"; skip_verify = true; }; }",
        );
        let settings = consul_settings(&consul);
        assert_eq!((settings.datacenter.as_deref(), settings.stale), (Some("dc2"), true));
        let reach = &settings.reach;
        assert_eq!((reach.patience.gap, reach.headers[0].1.expose()), (Duration::from_secs(5), "1"));
        assert_eq!(reach.basic_auth.as_ref().map(|basic| basic.user.as_str()), Some("me"));
        assert_eq!((&reach.tls.authorities, reach.tls.skip_verify), (&Authorities::Pem("PEM".into()), true));
        assert!(matches!(&settings.token, Token::Given(token) if token.expose() == "t"));
    }

    fn consul_settings(section: &Section) -> ConsulSettings {
        consul(section).expect("settings")
    }

    #[test]
    fn a_wrong_setting_is_named_by_its_place() {
        for (text, words) in [
            ("vault {; ; address = \"ftp://u:hunter2@v\"; }", "address (c.hcl:3) cannot be used"),
            ("vault {; tls { client_key = \"/k\" }; }", "tls.client_key (c.hcl:2)"),
            ("vault {; headers = { \"X-Vault-Token\" = \"t\" }; }", "X-Vault-"),
            ("vault {; token = env(\"HAH_VAULT_TEST_NOT_SET\"); }", "HAH_VAULT_TEST_NOT_SET is not set"),
        ] {
            let error = vault(&section(text)).expect_err(words).to_string();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_catalog_is_asked_with_a_token_that_needs_no_vault() {
        let token = |text: &str| catalog_token(&section(text)).expect(text);
        assert!(matches!(token("consul {; }"), Some(Token::None)));
        assert!(matches!(token("consul {; token = \"t\"; }"), Some(Token::Given(_))));
        assert!(token("consul {; token = creds(\"c\"); }").is_none());
        assert!(matches!(token("consul {; token = creds(\"c\"); catalog_token = \"anonymous\"; }"), Some(Token::None)));
    }
}
