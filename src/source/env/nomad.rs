//! `NOMAD_*`.

use super::super::address::NoScheme;
use super::super::secret::Secret;
use super::super::settings::{FreshToken, NomadSettings};
use super::super::token::Token;
use super::super::{ServiceKind, SourceError};
use super::{Lookup, Variable, Variables};

/// Where Nomad's own client looks without `NOMAD_ADDR`.
const ADDRESS_DEFAULT: &str = "http://127.0.0.1:4646";

/// Nomad's settings. `NOMAD_UNIX_ADDR`, which a task finds set, counts if `NOMAD_ADDR` is not. `NOMAD_NAMESPACE` does
/// not concern snapshots.
///
/// # Errors
/// [`SourceError::Setting`] naming the variable.
pub fn nomad(lookup: Lookup<'_>) -> Result<NomadSettings, SourceError> {
    let variables = Variables { service: ServiceKind::Nomad, lookup, prefixes: &["NOMAD_"] };
    let address = variables.get("ADDR").or_else(|| variables.get("UNIX_ADDR"));
    let address = address.unwrap_or_else(|| Variable { name: "NOMAD_ADDR".into(), value: ADDRESS_DEFAULT.into() });
    let mut reach = variables.reach(&address, NoScheme::Refuse)?;
    reach.tls = variables.tls(variables.flag("SKIP_VERIFY")? == Some(true))?;
    Ok(NomadSettings {
        reach,
        token: variables.text("TOKEN").map_or(Token::None, |token| Token::Given(Secret::new(token))),
        region: variables.text("REGION"),
        stale: false,
        fresh_token: FreshToken::OLD,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::settings::{Authorities, Place};
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<NomadSettings, SourceError> {
        nomad(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_address_is_a_tasks_socket_if_nothing_else_is_said() {
        for (variables, expected) in [
            (&[][..], "http://127.0.0.1:4646"),
            (&[("NOMAD_ADDR", "https://nomad:4646")], "https://nomad:4646"),
            (&[("NOMAD_ADDR", "unix:///n.sock")], "unix:///n.sock"),
            (&[("NOMAD_UNIX_ADDR", "unix:///secrets/api.sock")], "unix:///secrets/api.sock"),
            (&[("NOMAD_UNIX_ADDR", "unix:///s"), ("NOMAD_ADDR", "http://n:1")], "http://n:1"),
        ] {
            let Place::Addresses(addresses) = read(variables).expect("settings").reach.place else { panic!() };
            assert_eq!(addresses[0].to_string(), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_catalog_query_stands_in_for_an_address() {
        let settings = read(&[("NOMAD_ADDR", "consul://service/nomad?tag=http&scheme=https")]).expect("settings");
        assert!(matches!(settings.reach.place, Place::Catalog(_)));
        let error = read(&[("NOMAD_ADDR", "consul://nomad")]).expect_err("query").to_string();
        assert!(error.contains("NOMAD_ADDR"), "{error}");
    }

    #[test]
    fn everything_else_is_read_too() {
        let settings = read(&[
            ("NOMAD_TOKEN", "t"),
            ("NOMAD_REGION", "eu"),
            ("NOMAD_HTTP_AUTH", "me"),
            ("NOMAD_CACERT", "/f"),
            ("NOMAD_CAPATH", "/d"),
            ("NOMAD_CLIENT_CERT", "/c"),
            ("NOMAD_CLIENT_KEY", "/k"),
            ("NOMAD_TLS_SERVER_NAME", "server.global.nomad"),
            ("NOMAD_SKIP_VERIFY", "true"),
        ])
        .expect("settings");
        assert_eq!(settings.region.as_deref(), Some("eu"));
        assert_eq!(settings.reach.basic_auth.expect("user").user, "me");
        assert_eq!(settings.reach.tls.authorities, Authorities::File("/f".into()));
        assert!(settings.reach.tls.skip_verify && settings.reach.tls.client.is_some());
        assert!(read(&[("NOMAD_ADDR", "127.0.0.1:4646")]).is_err());
    }
}
