//! What can go wrong in a command, with hint and exit code.

use super::drill::DrillError;
use crate::exit::Exit;
use crate::keys::KeyError;
use crate::pipeline::normalise::NotesError;
use crate::pipeline::seal::SealError;
use crate::pipeline::unwrap::UnwrapError;
use crate::snapshot::tar::TarError;
use crate::source::SourceError;
use crate::source::keystore::KeystoreError;
use crate::store::StoreError;
use hah_vault_format::{FormatError, ManifestName, ObjectId, RepositoryId, SourceName, TrashName};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// There is no repository.
    #[error("no repository at {store}")]
    NoRepository {
        /// Where.
        store: String,
    },
    /// `init` found something.
    #[error("{store} is not empty: {found} is there already")]
    Exists {
        /// Where.
        store: String,
        /// The object found.
        found: String,
    },
    /// The key belongs to another repository than the one at hand.
    #[error("{store} is repository {found}, but the {key} belongs to {expected}")]
    OtherRepository {
        /// Where.
        store: String,
        /// The repository's id.
        found: RepositoryId,
        /// Which key.
        key: &'static str,
        /// The key's repository.
        expected: RepositoryId,
    },
    /// `repository.json` is not one.
    #[error("repository.json in {store} cannot be read: {reason}")]
    BadRepository {
        /// Where.
        store: String,
        /// Why.
        reason: String,
    },
    /// Written by a newer version.
    #[error("{what} is of format version {found}, this program reads up to {newest}")]
    TooNew {
        /// Which object.
        what: String,
        /// Its version.
        found: u64,
        /// The newest version understood.
        newest: u16,
    },
    /// No identity opens any copy of the repository identity.
    #[error("no identity opens the repository: {tried} wrapped copies in keys/ were tried")]
    NoIdentity {
        /// How many.
        tried: usize,
    },
    /// An identity is needed and none was given.
    #[error("{what} needs an identity")]
    NeedsIdentity {
        /// What was asked for.
        what: &'static str,
    },
    /// The writer key is another source's.
    #[error("the writer key is for source {scope} only, not for {source_name}")]
    Scope {
        /// The key's scope.
        scope: String,
        /// The source asked for.
        source_name: SourceName,
    },
    /// A store operation.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] FormatError),
    /// A manifest cannot be opened.
    #[error("cannot open manifest {name}")]
    Manifest {
        /// Which.
        name: ManifestName,
        /// Why.
        source: SealError,
    },
    /// A pack cannot be opened.
    #[error("cannot open pack {id}, which manifest {manifest} needs")]
    Pack {
        /// Which.
        id: ObjectId,
        /// Who needs it.
        manifest: Box<ManifestName>,
        /// Why.
        source: SealError,
    },
    /// Sealing failed.
    #[error("cannot seal")]
    Seal(#[from] SealError),
    /// A key file in the store.
    #[error("{key}")]
    Key {
        /// Its key in the store, or what was done.
        key: String,
        /// Why.
        source: KeyError,
    },
    /// A server did not give its snapshot.
    #[error("{name}: not backed up")]
    Service {
        /// The source.
        name: SourceName,
        /// Why.
        source: Box<SourceError>,
    },
    /// A server did not take a snapshot back.
    #[error("{name}: not restored")]
    Target {
        /// The manifest.
        name: ManifestName,
        /// Why.
        source: Box<SourceError>,
    },
    /// A server took a snapshot back, and did not come to rest.
    #[error("{name}: sent and taken, but not known to be restored")]
    Unsettled {
        /// The manifest.
        name: ManifestName,
        /// Why.
        source: Box<SourceError>,
    },
    /// A snapshot that does not go into the target.
    #[error("{name}: not restored: {reason}")]
    Unfit {
        /// The manifest.
        name: ManifestName,
        /// Why.
        reason: String,
    },
    /// A drill did not come about.
    #[error("{name}: no drill")]
    Drill {
        /// The manifest.
        name: ManifestName,
        /// Why.
        source: Box<DrillError>,
    },
    /// A keystore folder could not be read or written.
    #[error("{what}")]
    Keystore {
        /// What was not done.
        what: String,
        /// Why.
        source: KeystoreError,
    },
    /// A keystore was asked for, and none was backed up with the snapshot.
    #[error("manifest {name} has no keystore with it")]
    NoKeystore {
        /// The manifest.
        name: ManifestName,
    },
    /// The keystore in a manifest cannot be opened.
    #[error("manifest {name}: its keystore cannot be opened")]
    KeystoreSeal {
        /// The manifest.
        name: ManifestName,
        /// Why.
        source: SealError,
    },
    /// What the source gave is not a sound snapshot.
    #[error("{name}: not backed up")]
    Unwrap {
        /// The source.
        name: SourceName,
        /// Why.
        source: UnwrapError,
    },
    /// The same, of the tar inside.
    #[error("{name}: not backed up")]
    Tar {
        /// The source.
        name: SourceName,
        /// Why.
        source: TarError,
    },
    /// A source's file.
    #[error("{name}: cannot read {path}")]
    Open {
        /// The source.
        name: SourceName,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The commit limit passed (DESIGN §7).
    #[error("{name}: the run took too long to commit safely: {took_s} s, at most {limit_s} s are allowed")]
    TooLate {
        /// The source.
        name: SourceName,
        /// Seconds since the run began, by store or boot time.
        took_s: u64,
        /// Half the grace.
        limit_s: u64,
    },
    /// Packs disappeared under a run: somebody deleted what was just stored or reused.
    #[error("{name}: {missing} objects that the new manifest needs are gone; it was withdrawn")]
    Vanished {
        /// The source.
        name: SourceName,
        /// How many packs or indexes.
        missing: usize,
    },
    /// A command for the whole repository, with the key of one source.
    #[error("{what} needs a writer key of scope *: this one is for source {scope} only")]
    ScopeAll {
        /// The command.
        what: &'static str,
        /// The key's source.
        scope: SourceName,
    },
    /// A grace that would break the backups of others.
    #[error("a grace of {grace_s} s is shorter than the {least_s} s that every backup relies on")]
    ShortGrace {
        /// Asked for.
        grace_s: u64,
        /// The least without `--exclusive`.
        least_s: u64,
    },
    /// Planning a gc took too long to act on (DESIGN §7).
    #[error("looking at the repository took {took_s} s, at most {limit_s} s are allowed: nothing was deleted")]
    PlanTooLate {
        /// Seconds, by store or boot time.
        took_s: u64,
        /// An eighth of the grace.
        limit_s: u64,
    },
    /// A manifest disappeared without a trace.
    #[error("manifest {name} vanished while it was being read, and is not in the trash: nothing was deleted")]
    ManifestVanished {
        /// Which.
        name: ManifestName,
    },
    /// A plan that drops more than half of a source's manifests.
    #[error("{source_name}: {dropped} of {of} snapshots would go: nothing was done")]
    TooManyDropped {
        /// The source.
        source_name: SourceName,
        /// How many would go.
        dropped: usize,
        /// Of how many.
        of: usize,
    },
    /// The credentials do not allow to delete.
    #[error("the store's credentials may not delete: nothing was changed")]
    MayNotDelete {
        /// The store's answer.
        source: StoreError,
    },
    /// A trash copy that cannot be brought back any more.
    #[error("{name} was set aside more than {limit_s} s ago: its packs may be deleted at any moment")]
    UndeleteTooLate {
        /// Which.
        name: TrashName,
        /// Half the grace.
        limit_s: u64,
    },
    /// Nothing in the trash is called so.
    #[error("nothing in the trash is called {text}")]
    NotInTrash {
        /// What was asked for.
        text: String,
    },
    /// A hold that came while a gc retired its manifest.
    #[error("{name} is gone: a gc retired it before it was held")]
    HeldTooLate {
        /// Which.
        name: ManifestName,
    },
    /// An object of the own name was there before.
    #[error("{key} is there already, with other content")]
    Collision {
        /// Its key.
        key: String,
    },
    /// A local file.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Temporary space.
    #[error("cannot use temporary space in {dir}")]
    Spill {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The output of a restore.
    #[error("cannot write the restored snapshot")]
    Output {
        /// Why.
        source: io::Error,
    },
    /// The restored stream is not the one that was backed up.
    #[error("manifest {name}: the restored {what} is not the one that was backed up")]
    NotTheSame {
        /// The manifest.
        name: ManifestName,
        /// Stream, SHA256SUMS, …
        what: &'static str,
    },
    /// The restored stream is what was backed up, but not a sound snapshot: only for a forged manifest.
    #[error("manifest {name}: the restored stream is not a sound snapshot")]
    RestoredTar {
        /// The manifest.
        name: ManifestName,
        /// Why.
        source: TarError,
    },
    /// The order notes do not fit the stream.
    #[error("manifest {name}: its order notes do not fit")]
    Notes {
        /// The manifest.
        name: ManifestName,
        /// Why.
        source: NotesError,
    },
    /// A manifest with a part of a size that no writer makes.
    #[error("manifest {name}: {what} is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The manifest.
        name: ManifestName,
        /// Which part.
        what: &'static str,
        /// The limit.
        limit_bytes: u64,
    },
    /// A manifest name that fits nothing.
    #[error("no manifest is called {text}")]
    NoManifest {
        /// What was asked for.
        text: String,
        /// Names that are near.
        near: Vec<ManifestName>,
    },
    /// A source that has no manifest.
    #[error("there is no snapshot of a source {text}")]
    NoSource {
        /// What was asked for.
        text: String,
        /// The sources that there are.
        sources: Vec<SourceName>,
    },
    /// A time before a source's first manifest.
    #[error("{text} is before the first snapshot, {first}")]
    TooEarly {
        /// What was asked for.
        text: String,
        /// The oldest manifest.
        first: ManifestName,
    },
    /// A manifest name that fits several.
    #[error("{text} is ambiguous: {} manifests begin so", .candidates.len())]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// All that fit.
        candidates: Vec<ManifestName>,
    },
    /// Stopped by a signal.
    #[error("interrupted")]
    Interrupted,
    /// A stage ended without saying why: a bug.
    #[error("internal error: {0}")]
    Internal(String),
}

/// How many sources a hint names.
const SOURCES_SHOWN_MAX: usize = 12;

fn names(list: &[ManifestName]) -> String {
    let shown: Vec<String> = list.iter().take(5).map(ToString::to_string).collect();
    shown.join(", ")
}

impl ArchiveError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRepository { .. } => Some("make one with `hah-vault init`, or check --repo".into()),
            Self::Exists { .. } => Some("choose an empty place; an existing repository is never written over".into()),
            Self::OtherRepository { .. } => {
                Some("pass the key of this repository with --writer-key-file or --identity, or check --repo".into())
            }
            Self::TooNew { .. } => Some("use a newer hah-vault".into()),
            Self::NoIdentity { .. } => Some(
                "pass the identity file of a reader with --identity, or a passphrase with --passphrase; if keys/ was \
                 emptied, pass the repository-key.age that init wrote with --key-file"
                    .into(),
            ),
            Self::NeedsIdentity { .. } => {
                Some("pass the identity file with --identity, or set HAH_VAULT_IDENTITY".into())
            }
            Self::Scope { .. } => Some("use a writer key of scope *, or of that source".into()),
            Self::ScopeAll { .. } => {
                Some("use the writer key that `init` wrote, or an identity: every manifest must be read".into())
            }
            Self::ShortGrace { .. } => Some(
                "--exclusive allows it: a promise that no backup, gc or undelete runs from now on until it is done"
                    .into(),
            ),
            Self::PlanTooLate { .. } => Some("run it again, nearer to the store".into()),
            Self::ManifestVanished { .. } => Some("a backup may have withdrawn it: run it again".into()),
            Self::TooManyDropped { .. } => {
                Some("look at it with --dry-run; --force does it, and `undelete` brings back what went".into())
            }
            Self::MayNotDelete { .. } => {
                Some("run gc with credentials that may delete, on another host than the backups".into())
            }
            Self::UndeleteTooLate { .. } => {
                Some("`hah-vault list --trash` shows what can still be brought back".into())
            }
            Self::NotInTrash { .. } => Some("`hah-vault list --trash` shows what is there".into()),
            Self::HeldTooLate { name } => Some(format!("bring it back: hah-vault undelete {name}")),
            Self::Store(e) => e.hint().map(Into::into),
            Self::Manifest { source, .. } => seal_hint(source),
            Self::Pack { .. } => {
                Some("`list` shows other snapshots; `backup --fresh` stores what is current anew".into())
            }
            Self::Target { source, .. } if matches!(**source, SourceError::Uninitialised { .. }) => Some(
                "initialise and unseal it with throw-away keys first (`vault operator init`, `vault operator unseal`), \
                 then restore with --force"
                    .into(),
            ),
            Self::Service { source, .. } | Self::Target { source, .. } | Self::Unsettled { source, .. } => source.hint(),
            Self::Keystore { source, .. } => source.hint(),
            Self::NoKeystore { .. } => Some(
                "`hah-vault show` tells which snapshots have one (label keystore); Nomad 1.9 and later need none".into(),
            ),
            Self::KeystoreSeal { source, .. } => seal_hint(source),
            Self::Drill { source, .. } => source.hint().map(Into::into),
            Self::Unwrap { source, .. } => source.hint().map(Into::into),
            Self::Tar { .. } => Some("the snapshot is cut or damaged: take it again".into()),
            Self::TooLate { .. } => {
                Some("check the store's speed; nothing was lost, the next run starts afresh".into())
            }
            Self::Vanished { .. } => Some("is a gc running with a shorter grace? run the backup again".into()),
            Self::Spill { .. } => Some("make room there, or set TMPDIR to another folder".into()),
            Self::NoManifest { near, .. } if !near.is_empty() => Some(format!("near: {}", names(near))),
            Self::NoSource { sources, .. } => {
                let sources: Vec<&str> = sources.iter().take(SOURCES_SHOWN_MAX).map(SourceName::as_str).collect();
                Some(format!("sources: {}", sources.join(", ")))
            }
            Self::NoManifest { .. } => Some("`hah-vault list` shows all".into()),
            Self::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some("choose another name with -o, or write over it with --force".into())
            }
            Self::Collision { key } if key.starts_with("keys/") => Some("choose another label".into()),
            Self::Ambiguous { candidates, .. } => Some(format!("candidates: {}", names(candidates))),
            _ => None,
        }
    }

    /// The command's exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoRepository { .. } => Exit::NoRepository,
            Self::Exists { .. } | Self::OtherRepository { .. } | Self::Collision { .. } => Exit::Conflict,
            Self::NoIdentity { .. } | Self::NeedsIdentity { .. } | Self::Scope { .. } | Self::ScopeAll { .. } => {
                Exit::NoKey
            }
            Self::ShortGrace { .. } | Self::NotInTrash { .. } => Exit::Usage,
            Self::Key { source: KeyError::NoMatch, .. } => Exit::NoKey,
            Self::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => Exit::Conflict,
            Self::TooNew { .. } => Exit::TooNew,
            Self::Manifest { source, .. } if too_new(source) => Exit::TooNew,
            Self::Service { source, .. } | Self::Target { source, .. }
                if matches!(**source, SourceError::Setting { .. }) =>
            {
                Exit::Usage
            }
            Self::Keystore { source: KeystoreError::Differs { .. }, .. } => Exit::Conflict,
            Self::Interrupted => Exit::Interrupted,
            Self::Store(StoreError::Invalid { .. }) => Exit::Usage,
            Self::Name(_) | Self::NoManifest { .. } | Self::TooEarly { .. } | Self::Ambiguous { .. } => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

fn too_new(error: &SealError) -> bool {
    matches!(error, SealError::Format(FormatError::TooNew { .. }))
}

fn seal_hint(error: &SealError) -> Option<String> {
    match error {
        SealError::Key(KeyError::NoMatch) => {
            Some("it was written with another key: pass the identity or writer key of this repository".into())
        }
        SealError::Format(FormatError::TooNew { .. }) => Some("use a newer hah-vault".into()),
        _ => Some("`list` shows other snapshots of this source".into()),
    }
}
