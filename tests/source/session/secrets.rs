//! Secrets in key-value stores of both versions.

use super::*;
use crate::support::vault_cluster::Trouble;
use crate::support::vault_server::json;

#[tokio::test]
async fn stores_of_both_versions_are_told_apart_by_their_mount() {
    let (cluster, server) = start().await;
    let session = open(&server, approle());
    for (path, last) in [
        ("kv1/app", "example secret 0"),
        ("/kv1/app", "example secret 0"),
        ("secret/app/s3", "example secret 3"),
        ("secret/app/s3?version=1", "example secret 1"),
    ] {
        let secrets = session.secrets(path).await.unwrap();
        assert_eq!(secrets.get("secret_access_key").unwrap().expose(), last, "{path}");
        assert_eq!(secrets.get("bucket").unwrap().expose(), "backups");
        assert_eq!(secrets.names().collect::<Vec<_>>(), ["access_key_id", "bucket", "secret_access_key"]);
        assert!(!format!("{secrets:?}").contains("example"));
    }
    // Each mount is asked about once.
    let asked = server.server.requests();
    let about = asked.iter().filter(|request| request.path.starts_with("/v1/sys/internal/ui/mounts/")).count();
    assert_eq!(about, 2);
    close_clean(&session, &cluster).await;
}

#[tokio::test]
async fn a_vault_that_does_not_know_mounts_has_version_1() {
    let (cluster, server) = start().await;
    cluster.set(|state| state.knows_mounts = false);
    let session = open(&server, approle());
    assert_eq!(session.secrets("kv1/app").await.unwrap().get("bucket").unwrap().expose(), "backups");
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let (cluster, server) = start().await;
    let session = open(&server, approle());
    let error = async |path: &str| session.secrets(path).await.unwrap_err();
    for (path, words, hint) in [
        ("kv1/nosuch", "has no secret at kv1/nosuch", "vault kv get"),
        ("secret/nosuch", "has no secret at secret/nosuch", "vault kv get"),
        ("secret/data/app/s3", "has no secret", "leave data/ out of the path: secret/app/s3"),
        ("secret/app/s3?version=2", "version 2 of the secret secret/app/s3?version=2 was deleted at 2026", "undelete"),
        ("secret/app/gone?version=1", "was destroyed", "vault kv put"),
        ("secret/app/gone", "version 2 of the secret secret/app/gone was deleted", "undelete"),
        ("secret/app/s3?version=9", "has no secret", ""),
        ("nosuch/app", "refused nosuch/app", "nothing is mounted there"),
        ("consul/creds", "of type consul, not a key-value store", "vault secrets list"),
    ] {
        let error = error(path).await;
        let found = error.hint().unwrap();
        assert!(error.to_string().contains(words) && found.contains(hint), "{path}: {error} {found}");
        assert!(!error.is_transient());
    }
    assert!(error("secret/").await.to_string().contains("it is a mount"));
    assert!(error("secret/../sys").await.to_string().contains("not a path"));
    let secrets = session.secrets("secret/app/s3").await.unwrap();
    let error = secrets.get("writer_key").unwrap_err().to_string();
    let expected = "the secret secret/app/s3 has no field writer_key; it has access_key_id, bucket, secret_access_key";
    assert_eq!(error, expected);
    close_clean(&session, &cluster).await;
}

#[tokio::test]
async fn what_is_not_allowed_names_the_policy_and_costs_no_second_login() {
    let (cluster, server) = start().await;
    cluster.set(|state| state.denied = vec!["secret/data/app/s3".into()]);
    let session = open(&server, approle());
    let error = session.secrets("secret/app/s3").await.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains(r#"path "secret/data/app/s3" { capabilities = ["read"] }"#), "{hint}");
    assert!(matches!(reason(error), SessionError::Denied { .. }));
    // The token had worked before, so Vault is asked whether it still knows it: it does.
    assert_eq!(server.server.requests_of("/v1/auth/approle/login").len(), 1);
    close_clean(&session, &cluster).await;
}

#[tokio::test]
async fn an_error_page_that_repeats_the_request_gives_nothing_away() {
    let (cluster, server) = start().await;
    let page = format!("you sent {SECRET_ID} and {ROLE_ID}");
    cluster.trouble("auth/approle", 1, Trouble::Answer(json("418 I am a teapot", &page)));
    let error = open(&server, approle()).token().await.unwrap_err();
    assert!(error.to_string().contains("you sent [redacted] and [redacted]"), "{error}");
    assert_no_secret(&cluster, &shown(&error));
}
