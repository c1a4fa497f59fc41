//! Which snapshots of a source stay: a pure function of what is there, the policy, and the store's time.
//!
//! Buckets are UTC hours, days, ISO weeks, months and years; of each that a rule counts the newest snapshot stays. What
//! does not open, and what claims a time that has not come yet, stays and counts for nothing: it takes no place from a
//! sound snapshot.
//!
//! Neither does what opens but cannot be restored, because packs are gone. Whole snapshots are judged among the whole ones;
//! the others among all, as if they were whole. So damage lets nothing go that would have stayed without it, and what is
//! damaged does not stay for ever either.

use super::STORE_CLOCK_TOLERANCE;
use super::parent::millis;
use super::tags::Tag;
use crate::store::StoreTime;
use hah_vault_format::{ManifestName, UnixTime};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How much is kept. The rules stand side by side: a snapshot stays if one of them wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The newest snapshots, at most one of each hour: a flood, by whoever stole a writer key, takes one place an hour.
    pub keep_last: u32,
    /// All that are not older than this, counted from the newest: when backups stop, the last ones stay.
    pub keep_within: Duration,
    /// The newest of each of so many hours that have any.
    pub keep_hourly: u32,
    /// The same for days.
    pub keep_daily: u32,
    /// The same for ISO weeks, which begin on Monday.
    pub keep_weekly: u32,
    /// The same for months.
    pub keep_monthly: u32,
    /// The same for years.
    pub keep_yearly: u32,
    /// All that have one of these tags.
    pub keep_tags: Vec<Tag>,
}

impl Policy {
    /// Keeps nothing but what is kept always. The beginning of a policy that is spelled out.
    pub const NOTHING: Self = Self {
        keep_last: 0,
        keep_within: Duration::ZERO,
        keep_hourly: 0,
        keep_daily: 0,
        keep_weekly: 0,
        keep_monthly: 0,
        keep_yearly: 0,
        keep_tags: Vec::new(),
    };

    /// Keeps everything.
    pub fn everything() -> Self {
        Self { keep_within: Duration::MAX, ..Self::NOTHING }
    }

    /// In words: `last 3, within 1 d, hourly 48`.
    pub fn describe(&self) -> String {
        if self.keep_within == Duration::MAX {
            return "everything".into();
        }
        let counts = [
            ("last", self.keep_last),
            ("hourly", self.keep_hourly),
            ("daily", self.keep_daily),
            ("weekly", self.keep_weekly),
            ("monthly", self.keep_monthly),
            ("yearly", self.keep_yearly),
        ];
        let mut words: Vec<String> =
            counts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
        if !self.keep_within.is_zero() {
            words.push(format!("within {} h", self.keep_within.as_secs() / 3600));
        }
        words.extend(self.keep_tags.iter().map(|tag| format!("tag {tag}")));
        if words.is_empty() { "the newest only".into() } else { words.join(", ") }
    }
}

impl Default for Policy {
    /// A day in full, two days by the hour, two weeks by the day, two months by the week, a year by the month, three
    /// years. With a snapshot every ten minutes about 200 stay.
    fn default() -> Self {
        Self {
            keep_last: 3,
            keep_within: Duration::from_secs(24 * 3600),
            keep_hourly: 48,
            keep_daily: 14,
            keep_weekly: 8,
            keep_monthly: 12,
            keep_yearly: 3,
            keep_tags: Vec::new(),
        }
    }
}

/// What the planner knows of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name, with the time that it claims.
    pub name: ManifestName,
    /// When it was put, by the store's time.
    pub modified: StoreTime,
    /// Whether it opens, and has its packs.
    pub health: Health,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Whether somebody holds it.
    pub held: bool,
}

/// What is known of a manifest and of the packs that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It opens, and all of its packs are listed with their lengths.
    Whole,
    /// It opens, but was put so late that the listing of packs need not show its own. Takes no place, as if it were damaged.
    Unknown,
    /// It opens, but packs are missing, of another length, or known to be damaged: it cannot be restored.
    Damaged,
    /// It does not open or does not authenticate.
    Unreadable,
}

/// Why a manifest stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is the newest of its source that opens.
    Newest,
    /// It is the newest that is whole, and a newer one is not.
    NewestWhole,
    /// `hold`.
    Held,
    /// `keep_tags`.
    Tagged,
    /// `keep_last`.
    Last,
    /// `keep_within`.
    Within,
    /// `keep_hourly`.
    Hourly,
    /// `keep_daily`.
    Daily,
    /// `keep_weekly`.
    Weekly,
    /// `keep_monthly`.
    Monthly,
    /// `keep_yearly`.
    Yearly,
    /// It was put less than the grace ago (DESIGN §7).
    Young,
    /// It claims a time that has not come yet.
    Future,
    /// It cannot be restored: packs are gone. Never the only reason.
    Damaged,
    /// It does not open.
    Unreadable,
    /// Another source's snapshots are looked after.
    NotAsked,
}

impl Reason {
    /// The word for tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::NewestWhole => "newest-whole",
            Self::Held => "held",
            Self::Tagged => "tag",
            Self::Last => "last",
            Self::Within => "within",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Young => "young",
            Self::Future => "future",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
            Self::NotAsked => "not-asked",
        }
    }
}

/// What becomes of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays; never without a reason.
    Keep(Vec<Reason>),
    /// It goes: no rule wants it, and perhaps a newer one of its day stays.
    Drop {
        /// The whole snapshot of the same day that stays instead.
        instead: Option<ManifestName>,
    },
}

impl Verdict {
    /// Whether it stays.
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Keep(_))
    }
}

/// When a plan is made.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The store's time.
    pub now: StoreTime,
    /// Manifests that were put less than this ago stay.
    pub young: Duration,
}

/// Judges the manifests of one source; the answers are in the order of `manifests`, and do not depend on it.
pub fn plan(manifests: &[Candidate], policy: &Policy, moment: &Moment) -> Vec<Verdict> {
    let mut reasons: Vec<Vec<Reason>> = manifests.iter().map(|c| standing_reasons(c, policy, moment)).collect();
    let is_whole = |i: usize| manifests[i].health == Health::Whole;
    let open = newest_first(manifests, moment);
    let whole: Vec<usize> = open.iter().copied().filter(|i| is_whole(*i)).collect();
    for (i, reason) in wanted(manifests, &open, policy).into_iter().filter(|(i, _)| !is_whole(*i)) {
        reasons[i].push(reason);
    }
    for (i, reason) in wanted(manifests, &whole, policy) {
        let is_second = reason == Reason::Newest && open.first() != Some(&i);
        reasons[i].push(if is_second { Reason::NewestWhole } else { reason });
    }
    let mut stays: HashMap<u64, usize> = HashMap::new();
    for i in whole.into_iter().filter(|i| !reasons[*i].is_empty()) {
        stays.entry(of_day(manifests[i].name.time)).or_insert(i);
    }
    let verdict = |i: usize| match reasons[i].as_slice() {
        [] => {
            let instead = stays.get(&of_day(manifests[i].name.time));
            Verdict::Drop { instead: instead.map(|other| manifests[*other].name.clone()) }
        }
        some => {
            let mut some = some.to_vec();
            some.extend((manifests[i].health == Health::Damaged).then_some(Reason::Damaged));
            some.sort_unstable();
            Verdict::Keep(some)
        }
    };
    (0..manifests.len()).map(verdict).collect()
}

/// Those that open and do not claim a time to come. As `@latest` has it: of one second, the one that was put last is the
/// newest.
fn newest_first(manifests: &[Candidate], moment: &Moment) -> Vec<usize> {
    let counts = |c: &Candidate| c.health != Health::Unreadable && !is_future(c, moment.now);
    let mut counted: Vec<usize> = (0..manifests.len()).filter(|i| counts(&manifests[*i])).collect();
    let order = |i: &usize| (manifests[*i].name.time, manifests[*i].modified, manifests[*i].name.suffix);
    counted.sort_by_key(|i| std::cmp::Reverse(order(i)));
    counted
}

/// What the rules want of some manifests, the newest first, if there are no others.
fn wanted(manifests: &[Candidate], counted: &[usize], policy: &Policy) -> Vec<(usize, Reason)> {
    let Some(newest) = counted.first() else { return Vec::new() };
    let mut wanted = vec![(*newest, Reason::Newest)];
    let newest_s = manifests[*newest].name.time.unix_s();
    let age_s = |i: usize| newest_s - manifests[i].name.time.unix_s();
    let within = counted.iter().filter(|i| age_s(**i) < policy.keep_within.as_secs());
    wanted.extend(within.map(|i| (*i, Reason::Within)));
    for (reason, bucket, count) in rules(policy) {
        let mut seen = HashSet::new();
        let firsts = counted.iter().filter(|i| seen.insert(bucket(manifests[**i].name.time)));
        wanted.extend(firsts.take(count as usize).map(|i| (*i, reason)));
    }
    wanted
}

/// Whether a manifest claims a time after the store's.
pub fn is_future(manifest: &Candidate, now: StoreTime) -> bool {
    let claimed_ms = i64::try_from(manifest.name.time.unix_s()).unwrap_or(i64::MAX).saturating_mul(1000);
    claimed_ms > now.unix_ms.saturating_add(millis(STORE_CLOCK_TOLERANCE))
}

/// Reasons that a manifest has by itself.
fn standing_reasons(manifest: &Candidate, policy: &Policy, moment: &Moment) -> Vec<Reason> {
    let young = manifest.modified.unix_ms >= moment.now.unix_ms.saturating_sub(millis(moment.young));
    let all = [
        (Reason::Held, manifest.held),
        (Reason::Tagged, manifest.tags.iter().any(|tag| policy.keep_tags.contains(tag))),
        (Reason::Young, young),
        (Reason::Future, is_future(manifest, moment.now)),
        (Reason::Unreadable, manifest.health == Health::Unreadable),
    ];
    all.into_iter().filter_map(|(reason, applies)| applies.then_some(reason)).collect()
}

type Bucket = fn(UnixTime) -> u64;

fn rules(policy: &Policy) -> [(Reason, Bucket, u32); 6] {
    [
        (Reason::Last, of_hour, policy.keep_last),
        (Reason::Hourly, of_hour, policy.keep_hourly),
        (Reason::Daily, of_day, policy.keep_daily),
        (Reason::Weekly, of_week, policy.keep_weekly),
        (Reason::Monthly, of_month, policy.keep_monthly),
        (Reason::Yearly, of_year, policy.keep_yearly),
    ]
}

fn of_hour(time: UnixTime) -> u64 {
    time.unix_s() / 3600
}

fn of_day(time: UnixTime) -> u64 {
    time.unix_s() / 86_400
}

/// 1970 began on a Thursday: three days after a Monday.
fn of_week(time: UnixTime) -> u64 {
    (of_day(time) + 3) / 7
}

fn of_month(time: UnixTime) -> u64 {
    let (y, m, ..) = time.civil();
    y * 12 + m
}

fn of_year(time: UnixTime) -> u64 {
    time.civil().0
}

#[cfg(test)]
mod tests;
