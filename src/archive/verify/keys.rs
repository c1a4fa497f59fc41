//! `repository.json` and the wrapped copies of the repository identity.
//!
//! Only its reader can open a copy, so that much damage to one cannot be seen by anybody else. But objects never change: a
//! host that has seen a copy notices any other one in its place.

use super::super::ArchiveError;
use super::super::host_state::HostState;
use super::super::repository::{Repository, read_info};
use super::report::{Damage, Flaw, Healing};
use super::structure::flaw_of_store;
use super::{is_verdict, tell_chain};
use crate::keys::is_wrapped;
use hah_vault_format::limits::KEY_OBJECT_LEN_BYTES_MAX;
use hah_vault_format::name::{KEYS_PREFIX, REPOSITORY_KEY};
use hah_vault_format::{Label, ObjectId};
use std::collections::BTreeMap;

fn damage(key: &str, flaw: Flaw, detail: Option<String>, healing: Healing) -> Damage {
    Damage { key: key.to_owned(), flaw, detail, snapshots: 0, healing }
}

/// What is wrong with `repository.json`.
pub(super) async fn check_hint(repository: &Repository) -> Result<Option<Damage>, ArchiveError> {
    let expected = repository.keyring.writer.repository;
    let (flaw, detail, healing) = match read_info(repository.store.as_ref()).await {
        Ok(Some(info)) if info.id.parse() == Ok(expected) => return Ok(None),
        Ok(Some(info)) => {
            let detail = format!("it names repository {}, not {expected}", info.id);
            (Flaw::Contradiction, Some(detail), Healing::Repair)
        }
        Ok(None) => (Flaw::Missing, None, Healing::Repair),
        Err(ArchiveError::Store(error)) => return Err(error.into()),
        Err(error @ ArchiveError::TooNew { .. }) => (Flaw::TooNew, Some(tell_chain(&error)), Healing::NewerProgram),
        Err(error) => (Flaw::Unreadable, Some(tell_chain(&error)), Healing::Repair),
    };
    Ok(Some(damage(REPOSITORY_KEY, flaw, detail, healing)))
}

/// Looks at the wrapped copies, and remembers them; counts those that are age files.
pub(super) async fn check_copies(
    repository: &Repository,
    state: Option<&HostState>,
    found: &mut Vec<Damage>,
) -> Result<usize, ArchiveError> {
    let mut seen = state.map(HostState::keys).unwrap_or_default();
    let mut copies = 0;
    let mut there = BTreeMap::new();
    let mut listed = repository.store.list(KEYS_PREFIX).await?;
    listed.retain(|object| Label::from_key(&object.key).is_some());
    for object in &listed {
        let len_max = object.len_bytes.min(KEY_OBJECT_LEN_BYTES_MAX);
        let verdict = match repository.store.get(&object.key, len_max).await {
            Ok(bytes) => judge(&bytes, seen.get(&object.key)),
            Err(error) if is_verdict(&error) => Err(flaw_of_store(&error)),
            Err(error) => return Err(error.into()),
        };
        match verdict {
            Ok(hash) => {
                copies += 1;
                there.insert(object.key.clone(), hash);
            }
            Err((flaw, detail)) => found.push(damage(&object.key, flaw, Some(detail), Healing::Copy)),
        }
    }
    for key in seen.keys().filter(|key| !listed.iter().any(|object| object.key == **key)) {
        let detail = "this host has seen it; was it removed with `key remove`?".to_owned();
        found.push(damage(key, Flaw::Missing, Some(detail), Healing::Copy));
    }
    if listed.is_empty() && seen.is_empty() {
        let detail = "no reader's copy of the repository identity is there".to_owned();
        found.push(damage(KEYS_PREFIX, Flaw::Missing, Some(detail), Healing::Copy));
    }
    // What was seen first stays: a copy that was put in its place must not become the right one.
    there.append(&mut seen);
    if let Some(Err(error)) = state.map(|state| state.save_keys(&there)) {
        repository.monitor.warn(None, format!("the wrapped keys are not remembered: {}", tell_chain(&error)));
    }
    Ok(copies)
}

fn judge(bytes: &[u8], seen: Option<&ObjectId>) -> Result<ObjectId, (Flaw, String)> {
    let hash = ObjectId::of(bytes);
    match seen {
        Some(seen) if *seen != hash => Err((Flaw::Changed, "objects never change".into())),
        _ if is_wrapped(bytes) => Ok(hash),
        _ => Err((Flaw::Unreadable, "it is no age file".into())),
    }
}
