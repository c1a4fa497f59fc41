//! What the fuzz targets do with an input. `fuzz/` runs these with inputs that libFuzzer makes, `tests/corpus.rs` with the
//! files of `fuzz/corpus/`.
//!
//! A target takes any bytes. It panics when something that must hold does not.

use std::convert::Infallible;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::archive::backup::{BackupOptions, BackupReport, Input, SourceSpec, backup};
use hah_vault::archive::repository::{self, open_identity};
use hah_vault::archive::restore::{Exactness, restore};
use hah_vault::archive::{ArchiveError, Cancel, Repository, Silent};
use hah_vault::keys::{Identities, Keyring, NoPrompt, RepositoryIdentity};
use hah_vault::pipeline::normalise::Denormaliser;
use hah_vault::pipeline::rewrap::{Rewrap, Rewrapper};
use hah_vault::pipeline::seal;
use hah_vault::pipeline::unwrap::{Expect, GzipEncoder, Unwrap};
use hah_vault::snapshot::records::{Form, Piece, Splitter, Tally};
use hah_vault::snapshot::tar::{Region, SnapshotSummary, TarError, Walker};
use hah_vault::store::{MemoryStore, ObjectMeta, Put, Store, StoreError, StoreTime};
use hah_vault::world::Machine;
use hah_vault_format::derive::{self, SourceKeys};
use hah_vault_format::envelope::{self, Type};
use hah_vault_format::limits::PACK_PLAINTEXT_LEN_BYTES_MAX;
use hah_vault_format::manifest::{Extent, Transform};
use hah_vault_format::text::{self, Scope, WriterKey};
use hah_vault_format::{Index, Label, Manifest, ManifestName, ObjectId, Secret, SourceName};
use sha2::{Digest, Sha256};

use super::{fuzz_answers, fuzz_texts, state};

/// Takes one input; panics on a fault.
pub type Target = fn(&[u8]);

/// All targets by name; `fuzz/fuzz_targets/` has one file for each.
pub const TARGETS: [(&str, Target); 15] = [
    ("writer_key", writer_key),
    ("manifest", manifest),
    ("index", index),
    ("pack", pack),
    ("tar", tar),
    ("unwrap", unwrap),
    ("records", records),
    ("normalise", normalise),
    ("denormalise", denormalise),
    ("hostile_store", hostile_store),
    ("config", fuzz_texts::config),
    ("keystore", fuzz_texts::keystore),
    ("metrics", fuzz_texts::metrics),
    ("schedule", fuzz_texts::schedule),
    ("vault_answer", fuzz_answers::vault_answer),
];

/// The identity R of the vectors and of the repository here.
const IDENTITY: [u8; 32] = [1; 32];

/// Takes an input apart from its front; gives zeros when it is used up.
pub(super) struct Taker<'a>(pub(super) &'a [u8]);

impl<'a> Taker<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(len.min(self.0.len()));
        self.0 = later;
        now
    }
}

/// Cuts bytes into slices of lengths that 8 bytes choose: short and long ones in turn.
fn slices<'b>(seeds: &[u8], bytes: &'b [u8]) -> Vec<&'b [u8]> {
    let mut lens = seeds.iter().map(|seed| match seed {
        0..128 => usize::from(*seed) + 1,
        _ => (usize::from(*seed) - 127) * 97,
    });
    let lens: Vec<usize> = if seeds.is_empty() { vec![1] } else { lens.by_ref().collect() };
    let mut rest = bytes;
    let mut out = Vec::new();
    for len in lens.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*len).min(rest.len()));
        out.push(now);
        rest = later;
    }
    out
}

fn keys_of(source: &str) -> SourceKeys {
    let writer = derive::writer_secret(&Secret::new(IDENTITY));
    SourceKeys::new(&derive::source_secret(&writer, &source.parse().unwrap()))
}

/// Text forms of keys: accepted ones are the canonical ones.
pub fn writer_key(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(key) = text.parse::<WriterKey>() {
            check_writer_key(&key, text.trim());
        }
        if let Ok(secret) = text::parse_identity(text) {
            assert!(text::identity_text(&secret).eq_ignore_ascii_case(text));
        }
        if let Ok(recipient) = text::parse_recipient(text) {
            assert!(text::recipient_text(&recipient).eq_ignore_ascii_case(text));
        }
        let _ = Identities::parse(data, "fuzz", &NoPrompt);
    }
    // Behind the checksum.
    let hrp = bech32::Hrp::parse_unchecked("HAH-VAULT-WRITER-");
    if let Ok(text) = bech32::encode_upper::<bech32::Bech32m>(hrp, data)
        && let Ok(key) = text.parse::<WriterKey>()
    {
        check_writer_key(&key, &text);
    }
}

fn check_writer_key(key: &WriterKey, text: &str) {
    assert!(key.to_text().eq_ignore_ascii_case(text), "another text form of the same key was accepted");
    assert!(key.generation > 0);
    let source: SourceName = "vault".parse().unwrap();
    let covered = key.scope == Scope::All || key.scope == Scope::Source(source.clone());
    assert_eq!(key.source_secret(&source).is_some(), covered);
}

/// Manifests: the raw envelope, and any body behind a tag that is right.
pub fn manifest(data: &[u8]) {
    static KEYS: OnceLock<SourceKeys> = OnceLock::new();
    let keys = KEYS.get_or_init(|| keys_of("nomad"));
    let name: ManifestName = "nomad/20261122T153000Z-1a2b3c4d".parse().unwrap();
    let wrapped = envelope::wrap(Type::Manifest, &keys.manifest_tag, &name.logical_name(), data);
    for envelope in [data, &wrapped] {
        let Ok(manifest) = Manifest::from_envelope(&keys.manifest_tag, &name, envelope) else { continue };
        assert_eq!(manifest.to_envelope(&keys.manifest_tag).unwrap(), envelope, "not canonical");
        check_manifest(&manifest);
    }
}

/// What a restore relies on without looking again.
fn check_manifest(manifest: &Manifest) {
    let fits = |extent: &Extent| {
        let pack = &manifest.packs[extent.pack as usize];
        extent.len_bytes > 0
            && u64::from(extent.offset_bytes) + u64::from(extent.len_bytes) <= u64::from(pack.plaintext_len_bytes)
    };
    assert!(manifest.extents.iter().chain(manifest.notes()).all(fits));
    assert!(manifest.packs.iter().all(|pack| pack.plaintext_len_bytes <= PACK_PLAINTEXT_LEN_BYTES_MAX));
    let len: u64 = manifest.extents.iter().map(|extent| u64::from(extent.len_bytes)).sum();
    assert_eq!(len, manifest.stream.len_bytes);
    if let Transform::MapOrder { regions, .. } = &manifest.transform {
        let end: u64 = regions.iter().map(|region| region.skip_bytes + region.len_bytes).sum();
        assert!(end <= len);
    }
}

/// Indexes: the raw envelope, and any body behind a tag that is right.
pub fn index(data: &[u8]) {
    static KEYS: OnceLock<SourceKeys> = OnceLock::new();
    let keys = KEYS.get_or_init(|| keys_of("vault"));
    let pack = ObjectId([0x22; 32]);
    let wrapped = envelope::wrap(Type::Index, &keys.index_tag, &pack.index_key(), data);
    for envelope in [data, &wrapped] {
        let Ok(index) = Index::from_envelope(&keys.index_tag, &pack, envelope) else { continue };
        assert_eq!(index.to_envelope(&keys.index_tag, &pack).unwrap(), envelope, "not canonical");
        assert!((1..=PACK_PLAINTEXT_LEN_BYTES_MAX).contains(&index.plaintext_len_bytes()));
    }
}

/// The plaintext level of packs: two bytes give the length that the manifest promises, the rest is what age gave; and the
/// same with the padding put behind it as it should be.
pub fn pack(data: &[u8]) {
    let mut data = Taker(data);
    let len_bytes = match data.u16() {
        0xffff => PACK_PLAINTEXT_LEN_BYTES_MAX,
        len => u32::from(len),
    };
    let mut padded = data.0.to_vec();
    hah_vault_format::pack::padding_frame(data.0.len() as u64, &mut padded);
    for bytes in [data.0, &padded] {
        if let Ok(frame) = hah_vault_format::pack::unpad(bytes, len_bytes) {
            assert!(bytes.starts_with(frame));
        }
        let Ok(plaintext) = seal::unpack(bytes, len_bytes) else { continue };
        assert_eq!(plaintext.len(), len_bytes as usize);
        let frame = hah_vault_format::pack::unpad(bytes, len_bytes).unwrap();
        let mut streamed = Vec::new();
        zstd::stream::read::Decoder::new(frame).unwrap().read_to_end(&mut streamed).unwrap();
        assert_eq!(streamed, plaintext, "the frame is not all that there is");
    }
}

type Walked = Result<(SnapshotSummary, Vec<(Region, u64)>), TarError>;

fn walk(pieces: &[&[u8]]) -> Walked {
    let mut walker = Walker::new();
    let mut runs: Vec<(Region, u64)> = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (len, region) = walker.next(rest)?;
            assert!(len > 0 && len <= rest.len());
            match runs.last_mut() {
                Some((last, run)) if *last == region => *run += len as u64,
                _ => runs.push((region, len as u64)),
            }
            rest = &rest[len..];
        }
    }
    Ok((walker.finish()?, runs))
}

/// The tar walker: how the archive is cut makes no difference. The first 8 bytes choose the cuts.
pub fn tar(data: &[u8]) {
    let mut data = Taker(data);
    let seeds = data.bytes(8);
    tar_either_way(seeds, data.0);
    // With header checksums put right, so that changed headers are looked at too.
    let mut sealed = data.0.to_vec();
    for block in sealed.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    tar_either_way(seeds, &sealed);
}

fn tar_either_way(seeds: &[u8], archive: &[u8]) {
    let whole = walk(&[archive]);
    let cut = walk(&slices(seeds, archive));
    assert_eq!(whole, cut);
    if let Ok((_, runs)) = whole {
        assert!(Walker::looks_like_snapshot(archive));
        assert_eq!(runs.iter().map(|(_, len)| len).sum::<u64>(), archive.len() as u64);
    }
}

/// Gives its bytes in small pieces.
struct Dribble<'a>(std::vec::IntoIter<&'a [u8]>, &'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.1.is_empty() {
            self.1 = self.0.next().unwrap_or_default();
        }
        self.1.read(buf)
    }
}

/// Taking the wrapper off anything: one byte says what is expected, 8 choose the cuts.
pub fn unwrap(data: &[u8]) {
    let mut data = Taker(data);
    let (how, seeds) = (data.byte(), data.bytes(8));
    let expect = [Expect::Any, Expect::Snapshot, Expect::Raw][usize::from(how % 3)];
    let whole = unwrap_all(data.0, expect, 1 << 16);
    let dribble = Dribble(slices(seeds, data.0).into_iter(), &[]);
    let cut = unwrap_all(dribble, expect, usize::from(how) * 11 + 60);
    match (whole, cut) {
        (Ok((stream, encoder)), Ok((same, same_encoder))) => {
            assert!(stream == same && encoder == same_encoder);
            check_unwrapped(data.0, &stream, encoder);
        }
        // Where the input was found to be bad may differ by what had been read.
        (Err(_), Err(_)) => {}
        (whole, cut) => panic!("{:?} but {:?}", whole.map(|_| ()), cut.map(|_| ())),
    }
}

fn unwrap_all(
    input: impl Read,
    expect: Expect,
    len: usize,
) -> Result<(Vec<u8>, Option<GzipEncoder>), hah_vault::pipeline::unwrap::UnwrapError> {
    let mut unwrap = Unwrap::open(input, expect)?;
    let mut buf = vec![0; len];
    let mut stream = Vec::new();
    loop {
        match unwrap.read(&mut buf)? {
            0 => break,
            len => stream.extend_from_slice(&buf[..len]),
        }
    }
    Ok((stream, unwrap.finish()?.gzip.map(|gzip| gzip.encoder)))
}

fn check_unwrapped(input: &[u8], stream: &[u8], encoder: Option<GzipEncoder>) {
    let mode = match encoder {
        None => return assert!(stream == input),
        Some(GzipEncoder::GoTo126) => Rewrap::GoTo126,
        Some(GzipEncoder::Unknown) => Rewrap::Fast,
    };
    let mut rewrapper = Rewrapper::new(Vec::new(), mode);
    rewrapper.write(stream).unwrap();
    let (wrapped, _) = rewrapper.finish().unwrap();
    if mode == Rewrap::GoTo126 && stream.len() < 1 << 20 {
        assert!(wrapped == input, "said to be reproducible, and is not");
    }
    let mut again = Vec::new();
    flate2::read::GzDecoder::new(&wrapped[..]).read_to_end(&mut again).unwrap();
    assert!(again == stream, "the gzip made of it holds something else");
}

/// A piece, with neighbours that only differ by the cuts put together.
#[derive(Debug, PartialEq, Eq)]
enum Cut {
    Opaque(Vec<u8>),
    Record(Vec<u8>),
    Long(Vec<u8>),
}

fn split(pieces: &[&[u8]]) -> (Vec<Cut>, Option<Form>, Tally) {
    let mut cuts: Vec<Cut> = Vec::new();
    let mut sink = |piece: Piece<'_>| {
        match (piece, cuts.last_mut()) {
            (Piece::Opaque(bytes), Some(Cut::Opaque(before))) => before.extend_from_slice(bytes),
            (Piece::Opaque(bytes), _) => cuts.push(Cut::Opaque(bytes.to_vec())),
            (Piece::Record { bytes, .. }, _) => cuts.push(Cut::Record(bytes.to_vec())),
            (Piece::Part { bytes, first: false, .. }, Some(Cut::Long(before))) => before.extend_from_slice(bytes),
            (Piece::Part { bytes, first, .. }, _) => {
                assert!(first);
                cuts.push(Cut::Long(bytes.to_vec()));
            }
        }
        Ok::<(), Infallible>(())
    };
    let mut splitter = Splitter::new();
    for piece in pieces {
        let Ok(()) = splitter.push(piece, &mut sink);
    }
    let Ok((form, tally)) = splitter.finish(&mut sink);
    (cuts, form, tally)
}

/// Record boundaries: how the state is cut makes no difference, and nothing is lost. The first 8 bytes choose the cuts.
pub fn records(data: &[u8]) {
    let mut data = Taker(data);
    let seeds = data.bytes(8);
    let whole = split(&[data.0]);
    assert_eq!(whole, split(&slices(seeds, data.0)));
    let all: Vec<u8> = whole.0.iter().flat_map(|(Cut::Opaque(b) | Cut::Record(b) | Cut::Long(b))| b.clone()).collect();
    assert!(all == data.0);
}

/// Msgpack out of anything: a state with a header and records, whose maps have few different keys.
fn msgpack_state(data: &mut Taker<'_>) -> Vec<u8> {
    let mut out = vec![0x80];
    while !data.0.is_empty() && out.len() < 1 << 20 {
        out.push(data.byte());
        msgpack(data, 6, &mut out);
    }
    out
}

fn msgpack(data: &mut Taker<'_>, depth: u8, out: &mut Vec<u8>) {
    let form = data.byte();
    match form {
        0xa0..=0xdf if depth > 0 => {
            let len = form & 0x0f;
            out.push(0x80 | len);
            for _ in 0..len {
                let key = data.byte();
                if key < 0xf0 {
                    out.extend([0xa1, b'a' + (key & 0x1f)]);
                } else {
                    msgpack(data, depth - 1, out);
                }
                msgpack(data, depth - 1, out);
            }
        }
        0xe0..=0xef if depth > 0 => {
            let len = form & 0x07;
            out.push(0x90 | len);
            (0..len).for_each(|_| msgpack(data, depth - 1, out));
        }
        0xf0..=0xf7 => {
            let payload = data.bytes(usize::from(form & 7) * 5);
            out.extend([0xc4, payload.len() as u8]);
            out.extend(payload);
        }
        0xf8..=0xff => out.extend([0xcd, data.byte(), data.byte()]),
        other => out.push(other & 0x7f),
    }
}

/// Map order put aside and back: of anything, of anything behind a header, or of well-formed msgpack. The first 2 bytes
/// choose which, and how it is cut.
pub fn normalise(data: &[u8]) {
    let mut data = Taker(data);
    let how = usize::from(data.u16());
    let (slice_len, state) = match how % 4 {
        0 => (how / 4 + 1, data.0.to_vec()),
        1 => (how / 4 + 1, [&[0x80], data.0].concat()),
        _ => (how / 4 + 1, msgpack_state(&mut data)),
    };
    let normal = state::normalise(&state, slice_len);
    assert_eq!(normal.bytes.len(), state.len());
    let restored = state::restore(&normal.bytes, &normal.notes, &normal.regions, slice_len).unwrap();
    assert!(restored == state, "restored bytes differ");
    let again = state::normalise(&normal.bytes, 1 << 20);
    assert!(again.bytes == normal.bytes, "the normal form is not its own normal form");
}

/// Order notes that a forger wrote: 2 bytes give their length, 2 the slices, 1 the number of regions.
pub fn denormalise(data: &[u8]) {
    let mut data = Taker(data);
    let (notes_len, slice_len, regions) = (usize::from(data.u16()), usize::from(data.u16()) + 1, data.byte() % 4 + 1);
    let notes = data.bytes(notes_len).to_vec();
    let records = data.0;
    let structured = msgpack_state(&mut Taker(records));
    for bytes in [records, &structured[1..]] {
        let mut denormaliser = Denormaliser::new(&notes[..]);
        let mut out = Vec::new();
        let mut push_all = || {
            for region in bytes.chunks((bytes.len() / usize::from(regions)).max(1)) {
                for slice in region.chunks(slice_len) {
                    denormaliser.push(slice, &mut out)?;
                }
                denormaliser.end_region()?;
            }
            Ok::<(), hah_vault::pipeline::normalise::NotesError>(())
        };
        let done = push_all();
        assert!(out.len() <= bytes.len());
        if done.is_ok() && denormaliser.finish().is_ok() {
            assert_eq!(out.len(), bytes.len());
        }
    }
}

/// A repository of two sources with two snapshots each, made once.
struct World {
    runtime: tokio::runtime::Runtime,
    identity: RepositoryIdentity,
    /// The reader that `keys/reader.age` is for.
    reader: Identities,
    objects: Vec<(String, Bytes)>,
    /// Manifests, and the files that they hold.
    snapshots: Vec<(Manifest, &'static [u8])>,
    folder: tempfile::TempDir,
}

const SNAPSHOTS: [(&str, &[u8]); 4] = [
    ("consul", include_bytes!("../fixtures/consul-00.snap")),
    ("consul", include_bytes!("../fixtures/consul-01.snap")),
    ("nomad", include_bytes!("../fixtures/nomad-00.snap")),
    ("file", b"no snapshot, but some file\n"),
];

const NOW: StoreTime = StoreTime { unix_ms: 1_795_361_015_000 };

impl World {
    fn make() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let identity = RepositoryIdentity::parse(&text::identity_text(&Secret::new(IDENTITY))).unwrap();
        let (file, reader) = hah_vault::keys::generate_reader(identity.id());
        let wrapped = identity.wrap(&reader).unwrap();
        let reader = Identities::parse(file.as_bytes(), "reader", &NoPrompt).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let memory = Arc::new(MemoryStore::new());
        let mut snapshots = Vec::new();
        runtime.block_on(async {
            let label: Label = "reader".parse().unwrap();
            repository::create(memory.as_ref(), &identity, &[(label, wrapped)]).await.unwrap();
            let repository = open(memory.clone(), &identity);
            for (i, (source, bytes)) in SNAPSHOTS.into_iter().enumerate() {
                memory.set_now(StoreTime { unix_ms: NOW.unix_ms - 10_000 + 1000 * i as i64 });
                let path = folder.path().join(i.to_string());
                std::fs::write(&path, bytes).unwrap();
                snapshots.push((back_up(&repository, source, &path).await.unwrap().manifest, bytes));
            }
        });
        let objects = runtime.block_on(async {
            let mut objects = Vec::new();
            for object in memory.list("").await.unwrap() {
                objects.push((object.key.clone(), memory.get(&object.key, u64::MAX).await.unwrap()));
            }
            objects
        });
        Self { runtime, identity, reader, objects, snapshots, folder }
    }
}

fn open(store: Arc<dyn Store>, identity: &RepositoryIdentity) -> Repository {
    let keyring = Keyring::from_identity(identity.clone()).unwrap();
    Repository { store, keyring, world: Machine::shared(), monitor: Arc::new(Silent) }
}

async fn back_up(repository: &Repository, source: &str, path: &Path) -> Result<BackupReport, ArchiveError> {
    let spec = SourceSpec { name: source.parse().unwrap(), input: Input::File(path.to_owned()) };
    let outcomes = backup(repository, vec![spec], &BackupOptions::default(), &Cancel::default()).await?;
    outcomes.into_iter().next().unwrap().1
}

/// A store whose listings lie.
#[derive(Debug)]
struct Liar {
    memory: MemoryStore,
    hidden: Vec<String>,
    invented: Vec<ObjectMeta>,
    /// Added to all times that it tells, each time it is asked.
    drift_ms: i64,
    asked: std::sync::atomic::AtomicI64,
}

#[async_trait]
impl Store for Liar {
    fn describe(&self) -> String {
        "a liar".into()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        self.memory.put_if_absent(key, bytes).await
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        self.memory.get(key, len_max_bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut found = self.memory.list(prefix).await?;
        found.retain(|object| !self.hidden.contains(&object.key));
        found.extend(self.invented.iter().filter(|object| object.key.starts_with(prefix)).cloned());
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found.dedup_by(|a, b| a.key == b.key);
        Ok(found)
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        self.memory.stat(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.memory.delete(key).await
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        let asked = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(StoreTime { unix_ms: NOW.unix_ms.saturating_add(self.drift_ms.saturating_mul(asked)) })
    }
}

/// One change of the store by the input; objects are told by their place in the listing.
fn mutate(data: &mut Taker<'_>, world: &World, store: &mut Liar, objects: &mut [(String, Bytes)]) {
    let (change, len) = (data.byte(), objects.len());
    let (at, other) = (usize::from(data.byte()) % len, usize::from(data.byte()) % len);
    let mut bytes = objects[at].1.to_vec();
    match change % 12 {
        0 => bytes.clear(),
        1 => bytes.truncate(data.u16().into()),
        2 => {
            let place = data.u32() as usize % bytes.len().max(1);
            let with = data.byte() | 1;
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= with;
            }
        }
        3 => bytes = objects[other].1.to_vec(),
        4 => {
            let swapped = objects[other].1.clone();
            objects[other].1 = objects[at].1.clone();
            bytes = swapped.to_vec();
        }
        5 => {
            let payload_len = usize::from(data.byte());
            bytes.extend_from_slice(data.bytes(payload_len));
        }
        6 => {
            let payload_len = usize::from(data.byte());
            bytes = data.bytes(payload_len).to_vec();
        }
        7 => store.hidden.push(objects[at].0.clone()),
        8 => {
            let (len_bytes, unix_ms) = (u64::from(data.u32()), NOW.unix_ms + i64::from(data.u16()) * 60_000);
            // Either a name that is none of ours, or that of an object that is gone.
            let key = match data.byte() {
                name @ 0..128 => format!("{}{name:x}", objects[at].0),
                _ => objects[at].0.clone(),
            };
            let len_bytes = if len_bytes % 2 == 0 { bytes.len() as u64 } else { len_bytes };
            store.invented.push(ObjectMeta { key: key.clone(), len_bytes, modified: StoreTime { unix_ms } });
            if objects[at].0 == key {
                objects[at].0 = format!("gone/{at}");
            }
        }
        9 => store.drift_ms = i64::from(data.u32() as i32).saturating_mul(100),
        10 => objects[at].0 = format!("{}0", objects[at].0),
        // Whoever holds a writer key can forge manifests, but not what they restore to.
        _ => {
            let (manifest, _) = &world.snapshots[at % world.snapshots.len()];
            if let Some((key, sealed)) = forge(data, manifest, world) {
                for object in objects.iter_mut().filter(|object| object.0 == key) {
                    object.1 = sealed.clone().into();
                }
            }
            return;
        }
    }
    objects[at].1 = bytes.into();
}

fn forge(data: &mut Taker<'_>, manifest: &Manifest, world: &World) -> Option<(String, Vec<u8>)> {
    let mut forged = manifest.clone();
    for _ in 0..data.byte() % 8 + 1 {
        let (what, value) = (data.byte(), data.u32());
        let extents = match &mut forged.transform {
            Transform::MapOrder { notes, .. } if what & 0x80 != 0 => notes,
            _ => &mut forged.extents,
        };
        let count = extents.len().max(1);
        let extent = extents.get_mut(usize::from(data.byte()) % count);
        match (what % 10, extent) {
            (0, Some(extent)) => extent.offset_bytes = value,
            (1, Some(extent)) => extent.len_bytes = extent.len_bytes.wrapping_add(value % 5).wrapping_sub(2),
            (2, Some(extent)) => extent.pack = value % 4,
            (3, _) => forged.packs.iter_mut().for_each(|pack| pack.plaintext_len_bytes ^= value % 8),
            (4, _) => forged.packs.iter_mut().for_each(|pack| pack.object_len_bytes = value.into()),
            (5, _) => {
                if let Transform::MapOrder { regions, .. } = &mut forged.transform
                    && let Some(region) = regions.first_mut()
                {
                    region.skip_bytes = region.skip_bytes.wrapping_add(u64::from(value % 512)).wrapping_sub(256);
                }
            }
            (6, _) => forged.transform = Transform::None,
            (7, _) => forged.kind = world.snapshots[value as usize % world.snapshots.len()].0.kind,
            (8, _) => forged.original.wrapper = world.snapshots[value as usize % 4].0.original.wrapper,
            _ => forged.original.len_bytes ^= u64::from(value),
        }
    }
    let keys = open(Arc::new(MemoryStore::new()), &world.identity).source_keys(&forged.name.source).ok()?;
    Some((forged.name.key(), seal::seal_manifest(&forged, &keys).ok()?))
}

/// A store that does what the input says: restores give the exact bytes or a named error; so do backups afterwards.
pub fn hostile_store(data: &[u8]) {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(World::make);
    let mut data = Taker(data);
    let (action, mutations) = (data.byte(), data.byte() % 6);
    let mut objects = world.objects.clone();
    let memory = MemoryStore::new();
    memory.set_now(NOW);
    let mut store = Liar {
        memory,
        hidden: Vec::new(),
        invented: Vec::new(),
        drift_ms: 0,
        asked: std::sync::atomic::AtomicI64::new(0),
    };
    for _ in 0..mutations {
        mutate(&mut data, world, &mut store, &mut objects);
    }
    for (key, bytes) in objects {
        store.memory.overwrite(&key, bytes);
    }
    let repository = open(Arc::new(store), &world.identity);
    world.runtime.block_on(act(action, world, &repository));
}

async fn act(action: u8, world: &World, repository: &Repository) {
    match action % 4 {
        0 => {
            let opened = open_identity(repository.store.as_ref(), &world.reader, None, &[]).await;
            match opened {
                Ok(identity) => assert_eq!(identity.id(), world.identity.id()),
                Err(error) => check_error(&error),
            }
        }
        1 => {
            let at = usize::from(action / 4) % SNAPSHOTS.len();
            let (source, bytes) = SNAPSHOTS[at];
            let done = back_up(repository, source, &world.folder.path().join(at.to_string())).await;
            match done {
                // With another wrapper in a forged parent the backup is not concerned.
                Ok(report) => check_restore(repository, &report.manifest.name, &report.manifest, bytes, true).await,
                Err(error) => check_error(&error),
            }
        }
        _ => {
            let (manifest, bytes) = &world.snapshots[usize::from(action / 4) % world.snapshots.len()];
            check_restore(repository, &manifest.name, manifest, bytes, false).await;
        }
    }
}

async fn check_restore(repository: &Repository, name: &ManifestName, truth: &Manifest, bytes: &[u8], strict: bool) {
    let restored = restore(repository, name, Vec::new(), false, &Cancel::default()).await;
    let (out, report) = match restored {
        Ok(restored) => restored,
        // A backup that succeeded restores, unless the store damages what it has just taken: this one does not.
        Err(error) if strict && !is_reused_damage(&error) => panic!("{error:?}"),
        Err(error) => return check_error(&error),
    };
    assert_eq!(<[u8; 32]>::from(Sha256::digest(&out)), report.sha256);
    if report.exactness == Exactness::Exact && report.manifest.original == truth.original {
        assert!(out == bytes, "said to be exact, and is not");
    }
    // A forged wrapper changes the file, never the stream in it.
    assert!(blake3::hash(&stream_of(&out)) == blake3::hash(&stream_of(bytes)), "another stream");
}

/// A pack that is listed with the right length is reused; that it holds other bytes, or is not there, only reading tells.
fn is_reused_damage(error: &ArchiveError) -> bool {
    matches!(error, ArchiveError::Pack { .. } | ArchiveError::Store(StoreError::NotFound { .. }))
}

fn stream_of(file: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    match flate2::read::GzDecoder::new(file).read_to_end(&mut stream) {
        Ok(_) => stream,
        Err(_) => file.to_vec(),
    }
}

/// A bug has no name.
fn check_error(error: &ArchiveError) {
    assert!(!matches!(error, ArchiveError::Internal(_)), "{error:?}");
}
