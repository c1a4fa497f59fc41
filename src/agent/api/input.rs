//! Bodies and queries: within limits, strict, and refused as problems.

use super::problem::Problem;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest body. The longest that makes sense has some 400 bytes.
pub const BODY_LEN_BYTES_MAX: usize = 16 << 10;
/// A body must be there after this.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let collected = tokio::time::timeout(BODY_LIMIT, Limited::new(body, BODY_LEN_BYTES_MAX).collect()).await;
    match collected.map_err(|_| Problem::time_out("the body did not arrive in time"))? {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_large(BODY_LEN_BYTES_MAX)),
        Err(_) => Err(Problem::invalid("the body breaks off")),
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        // Another site's page cannot send this type without being asked (CORS).
        if !is_json(request.headers()) {
            return Err(Problem::unsupported());
        }
        let bytes = read(request.into_body()).await?;
        // serde_json names the field and the place, and quotes at most a word of the caller's own text.
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|error| Problem::invalid(format!("the body is not what is expected: {error}")))
    }
}

/// A query.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync + Send> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(query)| Self(query)).map_err(|error| Problem::invalid(error.body_text()))
    }
}
