//! `CONSUL_*`.

use super::super::address::NoScheme;
use super::super::secret::Secret;
use super::super::settings::{ConsulSettings, FreshToken};
use super::super::token::Token;
use super::super::{ServiceKind, SourceError};
use super::{Lookup, Variable, Variables};

/// Where Consul's own client looks without `CONSUL_HTTP_ADDR`.
const ADDRESS_DEFAULT: &str = "127.0.0.1:8500";

/// Consul's settings.
///
/// # Errors
/// [`SourceError::Setting`] naming the variable.
pub fn consul(lookup: Lookup<'_>) -> Result<ConsulSettings, SourceError> {
    let variables = Variables { service: ServiceKind::Consul, lookup, prefixes: &["CONSUL_"] };
    let address = variables.get("HTTP_ADDR");
    let address =
        address.unwrap_or_else(|| Variable { name: "CONSUL_HTTP_ADDR".into(), value: ADDRESS_DEFAULT.into() });
    let ssl = variables.flag("HTTP_SSL")? == Some(true);
    let mut reach = variables.reach(&address, if ssl { NoScheme::HttpsAlways } else { NoScheme::Http })?;
    reach.tls = variables.tls(variables.flag("HTTP_SSL_VERIFY")? == Some(false))?;
    let token = match (variables.text("HTTP_TOKEN_FILE"), variables.text("HTTP_TOKEN")) {
        (Some(path), _) => Token::File { path: path.into(), optional: false },
        (None, Some(token)) => Token::Given(Secret::new(token)),
        (None, None) => Token::None,
    };
    Ok(ConsulSettings {
        reach,
        token,
        datacenter: None,
        stale: false,
        namespace: variables.text("NAMESPACE"),
        partition: variables.text("PARTITION"),
        fresh_token: FreshToken::OLD,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::address::BasicAuth;
    use super::super::super::settings::{Authorities, Place};
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<ConsulSettings, SourceError> {
        consul(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_scheme_is_in_the_address_or_in_a_variable_of_its_own() {
        for (variables, expected) in [
            (&[][..], "http://127.0.0.1:8500"),
            (&[("CONSUL_HTTP_ADDR", "consul:8500")], "http://consul:8500"),
            (&[("CONSUL_HTTP_ADDR", "https://consul:8501")], "https://consul:8501"),
            (&[("CONSUL_HTTP_ADDR", "consul:8501"), ("CONSUL_HTTP_SSL", "true")], "https://consul:8501"),
            (&[("CONSUL_HTTP_ADDR", "http://consul:8501"), ("CONSUL_HTTP_SSL", "1")], "https://consul:8501"),
            (&[("CONSUL_HTTP_ADDR", "https://consul:8501"), ("CONSUL_HTTP_SSL", "false")], "https://consul:8501"),
            (&[("CONSUL_HTTP_ADDR", "unix:///run/c.sock"), ("CONSUL_HTTP_SSL", "false")], "unix:///run/c.sock"),
            (&[("CONSUL_HTTP_ADDR", "https://proxy/consul")], "https://proxy:443/consul"),
        ] {
            let Place::Addresses(addresses) = read(variables).expect("settings").reach.place else { panic!() };
            assert_eq!(addresses[0].to_string(), expected, "{variables:?}");
        }
    }

    #[test]
    fn the_token_file_beats_the_token() {
        let both = [("CONSUL_HTTP_TOKEN", "t"), ("CONSUL_HTTP_TOKEN_FILE", "/f")];
        let Token::File { path, optional: false } = read(&both).expect("settings").token else { panic!() };
        assert_eq!(path.to_str(), Some("/f"));
        let Token::Given(token) = read(&both[..1]).expect("settings").token else { panic!() };
        assert_eq!(token.expose(), "t");
        assert!(matches!(read(&[]).expect("settings").token, Token::None));
    }

    #[test]
    fn everything_else_is_read_too() {
        let settings = read(&[
            ("CONSUL_HTTP_AUTH", "me:pa:ss"),
            ("CONSUL_HTTP_SSL_VERIFY", "false"),
            ("CONSUL_CAPATH", "/d"),
            ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
            ("CONSUL_NAMESPACE", "n"),
            ("CONSUL_PARTITION", "p"),
        ])
        .expect("settings");
        let basic = BasicAuth { user: "me".into(), password: Some("pa:ss".into()) };
        assert_eq!(settings.reach.basic_auth, Some(basic));
        assert!(settings.reach.tls.skip_verify);
        assert_eq!(settings.reach.tls.authorities, Authorities::Folder("/d".into()));
        assert_eq!(settings.reach.tls.server_name.as_deref(), Some("server.dc1.consul"));
        assert_eq!((settings.namespace.as_deref(), settings.partition.as_deref()), (Some("n"), Some("p")));
        assert!(!format!("{settings:?}").contains("pa:ss"));
        assert!(!read(&[("CONSUL_HTTP_SSL_VERIFY", "true")]).expect("settings").reach.tls.skip_verify);
    }

    #[test]
    fn wrong_variables_are_named_and_their_passwords_are_not() {
        let error = read(&[("CONSUL_HTTP_ADDR", "ftp://u:secret@h")]).expect_err("address").to_string();
        assert!(error.contains("CONSUL_HTTP_ADDR") && !error.contains("secret"), "{error}");
        let error = read(&[("CONSUL_CLIENT_KEY", "/k")]).expect_err("key").to_string();
        assert!(error.contains("CONSUL_CLIENT_CERT"), "{error}");
    }
}
