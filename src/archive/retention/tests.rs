use super::*;
use proptest::prelude::*;

const DAY_S: u64 = 86_400;
/// 2026-11-22T14:30:00Z, a Sunday.
const NOW_S: u64 = 1_795_357_800;
/// Nothing is young, unless a test is about that.
const MOMENT: Moment = Moment { now: StoreTime { unix_ms: NOW_S as i64 * 1000 }, young: Duration::ZERO };

fn candidate(unix_s: u64, suffix: u32) -> Candidate {
    let name = ManifestName { source: "vault".parse().unwrap(), time: UnixTime::from_unix_s(unix_s).unwrap(), suffix };
    let modified = StoreTime { unix_ms: i64::try_from(unix_s.min(NOW_S - 1)).unwrap() * 1000 };
    Candidate { name, modified, health: Health::Whole, tags: Vec::new(), held: false }
}

/// A snapshot every so often, the newest first, ending now.
fn every(step_s: u64, count: u64) -> Vec<Candidate> {
    (0..count).map(|i| candidate(NOW_S - 1 - i * step_s, u32::try_from(i).unwrap())).collect()
}

fn kept(manifests: &[Candidate], policy: &Policy) -> Vec<usize> {
    let verdicts = plan(manifests, policy, &MOMENT);
    (0..manifests.len()).filter(|i| verdicts[*i].keeps()).collect()
}

fn with(reason: Reason, verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|v| matches!(v, Verdict::Keep(reasons) if reasons.contains(&reason))).count()
}

#[test]
fn each_rule_keeps_the_newest_of_its_buckets() {
    let nothing = Policy::NOTHING;
    // Half past two on a Sunday: indexes count half hours back from then.
    let half_hours = every(1800, 48 * 400);
    for (policy, expected) in [
        (Policy::NOTHING, vec![0]),
        (Policy { keep_last: 3, ..nothing.clone() }, vec![0, 1, 3]),
        (Policy { keep_hourly: 3, ..nothing.clone() }, vec![0, 1, 3]),
        (Policy { keep_within: Duration::from_secs(5400), ..nothing.clone() }, vec![0, 1, 2]),
        (Policy { keep_daily: 3, ..nothing.clone() }, vec![0, 29, 77]),
        (Policy { keep_weekly: 3, ..nothing.clone() }, vec![0, 29 + 6 * 48, 29 + 13 * 48]),
        (Policy { keep_monthly: 3, ..nothing.clone() }, vec![0, 29 + 21 * 48, 29 + 52 * 48]),
        (Policy { keep_yearly: 2, ..nothing.clone() }, vec![0, 29 + 325 * 48]),
    ] {
        assert_eq!(kept(&half_hours, &policy), expected, "{}", policy.describe());
    }
    assert_eq!(kept(&half_hours, &Policy::everything()).len(), half_hours.len());
}

#[test]
fn iso_weeks_begin_on_monday() {
    // Sunday 2026-11-22, Monday 2026-11-23, and New Year inside a week: Thursday 2026-12-31, Friday 2027-01-01.
    let day = |y, m, d| of_week(UnixTime::from_civil(y, m, d, 12, 0, 0).unwrap());
    assert_eq!(day(2026, 11, 16), day(2026, 11, 22));
    assert_ne!(day(2026, 11, 22), day(2026, 11, 23));
    assert_eq!(day(2026, 12, 31), day(2027, 1, 1));
    assert_ne!(day(1970, 1, 4), day(1970, 1, 5));
}

#[test]
fn a_flood_within_an_hour_takes_one_place() {
    // A year of daily snapshots, and a thousand by a stolen writer key within the last ten minutes.
    let mut manifests: Vec<Candidate> =
        (0..1000).map(|i| candidate(NOW_S - i / 2, u32::try_from(i).unwrap())).collect();
    manifests.extend((1..=365).map(|i| candidate(NOW_S - i * DAY_S, 7)));
    let kept = kept(&manifests, &Policy { keep_last: 10, ..Policy::NOTHING });
    assert_eq!(kept, [&[1][..], &(1000..1009).collect::<Vec<_>>()].concat());
}

#[test]
fn what_claims_a_time_that_has_not_come_stays_and_counts_for_nothing() {
    let mut manifests = every(3600, 5);
    let tolerated = STORE_CLOCK_TOLERANCE.as_secs();
    manifests.extend([candidate(NOW_S + tolerated + 1, 1), candidate(NOW_S + 20 * 365 * DAY_S, 2)]);
    let verdicts = plan(&manifests, &Policy { keep_last: 2, ..Policy::NOTHING }, &MOMENT);
    assert_eq!(verdicts[5..], [Verdict::Keep(vec![Reason::Future]), Verdict::Keep(vec![Reason::Future])]);
    assert_eq!(verdicts[0], Verdict::Keep(vec![Reason::Newest, Reason::Last]));
    assert_eq!((with(Reason::Last, &verdicts), with(Reason::Newest, &verdicts)), (2, 1));
    // A little ahead is a clock's business.
    manifests[5] = candidate(NOW_S + tolerated, 1);
    assert_eq!(
        plan(&manifests, &Policy::NOTHING, &MOMENT)[5],
        Verdict::Keep(vec![Reason::Newest]),
        "within the tolerance"
    );
}

#[test]
fn what_does_not_open_stays_and_counts_for_nothing() {
    let mut manifests = every(3600, 5);
    manifests[0].health = Health::Unreadable;
    let verdicts = plan(&manifests, &Policy { keep_last: 1, ..Policy::NOTHING }, &MOMENT);
    assert_eq!(verdicts[0], Verdict::Keep(vec![Reason::Unreadable]));
    assert_eq!(verdicts[1], Verdict::Keep(vec![Reason::Newest, Reason::Last]));
    assert!(!verdicts[2].keeps());
}

#[test]
fn what_lost_packs_takes_no_place_and_goes_when_it_would_have_gone() {
    let mut manifests = every(3600, 6);
    manifests[0].health = Health::Damaged;
    manifests[2].health = Health::Unknown;
    let verdicts = plan(&manifests, &Policy { keep_last: 3, ..Policy::NOTHING }, &MOMENT);
    assert_eq!(
        verdicts,
        [
            Verdict::Keep(vec![Reason::Newest, Reason::Last, Reason::Damaged]),
            Verdict::Keep(vec![Reason::NewestWhole, Reason::Last]),
            Verdict::Keep(vec![Reason::Last]),
            Verdict::Keep(vec![Reason::Last]),
            Verdict::Keep(vec![Reason::Last]),
            Verdict::Drop { instead: Some(manifests[1].name.clone()) },
        ]
    );
    // Three newer ones, and its places are taken.
    let mut later: Vec<Candidate> = (1..4).map(|i| candidate(NOW_S + i * 3600, 9)).collect();
    later.extend(manifests);
    let moment = Moment { now: StoreTime { unix_ms: MOMENT.now.unix_ms + 4 * 3_600_000 }, ..MOMENT };
    let verdicts = plan(&later, &Policy { keep_last: 3, ..Policy::NOTHING }, &moment);
    let kept: Vec<usize> = (0..later.len()).filter(|i| verdicts[*i].keeps()).collect();
    assert_eq!(kept, [0, 1, 2]);
}

#[test]
fn the_window_is_counted_from_the_newest_whole_one() {
    let mut manifests = every(DAY_S, 5);
    manifests[0].health = Health::Damaged;
    let within = Policy { keep_within: Duration::from_secs(2 * DAY_S), ..Policy::NOTHING };
    assert_eq!(kept(&manifests, &within), [0, 1, 2]);
    // If none is whole, they are judged as if all were.
    manifests.iter_mut().for_each(|one| one.health = Health::Damaged);
    assert_eq!(kept(&manifests, &within), [0, 1]);
}

#[test]
fn held_tagged_and_young_ones_stay() {
    let mut manifests = every(DAY_S, 6);
    manifests[3].held = true;
    manifests[4].tags = vec!["release".parse().unwrap(), "other".parse().unwrap()];
    manifests[5].modified = StoreTime { unix_ms: MOMENT.now.unix_ms - 3_600_000 };
    let policy = Policy { keep_tags: vec!["release".parse().unwrap()], ..Policy::NOTHING };
    let moment = Moment { young: Duration::from_secs(3600), ..MOMENT };
    let verdicts = plan(&manifests, &policy, &moment);
    assert_eq!(verdicts[3], Verdict::Keep(vec![Reason::Held]));
    assert_eq!(verdicts[4], Verdict::Keep(vec![Reason::Tagged]));
    assert_eq!(verdicts[5], Verdict::Keep(vec![Reason::Young]));
    assert_eq!(verdicts[2], Verdict::Drop { instead: None });
}

#[test]
fn what_goes_names_what_stays_of_its_day() {
    let manifests = every(600, 200);
    let verdicts = plan(&manifests, &Policy { keep_daily: 1, ..Policy::NOTHING }, &MOMENT);
    assert_eq!(verdicts[1], Verdict::Drop { instead: Some(manifests[0].name.clone()) });
    assert_eq!(verdicts[199], Verdict::Drop { instead: None });
}

#[test]
fn the_default_policy_keeps_what_it_says_of_a_snapshot_every_ten_minutes() {
    let verdicts = plan(&every(600, 144 * 400), &Policy::default(), &MOMENT);
    for (reason, count) in [
        (Reason::Newest, 1),
        (Reason::Last, 3),
        (Reason::Within, 144),
        (Reason::Hourly, 48),
        (Reason::Daily, 14),
        (Reason::Weekly, 8),
        (Reason::Monthly, 12),
        (Reason::Yearly, 2),
    ] {
        assert_eq!(with(reason, &verdicts), count, "{reason:?}");
    }
    // A day, 23 more hours, 11 more days, 6 more weeks, 11 more months; the last of 2025 is that of its December.
    assert_eq!(verdicts.iter().filter(|v| v.keeps()).count(), 144 + 23 + 11 + 6 + 11);
}

fn policies() -> impl Strategy<Value = Policy> {
    let counts = (0u32..6, 0u32..6, 0u32..6, 0u32..4, 0u32..4, 0u32..3, 0u64..100, any::<bool>());
    counts.prop_map(|(last, hourly, daily, weekly, monthly, yearly, within_h, tagged)| Policy {
        keep_last: last,
        keep_within: Duration::from_secs(within_h * 3600),
        keep_hourly: hourly,
        keep_daily: daily,
        keep_weekly: weekly,
        keep_monthly: monthly,
        keep_yearly: yearly,
        keep_tags: if tagged { vec!["a".parse().unwrap()] } else { Vec::new() },
    })
}

/// Up to two years back and a day ahead; clustered, with doubles, damaged, broken, held, tagged and young ones.
fn histories() -> impl Strategy<Value = Vec<Candidate>> {
    let span = prop_oneof![0u64..7200, 0..10 * DAY_S, 0..800 * DAY_S];
    let one = (span, 0u32..4, 0u8..16, any::<bool>());
    proptest::collection::vec(one, 0..60).prop_map(|list| {
        let mut seen = HashSet::new();
        let made = list.into_iter().map(|(back_s, suffix, kind, late)| {
            let mut one = candidate(NOW_S + DAY_S / 2 - back_s, suffix);
            one.health = match kind {
                0 => Health::Unreadable,
                3..6 => Health::Damaged,
                6 => Health::Unknown,
                _ => Health::Whole,
            };
            one.held = kind == 1;
            one.tags = if kind == 2 { vec!["a".parse().unwrap()] } else { Vec::new() };
            one.modified.unix_ms += if late { 40_000_000 } else { 0 };
            one
        });
        made.filter(|one| seen.insert(one.name.clone())).collect()
    })
}

fn stays(manifests: &[Candidate], policy: &Policy, moment: &Moment) -> Vec<Candidate> {
    let verdicts = plan(manifests, policy, moment);
    manifests.iter().zip(verdicts).filter(|(_, v)| v.keeps()).map(|(c, _)| c.clone()).collect()
}

fn moments() -> impl Strategy<Value = Moment> {
    (0u64..50).prop_map(|h| Moment { young: Duration::from_secs(h * 3600), ..MOMENT })
}

proptest! {
    #[test]
    fn planning_again_drops_nothing_more(manifests in histories(), policy in policies(), moment in moments()) {
        let once = stays(&manifests, &policy, &moment);
        prop_assert_eq!(stays(&once, &policy, &moment), once);
    }

    #[test]
    fn the_order_of_the_listing_is_without_consequence(
        (manifests, shuffled) in histories().prop_flat_map(|h| (Just(h.clone()), Just(h).prop_shuffle())),
        policy in policies(),
    ) {
        let mut one = stays(&manifests, &policy, &MOMENT);
        let mut two = stays(&shuffled, &policy, &MOMENT);
        one.sort_by(|a, b| a.name.cmp(&b.name));
        two.sort_by(|a, b| a.name.cmp(&b.name));
        prop_assert_eq!(one, two);
    }

    #[test]
    fn a_more_generous_policy_keeps_at_least_as_much(
        manifests in histories(), policy in policies(), more in policies(), moment in moments(),
    ) {
        let generous = Policy {
            keep_last: policy.keep_last + more.keep_last,
            keep_within: policy.keep_within + more.keep_within,
            keep_hourly: policy.keep_hourly + more.keep_hourly,
            keep_daily: policy.keep_daily + more.keep_daily,
            keep_weekly: policy.keep_weekly + more.keep_weekly,
            keep_monthly: policy.keep_monthly + more.keep_monthly,
            keep_yearly: policy.keep_yearly + more.keep_yearly,
            keep_tags: [policy.keep_tags.clone(), more.keep_tags].concat(),
        };
        let (few, many) = (stays(&manifests, &policy, &moment), stays(&manifests, &generous, &moment));
        prop_assert!(few.iter().all(|one| many.contains(one)));
    }

    #[test]
    fn the_newest_that_opens_the_newest_whole_and_all_that_must_stay_do(
        manifests in histories(), policy in policies(), moment in moments(),
    ) {
        let verdicts = plan(&manifests, &policy, &moment);
        let newest = newest(&manifests, &moment, &|health| health != Health::Unreadable);
        let whole = self::newest(&manifests, &moment, &|health| health == Health::Whole);
        prop_assert_eq!(with(Reason::Newest, &verdicts), usize::from(newest.is_some()));
        prop_assert_eq!(with(Reason::NewestWhole, &verdicts), usize::from(whole.is_some() && whole != newest));
        for (one, verdict) in manifests.iter().zip(&verdicts) {
            let named = [newest, whole].contains(&Some(one));
            let must = named || one.held || one.health == Health::Unreadable || is_future(one, moment.now);
            prop_assert!(verdict.keeps() || !must, "{}", one.name);
            prop_assert!(*verdict != Verdict::Keep(Vec::new()));
            prop_assert!(*verdict != Verdict::Keep(vec![Reason::Damaged]));
        }
    }

    #[test]
    fn damage_lets_nothing_go(manifests in histories(), policy in policies(), moment in moments(), all in any::<bool>()) {
        // Some damage, or all that there is.
        let mut before = manifests.clone();
        let lost = |health| health == Health::Damaged || all && health == Health::Unknown;
        before.iter_mut().filter(|one| lost(one.health)).for_each(|one| one.health = Health::Whole);
        let was = plan(&before, &policy, &moment);
        let is = plan(&manifests, &policy, &moment);
        // Not even what is damaged now, unless something else was damaged before.
        for ((was, is), one) in was.iter().zip(&is).zip(&manifests) {
            let counts = all || one.health == Health::Whole;
            prop_assert!(is.keeps() || !was.keeps() || !counts, "{}", one.name);
        }
    }

    #[test]
    fn whole_ones_are_judged_as_if_the_damaged_were_not_there(
        manifests in histories(), policy in policies(), moment in moments(),
    ) {
        let damaged = |c: &Candidate| matches!(c.health, Health::Damaged | Health::Unknown);
        let others: Vec<Candidate> = manifests.iter().filter(|c| !damaged(c)).cloned().collect();
        let is = stays(&manifests, &policy, &moment);
        let is: Vec<Candidate> = is.into_iter().filter(|c| !damaged(c)).collect();
        prop_assert_eq!(is, stays(&others, &policy, &moment));
    }

    #[test]
    fn damaged_ones_are_judged_as_if_all_were_whole(
        manifests in histories(), policy in policies(), moment in moments(),
    ) {
        let mut whole = manifests.clone();
        let damaged = |c: &Candidate| matches!(c.health, Health::Damaged | Health::Unknown);
        whole.iter_mut().filter(|c| damaged(c)).for_each(|c| c.health = Health::Whole);
        let is = plan(&manifests, &policy, &moment);
        let would = plan(&whole, &policy, &moment);
        for i in (0..manifests.len()).filter(|i| damaged(&manifests[*i])) {
            prop_assert_eq!(is[i].keeps(), would[i].keeps(), "{}", &manifests[i].name);
        }
    }

    #[test]
    fn no_rule_keeps_more_than_it_was_asked_for(manifests in histories(), policy in policies(), moment in moments()) {
        let verdicts = plan(&manifests, &policy, &moment);
        for (reason, _, count) in rules(&policy) {
            for whole in [true, false] {
                prop_assert!(of_health(whole, reason, &manifests, &verdicts) <= count as usize, "{:?}", reason);
            }
        }
    }

    #[test]
    fn each_rule_fills_its_places_while_there_are_buckets(manifests in histories(), policy in policies()) {
        let verdicts = plan(&manifests, &policy, &MOMENT);
        for (reason, bucket, count) in rules(&policy) {
            let counted = manifests.iter().filter(|c| c.health == Health::Whole && !is_future(c, MOMENT.now));
            let buckets: HashSet<u64> = counted.map(|c| bucket(c.name.time)).collect();
            let filled = of_health(true, reason, &manifests, &verdicts);
            prop_assert_eq!(filled, buckets.len().min(count as usize), "{:?}", reason);
        }
    }
}

/// The newest of those of some health that do not claim a time to come.
fn newest<'c>(all: &'c [Candidate], moment: &Moment, of: &dyn Fn(Health) -> bool) -> Option<&'c Candidate> {
    let counted = all.iter().filter(|c| of(c.health) && !is_future(c, moment.now));
    counted.max_by_key(|c| (c.name.time, c.modified, c.name.suffix))
}

/// How many stay for a reason, of those that are whole, or of the others.
fn of_health(whole: bool, reason: Reason, manifests: &[Candidate], verdicts: &[Verdict]) -> usize {
    let of = manifests.iter().zip(verdicts).filter(|(c, _)| (c.health == Health::Whole) == whole);
    with(reason, &of.map(|(_, verdict)| verdict.clone()).collect::<Vec<_>>())
}
