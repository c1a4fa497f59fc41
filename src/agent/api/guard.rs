//! Who may ask: Host, origin, rate, token. In this order, the cheapest first.

use super::Api;
use super::problem::Problem;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Shortest token, in bytes: 128 bits in hex have 32.
pub const TOKEN_LEN_BYTES_MIN: usize = 24;
/// Longest token file.
const TOKEN_FILE_LEN_BYTES_MAX: u64 = 64 << 10;
/// Requests a second of one address, and how many may come at once.
const REQUESTS: Rate = Rate { per_s: 50.0, burst: 200.0 };
/// Wrong tokens a second of one address, and how many may come at once.
const WRONG_TOKENS: Rate = Rate { per_s: 0.5, burst: 10.0 };
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 1024;
/// An answer must have begun after this; streams go on.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over the network.
    Ip(IpAddr),
    /// Over a unix socket, which only those can open whom its file lets.
    Socket,
}

/// Who may do what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// File with tokens, one a line; read again for every request.
    pub token_file: Option<PathBuf>,
    /// Host names, besides IP addresses and localhost, under which the agent is reached.
    pub hosts: Vec<String>,
    /// /metrics needs no token.
    pub open_metrics: bool,
}

/// Whether a caller may use control functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Control(pub(super) bool);

#[derive(Clone, Copy)]
struct Rate {
    per_s: f64,
    burst: f64,
}

/// Token buckets of addresses.
#[derive(Debug, Default)]
pub(super) struct Rates {
    requests: Mutex<HashMap<IpAddr, (f64, Instant)>>,
    wrong_tokens: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

fn take(buckets: &Mutex<HashMap<IpAddr, (f64, Instant)>>, rate: Rate, ip: IpAddr, cost: f64) -> Result<(), Problem> {
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&ip) {
        // Those that have been quiet long enough have full buckets again.
        buckets.retain(|_, (left, at)| *left + at.elapsed().as_secs_f64() * rate.per_s < rate.burst);
        if buckets.len() >= ADDRESSES_MAX {
            return Err(Problem::rate_limited(1));
        }
    }
    let (left, at) = buckets.entry(ip).or_insert((rate.burst, now));
    let filled = (*left + now.duration_since(*at).as_secs_f64() * rate.per_s).min(rate.burst);
    (*left, *at) = (filled, now);
    if filled < 1.0 {
        // At most 2 s.
        return Err(Problem::rate_limited(if rate.per_s < 1.0 { 2 } else { 1 }));
    }
    *left -= cost;
    Ok(())
}

/// Reads the tokens; too short ones are passed over.
fn tokens(path: &Path) -> Result<Vec<Zeroizing<String>>, String> {
    let len = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if len > TOKEN_FILE_LEN_BYTES_MAX {
        return Err("it is longer than 64 KiB".into());
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| error.to_string())?);
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    Ok(lines.filter(|line| line.len() >= TOKEN_LEN_BYTES_MIN).map(|line| Zeroizing::new(line.to_owned())).collect())
}

/// Checks that a token file holds a token.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_token_file(path: &Path) -> Result<(), String> {
    match tokens(path)?.is_empty() {
        true => Err(format!("there is no token of at least {TOKEN_LEN_BYTES_MIN} characters in it")),
        false => Ok(()),
    }
}

/// Compares hashes, all of them: how long it takes tells nothing of a token.
fn fits(tokens: &[Zeroizing<String>], given: &str) -> bool {
    let given = blake3::hash(given.as_bytes());
    tokens.iter().fold(false, |found, token| found | (blake3::hash(token.as_bytes()) == given))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The host of a Host header or an authority, without its port.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

impl Access {
    /// A name that an attacker's DNS points at us is none of ours (DNS rebinding).
    fn knows_host(&self, authority: &str) -> bool {
        let host = host_of(authority);
        let known = |name: &String| name.eq_ignore_ascii_case(host);
        host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(known)
    }

    /// Whether this caller may use control functions.
    fn admit(&self, rates: &Rates, peer: Peer, headers: &HeaderMap) -> Result<Control, Problem> {
        let Peer::Ip(ip) = peer else { return Ok(Control(true)) };
        let Some(path) = &self.token_file else { return Ok(Control(false)) };
        take(&rates.wrong_tokens, WRONG_TOKENS, ip, 0.0)?;
        let Some(given) = bearer(headers) else { return Err(Problem::unauthorized("a token is needed")) };
        let tokens = tokens(path).map_err(|error| {
            tracing::error!(path = %path.display(), error, "the token file cannot be read; nobody is let in");
            Problem::internal()
        })?;
        if fits(&tokens, given) {
            return Ok(Control(true));
        }
        tracing::warn!(%ip, "wrong token");
        take(&rates.wrong_tokens, WRONG_TOKENS, ip, 1.0)?;
        Err(Problem::unauthorized("the token is wrong"))
    }
}

/// Paths that tell nothing worth a token.
fn is_public(path: &str, access: &Access) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz" | "/v1/openapi.json") || (path == "/metrics" && access.open_metrics)
}

/// Another site's page asks: browsers say so.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("null"));
    match origin {
        Some(origin) => origin.split_once("://").map(|(_, authority)| authority) != host,
        None => false,
    }
}

fn admit(api: &Api, peer: Peer, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Control, Problem> {
    let access = api.access();
    if let Peer::Ip(ip) = peer {
        let hosts: Vec<&HeaderValue> = headers.get_all(header::HOST).iter().collect();
        let host = match hosts[..] {
            [host] => host.to_str().ok(),
            _ => None,
        };
        let authority = uri.authority().map_or(host, |authority| Some(authority.as_str()));
        if !host.is_some_and(|host| access.knows_host(host)) || !authority.is_some_and(|a| access.knows_host(a)) {
            return Err(Problem::misdirected());
        }
        take(&api.0.rates.requests, REQUESTS, ip, 1.0)?;
    }
    if is_public(uri.path(), &access) {
        return Ok(Control(false));
    }
    let control = access.admit(&api.0.rates, peer, headers)?;
    if method != Method::GET && method != Method::HEAD {
        if is_cross_site(headers) {
            return Err(Problem::forbidden("the request comes from another site's page", "use the agent's own page"));
        }
        if !control.0 {
            let hint = "set token_file in the agent's configuration, or listen on a unix socket";
            return Err(Problem::forbidden("control functions need a token, and none is configured", hint));
        }
    }
    Ok(control)
}

/// Around every request.
pub(super) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let path = request.uri().path().to_owned();
    let admitted = match peer {
        Some(peer) => admit(&api, peer, request.method(), request.uri(), request.headers()),
        None => Err(Problem::internal()),
    };
    let mut response = match admitted {
        Ok(control) => {
            request.extensions_mut().insert(control);
            match tokio::time::timeout(ANSWER_LIMIT, next.run(request)).await {
                Ok(response) => response,
                Err(_) => Problem::unavailable("the answer took too long", None).into_response(),
            }
        }
        Err(problem) => problem.into_response(),
    };
    if let Some(problem) = plain_refusal(&response, &path) {
        response = problem.into_response();
    }
    harden(response.headers_mut());
    response
}

/// What the library refused by itself is told as everything else is: a path that is no UTF-8, for example.
fn plain_refusal(response: &Response, path: &str) -> Option<Problem> {
    let status = response.status();
    let is_told = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
    if is_told || path == "/readyz" || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    Some(if status.is_client_error() {
        Problem::invalid("the path or query makes no sense")
    } else {
        Problem::internal()
    })
}

/// Headers for browsers. The page brings its own policy.
fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_localhost_and_what_is_allowed() {
        let access = Access { hosts: vec!["backup.example".into()], ..Access::default() };
        for host in ["127.0.0.1:8205", "[::1]:8205", "localhost", "LOCALHOST:1", "10.0.0.1", "backup.example:443"] {
            assert!(access.knows_host(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8205", "127.0.0.1.evil.example", "", "backup.example.evil"]
        {
            assert!(!access.knows_host(host), "{host}");
        }
    }

    #[test]
    fn tokens_are_whole_lines_of_some_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let (one, two) = ("a".repeat(24), "b".repeat(64));
        std::fs::write(&path, format!("# comment\n{one}\r\n  {two}\nshort\n\n")).unwrap();
        let known = tokens(&path).unwrap();
        assert!(fits(&known, &one) && fits(&known, &two));
        for wrong in ["short", "", &one[..23], &format!("{one}a"), "# comment"] {
            assert!(!fits(&known, wrong), "{wrong}");
        }
        std::fs::write(&path, "short\n").unwrap();
        assert!(check_token_file(&path).is_err());
    }

    #[test]
    fn a_bucket_lets_a_burst_through_and_no_more() {
        let (rates, ip) = (Rates::default(), IpAddr::from([127, 0, 0, 1]));
        let through = (0..100).filter(|_| take(&rates.wrong_tokens, WRONG_TOKENS, ip, 1.0).is_ok()).count();
        assert!((10..20).contains(&through), "{through}");
        assert!(take(&rates.wrong_tokens, WRONG_TOKENS, IpAddr::from([127, 0, 0, 2]), 1.0).is_ok());
    }

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            headers
        };
        let own = ("host", "127.0.0.1:8205");
        for good in [&[own][..], &[own, ("origin", "http://127.0.0.1:8205")], &[own, ("sec-fetch-site", "same-origin")]]
        {
            assert!(!is_cross_site(&headers(good)), "{good:?}");
        }
        for bad in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(is_cross_site(&headers(&[own, bad])), "{bad:?}");
        }
    }
}
