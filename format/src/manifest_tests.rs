use super::*;
use proptest::prelude::*;

fn key() -> Secret {
    Secret::new([9; 32])
}

fn name(source: &str, unix_s: u64) -> ManifestName {
    ManifestName { source: source.parse().unwrap(), time: UnixTime::from_unix_s(unix_s).unwrap(), suffix: 0x1a2b_3c4d }
}

/// A small manifest in which every field is used.
fn sample() -> Manifest {
    Manifest {
        name: name("nomad", 1_795_361_400),
        key_generation: 1,
        kind: Kind::Nomad,
        host: "host-1".into(),
        tool: "hah-vault 0.1.0".into(),
        parent: Some(name("nomad", 1_795_360_800)),
        raft: Some(RaftMeta { index: 62, term: 2, version: 1, id: "2-62-1795361005083".into() }),
        labels: vec![
            ManifestLabel { key: "cluster".into(), value: "home".into() },
            ManifestLabel { key: "server-version".into(), value: "1.1.2".into() },
        ],
        original: Original { wrapper: Wrapper::GzipGoTo126, len_bytes: 300, sha256: [1; 32] },
        stream: Stream { len_bytes: 1000, blake3: [2; 32] },
        transform: Transform::MapOrder {
            regions: vec![Region { skip_bytes: 10, len_bytes: 20 }, Region { skip_bytes: 0, len_bytes: 970 }],
            notes: vec![Extent { pack: 1, offset_bytes: 400, len_bytes: 50 }],
        },
        chunker: Chunker { mean_len_bytes: 2048, join_len_bytes: 256 },
        packs: vec![
            PackRef { id: ObjectId([3; 32]), object_len_bytes: 2000, plaintext_len_bytes: 1500 },
            PackRef { id: ObjectId([4; 32]), object_len_bytes: 600, plaintext_len_bytes: 450 },
        ],
        extents: vec![
            Extent { pack: 0, offset_bytes: 100, len_bytes: 500 },
            Extent { pack: 1, offset_bytes: 0, len_bytes: 400 },
            Extent { pack: 0, offset_bytes: 700, len_bytes: 60 },
            Extent { pack: 0, offset_bytes: 0, len_bytes: 40 },
        ],
        records: vec![RecordCount { tag: "0".into(), count: 3 }],
        counts: Counts { chunks: 5, chunks_new: 2, new_bytes: 450, stored_bytes: 700 },
    }
}

fn reopen(manifest: &Manifest) -> Result<Manifest, FormatError> {
    Manifest::from_envelope(&key(), &manifest.name, &manifest.to_envelope(&key())?)
}

#[test]
fn a_manifest_comes_back_as_it_was() {
    assert_eq!(reopen(&sample()), Ok(sample()));
}

#[test]
fn a_manifest_under_another_name_is_refused() {
    let bytes = sample().to_envelope(&key()).unwrap();
    for other in [name("consul", 1_795_361_400), name("nomad", 1_795_361_401)] {
        let opened = Manifest::from_envelope(&key(), &other, &bytes);
        assert_eq!(opened, Err(FormatError::Tag { what: "manifest" }));
    }
}

#[test]
fn manifests_that_contradict_themselves_are_refused() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 18] = [
        ("stream longer than its extents", |m| m.stream.len_bytes += 1),
        ("extent outside its pack", |m| m.packs[1].plaintext_len_bytes = 449),
        ("extent of no pack", |m| m.extents[1].pack = 2),
        ("empty extent", |m| m.extents[1].len_bytes = 0),
        ("pack twice", |m| m.packs[1].id = m.packs[0].id),
        ("unused pack", |m| m.packs.push(PackRef { id: ObjectId([5; 32]), ..m.packs[0] })),
        ("region outside the stream", |m| m.transform = regions(&[(0, 1001)])),
        ("empty region", |m| m.transform = regions(&[(0, 0)])),
        ("region overflow", |m| m.transform = regions(&[(u64::MAX, u64::MAX)])),
        ("labels out of order", |m| m.labels.reverse()),
        ("label twice", |m| m.labels[1].key = "cluster".into()),
        ("label without key", |m| m.labels[0].key = String::new()),
        ("pack object too large", |m| m.packs[0].object_len_bytes = PACK_OBJECT_LEN_BYTES_MAX + 1),
        ("host too long", |m| m.host = "h".repeat(256)),
        ("label too long", |m| m.labels[0].value = "v".repeat(4097)),
        ("no key generation", |m| m.key_generation = 0),
        ("unwrapped, other length", |m| m.original.wrapper = Wrapper::None),
        ("pack too large", |m| m.packs[0].plaintext_len_bytes = PACK_PLAINTEXT_LEN_BYTES_MAX + 1),
    ];
    for (what, change) in changes {
        let mut manifest = sample();
        change(&mut manifest);
        assert!(manifest.to_envelope(&key()).is_err(), "written: {what}");
        // The same must be refused by the reader, whose writer may be hostile.
        let body = codec::encode(WHAT, &manifest.to_wire()).unwrap();
        let bytes = envelope::wrap(Type::Manifest, &key(), &manifest.name.logical_name(), &body);
        assert!(Manifest::from_envelope(&key(), &manifest.name, &bytes).is_err(), "read: {what}");
    }
}

fn regions(list: &[(u64, u64)]) -> Transform {
    let regions = list.iter().map(|(skip_bytes, len_bytes)| Region { skip_bytes: *skip_bytes, len_bytes: *len_bytes });
    Transform::MapOrder { regions: regions.collect(), notes: vec![Extent { pack: 1, offset_bytes: 0, len_bytes: 1 }] }
}

/// The codec once counted decoded widths against the length limit, so that this could be written, not read.
#[test]
fn the_longest_lists_of_extents_come_back() {
    let mut manifest = sample();
    let extent = Extent { pack: 1, offset_bytes: 0, len_bytes: 1 };
    manifest.extents = vec![extent; MANIFEST_EXTENTS_MAX - 1];
    manifest.extents.push(Extent { pack: 0, ..extent });
    manifest.stream.len_bytes = MANIFEST_EXTENTS_MAX as u64;
    manifest.transform = Transform::MapOrder { regions: vec![], notes: vec![extent; MANIFEST_EXTENTS_MAX] };
    assert!(reopen(&manifest) == Ok(manifest));
}

#[test]
fn an_envelope_longer_than_the_limit_is_refused_before_it_is_looked_at() {
    let opened = Manifest::from_envelope(&key(), &sample().name, &vec![0; MANIFEST_LEN_BYTES_MAX + 1]);
    assert!(matches!(opened, Err(FormatError::Limit { what: "manifest length", .. })));
}

proptest! {
    #[test]
    fn any_extents_round_trip(list in proptest::collection::vec((0u32..3, 0u32..5_000, 1u32..5_000), 3..60)) {
        let mut manifest = sample();
        manifest.transform = Transform::None;
        manifest.packs = (0..3u8).map(|i| PackRef { id: ObjectId([i; 32]), object_len_bytes: 1, plaintext_len_bytes: 10_000 }).collect();
        manifest.extents = list.into_iter().map(|(pack, offset_bytes, len_bytes)| Extent { pack, offset_bytes, len_bytes }).collect();
        manifest.extents.extend((0..3).map(|pack| Extent { pack, offset_bytes: 0, len_bytes: 1 }));
        manifest.stream.len_bytes = extents_len_bytes(&manifest.extents);
        prop_assert_eq!(reopen(&manifest), Ok(manifest));
    }

    #[test]
    fn any_body_is_refused_or_canonical(mut body: Vec<u8>, at: usize, real: bool) {
        if real {
            // A real body with one byte changed reaches deeper than noise does.
            let noise = body.first().copied().unwrap_or(1);
            body = codec::encode(WHAT, &sample().to_wire()).unwrap();
            let at = at % body.len();
            body[at] ^= noise;
        }
        let name = sample().name;
        let bytes = envelope::wrap(Type::Manifest, &key(), &name.logical_name(), &body);
        if let Ok(manifest) = Manifest::from_envelope(&key(), &name, &bytes) {
            prop_assert_eq!(manifest.to_envelope(&key()), Ok(bytes));
        }
    }
}
