//! The way back into stand-ins: what is taken, what is refused, what comes after.

use super::{nomad_settings, snapshot_of, vault_settings};
use crate::support::nomad_server::{self, NomadServer};
use crate::support::vault_server::{CLUSTER_ID, Role, TOKEN, TOKEN_LOW, VaultServer};
use hah_vault::source::restore::{Preflight, Settled};
use hah_vault::source::{Nomad, SourceError, Target, Vault};
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

fn vault(server: &VaultServer, token: &str) -> Vault {
    Vault::new(vault_settings(&[&server.server.url()], token), None, &mut |_| ()).unwrap()
}

fn nomad(server: &NomadServer, token: &str) -> Nomad {
    Nomad::new(nomad_settings(&[&server.server.url()], token), None, &mut |_| ()).unwrap()
}

/// Sends a body, and gives what the writer and what the server say.
async fn send(
    target: &dyn Target,
    preflight: &Preflight,
    body: Vec<u8>,
    force: bool,
    whole: bool,
) -> (std::io::Result<()>, Result<(), SourceError>) {
    let (mut writer, restoring) = target.restore(&preflight.address, force).await.unwrap();
    let writing = tokio::task::spawn_blocking(move || {
        writer.write_all(&body)?;
        if whole { writer.finish() } else { Ok(()) }
    });
    let (written, answered) = tokio::join!(writing, restoring.wait());
    (written.unwrap(), answered)
}

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn vault_is_asked_takes_the_body_and_comes_back() {
    let bytes = snapshot_of("vault-02.snap");
    let leader = VaultServer::start(Role::Active, &bytes).await;
    let standby = VaultServer::start(Role::Standby(leader.server.url()), &bytes).await;
    let vault = vault(&standby, TOKEN);
    let preflight = vault.preflight().await.unwrap();
    assert_eq!(preflight.address.to_string(), leader.server.url());
    assert_eq!(preflight.cluster_id.as_deref(), Some(CLUSTER_ID));
    assert_eq!((preflight.index, preflight.version.as_deref()), (Some(30), Some("1.8.0-dev")));
    assert_eq!((preflight.is_permitted, preflight.is_force_permitted), (Some(true), Some(false)));
    let (written, answered) = send(&vault, &preflight, bytes.clone(), false, true).await;
    written.unwrap();
    answered.unwrap();
    assert!(leader.state.lock().unwrap().restored.as_ref() == Some(&bytes));
    let settled = vault.settle(&preflight.address, LIMIT).await.unwrap();
    assert_eq!(settled, Settled::Active { cluster_id: Some(CLUSTER_ID.into()), index: None });
}

#[tokio::test]
async fn a_snapshot_with_other_keys_needs_force_and_leaves_vault_sealed() {
    let server = VaultServer::start(Role::Active, &snapshot_of("vault-02.snap")).await;
    let vault = vault(&server, TOKEN);
    let preflight = vault.preflight().await.unwrap();
    let other = snapshot_of("vault-00.snap");
    let (_, answered) = send(&vault, &preflight, other.clone(), false, true).await;
    let error = answered.expect_err("other keys");
    assert!(error.hint().unwrap().contains("--force"), "{error}");
    let (_, answered) = send(&vault, &preflight, other, true, true).await;
    answered.unwrap();
    assert_eq!(vault.settle(&preflight.address, LIMIT).await.unwrap(), Settled::Sealed);
}

#[tokio::test]
async fn a_body_that_is_broken_off_is_never_taken_for_whole() {
    let bytes = snapshot_of("nomad-02.snap");
    let server = NomadServer::start(&bytes).await;
    let nomad = nomad(&server, nomad_server::TOKEN);
    let preflight = nomad.preflight().await.unwrap();
    // All of it, but whoever wrote it found out at the end that it is not what it should be.
    let (written, answered) = send(&nomad, &preflight, bytes, false, false).await;
    written.unwrap();
    assert!(answered.is_err());
    assert_eq!(server.state.lock().unwrap().restored, None);
    assert!(!server.server.requests_of(nomad_server::PATH).iter().any(|r| r.is_whole));
}

#[tokio::test]
async fn a_refusal_stops_the_writer_and_says_why() {
    let server = VaultServer::start(Role::Active, b"").await;
    let vault = vault(&server, TOKEN_LOW);
    let preflight = vault.preflight().await.unwrap();
    for force in [false, true] {
        let started = Instant::now();
        let (written, answered) = send(&vault, &preflight, vec![0x1f; 64 << 20], force, true).await;
        assert_eq!(written.expect_err("nobody takes it").kind(), ErrorKind::BrokenPipe);
        let error = answered.expect_err("refused");
        // The refusal, unless the connection broke before it could be read.
        if let SourceError::Refused { .. } = &error {
            let path = if force { "snapshot-force\"" } else { "snapshot\"" };
            assert!(error.hint().unwrap().contains(path), "{error}");
        } else {
            assert!(matches!(error, SourceError::Broken { .. }), "{error}");
        }
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_restore_never_follows_a_redirect() {
    let leader = VaultServer::start(Role::Active, b"").await;
    let server = VaultServer::start(Role::Active, b"").await;
    let vault = vault(&server, TOKEN);
    let preflight = vault.preflight().await.unwrap();
    server.set(|s| s.role = Role::Standby(leader.server.url()));
    let (_, answered) = send(&vault, &preflight, snapshot_of("vault-00.snap"), false, true).await;
    let error = answered.expect_err("moved");
    assert!(matches!(error, SourceError::Redirect { .. }), "{error}");
    assert!(leader.server.requests().is_empty());
}

#[tokio::test]
async fn nomad_is_asked_takes_the_body_and_comes_back() {
    let bytes = snapshot_of("nomad-02.snap");
    let server = NomadServer::start(&bytes).await;
    let nomad = nomad(&server, nomad_server::TOKEN);
    let preflight = nomad.preflight().await.unwrap();
    assert_eq!((preflight.index, preflight.is_permitted), (Some(15), Some(true)));
    let (written, answered) = send(&nomad, &preflight, bytes.clone(), false, true).await;
    written.unwrap();
    answered.unwrap();
    assert!(server.state.lock().unwrap().restored.as_ref() == Some(&bytes));
    let settled = nomad.settle(&preflight.address, LIMIT).await.unwrap();
    assert_eq!(settled, Settled::Active { cluster_id: None, index: Some(15) });
    server.set(|s| s.has_leader = false);
    let error = nomad.settle(&preflight.address, Duration::from_millis(500)).await.expect_err("no leader");
    assert!(matches!(error, SourceError::Unsettled { .. }), "{error}");
    assert!(matches!(nomad.preflight().await, Err(SourceError::NoLeader { .. })));
}

#[tokio::test]
async fn nomads_racy_refusal_points_at_the_token() {
    let server = NomadServer::start(b"").await;
    server.set(|s| s.race = true);
    let nomad = nomad(&server, nomad_server::TOKEN_LOW);
    let preflight = nomad.preflight().await.unwrap();
    let (_, answered) = send(&nomad, &preflight, vec![0x1f, 0x8b], false, true).await;
    let error = answered.expect_err("refused");
    assert!(error.hint().unwrap().contains("NOMAD_TOKEN"), "{error}");
}

#[tokio::test]
async fn a_sealed_vault_is_no_target() {
    let server = VaultServer::start(Role::Sealed, b"").await;
    assert!(matches!(vault(&server, TOKEN).preflight().await, Err(SourceError::Sealed { .. })));
}
