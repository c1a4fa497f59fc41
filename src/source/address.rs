//! Where a server is: a URL, a host with a port, or a unix socket.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;

use super::secret::Secret;

/// What a text without a scheme means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoScheme {
    /// It is refused, as Vault's and Nomad's own clients do.
    Refuse,
    /// `http`, Consul's default.
    Http,
    /// `https`: Consul with `CONSUL_HTTP_SSL`, which even an `http://` does not undo.
    HttpsAlways,
}

/// User and password of HTTP basic authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// The user; may be empty.
    pub user: String,
    /// The password.
    pub password: Option<Secret>,
}

impl BasicAuth {
    /// Reads `user:password`, or `user` alone.
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((user, password)) => Self { user: user.to_owned(), password: Some(Secret::from(password)) },
            None => Self { user: text.to_owned(), password: None },
        }
    }
}

/// Where a server is. Prints as a URL, without any user or password.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    place: Place,
    /// Path before `/v1`, of servers behind a proxy: empty, or beginning and not ending with a slash.
    prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    /// `host` as in a URL: IPv6 in brackets.
    Tcp {
        https: bool,
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

/// What kind of place a host is, for the question whether a server may send us there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostClass {
    /// This machine.
    Loopback,
    /// Metadata services of clouds, broadcasts, `0.0.0.0`: no server of a cluster lives there.
    Never,
    /// Anything else.
    Other,
}

impl Address {
    /// Reads an address as the servers' own clients do: `http://host:port/prefix`, `https://…`, `unix:///path`, and
    /// `host:port` where `no_scheme` allows it. A user and a password in it are handed out apart.
    ///
    /// # Errors
    /// Why it is none, in words that do not repeat it: it may hold a password.
    pub fn parse(text: &str, no_scheme: NoScheme) -> Result<(Self, Option<BasicAuth>), &'static str> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix://") {
            return Self::unix(path).map(|address| (address, None));
        }
        let with_scheme = match (text.contains("://"), no_scheme) {
            (true, _) => text.to_owned(),
            (false, NoScheme::Refuse) => return Err("it does not begin with http://, https:// or unix://"),
            (false, NoScheme::Http | NoScheme::HttpsAlways) => format!("http://{text}"),
        };
        let url = Url::parse(&with_scheme).map_err(|_| "it is not a URL")?;
        let (address, basic_auth) = Self::from_url(&url)?;
        Ok((if no_scheme == NoScheme::HttpsAlways { address.with_https() } else { address }, basic_auth))
    }

    fn unix(path: &str) -> Result<Self, &'static str> {
        if !path.starts_with('/') {
            return Err("the path of a unix socket is absolute: unix:///path");
        }
        Ok(Self { place: Place::Unix(path.into()), prefix: String::new() })
    }

    fn from_url(url: &Url) -> Result<(Self, Option<BasicAuth>), &'static str> {
        let https = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err("its scheme is not http, https or unix"),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it has a query or a fragment");
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it has no host")?;
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or("it has no port")?;
        let prefix = url.path().trim_end_matches('/').to_owned();
        let place = Place::Tcp { https, host: host.to_owned(), port };
        let basic_auth = (!url.username().is_empty() || url.password().is_some()).then(|| BasicAuth {
            user: decoded(url.username()),
            password: url.password().map(|p| Secret::new(decoded(p))),
        });
        Ok((Self { place, prefix }, basic_auth))
    }

    /// Where a server sends us for `path`. User and password in it are not for us and are dropped.
    pub(super) fn from_location(location: &str, path: &str) -> Result<Self, &'static str> {
        let mut url = Url::parse(location).map_err(|_| "it is not an absolute URL")?;
        url.set_query(None);
        url.set_fragment(None);
        let prefix = url.path().strip_suffix(path).ok_or("it is not the same path on another server")?.to_owned();
        url.set_path(&prefix);
        Self::from_url(&url).map(|(address, _)| address)
    }

    /// An address of this host and port.
    ///
    /// # Errors
    /// Why they make none.
    pub fn of(https: bool, host: &str, port: u16) -> Result<Self, &'static str> {
        let scheme = if https { "https" } else { "http" };
        let bracketed = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        let host = if bracketed { format!("[{host}]") } else { host.to_owned() };
        Self::parse(&format!("{scheme}://{host}:{port}"), NoScheme::Refuse).map(|(address, _)| address)
    }

    fn with_https(mut self) -> Self {
        if let Place::Tcp { https, .. } = &mut self.place {
            *https = true;
        }
        self
    }

    /// Whether it is reached over TLS.
    pub fn is_https(&self) -> bool {
        matches!(self.place, Place::Tcp { https: true, .. })
    }

    /// The unix socket.
    pub fn socket(&self) -> Option<&Path> {
        match &self.place {
            Place::Unix(path) => Some(path),
            Place::Tcp { .. } => None,
        }
    }

    /// The host, IPv6 without brackets; none for a unix socket.
    pub(super) fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { host, .. } => Some(host.trim_start_matches('[').trim_end_matches(']')),
            Place::Unix(_) => None,
        }
    }

    /// The URL of a path that begins with a slash; `host` stands in for the host, where one is given.
    pub(super) fn url(&self, path_and_query: &str, host: Option<&str>) -> String {
        match &self.place {
            Place::Tcp { https, host: own, port } => {
                let scheme = if *https { "https" } else { "http" };
                let host = host.unwrap_or(own);
                format!("{scheme}://{host}:{port}{}{path_and_query}", self.prefix)
            }
            Place::Unix(_) => format!("http://localhost{path_and_query}"),
        }
    }

    /// `host:port`, for the Host header.
    pub(super) fn authority(&self) -> Option<String> {
        match &self.place {
            Place::Tcp { host, port, .. } => Some(format!("{host}:{port}")),
            Place::Unix(_) => None,
        }
    }

    pub(super) fn class(&self) -> HostClass {
        let Some(host) = self.host() else { return HostClass::Loopback };
        if host == "localhost" || host.ends_with(".localhost") {
            return HostClass::Loopback;
        }
        match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(ip) if ip.is_loopback() => HostClass::Loopback,
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => HostClass::Never,
            Ok(IpAddr::V4(ip)) if ip.is_link_local() || ip.is_broadcast() => HostClass::Never,
            Ok(IpAddr::V6(ip)) if ip.is_unicast_link_local() => HostClass::Never,
            _ => HostClass::Other,
        }
    }
}

/// Undoes %-escapes of a user or password.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        let hex = rest.as_slice().get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(escaped) if byte == b'%' => {
                bytes.push(escaped);
                rest.nth(1);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(path) => write!(f, "unix://{}", path.display()),
            Place::Tcp { .. } => f.write_str(&self.url("", None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_servers_own_clients_do() {
        for (text, no_scheme, expected) in [
            ("http://127.0.0.1:8200", NoScheme::Refuse, "http://127.0.0.1:8200"),
            ("https://vault.example.com", NoScheme::Refuse, "https://vault.example.com:443"),
            ("http://Vault.example.com/", NoScheme::Refuse, "http://vault.example.com:80"),
            ("https://proxy/one/vault/", NoScheme::Refuse, "https://proxy:443/one/vault"),
            (" https://[::1]:8200\n", NoScheme::Refuse, "https://[::1]:8200"),
            ("unix:///run/vault.sock", NoScheme::Refuse, "unix:///run/vault.sock"),
            ("127.0.0.1:8500", NoScheme::Http, "http://127.0.0.1:8500"),
            ("localhost:8500", NoScheme::Http, "http://localhost:8500"),
            ("[::1]:8500", NoScheme::Http, "http://[::1]:8500"),
            ("consul.example.com:8500/prefix", NoScheme::Http, "http://consul.example.com:8500/prefix"),
            ("https://consul:8501", NoScheme::Http, "https://consul:8501"),
            ("http://consul:8501", NoScheme::HttpsAlways, "https://consul:8501"),
            ("consul:8501", NoScheme::HttpsAlways, "https://consul:8501"),
            ("unix:///run/consul.sock", NoScheme::HttpsAlways, "unix:///run/consul.sock"),
        ] {
            let (address, basic_auth) = Address::parse(text, no_scheme).expect(text);
            assert_eq!(address.to_string(), expected, "{text}");
            assert_eq!(basic_auth, None);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for text in [
            "vault.example.com:8200",
            "",
            "ftp://host",
            "unix://relative",
            "http://",
            "http://host:99999",
            "http://host:8200?token=x",
            "http://host:0",
        ] {
            let reason = Address::parse(text, NoScheme::Refuse).expect_err(text);
            assert!(!reason.contains("host:"), "{reason}");
        }
    }

    #[test]
    fn user_and_password_are_taken_out_of_an_address() {
        let (address, basic) = Address::parse("https://me:p%40ss@host:1/x", NoScheme::Refuse).expect("address");
        assert_eq!(address.to_string(), "https://host:1/x");
        assert_eq!(basic, Some(BasicAuth { user: "me".into(), password: Some("p@ss".into()) }));
        assert!(!format!("{address:?}").contains("p@ss"));
    }

    #[test]
    fn a_redirect_counts_only_for_the_same_path() {
        let to = |location| Address::from_location(location, "/v1/snapshot").map(|a| a.to_string());
        assert_eq!(to("http://10.0.0.2:8200/v1/snapshot"), Ok("http://10.0.0.2:8200".into()));
        assert_eq!(to("https://u:p@b/x/v1/snapshot?a=b#c"), Ok("https://b:443/x".into()));
        assert!(to("https://sso.example.com/login?next=/v1/snapshot").is_err());
        assert!(to("/v1/snapshot").is_err());
        assert!(to("ftp://10.0.0.2/v1/snapshot").is_err());
    }

    #[test]
    fn places_that_no_server_lives_at_are_known() {
        for (text, class) in [
            ("http://127.0.0.1:1", HostClass::Loopback),
            ("http://[::ffff:127.0.0.1]:1", HostClass::Loopback),
            ("http://localhost:1", HostClass::Loopback),
            ("unix:///x", HostClass::Loopback),
            ("http://169.254.169.254", HostClass::Never),
            ("http://0.0.0.0:8200", HostClass::Never),
            ("http://[fe80::1]:8200", HostClass::Never),
            ("http://10.1.2.3:8200", HostClass::Other),
            ("http://vault:8200", HostClass::Other),
        ] {
            assert_eq!(Address::parse(text, NoScheme::Refuse).expect(text).0.class(), class, "{text}");
        }
    }
}
