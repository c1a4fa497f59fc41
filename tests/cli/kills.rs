//! `backup` and `gc` are killed with SIGKILL at any moment, on a folder and on an S3 server. Afterwards `verify --rehearse`
//! finds nothing wrong, every manifest that is listed restores, and `gc` leaves nothing that no manifest needs.
//!
//! Half of the moments are spread over the time that a whole run takes, half over the files that it makes and deletes.
//! `HAH_VAULT_KILLS=100` kills each of the four a hundred times; `--nocapture kills` tells where the kills fell.

mod place;

use super::sandbox::{fixture, fixture_path, spec};
use crate::support::held_world::HeldWorld;
use crate::support::repo::TestRepository;
use hah_vault::archive::gc::undelete::undelete;
use hah_vault::store::{MemoryStore, Store, StoreTime};
use hah_vault_format::{ManifestName, TrashName, UnixTime};
use place::{Kind, Moment, Place, Run, Template};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const KILLS_DEFAULT: usize = 20;
/// After how many killed collections the repository is collected to the end.
const FINISH_EVERY: usize = 5;
const HOUR: Duration = Duration::from_secs(3600);

fn kills() -> usize {
    std::env::var("HAH_VAULT_KILLS").map_or(KILLS_DEFAULT, |text| text.parse().expect("a number"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The times of S3 are whole seconds: what was put in this one is not yet older than no time at all.
fn next_second() {
    std::thread::sleep(Duration::from_millis(1100));
}

/// Moments from the first to the last of a run, at random places in equal parts of it.
fn moments(whole: &Run) -> Vec<Moment> {
    let count = kills();
    let share = |number: usize| {
        let mut random = [0];
        getrandom::fill(&mut random).unwrap();
        (number as f64 + f64::from(random[0]) / 256.0) / count as f64
    };
    let moment = |number: usize| match number % 2 {
        0 => Moment::After(whole.took.mul_f64(share(number))),
        _ => Moment::Changes(1 + (whole.changes as f64 * share(number)) as usize),
    };
    (0..count).map(moment).collect()
}

/// Where the kills fell.
#[derive(Default)]
struct Tally {
    killed: usize,
    ended: usize,
    /// Killed runs by how many files had come or gone.
    by_changes: BTreeMap<usize, usize>,
}

impl Tally {
    fn note(&mut self, run: &Run) {
        assert!(matches!(run.code, None | Some(0)), "{}", run.stderr);
        if run.code.is_some() {
            self.ended += 1;
            return;
        }
        self.killed += 1;
        *self.by_changes.entry(run.changes).or_default() += 1;
    }

    /// A test that only kills too early or too late shows nothing.
    fn conclude(&self, what: &str, kind: Kind, whole: &Run) {
        let within: usize = self.by_changes.range(1..).map(|(_, count)| count).sum();
        println!(
            "{what}, {kind:?}: {} killed, {} ended before; a whole run: {:?}, {} changes; killed by changes seen: {:?}",
            self.killed, self.ended, whole.took, whole.changes, self.by_changes
        );
        assert!(within > 0, "{what}: no kill fell after the first change");
    }
}

/// Only what manifests name is left, and the keys.
async fn assert_no_orphan(place: &Place, test: &TestRepository) {
    let mut named = BTreeSet::from(["repository.json".to_owned(), "keys/reader.age".to_owned()]);
    for name in test.manifests().await {
        let manifest = test.repository.open_manifest(&name).await.unwrap();
        named.extend(manifest.packs.iter().flat_map(|pack| [pack.id.pack_key(), pack.id.index_key()]));
        named.insert(name.key());
    }
    assert_eq!(place.files(), named);
}

/// Bytes that do not compress; those of each number are its own.
fn noise(number: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// What a source has at a run: some of it new, and some always the same.
fn content(source: &str, run: usize) -> Vec<u8> {
    match source {
        "noise" => [noise(0, 1 << 20), noise(run + 1, 4 << 20)].concat(),
        _ => fixture(&format!("{source}-0{}.snap", run % 3)),
    }
}

/// Backs up three sources, with the run's number as a tag.
fn backup_args(place: &Place, run: usize) -> Vec<String> {
    let file = place.sandbox.file("noise", content("noise", run));
    let mut args: Vec<String> = ["backup", "--tag"].map(Into::into).into();
    args.push(format!("run-{run}"));
    args.push(spec("noise", &file));
    args.extend(["consul", "nomad"].map(|name| spec(name, &fixture_path(&format!("{name}-0{}.snap", run % 3)))));
    args
}

/// Every snapshot that is listed, with the number of its run.
fn listed(place: &Place) -> Vec<(ManifestName, usize)> {
    let list = place.run(&["list", "--json"]).ok().objects();
    let run = |tag: &str| tag.strip_prefix("run-").unwrap().parse().unwrap();
    let one =
        |o: &serde_json::Value| (o["manifest"].as_str().unwrap().parse().unwrap(), run(o["tags"][0].as_str().unwrap()));
    list.iter().map(one).collect()
}

fn backups_are_killed(kind: Kind) {
    let runtime = runtime();
    let template = runtime.block_on(async {
        let memory = MemoryStore::new();
        let (identity, reader) = Template::begin(&memory).await;
        Template::of(&memory, identity, reader).await
    });
    let place = Place::new(kind, &template);
    let back_up = |run: usize, moment: Option<Moment>| {
        let args = backup_args(&place, run);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match moment {
            None => place.measure(&args),
            Some(moment) => place.kill(&args, moment),
        }
    };
    back_up(0, None);
    let whole = back_up(1, None);
    let mut succeeded = BTreeSet::from([0, 1]);
    let mut tally = Tally::default();
    for (moment, run) in moments(&whole).into_iter().zip(2..) {
        let ran = back_up(run, Some(moment));
        tally.note(&ran);
        if ran.code.is_some() {
            succeeded.insert(run);
        }
        place.run(&["verify", "--rehearse"]).ok();
    }
    tally.conclude("backup", kind, &whole);
    next_second();
    place.age_temporary_files();
    place.run(&["gc", "--keep-all", "--exclusive", "--grace", "0s"]).ok();
    let listed = listed(&place);
    runtime.block_on(async {
        let test = place.repository().await;
        assert_no_orphan(&place, &test).await;
        for (name, run) in &listed {
            assert!(test.restore(name).await.unwrap().0 == content(name.source.as_str(), *run), "{name}, run {run}");
        }
    });
    for run in succeeded {
        assert_eq!(listed.iter().filter(|(_, of)| *of == run).count(), 3, "run {run} ended with success");
    }
    place.run(&["verify", "--rehearse", "--all", "--read-data"]).ok();
}

#[test]
fn backups_to_a_folder_that_are_killed_at_any_moment_leave_no_damage_and_only_garbage() {
    backups_are_killed(Kind::Folder);
}

#[test]
fn backups_to_s3_that_are_killed_at_any_moment_leave_no_damage_and_only_garbage() {
    backups_are_killed(Kind::S3);
}

/// A repository in which gc has everything to do that it can.
struct Collectable {
    template: Template,
    /// What stays, what gc retires, and what lies in the trash since a few hours, each with its number.
    snapshots: Vec<(ManifestName, usize)>,
    /// The newest of each source.
    newest: BTreeSet<ManifestName>,
}

/// Half of it is in all snapshots.
fn state(number: usize) -> Vec<u8> {
    [noise(0, 20_000), noise(number + 1, 20_000)].concat()
}

/// A store whose last ten days pass at once.
struct Filling {
    memory: Arc<MemoryStore>,
    world: Arc<HeldWorld>,
    test: TestRepository,
    began: StoreTime,
}

impl Filling {
    fn advance_to(&self, since_began: Duration) {
        let unix_ms = self.began.unix_ms + i64::try_from(since_began.as_millis()).unwrap();
        self.memory.set_now(StoreTime { unix_ms });
        self.world.advance(HOUR);
    }

    async fn backup(&self, source: &str, number: usize) -> ManifestName {
        self.test.backup_bytes(source, &state(number)).await.unwrap().manifest.name
    }

    /// What gc did at this time.
    async fn retire(&self, name: &ManifestName) {
        let bytes = self.memory.get(&name.key(), u64::MAX).await.unwrap();
        let now_s = u64::try_from(self.memory.now().await.unwrap().unix_ms / 1000).unwrap();
        let copy = TrashName { manifest: name.clone(), time: UnixTime::from_unix_s(now_s).unwrap(), suffix: 7 };
        self.memory.put_if_absent(&copy.key(), bytes).await.unwrap();
        self.memory.delete(&name.key()).await.unwrap();
    }
}

async fn collectable() -> Collectable {
    const DAYS: u32 = 10;
    let memory = Arc::new(MemoryStore::new());
    let unix_ms = StoreTime::from(SystemTime::now() - 24 * HOUR * DAYS).unix_ms;
    let began = StoreTime { unix_ms };
    memory.set_now(began);
    let (identity, reader) = Template::begin(&memory).await;
    let world = Arc::new(HeldWorld::default());
    let mut test = TestRepository::with_identity(memory.clone(), identity.clone());
    test.repository.world = world.clone();
    let filling = Filling { memory, world, test, began };

    let mut snapshots = Vec::new();
    let mut newest = BTreeSet::new();
    for (source, numbers) in [("alpha", 0..12), ("beta", 12..18)] {
        for number in numbers {
            snapshots.push((filling.backup(source, number).await, number));
            filling.advance_to(HOUR * u32::try_from(number + 1).unwrap());
        }
        newest.extend(snapshots.last().map(|(name, _)| name.clone()));
    }
    // Trash that gc deletes.
    for number in [13, 12, 1, 0] {
        filling.retire(&snapshots.remove(number).0).await;
    }
    // Crashed runs.
    filling.advance_to(24 * HOUR * 5);
    for number in 20..26 {
        let name = filling.backup("gamma", number).await;
        filling.memory.delete(&name.key()).await.unwrap();
    }
    filling.memory.put_if_absent("probe/0123456789abcdef", "gc\n".into()).await.unwrap();
    // Trash whose packs must stay.
    filling.advance_to(24 * HOUR * DAYS - 6 * HOUR);
    filling.retire(&snapshots[0].0).await;
    let template = Template::of(&filling.memory, identity, reader).await;
    Collectable { template, snapshots, newest }
}

/// Every snapshot is listed, or can be brought back; both restore.
async fn assert_nothing_is_lost(place: &Place, snapshots: &[(ManifestName, usize)]) {
    let test = place.repository().await;
    let there = test.manifests().await;
    for (name, number) in snapshots {
        if there.contains(name) {
            assert!(test.restore(name).await.unwrap().0 == state(*number), "{name}");
            continue;
        }
        let copy = test.repository.resolve_trash(&name.to_string()).await.unwrap();
        let back = undelete(&test.repository, &copy).await.unwrap().name;
        assert!(test.restore(&back).await.unwrap().0 == state(*number), "{name}, which was set aside");
        test.repository.store.delete(&back.key()).await.unwrap();
    }
}

fn collections_are_killed(kind: Kind) {
    const GC: [&str; 4] = ["gc", "--keep-last", "1", "--force"];
    const AT_ONCE: [&str; 7] = ["gc", "--keep-last", "1", "--force", "--exclusive", "--grace", "0s"];
    let runtime = runtime();
    let Collectable { template, snapshots, newest } = runtime.block_on(collectable());
    let mut place = Place::new(kind, &template);
    let whole = place.measure(&GC);
    let mut tally = Tally::default();
    for (number, moment) in moments(&whole).into_iter().enumerate() {
        place.lay_out(&template);
        tally.note(&place.kill(&GC, moment));
        place.run(&["verify", "--rehearse"]).ok();
        runtime.block_on(assert_nothing_is_lost(&place, &snapshots));
        if number % FINISH_EVERY != FINISH_EVERY - 1 {
            continue;
        }
        // The second deletes what the first sets aside.
        for _ in 0..2 {
            next_second();
            place.age_temporary_files();
            place.run(&AT_ONCE).ok();
        }
        runtime.block_on(async {
            let test = place.repository().await;
            assert_eq!(BTreeSet::from_iter(test.manifests().await), newest);
            assert_no_orphan(&place, &test).await;
            for (name, number) in snapshots.iter().filter(|(name, _)| newest.contains(name)) {
                assert!(test.restore(name).await.unwrap().0 == state(*number), "{name}");
            }
        });
        place.run(&["verify", "--rehearse"]).ok();
    }
    tally.conclude("gc", kind, &whole);
}

#[test]
fn collections_of_a_folder_that_are_killed_at_any_moment_lose_nothing_and_leave_only_garbage() {
    collections_are_killed(Kind::Folder);
}

#[test]
fn collections_of_s3_that_are_killed_at_any_moment_lose_nothing_and_leave_only_garbage() {
    collections_are_killed(Kind::S3);
}
