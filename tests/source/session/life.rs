//! A session's life: renewals, tokens that run out, counted uses, looks.

use super::*;
use crate::source::{read, snapshot_of};
use crate::support::vault_cluster::{Grant, ROOT};
use hah_vault::source::Vault;

const LOGIN: &str = "/v1/auth/approle/login";

fn grant(ttl_s: u64, max_ttl_s: u64, renewable: bool) -> Grant {
    Grant { ttl_s, max_ttl_s, renewable }
}

fn renewals(cluster: &Cluster, of: &str) -> usize {
    cluster.log().iter().filter(|line| line.starts_with(of) && line.contains("renewed for")).count()
}

#[tokio::test]
async fn token_and_leases_are_renewed_in_the_background() {
    let (cluster, server) = start().await;
    cluster.set(|state| {
        state.grant = grant(3, 3600, true);
        state.lease_grant = grant(3, 3600, true);
    });
    let session = open(&server, approle());
    let token = session.consul_token("consul/creds/backup").await.unwrap();
    until("renewals", || renewals(&cluster, "token 1") > 1 && renewals(&cluster, "lease consul") > 1).await;
    // More than its first life has passed.
    assert!(cluster.knows(token.expose()));
    close_clean(&session, &cluster).await;
    assert_eq!(server.server.requests_of(LOGIN).len(), 1);
}

#[tokio::test]
async fn at_max_ttl_renewal_stops_and_says_so() {
    let (cluster, server) = start().await;
    cluster.set(|state| {
        state.grant = grant(4, 6, true);
        state.lease_grant = grant(4, 6, true);
    });
    let session = open(&server, approle());
    session.consul_token("consul/creds/backup").await.unwrap();
    until("the end of both", || cluster.leaks().is_empty()).await;
    let asked = server.server.requests_of("/v1/sys/leases/renew").len();
    assert!((1..=3).contains(&asked), "{asked}");
    // What comes then logs in anew.
    session.secrets("kv1/app").await.unwrap();
    let notes = session.close().await;
    for words in ["token has reached its max_ttl", "consul/creds/backup have reached their max_ttl", "another login"] {
        assert!(notes.iter().any(|note| note.contains(words)), "{words}: {notes:?}");
    }
    assert_eq!(cluster.leaks(), [""; 0]);
}

#[tokio::test]
async fn a_given_token_is_renewed_too() {
    let (cluster, server) = start().await;
    cluster.set(|state| state.grant = grant(3, 3600, true));
    // Somebody else's login.
    let other = open(&server, approle());
    let token = other.token().await.unwrap();
    drop(other);
    let session = open(&server, Login::Token(Token::Given(token)));
    session.token().await.unwrap();
    until("renewals", || renewals(&cluster, "token 1") > 1).await;
    assert_eq!(session.close().await, [""; 0]);
    assert_eq!(cluster.leaks(), ["token 1 of auth/approle"], "it is not ours to revoke");
}

#[tokio::test]
async fn a_token_that_vault_forgot_is_replaced_once_for_all() {
    let (cluster, server) = start().await;
    let session = open(&server, approle());
    session.secrets("kv1/app").await.unwrap();
    cluster.end_tokens();
    let (one, two, three) =
        tokio::join!(session.secrets("kv1/app"), session.secrets("kv1/app"), session.secrets("kv1/app"));
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(server.server.requests_of(LOGIN).len(), 2);
    let notes = session.close().await;
    assert!(notes.len() == 1 && notes[0].contains("another login was needed"), "{notes:?}");
    assert_eq!(cluster.leaks(), [""; 0]);
}

#[tokio::test]
async fn a_token_that_has_run_out_is_replaced_without_asking() {
    let (cluster, server) = start().await;
    cluster.set(|state| state.grant = grant(1, 1, false));
    let session = open(&server, approle());
    session.token().await.unwrap();
    until("its end", || cluster.leaks().is_empty()).await;
    session.secrets("kv1/app").await.unwrap();
    assert_eq!(server.server.requests_of(LOGIN).len(), 2);
    session.close().await;
    assert_eq!(cluster.leaks(), [""; 0]);
}

#[tokio::test]
async fn a_given_token_that_vault_forgot_is_an_error() {
    let (_, server) = start().await;
    let session = open(&server, Login::Token(given("s.AAAAAAAAAAAAAAAAAAAAAAAA")));
    let error = session.secrets("kv1/app").await.unwrap_err();
    assert!(matches!(reason(error), SessionError::Denied { .. }));
    assert!(server.server.requests_of(LOGIN).is_empty());
}

#[tokio::test]
async fn a_snapshot_is_taken_with_the_sessions_token_and_without_its_namespace() {
    let cluster = Cluster::new();
    let server = VaultServer::start_in(&cluster, Role::Active, &snapshot_of("vault-00.snap")).await;
    let mut settings = settings(&[&server.server.url()]);
    settings.namespace = Some("team".into());
    let session = open_with(settings.clone(), approle());
    let vault = Vault::with_session(settings, Arc::clone(&session), None, &mut |_| ()).unwrap();
    assert!(read(&vault).await.unwrap().1 == snapshot_of("vault-00.snap"));
    // The token dies between two snapshots: one more login, once.
    cluster.end_tokens();
    read(&vault).await.unwrap();
    let path = crate::support::vault_server::PATH;
    let asked = server.server.requests_of(path);
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|request| request.header("x-vault-namespace").is_empty()));
    assert_eq!(server.server.requests_of(LOGIN).len(), 2);
    assert!(server.server.requests_of(LOGIN).iter().all(|request| request.header("x-vault-namespace") == "team"));
    // A policy that does not allow it is not a dead token.
    cluster.set(|state| state.denied = vec!["sys/storage/*".into()]);
    let error = read(&vault).await.unwrap_err();
    assert!(error.hint().unwrap().contains(r#"path "sys/storage/raft/snapshot""#), "{error}");
    assert_eq!(server.server.requests_of(LOGIN).len(), 2);
    session.close().await;
    assert_eq!(cluster.leaks(), [""; 0]);
}

#[tokio::test]
async fn counted_uses_are_not_used_up_under_a_lease() {
    let (cluster, server) = start().await;
    cluster.set(|state| state.num_uses = 3);
    let session = open(&server, approle());
    let token = session.consul_token("consul/creds/backup").await.unwrap();
    for _ in 0..3 {
        session.secrets("secret/app/s3").await.unwrap();
    }
    assert!(cluster.knows(token.expose()), "the last use is kept: {:#?}", cluster.log());
    assert!(server.server.requests_of("/v1/auth/token/lookup-self").is_empty(), "looks cost uses");
    let notes = session.close().await;
    assert!(notes.len() == 1 && notes[0].contains("token_num_uses"), "{notes:?}");
    assert_eq!(cluster.leaks(), [""; 0]);
}

#[tokio::test]
async fn tokens_for_a_single_use_are_too_few() {
    let (cluster, server) = start().await;
    cluster.set(|state| state.num_uses = 1);
    let session = open(&server, approle());
    let error = session.token().await.unwrap_err();
    assert!(error.hint().unwrap().contains("token_num_uses"), "{error}");
    assert!(matches!(reason(error), SessionError::TooFewUses { num_uses: 1, .. }));
    close_clean(&session, &cluster).await;
}

#[tokio::test]
async fn a_check_sees_what_the_token_is_and_may() {
    let (cluster, server) = start().await;
    cluster.set(|state| state.denied = vec!["sys/storage/raft/snapshot-force".into()]);
    let session = open(&server, approle());
    let facts = session.lookup_self().await.unwrap().unwrap();
    assert_eq!((facts.kind.as_str(), facts.path.as_str(), facts.num_uses), ("service", "auth/approle", 0));
    assert!(facts.is_renewable && facts.ttl_s > 1000 && facts.policies == ["backup", "default"]);
    let paths = ["sys/storage/raft/snapshot", "sys/storage/raft/snapshot-force", "secret/data/app/s3"];
    let found = session.capabilities(&paths).await.unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!((found[paths[0]].join(","), found[paths[1]].join(",")), ("read,update".into(), "deny".into()));
    cluster.set(|state| state.denied = vec!["auth/token/*".into(), "sys/capabilities-self".into()]);
    assert_eq!(session.lookup_self().await.unwrap(), None, "token_no_default_policy");
    assert!(session.capabilities(&paths).await.unwrap().is_empty());
    session.close().await;
    let root = open(&server, Login::Token(given(ROOT)));
    assert_eq!(root.lookup_self().await.unwrap().unwrap().ttl_s, 0);
}

#[tokio::test]
async fn capabilities_of_the_snapshot_are_asked_in_the_root_namespace() {
    let (_, server) = start().await;
    let mut settings = settings(&[&server.server.url()]);
    settings.namespace = Some("team".into());
    let session = open_with(settings, approle());
    session.capabilities(&["sys/storage/raft/snapshot", "secret/data/app/s3"]).await.unwrap();
    let asked: Vec<(String, bool)> = server
        .server
        .requests_of("/v1/sys/capabilities-self")
        .iter()
        .map(|request| {
            let is_of_snapshot = String::from_utf8_lossy(&request.body).contains("raft");
            (request.header("x-vault-namespace").to_owned(), is_of_snapshot)
        })
        .collect();
    assert_eq!(asked, [("team".to_owned(), false), (String::new(), true)]);
}
