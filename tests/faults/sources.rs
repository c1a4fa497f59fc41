//! Sources that break off, rot, and end in error text.

use super::original;
use crate::support::repo::TestRepository;
use hah_vault::archive::ArchiveError;
use hah_vault::archive::restore::Exactness;
use std::io::Read;

fn is_refusal(error: &ArchiveError) -> bool {
    matches!(error, ArchiveError::Unwrap { .. } | ArchiveError::Tar { .. })
}

#[tokio::test]
async fn a_source_cut_at_any_byte_commits_nothing() {
    let test = TestRepository::in_memory().await;
    let whole = original("consul-00.snap");
    // Every byte of both ends; between them every 89th.
    let dense = |len: &usize| *len < 64 || *len > whole.len() - 64 || len.is_multiple_of(89);
    for len in (0..whole.len()).filter(dense) {
        let error = test.backup_bytes("consul", &whole[..len]).await.unwrap_err();
        assert!(is_refusal(&error), "{len}: {error:?}");
    }
    assert_eq!(test.manifests().await.len(), 0);
}

#[tokio::test]
async fn a_source_with_a_flipped_bit_commits_nothing_or_the_same_stream() {
    let whole = original("consul-00.snap");
    let gunzip = |bytes: &[u8]| {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
    };
    let stream = gunzip(&whole);
    let test = TestRepository::in_memory().await;
    let mut committed = 0;
    for at in (0..whole.len()).filter(|at| *at < 20 || at.is_multiple_of(131)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        match test.backup_bytes("consul", &bytes).await {
            Err(error) => assert!(is_refusal(&error), "{at}: {error:?}"),
            Ok(report) => {
                committed += 1;
                let (restored, report) = test.restore(&report.manifest.name).await.unwrap();
                assert!(gunzip(&restored) == stream, "{at}");
                assert_eq!(report.exactness, Exactness::OtherGzip, "{at}");
            }
        }
    }
    // Header fields without a meaning: FTEXT, MTIME, XFL, OS.
    assert!(committed <= 10, "{committed}");
    assert_eq!(test.manifests().await.len(), committed);
}

#[tokio::test]
async fn a_source_that_ends_in_error_text_commits_nothing() {
    let test = TestRepository::in_memory().await;
    for name in ["consul-00.snap", "nomad-00.snap", "vault-00.snap"] {
        let source = name.split('-').next().unwrap();
        for text in ["rpc error: EOF\n", "\n", "\0", "{\"errors\":[\"internal error\"]}\n"] {
            let bytes = [&original(name)[..], text.as_bytes()].concat();
            let error = test.backup_bytes(source, &bytes).await.unwrap_err();
            assert!(is_refusal(&error), "{name} {text:?}: {error:?}");
        }
        let error = test.backup_bytes(source, b"403 Forbidden: permission denied\n").await.unwrap_err();
        assert!(is_refusal(&error), "{error:?}");
    }
    assert_eq!(test.manifests().await.len(), 0);
}

#[tokio::test]
async fn a_source_that_once_gave_snapshots_cannot_give_something_else() {
    let test = TestRepository::in_memory().await;
    test.backup_bytes("some-name", &original("consul-00.snap")).await.unwrap();
    let error = test.backup_bytes("some-name", b"404 page not found\n").await.unwrap_err();
    assert!(is_refusal(&error), "{error:?}");
    assert_eq!(test.manifests().await.len(), 1);
}

#[tokio::test]
async fn one_broken_source_does_not_take_the_others_with_it() {
    use crate::support::repo::fixture;
    use hah_vault::archive::Cancel;
    use hah_vault::archive::backup::{BackupOptions, Input, SourceSpec, backup};
    let test = TestRepository::in_memory().await;
    let spec = |name: &str, path| SourceSpec { name: name.parse().unwrap(), input: Input::File(path) };
    let sources = vec![
        spec("vault", fixture("vault-00.snap")),
        spec("consul", "/nowhere/at/all".into()),
        spec("nomad", fixture("README.md")),
    ];
    let outcomes = backup(&test.repository, sources, &BackupOptions::default(), &Cancel::default()).await.unwrap();
    assert!(outcomes[0].1.is_ok());
    assert!(matches!(outcomes[1].1, Err(ArchiveError::Open { .. })));
    assert!(matches!(outcomes[2].1, Err(ArchiveError::Unwrap { .. })));
    assert_eq!(test.manifests().await.len(), 1);
}
