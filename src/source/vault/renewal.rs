//! Renewal in the background: the login token and the leases, each at two thirds of its life, until its max_ttl.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::error::Operation;
use super::super::{SourceError, lock};
use super::api::{Call, Payload};
use super::error::refusal;
use super::held::{Lease, Term};
use super::login::{Authenticated, Login};
use super::session::Inner;

/// Uses that are left alone: for what still has to be done, and for the revocation.
const USES_KEPT: u32 = 8;

#[derive(Deserialize)]
struct Renewed {
    #[serde(default)]
    lease_duration: u64,
}

/// Begins to renew, once for a session. Tells the renewal of something new, afterwards.
pub(super) fn start(inner: &Arc<Inner>) {
    if inner.is_renewing.swap(true, Ordering::SeqCst) {
        inner.changed.notify_one();
        return;
    }
    tokio::spawn(run(Arc::downgrade(inner), inner.closed.subscribe(), Instant::now()));
}

/// Does not keep the session alive.
async fn run(session: Weak<Inner>, mut closed: watch::Receiver<bool>, started: Instant) {
    let is_given = session.upgrade().is_some_and(|inner| matches!(inner.login, Login::Token(_)));
    let mut look_at = session.upgrade().filter(|_| is_given).map(|inner| started + inner.timing.given_look_after);
    loop {
        let Some(inner) = session.upgrade() else { return };
        let next = next(&inner).into_iter().chain(look_at).min();
        let changed = Arc::clone(&inner.changed);
        drop(inner);
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return,
            () = changed.notified() => continue,
            () = due => {}
        }
        let Some(inner) = session.upgrade() else { return };
        let is_look_due = look_at.take_if(|at| *at <= Instant::now()).is_some();
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return,
            () = renew_due(&inner, is_look_due) => {}
        }
    }
}

fn next(inner: &Inner) -> Option<Instant> {
    let of_token = token_term(inner).and_then(|term| term.renew_at);
    let of_leases = lock(&inner.leases).iter().filter_map(|lease| lease.term.renew_at).min();
    of_token.into_iter().chain(of_leases).min()
}

fn token_term(inner: &Inner) -> Option<Term> {
    let tokens = lock(&inner.tokens);
    tokens.given.or_else(|| tokens.current.as_ref()?.term)
}

fn with_token_term(inner: &Inner, change: impl FnOnce(&mut Term)) {
    let mut tokens = lock(&inner.tokens);
    let tokens = &mut *tokens;
    let of_login = tokens.current.as_mut().and_then(|held| held.term.as_mut());
    if let Some(term) = tokens.given.as_mut().or(of_login) {
        change(term);
    }
}

async fn renew_due(inner: &Arc<Inner>, is_look_due: bool) {
    if is_look_due {
        look_at_given(inner).await;
    }
    let is_due = |term: &Term| term.renew_at.is_some_and(|at| at <= Instant::now());
    if token_term(inner).as_ref().is_some_and(is_due) {
        renew_token(inner).await;
    }
    let due: Vec<Lease> = lock(&inner.leases).iter().filter(|lease| is_due(&lease.term)).cloned().collect();
    futures::future::join_all(due.iter().map(|lease| renew_lease(inner, lease))).await;
}

/// How long a token that was given lives.
async fn look_at_given(inner: &Arc<Inner>) {
    // Where Vault does not tell, or does not know the token, there is nothing to renew.
    let Ok(Some(facts)) = inner.lookup_self().await else { return };
    if facts.num_uses > 0 {
        inner.note(format!(
            "Vault: the token that was given is good for {} more uses only, and is not renewed",
            facts.num_uses
        ));
    } else if facts.is_renewable && facts.ttl_s > 0 {
        lock(&inner.tokens).given = Some(Term::new(Instant::now(), facts.ttl_s, true));
    }
}

/// Whether a token with a limited number of uses has some to spare; takes one.
fn may_spend_a_use(inner: &Inner) -> bool {
    let mut tokens = lock(&inner.tokens);
    match tokens.current.as_mut().and_then(|held| held.uses_left.as_mut()) {
        Some(uses) if *uses <= USES_KEPT => false,
        Some(uses) => {
            *uses -= 1;
            true
        }
        None => true,
    }
}

async fn renew_token(inner: &Arc<Inner>) {
    if !may_spend_a_use(inner) {
        return with_token_term(inner, |term| term.renew_at = None);
    }
    let Ok(Some(token)) = inner.at_hand() else { return with_token_term(inner, |term| term.renew_at = None) };
    let payload = Payload::plain(&json!({}));
    let call = Call::post(Operation::Lease, "/v1/auth/token/renew-self", payload).with(Some(token));
    let asked = Instant::now();
    let outcome = inner.api.call(&call).await.and_then(|reply| reply.parse::<Authenticated>());
    match outcome {
        Ok(Authenticated { auth }) => {
            let life_s = auth.map_or(0, |auth| auth.lease_duration);
            tracing::debug!(life_s, "renewed the token of Vault");
            let mut at_maximum = None;
            with_token_term(inner, |term| at_maximum = (!term.renewed(asked, life_s)).then(|| term.left_s(asked)));
            if let Some(left_s) = at_maximum {
                inner.note(format!(
                    "Vault: the token has reached its max_ttl and ends in {left_s} s, and with it the tokens of Consul \
                     and Nomad that were made with it: raise token_max_ttl for runs as long as this"
                ));
            }
        }
        Err(error) if error.is_transient() => with_token_term(inner, |term| term.postponed(asked)),
        Err(error) => {
            with_token_term(inner, |term| term.renew_at = None);
            // A token that is gone is noticed by the next request that needs one.
            if !matches!(refusal(&error), Some((_, 403, _))) {
                inner.note(format!("Vault: the token cannot be renewed: {error}"));
            }
        }
    }
}

async fn renew_lease(inner: &Arc<Inner>, lease: &Lease) {
    let asked = Instant::now();
    let outcome = match may_spend_a_use(inner) {
        true => ask_for_more(inner, lease).await,
        false => return with_lease(inner, lease, |term| term.renew_at = None),
    };
    match outcome {
        Ok(life_s) => {
            tracing::debug!(path = %lease.path, life_s, "renewed a lease of Vault");
            let mut at_maximum = None;
            with_lease(inner, lease, |term| at_maximum = (!term.renewed(asked, life_s)).then(|| term.left_s(asked)));
            if let Some(left_s) = at_maximum {
                inner.note(format!(
                    "Vault: the credentials from {} have reached their max_ttl and end in {left_s} s",
                    lease.path
                ));
            }
        }
        Err(error) if error.is_transient() => with_lease(inner, lease, |term| term.postponed(asked)),
        Err(error) => {
            with_lease(inner, lease, |term| term.renew_at = None);
            let left_s = lease.term.left_s(asked);
            inner.note(format!(
                "Vault: the credentials from {} end in {left_s} s, for they cannot be renewed: {error}",
                lease.path
            ));
        }
    }
}

async fn ask_for_more(inner: &Arc<Inner>, lease: &Lease) -> Result<u64, SourceError> {
    let payload = Payload::plain(&json!({ "lease_id": lease.id, "increment": lease.term.life.as_secs() }));
    let call = Call::put(Operation::Lease, "/v1/sys/leases/renew", payload).with(inner.at_hand()?);
    Ok(inner.api.call(&call).await?.parse::<Renewed>()?.lease_duration)
}

fn with_lease(inner: &Inner, lease: &Lease, change: impl FnOnce(&mut Term)) {
    if let Some(lease) = lock(&inner.leases).iter_mut().find(|other| other.id == lease.id) {
        change(&mut lease.term);
    }
}
