//! Servers through the whole backup: what fails leaves no manifest, what passes is taken again.

use super::{nomad_settings, snapshot_of, vault_settings};
use crate::support::nomad_server::{self, NomadServer};
use crate::support::repo::TestRepository;
use crate::support::service_server::{Fault, Reply};
use crate::support::vault_server::{self, PATH, Role, TOKEN, VaultServer, json};
use hah_vault::archive::backup::{BackupOptions, BackupReport, Input, SourceSpec, backup};
use hah_vault::archive::{ArchiveError, Cancel};
use hah_vault::source::{Nomad, Service, Vault};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn vault(server: &VaultServer) -> Arc<dyn Service> {
    Arc::new(Vault::new(vault_settings(&[&server.server.url()], TOKEN), None, &mut |_| ()).unwrap())
}

fn nomad(server: &NomadServer) -> Arc<dyn Service> {
    let settings = nomad_settings(&[&server.server.url()], nomad_server::TOKEN);
    Arc::new(Nomad::new(settings, None, &mut |_| ()).unwrap())
}

fn options(retries: usize) -> BackupOptions {
    BackupOptions { service_retry_delays: vec![Duration::from_millis(10); retries], ..BackupOptions::default() }
}

async fn back_up(
    test: &TestRepository,
    name: &str,
    service: &Arc<dyn Service>,
    options: &BackupOptions,
) -> Result<BackupReport, ArchiveError> {
    let spec = SourceSpec { name: name.parse().unwrap(), input: Input::Service(Arc::clone(service)) };
    backup(&test.repository, vec![spec], options, &Cancel::default()).await.unwrap().remove(0).1
}

fn chain(error: &ArchiveError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn a_served_snapshot_comes_back_byte_for_byte_with_its_labels() {
    let server = VaultServer::start(Role::Active, &snapshot_of("vault-02.snap")).await;
    let test = TestRepository::in_memory().await;
    let report = back_up(&test, "home", &vault(&server), &options(0)).await.unwrap();
    let labels: Vec<(&str, &str)> =
        report.manifest.labels.iter().map(|label| (label.key.as_str(), label.value.as_str())).collect();
    let url = server.server.url();
    assert_eq!(
        labels,
        [
            ("address", &*url),
            ("cluster-id", vault_server::CLUSTER_ID),
            ("cluster-name", "vault-cluster-2a1f9725"),
            ("server-version", "1.8.0-dev"),
        ]
    );
    assert!(test.restore_latest("home").await.unwrap().0 == snapshot_of("vault-02.snap"));
    assert_eq!(test.recorder.warnings(), Vec::<String>::new());
}

#[tokio::test]
async fn no_faulty_answer_becomes_a_manifest() {
    let bytes = snapshot_of("vault-02.snap");
    let len = bytes.len();
    for (fault, says) in [
        (Fault::Cut(10_000), "broke off after"),
        (Fault::CutClean(10_000), "cut off"),
        (Fault::CutClean(len - 4), "cut off"),
        (Fault::CutClean(0), "empty"),
        (Fault::TextAfter(len, "rpc error making call: leadership lost"), "leadership lost"),
        (Fault::TextAfter(20_000, "rpc error making call: leadership lost"), "leadership lost"),
        (Fault::Http10(10_000), "cut off"),
        (Fault::Http10(len - 8), "cut off"),
        (Fault::Length, "broke off after"),
        (Fault::GzipAgain { told: false }, "gzip of something else"),
        (Fault::GzipAgain { told: true }, "Content-Encoding"),
        (Fault::Html, "text/html"),
        (Fault::Stall(10_000, Duration::from_secs(60)), "silent"),
    ] {
        let server = VaultServer::start(Role::Active, &bytes).await;
        server.set(|s| s.fault = fault.clone());
        let test = TestRepository::in_memory().await;
        let error = back_up(&test, "vault", &vault(&server), &options(0)).await.expect_err("an error");
        let text = chain(&error);
        assert!(text.contains(says) && text.starts_with("vault: not backed up"), "{fault:?}: {text}");
        assert!(!text.contains(TOKEN) && error.hint().is_some(), "{fault:?}: {text}");
        assert!(test.repository.list_manifests(None).await.unwrap().is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_digest_that_does_not_match_keeps_a_sound_archive_from_being_committed() {
    let server = NomadServer::start(&snapshot_of("nomad-02.snap")).await;
    server.set(|s| s.digest = nomad_server::DigestHeader::OfSomethingElse);
    let test = TestRepository::in_memory().await;
    let error = back_up(&test, "nomad", &nomad(&server), &options(0)).await.expect_err("an error");
    assert!(chain(&error).contains("Digest does not match"), "{}", chain(&error));
    assert!(test.repository.list_manifests(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_whole_snapshot_without_a_length_is_taken_with_a_warning() {
    let bytes = snapshot_of("vault-02.snap");
    let server = VaultServer::start(Role::Active, &bytes).await;
    server.set(|s| s.fault = Fault::Http10(bytes.len()));
    let test = TestRepository::in_memory().await;
    back_up(&test, "vault", &vault(&server), &options(0)).await.unwrap();
    assert!(test.recorder.warnings()[0].contains("HTTP/1.0"));
}

#[tokio::test]
async fn a_passing_failure_takes_the_whole_snapshot_again_and_a_lasting_one_does_not() {
    let bytes = snapshot_of("vault-02.snap");
    let server = VaultServer::start(Role::Active, &bytes).await;
    let cut = Reply::archive(&[("Content-Type", "application/gzip")], &bytes, &Fault::CutClean(9_000), TOKEN);
    server.set(|s| s.refusals = vec![json("500 Internal Server Error", r#"{"errors":[]}"#), cut]);
    let test = TestRepository::in_memory().await;
    back_up(&test, "vault", &vault(&server), &options(2)).await.unwrap();
    assert_eq!(server.server.requests_of(PATH).len(), 3);
    assert_eq!(test.recorder.warnings().iter().filter(|text| text.contains("again")).count(), 2);
    assert!(test.restore_latest("vault").await.unwrap().0 == bytes);

    server.set(|s| s.refusals = vec![json("403 Forbidden", r#"{"errors":["permission denied"]}"#)]);
    back_up(&test, "vault", &vault(&server), &options(2)).await.expect_err("refused");
    assert_eq!(server.server.requests_of(PATH).len(), 4);
}

#[tokio::test]
async fn tries_are_bounded() {
    let server = VaultServer::start(Role::Active, b"").await;
    server.set(|s| s.fault = Fault::CutClean(0));
    let test = TestRepository::in_memory().await;
    back_up(&test, "vault", &vault(&server), &options(3)).await.expect_err("empty");
    assert_eq!(server.server.requests_of(PATH).len(), 4);
}

#[tokio::test]
async fn the_others_are_backed_up_when_one_fails() {
    let good = NomadServer::start(&snapshot_of("nomad-02.snap")).await;
    let bad = VaultServer::start(Role::Sealed, b"").await;
    let test = TestRepository::in_memory().await;
    let spec = |name: &str, service| SourceSpec { name: name.parse().unwrap(), input: Input::Service(service) };
    let sources = vec![spec("vault", vault(&bad)), spec("nomad", nomad(&good))];
    let outcomes = backup(&test.repository, sources, &options(0), &Cancel::default()).await.unwrap();
    assert!(outcomes[0].1.is_err());
    assert!(outcomes[1].1.is_ok());
}

#[tokio::test]
async fn a_shrunken_snapshot_a_lower_index_and_another_cluster_are_warned_of() {
    let test = TestRepository::in_memory().await;
    let server = NomadServer::start(&snapshot_of("nomad-02.snap")).await;
    back_up(&test, "nomad", &nomad(&server), &options(0)).await.unwrap();
    server.set(|s| s.snapshot = snapshot_of("nomad-00.snap"));
    let options = BackupOptions { shrink_warn_below_percent: 90, ..options(0) };
    back_up(&test, "nomad", &nomad(&server), &options).await.unwrap();
    let warnings = test.recorder.warnings();
    assert!(warnings.iter().any(|text| text.contains("less than 90 %")), "{warnings:?}");
    assert!(warnings.iter().any(|text| text.contains("index went back")), "{warnings:?}");

    let server = VaultServer::start(Role::Active, &snapshot_of("vault-02.snap")).await;
    back_up(&test, "vault", &vault(&server), &options).await.unwrap();
    server.set(|s| s.cluster_id = "b6168a0f-b849-e5be-2b01-f0490867e849".into());
    back_up(&test, "vault", &vault(&server), &options).await.unwrap();
    let warnings = test.recorder.warnings();
    assert!(warnings.iter().any(|text| text.contains("b6168a0f")), "{warnings:?}");
}

#[tokio::test]
async fn a_backup_of_a_silent_server_is_interrupted_at_once() {
    for fault in [Fault::SlowFirstByte(Duration::from_secs(60)), Fault::Stall(20_000, Duration::from_secs(60))] {
        let server = VaultServer::start(Role::Active, &snapshot_of("vault-02.snap")).await;
        server.set(|s| s.fault = fault);
        let mut settings = vault_settings(&[&server.server.url()], TOKEN);
        settings.reach.patience.first_byte = Duration::from_secs(60);
        settings.reach.patience.gap = Duration::from_secs(60);
        let service: Arc<dyn Service> = Arc::new(Vault::new(settings, None, &mut |_| ()).unwrap());
        let test = TestRepository::in_memory().await;
        let (cancel, started) = (Cancel::default(), Instant::now());
        let spec = SourceSpec { name: "vault".parse().unwrap(), input: Input::Service(service) };
        let options = options(3);
        let running = backup(&test.repository, vec![spec], &options, &cancel);
        let stop = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cancel.cancel();
        };
        let (outcomes, ()) = tokio::join!(running, stop);
        let error = outcomes.unwrap().remove(0).1.expect_err("interrupted");
        assert!(matches!(error, ArchiveError::Interrupted), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
