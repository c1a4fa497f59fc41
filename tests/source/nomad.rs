//! Nomad: the Digest, refusals, options.

use super::{error_of, fact, nomad_settings, read, snapshot_of};
use crate::support::nomad_server::{DigestHeader, NomadServer, PATH, TOKEN, TOKEN_LOW};
use crate::support::service_server::Fault;
use hah_vault::source::error::DigestFault;
use hah_vault::source::settings::FreshToken;
use hah_vault::source::{Nomad, SourceError, Target};
use std::time::Duration;

fn nomad(server: &NomadServer, token: &str) -> Nomad {
    Nomad::new(nomad_settings(&[&server.server.url()], token), None, &mut |text| panic!("{text}")).unwrap()
}

async fn start() -> NomadServer {
    NomadServer::start(&snapshot_of("nomad-02.snap")).await
}

#[tokio::test]
async fn a_snapshot_whose_digest_matches_is_taken() {
    for digest in [DigestHeader::Sha256, DigestHeader::Sha512] {
        let server = start().await;
        server.set(|s| s.digest = digest);
        let (facts, bytes) = read(&nomad(&server, TOKEN)).await.unwrap();
        assert!(bytes == snapshot_of("nomad-02.snap"));
        assert_eq!(fact(&facts, "server-version"), Some("1.1.2"));
        assert_eq!(fact(&facts, "cluster-name"), Some("global"));
    }
}

#[tokio::test]
async fn a_missing_odd_or_wrong_digest_is_a_failure() {
    for (digest, fault, transient) in [
        (DigestHeader::Missing, DigestFault::Missing, false),
        (DigestHeader::Odd, DigestFault::Unknown, false),
        (DigestHeader::OfSomethingElse, DigestFault::Mismatch, true),
    ] {
        let server = start().await;
        server.set(|s| s.digest = digest);
        let error = error_of(&nomad(&server, TOKEN), TOKEN).await;
        let SourceError::Digest { reason, .. } = &error else { panic!("{error}") };
        assert_eq!((*reason, error.is_transient()), (fault, transient));
    }
}

#[tokio::test]
async fn a_body_that_ends_cleanly_but_early_does_not_match_its_digest() {
    // Nomad swallows errors with "closed" or "EOF" in them (facts 3.1).
    for fault in [Fault::CutClean(20_000), Fault::TextAfter(20_000, "stream error"), Fault::GzipAgain { told: false }] {
        let server = start().await;
        server.set(|s| s.fault = fault);
        let error = error_of(&nomad(&server, TOKEN), TOKEN).await;
        assert!(matches!(error, SourceError::Digest { reason: DigestFault::Mismatch, .. }), "{error}");
    }
}

#[tokio::test]
async fn identity_is_asked_for_so_nothing_is_compressed_twice() {
    let server = start().await;
    read(&nomad(&server, TOKEN)).await.unwrap();
    let request = &server.server.requests_of(PATH)[0];
    assert_eq!((request.method.as_str(), request.header("accept-encoding")), ("GET", "identity"));
    assert_eq!((request.header("x-nomad-token"), request.header("authorization")), (TOKEN, ""));
}

#[tokio::test]
async fn region_and_stale_are_asked_for() {
    let server = start().await;
    let mut settings = nomad_settings(&[&server.server.url()], TOKEN);
    (settings.region, settings.stale) = (Some("eu west/1".into()), true);
    read(&Nomad::new(settings, None, &mut |_| ()).unwrap()).await.unwrap();
    assert_eq!(server.server.requests_of(PATH)[0].query, "region=eu%20west%2F1&stale");
}

#[tokio::test]
async fn what_is_said_of_an_agent_of_another_region_is_not_said_of_the_one_that_is_meant() {
    let server = start().await;
    let mut settings = nomad_settings(&[&server.server.url()], TOKEN);
    let plain = Nomad::new(settings.clone(), None, &mut |_| ()).unwrap().preflight().await.unwrap();
    assert_eq!((plain.cluster_name.as_deref(), plain.index), (Some("global"), Some(15)));
    settings.region = Some("eu".into());
    let nomad = Nomad::new(settings, None, &mut |_| ()).unwrap();
    let (facts, _) = read(&nomad).await.unwrap();
    assert_eq!(fact(&facts, "cluster-name"), Some("eu"));
    let preflight = nomad.preflight().await.unwrap();
    assert_eq!((preflight.cluster_name.as_deref(), preflight.index), (Some("eu"), None));
    let asked = server.server.requests_of("/v1/status/leader");
    assert_eq!(asked.last().unwrap().query, "region=eu", "its leader, and no other's");
}

#[tokio::test]
async fn every_refusal_of_the_transcripts_has_its_hint() {
    for (token, status, hint) in [
        (TOKEN_LOW, 403, "snapshot-save"),
        ("00000000-0000-0000-0000-00000000dead", 400, "does not know the token"),
        ("not a token", 500, "form of a UUID"),
    ] {
        let error = error_of(&nomad(&start().await, token), token).await;
        let SourceError::Refused { status: found, .. } = &error else { panic!("{error}") };
        assert_eq!(*found, status);
        assert!(error.hint().unwrap().contains(hint), "{error}: {:?}", error.hint());
        assert!(!error.is_transient(), "{error}");
    }
    let server = start().await;
    let mut settings = nomad_settings(&[&server.server.url()], TOKEN);
    settings.region = Some("nosuch".into());
    let error = error_of(&Nomad::new(settings, None, &mut |_| ()).unwrap(), TOKEN).await;
    assert!(error.hint().unwrap().contains("NOMAD_REGION") && !error.is_transient(), "{error}");
    server.set(|s| s.has_leader = false);
    let error = error_of(&nomad(&server, TOKEN), TOKEN).await;
    assert!(matches!(error, SourceError::NoLeader { .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_token_that_may_not_look_at_the_agent_takes_a_snapshot_all_the_same() {
    let server = start().await;
    let mut settings = nomad_settings(&[&server.server.url()], TOKEN);
    settings.reach.headers = vec![("X-Extra".into(), "1".into())];
    read(&Nomad::new(settings, None, &mut |_| ()).unwrap()).await.unwrap();
    assert!(server.server.requests().iter().all(|request| request.header("x-extra") == "1"));
}

#[tokio::test]
async fn a_fresh_token_gets_a_few_tries_and_an_old_one_none() {
    let server = start().await;
    server.set(|s| s.unknown_times = 2);
    let error = error_of(&nomad(&server, TOKEN), TOKEN).await;
    assert!(error.to_string().contains("ACL token not found"), "{error}");
    server.set(|s| s.unknown_times = 2);
    let mut settings = nomad_settings(&[&server.server.url()], TOKEN);
    settings.fresh_token = FreshToken { retries: 2, delay: Duration::from_millis(10) };
    read(&Nomad::new(settings, None, &mut |_| ()).unwrap()).await.unwrap();
}
