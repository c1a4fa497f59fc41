//! Tokens and passwords: wiped from memory after use, never shown.

use std::fmt;

use zeroize::Zeroizing;

/// A token or a password. Its Debug is `[redacted]`, and it has no Display.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes one.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself, to be sent and not to be kept.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}

/// Secrets come out of answers; they never go back into JSON by themselves.
impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Shorter secrets than this would blot out innocent text.
const MASKED_LEN_BYTES_MIN: usize = 4;

/// `text` without any of the secrets: proxies like to repeat a request in their error page.
pub(super) fn masked(mut text: String, secrets: &[Secret]) -> String {
    for secret in secrets.iter().filter(|s| s.expose().len() >= MASKED_LEN_BYTES_MIN) {
        if text.contains(secret.expose()) {
            text = text.replace(secret.expose(), "[redacted]");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::from("s.0pehVnYSDXhDo315xZBMdTLR");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        let text = "no access for s.0pehVnYSDXhDo315xZBMdTLR here".to_owned();
        assert_eq!(masked(text, &[secret, Secret::from("re")]), "no access for [redacted] here");
    }
}
