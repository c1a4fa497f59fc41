//! How long a budget of bytes lasts.
//!
//! Method: of the packs, indexes and manifests that were put within the last 30 days (or since the repository began, if
//! that is less), those that stay after the plan, divided by the days. What the first snapshot of each source brought is left
//! out: that was no growth. What retention thins out later is not foreseen, so the truth is rather longer. With less
//! than a day of history nothing is said.

use super::plan::{Judged, Plan};
use super::survey::Survey;
use serde::Serialize;
use std::collections::HashMap;

const DAY_MS: i64 = 86_400_000;
/// How far back growth is looked at.
const WINDOW_MS: i64 = 30 * DAY_MS;

/// How a repository grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Growth {
    /// Bytes a day.
    pub bytes_per_day: u64,
    /// Hours that were looked at.
    pub window_hours: u64,
}

impl Growth {
    /// `stays`: whether each pack stays.
    pub(super) fn measure(survey: &Survey, judged: &[Judged], stays: &[bool]) -> Option<Self> {
        let now_ms = survey.now.unix_ms;
        let mut oldest: HashMap<&str, &Judged> = HashMap::new();
        // Sorted by time: the first of each source.
        for one in judged {
            oldest.entry(one.row.name.source.as_str()).or_insert(one);
        }
        let began_ms = oldest.values().map(|one| one.row.modified.unix_ms).min()?;
        let window_ms = now_ms.saturating_sub(began_ms).min(WINDOW_MS);
        if window_ms < DAY_MS {
            return None;
        }
        let mut counts: Vec<bool> = stays.to_vec();
        for number in oldest.values().filter_map(|one| one.packs).flat_map(|numbers| numbers.iter()) {
            counts[*number as usize] = false;
        }
        let recent = |modified_ms: i64| modified_ms > now_ms.saturating_sub(window_ms);
        let packs: u64 = survey
            .packs
            .rows()
            .iter()
            .zip(counts)
            .filter(|(row, counts)| *counts && row.modified().is_some_and(|m| recent(m.unix_ms)))
            .map(|(row, _)| row.len_bytes())
            .sum();
        let manifests: u64 = judged
            .iter()
            .filter(|one| one.row.verdict.keeps() && recent(one.row.modified.unix_ms))
            .map(|one| one.row.len_bytes)
            .sum();
        let window_ms = u64::try_from(window_ms).ok()?;
        let bytes = u128::from(packs + manifests) * u128::from(DAY_MS.unsigned_abs());
        let bytes_per_day = u64::try_from(bytes / u128::from(window_ms)).unwrap_or(u64::MAX);
        Some(Self { bytes_per_day, window_hours: window_ms / 3_600_000 })
    }
}

/// How long a budget lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// The budget.
    pub budget_bytes: u64,
    /// What is stored once everything that the plan frees is free.
    pub stored_bytes: u64,
    /// How the repository grows; null with less than a day of history.
    pub growth: Option<Growth>,
    /// Days until the budget is used up; null where that is unknown or never.
    pub lasts_days: Option<u64>,
}

impl Plan {
    /// How long a budget lasts.
    pub fn budget(&self, budget_bytes: u64) -> Budget {
        let freed = self.delete_now.len_bytes.saturating_add(self.later_bytes.unwrap_or(0));
        let stored_bytes = self.listed_bytes.saturating_sub(freed);
        let left = budget_bytes.saturating_sub(stored_bytes);
        let lasts = |growth: Growth| left.checked_div(growth.bytes_per_day);
        let lasts_days = if left == 0 { Some(0) } else { self.growth.and_then(lasts) };
        Budget { budget_bytes, stored_bytes, growth: self.growth, lasts_days }
    }
}
