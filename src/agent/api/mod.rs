//! The control API (`openapi.json` beside this file) and the web page.
//!
//! ```text
//! connection (serve) ─> guard (host, rate, token) ─> look | control | events ─> Agent
//! ```

mod control;
mod events;
mod guard;
mod input;
mod look;
mod problem;

pub use guard::{Access, Peer, TOKEN_LEN_BYTES_MIN, check_token_file};
pub use input::BODY_LEN_BYTES_MAX;

use super::core::Agent;
use super::task::Summary;
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use base64::Engine as _;
use guard::Rates;
use problem::Problem;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// The API's description.
pub const OPENAPI: &str = include_str!("../openapi.json");
/// The web page.
pub const PAGE: &str = include_str!("../page.html");
/// Streams of events at the same time.
const STREAMS_MAX: usize = 32;

/// What handlers share.
#[derive(Debug, Clone)]
pub struct Api(Arc<Shared>);

/// The inside of [`Api`].
#[derive(Debug)]
struct Shared {
    agent: Arc<Agent>,
    access: RwLock<Arc<Access>>,
    rates: Rates,
    /// Opened manifests, so that a page of them is read once.
    summaries: Mutex<HashMap<String, Summary>>,
    /// What was listed a moment ago: listings cost money, and pages ask often.
    listing: Mutex<Option<look::Listing>>,
    streams: Arc<tokio::sync::Semaphore>,
}

impl Api {
    /// The API of an agent.
    pub fn new(agent: Arc<Agent>, access: Access) -> Self {
        Self(Arc::new(Shared {
            agent,
            access: RwLock::new(Arc::new(access)),
            rates: Rates::default(),
            summaries: Mutex::default(),
            listing: Mutex::default(),
            streams: Arc::new(tokio::sync::Semaphore::new(STREAMS_MAX)),
        }))
    }

    /// Other rules of access, from the next request on.
    pub fn set_access(&self, access: Access) {
        *self.0.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    fn access(&self) -> Arc<Access> {
        Arc::clone(&self.0.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every route. Requests must carry a [`Peer`] as extension.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(look::readyz))
            .route("/metrics", get(look::metrics))
            .route("/v1/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }))
            .route("/v1/status", get(look::status))
            .route("/v1/sources", get(look::sources))
            .route("/v1/manifests", get(look::manifests))
            .route("/v1/manifests/{source}/{name}", get(look::manifest))
            .route("/v1/runs", get(look::runs).post(control::start))
            .route("/v1/runs/{id}", get(look::run))
            .route("/v1/runs/{id}/events", get(events::follow))
            .route("/v1/runs/{id}/cancel", post(control::cancel))
            .route("/v1/restores", post(control::restore))
            .route("/v1/schedules/pause", post(control::pause))
            .route("/v1/schedules/resume", post(control::resume))
            .route("/v1/holds/{source}/{name}", put(control::hold).delete(control::release))
            .fallback(|| async { Problem::not_found("there is nothing here; /v1/openapi.json tells what there is") })
            .method_not_allowed_fallback(|| async { Problem::not_allowed() })
            .layer(from_fn_with_state(self.clone(), guard::guard))
            .with_state(self.clone())
    }
}

/// The page, and a policy that lets nothing run but the script and the style that are in it.
async fn page() -> Response {
    static POLICY: OnceLock<String> = OnceLock::new();
    let policy = POLICY.get_or_init(|| policy(PAGE));
    let mut response = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// A policy with the hashes of a page's own elements.
fn policy(page: &str) -> String {
    let hashes = |element: &str| -> String {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let inside = page.split(&open).skip(1).filter_map(|rest| rest.split(&close).next());
        let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
        let found: Vec<String> = inside.map(|text| format!("'sha256-{}'", hash(text))).collect();
        if found.is_empty() { "'none'".into() } else { found.join(" ") }
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hashes("script"),
        hashes("style")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_hash_of_each_element() {
        let policy = policy("<style>x</style><script>x</script>");
        // printf x | openssl dgst -sha256 -binary | base64
        let x = "'sha256-LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE='";
        assert!(policy.contains(&format!("script-src {x}; style-src {x};")), "{policy}");
        assert!(self::policy("nothing").contains("script-src 'none'"));
    }

    #[test]
    fn the_page_has_its_script_and_style_inside_and_nothing_else() {
        assert_eq!(PAGE.matches("<script").count(), PAGE.matches("<script>").count());
        assert_eq!(PAGE.matches("<style").count(), PAGE.matches("<style>").count());
        for outside in ["http://", "https://", "src=", "@import", "url(", "style=\"", "onclick=\"", "innerHTML"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
