//! Sessions with Vault: logins, secrets, credentials, and what becomes of them.

mod closing;
mod credentials;
mod life;
mod logins;
mod secrets;
mod wire;

use super::vault_settings;
use crate::support::vault_cluster::{Cluster, JWT, PASSWORD, ROLE_ID, SECRET_ID};
use crate::support::vault_server::{Role, VaultServer};
use hah_vault::source::settings::VaultSettings;
use hah_vault::source::token::Token;
use hah_vault::source::vault::{Login, SessionError, Timing, VaultSession};
use hah_vault::source::{Secret, SourceError};
use std::sync::Arc;
use std::time::Duration;

/// Short waits; a loaded machine still has the time it needs.
const TIMING: Timing = Timing {
    retry_delay: Duration::from_millis(5),
    given_look_after: Duration::from_millis(20),
    close_limit: Duration::from_secs(6),
};

fn given(text: &str) -> Token {
    Token::Given(Secret::from(text))
}

fn approle() -> Login {
    Login::AppRole {
        mount: "approle".into(),
        role_id: given(ROLE_ID),
        secret_id: Some(given(SECRET_ID)),
        wrapped: false,
        role_name: None,
    }
}

fn wrapped(token: &str, role_name: Option<&str>) -> Login {
    Login::AppRole {
        mount: "approle".into(),
        role_id: given(ROLE_ID),
        secret_id: Some(given(token)),
        wrapped: true,
        role_name: role_name.map(Into::into),
    }
}

fn jwt(mount: &str, role: Option<&str>, text: &str) -> Login {
    Login::Jwt { mount: mount.into(), role: role.map(Into::into), jwt: given(text) }
}

fn userpass(password: &str) -> Login {
    Login::Userpass { mount: "userpass".into(), username: "alice".into(), password: given(password) }
}

/// A cluster of one node.
async fn start() -> (Cluster, VaultServer) {
    let cluster = Cluster::new();
    let server = node(&cluster, Role::Active).await;
    (cluster, server)
}

async fn node(cluster: &Cluster, role: Role) -> VaultServer {
    VaultServer::start_in(cluster, role, b"").await
}

fn settings(urls: &[&str]) -> VaultSettings {
    VaultSettings { token: Token::None, namespace: None, ..vault_settings(urls, "unused") }
}

fn open_with(settings: VaultSettings, login: Login) -> Arc<VaultSession> {
    VaultSession::with_timing(settings, login, None, TIMING, &mut |text| panic!("{text}")).unwrap()
}

fn open(server: &VaultServer, login: Login) -> Arc<VaultSession> {
    open_with(settings(&[&server.server.url()]), login)
}

/// Closes, and nothing is to be told nor left.
async fn close_clean(session: &VaultSession, cluster: &Cluster) {
    assert_eq!(session.close().await, [""; 0]);
    assert_eq!(cluster.leaks(), [""; 0], "{:#?}", cluster.log());
}

fn reason(error: SourceError) -> SessionError {
    match error {
        SourceError::Session(error) => error,
        other => panic!("{other}"),
    }
}

/// No secret is shown by any of the texts.
fn assert_no_secret(cluster: &Cluster, texts: &[String]) {
    for secret in cluster.secrets() {
        for text in texts {
            assert!(!text.contains(&secret), "{secret} is in {text}");
        }
    }
}

fn shown(error: &SourceError) -> Vec<String> {
    vec![error.to_string(), format!("{error:?}"), format!("{:?}", error.hint())]
}

/// Waits until it holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
