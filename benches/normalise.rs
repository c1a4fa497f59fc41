//! Splitting and normalising of real states, and the inverse.
//!
//! By default of the small fixtures. `HAH_VAULT_SERIES` names a folder of real snapshots
//! instead: every `.snap` below it is measured.

use std::convert::Infallible;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hah_vault::pipeline::normalise::{Denormaliser, Normaliser};
use hah_vault::snapshot::records::{Form, Piece, Splitter};

/// The records of a state, back to back, and their lengths.
struct Records {
    bytes: Vec<u8>,
    lens: Vec<usize>,
}

fn state(path: &Path) -> Vec<u8> {
    let file = std::fs::File::open(path).expect("a snapshot");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("a tar entry");
        if entry.path().is_ok_and(|path| path.as_os_str() == "state.bin") {
            let mut state = Vec::new();
            entry.read_to_end(&mut state).expect("a whole entry");
            return state;
        }
    }
    Vec::new()
}

/// The records of a Consul or Nomad state.
fn records(state: &[u8]) -> Option<Records> {
    let mut records = Records { bytes: Vec::new(), lens: Vec::new() };
    let mut splitter = Splitter::new();
    let mut sink = |piece: Piece<'_>| {
        if let Piece::Record { bytes, .. } = piece {
            records.bytes.extend_from_slice(bytes);
            records.lens.push(bytes.len());
        }
        Ok::<(), Infallible>(())
    };
    let Ok(()) = splitter.push(state, &mut sink);
    let Ok((form, _)) = splitter.finish(&mut sink);
    matches!(form, Some(Form::Msgpack(_))).then_some(records)
}

fn normalise(records: &mut Records) -> Vec<u8> {
    let mut normaliser = Normaliser::new();
    let mut rest = &mut records.bytes[..];
    for &len in &records.lens {
        let (record, after) = std::mem::take(&mut rest).split_at_mut(len);
        normaliser.record(record);
        rest = after;
    }
    normaliser.finish()
}

fn snapshots() -> Vec<PathBuf> {
    let Some(series) = std::env::var_os("HAH_VAULT_SERIES") else {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        return ["nomad-02.snap", "consul-02.snap"].map(|name| fixtures.join(name)).to_vec();
    };
    let mut folders = vec![PathBuf::from(series)];
    let mut snapshots = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.extension().is_some_and(|extension| extension == "snap") => snapshots.push(path),
                _ => {}
            }
        }
    }
    snapshots.sort();
    snapshots
}

fn stages(criterion: &mut Criterion) {
    for path in snapshots() {
        let state = state(&path);
        let Some(mut records) = records(&state) else {
            continue;
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(records.bytes.len() as u64));
        group.bench_function("split", |bencher| bencher.iter(|| black_box(self::records(&state).is_some())));
        let fresh = |records: &Records| Records { bytes: records.bytes.clone(), lens: records.lens.clone() };
        group.bench_function("normalise", |bencher| {
            bencher.iter_batched_ref(|| fresh(&records), normalise, BatchSize::LargeInput);
        });
        let notes = normalise(&mut records);
        group.bench_function("restore", |bencher| {
            bencher.iter(|| {
                let mut out = Vec::with_capacity(records.bytes.len());
                let mut denormaliser = Denormaliser::new(&notes[..]);
                denormaliser.push(&records.bytes, &mut out).expect("its own notes");
                out
            });
        });
        group.finish();
    }
}

criterion_group!(benches, stages);
criterion_main!(benches);
