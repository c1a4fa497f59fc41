//! A server whose token has to be got first: nothing is asked for before it is needed, and what goes wrong is an error of
//! that server alone.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use super::address::Address;
use super::restore::{BodyWriter, Preflight, Restoring, Settled, Target};
use super::{Service, ServiceKind, Snapshot, SourceError};

/// Makes the server.
pub type Connect<S> = Box<dyn Fn() -> BoxFuture<'static, Result<S, SourceError>> + Send + Sync>;

/// A server that is made at its first use; after a failure, at the next.
pub struct Deferred<S> {
    kind: ServiceKind,
    connect: Connect<S>,
    server: OnceCell<S>,
}

impl<S> Deferred<S> {
    /// A server of this kind.
    pub fn new(kind: ServiceKind, connect: Connect<S>) -> Self {
        Self { kind, connect, server: OnceCell::new() }
    }

    /// The server itself.
    ///
    /// # Errors
    /// What kept it from being made.
    pub async fn server(&self) -> Result<&S, SourceError> {
        self.server.get_or_try_init(|| (self.connect)()).await
    }
}

impl<S> fmt::Debug for Deferred<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[async_trait]
impl<S: Service> Service for Deferred<S> {
    fn kind(&self) -> ServiceKind {
        self.kind
    }

    async fn open_snapshot(&self) -> Result<Snapshot, SourceError> {
        self.server().await?.open_snapshot().await
    }
}

#[async_trait]
impl<S: Target> Target for Deferred<S> {
    fn kind(&self) -> ServiceKind {
        self.kind
    }

    async fn preflight(&self) -> Result<Preflight, SourceError> {
        self.server().await?.preflight().await
    }

    async fn restore(&self, at: &Address, force: bool) -> Result<(BodyWriter, Restoring), SourceError> {
        self.server().await?.restore(at, force).await
    }

    async fn settle(&self, at: &Address, limit: Duration) -> Result<Settled, SourceError> {
        self.server().await?.settle(at, limit).await
    }

    async fn faults_after(&self, at: &Address) -> Vec<String> {
        match self.server().await {
            Ok(server) => server.faults_after(at).await,
            // It was there for the restore; whatever this is, the restore's own answer says more.
            Err(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::address::NoScheme;

    #[derive(Debug)]
    struct Crooked;

    #[async_trait]
    impl Target for Crooked {
        fn kind(&self) -> ServiceKind {
            ServiceKind::Vault
        }

        async fn preflight(&self) -> Result<Preflight, SourceError> {
            Err(SourceError::Stopped)
        }

        async fn restore(&self, _: &Address, _: bool) -> Result<(BodyWriter, Restoring), SourceError> {
            Err(SourceError::Stopped)
        }

        async fn settle(&self, _: &Address, _: Duration) -> Result<Settled, SourceError> {
            Ok(Settled::Sealed)
        }

        async fn faults_after(&self, _: &Address) -> Vec<String> {
            vec!["crooked".into()]
        }
    }

    #[tokio::test]
    async fn what_is_wrong_after_a_restore_is_asked_of_the_server_itself() {
        let target = Deferred::new(ServiceKind::Vault, Box::new(|| Box::pin(async { Ok(Crooked) })));
        let (at, _) = Address::parse("http://127.0.0.1:1", NoScheme::Refuse).expect("address");
        assert_eq!(target.faults_after(&at).await, ["crooked"]);
        assert_eq!(target.settle(&at, Duration::ZERO).await.expect("settled"), Settled::Sealed);
    }
}
