//! Many seeds.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use hah_vault::archive::Cancel;
use hah_vault::archive::restore::restore;
use hah_vault::archive::rules::Rules;
use hah_vault::keys::{Keyring, RepositoryIdentity};
use hah_vault::store::{MemoryStore, StoreTime};

use super::history::History;
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
        paused: 0.3,
        duplicate: 0.02,
        lost_answer: 0.005,
        window_h: 0.25,
        loss: 0.02,
        damage: 0.02,
        page: 4,
        horizon_h: 100.0,
        pointed: false,
    }
}

struct Report {
    holes: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
    trace: String,
}

fn history(seed: u64, faults: &Faults, rules: Rules, trace: bool) -> Report {
    let history = History::new(seed, keyring(), vec![0, 0, 1], rules);
    let mut sim = Sim::new(seed, faults.clone(), history);
    if trace {
        sim.oracle.keep_trace();
    }
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

#[test]
fn no_history_loses_what_was_promised() {
    let seeds: u64 = std::env::var("HAH_VAULT_SEEDS").map_or(200, |n| n.parse().expect("a number"));
    let mut total: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..seeds {
        let report = history(seed, &usual(), Rules::ALL, false);
        for (what, count) in report.counts {
            *total.entry(what).or_default() += count;
        }
        if !report.holes.is_empty() {
            let again = history(seed, &usual(), Rules::ALL, true);
            panic!("seed {seed}: {:#?}\n{}", report.holes, again.trace);
        }
    }
    println!("{seeds} histories: {total:?}");
}

/// A trace without what is random: the names of packs, and whatever depends on their order.
fn masked(trace: &str) -> String {
    let mut masked = String::new();
    for word in trace.split_inclusive([' ', '\n', '/']) {
        let is_hash = word.trim_end().len() == 64 && word.trim_end().bytes().all(|b| b.is_ascii_hexdigit());
        masked.push_str(if is_hash { "HASH\n" } else { word });
    }
    masked
}

#[test]
fn one_seed_is_one_history() {
    // Where a new pack stands in a listing of several pages depends on its name.
    let faults = Faults { page: usize::MAX, ..usual() };
    for seed in 0..5 {
        let (one, other) = (history(seed, &faults, Rules::ALL, true), history(seed, &faults, Rules::ALL, true));
        let (one_trace, other_trace) = (masked(&one.trace), masked(&other.trace));
        let differs = one_trace.lines().zip(other_trace.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.counts, other.counts);
    }
}
