//! `repair`: mends what can be mended, and sets aside what keeps the rest from working.
//!
//! Nothing is thrown away: what is set aside is copied to `broken/` first, where no other command looks. Lost bytes do not
//! come back; but gc deletes packs again when every manifest opens, and the next backup stores a damaged pack's data anew
//! when the pack is gone. An index is made again from its pack and a snapshot that uses it.

mod cuts;
mod index;

use super::host_state::HostState;
use super::repository::{Repository, RepositoryInfo, unix_time};
use super::upload::put;
use super::verify::report::{Flaw, Report};
use super::verify::{VerifyOptions, verify};
use super::{ArchiveError, Cancel};
use crate::pipeline::seal;
use hah_vault_format::limits::PACK_OBJECT_LEN_BYTES_MAX;
use hah_vault_format::name::{INDEX_PREFIX, PACKS_PREFIX, REPOSITORY_KEY};
use hah_vault_format::{FORMAT_VERSION, FormatError, ManifestName, ObjectId};
use seal::{INDEX_OBJECT_LEN_BYTES_MAX, MANIFEST_OBJECT_LEN_BYTES_MAX, SealError};
use std::collections::BTreeSet;

/// Where objects are set aside; no collector touches them (SPEC §1.2).
pub const BROKEN_PREFIX: &str = "broken/";

/// What is to be repaired.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions<'s> {
    /// Read all packs, not only those that this host knows to be damaged.
    pub read_data: bool,
    /// Snapshots whose manifest is to be set aside because they cannot be restored, though it opens.
    pub give_up: BTreeSet<ManifestName>,
    /// What this host remembers.
    pub state: Option<&'s HostState>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write `repository.json` again; what is there is set aside.
    WriteHint {
        /// There is one, and it is wrong.
        is_there: bool,
    },
    /// Copy an object to `broken/`, then delete it.
    SetAside {
        /// Its key.
        key: String,
        /// Why.
        flaw: Flaw,
    },
    /// Make an index again from its pack; what is there is set aside.
    RebuildIndex {
        /// The pack.
        id: ObjectId,
        /// There is one, and it is damaged.
        is_there: bool,
    },
}

impl Action {
    /// The word for JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::WriteHint { .. } => "write",
            Self::SetAside { .. } => "set-aside",
            Self::RebuildIndex { .. } => "rebuild",
        }
    }

    /// The object that it is about.
    pub fn key(&self) -> String {
        match self {
            Self::WriteHint { .. } => REPOSITORY_KEY.into(),
            Self::SetAside { key, .. } => key.clone(),
            Self::RebuildIndex { id, .. } => id.index_key(),
        }
    }
}

/// What can be done about what is damaged.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What can be done.
    pub actions: Vec<Action>,
    /// Damaged objects about which nothing can be done here, and why.
    pub left: Vec<(String, &'static str)>,
}

/// How an action went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done; where the old object is now, if there was one.
    Done {
        /// Its key in `broken/`.
        set_aside: Option<String>,
    },
    /// A second look found nothing wrong.
    Sound,
}

/// Looks, and says what can be done.
///
/// # Errors
/// As `verify`'s.
pub async fn plan(
    repository: &Repository,
    options: &RepairOptions<'_>,
    cancel: &Cancel,
) -> Result<(Plan, Report), ArchiveError> {
    let known = options.state.map(HostState::damaged).unwrap_or_default();
    let look = VerifyOptions {
        read_data: options.read_data.then_some(100),
        read_packs: known,
        state: options.state,
        ..VerifyOptions::default()
    };
    let report = verify(repository, &look, cancel).await?;
    let mut plan = Plan::default();
    let can_open = repository.keyring.identity.is_some();
    let is_damaged_pack = |id: &ObjectId| report.damage.iter().any(|damage| damage.key == id.pack_key());
    for damage in &report.damage {
        let (key, flaw) = (damage.key.clone(), damage.flaw);
        let index = key.strip_prefix(INDEX_PREFIX).and_then(|id| id.parse::<ObjectId>().ok());
        let is_there = flaw != Flaw::Missing;
        let action = if flaw == Flaw::TooNew {
            Err("a newer hah-vault reads it")
        } else if key == REPOSITORY_KEY {
            Ok(Action::WriteHint { is_there })
        } else if let Some(id) = index {
            match (is_damaged_pack(&id), can_open) {
                (true, _) => Err("its pack is damaged too"),
                (false, false) => Err("making it again needs an identity"),
                (false, true) => Ok(Action::RebuildIndex { id, is_there }),
            }
        } else if key.starts_with(PACKS_PREFIX) {
            match flaw {
                Flaw::Hash | Flaw::Unreadable => Ok(Action::SetAside { key: key.clone(), flaw }),
                _ => Err("its bytes are lost; backups see that, and store again what is current of it"),
            }
        } else if ManifestName::from_key(&key).is_some() && is_there {
            Ok(Action::SetAside { key: key.clone(), flaw })
        } else {
            Err("only a copy from elsewhere brings it back")
        };
        match action {
            Ok(action) => plan.actions.push(action),
            Err(why) => plan.left.push((key, why)),
        }
    }
    let given_up = report.affected.iter().filter(|affected| options.give_up.contains(&affected.name));
    let given_up = given_up.map(|affected| Action::SetAside { key: affected.name.key(), flaw: Flaw::Contradiction });
    for action in given_up {
        if !plan.actions.iter().any(|known| known.key() == action.key()) {
            plan.actions.push(action);
        }
    }
    Ok((plan, report))
}

/// Does one thing, after a second look.
///
/// # Errors
/// Of the store; [`ArchiveError::Pack`] and others if what an index is made from is damaged.
pub async fn execute(repository: &Repository, action: &Action, cancel: &Cancel) -> Result<Outcome, ArchiveError> {
    cancel.check()?;
    match action {
        Action::WriteHint { is_there } => {
            let set_aside = if *is_there { Some(set_aside(repository, REPOSITORY_KEY, "wrong").await?) } else { None };
            let info = RepositoryInfo {
                format: "hah-vault".into(),
                version: u64::from(FORMAT_VERSION),
                id: repository.keyring.writer.repository.to_string(),
                created: unix_time(repository.store.now().await?)?.to_string(),
            };
            let text = serde_json::to_string(&info).map_err(|error| ArchiveError::Internal(error.to_string()))?;
            put(repository.store.as_ref(), REPOSITORY_KEY, format!("{text}\n").into()).await?;
            Ok(Outcome::Done { set_aside })
        }
        Action::SetAside { key, flaw } => {
            if *flaw != Flaw::Contradiction && is_sound(repository, key).await? {
                return Ok(Outcome::Sound);
            }
            Ok(Outcome::Done { set_aside: Some(set_aside(repository, key, flaw.as_str()).await?) })
        }
        Action::RebuildIndex { id, is_there } => {
            let sealed = index::rebuild(repository, id, cancel).await?;
            let key = id.index_key();
            let set_aside = if *is_there { Some(set_aside(repository, &key, "damaged").await?) } else { None };
            put(repository.store.as_ref(), &key, sealed.into()).await?;
            Ok(Outcome::Done { set_aside })
        }
    }
}

/// Whether a second look finds nothing wrong: a read can fail once.
async fn is_sound(repository: &Repository, key: &str) -> Result<bool, ArchiveError> {
    if let Some(name) = ManifestName::from_key(key) {
        return match repository.open_manifest(&name).await {
            Ok(_) => Ok(true),
            Err(ArchiveError::Manifest { source: SealError::Format(FormatError::TooNew { .. }), .. }) => Ok(true),
            Err(ArchiveError::Manifest { .. }) => Ok(false),
            Err(error) => Err(error),
        };
    }
    let Some(id) = key.strip_prefix(PACKS_PREFIX).and_then(|id| id.parse::<ObjectId>().ok()) else { return Ok(false) };
    let bytes = repository.store.get(key, PACK_OBJECT_LEN_BYTES_MAX).await?;
    // One with the right name that does not open was found out with the identity: it stays damaged.
    Ok(ObjectId::of(&bytes) == id && repository.keyring.identity.is_none())
}

/// Copies an object to `broken/<key>.<reason>.<store time>-<8 hex>`, then deletes it.
async fn set_aside(repository: &Repository, key: &str, reason: &str) -> Result<String, ArchiveError> {
    let store = repository.store.as_ref();
    let len_max = MANIFEST_OBJECT_LEN_BYTES_MAX.max(PACK_OBJECT_LEN_BYTES_MAX).max(INDEX_OBJECT_LEN_BYTES_MAX);
    let bytes = store.get(key, len_max).await?;
    let time = unix_time(store.now().await?)?;
    let aside = format!("{BROKEN_PREFIX}{key}.{reason}.{time}-{:08x}", repository.world.random_u32());
    put(store, &aside, bytes).await?;
    store.delete(key).await?;
    Ok(aside)
}
