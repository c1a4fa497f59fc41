//! Many seeds.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use hah_vault::archive::Cancel;
use hah_vault::archive::restore::restore;
use hah_vault::archive::rules::Rules;
use hah_vault::keys::{Keyring, RepositoryIdentity};
use hah_vault::store::{MemoryStore, StoreTime};

use super::history::{Cast, History};
use super::sim::{Faults, Sim, runtime};

fn keyring() -> Keyring {
    static KEYRING: OnceLock<Keyring> = OnceLock::new();
    let make = || Keyring::from_identity(RepositoryIdentity::generate().expect("identity")).expect("keyring");
    KEYRING.get_or_init(make).clone()
}

/// What usually goes wrong, only more often.
fn usual() -> Faults {
    Faults {
        crash: 0.004,
        stall: 0.01,
        stall_hot: 0.02,
        stall_list: 0.01,
        stall_unfenced: 0.0,
        paused: 0.3,
        duplicate: 0.02,
        lost_answer: 0.005,
        window_h: 0.25,
        loss: 0.02,
        damage: 0.02,
        bad_get: 0.002,
        ahead_h: None,
        stale_h: 0.0,
        page: 4,
        horizon_h: 100.0,
        pointed: false,
    }
}

/// Three writers of two sources, three collectors, somebody who wants snapshots back.
fn usual_cast(rules: Rules) -> Cast {
    Cast {
        writers: vec![0, 0, 1],
        collectors: vec![1, 2, 1],
        pauses_h: [5.0, 6.0, 8.0],
        fresh: 0.03,
        grace_h: None,
        rules,
    }
}

/// Long stalls in the worst places: what the rules are there for.
fn pointed() -> Faults {
    Faults {
        crash: 0.01,
        stall: 0.02,
        stall_hot: 0.25,
        stall_list: 0.1,
        pointed: true,
        loss: 0.0,
        damage: 0.0,
        page: 50,
        horizon_h: 160.0,
        ..usual()
    }
}

/// The same, with every step as slow as it may be.
fn slow() -> Faults {
    Faults { stall: 0.08, ..pointed() }
}

/// The worst: between a look at the clock and what it is for, days may pass. What is in the trash is not promised then.
fn unfenced() -> Faults {
    Faults { stall_unfenced: 0.1, ..pointed() }
}

/// The store's clock is nearly four days ahead for ten hours.
fn ahead() -> Faults {
    Faults { ahead_h: Some((30.0, 40.0, 90.0)), horizon_h: 160.0, ..usual() }
}

/// Collectors are slow between one listing and the next.
fn listing() -> Faults {
    Faults { stall_list: 0.3, ..pointed() }
}

/// Listings that show what was there some time ago, as stores without strong consistency may. R2, S3 and folders have it:
/// nothing depends on this.
fn stale() -> Faults {
    Faults { stale_h: 0.5, ..pointed() }
}

/// One source, and more collectors than anybody has.
fn pointed_cast(rules: Rules) -> Cast {
    Cast {
        writers: vec![0, 0],
        collectors: vec![1, 1, 1, 1],
        pauses_h: [4.0, 3.0, 4.0],
        fresh: 0.03,
        grace_h: None,
        rules,
    }
}

/// Snapshots that have little in common.
fn fresh_cast(rules: Rules) -> Cast {
    Cast { pauses_h: [3.0, 2.0, 4.0], fresh: 0.4, ..pointed_cast(rules) }
}

struct Report {
    holes: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
    trace: String,
}

fn history(seed: u64, faults: &Faults, cast: Cast) -> Report {
    let mut sim = Sim::new(seed, faults.clone(), History::new(seed, keyring(), cast));
    let Faults { stall_unfenced, ahead_h, stale_h, .. } = faults;
    sim.oracle.without_trash = *stall_unfenced > 0.0 || ahead_h.is_some() || *stale_h > 0.0;
    sim.play();
    let mut holes = sim.oracle.holes.clone();
    let memory = Arc::new(MemoryStore::new());
    for (key, object) in &sim.objects.now {
        memory.set_now(StoreTime { unix_ms: object.modified_ms });
        memory.overwrite(key, object.bytes.clone());
    }
    memory.set_now(StoreTime { unix_ms: sim.now_ms() });
    let repository = sim.history.repository(memory);
    let mut counts = sim.history.counts.clone();
    for (key, promise) in &sim.oracle.promises {
        if !sim.objects.now.contains_key(key) || sim.oracle.damaged.contains(key) || sim.oracle.is_lost(promise) {
            continue;
        }
        let restored = runtime().block_on(restore(&repository, &promise.name, Vec::new(), true, &Cancel::default()));
        *counts.entry("restored at the end").or_default() += 1;
        match restored {
            Ok((bytes, _)) if bytes == *promise.content => {}
            Ok(_) => holes.push(format!("{key} restores other bytes")),
            Err(error) => holes.push(format!("{key} does not restore: {error}")),
        }
    }
    Report { holes, counts, trace: sim.oracle.trace() }
}

/// How many seeds: more on demand.
fn seeds(least: u64) -> u64 {
    std::env::var("HAH_VAULT_SEEDS").map_or(least, |n| n.parse().expect("HAH_VAULT_SEEDS is a number"))
}

fn nothing_is_lost(name: &str, seeds: u64, faults: &Faults, cast: &Cast) {
    let mut total: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..seeds {
        let report = history(seed, faults, cast.clone());
        for (what, count) in report.counts {
            *total.entry(what).or_default() += count;
        }
        if !report.holes.is_empty() {
            panic!("{name}, seed {seed}: {:#?}\n{}", report.holes, report.trace);
        }
    }
    println!("{name}, {seeds} histories: {total:?}");
}

#[test]
fn no_usual_history_loses_what_was_promised() {
    nothing_is_lost("usual", seeds(120), &usual(), &usual_cast(Rules::ALL));
}

#[test]
fn no_pointed_history_loses_what_was_promised() {
    nothing_is_lost("pointed", seeds(120), &pointed(), &pointed_cast(Rules::ALL));
}

#[test]
fn no_slow_history_loses_what_was_promised() {
    nothing_is_lost("slow", seeds(120), &slow(), &pointed_cast(Rules::ALL));
}

#[test]
fn no_history_of_slow_listings_loses_what_was_promised() {
    nothing_is_lost("listing", seeds(60), &listing(), &fresh_cast(Rules::ALL));
}

#[test]
fn no_history_of_stale_listings_loses_what_was_promised() {
    nothing_is_lost("stale", seeds(60), &stale(), &pointed_cast(Rules::ALL));
}

#[test]
fn requests_that_are_held_up_for_days_lose_no_snapshot() {
    nothing_is_lost("unfenced", seeds(120), &unfenced(), &pointed_cast(Rules::ALL));
}

#[test]
fn a_store_whose_clock_was_ahead_for_some_hours_loses_no_snapshot() {
    nothing_is_lost("ahead", seeds(60), &ahead(), &pointed_cast(Rules::ALL));
}

/// The first seed that catches; on demand all that do, of so many, to see how often.
fn caught(what: &str, faults: &Faults, cast: &Cast) {
    let all = std::env::var("HAH_VAULT_SEEDS").is_ok();
    let tried = seeds(4000);
    let mut catches = (0..tried).filter_map(|seed| {
        let holes = history(seed, faults, cast.clone()).holes;
        (!holes.is_empty()).then_some((seed, holes))
    });
    let (seed, holes) = catches.next().unwrap_or_else(|| panic!("nothing was lost without {what}"));
    println!("{what}: seed {seed}: {holes:?}");
    if all {
        println!("{what}: {} of {tried} seeds", 1 + catches.count());
    }
}

macro_rules! without {
    ($($name:ident: $faults:expr, $cast:expr, $($rule:ident),+;)+) => {
        $(
            #[test]
            fn $name() {
                let rules = Rules { $($rule: false,)+ ..Rules::ALL };
                caught(stringify!($name), &$faults, &$cast(rules));
            }
        )+
    };
}

mod without {
    //! Rules of DESIGN §7 whose absence the model notices, alone or with the neighbour that does the same work. What single
    //! rules do, also those that only double others, is shown step by step in `tests/gc/rules.rs`.
    use super::*;

    without! {
        parent_packs_only: pointed(), pointed_cast, parent_packs_only;
        commit_limits: pointed(), pointed_cast, commit_limit_store, commit_limit_boot, check_committed;
        check_committed: unfenced(), pointed_cast, check_committed;
        ages_at_start: slow(), pointed_cast, ages_at_start, planning_limit;
        unreadable_stops: Faults { bad_get: 0.1, ..pointed() }, pointed_cast, unreadable_stops;
        fresh_copy: pointed(), pointed_cast, fresh_copy, retire_gap;
        undelete_keeps_copy: pointed(), pointed_cast, undelete_keeps_copy;
        trash_last: listing(), fresh_cast, trash_last;
        future_names: ahead(), pointed_cast, future_names;
        retire_gap: pointed(), pointed_cast, retire_gap;
        no_late_parent: slow(), pointed_cast, no_late_parent, check_committed;
        undelete_limit: pointed(), pointed_cast, undelete_limit;
        undelete_limit_check: pointed(), pointed_cast, undelete_limit, undelete_check;
        undelete_new_name: pointed(), pointed_cast, undelete_new_name;
    }
}

#[test]
fn a_shorter_grace_beside_others_loses_data() {
    let cast = Cast { grace_h: Some(3), ..pointed_cast(Rules::ALL) };
    caught("one grace for all", &pointed(), &cast);
}
