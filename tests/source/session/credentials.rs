//! Credentials of the secrets engines, and their way to Consul and Nomad.

use super::*;
use crate::source::{consul_settings, nomad_settings, read, snapshot_of};
use crate::support::consul_stand_in::ConsulStandIn;
use crate::support::nomad_server::NomadServer;
use crate::support::vault_cluster::{Grant, ROOT, Trouble};
use crate::support::vault_server::json;
use hah_vault::source::catalog::Query;
use hah_vault::source::settings::FreshToken;
use hah_vault::source::{Consul, Nomad, ServiceKind};

/// As for fresh tokens, in less time.
const FRESH: FreshToken = FreshToken { delay: Duration::from_millis(5), ..FreshToken::JUST_MADE };

#[tokio::test]
async fn tokens_of_consul_and_nomad_work_before_they_are_everywhere_and_are_revoked() {
    let (cluster, vault) = start().await;
    let session = open(&vault, approle());
    let consul = ConsulStandIn::start(&cluster, &snapshot_of("consul-00.snap")).await;
    let nomad = NomadServer::start(&snapshot_of("nomad-00.snap")).await;
    nomad.set(|state| state.cluster = Some(cluster.clone()));
    let consul_token = session.consul_token("consul/creds/backup").await.unwrap();
    let nomad_token = session.nomad_token("/v1/nomad/creds/backup").await.unwrap();
    for unknown_times in [0, 5] {
        // Looking at the agent is refused too.
        consul.set(|state| state.unknown_times = unknown_times + usize::from(unknown_times > 0));
        nomad.set(|state| state.unknown_times = unknown_times);
        let mut settings = consul_settings(&[&consul.server.url()], consul_token.expose());
        settings.fresh_token = FRESH;
        read(&Consul::new(settings, &mut |_| ()).unwrap()).await.unwrap();
        let mut settings = nomad_settings(&[&nomad.server.url()], nomad_token.expose());
        settings.fresh_token = FRESH;
        read(&Nomad::new(settings, None, &mut |_| ()).unwrap()).await.unwrap();
    }
    close_clean(&session, &cluster).await;
    assert!(!cluster.knows(consul_token.expose()) && !cluster.knows(nomad_token.expose()));
    let revoked: Vec<_> = cluster.log().into_iter().filter(|line| line.ends_with(" revoked")).collect();
    assert_eq!(revoked.len(), 3, "each by itself, and the token: {revoked:?}");
}

#[tokio::test]
async fn a_fresh_token_may_look_into_the_catalog() {
    let (cluster, vault) = start().await;
    let session = open(&vault, approle());
    let consul = ConsulStandIn::start(&cluster, b"").await;
    let token = session.consul_token("consul/creds/backup").await.unwrap();
    consul.set(|state| {
        state.unknown_times = 3;
        state.services = vec![("nomad".into(), "10.0.0.1".into(), 4646)];
    });
    let mut settings = consul_settings(&[&consul.server.url()], token.expose());
    settings.fresh_token = FRESH;
    let query = Query::parse("consul://service/nomad", ServiceKind::Nomad).unwrap();
    let found = Consul::new(settings, &mut |_| ()).unwrap().instances(&query).await.unwrap();
    assert_eq!(found[0].to_string(), "http://10.0.0.1:4646");
}

#[tokio::test]
async fn keys_of_aws_come_with_or_without_a_session_token() {
    let (cluster, server) = start().await;
    let session = open(&server, approle());
    let user = session.aws_credentials("aws/creds/backup").await.unwrap();
    assert_eq!((user.access_key_id.expose(), user.session_token.is_none()), ("ASIAEXAMPLE", true));
    assert_eq!(user.lifetime, Duration::from_secs(600));
    let sts = session.aws_credentials("aws/sts/backup?ttl=15m").await.unwrap();
    assert!(sts.session_token.unwrap().expose().starts_with("session-of-"));
    assert_eq!(server.server.requests_of("/v1/aws/sts/backup")[0].query, "ttl=15m");
    close_clean(&session, &cluster).await;
}

#[tokio::test]
async fn engines_that_make_nothing_say_why() {
    let down =
        r#"{"errors":["Put \"http://127.0.0.1:1/v1/acl/token\": dial tcp 127.0.0.1:1: connect: connection refused"]}"#;
    let unknown = r#"{"errors":["Unexpected response code: 403 (ACL not found)"]}"#;
    for (answer, path, transient, hint) in [
        (None, "consul/creds/nosuch", false, "is there a role nosuch at consul"),
        (None, "nosuch/creds/backup", false, "is there a role backup at nosuch"),
        (Some(down), "consul/creds/backup", true, "Vault cannot reach the server"),
        (Some(unknown), "consul/creds/backup", false, "consul/config/access"),
    ] {
        let (cluster, server) = start().await;
        if let Some(body) = answer {
            cluster.trouble(path, 1, Trouble::Answer(json("400 Bad Request", body)));
        }
        let session = open(&server, approle());
        let error = session.consul_token(path).await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{error}");
        assert!(error.hint().unwrap().contains(hint), "{error} {:?}", error.hint());
        assert!(matches!(reason(error), SessionError::EngineRefused { .. }));
        close_clean(&session, &cluster).await;
    }
    let (cluster, server) = start().await;
    cluster.set(|state| state.denied = vec!["nomad/*".into()]);
    let error = open(&server, approle()).nomad_token("nomad/creds/backup").await.unwrap_err();
    assert!(error.hint().unwrap().contains(r#"path "nomad/creds/backup" { capabilities = ["read"] }"#), "{error}");
}

#[tokio::test]
async fn a_given_tokens_leases_are_revoked_and_the_token_is_not() {
    let (cluster, server) = start().await;
    let session = open(&server, Login::Token(given(ROOT)));
    session.consul_token("consul/creds/backup").await.unwrap();
    close_clean(&session, &cluster).await;
    assert!(server.server.requests_of("/v1/auth/token/revoke-self").is_empty());
    assert!(
        String::from_utf8_lossy(&server.server.requests_of("/v1/sys/leases/revoke")[0].body).contains("\"sync\":true")
    );
}

#[tokio::test]
async fn a_batch_token_is_neither_renewed_nor_revoked_but_its_leases_are() {
    let (cluster, server) = start().await;
    cluster.set(|state| {
        state.is_batch = true;
        state.grant = Grant { ttl_s: 1, max_ttl_s: 1, renewable: true };
    });
    let session = open(&server, approle());
    session.consul_token("consul/creds/backup").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    close_clean(&session, &cluster).await;
    for path in ["/v1/auth/token/revoke-self", "/v1/auth/token/renew-self"] {
        assert!(server.server.requests_of(path).is_empty());
    }
}
