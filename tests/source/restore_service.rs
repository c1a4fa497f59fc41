//! Snapshots from a repository back into servers: two passes, and the truth afterwards.

use super::{nomad_settings, vault_settings};
use crate::support::nomad_server::{self, NomadServer};
use crate::support::repo::{TestRepository, fixture};
use crate::support::vault_server::{Role, TOKEN, VaultServer};
use hah_vault::archive::restore_service::{Concern, ServicePlan, next_steps, plan};
use hah_vault::archive::{ArchiveError, Cancel};
use hah_vault::source::restore::Settled;
use hah_vault::source::{Nomad, SourceError, Target, Vault};
use hah_vault::store::{MemoryStore, Store};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

fn nomad(server: &NomadServer, token: &str) -> Nomad {
    Nomad::new(nomad_settings(&[&server.server.url()], token), None, &mut |_| ()).unwrap()
}

fn vault(server: &VaultServer) -> Vault {
    Vault::new(vault_settings(&[&server.server.url()], TOKEN), None, &mut |_| ()).unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

fn tar_of(name: &str) -> Vec<u8> {
    gunzip(&std::fs::read(fixture(name)).unwrap())
}

async fn planned(test: &TestRepository, source: &str, target: &dyn Target) -> Result<ServicePlan, ArchiveError> {
    let name = test.repository.resolve(&format!("{source}@latest")).await?;
    plan(&test.repository, &name, target, true).await
}

async fn run(test: &TestRepository, plan: &ServicePlan, target: &dyn Target) -> Result<Settled, ArchiveError> {
    let cancel = Cancel::default();
    let rehearsed = plan.rehearse(&test.repository, &cancel).await?;
    rehearsed.execute(&test.repository, target, LIMIT, &cancel).await
}

#[tokio::test]
async fn a_snapshot_goes_back_into_its_server_whether_it_was_gzip_or_a_plain_tar() {
    let server = NomadServer::start(b"").await;
    let target = nomad(&server, nomad_server::TOKEN);
    let test = TestRepository::in_memory().await;
    for original in [std::fs::read(fixture("nomad-02.snap")).unwrap(), tar_of("nomad-02.snap")] {
        test.backup_bytes("nomad", &original).await.unwrap();
        let plan = planned(&test, "nomad", &target).await.unwrap();
        assert_eq!(plan.preflight.index, Some(15));
        let settled = run(&test, &plan, &target).await.unwrap();
        assert!(matches!(settled, Settled::Active { .. }));
        let restored = server.state.lock().unwrap().restored.take().unwrap();
        assert!(gunzip(&restored) == tar_of("nomad-02.snap"));
        assert!(next_steps(&plan, &settled, false).len() >= 3);
    }
}

#[tokio::test]
async fn nothing_is_sent_of_a_snapshot_that_does_not_pass_the_first_pass() {
    let store = Arc::new(MemoryStore::new());
    let test = TestRepository::create(store.clone()).await;
    let server = NomadServer::start(b"").await;
    let target = nomad(&server, nomad_server::TOKEN);
    test.backup("nomad", &fixture("nomad-02.snap")).await.unwrap();
    let plan = planned(&test, "nomad", &target).await.unwrap();
    store.delete(&plan.manifest.packs[0].id.pack_key()).await.unwrap();
    run(&test, &plan, &target).await.expect_err("a pack is gone");
    assert!(server.server.requests_of(nomad_server::PATH).is_empty());
}

/// A snapshot with other bytes behind its state, and hashes and lengths that fit.
fn with_behind_its_state(name: &str, more: &[u8]) -> Vec<u8> {
    let tar = tar_of(name);
    let member = |name: &str| {
        let mut archive = tar::Archive::new(&tar[..]);
        let found = archive.entries().unwrap().map(Result::unwrap).find(|entry| entry.path().unwrap().ends_with(name));
        let mut bytes = Vec::new();
        found.unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let mut meta: serde_json::Value = serde_json::from_slice(&member("meta.json")).unwrap();
    let mut bytes = member("state.bin");
    bytes.extend_from_slice(more);
    meta["Size"] = bytes.len().into();
    let meta = meta.to_string().into_bytes();
    let sum = |name: &str, bytes: &[u8]| {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}  {name}\n")
    };
    let sums = sum("meta.json", &meta) + &sum("state.bin", &bytes);
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in [("meta.json", &meta[..]), ("state.bin", &bytes), ("SHA256SUMS", sums.as_bytes())] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn a_state_that_would_crash_the_server_is_sent_only_by_force() {
    let test = TestRepository::in_memory().await;
    let server = NomadServer::start(b"").await;
    let target = nomad(&server, nomad_server::TOKEN);
    // Every hash is right, and after the last record comes what is none: 0xc1 is not msgpack.
    test.backup_bytes("nomad", &with_behind_its_state("nomad-02.snap", &[0, 0xc1, 1, 2])).await.unwrap();
    let name = test.repository.resolve("nomad@latest").await.unwrap();
    let (careful, forced) =
        (plan(&test.repository, &name, &target, false).await, planned(&test, "nomad", &target).await);
    let error = run(&test, &careful.unwrap(), &target).await.expect_err("refused").to_string();
    assert!(error.contains("4 bytes of its state are no records"), "{error}");
    assert!(server.server.requests_of(nomad_server::PATH).is_empty());
    forced.unwrap().rehearse(&test.repository, &Cancel::default()).await.expect("by force");
}

#[tokio::test]
async fn a_second_pass_that_fails_leaves_no_whole_request() {
    let store = Arc::new(MemoryStore::new());
    let test = TestRepository::create(store.clone()).await;
    let server = NomadServer::start(b"").await;
    let target = nomad(&server, nomad_server::TOKEN);
    test.backup("nomad", &fixture("nomad-02.snap")).await.unwrap();
    let plan = planned(&test, "nomad", &target).await.unwrap();
    let rehearsed = plan.rehearse(&test.repository, &Cancel::default()).await.unwrap();
    store.delete(&plan.manifest.packs[0].id.pack_key()).await.unwrap();
    let error = rehearsed.execute(&test.repository, &target, LIMIT, &Cancel::default()).await.expect_err("gone");
    assert!(matches!(error, ArchiveError::Store(_)), "{error}");
    assert!(!server.server.requests_of(nomad_server::PATH).iter().any(|request| request.is_whole));
    assert_eq!(server.state.lock().unwrap().restored, None);
}

#[tokio::test]
async fn a_snapshot_of_another_service_or_a_token_without_the_right_is_refused_before_anything_is_sent() {
    let test = TestRepository::in_memory().await;
    test.backup("consul", &fixture("consul-02.snap")).await.unwrap();
    test.backup("vault", &fixture("vault-02.snap")).await.unwrap();
    let nomad_server = NomadServer::start(b"").await;
    let error = planned(&test, "consul", &nomad(&nomad_server, nomad_server::TOKEN)).await.expect_err("kind");
    assert!(error.to_string().contains("not a snapshot of Nomad"), "{error}");
    // The stand-in allows snapshot and denies snapshot-force, which `planned` asks for.
    let vault_server = VaultServer::start(Role::Active, b"").await;
    let error = planned(&test, "vault", &vault(&vault_server)).await.expect_err("denied");
    assert!(error.to_string().contains("may not restore"), "{error}");
}

#[tokio::test]
async fn what_the_server_says_is_told_rather_than_that_the_pipe_broke() {
    let test = TestRepository::in_memory().await;
    test.backup("vault", &fixture("vault-02.snap")).await.unwrap();
    let server = VaultServer::start(Role::Active, b"").await;
    let target = vault(&server);
    let name = test.repository.resolve("vault@latest").await.unwrap();
    let plan = plan(&test.repository, &name, &target, false).await.unwrap();
    // An index of 30 is far behind the snapshot's: nothing to be concerned of but what the labels do not tell.
    assert!(!plan.concerns.iter().any(|c| matches!(c, Concern::OlderThanTarget { .. })), "{:?}", plan.concerns);
    let error = run(&test, &plan, &target).await.expect_err("other keys");
    let ArchiveError::Target { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, SourceError::Refused { status: 400, .. }), "{source}");
    assert!(error.hint().unwrap().contains("--force"));
}
