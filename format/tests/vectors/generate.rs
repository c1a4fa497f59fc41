//! Makes the vectors. Deterministic: the same bytes on every run.

use super::encode::{Envelope, Fields, bytes, int, list, none, some, uint};
use super::{Vector, keys_of, object};
use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
use bech32::{Bech32, Bech32m, Fe32, Hrp};
use hah_vault_format::derive::{SourceKeys, repository_id, writer_secret};
use hah_vault_format::{Secret, limits, padme};
use serde_json::{Value, json};

const MANIFEST: &str = "nomad/20261122T153000Z-1a2b3c4d";
const PACK: &str = "2222222222222222222222222222222222222222222222222222222222222222";

/// All vectors, and the files that belong to them.
pub fn all() -> Vec<(Vector, Option<Vec<u8>>)> {
    let mut out = vec![(
        Vector { file: Some("derive.txt".into()), ..Vector::new("derive", "derive", "ok") },
        Some(derive_text().into_bytes()),
    )];
    let inline = [blake3_itself(), names(), key_texts(), codec(), padme(), extents()].concat();
    out.extend(inline.into_iter().map(|vector| (vector, None)));
    for (mut vector, content) in [envelopes(), manifests(), indexes(), packs()].concat() {
        vector.file = Some(format!("{}/{}.bin", vector.kind, vector.name));
        out.push((vector, Some(content)));
    }
    out
}

fn derive_text() -> String {
    let identity = Secret::new(super::IDENTITY);
    let keys = keys_of("vault");
    format!("{} {} {:016x}\n", repository_id(&identity), keys.chunk_id.id(b"abc"), keys.gear[255])
}

fn text(kind: &str, name: &str, expect: &str, text: impl Into<String>) -> Vector {
    Vector { text: Some(text.into()), ..Vector::new(kind, name, expect) }
}

/// The lengths of BLAKE3's own test vectors, and some above the 4 MiB that restore.py hashes at a time.
fn blake3_itself() -> Vec<Vector> {
    let official = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 2048, 2049, 3072, 3073, 4096, 4097,
        5120, 5121, 6144, 6145, 7168, 7169, 8192, 8193, 16_384, 31_744, 102_400,
    ];
    let large: [usize; 3] = [4 << 20, (4 << 20) + 1, (8 << 20) + 3073];
    let vector = |len: usize| Vector {
        value: Some(super::blake3_value(len)),
        ..text("blake3", &len.to_string(), "ok", len.to_string())
    };
    official.into_iter().chain(large).map(vector).collect()
}

fn names() -> Vec<Vector> {
    let a63 = "a".repeat(63);
    let mut out = Vec::new();
    for kind in ["source-name", "key-label"] {
        for (name, good) in [("one-letter", "a"), ("digit-first", "0"), ("dash-last", "a-"), ("longest", &a63)] {
            out.push(text(kind, name, "ok", good));
        }
        let long = format!("{a63}a");
        for (name, bad) in [
            ("empty", ""),
            ("dash-first", "-a"),
            ("upper-case", "Vault"),
            ("slash", "a/b"),
            ("dot", "a.b"),
            ("dots", ".."),
            ("not-ascii", "é"),
            ("too-long", &long),
            ("space", "a b"),
            ("line-end", "a\n"),
            ("nul", "a\0"),
        ] {
            out.push(text(kind, name, "name", bad));
        }
    }
    for (name, value, unix_s) in [
        ("first", "19700101T000000Z", 0u64),
        ("leap-day", "20000229T000000Z", 951_782_400),
        ("example", "20261122T143000Z", 1_795_357_800),
        ("last", "99991231T235959Z", 253_402_300_799),
    ] {
        out.push(Vector { value: Some(json!(unix_s)), ..text("time", name, "ok", value) });
    }
    for (name, bad) in [
        ("no-leap-day", "20260229T000000Z"),
        ("month-13", "20261301T000000Z"),
        ("month-0", "20260001T000000Z"),
        ("day-0", "20260100T000000Z"),
        ("hour-24", "20260101T240000Z"),
        ("second-60", "20261231T235960Z"),
        ("before-1970", "19691231T235959Z"),
        ("small-t", "20260101t000000Z"),
        ("no-zone", "20260101T000000"),
        ("offset", "20260101T000000+0"),
        ("sign", "+0260101T000000Z"),
        ("dashes", "2026-01-01T0000Z"),
    ] {
        out.push(text("time", name, "name", bad));
    }
    let good = "vault/20261122T143000Z-1a2b3c4d";
    let parts =
        object([("source", json!("vault")), ("unix_s", json!(1_795_357_800u64)), ("suffix", json!("1a2b3c4d"))]);
    out.push(Vector { value: Some(parts), ..text("manifest-name", "good", "ok", good) });
    for (name, bad) in [
        ("upper-case-hex", "vault/20261122T143000Z-1A2b3c4d"),
        ("short-suffix", "vault/20261122T143000Z-1a2b3c4"),
        ("long-suffix", "vault/20261122T143000Z-1a2b3c4d0"),
        ("no-source", "20261122T143000Z-1a2b3c4d"),
        ("two-slashes", "a/b/20261122T143000Z-1a2b3c4d"),
        ("of-the-trash", "vault/20261122T143000Z-1a2b3c4d.20261123T143000Z-5e6f7a8b"),
        ("bad-source", "-a/20261122T143000Z-1a2b3c4d"),
        ("bad-time", "vault/20261322T143000Z-1a2b3c4d"),
    ] {
        out.push(text("manifest-name", name, "name", bad));
    }
    for (kind, len) in [("object-name", 64), ("chunk-id", 32), ("repository-id", 32)] {
        out.push(text(kind, "good", "ok", "0f".repeat(len / 2)));
        out.push(text(kind, "upper-case", "name", "0F".repeat(len / 2)));
        out.push(text(kind, "short", "name", "0f".repeat(len / 2 - 1)));
        out.push(text(kind, "odd", "name", "0f".repeat(len / 2)[1..].to_owned()));
        out.push(text(kind, "long", "name", "0f".repeat(len / 2 + 1)));
        out.push(text(kind, "not-hex", "name", "0g".repeat(len / 2)));
    }
    out
}

/// The payload of a writer key (SPEC §4.3), field by field.
fn writer_fields(scope: &str) -> Fields {
    Fields(vec![
        ("version", vec![1]),
        ("suite", vec![1]),
        ("generation", vec![1, 0, 0, 0]),
        ("scope length", vec![u8::try_from(scope.len()).unwrap()]),
        ("scope", scope.as_bytes().to_vec()),
        ("repository", vec![2; 16]),
        ("secret", vec![3; 32]),
        ("recipient", vec![4; 32]),
    ])
}

/// Bech32 whose last padding bit is 1.
fn spoilt<C: bech32::Checksum>(hrp: &str, payload: &[u8]) -> String {
    let mut values: Vec<Fe32> = payload.iter().copied().bytes_to_fes().collect();
    assert_ne!(payload.len() * 8 % 5, 0, "there must be padding bits");
    let last = values.pop().unwrap().to_u8() | 1;
    values.push(Fe32::try_from(last).unwrap());
    values.into_iter().with_checksum::<C>(&Hrp::parse_unchecked(hrp)).chars().collect()
}

fn key_texts() -> Vec<Vector> {
    let writer =
        |payload: &[u8]| bech32::encode_upper::<Bech32m>(Hrp::parse_unchecked("hah-vault-writer-"), payload).unwrap();
    let mut out = Vec::new();
    for (name, scope) in [("all", "*"), ("one-source", "vault"), ("longest-source", &"a".repeat(63))] {
        let value = object([
            ("generation", json!(1)),
            ("scope", json!(scope)),
            ("repository", json!("02".repeat(16))),
            ("secret", json!("03".repeat(32))),
            ("recipient", json!("04".repeat(32))),
        ]);
        out.push(Vector { value: Some(value), ..text("writer-key", name, "ok", writer(&writer_fields(scope).join())) });
    }
    let fields = writer_fields("vault");
    let good = writer(&fields.join());
    out.push(text("writer-key", "lower-case", "ok", good.to_lowercase()));
    out.push(text("writer-key", "space-around", "ok", format!(" {good}\n")));
    let mut key = |name, expect, bad: String| out.push(text("writer-key", name, expect, bad));
    let payload = |changed: Fields| writer(&changed.join());
    key("mixed-case", "key", good.replacen("HAH", "hah", 1));
    key("one-character-changed", "key", good.replace('3', "5"));
    key("cut", "key", good[..good.len() - 1].into());
    key("bech32-checksum", "key", spell::<Bech32>("hah-vault-writer-", &fields.join()));
    key("another-prefix", "key", spell::<Bech32m>("hah-vault-reader-", &fields.join()));
    key("empty", "key", String::new());
    key("empty-payload", "key", writer(&[]));
    key("version-0", "key", payload(fields.with("version", vec![0])));
    key("version-2", "too-new", payload(fields.with("version", vec![2])));
    key("version-2-of-another-layout", "too-new", writer(&[2, 9, 9]));
    key("suite-2", "key", payload(fields.with("suite", vec![2])));
    key("generation-0", "key", payload(fields.with("generation", vec![0; 4])));
    key("scope-empty", "key", payload(writer_fields("")));
    key("scope-bad", "key", payload(writer_fields("Vault")));
    key("scope-not-utf8", "key", payload(fields.with("scope", vec![0xff; 5])));
    key("scope-length-past-the-end", "key", payload(fields.with("scope length", vec![200])));
    key("payload-cut", "key", payload(fields.with("recipient", vec![4; 31])));
    key("bytes-after-the-end", "key", payload(fields.with("recipient", vec![4; 33])));
    key("padding-bit", "not-canonical", spoilt::<Bech32m>("hah-vault-writer-", &writer_fields("*").join()));

    let [public, secret] = [("recipient", "age"), ("identity", "age-secret-key-")];
    for (kind, hrp) in [public, secret] {
        let case = |t: String| if kind == "identity" { t.to_uppercase() } else { t };
        let good = case(spell::<Bech32>(hrp, &[1; 32]));
        out.push(Vector { value: Some(json!("01".repeat(32))), ..text(kind, "good", "ok", good.clone()) });
        out.push(text(kind, "one-character-changed", "key", good.replace(['q', 'Q'], "p")));
        out.push(text(kind, "31-bytes", "key", case(spell::<Bech32>(hrp, &[1; 31]))));
        out.push(text(kind, "33-bytes", "key", case(spell::<Bech32>(hrp, &[1; 33]))));
        out.push(text(kind, "bech32m-checksum", "key", case(spell::<Bech32m>(hrp, &[1; 32]))));
        out.push(text(kind, "another-prefix", "key", case(spell::<Bech32>("age1pq", &[1; 32]))));
        out.push(text(kind, "padding-bit", "not-canonical", case(spoilt::<Bech32>(hrp, &[1; 32]))));
    }
    out
}

fn spell<C: bech32::Checksum>(hrp: &str, payload: &[u8]) -> String {
    bech32::encode_lower::<C>(Hrp::parse_unchecked(hrp), payload).unwrap()
}

fn codec() -> Vec<Vector> {
    let mut out = Vec::new();
    let mut good = |codec: &str, name: &str, content: Vec<u8>, value: Value| {
        let vector = Vector::new("codec", &format!("{codec}-{name}"), "ok");
        out.push(Vector { codec: Some(codec.into()), hex: Some(hex(&content)), value: Some(value), ..vector });
    };
    for value in [0, 1, 250, 251, 252, 255, 256, 65_535, 65_536, 70_000, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
        good("u64", &value.to_string(), uint(value), json!(value));
    }
    good("u32", "4294967295", uint(0xffff_ffff), json!(u32::MAX));
    good("u8", "255", vec![255], json!(255));
    for value in [0, -1, 1, -3, 125, -126, 1 << 20, -(1 << 20), i64::MAX, i64::MIN] {
        good("i64", &value.to_string(), int(value), json!(value));
    }
    good("text", "empty", bytes(""), json!(""));
    good("text", "accented", bytes("hé"), json!("hé"));
    good("blob", "two", bytes([9, 8]), json!("0908"));
    good("list-u32", "three", list(&[uint(250), uint(251), uint(70_000)]), json!([250, 251, 70_000]));
    good("option-u32", "none", none(), json!(null));
    good("option-u32", "some", some(uint(300)), json!(300));
    good("array4", "four", vec![1, 2, 3, 4], json!("01020304"));
    good("kind", "nomad", uint(4), json!("nomad"));
    let huge = [253, 255, 255, 255, 255, 255, 255, 255, 127];
    let mut bad = |codec: &str, name: &str, content: &[u8], expect: &str| {
        let vector = Vector::new("codec", &format!("{codec}-{name}"), expect);
        out.push(Vector { codec: Some(codec.into()), hex: Some(hex(content)), ..vector });
    };
    bad("u64", "5-in-two-bytes", &[251, 5, 0], "not-canonical");
    bad("u64", "250-in-two-bytes", &[251, 250, 0], "not-canonical");
    bad("u64", "65535-in-four-bytes", &[252, 255, 255, 0, 0], "not-canonical");
    bad("u64", "5-in-eight-bytes", &[253, 5, 0, 0, 0, 0, 0, 0, 0], "not-canonical");
    bad("u64", "leftover-byte", &[5, 0], "not-canonical");
    bad("u64", "cut", &[251, 5], "decode");
    bad("u64", "empty", &[], "decode");
    bad("u64", "marker-254", &[&[254][..], &[1; 16]].concat(), "decode");
    bad("u64", "marker-255", &[255], "decode");
    bad("u32", "marker-253", &[253, 5, 0, 0, 0, 0, 0, 0, 0], "decode");
    bad("i64", "leftover-byte", &[5, 0], "not-canonical");
    bad("text", "not-utf8", &[1, 0xff], "decode");
    bad("text", "cut", &[3, b'a'], "decode");
    bad("text", "huge-length", &huge, "decode");
    bad("blob", "huge-length", &huge, "decode");
    bad("list-u32", "huge-length", &huge, "decode");
    bad("list-u32", "cut", &[2, 5], "decode");
    bad("option-u32", "tag-2", &[2, 5], "decode");
    bad("array4", "cut", &[1, 2, 3], "decode");
    bad("kind", "variant-5", &[5], "decode");
    bad("kind", "variant-in-two-bytes", &[251, 4, 0], "not-canonical");
    out
}

fn padme() -> Vec<Vector> {
    let lens = [0, 1, 2, 3, 7, 8, 9, 10, 16, 17, 50, 51, 100, 1000, 1025, 4097, 40_000, 65_537, 1 << 20, (1 << 20) + 1];
    let large = [(8 << 20) - 1, 8 << 20, (8 << 20) + 1, (1 << 46) + 1];
    let vector = |len: u64| Vector {
        value: Some(json!(padme::padded_len_bytes(len))),
        ..text("padme", &len.to_string(), "ok", len.to_string())
    };
    lens.into_iter().chain(large).map(vector).collect()
}

fn hex(content: &[u8]) -> String {
    content.iter().map(|b| format!("{b:02x}")).collect()
}

fn extent(pack: u64, offset_delta: i64, len: u64) -> Vec<u8> {
    [uint(pack), int(offset_delta), uint(len)].concat()
}

fn extents() -> Vec<Vector> {
    let vector = |name: &str, expect: &str, packs: &[u32], stream_len: u64, wire: &[Vec<u8>]| Vector {
        hex: Some(hex(&list(wire))),
        packs: Some(packs.to_vec()),
        stream_len: Some(stream_len),
        ..Vector::new("extents", name, expect)
    };
    let two = [1500, 450];
    let good = |name, packs: &[u32], wire: &[Vec<u8>], value: Value| {
        let lens = value.as_array().unwrap().iter().map(|e| e[2].as_u64().unwrap());
        Vector { value: Some(value.clone()), ..vector(name, "ok", packs, lens.sum(), wire) }
    };
    let one = |name, delta, len| vector(name, "inconsistent", &[1500], len, &[extent(0, delta, len)]);
    let first = extent(0, 100, 500);
    vec![
        good("none", &[], &[], json!([])),
        good("whole-pack", &[1500], &[extent(0, 0, 1500)], json!([[0, 0, 1500]])),
        good(
            "the-example-of-the-spec",
            &two,
            &[first.clone(), extent(1, 0, 400), extent(0, 100, 60), extent(0, -760, 40)],
            json!([[0, 100, 500], [1, 0, 400], [0, 700, 60], [0, 0, 40]]),
        ),
        good("twice-the-same", &[1500], &[extent(0, 0, 9), extent(0, -9, 9)], json!([[0, 0, 9], [0, 0, 9]])),
        good(
            "back-to-back-in-turns",
            &two,
            &[extent(0, 0, 9), extent(1, 0, 9), extent(0, 0, 9), extent(1, 0, 9)],
            json!([[0, 0, 9], [1, 0, 9], [0, 9, 9], [1, 9, 9]]),
        ),
        one("empty", 0, 0),
        one("one-byte-past-the-pack", 1, 1500),
        one("before-the-pack", -1, 9),
        one("offset-larger-than-u32", 1 << 32, 9),
        one("offset-overflow", i64::MAX, 9),
        vector("end-overflow", "inconsistent", &[1500], 509, &[first.clone(), extent(0, i64::MAX, 9)]),
        vector("no-such-pack", "inconsistent", &[1500], 509, &[first.clone(), extent(1, 0, 9)]),
        vector("pack-not-used", "inconsistent", &two, 500, std::slice::from_ref(&first)),
        vector("sum-is-not-the-stream", "inconsistent", &[1500], 501, &[first]),
    ]
}

/// The tag key of a manifest or an index, and what an envelope of it begins with.
fn sealed(kind: &str, source: &str, logical_name: &str, version: u16, body: &[u8]) -> Vec<u8> {
    let SourceKeys { manifest_tag, index_tag, .. } = keys_of(source);
    let (magic, key) = if kind == "index" { (b"HAHVINDX", index_tag) } else { (b"HAHVMANF", manifest_tag) };
    Envelope { magic, version, key: key.expose(), logical_name, body }.seal()
}

fn envelopes() -> Vec<(Vector, Vec<u8>)> {
    let logical = "manifest/vault/20261122T143000Z-1a2b3c4d";
    let seal = |body: &[u8]| sealed("manifest", "vault", logical, 1, body);
    let vector = |name: &str, expect: &str| Vector {
        source: Some("vault".into()),
        logical_name: Some(logical.into()),
        ..Vector::new("envelope", name, expect)
    };
    let mut out = Vec::new();
    for (name, body) in [("good-empty", vec![]), ("good-300-bytes", vec![0xaa; 300]), ("good-no-padding", vec![7; 54])]
    {
        out.push((Vector { value: Some(json!(hex(&body))), ..vector(name, "ok") }, seal(&body)));
    }
    let good = seal(&[0xaa; 300]);
    let flipped = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        bad
    };
    let resized = |len: usize, of: &[u8]| {
        let mut bad = of.to_vec();
        bad.resize(len, 0);
        bad
    };
    let mut bad = |name: &str, expect: &str, content: Vec<u8>| out.push((vector(name, expect), content));
    bad("empty-file", "short", vec![]);
    bad("7-bytes", "short", good[..7].into());
    bad("49-bytes", "short", good[..49].into());
    bad("cut-in-the-body", "short", good[..349].into());
    bad("length-past-the-end", "short", flipped(44));
    bad("length-huge", "short", [&good[..42], &[255; 8], &good[50..]].concat());
    bad("magic-changed", "magic", flipped(0));
    bad("magic-changed-and-cut", "magic", flipped(7)[..8].into());
    bad("an-index", "magic", sealed("index", "vault", logical, 1, &[0xaa; 300]));
    bad("version-2", "too-new", sealed("manifest", "vault", logical, 2, &[0xaa; 300]));
    bad("version-65535", "too-new", sealed("manifest", "vault", logical, u16::MAX, &[0xaa; 300]));
    bad("version-0", "tag", sealed("manifest", "vault", logical, 0, &[0xaa; 300]));
    bad("tag-first-bit", "tag", flipped(10));
    bad("tag-last-bit", "tag", flipped(41));
    bad("body-first-bit", "tag", flipped(50));
    bad("body-last-bit", "tag", flipped(349));
    bad("length-one-less", "tag", [&good[..42], &299u64.to_le_bytes()[..], &good[50..]].concat());
    bad("length-one-more", "tag", [&good[..42], &301u64.to_le_bytes()[..], &good[50..]].concat());
    bad(
        "another-time",
        "tag",
        sealed("manifest", "vault", "manifest/vault/20261122T143001Z-1a2b3c4d", 1, &[0xaa; 300]),
    );
    bad(
        "name-of-the-key",
        "tag",
        sealed("manifest", "vault", "manifests/vault/20261122T143000Z-1a2b3c4d", 1, &[0xaa; 300]),
    );
    bad("key-of-another-source", "tag", sealed("manifest", "consul", logical, 1, &[0xaa; 300]));
    bad("padding-first-byte", "padding", flipped(350));
    bad("padding-last-byte", "padding", flipped(good.len() - 1));
    bad("padding-cut", "padding", good[..good.len() - 1].into());
    bad("padding-none", "padding", good[..350].into());
    bad("padding-one-more", "padding", resized(good.len() + 1, &good));
    bad("padding-of-the-next-length", "padding", resized(384, &good));
    out
}

fn name_of(time_unix_s: u64) -> Vec<u8> {
    [uint(time_unix_s), uint(0x1a2b_3c4d)].concat()
}

fn pack_ref(id: u8, object_len: u64, plaintext_len: u64) -> Vec<u8> {
    [vec![id; 32], uint(object_len), uint(plaintext_len)].concat()
}

fn label(key: &str, value: &str) -> Vec<u8> {
    [bytes(key), bytes(value)].concat()
}

fn raft(id: &str) -> Vec<u8> {
    some([uint(62), uint(2), uint(1), bytes(id)].concat())
}

fn original(wrapper: u64, len: u64) -> Vec<u8> {
    [uint(wrapper), uint(len), vec![1; 32]].concat()
}

fn map_order(regions: &[(u64, u64)], notes: &[Vec<u8>]) -> Vec<u8> {
    let regions: Vec<_> = regions.iter().map(|(skip, len)| [uint(*skip), uint(*len)].concat()).collect();
    [uint(1), list(&regions), list(notes)].concat()
}

/// A manifest in which every field is used (SPEC §6).
fn manifest_fields() -> Fields {
    Fields(vec![
        ("key_generation", uint(1)),
        ("source", bytes("nomad")),
        ("name", name_of(1_795_361_400)),
        ("kind", uint(4)),
        ("host", bytes("host-1")),
        ("tool", bytes("hah-vault 0.1.0")),
        ("parent", some(name_of(1_795_360_800))),
        ("raft", raft("2-62-1795361005083")),
        ("labels", list(&[label("cluster", "home"), label("server-version", "1.1.2")])),
        ("original", original(1, 300)),
        ("stream", [uint(1000), vec![2; 32]].concat()),
        ("transform", map_order(&[(10, 20), (0, 970)], &[extent(1, 400, 50)])),
        ("chunker", [uint(2048), uint(256)].concat()),
        ("packs", list(&[pack_ref(3, 2000, 1500), pack_ref(4, 600, 450)])),
        ("extents", list(&[extent(0, 100, 500), extent(1, 0, 400), extent(0, 100, 60), extent(0, -760, 40)])),
        ("records", list(&[[bytes("0"), uint(3)].concat()])),
        ("counts", [uint(5), uint(2), uint(450), uint(700)].concat()),
    ])
}

fn minimal_fields() -> Fields {
    let changes = [
        ("kind", uint(0)),
        ("host", bytes("")),
        ("tool", bytes("")),
        ("parent", none()),
        ("raft", none()),
        ("labels", list(&[])),
        ("original", original(0, 0)),
        ("stream", [uint(0), vec![2; 32]].concat()),
        ("transform", uint(0)),
        ("packs", list(&[])),
        ("extents", list(&[])),
        ("records", list(&[])),
        ("counts", [uint(0), uint(0), uint(0), uint(0)].concat()),
    ];
    changes.into_iter().fold(manifest_fields(), |fields, (name, value)| fields.with(name, value))
}

fn manifests() -> Vec<(Vector, Vec<u8>)> {
    let vector =
        |name: &str, expect: &str| Vector { manifest: Some(MANIFEST.into()), ..Vector::new("manifest", name, expect) };
    let seal = |body: &[u8]| sealed("manifest", "nomad", &format!("manifest/{MANIFEST}"), 1, body);
    let full = manifest_fields();
    let mut out = vec![
        (Vector { value: Some(super::full_manifest_value()), ..vector("good-full", "ok") }, seal(&full.join())),
        (vector("good-minimal", "ok"), seal(&minimal_fields().join())),
        (vector("good-longest-texts", "ok"), seal(&full.with("host", bytes("h".repeat(255))).join())),
    ];
    let mut defect = |name: &str, expect: &str, field: &str, value: Vec<u8>| {
        out.push((vector(name, expect), seal(&full.with(field, value).join())));
    };
    let (wrong, limit) = ("inconsistent", "limit");
    let labels = |list_of: &[(&str, &str)]| list(&list_of.iter().map(|(k, v)| label(k, v)).collect::<Vec<_>>());
    let max_pack = u64::from(limits::PACK_PLAINTEXT_LEN_BYTES_MAX);
    defect("generation-0", wrong, "key_generation", uint(0));
    defect("source-bad", "decode", "source", bytes("Nomad"));
    defect("source-of-another", wrong, "source", bytes("consul"));
    defect("name-of-another", wrong, "name", name_of(1_795_361_401));
    defect("name-after-9999", limit, "name", name_of(253_402_300_800));
    defect("kind-unknown", "decode", "kind", uint(5));
    defect("host-not-utf8", "decode", "host", bytes([0xff]));
    defect("host-too-long", limit, "host", bytes("h".repeat(256)));
    defect("tool-too-long", limit, "tool", bytes("t".repeat(256)));
    defect("parent-tag-2", "decode", "parent", [vec![2], name_of(1_795_360_800)].concat());
    defect("parent-after-9999", limit, "parent", some(name_of(253_402_300_800)));
    defect("raft-id-too-long", limit, "raft", raft(&"i".repeat(256)));
    defect("labels-out-of-order", wrong, "labels", labels(&[("b", "1"), ("a", "2")]));
    defect("labels-twice", wrong, "labels", labels(&[("a", "1"), ("a", "2")]));
    defect("label-key-empty", wrong, "labels", labels(&[("", "1")]));
    defect("label-key-too-long", limit, "labels", labels(&[(&"k".repeat(256), "1")]));
    defect("label-value-too-long", limit, "labels", labels(&[("a", &"v".repeat(4097))]));
    let many: Vec<_> = (0..65).map(|i| label(&format!("{i:02}"), "")).collect();
    defect("labels-65", limit, "labels", list(&many));
    defect("wrapper-unknown", "decode", "original", original(3, 300));
    defect("no-wrapper-other-length", wrong, "original", original(0, 300));
    defect("stream-longer-than-extents", wrong, "stream", [uint(1001), vec![2; 32]].concat());
    defect("stream-hash-cut", "decode", "stream", [uint(1000), vec![2; 30]].concat());
    defect("transform-unknown", "decode", "transform", uint(2));
    let note = || [extent(1, 0, 1)];
    defect("region-empty", wrong, "transform", map_order(&[(0, 0)], &note()));
    defect("region-past-the-stream", wrong, "transform", map_order(&[(0, 1001)], &note()));
    defect("region-overflow", wrong, "transform", map_order(&[(u64::MAX, u64::MAX)], &note()));
    defect("regions-too-many", limit, "transform", map_order(&vec![(0, 1); limits::MANIFEST_REGIONS_MAX + 1], &note()));
    defect("note-outside-its-pack", wrong, "transform", map_order(&[(0, 1)], &[extent(1, 400, 51)]));
    defect("note-of-no-pack", wrong, "transform", map_order(&[(0, 1)], &[extent(2, 0, 1)]));
    defect("pack-twice", wrong, "packs", list(&[pack_ref(3, 2000, 1500), pack_ref(3, 600, 450)]));
    let unused = [pack_ref(3, 2000, 1500), pack_ref(4, 600, 450), pack_ref(5, 1, 1)];
    defect("pack-unused", wrong, "packs", list(&unused));
    defect("pack-plaintext-too-long", limit, "packs", list(&[pack_ref(3, 2000, max_pack + 1), pack_ref(4, 600, 450)]));
    let object = limits::PACK_OBJECT_LEN_BYTES_MAX + 1;
    defect("pack-object-too-long", limit, "packs", list(&[pack_ref(3, object, 1500), pack_ref(4, 600, 450)]));
    defect("record-tag-too-long", limit, "records", list(&[[bytes("t".repeat(256)), uint(1)].concat()]));
    let many: Vec<_> = (0..257).map(|i| [bytes(i.to_string()), uint(1)].concat()).collect();
    defect("records-257", limit, "records", list(&many));
    defect("counts-not-shortest", "not-canonical", "counts", [vec![251, 5, 0], uint(2), uint(450), uint(700)].concat());
    let body = full.join();
    out.push((vector("body-cut", "decode"), seal(&body[..body.len() - 1])));
    out.push((vector("body-empty", "decode"), seal(&[])));
    out.push((vector("byte-after-the-body", "not-canonical"), seal(&[&body[..], &[0]].concat())));
    out
}

fn index_fields() -> Fields {
    Fields(vec![
        ("key_generation", uint(1)),
        ("source", bytes("vault")),
        ("created_unix_s", uint(1_795_361_015)),
        ("pack_len_bytes", uint(4711)),
        ("ids", bytes([[0x11; 16], [0x22; 16]].concat())),
        ("lens", list(&[uint(300), uint(2048)])),
    ])
}

fn indexes() -> Vec<(Vector, Vec<u8>)> {
    let vector = |name: &str, expect: &str| Vector {
        source: Some("vault".into()),
        pack: Some(PACK.into()),
        ..Vector::new("index", name, expect)
    };
    let seal = |body: &[u8]| sealed("index", "vault", &format!("index/{PACK}"), 1, body);
    let full = index_fields();
    let value = object([
        ("key_generation", json!(1)),
        ("source", json!("vault")),
        ("created_unix_s", json!(1_795_361_015u64)),
        ("pack_len_bytes", json!(4711)),
        ("chunks", json!([["11".repeat(16), 300], ["22".repeat(16), 2048]])),
    ]);
    let mut out = vec![(Vector { value: Some(value), ..vector("good", "ok") }, seal(&full.join()))];
    let longest = full.with("lens", list(&[uint(1 << 20), uint(1)]));
    out.push((vector("good-longest-chunk", "ok"), seal(&longest.join())));
    let mut defect = |name: &str, expect: &str, changes: &[(&str, Vec<u8>)]| {
        let changed = changes.iter().fold(full.clone(), |fields, (field, value)| fields.with(field, value.clone()));
        out.push((vector(name, expect), seal(&changed.join())));
    };
    defect("generation-0", "inconsistent", &[("key_generation", uint(0))]);
    defect("source-bad", "decode", &[("source", bytes("-"))]);
    defect("created-after-9999", "limit", &[("created_unix_s", uint(253_402_300_800))]);
    defect("pack-object-too-long", "limit", &[("pack_len_bytes", uint(limits::PACK_OBJECT_LEN_BYTES_MAX + 1))]);
    defect("ids-not-whole", "inconsistent", &[("ids", bytes([0x11; 33]))]);
    defect("ids-fewer", "inconsistent", &[("ids", bytes([0x11; 16]))]);
    defect("no-chunk", "inconsistent", &[("ids", bytes("")), ("lens", list(&[]))]);
    defect("chunk-empty", "inconsistent", &[("lens", list(&[uint(300), uint(0)]))]);
    defect("chunk-too-long", "limit", &[("lens", list(&[uint(300), uint((1 << 20) + 1)]))]);
    let nine = [("ids", bytes([0x11; 144])), ("lens", list(&vec![uint(1 << 20); 9]))];
    defect("sum-too-long", "limit", &nine);
    let n = limits::PACK_CHUNKS_MAX as usize + 1;
    defect("chunks-65537", "limit", &[("ids", bytes(vec![0x11; n * 16])), ("lens", list(&vec![uint(1); n]))]);
    defect("length-not-shortest", "not-canonical", &[("lens", list(&[vec![252, 44, 1, 0, 0], uint(2048)]))]);
    let body = full.join();
    out.push((vector("body-cut", "decode"), seal(&body[..body.len() - 1])));
    out.push((vector("byte-after-the-body", "not-canonical"), seal(&[&body[..], &[0]].concat())));
    let moved = sealed("index", "vault", &format!("index/{}", PACK.replace('2', "3")), 1, &body);
    out.push((vector("of-another-pack", "tag"), moved));
    let seen_as_manifest = sealed("manifest", "vault", &format!("index/{PACK}"), 1, &body);
    out.push((vector("magic-of-a-manifest", "magic"), seen_as_manifest));
    out
}

/// A skippable frame that makes a PADMÉ length.
fn padded(frame: &[u8]) -> Vec<u8> {
    let total = padme::padded_len_bytes(frame.len() as u64 + 8);
    let zeros = u32::try_from(total).unwrap() - u32::try_from(frame.len()).unwrap() - 8;
    [frame, &[0x50, 0x2a, 0x4d, 0x18], &zeros.to_le_bytes(), &vec![0; zeros as usize]].concat()
}

/// A zstd frame: magic, the given header, and blocks of (type, content).
fn frame(header: &[u8], blocks: &[(u32, usize, &[u8])]) -> Vec<u8> {
    let mut out = [&[0x28, 0xb5, 0x2f, 0xfd], header].concat();
    for (i, (kind, size, content)) in blocks.iter().enumerate() {
        let word = u32::try_from(*size).unwrap() << 3 | kind << 1 | u32::from(i + 1 == blocks.len());
        out.extend(&word.to_le_bytes()[..3]);
        out.extend(*content);
    }
    out
}

fn packs() -> Vec<(Vector, Vec<u8>)> {
    let vector =
        |name: &str, expect: &str, len: u32| Vector { plaintext_len: Some(len), ..Vector::new("pack", name, expect) };
    // By zstd 1.5.4 of "hah-vault " 100 times: without and with a checksum, and from a pipe (no size declared).
    let body = "8d0000506861682d7661756c74200100db5b1524";
    let parse = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    let words = "hah-vault ".repeat(100);
    let plain = parse(&format!("28b52ffd60e802{body}"));
    let summed = parse(&format!("28b52ffd64e802{body}6b0318ac"));
    let piped = parse(&format!("28b52ffd0458{body}6b0318ac"));
    let noise: Vec<u8> = (0..1000u32).map(|i| (i * i % 251).to_le_bytes()[0]).collect();
    let small = |descriptor: u8| frame(&[descriptor, 0xe8, 0x02], &[(0, 1000, &noise)]);
    let windowed = |window: u8| frame(&[0x80, window, 0xe8, 0x03, 0, 0], &[(0, 1000, &noise)]);
    let mut out = Vec::new();
    let mut good = |name: &str, frame: &[u8], plaintext: &[u8]| {
        let hash = blake3::hash(plaintext).to_hex().to_string();
        let value = object([("frame_len", json!(frame.len())), ("plaintext_blake3", json!(hash))]);
        let len = u32::try_from(plaintext.len()).unwrap();
        out.push((Vector { value: Some(value), ..vector(name, "ok", len) }, padded(frame)));
    };
    good("good", &plain, words.as_bytes());
    good("good-checksum", &summed, words.as_bytes());
    good("good-raw-block", &small(0x60), &noise);
    good("good-window-8-mib", &windowed(13 << 3), &noise);
    good("good-size-in-8-bytes", &frame(&[0xe0, 0xe8, 3, 0, 0, 0, 0, 0, 0], &[(0, 1000, &noise)]), &noise);
    good("good-size-in-1-byte", &frame(&[0x20, 200], &[(0, 200, &noise[..200])]), &noise[..200]);
    let two = frame(&[0x60, 0xe8, 2], &[(1, 500, &[7]), (0, 500, &noise[..500])]);
    good("good-two-blocks", &two, &[vec![7; 500], noise[..500].to_vec()].concat());

    let whole = padded(&plain);
    let mut bad = |name: &str, expect: &str, len: u32, content: Vec<u8>| out.push((vector(name, expect, len), content));
    bad("empty-file", "magic", 1000, vec![]);
    bad("magic-changed", "magic", 1000, [&[0x29], &whole[1..]].concat());
    bad("padding-frame-first", "magic", 1000, [&padded(&[])[..], &plain].concat());
    bad("cut-after-the-magic", "short", 1000, plain[..4].into());
    bad("cut-in-the-header", "short", 1000, plain[..6].into());
    bad("cut-in-the-block", "short", 1000, plain[..20].into());
    bad("no-padding-frame", "short", 1000, plain.clone());
    bad("plaintext-one-more", "inconsistent", 1001, whole.clone());
    let long = limits::PACK_PLAINTEXT_LEN_BYTES_MAX + 1;
    let declared = [&[0xa0][..], &long.to_le_bytes()].concat();
    bad("plaintext-above-the-limit", "inconsistent", long, padded(&frame(&declared, &[(0, 1000, &noise)])));
    bad("dictionary", "inconsistent", 1000, padded(&frame(&[0x61, 1, 0xe8, 0x02], &[(0, 1000, &noise)])));
    bad("reserved-bit", "inconsistent", 1000, padded(&small(0x68)));
    bad("reserved-block", "inconsistent", 1000, padded(&frame(&[0x60, 0xe8, 2], &[(3, 1000, &noise)])));
    bad("no-size", "inconsistent", 1000, padded(&piped));
    bad("window-9-mib", "inconsistent", 1000, padded(&windowed(13 << 3 | 1)));
    bad("window-16-mib", "inconsistent", 1000, padded(&windowed(14 << 3)));
    bad("two-data-frames", "padding", 1000, padded(&[&plain[..], &plain].concat()));
    bad("two-padding-frames", "padding", 1000, padded(&[&plain[..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat()));
    let nonzero = [&whole[..whole.len() - 1], &[1]].concat();
    bad("padding-not-zero", "padding", 1000, if whole.len() > plain.len() + 8 { nonzero } else { unreachable!() });
    bad("padding-of-another-magic", "padding", 1000, [&plain[..], &[0x51], &whole[plain.len() + 1..]].concat());
    bad("byte-after-the-end", "padding", 1000, [&whole[..], &[0]].concat());
    let unpadded = padded_without_zeros(&small(0x60));
    bad("not-a-padme-length", "padding", 1000, unpadded);
    out
}

fn padded_without_zeros(frame: &[u8]) -> Vec<u8> {
    [frame, &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat()
}

/// The writer secret of the vectors' repository, for the header of the list.
pub fn writer_secret_hex() -> String {
    hex(writer_secret(&Secret::new(super::IDENTITY)).expose())
}
