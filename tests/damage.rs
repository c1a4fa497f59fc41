//! The damage matrix: what is done to an object of which kind, and what each command then makes of it.
//!
//! Oracle: the exact bytes or a named error. A backup heals what can be seen to be damaged: missing, or of another length.
//! `gc` harms nothing that was whole.
//! `cargo test --test suite damage -- --nocapture` prints the table.

mod collected;

use crate::support::repo::{TestRepository, fixture};
use bytes::Bytes;
use collected::collected;
use hah_vault::archive::host_state::HostState;
use hah_vault::archive::repository::{self, open_identity};
use hah_vault::archive::verify::{Rehearse, Report, VerifyOptions, verify};
use hah_vault::archive::{ArchiveError, Cancel};
use hah_vault::keys::{Identities, KeyError, NoPrompt, RepositoryIdentity, generate_reader};
use hah_vault::pipeline::seal::SealError;
use hah_vault::store::{MemoryStore, Store, StoreError, StoreTime};
use hah_vault_format::{FormatError, Label, Manifest, ManifestName, ObjectId};
use std::collections::BTreeMap;
use std::sync::Arc;

const START: StoreTime = StoreTime { unix_ms: 1_795_361_015_000 };

type Objects = BTreeMap<String, Bytes>;

/// A repository with two sources of two snapshots each, and all its bytes.
struct Made {
    identity: RepositoryIdentity,
    reader: Identities,
    objects: Objects,
    /// By source: the older manifest, and the newer one, which uses the older one's pack and one of its own.
    manifests: BTreeMap<&'static str, [Manifest; 2]>,
}

async fn make() -> Made {
    let memory = Arc::new(MemoryStore::new());
    memory.set_now(START);
    let identity = RepositoryIdentity::generate().unwrap();
    let (file, reader) = generate_reader(identity.id());
    let (_, other_reader) = generate_reader(identity.id());
    let wrapped = |name: &str, reader| (name.parse::<Label>().unwrap(), identity.wrap(reader).unwrap());
    let copies = [wrapped("alice", &reader), wrapped("zoe", &other_reader)];
    repository::create(memory.as_ref(), &identity, &copies).await.unwrap();
    let test = TestRepository::with_identity(memory.clone(), identity.clone());
    let mut manifests = BTreeMap::new();
    for source in ["consul", "nomad"] {
        let mut of_source = Vec::new();
        for number in 0..2 {
            memory.advance_ms(60_000);
            let report = test.backup(source, &fixture(&format!("{source}-0{number}.snap"))).await.unwrap();
            of_source.push(report.manifest);
        }
        assert_eq!(of_source[1].packs.len(), 2, "the newer one reuses the older one's pack");
        manifests.insert(source, of_source.try_into().unwrap());
    }
    let mut objects = Objects::new();
    for object in memory.list("").await.unwrap() {
        objects.insert(object.key.clone(), memory.get(&object.key, u64::MAX).await.unwrap());
    }
    let reader = Identities::parse(file.as_bytes(), "alice", &NoPrompt).unwrap();
    Made { identity, reader, objects, manifests }
}

/// One kind of object, with everything that changes need.
struct Kind {
    name: &'static str,
    /// The object that is changed: of the newer snapshot of consul, and needed by it.
    key: String,
    /// An older one of the same kind in the same source, if there is one.
    older: Option<String>,
    /// One of the same kind of another source.
    of_another_source: Option<String>,
    /// One of the same kind in another repository.
    of_another_repository: Bytes,
    /// Another name that is valid for this kind, and not taken.
    free: String,
}

fn kinds(made: &Made, other: &Made) -> Vec<Kind> {
    let ([old, new], [_, nomad]) = (&made.manifests["consul"], &made.manifests["nomad"]);
    let theirs = &other.manifests["consul"][1];
    let (old_pack, own_pack) = (old.packs[0].id, new.packs.iter().find(|p| p.id != old.packs[0].id).unwrap().id);
    let free_id = ObjectId([0x5a; 32]);
    let later = hah_vault_format::UnixTime::from_unix_s(new.name.time.unix_s() + 1).unwrap();
    let later = ManifestName { time: later, ..new.name.clone() };
    let kind = |name, key: &str, older: Option<String>, another: Option<String>, theirs: &str, free: &str| Kind {
        name,
        key: key.into(),
        older,
        of_another_source: another,
        of_another_repository: other.objects[theirs].clone(),
        free: free.into(),
    };
    let pack = |id: ObjectId| id.pack_key();
    let index = |id: ObjectId| id.index_key();
    let (nomad_pack, their_pack) = (nomad.packs[0].id, theirs.packs[0].id);
    vec![
        kind("pack", &pack(old_pack), Some(pack(own_pack)), Some(pack(nomad_pack)), &pack(their_pack), &pack(free_id)),
        // That the newer snapshot alone needs: the older one restores without it.
        kind(
            "own pack",
            &pack(own_pack),
            Some(pack(old_pack)),
            Some(pack(nomad_pack)),
            &pack(their_pack),
            &pack(free_id),
        ),
        kind(
            "index",
            &index(old_pack),
            Some(index(own_pack)),
            Some(index(nomad_pack)),
            &index(their_pack),
            &index(free_id),
        ),
        kind(
            "manifest",
            &new.name.key(),
            Some(old.name.key()),
            Some(nomad.name.key()),
            &theirs.name.key(),
            &later.key(),
        ),
        kind("key", "keys/alice.age", Some("keys/zoe.age".into()), None, "keys/alice.age", "keys/bob.age"),
        kind("repository", "repository.json", None, None, "repository.json", "repository.json.old"),
    ]
}

/// Every change of one object; `None` where there is nothing to change it with.
fn changed(change: &str, kind: &Kind, objects: &Objects) -> Option<Objects> {
    let mut after = objects.clone();
    let own = objects[&kind.key].to_vec();
    let mut set = |bytes: Vec<u8>| after.insert(kind.key.clone(), bytes.into());
    let flip = |at: usize| {
        let mut bytes = own.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    match change {
        "nothing" => {}
        "delete" => drop(after.remove(&kind.key)),
        "cut to 0" => drop(set(Vec::new())),
        "cut to 1" => drop(set(own[..1].to_vec())),
        "cut to a half" => drop(set(own[..own.len() / 2].to_vec())),
        "cut by 1" => drop(set(own[..own.len() - 1].to_vec())),
        "flip first" => drop(set(flip(0))),
        "flip middle" => drop(set(flip(own.len() / 2))),
        "flip last" => drop(set(flip(own.len() - 1))),
        "append 1" => drop(set([&own[..], &[0]].concat())),
        "append 1000" => drop(set([&own[..], &[7; 1000]].concat())),
        "append 100 MB" => drop(set([&own[..], &vec![0; 100 << 20]].concat())),
        "replace by older" => drop(set(objects[kind.older.as_ref()?].to_vec())),
        "swap with older" => {
            let older = kind.older.clone()?;
            after.insert(kind.key.clone(), objects[&older].clone());
            after.insert(older, own.into());
        }
        "of another source" => drop(set(objects[kind.of_another_source.as_ref()?].to_vec())),
        "of another repository" => drop(set(kind.of_another_repository.to_vec())),
        "duplicate" => drop(after.insert(kind.free.clone(), own.into())),
        "rename" => {
            after.remove(&kind.key);
            after.insert(kind.free.clone(), own.into());
        }
        other => panic!("{other}"),
    }
    Some(after)
}

const CHANGES: [&str; 18] = [
    "nothing",
    "delete",
    "cut to 0",
    "cut to 1",
    "cut to a half",
    "cut by 1",
    "flip first",
    "flip middle",
    "flip last",
    "append 1",
    "append 1000",
    "append 100 MB",
    "replace by older",
    "swap with older",
    "of another source",
    "of another repository",
    "duplicate",
    "rename",
];

async fn store_of(objects: &Objects) -> Arc<MemoryStore> {
    let memory = Arc::new(MemoryStore::new());
    memory.set_now(START);
    for (key, bytes) in objects {
        memory.overwrite(key, bytes.clone());
    }
    memory.advance_ms(600_000);
    memory
}

/// The cells of one row.
async fn row(made: &Made, kind: &Kind, objects: &Objects) -> Vec<String> {
    let store = store_of(objects).await;
    let test = TestRepository::with_identity(store.clone(), made.identity.clone());
    let newest = &made.manifests["consul"][1];
    let original = std::fs::read(fixture("consul-01.snap")).unwrap();
    let exact = |restored: Result<Vec<u8>, ArchiveError>| match restored {
        Ok(bytes) if bytes == original => "exact".to_owned(),
        Ok(_) => panic!("wrong bytes"),
        Err(error) => class(&error),
    };
    let identity = open_identity(store.as_ref(), &made.reader, None, &[]).await;
    let listed = test.repository.list_manifests(Some(&newest.name.source)).await;
    let opened = test.repository.open_manifest(&newest.name).await;
    let restored = exact(test.restore(&newest.name).await.map(|(bytes, _)| bytes));
    let latest = match test.restore_latest("consul").await {
        // Where the newest one is gone, the one before is the latest.
        Ok((bytes, report)) if report.manifest.name != newest.name => {
            assert!(report.manifest.name == made.manifests["consul"][0].name);
            assert!(bytes == std::fs::read(fixture("consul-00.snap")).unwrap());
            "older".to_owned()
        }
        other => exact(other.map(|(bytes, _)| bytes)),
    };
    let [all_kept, newest_kept] = collected(made, objects).await;
    vec![
        identity.map_or_else(|error| class(&error), |_| "ok".into()),
        listed.map_or_else(|error| class(&error), |list| list.len().to_string()),
        opened.map_or_else(|error| class(&error), |_| "ok".into()),
        restored,
        latest,
        checked(&test, made, Depth::Structure).await,
        checked(&test, made, Depth::Data).await,
        checked(&test, made, Depth::Rehearsal).await,
        backup(&test, kind).await,
        all_kept,
        newest_kept,
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Structure,
    Data,
    Rehearsal,
}

/// What `verify` finds on a host that has seen all snapshots: whole ones of all, and flaws. What it says of a snapshot
/// must be so, as far as the depth claims.
async fn checked(test: &TestRepository, made: &Made, depth: Depth) -> String {
    let folder = tempfile::tempdir().unwrap();
    let state = HostState::new(folder.path().into());
    for manifests in made.manifests.values() {
        let names = manifests.each_ref().map(|manifest| manifest.name.clone());
        state.note_seen(&names[0].source, &names).unwrap();
    }
    let hash = |(key, bytes): (&String, &Bytes)| (key.clone(), ObjectId::of(bytes));
    let keys = made.objects.iter().filter(|(key, _)| key.starts_with("keys/")).map(hash).collect();
    state.save_keys(&keys).unwrap();
    let options = VerifyOptions {
        read_data: (depth == Depth::Data).then_some(100),
        rehearse: (depth == Depth::Rehearsal).then_some(Rehearse::All),
        state: Some(&state),
        ..VerifyOptions::default()
    };
    let report = match verify(&test.repository, &options, &Cancel::default()).await {
        Ok(report) => report,
        Err(error) => return class(&error),
    };
    for name in test.manifests().await {
        let claims_damage = report.affected.iter().any(|affected| affected.name == name);
        let restored = test.restore(&name).await;
        if claims_damage || depth != Depth::Structure {
            assert_eq!(claims_damage, restored.is_err(), "{name}: {:?}, {report:?}", restored.err());
        }
    }
    summary(&report)
}

fn summary(report: &Report) -> String {
    let (all, whole) = report.snapshots();
    let mut flaws: Vec<String> = report
        .damage
        .iter()
        .map(|damage| {
            let kind = damage.key.split('/').next().unwrap_or_default();
            format!(", {kind} {}", damage.flaw.as_str())
        })
        .collect();
    flaws.dedup();
    let lost = if report.chain.lost.is_empty() { "" } else { ", lost" };
    assert_eq!(report.is_damaged(), whole < all || !flaws.is_empty() || !lost.is_empty());
    format!("{whole}/{all}{}{lost}", flaws.concat())
}

/// A further backup, and whether it restores.
async fn backup(test: &TestRepository, kind: &Kind) -> String {
    let report = match test.backup("consul", &fixture("consul-02.snap")).await {
        Ok(report) => report,
        Err(error) => return class(&error),
    };
    let reused = report.manifest.packs.iter().any(|p| p.id.pack_key() == kind.key || p.id.index_key() == kind.key);
    let reused = if reused { ", reused" } else { "" };
    match test.restore(&report.manifest.name).await {
        Ok((bytes, _)) => {
            assert!(bytes == std::fs::read(fixture("consul-02.snap")).unwrap(), "wrong bytes");
            format!("exact{reused}")
        }
        Err(error) => format!("{}{reused}", class(&error)),
    }
}

fn class(error: &ArchiveError) -> String {
    match error {
        ArchiveError::Store(StoreError::NotFound { .. }) => "not found",
        ArchiveError::Store(StoreError::TooLong { .. }) => "too long",
        ArchiveError::NoRepository { .. } => "no repository",
        ArchiveError::BadRepository { .. } => "bad repository",
        ArchiveError::OtherRepository { .. } => "other repository",
        ArchiveError::NoIdentity { .. } => "no identity",
        ArchiveError::NoManifest { .. } => "no manifest",
        ArchiveError::Manifest { source, .. } | ArchiveError::Pack { source, .. } => match source {
            SealError::Name => "name",
            SealError::Key(KeyError::NoMatch) => "no key",
            SealError::Key(KeyError::Decrypt(_)) => "not age",
            SealError::Format(FormatError::Tag { .. }) => "tag",
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    .to_owned()
}

#[tokio::test]
async fn damage_gives_the_exact_bytes_or_a_named_error_and_backups_heal() {
    let (made, other) = (make().await, make().await);
    let mut table = String::new();
    for kind in kinds(&made, &other) {
        for change in CHANGES {
            let Some(objects) = changed(change, &kind, &made.objects) else { continue };
            let cells = row(&made, &kind, &objects).await;
            table += &format!("{} | {change} | {}\n", kind.name, cells.join(" | "));
        }
    }
    let columns = "identity | list | open | restore | latest | verify | --read-data | --rehearse | backup, then restore \
                   | gc --keep-all | gc to the newest";
    println!("object | change | {columns}\n{table}");
    assert_eq!(table.trim(), EXPECTED.trim(), "found:\n{table}");
}

/// A pack with flipped bits keeps its length: only `verify --read-data` finds out, and tells the backups of its host.
const EXPECTED: &str = include_str!("damage/expected.txt");
