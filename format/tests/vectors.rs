//! Runs every vector of `vectors/v1/` and compares its outcome with the one in `vectors.json`.
//!
//! To make the files anew after an intended change: `HAH_VAULT_BLESS=1 cargo test -p hah-vault-format --test vectors`.
//! It refuses where the variable `CI` is set. What it changed then shows in `git diff`: files of a released version
//! must only be added to.

#[path = "vectors/encode.rs"]
mod encode;
#[path = "vectors/generate.rs"]
mod generate;

use hah_vault_format::codec::{self, Blob};
use hah_vault_format::derive::{self, SourceKeys};
use hah_vault_format::envelope::{self, Type};
use hah_vault_format::manifest::{Extent, Kind, Manifest, Transform, Wrapper};
use hah_vault_format::text::{self, WriterKey};
use hah_vault_format::{
    ChunkId, FormatError, Index, Label, ManifestName, ObjectId, RepositoryId, Secret, SourceName, UnixTime, pack, padme,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::{env, fs};

/// The repository identity R of all vectors.
const IDENTITY: [u8; 32] = [1; 32];

/// One line of `vectors.json`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    /// `ok` or the class of the error.
    expect: String,
    /// Input: a file below `vectors/v1/`, text, or bytes in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    /// Whose keys it is opened with.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Names it is opened under.
    #[serde(skip_serializing_if = "Option::is_none")]
    logical_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pack: Option<String>,
    /// The type that a `codec` vector is decoded as.
    #[serde(skip_serializing_if = "Option::is_none")]
    codec: Option<String>,
    /// The plaintext length that the manifest gives for a pack.
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext_len: Option<u32>,
    /// The plaintext lengths of the packs that `extents` point into, and the length of the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    packs: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_len: Option<u64>,
    /// What comes out, where it is `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

impl Vector {
    fn new(kind: &str, name: &str, expect: &str) -> Self {
        let mut vector: Self = serde_json::from_value(json!({"type": "", "name": "", "expect": ""})).unwrap();
        (vector.kind, vector.name, vector.expect) = (kind.into(), name.into(), expect.into());
        vector
    }
}

/// A JSON object with its keys in order, whatever serde_json's features are.
fn object<const N: usize>(mut pairs: [(&str, Value); N]) -> Value {
    pairs.sort_by_key(|(key, _)| *key);
    Value::Object(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn keys_of(source: &str) -> SourceKeys {
    let writer = derive::writer_secret(&Secret::new(IDENTITY));
    SourceKeys::new(&derive::source_secret(&writer, &source.parse().unwrap()))
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/v1")
}

fn class(error: &FormatError) -> &'static str {
    match error {
        FormatError::Magic { .. } => "magic",
        FormatError::TooNew { .. } => "too-new",
        FormatError::Short { .. } => "short",
        FormatError::Tag { .. } => "tag",
        FormatError::Padding { .. } => "padding",
        FormatError::Decode { .. } => "decode",
        FormatError::NotCanonical { .. } => "not-canonical",
        FormatError::Limit { .. } => "limit",
        FormatError::Inconsistent { .. } => "inconsistent",
        FormatError::Name { .. } => "name",
        FormatError::Key { .. } => "key",
        _ => "a class that the vectors do not know",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

type Outcome = Result<Value, FormatError>;

fn run(vector: &Vector) -> Outcome {
    let text = || vector.text.as_deref().unwrap();
    let file = || fs::read(dir().join(vector.file.as_deref().unwrap())).unwrap();
    match vector.kind.as_str() {
        "derive" => {
            assert_eq!(file(), generate::all()[0].1.clone().unwrap());
            Ok(Value::Null)
        }
        "blake3" => Ok(blake3_value(text().parse().unwrap())),
        "source-name" => text().parse::<SourceName>().map(|n| json!(n.as_str())),
        "key-label" => text().parse::<Label>().map(|n| json!(n.as_str())),
        "time" => text().parse::<UnixTime>().map(|t| json!(t.unix_s())),
        "manifest-name" => text().parse::<ManifestName>().map(|n| name_value(&n)),
        "object-name" => text().parse::<ObjectId>().map(|n| json!(n.to_string())),
        "chunk-id" => text().parse::<ChunkId>().map(|n| json!(n.to_string())),
        "repository-id" => text().parse::<RepositoryId>().map(|n| json!(n.to_string())),
        "padme" => Ok(json!(padme::padded_len_bytes(text().parse().unwrap()))),
        "writer-key" => text().parse::<WriterKey>().map(|k| writer_value(&k)),
        "recipient" => text::parse_recipient(text()).map(|r| json!(hex(&r))),
        "identity" => text::parse_identity(text()).map(|i| json!(hex(i.expose()))),
        "codec" => decode(vector.codec.as_deref().unwrap(), &from_hex(vector.hex.as_deref().unwrap())),
        "extents" => extents(vector),
        "envelope" => {
            let key = keys_of(vector.source.as_deref().unwrap()).manifest_tag;
            envelope::unwrap(Type::Manifest, &key, vector.logical_name.as_deref().unwrap(), &file())
                .map(|body| json!(hex(body)))
        }
        "manifest" => open_manifest(vector.manifest.as_deref().unwrap(), &file()).map(|m| manifest_value(&m)),
        "index" => {
            let key = keys_of(vector.source.as_deref().unwrap()).index_tag;
            let (name, bytes) = (vector.pack.as_deref().unwrap().parse().unwrap(), file());
            let index = Index::from_envelope(&key, &name, &bytes)?;
            assert_eq!(index.to_envelope(&key, &name).unwrap(), bytes, "{}: written otherwise", vector.name);
            Ok(index_value(&index))
        }
        "pack" => {
            let bytes = file();
            let frame = pack::unpad(&bytes, vector.plaintext_len.unwrap())?;
            let mut again = frame.to_vec();
            pack::padding_frame(frame.len() as u64, &mut again);
            assert_eq!(again, bytes, "{}: padded otherwise", vector.name);
            // What zstd makes of it, restore.py checks: this crate has no zstd.
            let given = vector.value.as_ref().map_or(Value::Null, |v| v["plaintext_blake3"].clone());
            Ok(object([("frame_len", json!(frame.len())), ("plaintext_blake3", given)]))
        }
        other => panic!("a vector of unknown type {other}"),
    }
}

fn open_manifest(name: &str, bytes: &[u8]) -> Result<Manifest, FormatError> {
    let name: ManifestName = name.parse().unwrap();
    let key = keys_of(name.source.as_str()).manifest_tag;
    let manifest = Manifest::from_envelope(&key, &name, bytes)?;
    assert_eq!(manifest.to_envelope(&key).unwrap(), bytes, "written otherwise");
    Ok(manifest)
}

/// hash, keyed_hash and derive_key, 131 bytes of each, of 0, 1, … 250, 0, …; key and context as in BLAKE3's own
/// `test_vectors.json`.
fn blake3_value(len: usize) -> Value {
    let input: Vec<u8> = (0..=250).cycle().take(len).collect();
    let hashers = [
        blake3::Hasher::new(),
        blake3::Hasher::new_keyed(b"whats the Elvish word for friend"),
        blake3::Hasher::new_derive_key("BLAKE3 2019-12-27 16:29:52 test vectors context"),
    ];
    let digest = |mut hasher: blake3::Hasher| {
        let mut out = [0; 131];
        hasher.update(&input).finalize_xof().fill(&mut out);
        hex(&out)
    };
    json!(hashers.map(digest))
}

/// A list of extents has no public decoder of its own: it is put into a manifest.
fn extents(vector: &Vector) -> Outcome {
    use encode::{Envelope, bytes, list, none, uint};
    let packs: Vec<_> = vector.packs.as_ref().unwrap().iter().zip(1u8..).collect();
    let packs: Vec<_> =
        packs.iter().map(|(len, id)| [vec![*id; 32], uint(1), uint(u64::from(**len))].concat()).collect();
    let stream_len = vector.stream_len.unwrap();
    let body = [
        uint(1),
        bytes("vault"),
        uint(0),
        uint(0),
        uint(0),
        bytes(""),
        bytes(""),
        none(),
        none(),
        list(&[]),
        [uint(0), uint(stream_len), vec![1; 32]].concat(),
        [uint(stream_len), vec![2; 32]].concat(),
        uint(0),
        uint(0),
        uint(0),
        list(&packs),
        from_hex(vector.hex.as_deref().unwrap()),
        list(&[]),
        [uint(0), uint(0), uint(0), uint(0)].concat(),
    ];
    let name = "vault/19700101T000000Z-00000000";
    let (key, logical_name) = (keys_of("vault").manifest_tag, format!("manifest/{name}"));
    let body = body.concat();
    let sealed =
        Envelope { magic: b"HAHVMANF", version: 1, key: key.expose(), logical_name: &logical_name, body: &body };
    open_manifest(name, &sealed.seal()).map(|m| extents_value(&m.extents))
}

fn decode(codec: &str, bytes: &[u8]) -> Outcome {
    const LIMIT: usize = 1024;
    let what = "sample";
    match codec {
        "u8" => codec::decode::<u8, LIMIT>(what, bytes).map(|v| json!(v)),
        "u32" => codec::decode::<u32, LIMIT>(what, bytes).map(|v| json!(v)),
        "u64" => codec::decode::<u64, LIMIT>(what, bytes).map(|v| json!(v)),
        "i64" => codec::decode::<i64, LIMIT>(what, bytes).map(|v| json!(v)),
        "text" => codec::decode::<String, LIMIT>(what, bytes).map(|v| json!(v)),
        "blob" => codec::decode::<Blob, LIMIT>(what, bytes).map(|v| json!(hex(&v.0))),
        "list-u32" => codec::decode::<Vec<u32>, LIMIT>(what, bytes).map(|v| json!(v)),
        "option-u32" => codec::decode::<Option<u32>, LIMIT>(what, bytes).map(|v| json!(v)),
        "array4" => codec::decode::<[u8; 4], LIMIT>(what, bytes).map(|v| json!(hex(&v))),
        "kind" => codec::decode::<Kind, LIMIT>(what, bytes).map(|v| json!(v.as_str())),
        other => panic!("a codec vector of unknown type {other}"),
    }
}

fn name_value(name: &ManifestName) -> Value {
    let suffix = format!("{:08x}", name.suffix);
    object([("source", json!(name.source.as_str())), ("unix_s", json!(name.time.unix_s())), ("suffix", json!(suffix))])
}

fn writer_value(key: &WriterKey) -> Value {
    object([
        ("generation", json!(key.generation)),
        ("scope", json!(key.scope.to_string())),
        ("repository", json!(key.repository.to_string())),
        ("secret", json!(hex(key.secret.expose()))),
        ("recipient", json!(hex(&key.recipient))),
    ])
}

fn extents_value(extents: &[Extent]) -> Value {
    extents.iter().map(|e| json!([e.pack, e.offset_bytes, e.len_bytes])).collect()
}

fn index_value(index: &Index) -> Value {
    let chunks: Value = index.chunks.iter().map(|c| json!([c.id.to_string(), c.len_bytes])).collect();
    object([
        ("key_generation", json!(index.key_generation)),
        ("source", json!(index.source.as_str())),
        ("created_unix_s", json!(index.created.unix_s())),
        ("pack_len_bytes", json!(index.pack_len_bytes)),
        ("chunks", chunks),
    ])
}

fn manifest_value(m: &Manifest) -> Value {
    let wrapper = match m.original.wrapper {
        Wrapper::None => 0,
        Wrapper::GzipGoTo126 => 1,
        Wrapper::GzipUnknown => 2,
    };
    let (regions, notes) = match &m.transform {
        Transform::None => (Value::Null, Value::Null),
        Transform::MapOrder { regions, notes } => {
            (regions.iter().map(|r| json!([r.skip_bytes, r.len_bytes])).collect(), extents_value(notes))
        }
    };
    let c = &m.counts;
    let packs: Value =
        m.packs.iter().map(|p| json!([p.id.to_string(), p.object_len_bytes, p.plaintext_len_bytes])).collect();
    object([
        ("name", json!(m.name.to_string())),
        ("key_generation", json!(m.key_generation)),
        ("kind", json!(m.kind.as_str())),
        ("host", json!(m.host)),
        ("tool", json!(m.tool)),
        ("parent", json!(m.parent.as_ref().map(ToString::to_string))),
        ("raft", json!(m.raft.as_ref().map(|r| json!([r.index, r.term, r.version, r.id])))),
        ("labels", m.labels.iter().map(|l| json!([l.key, l.value])).collect()),
        ("original", json!([wrapper, m.original.len_bytes, hex(&m.original.sha256)])),
        ("stream", json!([m.stream.len_bytes, hex(&m.stream.blake3)])),
        ("regions", regions),
        ("notes", notes),
        ("chunker", json!([m.chunker.mean_len_bytes, m.chunker.join_len_bytes])),
        ("packs", packs),
        ("extents", extents_value(&m.extents)),
        ("records", m.records.iter().map(|r| json!([r.tag, r.count])).collect()),
        ("counts", json!([c.chunks, c.chunks_new, c.new_bytes, c.stored_bytes])),
    ])
}

/// What `manifest/good-full` says, written by hand.
fn full_manifest_value() -> Value {
    object([
        ("name", json!("nomad/20261122T153000Z-1a2b3c4d")),
        ("key_generation", json!(1)),
        ("kind", json!("nomad")),
        ("host", json!("host-1")),
        ("tool", json!("hah-vault 0.1.0")),
        ("parent", json!("nomad/20261122T152000Z-1a2b3c4d")),
        ("raft", json!([62, 2, 1, "2-62-1795361005083"])),
        ("labels", json!([["cluster", "home"], ["server-version", "1.1.2"]])),
        ("original", json!([1, 300, "01".repeat(32)])),
        ("stream", json!([1000, "02".repeat(32)])),
        ("regions", json!([[10, 20], [0, 970]])),
        ("notes", json!([[1, 400, 50]])),
        ("chunker", json!([2048, 256])),
        ("packs", json!([["03".repeat(32), 2000, 1500], ["04".repeat(32), 600, 450]])),
        ("extents", json!([[0, 100, 500], [1, 0, 400], [0, 700, 60], [0, 0, 40]])),
        ("records", json!([["0", 3]])),
        ("counts", json!([5, 2, 450, 700])),
    ])
}

#[derive(Deserialize)]
struct List {
    vectors: Vec<Vector>,
}

/// `vectors.json`: one vector a line.
fn list_text(vectors: &[&Vector]) -> String {
    let about = "SPEC.md section 14; made by tests/vectors.rs; R, the identity of all, is 32 bytes of 01";
    let mut out = format!("{{\"about\":{},\n\"identity\":\"{}\",\n", json!(about), hex(&IDENTITY));
    write!(out, "\"writer_secret\":\"{}\",\n\"vectors\":[\n", generate::writer_secret_hex()).unwrap();
    let lines: Vec<_> = vectors.iter().map(|v| serde_json::to_string(v).unwrap()).collect();
    out + &lines.join(",\n") + "\n]}\n"
}

/// Every file that should be there, with its content.
fn made() -> Vec<(PathBuf, Vec<u8>)> {
    let all = generate::all();
    let list = list_text(&all.iter().map(|(vector, _)| vector).collect::<Vec<_>>());
    let files = all.into_iter().filter_map(|(v, content)| Some((dir().join(v.file?), content?)));
    files.chain([(dir().join("vectors.json"), list.into_bytes())]).collect()
}

/// Writes all files anew where that is asked for; once, before any test reads them.
fn bless_if_asked() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if env::var_os("HAH_VAULT_BLESS").is_some() {
            bless();
        }
    });
}

fn bless() {
    assert!(env::var_os("CI").is_none(), "vectors are never made anew in CI");
    for (path, content) in made() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn files_below(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // restore/ is a whole repository: tested by the product, not here.
        match path.is_dir() {
            true if path.ends_with("v1/restore") => {}
            true => files_below(&path, found),
            false => drop(found.insert(path)),
        }
    }
}

#[test]
fn every_vector_has_its_outcome_and_every_file_is_listed() {
    bless_if_asked();
    let list: List = serde_json::from_slice(&fs::read(dir().join("vectors.json")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    let mut listed = BTreeSet::from([dir().join("vectors.json")]);
    for vector in &list.vectors {
        if let Some(file) = &vector.file {
            assert!(listed.insert(dir().join(file)), "listed twice: {file}");
        }
        let outcome = run(vector);
        let found = outcome.as_ref().map_or_else(class, |_| "ok");
        let value_fits = match (&outcome, &vector.value) {
            (Ok(value), Some(expected)) => value == expected,
            (_, expected) => expected.is_none(),
        };
        if found != vector.expect || !value_fits {
            let Vector { kind, name, expect, .. } = vector;
            wrong.push(format!("{kind} {name}: expected {expect}, found {found}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut there = BTreeSet::new();
    files_below(&dir(), &mut there);
    assert_eq!(there, listed, "a file is not listed, or a listed one is missing");
}

#[test]
fn the_generator_still_makes_these_files() {
    bless_if_asked();
    for (path, content) in made() {
        let there = fs::read(&path).unwrap_or_default();
        assert!(there == content, "{} differs; if that is intended, run with HAH_VAULT_BLESS=1", path.display());
    }
}

#[test]
fn every_error_class_has_a_vector() {
    let classes: BTreeSet<_> = generate::all().into_iter().map(|(vector, _)| vector.expect).collect();
    let expected = "decode inconsistent key limit magic name not-canonical ok padding short tag too-new";
    assert_eq!(classes.into_iter().collect::<Vec<_>>().join(" "), expected);
}
