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
        stall_unfenced: 0.0,
        paused: 0.3,
        duplicate: 0.02,
        lost_answer: 0.005,
        window_h: 0.25,
        loss: 0.02,
        damage: 0.02,
        bad_get: 0.002,
        ahead_h: None,
        page: 4,
        horizon_h: 100.0,
        pointed: false,
    }
}

/// Three writers of two sources, three collectors, somebody who wants snapshots back.
fn usual_cast(rules: Rules) -> Cast {
    Cast { writers: vec![0, 0, 1], collectors: vec![1, 2, 1], pauses_h: [5.0, 6.0, 8.0], grace_h: None, rules }
}

/// Long stalls in the worst places: what the rules are there for.
fn pointed() -> Faults {
    Faults {
        crash: 0.01,
        stall: 0.02,
        stall_hot: 0.25,
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

/// The store's clock is two and a half days ahead for ten hours.
fn ahead() -> Faults {
    Faults { ahead_h: Some((30.0, 40.0, 60.0)), ..usual() }
}

/// One source, and more collectors than anybody has.
fn pointed_cast(rules: Rules) -> Cast {
    Cast { writers: vec![0, 0], collectors: vec![1, 1, 1, 1], pauses_h: [4.0, 3.0, 4.0], grace_h: None, rules }
}

struct Report {
    holes: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
    trace: String,
}

fn history(seed: u64, faults: &Faults, cast: Cast, trace: bool) -> Report {
    let mut sim = Sim::new(seed, faults.clone(), History::new(seed, keyring(), cast));
    if trace {
        sim.oracle.keep_trace();
    }
    sim.oracle.without_trash = faults.stall_unfenced > 0.0 || faults.ahead_h.is_some();
    sim.play();
    let mut holes = sim.oracle.holes.clone();
    let memory = Arc::new(MemoryStore::new());
    for (key, object) in &sim.objects.0 {
        memory.set_now(StoreTime { unix_ms: object.modified_ms });
        memory.overwrite(key, object.bytes.clone());
    }
    memory.set_now(StoreTime { unix_ms: sim.now_ms() });
    let repository = sim.history.repository(memory);
    let mut counts = sim.history.counts.clone();
    for (key, promise) in &sim.oracle.promises {
        if !sim.objects.0.contains_key(key) || sim.oracle.damaged.contains(key) || sim.oracle.is_lost(promise) {
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
        let report = history(seed, faults, cast.clone(), false);
        for (what, count) in report.counts {
            *total.entry(what).or_default() += count;
        }
        if !report.holes.is_empty() {
            let again = history(seed, faults, cast.clone(), true);
            panic!("{name}, seed {seed}: {:#?}\n{}", report.holes, again.trace);
        }
    }
    println!("{name}, {seeds} histories: {total:?}");
}

#[test]
fn no_usual_history_loses_what_was_promised() {
    nothing_is_lost("usual", seeds(60), &usual(), &usual_cast(Rules::ALL));
}

#[test]
fn no_pointed_history_loses_what_was_promised() {
    nothing_is_lost("pointed", seeds(15), &pointed(), &pointed_cast(Rules::ALL));
}

#[test]
fn no_slow_history_loses_what_was_promised() {
    nothing_is_lost("slow", seeds(30), &slow(), &pointed_cast(Rules::ALL));
}

#[test]
fn requests_that_are_held_up_for_days_lose_no_snapshot() {
    nothing_is_lost("unfenced", seeds(20), &unfenced(), &pointed_cast(Rules::ALL));
}

#[test]
fn a_store_whose_clock_was_ahead_for_some_hours_loses_no_snapshot() {
    nothing_is_lost("ahead", seeds(20), &ahead(), &pointed_cast(Rules::ALL));
}

/// The first seed that catches.
fn caught(seeds: u64, faults: &Faults, cast: &Cast) -> Option<(u64, Report)> {
    (0..seeds).find_map(|seed| {
        let report = history(seed, faults, cast.clone(), false);
        (!report.holes.is_empty()).then_some((seed, report))
    })
}

macro_rules! without {
    ($($name:ident: $faults:expr, $($rule:ident),+;)+) => {
        $(
            #[test]
            fn $name() {
                let rules = Rules { $($rule: false,)+ ..Rules::ALL };
                let found = caught(seeds(400), &$faults, &pointed_cast(rules));
                let (seed, report) = found.expect(concat!("nothing was lost without ", stringify!($($rule),+)));
                println!("{}: seed {seed}: {:?}", stringify!($name), report.holes);
            }
        )+
    };
}

mod without {
    //! Rules of DESIGN §7 whose absence the model notices within its seeds.
    use super::*;

    without! {
        parent_packs_only: pointed(), parent_packs_only;
        commit_limits: pointed(), commit_limit_store, commit_limit_boot, check_committed;
        check_committed: unfenced(), check_committed;
        ages_at_start: slow(), ages_at_start, planning_limit;
        unreadable_stops: Faults { bad_get: 0.1, ..pointed() }, unreadable_stops;
        young_stay: pointed(), young_stay;
        fresh_copy: pointed(), fresh_copy, retire_gap;
        undelete_keeps_copy: pointed(), undelete_keeps_copy;
    }
}

#[test]
fn a_shorter_grace_beside_others_loses_data() {
    let cast = Cast { grace_h: Some(3), ..pointed_cast(Rules::ALL) };
    let (seed, report) = caught(seeds(400), &pointed(), &cast).expect("nothing was lost with a grace of 3 h");
    println!("a grace of 3 h: seed {seed}: {:?}", report.holes);
}
