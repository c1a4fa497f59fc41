//! What a session holds: login tokens and leases, and how long each lives.

use std::time::Duration;

use tokio::time::Instant;

use super::super::secret::Secret;
use super::login::Auth;

/// Seconds as a server counts them: an end that moves by less was not moved.
const ROUNDING: Duration = Duration::from_secs(1);
/// So long before its end a token counts as run out, or a tenth of its life if that is less: requests take time.
const MARGIN_MAX: Duration = Duration::from_secs(5);
/// Longest life that is reckoned with, 10 years; Vault's own limit is 32 days unless raised.
const LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// Without a renewal that succeeds, the next try is not sooner.
const RENEW_AGAIN_MIN: Duration = Duration::from_millis(250);

/// How long something lives, and when to renew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) ends: Instant,
    /// What it lived for at first; a renewal asks for as much again.
    pub(super) life: Duration,
    /// When to renew it; none: it cannot be, or not any more.
    pub(super) renew_at: Option<Instant>,
}

impl Term {
    pub(super) fn new(now: Instant, life_s: u64, is_renewable: bool) -> Self {
        let life = Duration::from_secs(life_s).min(LIFE_MAX);
        Self { ends: now + life, life, renew_at: is_renewable.then(|| two_thirds(now, life)) }
    }

    /// Takes a renewal's answer. False: the end does not move any more, for its max_ttl is reached.
    pub(super) fn renewed(&mut self, now: Instant, life_s: u64) -> bool {
        let left = Duration::from_secs(life_s).min(LIFE_MAX);
        let ends = now + left;
        let is_moved = ends > self.ends + ROUNDING.min(self.life / 4);
        self.ends = self.ends.max(ends);
        self.renew_at = is_moved.then(|| two_thirds(now, left));
        is_moved
    }

    /// A renewal failed for now.
    pub(super) fn postponed(&mut self, now: Instant) {
        let left = self.ends.saturating_duration_since(now);
        self.renew_at = (left > RENEW_AGAIN_MIN).then(|| now + (left / 4).max(RENEW_AGAIN_MIN));
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now + MARGIN_MAX.min(self.life / 10) >= self.ends
    }

    /// Whole seconds until its end.
    pub(super) fn left_s(&self, now: Instant) -> u64 {
        self.ends.saturating_duration_since(now).as_secs()
    }
}

/// As Vault's own agent has it.
fn two_thirds(now: Instant, life: Duration) -> Instant {
    now + life / 3 * 2
}

/// A token from a login of ours.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) secret: Secret,
    /// None: it never expires.
    pub(super) term: Option<Term>,
    /// Batch tokens can neither be renewed nor revoked.
    pub(super) is_batch: bool,
    /// Requests that it is still good for; none: any number.
    pub(super) uses_left: Option<u32>,
    /// Whether Vault has accepted it once.
    pub(super) has_worked: bool,
}

impl Held {
    pub(super) fn new(auth: Auth, now: Instant) -> Self {
        let is_batch = auth.token_type == "batch";
        let uses_left = Some(auth.num_uses).filter(|uses| *uses > 0);
        let is_renewable = auth.renewable && !is_batch;
        let term = (auth.lease_duration > 0).then(|| Term::new(now, auth.lease_duration, is_renewable));
        Self { secret: auth.client_token, term, is_batch, uses_left, has_worked: false }
    }

    /// Takes one use. The last one is kept for the revocation: used up, the token would end at once, and with it all
    /// that was made with it.
    pub(super) fn take(&mut self, now: Instant) -> Option<Secret> {
        if self.term.is_some_and(|term| term.is_over(now)) {
            return None;
        }
        match &mut self.uses_left {
            Some(0 | 1) => return None,
            Some(uses) => *uses -= 1,
            None => {}
        }
        Some(self.secret.clone())
    }
}

/// Credentials that a secrets engine made for us.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) id: String,
    /// What made it, as `consul/creds/backup`.
    pub(super) path: String,
    pub(super) term: Term,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn auth(num_uses: u32, token_type: &str) -> Auth {
        let text = format!(
            r#"{{"client_token":"s.x","lease_duration":60,"renewable":true,"token_type":"{token_type}","num_uses":{num_uses}}}"#
        );
        serde_json::from_str(&text).expect("auth")
    }

    #[test]
    fn the_last_use_of_a_token_is_kept() {
        let now = Instant::now();
        let mut held = Held::new(auth(3, "service"), now);
        assert!(held.take(now).is_some() && held.take(now).is_some());
        assert_eq!((held.take(now), held.uses_left), (None, Some(1)));
        let mut unlimited = Held::new(auth(0, "service"), now);
        assert!((0..100).all(|_| unlimited.take(now).is_some()));
        assert_eq!(unlimited.take(now + Duration::from_secs(60)), None);
    }

    #[test]
    fn batch_tokens_are_not_renewed() {
        let term = Held::new(auth(0, "batch"), Instant::now()).term.expect("a term");
        assert_eq!(term.renew_at, None);
    }

    #[test]
    fn a_term_that_does_not_grow_any_more_is_at_its_maximum() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut term = Term::new(start, 600, true);
        assert_eq!(term.renew_at, Some(at(400)));
        assert!(term.renewed(at(400), 600));
        assert_eq!((term.ends, term.renew_at), (at(1000), Some(at(800))));
        assert!(term.renewed(at(800), 300), "cut short by its maximum, but longer than before");
        assert!(!term.renewed(at(1000), 100));
        assert_eq!((term.ends, term.renew_at), (at(1100), None));
    }

    proptest! {
        #[test]
        fn renewals_come_before_the_end_and_never_in_a_burst(life_s in 1_u64..100_000, failures in 0_usize..40) {
            let start = Instant::now();
            let mut term = Term::new(start, life_s, true);
            let mut now = start;
            for _ in 0..failures {
                let Some(next) = term.renew_at else { break };
                prop_assert!(next >= now + RENEW_AGAIN_MIN || now == start);
                prop_assert!(next <= term.ends);
                now = next;
                term.postponed(now);
            }
        }
    }
}
