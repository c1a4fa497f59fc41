//! The end of a session.

use super::*;
use crate::support::vault_cluster::{ROOT, Trouble};
use crate::support::vault_server::json;
use std::time::Instant;

const LOGIN: &str = "/v1/auth/approle/login";

#[tokio::test]
async fn a_session_that_was_never_used_connects_to_nothing_at_its_end() {
    let (_, server) = start().await;
    let session = open(&server, approle());
    assert_eq!(session.close().await, [""; 0]);
    assert!(server.server.requests().is_empty());
    assert!(matches!(reason(session.token().await.unwrap_err()), SessionError::Closed));
    assert!(matches!(reason(session.consul_token("consul/creds/backup").await.unwrap_err()), SessionError::Closed));
    assert!(server.server.requests().is_empty());
}

#[tokio::test]
async fn closing_twice_gives_back_once_and_the_second_waits_for_the_first() {
    let (cluster, server) = start().await;
    let session = open(&server, approle());
    session.consul_token("consul/creds/backup").await.unwrap();
    cluster.trouble("sys/leases/revoke", 1, Trouble::Slow(Duration::from_millis(100)));
    let second = async {
        let notes = session.close().await;
        assert_eq!(cluster.leaks(), [""; 0]);
        notes
    };
    let (one, two) = tokio::join!(session.close(), second);
    assert!(one.is_empty() && two.is_empty());
    assert_eq!(server.server.requests_of("/v1/sys/leases/revoke").len(), 1);
    assert_eq!(server.server.requests_of("/v1/auth/token/revoke-self").len(), 1);
}

#[tokio::test]
async fn what_is_being_made_while_the_session_closes_is_given_back() {
    for slow in ["auth/approle", "consul/creds"] {
        let (cluster, server) = start().await;
        cluster.trouble(slow, 1, Trouble::Slow(Duration::from_millis(300)));
        let session = open(&server, approle());
        // Whoever waited gives up, as after ctrl-C.
        let asked = tokio::spawn({
            let session = Arc::clone(&session);
            async move { session.consul_token("consul/creds/backup").await }
        });
        until("the request", || server.server.requests().iter().any(|r| r.path.contains(slow))).await;
        asked.abort();
        close_clean(&session, &cluster).await;
        assert!(cluster.log().iter().any(|line| line.ends_with("made")), "{:?}", cluster.log());
    }
}

#[tokio::test]
async fn what_comes_after_the_end_is_given_back_by_whoever_made_it() {
    let (cluster, server) = start().await;
    cluster.trouble("auth/approle", 1, Trouble::Slow(Duration::from_millis(600)));
    let timing = Timing { close_limit: Duration::from_millis(200), ..TIMING };
    let settings = settings(&[&server.server.url()]);
    let session = VaultSession::with_timing(settings, approle(), None, timing, &mut |_| ()).unwrap();
    let asked = tokio::spawn({
        let session = Arc::clone(&session);
        async move { session.token().await }
    });
    until("the login", || !server.server.requests_of(LOGIN).is_empty()).await;
    session.close().await;
    asked.await.unwrap().ok();
    until("its revocation", || cluster.leaks().is_empty()).await;
}

#[tokio::test]
async fn after_a_restore_nobody_knows_the_token_and_that_is_a_warning() {
    let (cluster, server) = start().await;
    let session = open(&server, approle());
    session.consul_token("consul/creds/backup").await.unwrap();
    cluster.end_tokens();
    let notes = session.close().await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("after a restore of Vault that is to be expected"), "{notes:?}");
    assert_no_secret(&cluster, &notes);
    assert_eq!(server.server.requests_of(LOGIN).len(), 1);
}

#[tokio::test]
async fn leases_that_may_not_be_revoked_go_with_the_login_token() {
    let (cluster, server) = start().await;
    cluster.set(|state| state.denied = vec!["sys/leases/revoke".into()]);
    let session = open(&server, approle());
    session.consul_token("consul/creds/backup").await.unwrap();
    close_clean(&session, &cluster).await;
}

#[tokio::test]
async fn leases_that_stay_are_named_with_the_policy_that_is_missing() {
    let (cluster, server) = start().await;
    let other = open(&server, approle());
    let token = other.token().await.unwrap();
    cluster.set(|state| state.denied = vec!["sys/leases/revoke".into()]);
    let session = open(&server, Login::Token(Token::Given(token)));
    session.consul_token("consul/creds/backup").await.unwrap();
    let notes = session.close().await;
    assert!(notes.len() == 1 && notes[0].contains("consul/creds/backup were not revoked"), "{notes:?}");
    assert!(notes[0].contains(r#"path "sys/leases/revoke" { capabilities = ["update"] }"#), "{notes:?}");
    assert_no_secret(&cluster, &notes);
    other.close().await;
}

#[tokio::test]
async fn closing_goes_to_another_node_when_the_one_of_the_session_is_dead() {
    let cluster = Cluster::new();
    let (one, two) = (node(&cluster, Role::Active).await, node(&cluster, Role::Active).await);
    let session = open_with(settings(&[&one.server.url(), &two.server.url()]), approle());
    session.consul_token("consul/creds/backup").await.unwrap();
    assert!(two.server.requests().is_empty());
    drop(one);
    close_clean(&session, &cluster).await;
}

#[tokio::test]
async fn closing_ends_in_time_even_if_vault_hangs() {
    let (cluster, server) = start().await;
    let timing = Timing { close_limit: Duration::from_millis(400), ..TIMING };
    let session =
        VaultSession::with_timing(settings(&[&server.server.url()]), approle(), None, timing, &mut |_| ()).unwrap();
    session.consul_token("consul/creds/backup").await.unwrap();
    session.nomad_token("nomad/creds/backup").await.unwrap();
    for path in ["sys/leases/revoke", "auth/token/revoke-self"] {
        cluster.trouble(path, 100, Trouble::Slow(Duration::from_secs(600)));
    }
    let started = Instant::now();
    let notes = session.close().await;
    assert!(started.elapsed() < Duration::from_secs(60), "far less than what Vault takes");
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes.iter().all(|note| note.contains("not revoked")), "{notes:?}");
}

#[tokio::test]
async fn passing_failures_at_the_end_are_tried_again() {
    let (cluster, server) = start().await;
    let session = open(&server, approle());
    session.consul_token("consul/creds/backup").await.unwrap();
    let busy = json("503 Service Unavailable", r#"{"errors":["no active Vault instance found"]}"#);
    cluster.trouble("sys/leases/revoke", 2, Trouble::Answer(busy.clone()));
    cluster.trouble("auth/token/revoke-self", 2, Trouble::Answer(busy));
    close_clean(&session, &cluster).await;
}

#[tokio::test]
async fn a_given_tokens_lost_credentials_are_told() {
    let (cluster, server) = start().await;
    cluster.trouble("consul/creds", 1, Trouble::LoseAnswer);
    let session = open(&server, Login::Token(given(ROOT)));
    session.consul_token("consul/creds/backup").await.unwrap();
    let notes = session.close().await;
    assert!(notes.len() == 1 && notes[0].contains("an answer of consul/creds/backup was lost"), "{notes:?}");
    assert_eq!(cluster.leaks().len(), 1);
}

#[tokio::test]
async fn closing_ends_what_is_only_being_tried_again() {
    let (cluster, server) = start().await;
    let busy = json("503 Service Unavailable", r#"{"errors":["no active Vault instance found"]}"#);
    cluster.trouble("auth/approle", 100, Trouble::Answer(busy));
    let timing = Timing { retry_delay: Duration::from_secs(600), close_limit: Duration::from_secs(1200), ..TIMING };
    let settings = settings(&[&server.server.url()]);
    let session = VaultSession::with_timing(settings, approle(), None, timing, &mut |_| ()).unwrap();
    let asked = tokio::spawn({
        let session = Arc::clone(&session);
        async move { session.token().await }
    });
    until("the login", || !server.server.requests_of(LOGIN).is_empty()).await;
    assert_eq!(session.close().await, [""; 0]);
    assert!(matches!(asked.await.unwrap().unwrap_err(), SourceError::NoLeader { .. }));
}
