//! `VAULT_*`, and `BAO_*` before them.

use std::path::Path;

use super::super::address::{Address, NoScheme};
use super::super::secret::Secret;
use super::super::settings::{Authorities, Tls, VAULT_MAX_RETRIES, VaultSettings};
use super::super::token::Token;
use super::super::{ServiceKind, SourceError};
use super::{Lookup, Variable, Variables};

/// Where Vault's own client looks without `VAULT_ADDR`.
const ADDRESS_DEFAULT: &str = "https://127.0.0.1:8200";
/// More would keep a run that cannot succeed from saying so.
const MAX_RETRIES_MAX: u32 = 100;

/// Vault's or OpenBao's settings.
///
/// Not read, because they do not concern us: `VAULT_RATE_LIMIT`, `VAULT_WRAP_TTL`, `VAULT_MFA`. `VAULT_SRV_LOOKUP` is refused rather than passed over.
///
/// # Errors
/// [`SourceError::Setting`] naming the variable.
pub fn vault(lookup: Lookup<'_>) -> Result<VaultSettings, SourceError> {
    let variables = Variables { service: ServiceKind::Vault, lookup, prefixes: &["BAO_", "VAULT_"] };
    let address = variables.get("AGENT_ADDR").or_else(|| variables.get("ADDR"));
    let address = address.unwrap_or_else(|| Variable { name: "VAULT_ADDR".into(), value: ADDRESS_DEFAULT.into() });
    if variables.flag("SRV_LOOKUP")? == Some(true) {
        let text =
            "looking up SRV records is not supported: name the addresses in VAULT_ADDR, with commas between them";
        return Err(SourceError::Setting {
            service: ServiceKind::Vault,
            name: "VAULT_SRV_LOOKUP".into(),
            reason: text.into(),
        });
    }
    let mut reach = variables.reach(&address, NoScheme::Refuse)?;
    reach.tls = tls(&variables)?;
    reach.headers = headers(&variables)?;
    reach.proxy = variables.text("PROXY_ADDR").or_else(|| variables.text("HTTP_PROXY")).map(Secret::new);
    if let Some(limit) = variables.duration("CLIENT_TIMEOUT")?.filter(|limit| !limit.is_zero()) {
        reach.patience.answer = limit;
    }
    Ok(VaultSettings {
        reach,
        token: token(&variables),
        namespace: variables.text("NAMESPACE"),
        leader_addresses: leader_addresses(&variables)?,
        follow_redirect: variables.flag("DISABLE_REDIRECTS")? != Some(true),
        max_retries: max_retries(&variables)?,
    })
}

fn max_retries(variables: &Variables<'_>) -> Result<u32, SourceError> {
    let Some(variable) = variables.get("MAX_RETRIES") else { return Ok(VAULT_MAX_RETRIES) };
    let found = variable.value.parse().ok().filter(|retries| *retries <= MAX_RETRIES_MAX);
    found.ok_or_else(|| variables.wrong(&variable, "it is not a number from 0 to 100"))
}

fn token(variables: &Variables<'_>) -> Token {
    if let Some(token) = variables.text("TOKEN") {
        return Token::Given(Secret::new(token.trim().to_owned()));
    }
    let home = (variables.lookup)("HOME").filter(|home| !home.is_empty());
    home.map_or(Token::None, |home| Token::File { path: Path::new(&home).join(".vault-token"), optional: true })
}

fn tls(variables: &Variables<'_>) -> Result<Tls, SourceError> {
    let authorities = match (variables.text("CACERT"), variables.text("CACERT_BYTES"), variables.text("CAPATH")) {
        (Some(file), _, _) => Authorities::File(file.into()),
        (None, Some(pem), _) => Authorities::Pem(pem),
        (None, None, Some(folder)) => Authorities::Folder(folder.into()),
        (None, None, None) => Authorities::System,
    };
    Ok(Tls {
        authorities,
        client: variables.client_certificate()?,
        server_name: variables.text("TLS_SERVER_NAME"),
        skip_verify: variables.flag("SKIP_VERIFY")? == Some(true),
    })
}

/// `VAULT_HEADERS`: a JSON object of texts, or of lists of texts. Vault's own headers cannot be set so.
fn headers(variables: &Variables<'_>) -> Result<Vec<(String, Secret)>, SourceError> {
    let Some(variable) = variables.get("HEADERS") else { return Ok(Vec::new()) };
    let wrong = |reason: &str| variables.wrong(&variable, reason);
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&variable.value).map_err(|_| wrong("it is not a JSON object"))?;
    let mut headers = Vec::new();
    for (name, value) in object {
        if name.to_ascii_lowercase().starts_with("x-vault-") {
            return Err(wrong("headers that begin with X-Vault- cannot be set so"));
        }
        let values = match value {
            serde_json::Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let serde_json::Value::String(value) = value else { return Err(wrong("a value is not a text")) };
            headers.push((name.clone(), Secret::new(value)));
        }
    }
    Ok(headers)
}

/// `HAH_VAULT_LEADER_ADDRESSES`, ours: `http://10.0.0.1:8200=https://vault.example.com`, several with commas.
fn leader_addresses(variables: &Variables<'_>) -> Result<Vec<(Address, Address)>, SourceError> {
    let name = "HAH_VAULT_LEADER_ADDRESSES".to_owned();
    let Some(value) = (variables.lookup)(&name).filter(|value| !value.is_empty()) else { return Ok(Vec::new()) };
    let variable = Variable { name, value };
    let pairs = variable.value.split(',').map(|pair| {
        let (from, to) = pair.split_once('=').ok_or("it is not of the form leader=address,…")?;
        let (from, _) = Address::parse(from, NoScheme::Refuse)?;
        let (to, _) = Address::parse(to, NoScheme::Refuse)?;
        Ok((from, to))
    });
    pairs.collect::<Result<_, &str>>().map_err(|reason| variables.wrong(&variable, reason))
}

#[cfg(test)]
mod tests {
    use super::super::super::settings::{ClientCertificate, Place};
    use super::*;
    use std::time::Duration;

    fn read(variables: &[(&str, &str)]) -> Result<VaultSettings, SourceError> {
        vault(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    fn addresses(variables: &[(&str, &str)]) -> Vec<String> {
        match read(variables).expect("settings").reach.place {
            Place::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
            Place::Catalog(query) => vec![format!("{query:?}")],
        }
    }

    #[test]
    fn the_address_comes_from_the_agent_first_and_from_bao_before_vault() {
        for (variables, expected) in [
            (&[][..], "https://127.0.0.1:8200"),
            (&[("VAULT_ADDR", "")], "https://127.0.0.1:8200"),
            (&[("VAULT_ADDR", "http://a:1")], "http://a:1"),
            (&[("VAULT_ADDR", "http://a:1"), ("BAO_ADDR", "http://b:1")], "http://b:1"),
            (&[("VAULT_ADDR", "http://a:1"), ("VAULT_AGENT_ADDR", "unix:///s")], "unix:///s"),
            (&[("BAO_ADDR", "http://a:1"), ("VAULT_AGENT_ADDR", "http://b:1")], "http://b:1"),
        ] {
            assert_eq!(addresses(variables), [expected], "{variables:?}");
        }
        assert_eq!(addresses(&[("VAULT_ADDR", "http://a:1,https://b")]), ["http://a:1", "https://b:443"]);
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_home_folder() {
        let token = |variables| format!("{:?}", read(variables).expect("settings").token);
        assert_eq!(token(&[]), "None");
        assert_eq!(token(&[("VAULT_TOKEN", "s.x"), ("HOME", "/h")]), "Given([redacted])");
        assert_eq!(token(&[("HOME", "/h")]), "File { path: \"/h/.vault-token\", optional: true }");
        let Token::Given(token) = read(&[("VAULT_TOKEN", "v"), ("BAO_TOKEN", "b\n")]).expect("settings").token else {
            panic!("no token")
        };
        assert_eq!(token.expose(), "b");
    }

    #[test]
    fn the_ca_file_beats_the_ca_bytes_and_these_beat_the_ca_folder() {
        let all = [("VAULT_CACERT", "/f"), ("VAULT_CACERT_BYTES", "PEM"), ("VAULT_CAPATH", "/d")];
        for (variables, expected) in [
            (&all[..], Authorities::File("/f".into())),
            (&all[1..], Authorities::Pem("PEM".into())),
            (&all[2..], Authorities::Folder("/d".into())),
            (&all[3..], Authorities::System),
        ] {
            assert_eq!(read(variables).expect("settings").reach.tls.authorities, expected);
        }
    }

    #[test]
    fn everything_else_is_read_too() {
        let settings = read(&[
            ("VAULT_CLIENT_CERT", "/c"),
            ("VAULT_CLIENT_KEY", "/k"),
            ("VAULT_TLS_SERVER_NAME", "vault.service.consul"),
            ("VAULT_SKIP_VERIFY", "T"),
            ("VAULT_NAMESPACE", "team/"),
            ("VAULT_CLIENT_TIMEOUT", "5"),
            ("VAULT_HTTP_PROXY", "http://one"),
            ("VAULT_PROXY_ADDR", "http://two"),
            ("VAULT_DISABLE_REDIRECTS", "true"),
            ("VAULT_MAX_RETRIES", "5"),
            ("VAULT_HEADERS", r#"{"CF-Access-Client-Id": "x", "B": ["1", "2"]}"#),
            ("HAH_VAULT_LEADER_ADDRESSES", "http://10.0.0.1:8200=https://vault-1.example.com"),
        ])
        .expect("settings");
        let reach = &settings.reach;
        let client = ClientCertificate { certificate: "/c".into(), key: "/k".into() };
        assert_eq!(reach.tls.client, Some(client));
        assert_eq!(reach.tls.server_name.as_deref(), Some("vault.service.consul"));
        assert!(reach.tls.skip_verify && !settings.follow_redirect);
        assert_eq!(settings.namespace.as_deref(), Some("team/"));
        assert_eq!((settings.max_retries, read(&[]).expect("settings").max_retries), (5, 2));
        assert_eq!(reach.patience.answer, Duration::from_secs(5));
        assert_eq!(reach.proxy.as_ref().map(Secret::expose), Some("http://two"));
        let names: Vec<&str> = reach.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["B", "B", "CF-Access-Client-Id"]);
        assert_eq!(settings.leader_addresses[0].1.to_string(), "https://vault-1.example.com:443");
        assert!(!format!("{settings:?}").contains("http://two"));
    }

    #[test]
    fn wrong_variables_are_named() {
        for (variables, name) in [
            (&[("VAULT_ADDR", "vault:8200")][..], "VAULT_ADDR"),
            (&[("BAO_ADDR", "x")], "BAO_ADDR"),
            (&[("VAULT_SKIP_VERIFY", "yes")], "VAULT_SKIP_VERIFY"),
            (&[("VAULT_CLIENT_CERT", "/c")], "VAULT_CLIENT_CERT"),
            (&[("VAULT_CLIENT_KEY", "/k")], "VAULT_CLIENT_KEY"),
            (&[("VAULT_CLIENT_TIMEOUT", "soon")], "VAULT_CLIENT_TIMEOUT"),
            (&[("VAULT_HEADERS", "a=b")], "VAULT_HEADERS"),
            (&[("VAULT_HEADERS", r#"{"x-vault-Token": "t"}"#)], "VAULT_HEADERS"),
            (&[("VAULT_HEADERS", r#"{"a": 1}"#)], "VAULT_HEADERS"),
            (&[("VAULT_SRV_LOOKUP", "1")], "VAULT_SRV_LOOKUP"),
            (&[("VAULT_MAX_RETRIES", "-1")], "VAULT_MAX_RETRIES"),
            (&[("HAH_VAULT_LEADER_ADDRESSES", "http://a")], "HAH_VAULT_LEADER_ADDRESSES"),
        ] {
            let error = read(variables).expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
