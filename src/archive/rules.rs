//! The rules without which deleting loses data (DESIGN §7), one switch each.
//!
//! All are on, always. Tests turn single ones off to show that their model notices: a rule whose absence nothing catches
//! is not tested.

/// Which rules of the protocol hold. Nothing but tests makes any other than [`Rules::ALL`].
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    // Backup.
    /// Only packs that the parent names are reused, never others that the listing shows.
    pub parent_packs_only: bool,
    /// A recent manifest that was committed late is no parent: its writer is about to withdraw it.
    pub no_late_parent: bool,
    /// A manifest is put within half the grace of the run's first look, by the store's time.
    pub commit_limit_store: bool,
    /// The same by a clock that counts suspension.
    pub commit_limit_boot: bool,
    /// After the put the manifest's own time is read and the packs are listed again, before success is reported.
    pub check_committed: bool,
    /// A manifest that is withdrawn leaves a copy in the trash: another backup may have chosen it as its parent.
    pub withdraw_copy: bool,

    // gc: plan.
    /// All ages are relative to the store's time at the beginning.
    pub ages_at_start: bool,
    /// Packs and indexes are listed before the manifests.
    pub packs_first: bool,
    /// The trash is listed after the manifests.
    pub trash_last: bool,
    /// A plan that took more than an eighth of the grace is given up.
    pub planning_limit: bool,
    /// While a manifest or a young trash copy does not open, no pack is deleted.
    pub unreadable_stops: bool,
    /// A manifest that vanished between list and read, and has no trash copy, ends the run.
    pub vanished_stops: bool,
    /// Manifests that claim a time after the store's name their packs as others do.
    pub future_names: bool,
    /// Manifests younger than the grace are not retired.
    pub young_stay: bool,

    // gc: execute.
    /// Every trash copy is a fresh object under a name of its own.
    pub fresh_copy: bool,
    /// No retirement begins later than a quarter of the grace after the run.
    pub retire_limit: bool,
    /// No manifest is deleted more than an eighth of the grace after its copy was put, and if that much has passed all
    /// the same, another copy is put.
    pub retire_gap: bool,

    // undelete.
    /// Only copies younger than half the grace.
    pub undelete_limit: bool,
    /// The manifest gets a new name.
    pub undelete_new_name: bool,
    /// The trash copy stays.
    pub undelete_keeps_copy: bool,
    /// After the put the manifest's own time is read and the packs are listed again.
    pub undelete_check: bool,
}

impl Rules {
    /// As they must be.
    pub const ALL: Self = Self {
        parent_packs_only: true,
        no_late_parent: true,
        commit_limit_store: true,
        commit_limit_boot: true,
        check_committed: true,
        withdraw_copy: true,
        ages_at_start: true,
        packs_first: true,
        trash_last: true,
        planning_limit: true,
        unreadable_stops: true,
        vanished_stops: true,
        future_names: true,
        young_stay: true,
        fresh_copy: true,
        retire_limit: true,
        retire_gap: true,
        undelete_limit: true,
        undelete_new_name: true,
        undelete_keeps_copy: true,
        undelete_check: true,
    };
}

impl Default for Rules {
    fn default() -> Self {
        Self::ALL
    }
}
