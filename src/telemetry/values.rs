//! Figures of the metrics in the catalog, as plain data: set, added up, laid over older ones.

use super::catalog::{
    BUILD_INFO, DROPPED_SERIES, Kind, MONTH_COUNTED_SINCE, MONTH_ESTIMATE, MONTH_OPERATIONS, MONTH_START, Metric, find,
};
use std::collections::BTreeMap;

/// Series of one metric that are kept. 256 sources by 16 reasons: more is no operator's configuration.
pub const SERIES_MAX: usize = 4096;

type Series = BTreeMap<Vec<String>, f64>;

/// Figures by metric and label values. All are finite.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(BTreeMap<&'static str, Series>);

impl Values {
    /// Whether there is no figure.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A figure.
    pub fn get(&self, metric: &Metric, labels: &[&str]) -> Option<f64> {
        let series = self.0.get(metric.name)?;
        series.iter().find_map(|(key, value)| key.iter().eq(labels.iter()).then_some(*value))
    }

    /// The figures of one metric, by label values.
    pub fn series(&self, metric: &Metric) -> impl Iterator<Item = (&[String], f64)> {
        let series = self.0.get(metric.name).into_iter().flatten();
        series.map(|(labels, value)| (labels.as_slice(), *value))
    }

    /// Sum over all series of a metric.
    pub fn sum(&self, metric: &Metric) -> f64 {
        self.series(metric).map(|(_, value)| value).sum()
    }

    /// Sets a figure; one that is not finite is passed over.
    pub fn set(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        self.put(metric, labels.iter().map(|label| (*label).to_owned()).collect(), |slot| *slot = value, value);
    }

    /// Adds to a figure, which begins at 0.
    pub fn add(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        self.put(metric, labels.iter().map(|label| (*label).to_owned()).collect(), |slot| *slot += value, value);
    }

    fn put(&mut self, metric: &'static Metric, labels: Vec<String>, change: impl FnOnce(&mut f64), value: f64) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        if !value.is_finite() {
            return;
        }
        let series = self.0.entry(metric.name).or_default();
        if series.len() >= SERIES_MAX && !series.contains_key(&labels) {
            // Once: of itself it has one series only.
            return self.add(&DROPPED_SERIES, &[], 1.0);
        }
        change(series.entry(labels).or_default());
    }

    /// Forgets all figures of a metric.
    pub fn clear(&mut self, metric: &Metric) {
        self.0.remove(metric.name);
    }

    /// Lays newer figures over these: counters are added up, gauges replaced, and what is not in `newer` stays.
    pub fn absorb(&mut self, mut newer: Self) {
        self.clear(&BUILD_INFO);
        self.join_months(&mut newer);
        for (name, series) in newer.0 {
            let Some(metric) = find(name) else { continue };
            for (labels, value) in series {
                match metric.kind {
                    Kind::Counter | Kind::MonthSum => self.put(metric, labels, |slot| *slot += value, value),
                    Kind::Gauge => self.put(metric, labels, |slot| *slot = value, value),
                }
            }
        }
    }

    /// Of two months only the later one's figures count; of one month, counting began with the first.
    fn join_months(&mut self, newer: &mut Self) {
        let (Some(own), Some(other)) = (self.get(&MONTH_START, &[]), newer.get(&MONTH_START, &[])) else { return };
        if own < other {
            self.clear_month();
        } else if other < own {
            newer.clear_month();
        } else if let Some(since) = self.get(&MONTH_COUNTED_SINCE, &[]) {
            let other = newer.get(&MONTH_COUNTED_SINCE, &[]).unwrap_or(since);
            newer.set(&MONTH_COUNTED_SINCE, &[], since.min(other));
        }
    }

    /// Forgets what is counted by the month.
    pub(super) fn clear_month(&mut self) {
        for metric in [&MONTH_START, &MONTH_COUNTED_SINCE, &MONTH_OPERATIONS, &MONTH_ESTIMATE] {
            self.clear(metric);
        }
    }

    /// The figures of one source, or with `None` those of no source.
    pub fn of_source(&self, source: Option<&str>) -> Self {
        let mut part = Self::default();
        for (name, series) in &self.0 {
            let Some(metric) = find(name) else { continue };
            let at = metric.labels.iter().position(|label| *label == "source");
            let fits = |labels: &Vec<String>| at.map(|at| labels[at].as_str()) == source;
            let kept: Series = series.iter().filter(|(labels, _)| fits(labels)).map(|(l, v)| (l.clone(), *v)).collect();
            if !kept.is_empty() {
                part.0.insert(name, kept);
            }
        }
        part
    }

    /// Sources that any figure is of.
    pub fn sources(&self) -> Vec<String> {
        let mut found = std::collections::BTreeSet::new();
        for (name, series) in &self.0 {
            let at = find(name).and_then(|metric| metric.labels.iter().position(|label| *label == "source"));
            found.extend(at.into_iter().flat_map(|at| series.keys().map(move |labels| labels[at].clone())));
        }
        found.remove("");
        found.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::{BACKUP_LAST_SUCCESS, BACKUPS, RESTORES};
    use super::*;

    #[test]
    fn counters_add_up_gauges_are_replaced_and_the_rest_stays() {
        let (mut old, mut new) = (Values::default(), Values::default());
        old.add(&BACKUPS, &["a"], 2.0);
        old.add(&BACKUPS, &["b"], 1.0);
        old.set(&BACKUP_LAST_SUCCESS, &["a"], 10.0);
        old.set(&BACKUP_LAST_SUCCESS, &["b"], 11.0);
        new.add(&BACKUPS, &["a"], 3.0);
        new.set(&BACKUP_LAST_SUCCESS, &["a"], 20.0);
        old.absorb(new);
        assert_eq!((old.get(&BACKUPS, &["a"]), old.get(&BACKUPS, &["b"])), (Some(5.0), Some(1.0)));
        assert_eq!(old.get(&BACKUP_LAST_SUCCESS, &["a"]), Some(20.0));
        assert_eq!(old.get(&BACKUP_LAST_SUCCESS, &["b"]), Some(11.0));
        assert_eq!(old.sources(), ["a", "b"]);
    }

    #[test]
    fn a_new_month_begins_at_zero_and_an_old_one_changes_nothing() {
        let month = |start: f64, since: f64, count: f64| {
            let mut values = Values::default();
            values.set(&MONTH_START, &[], start);
            values.set(&MONTH_COUNTED_SINCE, &[], since);
            values.add(&MONTH_OPERATIONS, &["a"], count);
            values
        };
        let mut values = month(100.0, 120.0, 5.0);
        values.absorb(month(100.0, 130.0, 2.0));
        assert_eq!(values, month(100.0, 120.0, 7.0));
        values.absorb(month(200.0, 210.0, 3.0));
        assert_eq!(values, month(200.0, 210.0, 3.0));
        values.absorb(month(100.0, 130.0, 2.0));
        assert_eq!(values, month(200.0, 210.0, 3.0));
    }

    #[test]
    fn series_are_bounded_and_figures_are_finite() {
        let mut values = Values::default();
        for number in 0..SERIES_MAX + 5 {
            values.add(&BACKUPS, &[&number.to_string()], 1.0);
        }
        assert_eq!(values.series(&BACKUPS).count(), SERIES_MAX);
        assert_eq!(values.get(&DROPPED_SERIES, &[]), Some(5.0));
        values.set(&BACKUP_LAST_SUCCESS, &["a"], f64::NAN);
        values.set(&BACKUP_LAST_SUCCESS, &["a"], f64::INFINITY);
        assert_eq!(values.get(&BACKUP_LAST_SUCCESS, &["a"]), None);
    }

    #[test]
    fn the_figures_of_a_source_are_all_that_carry_its_name() {
        let mut values = Values::default();
        values.add(&BACKUPS, &["a"], 1.0);
        values.add(&RESTORES, &["a", "done"], 1.0);
        values.add(&RESTORES, &["b", "done"], 1.0);
        values.add(&DROPPED_SERIES, &[], 1.0);
        let mut sum = values.of_source(None);
        assert_eq!(sum.sources(), [""; 0]);
        sum.absorb(values.of_source(Some("a")));
        sum.absorb(values.of_source(Some("b")));
        assert_eq!(sum, values);
    }
}
