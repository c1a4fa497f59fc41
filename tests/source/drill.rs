//! Drills: into a throwaway Consul where there is one, and into stand-ins that are in use.

use super::{consul_settings, nomad_settings};
use crate::support::consul_server::{ConsulServer, consul};
use crate::support::nomad_server::{self, NomadServer};
use crate::support::repo::{TestRepository, fixture};
use hah_vault::archive::drill::{DrillError, DrillTarget, Throwaway, Verdict, drill};
use hah_vault::archive::{ArchiveError, Cancel};
use hah_vault::source::restore::Settled;
use hah_vault::source::{Consul, Nomad};
use std::path::Path;

const MASTER: &str = "11111111-2222-3333-4444-555555555555";

async fn backed_up(source: &str, name: &str) -> (TestRepository, hah_vault_format::Manifest) {
    let test = TestRepository::in_memory().await;
    let manifest = test.backup(source, &fixture(name)).await.unwrap().manifest;
    (test, manifest)
}

fn drill_error(error: ArchiveError) -> DrillError {
    let ArchiveError::Drill { source, .. } = error else { panic!("{error:?}") };
    *source
}

#[tokio::test]
async fn what_comes_back_in_a_throwaway_consul_is_what_the_manifest_counts_and_nothing_stays() {
    let Some(program) = consul() else { return };
    let (test, manifest) = backed_up("consul", "consul-02.snap").await;
    let server = Throwaway::start(&program, &manifest, &Cancel::default()).await.unwrap();
    let folder = server.folder().to_owned();
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    assert!(config.contains("127.0.0.1") && !config.contains("0.0.0.0"), "loopback only");
    let target = DrillTarget { target: server.consul(), service: server.consul(), is_throwaway: true };
    let report = drill(&test.repository, &manifest.name, target, &Cancel::default()).await.unwrap();
    let counted = report.counted.as_ref().unwrap();
    println!("{counted:#?}");
    assert!(!report.is_short());
    assert_eq!(report.server_version.as_deref(), Some("1.8.7"));
    let of = |what: &str| counted.iter().find(|c| c.what == what).map(|c| (c.expected, c.found, c.verdict)).unwrap();
    assert_eq!(of("keys"), (71, 71, Verdict::Same));
    assert_eq!(of("ACL policies").2, Verdict::Same);
    // The throwaway's own token comes on top (facts 8).
    assert_eq!(of("ACL tokens"), (10, 11, Verdict::More));
    drop(server);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_program_that_is_no_consul_is_refused_and_leaves_nothing() {
    let (_, manifest) = backed_up("consul", "consul-00.snap").await;
    for program in ["/bin/false", "/bin/echo", "/nonexistent/consul"] {
        let error = Throwaway::start(Path::new(program), &manifest, &Cancel::default()).await.unwrap_err();
        assert!(matches!(error, DrillError::Program { .. }), "{program}: {error}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn nobody_drills_into_a_consul_that_is_in_use() {
    let Some(program) = consul() else { return };
    let server = ConsulServer::start(&program, MASTER).await;
    server.fill().await;
    let before = server.dump(MASTER).await;
    let target = Consul::new(consul_settings(&[&server.url()], MASTER), &mut |_| ()).unwrap();
    let (test, manifest) = backed_up("consul", "consul-02.snap").await;
    let into = DrillTarget { target: &target, service: &target, is_throwaway: false };
    let error = drill(&test.repository, &manifest.name, into, &Cancel::default()).await.unwrap_err();
    let error = drill_error(error);
    assert!(matches!(error, DrillError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("keys"), "{error}");
    assert_eq!(server.dump(MASTER).await, before);
    // An empty one is taken.
    let empty = ConsulServer::start(&program, MASTER).await;
    let target = Consul::new(consul_settings(&[&empty.url()], MASTER), &mut |_| ()).unwrap();
    let into = DrillTarget { target: &target, service: &target, is_throwaway: false };
    let report = drill(&test.repository, &manifest.name, into, &Cancel::default()).await.unwrap();
    assert!(!report.is_short() && matches!(report.settled, Settled::Active { .. }));
}

#[tokio::test]
async fn a_nomad_in_use_or_one_that_does_not_tell_is_not_drilled_into() {
    let (test, manifest) = backed_up("nomad", "nomad-02.snap").await;
    let used = std::fs::read(fixture("nomad-01.snap")).unwrap();
    for (snapshot, in_use) in [(used.as_slice(), true), (b"garbage", false)] {
        let server = NomadServer::start(snapshot).await;
        let settings = nomad_settings(&[&server.server.url()], nomad_server::TOKEN);
        let target = Nomad::new(settings, None, &mut |_| ()).unwrap();
        let into = DrillTarget { target: &target, service: &target, is_throwaway: false };
        let error = drill(&test.repository, &manifest.name, into, &Cancel::default()).await.unwrap_err();
        let error = drill_error(error);
        assert_eq!(matches!(error, DrillError::InUse { .. }), in_use, "{error}");
        assert_eq!(matches!(error, DrillError::Unknown { .. }), !in_use, "{error}");
        assert_eq!(server.state.lock().unwrap().restored, None);
    }
}
