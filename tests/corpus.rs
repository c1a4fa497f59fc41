//! Every input that fuzzing ever found worth keeping, through its target again.

use crate::support::fuzz_targets::TARGETS;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// All corpora together: they are part of every checkout.
const CORPORA_LEN_BYTES_MAX: u64 = 1 << 20;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path, suffix: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.filter_map(|name| name.strip_suffix(suffix).map(ToOwned::to_owned)).collect()
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz().join("corpus"), ""), targets);
    assert_eq!(names(&fuzz().join("fuzz_targets"), ".rs"), targets);
    for target in targets {
        assert!(!names(&fuzz().join("corpus").join(&target), "").is_empty(), "{target} has no input");
    }
}

#[test]
fn every_input_of_every_corpus_passes_its_target() {
    let mut len_bytes = 0;
    for (name, target) in TARGETS {
        let folder = fuzz().join("corpus").join(name);
        for file in names(&folder, "") {
            let input = std::fs::read(folder.join(&file)).unwrap();
            len_bytes += input.len() as u64;
            // Shown only when the target panics.
            println!("{name}/{file}");
            target(&input);
        }
    }
    assert!(len_bytes < CORPORA_LEN_BYTES_MAX, "{len_bytes} bytes: keep the shortest inputs only");
}

#[test]
fn any_short_input_passes_every_target() {
    for (name, target) in TARGETS {
        println!("{name}");
        for input in [&[][..], &[0], &[0xff; 3], &[0x1f, 0x8b], &[0x80; 64], &[0xff; 200]] {
            target(input);
        }
    }
}
