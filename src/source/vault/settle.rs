//! Vault after a restore: it has said yes and applies now. It hangs for seconds, answers 500, and ends active or sealed
//! (facts 8).

use std::time::{Duration, Instant};

use super::super::http::{Endpoint, Request};
use super::super::restore::{CALM, POLL_EVERY, Settled};
use super::super::{ServiceKind, SourceError};
use super::leader::SealStatus;
use super::{Health, request_header};

/// How long one look may take: health hangs for 5 to 6 s while a snapshot is applied.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// What one look at the server shows.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Active { cluster_id: Option<String> },
    Sealed,
    Other(String),
}

/// Looks until the same good or bad end has been seen for a while.
pub(super) async fn settle(endpoint: &Endpoint, limit: Duration) -> Result<Settled, SourceError> {
    let started = Instant::now();
    let mut seen: Option<(State, Instant)> = None;
    loop {
        let state = look(endpoint).await;
        let since = match seen.take() {
            Some((before, since)) if before == state => since,
            _ => Instant::now(),
        };
        match &state {
            State::Active { cluster_id } if since.elapsed() >= CALM => {
                return Ok(Settled::Active { cluster_id: cluster_id.clone(), index: None });
            }
            State::Sealed if since.elapsed() >= CALM => return Ok(Settled::Sealed),
            _ if started.elapsed() > limit => {
                let (service, address) = (ServiceKind::Vault, endpoint.address.to_string());
                let state = describe(state);
                return Err(SourceError::Unsettled { service, address, state, limit });
            }
            _ => seen = Some((state, since)),
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

fn describe(state: State) -> String {
    match state {
        State::Active { .. } => "it has just become active".into(),
        State::Sealed => "it has just been sealed".into(),
        State::Other(text) => text,
    }
}

async fn look(endpoint: &Endpoint) -> State {
    let headers = request_header();
    let mut request = Request::look("/v1/sys/health", &headers, &endpoint.patience);
    request.limit = LOOK_LIMIT;
    let answer = match endpoint.send(&request).await {
        Ok(answer) => answer,
        Err(error) => return State::Other(error.to_string()),
    };
    match answer.status {
        200 => match answer.json::<Health>().await {
            Ok(health) => State::Active { cluster_id: health.cluster_id },
            Err(error) => State::Other(error.to_string()),
        },
        503 => match endpoint.look::<SealStatus>("/v1/sys/seal-status", &headers).await {
            Ok(SealStatus { initialized: true, sealed: true }) => State::Sealed,
            _ => State::Other("it answers 503".into()),
        },
        429 => State::Other("it is a standby node".into()),
        status => State::Other(format!("its health has status {status}")),
    }
}
