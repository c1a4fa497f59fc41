//! Generated series: they are what they claim to be, come back exactly, and hardly grow a repository.

#[path = "../benches/support/generate/mod.rs"]
mod generate;

use crate::support::repo::TestRepository;
use generate::{Kind, Options, Rewrap, Series};
use hah_vault::archive::restore::Exactness;
use hah_vault_format::manifest::{Kind as Found, Wrapper};
use std::io::Read;

fn snapshot(series: &Series) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = series.generate(&mut bytes, Rewrap::GoTo126).unwrap();
    assert_eq!(written.len_bytes, bytes.len() as u64);
    bytes
}

#[tokio::test]
async fn generated_series_are_recognised_and_come_back() {
    for (kind, found) in [(Kind::Vault, Found::Vault), (Kind::Consul, Found::Consul), (Kind::Nomad, Found::Nomad)] {
        let test = TestRepository::in_memory().await;
        let mut series = Series::new(Options::new(kind, 600_000));
        let mut stored = Vec::new();
        for _ in 0..3 {
            let bytes = snapshot(&series);
            let report = test.backup_bytes(kind.as_str(), &bytes).await.unwrap();
            assert_eq!(report.manifest.kind, found);
            assert_eq!(report.manifest.original.wrapper, Wrapper::GzipGoTo126);
            let records: u64 = report.manifest.records.iter().map(|r| r.count).sum();
            assert_eq!(records, series.objects() as u64, "{kind:?}");
            let (restored, restore) = test.restore(&report.manifest.name).await.unwrap();
            assert_eq!(restore.exactness, Exactness::Exact);
            assert!(restored == bytes, "{kind:?}");
            stored.push(report.stored_bytes());
            series.advance();
        }
        assert!(stored[1..].iter().all(|s| s * 5 < stored[0]), "{kind:?}: {stored:?}");
    }
}

#[test]
fn a_seed_gives_one_series_and_the_tar_is_sound() {
    for kind in Kind::ALL {
        let options = Options::new(kind, 200_000);
        let (mut one, mut two) = (Series::new(options), Series::new(options));
        one.advance();
        two.advance();
        let bytes = snapshot(&one);
        assert!(bytes == snapshot(&two));
        assert!(bytes != snapshot(&Series::new(Options { seed: 2, ..options })));
        let mut tar_bytes = Vec::new();
        let written = one.generate(&mut tar_bytes, Rewrap::None).unwrap();
        assert!((150_000..260_000).contains(&written.state_len_bytes), "{}", written.state_len_bytes);
        let mut gunzipped = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut gunzipped).unwrap();
        assert!(tar_bytes == gunzipped);
        let mut archive = tar::Archive::new(&tar_bytes[..]);
        let names: Vec<String> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names[..3], ["meta.json", "state.bin", "SHA256SUMS"]);
        assert_eq!(names.len(), if kind == Kind::Vault { 4 } else { 3 });
    }
}
