//! Every metric there is: name, labels, meaning. Nothing else is ever written, and nothing else is read back.
//!
//! Labels are of bounded cardinality: `source` is one of the configured sources, all others come from enums.

/// What kind of figure a metric is, and what becomes of two of them that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; what a later run counted is added.
    Counter,
    /// The last figure counts.
    Gauge,
    /// A gauge of the running calendar month: what a later run counted is added, and a new month begins at 0.
    MonthSum,
}

impl Kind {
    /// The word of a `# TYPE` line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::MonthSum => "gauge",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// `hah_vault_…`, in Prometheus' conventions.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Names of its labels, in the order of their values.
    pub labels: &'static [&'static str],
    /// What it means, on one line.
    pub help: &'static str,
}

/// The metric of a name.
pub fn find(name: &str) -> Option<&'static Metric> {
    ALL.iter().copied().find(|metric| metric.name == name)
}

macro_rules! metrics {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $id: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// All of them, in the order in which they are written.
        pub static ALL: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    BUILD_INFO: Gauge "hah_vault_build_info" ["version"]
        "1; the version of hah-vault is the label.";

    BACKUP_LAST_ATTEMPT: Gauge "hah_vault_backup_last_attempt_timestamp_seconds" ["source"]
        "When the last backup began, by this host's clock. Later than the last end: it is running, or it crashed.";
    BACKUP_LAST_END: Gauge "hah_vault_backup_last_end_timestamp_seconds" ["source"]
        "When the last backup ended, well or not, by this host's clock.";
    BACKUP_LAST_SUCCESS: Gauge "hah_vault_backup_last_success_timestamp_seconds" ["source"]
        "When the last backup succeeded, by this host's clock: its manifest was committed, and checked afterwards.";
    BACKUP_SNAPSHOT_TIME: Gauge "hah_vault_backup_snapshot_timestamp_seconds" ["source"]
        "The time in the name of the last committed manifest, by the store's clock: the snapshot is no older.";
    BACKUP_LAST_RUN_SUCCESS: Gauge "hah_vault_backup_last_run_success" ["source"]
        "1 if the last backup that ended was a success, 0 if not.";
    BACKUPS: Counter "hah_vault_backups_committed_total" ["source"]
        "Backups whose manifest was committed and checked, since the metrics file (batch runs) or the process (agent) began.";
    BACKUP_FAILURES: Counter "hah_vault_backup_failures_total" ["source", "reason"]
        "Backups that failed, by reason, since the metrics file or the process began.";
    BACKUP_DURATION: Gauge "hah_vault_backup_last_duration_seconds" ["source", "stage"]
        "Duration of the last successful backup: open (until the source gave its first byte, failed tries included), read (until all of it was read and sealed), upload (until the store had all packs), commit (manifest put and checked), total.";
    BACKUP_SNAPSHOT_BYTES: Gauge "hah_vault_backup_last_snapshot_bytes" ["source"]
        "Length of the last committed snapshot as the source gave it.";
    BACKUP_STREAM_BYTES: Gauge "hah_vault_backup_last_stream_bytes" ["source"]
        "Length of the last committed snapshot without its gzip.";
    BACKUP_NEW_BYTES: Gauge "hah_vault_backup_last_new_bytes" ["source"]
        "Bytes of the last committed snapshot, without gzip, that were in no earlier one that could be reused.";
    BACKUP_STORED_BYTES: Gauge "hah_vault_backup_last_stored_bytes" ["source"]
        "Bytes that the last successful backup put: packs, indexes, manifest.";
    BACKUP_DEDUPLICATED: Gauge "hah_vault_backup_last_deduplicated_ratio" ["source"]
        "Share of the last committed snapshot, without gzip, that was stored already: 0 to 1.";
    READ_BYTES: Counter "hah_vault_backup_read_bytes_total" ["source"]
        "Bytes read from the source without gzip, by backups that failed too, since the metrics file or the process began.";
    STORED_BYTES: Counter "hah_vault_backup_stored_bytes_total" ["source"]
        "Bytes of packs and indexes put, by backups that failed too, since the metrics file or the process began.";
    WARNINGS: Counter "hah_vault_warnings_total" []
        "Warnings given, since the metrics file or the process began; their words are in the log.";

    STORE_OPERATIONS: Counter "hah_vault_store_operations_total" ["operation", "class"]
        "Requests to the store, by operation and R2 price class (a, b, free), since the metrics file or the process began. A listing counts once for each 1000 objects; retries are not seen.";
    STORE_PUT_BYTES: Counter "hah_vault_store_put_bytes_total" []
        "Bytes of objects put, since the metrics file or the process began.";
    STORE_GET_BYTES: Counter "hah_vault_store_get_bytes_total" []
        "Bytes of objects read, since the metrics file or the process began.";
    MONTH_START: Gauge "hah_vault_store_month_start_timestamp_seconds" []
        "Beginning of the calendar month (UTC) that the month's operations are of.";
    MONTH_COUNTED_SINCE: Gauge "hah_vault_store_month_counted_since_timestamp_seconds" []
        "Since when the month's operations have been counted here.";
    MONTH_OPERATIONS: MonthSum "hah_vault_store_month_operations" ["class"]
        "Requests of this calendar month (UTC) by R2 price class, as far as this metrics file or process has seen them: other hosts' requests are not in it.";
    MONTH_ESTIMATE: Gauge "hah_vault_store_month_operations_estimate" ["class"]
        "The month's operations at its end, if they go on at the rate since counting began (taken over a day at least). R2 gives 1 million of class a and 10 million of class b free.";

    REPOSITORY_BYTES: Gauge "hah_vault_repository_bytes" []
        "Bytes of all objects that the last listings saw.";
    REPOSITORY_OBJECTS: Gauge "hah_vault_repository_objects" ["type"]
        "Objects by type (packs, index, manifests, keys, trash, holds), as last listed.";
    REPOSITORY_OBJECT_BYTES: Gauge "hah_vault_repository_object_bytes" ["type"]
        "Their bytes.";
    REPOSITORY_MANIFESTS: Gauge "hah_vault_repository_manifests" ["source"]
        "Manifests of the source, as last listed.";
    REPOSITORY_MANIFEST_BYTES: Gauge "hah_vault_repository_manifest_bytes" ["source"]
        "Their bytes.";
    REPOSITORY_BUDGET: Gauge "hah_vault_repository_budget_bytes" []
        "What the repository may hold, as configured.";

    VERIFY_LAST: Gauge "hah_vault_verify_last_timestamp_seconds" ["depth"]
        "When the last verification of this depth (structure, data, rehearsal) ended, by this host's clock.";
    VERIFY_LAST_SUCCESS: Gauge "hah_vault_verify_last_success_timestamp_seconds" ["depth"]
        "When a verification of this depth last found no damage.";
    VERIFY_LAST_RUN_SUCCESS: Gauge "hah_vault_verify_last_run_success" ["depth"]
        "1 if the last verification of this depth was carried out and found no damage, 0 if not.";
    VERIFY_DURATION: Gauge "hah_vault_verify_last_duration_seconds" ["depth"]
        "How long it took.";
    VERIFY_DAMAGED_MANIFESTS: Gauge "hah_vault_verify_damaged_manifests" ["depth"]
        "Snapshots that the last verification of this depth found damaged.";
    VERIFY_DAMAGED_OBJECTS: Gauge "hah_vault_verify_damaged_objects" ["depth"]
        "Objects that it found damaged or missing.";
    VERIFY_OLDEST: Gauge "hah_vault_verify_oldest_unverified_timestamp_seconds" []
        "Of every pack, when its bytes were last read and found good on this host, or else when it was put: the oldest of these times.";

    REHEARSAL_LAST: Gauge "hah_vault_rehearsal_last_timestamp_seconds" ["source"]
        "When a restore of the source was last rehearsed, by this host's clock.";
    REHEARSAL_LAST_SUCCESS: Gauge "hah_vault_rehearsal_last_success_timestamp_seconds" ["source"]
        "When a rehearsal last gave back the exact snapshot.";
    REHEARSAL_LAST_RUN_SUCCESS: Gauge "hah_vault_rehearsal_last_run_success" ["source"]
        "1 if the last rehearsal gave back the exact snapshot, 0 if not.";
    REHEARSAL_DURATION: Gauge "hah_vault_rehearsal_last_duration_seconds" ["source"]
        "How long it took.";

    GC_LAST: Gauge "hah_vault_gc_last_timestamp_seconds" []
        "When gc last ended, by this host's clock.";
    GC_LAST_SUCCESS: Gauge "hah_vault_gc_last_success_timestamp_seconds" []
        "When gc last did all of its plan.";
    GC_LAST_RUN_SUCCESS: Gauge "hah_vault_gc_last_run_success" []
        "1 if the last gc did all of its plan, 0 if not.";
    GC_RETIRED: Counter "hah_vault_gc_retired_manifests_total" []
        "Manifests moved to the trash, since the metrics file or the process began.";
    GC_DELETED_OBJECTS: Counter "hah_vault_gc_deleted_objects_total" []
        "Objects deleted for good, since the metrics file or the process began.";
    GC_DELETED_BYTES: Counter "hah_vault_gc_deleted_bytes_total" []
        "Their bytes.";
    GC_WAITING_BYTES: Gauge "hah_vault_gc_waiting_bytes" []
        "Bytes that nothing names any more, and that go when the grace has passed, as of the last gc.";

    RESTORES: Counter "hah_vault_restores_total" ["source", "outcome"]
        "Restores by outcome (done, failed), since the metrics file or the process began.";
    RESTORE_LAST_SUCCESS: Gauge "hah_vault_restore_last_success_timestamp_seconds" ["source"]
        "When a restore last succeeded, by this host's clock.";
    RESTORE_BYTES: Gauge "hah_vault_restore_last_bytes" ["source"]
        "Bytes that it wrote.";
    RESTORE_DURATION: Gauge "hah_vault_restore_last_duration_seconds" ["source"]
        "How long it took.";

    AGENT_START: Gauge "hah_vault_agent_start_timestamp_seconds" []
        "When this agent started.";
    LOCK_HELD: Gauge "hah_vault_lock_held" []
        "1 if this agent holds the lock and so makes the runs, 0 if another one does, or nobody.";
    RUNS_ACTIVE: Gauge "hah_vault_runs_active" ["kind"]
        "Runs of this agent that go on now, by kind (backup, verify, rehearse, gc, restore).";
    SCHEDULE_NEXT: Gauge "hah_vault_schedule_next_run_timestamp_seconds" ["kind", "source"]
        "When the next run is due; the source is empty for what concerns all.";
    SCHEDULE_PAUSED: Gauge "hah_vault_schedule_paused" ["source"]
        "1 while the source's schedule is paused.";
    DROPPED_SERIES: Counter "hah_vault_telemetry_dropped_series_total" []
        "Figures that were not kept because a metric had too many series already; should be 0.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_conventions_and_are_unique() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(name.starts_with("hah_vault_") && seen.insert(name), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(!metric.help.contains('\n') && metric.help.ends_with('.'), "{name}");
            // OpenMetrics knows a counter by its name without the suffix.
            assert!(find(name.trim_end_matches("_total")).is_none_or(|found| found.name == name), "{name}");
            let units = ["seconds", "bytes", "ratio", "success", "info"];
            let timed = ["time", "timestamp", "duration"].iter().any(|word| name.contains(word));
            assert!(!timed || units.iter().any(|unit| name.ends_with(unit)), "{name}");
        }
    }
}
