//! The tokens of a session: logins, one at a time, and what happens when a token has run out.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::time::Instant;

use super::super::error::Operation;
use super::super::secret::Secret;
use super::super::{ServiceKind, SourceError, lock};
use super::api::{Call, Reply};
use super::error::{SessionError, refusal};
use super::held::Held;
use super::login::{self, Login};
use super::renewal;
use super::session::Inner;

impl Inner {
    /// A token for one request.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Option<Secret>, SourceError> {
        if self.is_closed() {
            return Err(SessionError::Closed.into());
        }
        if let Login::Token(token) = &self.login {
            renewal::start(self);
            return token.read(ServiceKind::Vault);
        }
        match self.take() {
            Some(secret) => Ok(Some(secret)),
            None => self.log_in(None).await.map(Some),
        }
    }

    fn take(&self) -> Option<Secret> {
        lock(&self.tokens).current.as_mut()?.take(Instant::now())
    }

    /// The token, to look after what it made: costs no use, and never logs in.
    pub(super) fn at_hand(&self) -> Result<Option<Secret>, SourceError> {
        match &self.login {
            Login::Token(token) => token.read(ServiceKind::Vault),
            _ => Ok(lock(&self.tokens).current.as_ref().map(|held| held.secret.clone())),
        }
    }

    /// Logs in, unless somebody else has done so in the meantime. `refused` is a token that is of no use any more.
    async fn log_in(self: &Arc<Self>, refused: Option<Secret>) -> Result<Secret, SourceError> {
        let inner = Arc::clone(self);
        self.detached(async move {
            let _one = inner.one_login.lock().await;
            let is_refused = |held: &Held| refused.as_ref() == Some(&held.secret);
            let before = {
                let mut tokens = lock(&inner.tokens);
                let known = tokens.current.as_mut().filter(|held| !is_refused(held));
                if let Some(secret) = known.and_then(|held| held.take(Instant::now())) {
                    return Ok(secret);
                }
                tokens.current.clone()
            };
            if inner.is_closed() {
                return Err(SessionError::Closed.into());
            }
            let asked = Instant::now();
            let lost = AtomicBool::new(false);
            let outcome = login::log_in(&inner.api, &inner.login, &inner.unwrapped, &lost).await;
            if lost.into_inner() {
                inner.note_lost_login();
            }
            let mut held = Held::new(outcome?, asked);
            let num_uses = held.uses_left;
            let taken = held.take(asked);
            if let (Some(before), Some(_)) = (&before, &taken) {
                inner.note_login_again(before);
            }
            {
                let mut tokens = lock(&inner.tokens);
                let retired = tokens.current.replace(held);
                tokens.retired.extend(retired);
            }
            renewal::start(&inner);
            taken.ok_or_else(|| match (inner.login.mount(), num_uses) {
                (Some(mount), Some(num_uses)) => SessionError::TooFewUses { mount: mount.into(), num_uses }.into(),
                // It has run out before the answer was here.
                _ => SourceError::Stopped,
            })
        })
        .await
    }

    fn note_lost_login(&self) {
        self.note("Vault: the answer to a login was lost; its token, if there is one, lives until its TTL ends".into());
    }

    fn note_login_again(&self, before: &Held) {
        if before.uses_left.is_some_and(|uses| uses <= 1) {
            let text = "Vault: the login's tokens are for few uses (token_num_uses), and another login was needed";
            return self.note(text.into());
        }
        let made = lock(&self.leases).len();
        let what = if made == 0 { "" } else { "; the credentials that were made with it may have ended too" };
        self.note(format!(
            "Vault: the login token has run out before its work was done, and another login was needed{what}"
        ));
    }

    /// Another token after a refusal with status 403: one more login, if the token had worked before or has run out,
    /// and is ours. Where Vault still knows the token, the refusal is about the path, and there is nothing to replace.
    pub(super) async fn replacement(self: &Arc<Self>, refused: Option<&Secret>) -> Result<Option<Secret>, SourceError> {
        let Some(refused) = refused.filter(|_| self.login.mount().is_some()) else { return Ok(None) };
        let held = lock(&self.tokens).current.as_ref().filter(|held| held.secret == *refused).cloned();
        if let Some(held) = held {
            let has_run_out = held.term.is_some_and(|term| term.is_over(Instant::now()));
            if !has_run_out && !held.has_worked {
                return Ok(None);
            }
            if !has_run_out && held.uses_left.is_none() {
                let call = Call::get(Operation::Look, super::look::PATH_LOOKUP_SELF).with(Some(refused.clone()));
                let outcome = self.api.call(&call).await;
                let is_gone = outcome.is_err_and(|error| matches!(refusal(&error), Some((_, 403, _))));
                if !is_gone {
                    return Ok(None);
                }
            }
        }
        tracing::debug!("Vault refuses a token that was good: logging in once more");
        self.log_in(Some(refused.clone())).await.map(Some)
    }

    /// Notes that Vault has taken a token.
    pub(super) fn worked(&self, token: Option<&Secret>) {
        let mut tokens = lock(&self.tokens);
        if let Some(held) = tokens.current.as_mut().filter(|held| Some(&held.secret) == token) {
            held.has_worked = true;
        }
    }

    /// Sends a request with the session's token; once more with another one if that has run out.
    pub(super) async fn send(self: &Arc<Self>, mut call: Call) -> Result<Reply, SourceError> {
        call.token = self.current().await?;
        let error = match self.api.call(&call).await {
            Ok(reply) => {
                self.worked(call.token.as_ref());
                return Ok(reply);
            }
            Err(error) => error,
        };
        if !matches!(refusal(&error), Some((_, 403, _))) {
            return Err(error);
        }
        let Some(fresh) = self.replacement(call.token.as_ref()).await? else { return Err(error) };
        call.token = Some(fresh);
        let reply = self.api.call(&call).await?;
        self.worked(call.token.as_ref());
        Ok(reply)
    }
}
