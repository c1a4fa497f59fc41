//! One small request to a place whose URL may be a secret: a Pushgateway, a dead man's switch.

use crate::source::{install_tls_provider, root_cause};
use reqwest::{Client, Method, StatusCode, Url, header};
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// How long one try may take, and how long until a connection stands.
const TRY_MAX: Duration = Duration::from_secs(5);
/// Waits between tries.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// A request did not arrive. No variant holds more of a URL than its host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HttpError {
    /// Not a URL.
    #[error("the {what} URL is none: it begins with http:// or https:// and names a host")]
    NotAUrl {
        /// Whose.
        what: &'static str,
    },
    /// TLS cannot be set up: no certificate authorities on this machine, for example.
    #[error("cannot reach {host}: {reason}")]
    Setup {
        /// Where.
        host: String,
        /// Why.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Where.
        host: String,
        /// Why.
        reason: String,
    },
    /// No answer.
    #[error("{host} did not answer within {} s", TRY_MAX.as_secs())]
    Silent {
        /// Where.
        host: String,
    },
    /// The answer is a refusal; redirects are not followed.
    #[error("{host} answered with status {status}")]
    Refused {
        /// Where.
        host: String,
        /// HTTP status.
        status: u16,
    },
}

impl HttpError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::NotAUrl { .. } | Self::Setup { .. } => false,
        }
    }
}

/// A place to send to. Neither its Debug nor its errors show more than the host.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Place {
    url: Url,
    host: String,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Place {
    /// Reads a URL.
    pub(super) fn parse(text: &str, what: &'static str) -> Result<Self, HttpError> {
        let none = || HttpError::NotAUrl { what };
        let url = Url::parse(text.trim()).map_err(|_| none())?;
        let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")).ok_or_else(none)?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { url, host })
    }

    /// The URL with more path behind its own; a query stays.
    pub(super) fn url(&self, more: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut()
            && !more.is_empty()
        {
            path.pop_if_empty().extend(more);
        }
        url.set_fragment(None);
        url
    }

    fn client(&self, https: bool) -> Result<Client, HttpError> {
        install_tls_provider();
        let builder = Client::builder()
            .user_agent(concat!("hah-vault/", env!("CARGO_PKG_VERSION")))
            .timeout(TRY_MAX)
            // Whoever is redirected to would learn the secret in the path.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only();
        // Certificates are not looked for where none are needed: a container may have none.
        let builder = if https { builder } else { builder.tls_certs_only([]) };
        builder.build().map_err(|error| HttpError::Setup { host: self.host.clone(), reason: root_cause(&error) })
    }

    /// Posts a text, several times if need be: 20 s at most.
    pub(super) async fn post(&self, url: Url, content_type: &str, body: &str) -> Result<(), HttpError> {
        let client = self.client(url.scheme() == "https")?;
        let mut delays = RETRY_DELAYS.iter();
        loop {
            let request = client.request(Method::POST, url.clone()).header(header::CONTENT_TYPE, content_type);
            let error = match request.body(body.to_owned()).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => self.refused(answer.status()),
                Err(error) if error.is_timeout() => HttpError::Silent { host: self.host.clone() },
                Err(error) => HttpError::Unreachable { host: self.host.clone(), reason: root_cause(&error) },
            };
            let Some(delay) = delays.next().filter(|_| error.is_transient()) else { return Err(error) };
            tracing::debug!(%error, "sending again");
            tokio::time::sleep(*delay).await;
        }
    }

    fn refused(&self, status: StatusCode) -> HttpError {
        HttpError::Refused { host: self.host.clone(), status: status.as_u16() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_shows_its_host_only() {
        let place = Place::parse("https://user:hunter2@hc.example.com:8443/7f3c-secret?key=s3cret#x", "ping").unwrap();
        assert_eq!(format!("{place:?}"), "Place { host: \"hc.example.com:8443\", .. }");
        let url = place.url(&["fail"]);
        assert_eq!(url.as_str(), "https://user:hunter2@hc.example.com:8443/7f3c-secret/fail?key=s3cret");
        assert_eq!(Place::parse("http://h/a/", "ping").unwrap().url(&["start"]).path(), "/a/start");
        assert_eq!(Place::parse("http://h", "ping").unwrap().url(&[]).as_str(), "http://h/");
        assert_eq!(Place::parse("http://h", "push").unwrap().url(&["a/b", "c"]).path(), "/a%2Fb/c");
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for text in ["", "hc.example.com/secret", "ftp://secret@host/", "http://", "unix:///secret", "https:secret "] {
            match Place::parse(text, "ping") {
                // A scheme without slashes is mended by the URL standard.
                Ok(place) => assert_eq!(text, "https:secret ", "{place:?}"),
                Err(error) => assert!(!error.to_string().contains("secret"), "{error}"),
            }
        }
    }
}
