//! Settings from environment variables, read as the servers' own clients read them (facts 1.10, 2.6, 3.5).
//!
//! The variables come from a function, not from the process, so that nothing here depends on it. No file is read:
//! token and certificate files are read when they are used.

mod consul;
mod nomad;
mod vault;

pub use consul::consul;
pub use nomad::nomad;
pub use vault::vault;

use std::time::Duration;

use super::address::{Address, BasicAuth, NoScheme};
use super::catalog::Query;
use super::settings::{Authorities, ClientCertificate, Place, Reach, Tls};
use super::{ServiceKind, SourceError};

/// Looks a variable up.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// A service's variables. Empty ones count as not set, as in the servers' own clients.
struct Variables<'l> {
    service: ServiceKind,
    lookup: Lookup<'l>,
    /// `BAO_` before `VAULT_`.
    prefixes: &'static [&'static str],
}

/// A variable that is set.
struct Variable {
    name: String,
    value: String,
}

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<Variable> {
        self.prefixes.iter().find_map(|prefix| {
            let name = format!("{prefix}{name}");
            let value = (self.lookup)(&name).filter(|value| !value.is_empty())?;
            Some(Variable { name, value })
        })
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|variable| variable.value)
    }

    fn wrong(&self, variable: &Variable, reason: impl Into<String>) -> SourceError {
        SourceError::Setting { service: self.service, name: variable.name.clone(), reason: reason.into() }
    }

    /// As Go's `strconv.ParseBool` has it.
    fn flag(&self, name: &str) -> Result<Option<bool>, SourceError> {
        let Some(variable) = self.get(name) else { return Ok(None) };
        match variable.value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => Err(self.wrong(&variable, "it is neither true nor false")),
        }
    }

    /// `60`, `60s`, `1m30s`: a plain number is seconds.
    fn duration(&self, name: &str) -> Result<Option<Duration>, SourceError> {
        let Some(variable) = self.get(name) else { return Ok(None) };
        let found = duration(&variable.value);
        found.map(Some).ok_or_else(|| self.wrong(&variable, "it is not a duration like 60s"))
    }

    /// Both or none.
    fn client_certificate(&self) -> Result<Option<ClientCertificate>, SourceError> {
        let missing = |there: &Variable, other: &str| {
            Err(self.wrong(there, format!("{other} is not set, and one is of no use without the other")))
        };
        match (self.get("CLIENT_CERT"), self.get("CLIENT_KEY")) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Ok(Some(ClientCertificate { certificate: certificate.value.into(), key: key.value.into() }))
            }
            (Some(certificate), None) => missing(&certificate, &certificate.name.replace("CERT", "KEY")),
            (None, Some(key)) => missing(&key, &key.name.replace("CLIENT_KEY", "CLIENT_CERT")),
        }
    }

    /// How Consul and Nomad are told about TLS; only `skip_verify` has names of its own.
    fn tls(&self, skip_verify: bool) -> Result<Tls, SourceError> {
        let authorities = match (self.text("CACERT"), self.text("CAPATH")) {
            (Some(file), _) => Authorities::File(file.into()),
            (None, Some(folder)) => Authorities::Folder(folder.into()),
            (None, None) => Authorities::System,
        };
        let (client, server_name) = (self.client_certificate()?, self.text("TLS_SERVER_NAME"));
        Ok(Tls { authorities, client, server_name, skip_verify })
    }

    /// One address, several with commas between them, or `consul://service/name`.
    fn reach(&self, address: &Variable, no_scheme: NoScheme) -> Result<Reach, SourceError> {
        let mut reach = Reach::at(Vec::new());
        if address.value.starts_with("consul://") && self.service != ServiceKind::Consul {
            let query = Query::parse(&address.value, self.service).map_err(|reason| self.wrong(address, reason))?;
            reach.place = Place::Catalog(query);
            return Ok(reach);
        }
        let mut addresses = Vec::new();
        for text in address.value.split(',') {
            let (found, basic_auth) = Address::parse(text, no_scheme).map_err(|reason| self.wrong(address, reason))?;
            addresses.push(found);
            reach.basic_auth = reach.basic_auth.or(basic_auth);
        }
        reach.place = Place::Addresses(addresses);
        if let Some(user) = self.get("HTTP_AUTH") {
            reach.basic_auth = Some(BasicAuth::parse(&user.value));
        }
        Ok(reach)
    }
}

/// Go's durations, as far as they are of use here: numbers with units, one after the other; without a unit, seconds.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos_or_plain_seconds() {
        for (text, expected_ms) in
            [("60", Some(60_000)), ("1m30s", Some(90_000)), ("1.5h", Some(5_400_000)), ("250ms", Some(250))]
        {
            assert_eq!(duration(text).map(|d| d.as_millis()), expected_ms, "{text}");
        }
        for text in ["", "s", "5x", "-1s", "1e9", "1..2s", "99999999999999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
