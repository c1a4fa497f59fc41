//! Vault: leaders, redirects, refusals.

use super::{address, error_of, fact, read, snapshot_of, vault_settings};
use crate::support::service_server::Fault;
use crate::support::vault_server::{CLUSTER_ID, PATH, Role, TOKEN, TOKEN_LOW, VaultServer, json};
use hah_vault::source::{SourceError, Vault};
use std::time::Duration;

fn vault(servers: &[&VaultServer], token: &str) -> Vault {
    let urls: Vec<String> = servers.iter().map(|s| s.server.url()).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    Vault::new(vault_settings(&urls, token), None, &mut |text| panic!("{text}")).unwrap()
}

async fn start(role: Role) -> VaultServer {
    VaultServer::start(role, &snapshot_of("vault-02.snap")).await
}

#[tokio::test]
async fn the_active_node_gives_its_snapshot_and_its_names() {
    for role in [Role::Active, Role::Alone, Role::Hidden] {
        let server = start(role).await;
        let (facts, bytes) = read(&vault(&[&server], TOKEN)).await.unwrap();
        assert!(bytes == snapshot_of("vault-02.snap"));
        assert_eq!(fact(&facts, "server-version"), Some("1.8.0-dev"));
        assert_eq!(fact(&facts, "cluster-id"), Some(CLUSTER_ID));
        assert_eq!(fact(&facts, "cluster-name"), Some("vault-cluster-2a1f9725"));
        assert_eq!(fact(&facts, "address"), Some(&*server.server.url()));
    }
}

#[tokio::test]
async fn requests_ask_for_identity_carry_the_guard_header_and_no_namespace_and_only_get() {
    let server = start(Role::Active).await;
    read(&vault(&[&server], TOKEN)).await.unwrap();
    let requests = server.server.requests();
    for request in &requests {
        assert_eq!(request.method, "GET");
        assert_eq!(request.header("accept-encoding"), "identity");
        assert_eq!(request.header("x-vault-request"), "true");
        assert_eq!(request.header("x-vault-namespace"), "");
    }
    let with_token: Vec<&str> =
        requests.iter().filter(|r| !r.header("x-vault-token").is_empty()).map(|r| r.path.as_str()).collect();
    assert_eq!(with_token, [PATH]);
}

#[tokio::test]
async fn a_standby_names_the_leader_and_gets_no_token() {
    let leader = start(Role::Active).await;
    let standby = start(Role::Standby(leader.server.url())).await;
    let (facts, bytes) = read(&vault(&[&standby], TOKEN)).await.unwrap();
    assert!(bytes == snapshot_of("vault-02.snap"));
    assert_eq!(fact(&facts, "address"), Some(&*leader.server.url()));
    assert!(standby.server.requests_of(PATH).is_empty());
    assert_eq!(leader.server.requests_of(PATH)[0].header("x-vault-token"), TOKEN);
}

#[tokio::test]
async fn a_redirect_is_followed_once_with_the_token_sent_again() {
    let leader = start(Role::Active).await;
    // What sys/leader says does not get through, so the redirect is all there is.
    let hidden = start(Role::Hidden).await;
    hidden.set(|s| s.redirect = Some(format!("{}{PATH}", leader.server.url())));
    let (facts, bytes) = read(&vault(&[&hidden], TOKEN)).await.unwrap();
    assert!(bytes == snapshot_of("vault-02.snap"));
    assert_eq!(fact(&facts, "address"), Some(&*leader.server.url()));
    assert_eq!(leader.server.requests_of(PATH)[0].header("x-vault-token"), TOKEN);
}

#[tokio::test]
async fn a_second_redirect_is_refused() {
    let third = start(Role::Active).await;
    let second = start(Role::Active).await;
    second.set(|s| s.redirect = Some(format!("{}{PATH}", third.server.url())));
    let first = start(Role::Hidden).await;
    first.set(|s| s.redirect = Some(format!("{}{PATH}", second.server.url())));
    let error = error_of(&vault(&[&first], TOKEN), TOKEN).await;
    assert!(error.to_string().contains("second redirect"), "{error}");
    assert!(third.server.requests().is_empty());
}

#[tokio::test]
async fn dangerous_redirects_get_no_token() {
    for (to, why) in [
        ("http://169.254.169.254/v1/sys/storage/raft/snapshot", "no server has such an address"),
        ("https://sso.example.com/login", "not the same path"),
        ("ftp://10.0.0.1/v1/sys/storage/raft/snapshot", "scheme"),
        ("/v1/sys/storage/raft/snapshot", "absolute"),
    ] {
        let server = start(Role::Hidden).await;
        server.set(|s| s.redirect = Some(to.into()));
        let error = error_of(&vault(&[&server], TOKEN), TOKEN).await;
        assert!(matches!(error, SourceError::Redirect { .. }) && error.to_string().contains(why), "{to}: {error}");
    }
}

#[tokio::test]
async fn redirects_can_be_forbidden() {
    let leader = start(Role::Active).await;
    let standby = start(Role::Standby(leader.server.url())).await;
    let mut settings = vault_settings(&[&standby.server.url()], TOKEN);
    settings.follow_redirect = false;
    let error = error_of(&Vault::new(settings, None, &mut |_| ()).unwrap(), TOKEN).await;
    assert!(error.to_string().contains("VAULT_DISABLE_REDIRECTS"), "{error}");
    assert!(leader.server.requests().is_empty());
}

#[tokio::test]
async fn a_dead_leader_is_named_with_the_standby_that_names_it() {
    // 9 s after its leader's death a standby still sends everybody there (facts 8).
    let standby = start(Role::Standby("http://127.0.0.1:1".into())).await;
    let error = error_of(&vault(&[&standby], TOKEN), TOKEN).await;
    assert!(matches!(error, SourceError::Leader { .. }) && error.is_transient(), "{error}");
    assert!(error.hint().unwrap().contains("HAH_VAULT_LEADER_ADDRESSES"));
}

#[tokio::test]
async fn a_leader_behind_another_address_is_mapped() {
    let leader = start(Role::Active).await;
    let standby = start(Role::Standby("http://10.255.255.1:8200".into())).await;
    let mut settings = vault_settings(&[&standby.server.url()], TOKEN);
    settings.leader_addresses = vec![(address("http://10.255.255.1:8200"), address(&leader.server.url()))];
    let (_, bytes) = read(&Vault::new(settings, None, &mut |_| ()).unwrap()).await.unwrap();
    assert!(bytes == snapshot_of("vault-02.snap"));
}

#[tokio::test]
async fn the_leader_among_our_own_addresses_is_preferred_to_what_a_standby_says() {
    let standby = start(Role::Standby("http://127.0.0.1:1".into())).await;
    let leader = start(Role::Active).await;
    let sealed = start(Role::Sealed).await;
    let (facts, _) = read(&vault(&[&sealed, &standby, &leader], TOKEN)).await.unwrap();
    assert_eq!(fact(&facts, "address"), Some(&*leader.server.url()));
}

#[tokio::test]
async fn sealed_uninitialised_and_leaderless_vaults_are_told_apart() {
    let error = error_of(&vault(&[&start(Role::Sealed).await], TOKEN), TOKEN).await;
    assert!(matches!(error, SourceError::Sealed { .. }) && !error.is_transient(), "{error}");
    let error = error_of(&vault(&[&start(Role::Uninitialised).await], TOKEN), TOKEN).await;
    assert!(matches!(error, SourceError::Uninitialised { .. }), "{error}");
    let error = error_of(&vault(&[&start(Role::Standby(String::new())).await], TOKEN), TOKEN).await;
    assert!(matches!(error, SourceError::NoLeader { .. }) && error.is_transient(), "{error}");
    let nobody = Vault::new(vault_settings(&["http://127.0.0.1:1"], TOKEN), None, &mut |_| ()).unwrap();
    let error = error_of(&nobody, TOKEN).await;
    assert!(matches!(error, SourceError::Connect { .. }) && error.is_transient(), "{error}");
    assert!(error.hint().unwrap().contains("VAULT_ADDR"));
}

#[tokio::test]
async fn every_refusal_of_the_transcripts_has_its_hint() {
    for (token, status, message, hint) in [
        ("", 400, "missing client token", "VAULT_TOKEN"),
        (
            "s.AAAAAAAAAAAAAAAAAAAAAAAA",
            403,
            "permission denied",
            r#"path "sys/storage/raft/snapshot" { capabilities = ["read"] }"#,
        ),
        (TOKEN_LOW, 403, "permission denied", r#"path "sys/storage/raft/snapshot" { capabilities = ["read"] }"#),
    ] {
        let server = start(Role::Active).await;
        let mut settings = vault_settings(&[&server.server.url()], token);
        if token.is_empty() {
            settings.token = hah_vault::source::token::Token::None;
        }
        let error = error_of(&Vault::new(settings, None, &mut |_| ()).unwrap(), token).await;
        let SourceError::Refused { status: found, message: said, .. } = &error else { panic!("{error}") };
        assert_eq!(*found, status);
        assert!(said.contains(message) && error.hint().unwrap().contains(hint), "{error}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn other_answers_of_vault_are_explained() {
    for (reply, hint, transient) in [
        (json("400 Bad Request", r#"{"errors":["raft storage is not in use"]}"#), "integrated storage", false),
        (
            json("404 Not Found", r#"{"errors":["1 error occurred:\n\t* unsupported path\n\n"]}"#),
            "Vault's address",
            false,
        ),
        (json("502 Bad Gateway", ""), "proxy", true),
        (json("503 Service Unavailable", r#"{"errors":["no active Vault instance found"]}"#), "raft list-peers", true),
        (
            json(
                "500 Internal Server Error",
                r#"{"errors":["local node not active but active cluster node not found"]}"#,
            ),
            "raft list-peers",
            true,
        ),
    ] {
        let server = start(Role::Active).await;
        server.set(|s| s.refusals = vec![reply]);
        let error = error_of(&vault(&[&server], TOKEN), TOKEN).await;
        assert!(error.hint().unwrap().contains(hint), "{error}");
        assert_eq!(error.is_transient(), transient, "{error}");
    }
}

#[tokio::test]
async fn error_texts_are_printable_cut_and_without_the_token() {
    let server = start(Role::Active).await;
    let text = format!("\x1b[2J you sent {TOKEN} {}", "x".repeat(10_000));
    server.set(|s| s.refusals = vec![json("418 I am a teapot", &text)]);
    let error = error_of(&vault(&[&server], TOKEN), TOKEN).await.to_string();
    assert!(error.contains("you sent [redacted]") && error.len() < 400 && !error.contains('\x1b'), "{error}");
}

#[tokio::test]
async fn wrong_bodies_with_status_200_are_told_by_their_heads() {
    for (fault, seen) in [
        (Fault::Html, "text/html"),
        (Fault::GzipAgain { told: true }, "Content-Encoding gzip"),
        (Fault::Login, "not the same path"),
    ] {
        let server = start(Role::Active).await;
        server.set(|s| s.fault = fault);
        let error = error_of(&vault(&[&server], TOKEN), TOKEN).await;
        assert!(error.to_string().contains(seen), "{error}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn bodies_that_break_off_are_errors() {
    for (fault, len) in [(Fault::Cut(10_000), 10_000), (Fault::Length, snapshot_of("vault-02.snap").len())] {
        let server = start(Role::Active).await;
        server.set(|s| s.fault = fault);
        let error = error_of(&vault(&[&server], TOKEN), TOKEN).await;
        let SourceError::Broken { len_bytes, .. } = &error else { panic!("{error}") };
        assert_eq!(*len_bytes, len as u64);
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn silence_has_limits_and_length_has_none() {
    let server = start(Role::Active).await;
    server.set(|s| s.fault = Fault::SlowFirstByte(Duration::from_millis(1000)));
    read(&vault(&[&server], TOKEN)).await.expect("a slow first byte is waited for");
    for fault in [Fault::SlowFirstByte(Duration::from_secs(60)), Fault::Stall(10_000, Duration::from_secs(60))] {
        server.set(|s| s.fault = fault);
        let error = error_of(&vault(&[&server], TOKEN), TOKEN).await;
        assert!(matches!(error, SourceError::Silent { .. }) && error.is_transient(), "{error}");
    }
}
