//! The end of a session: everything is given back, within a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::super::error::Operation;
use super::super::secret::Secret;
use super::super::{SourceError, lock};
use super::api::{Call, Payload};
use super::error::refusal;
use super::held::{Held, Lease};
use super::session::Inner;

/// How one revocation ended.
enum Revoked {
    Done,
    /// Vault does not know the token, or it may not.
    Forbidden,
    Failed(String),
}

/// Closes a session; its notes say what could not be given back.
pub(super) async fn close(inner: &Arc<Inner>) {
    let limit = inner.timing.close_limit;
    let deadline = Instant::now() + limit;
    // What is just being made is waited for, but not for long.
    let mut making = inner.making.subscribe();
    let _ = timeout_at(deadline - limit / 2, making.wait_for(|count| *count == 0)).await;
    revoke(inner, deadline, limit).await;
    // From here on, late comers look after themselves; one may have come just now.
    inner.is_over.store(true, Ordering::SeqCst);
    if Instant::now() < deadline {
        revoke(inner, deadline, limit).await;
    }
}

/// Gives back what came after the closing.
pub(super) async fn give_back(inner: &Arc<Inner>) {
    let limit = inner.timing.close_limit;
    revoke(inner, Instant::now() + limit, limit).await;
}

async fn revoke(inner: &Arc<Inner>, deadline: Instant, limit: Duration) {
    let leases = std::mem::take(&mut *lock(&inner.leases));
    let (current, retired) = {
        let mut tokens = lock(&inner.tokens);
        (tokens.current.take(), std::mem::take(&mut tokens.retired))
    };
    let is_ours = inner.login.mount().is_some();
    // A third of what is left is for the token: with it go the leases that could not be revoked one by one.
    let left = deadline.saturating_duration_since(Instant::now());
    let for_leases = deadline - left / 3;
    // A node that does not answer must not use up the time of the others.
    let limit = limit / 3;
    let token = match &current {
        Some(held) => Some(held.secret.clone()),
        None if is_ours => None,
        None => inner.at_hand().ok().flatten(),
    };
    // Each revocation costs a use; where they are counted, revoking the token does it all.
    let can_revoke = token.is_some() && current.as_ref().is_none_or(|held| held.uses_left.is_none());
    let refused = if can_revoke || !is_ours {
        revoke_leases(inner, leases, token.as_ref(), for_leases, limit).await
    } else {
        leases.into_iter().map(|lease| (lease, Revoked::Forbidden)).collect()
    };
    let is_token_revoked = match &current {
        Some(held) => revoke_token(inner, held, deadline, limit, !refused.is_empty()).await,
        None => false,
    };
    for (lease, revoked) in refused {
        tell(inner, &lease, &revoked, is_token_revoked, current.as_ref());
    }
    // They have run out, or nearly so; nobody is told if that is so.
    let old = retired.iter().map(|held| async move {
        if !held.is_batch {
            let _ = ask(inner, &revoke_self(&held.secret, limit), deadline).await;
        }
    });
    futures::future::join_all(old).await;
}

/// The leases that could not be revoked.
async fn revoke_leases(
    inner: &Arc<Inner>,
    leases: Vec<Lease>,
    token: Option<&Secret>,
    deadline: Instant,
    limit: Duration,
) -> Vec<(Lease, Revoked)> {
    let asked = leases.into_iter().map(|lease| async move {
        let payload = Payload::plain(&json!({ "lease_id": lease.id, "sync": true }));
        let mut call = Call::put(Operation::Lease, "/v1/sys/leases/revoke", payload).with(token.cloned());
        (call.limit, call.is_for_closing) = (Some(limit), true);
        let revoked = ask(inner, &call, deadline).await;
        tracing::debug!(path = %lease.path, done = matches!(revoked, Revoked::Done), "revoking a lease of Vault");
        (lease, revoked)
    });
    let mut answered = futures::future::join_all(asked).await;
    answered.retain(|(_, revoked)| !matches!(revoked, Revoked::Done));
    answered
}

fn revoke_self(token: &Secret, limit: Duration) -> Call {
    let payload = Payload::plain(&json!({}));
    let mut call = Call::post(Operation::Lease, "/v1/auth/token/revoke-self", payload).with(Some(token.clone()));
    (call.limit, call.is_for_closing) = (Some(limit), true);
    call
}

/// Whether it is revoked, and what was made with it.
async fn revoke_token(inner: &Arc<Inner>, held: &Held, deadline: Instant, limit: Duration, has_leases: bool) -> bool {
    if held.is_batch {
        return false;
    }
    let revoked = ask(inner, &revoke_self(&held.secret, limit), deadline).await;
    tracing::debug!(done = matches!(revoked, Revoked::Done), "revoking the login token of Vault");
    let now = Instant::now();
    let rest = held.term.map_or("it never expires".to_owned(), |term| format!("it lives {} s more", term.left_s(now)));
    match revoked {
        Revoked::Done => return true,
        Revoked::Forbidden if held.term.is_some_and(|term| term.is_over(now)) => {}
        Revoked::Forbidden => {
            let leases = if has_leases { ", nor what was made with it" } else { "" };
            inner.note(format!(
                "Vault does not know the login token any more, or does not let it revoke itself: it was not revoked{leases}; \
                 after a restore of Vault that is to be expected"
            ));
        }
        Revoked::Failed(reason) => inner.note(format!("the login token of Vault was not revoked, {rest}: {reason}")),
    }
    false
}

fn tell(inner: &Inner, lease: &Lease, revoked: &Revoked, is_token_revoked: bool, current: Option<&Held>) {
    let rest = format!(
        "the credentials from {} were not revoked and live {} s more",
        lease.path,
        lease.term.left_s(Instant::now())
    );
    match revoked {
        // Vault revokes them together with the token that made them, and goes on trying.
        _ if is_token_revoked => tracing::debug!(path = %lease.path, "left to Vault, together with the token"),
        Revoked::Forbidden if current.is_some_and(|held| !held.is_batch) => {
            // Said of the token already.
            tracing::debug!(path = %lease.path, "the token is gone");
        }
        Revoked::Forbidden => inner.note(format!(
            "Vault: {rest}: the token is gone, or its policy lacks: path \"sys/leases/revoke\" {{ capabilities = \
             [\"update\"] }}"
        )),
        Revoked::Failed(reason) => inner.note(format!("Vault: {rest}: {reason}")),
        Revoked::Done => {}
    }
}

async fn ask(inner: &Inner, call: &Call, deadline: Instant) -> Revoked {
    match timeout_at(deadline, inner.api.call(call)).await {
        Ok(Ok(_)) => Revoked::Done,
        Ok(Err(error)) => judged(&error),
        Err(_) => Revoked::Failed("Vault did not answer in time".into()),
    }
}

fn judged(error: &SourceError) -> Revoked {
    match refusal(error) {
        Some((_, 403, _)) => Revoked::Forbidden,
        _ => Revoked::Failed(error.to_string()),
    }
}
