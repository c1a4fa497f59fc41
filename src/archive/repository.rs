//! Making a repository, opening it, and its readers.

use super::upload::put;
use super::{ArchiveError, Monitor};
use crate::keys::{Identities, KeyError, Keyring, Reader, RepositoryIdentity};
use crate::pipeline::seal::{self, MANIFEST_OBJECT_LEN_BYTES_MAX};
use crate::store::{Store, StoreError, StoreTime};
use crate::world::World;
use bytes::Bytes;
use hah_vault_format::limits::{KEY_OBJECT_LEN_BYTES_MAX, REPOSITORY_OBJECT_LEN_BYTES_MAX};
use hah_vault_format::name::{INDEX_PREFIX, KEYS_PREFIX, MANIFESTS_PREFIX, PACKS_PREFIX, REPOSITORY_KEY};
use hah_vault_format::{FORMAT_VERSION, Label, ManifestName, RepositoryId, UnixTime};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How many of the newest manifests are tried to find out whether an identity is the repository's.
const MANIFESTS_TRIED_MAX: usize = 8;

/// `repository.json`: a hint for people and for early errors; nothing trusts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryInfo {
    /// `hah-vault`.
    pub format: String,
    /// Format version.
    pub version: u64,
    /// Repository id, hex.
    pub id: String,
    /// When it was made, by the store's time.
    pub created: String,
}

/// A store with a repository in it, and what is held of its keys.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Where the objects lie.
    pub store: Arc<dyn Store>,
    /// The keys.
    pub keyring: Keyring,
    /// Clock and random numbers.
    pub world: Arc<dyn World>,
    /// Where progress goes.
    pub monitor: Arc<dyn Monitor>,
}

/// The store's time as it stands in names.
pub(crate) fn unix_time(time: StoreTime) -> Result<UnixTime, ArchiveError> {
    Ok(UnixTime::from_unix_s(u64::try_from(time.unix_ms / 1000).unwrap_or(0))?)
}

/// Reads `repository.json`; `None` if there is none.
///
/// # Errors
/// [`ArchiveError::BadRepository`], [`ArchiveError::TooNew`], [`ArchiveError::Store`].
pub async fn read_info(store: &dyn Store) -> Result<Option<RepositoryInfo>, ArchiveError> {
    let bytes = match store.get(REPOSITORY_KEY, REPOSITORY_OBJECT_LEN_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error @ StoreError::TooLong { .. }) => {
            return Err(ArchiveError::BadRepository { store: store.describe(), reason: error.to_string() });
        }
        Err(error) => return Err(error.into()),
    };
    let bad = |reason: String| ArchiveError::BadRepository { store: store.describe(), reason };
    let info: RepositoryInfo = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    if info.format != "hah-vault" {
        return Err(bad(format!("its format is {:?}", info.format)));
    }
    if info.version > u64::from(FORMAT_VERSION) {
        let what = format!("the repository at {}", store.describe());
        return Err(ArchiveError::TooNew { what, found: info.version, newest: FORMAT_VERSION });
    }
    Ok(Some(info))
}

/// The repository's id by `repository.json`.
///
/// # Errors
/// [`ArchiveError::NoRepository`], and those of [`read_info`].
pub async fn hinted_id(store: &dyn Store) -> Result<RepositoryId, ArchiveError> {
    let none = || ArchiveError::NoRepository { store: store.describe() };
    let info = read_info(store).await?.ok_or_else(none)?;
    let bad = |e: hah_vault_format::FormatError| ArchiveError::BadRepository {
        store: store.describe(),
        reason: e.to_string(),
    };
    info.id.parse().map_err(bad)
}

/// Refuses a place where a repository, or a part of one, is.
///
/// # Errors
/// [`ArchiveError::Exists`].
pub async fn check_empty(store: &dyn Store) -> Result<(), ArchiveError> {
    let exists = |found: String| ArchiveError::Exists { store: store.describe(), found };
    if store.stat(REPOSITORY_KEY).await?.is_some() {
        return Err(exists(REPOSITORY_KEY.into()));
    }
    for prefix in [KEYS_PREFIX, MANIFESTS_PREFIX, PACKS_PREFIX, INDEX_PREFIX] {
        if let Some(object) = store.list(prefix).await?.into_iter().next() {
            return Err(exists(object.key));
        }
    }
    Ok(())
}

/// Makes a repository: the wrapped identities first, `repository.json` last.
///
/// # Errors
/// [`ArchiveError::Exists`], [`ArchiveError::Store`], [`ArchiveError::Key`].
pub async fn create(
    store: &dyn Store,
    identity: &RepositoryIdentity,
    wrapped: &[(Label, Vec<u8>)],
) -> Result<RepositoryInfo, ArchiveError> {
    check_empty(store).await?;
    store.probe().await?;
    for (label, bytes) in wrapped {
        put(store, &label.key(), bytes.clone().into()).await?;
    }
    let info = RepositoryInfo {
        format: "hah-vault".into(),
        version: u64::from(FORMAT_VERSION),
        id: identity.id().to_string(),
        created: unix_time(store.now().await?)?.to_string(),
    };
    let text = serde_json::to_string(&info).map_err(|e| ArchiveError::Internal(e.to_string()))?;
    put(store, REPOSITORY_KEY, format!("{text}\n").into()).await?;
    Ok(info)
}

/// One wrapped copy of the repository identity.
#[derive(Debug, Clone, Serialize)]
pub struct KeyEntry {
    /// Its label.
    pub label: String,
    /// Its length.
    pub len_bytes: u64,
    /// When it was put, by the store's time; milliseconds since 1970.
    pub modified_unix_ms: i64,
}

/// The wrapped copies in the store.
///
/// # Errors
/// [`ArchiveError::Store`].
pub async fn list_keys(store: &dyn Store) -> Result<Vec<KeyEntry>, ArchiveError> {
    let objects = store.list(KEYS_PREFIX).await?;
    let entry = |o: crate::store::ObjectMeta| {
        let label = Label::from_key(&o.key)?.to_string();
        Some(KeyEntry { label, len_bytes: o.len_bytes, modified_unix_ms: o.modified.unix_ms })
    };
    Ok(objects.into_iter().filter_map(entry).collect())
}

/// A wrapped copy in the store, as it lies there.
///
/// # Errors
/// [`ArchiveError::Store`].
pub async fn read_key(store: &dyn Store, label: &Label) -> Result<Bytes, ArchiveError> {
    Ok(store.get(&label.key(), KEY_OBJECT_LEN_BYTES_MAX).await?)
}

/// Wraps R for one more reader.
///
/// # Errors
/// [`ArchiveError::Key`], [`ArchiveError::Collision`] if the label is taken, [`ArchiveError::Store`].
pub async fn add_key(
    store: &dyn Store,
    identity: &RepositoryIdentity,
    label: &Label,
    reader: &Reader,
) -> Result<Vec<u8>, ArchiveError> {
    let failed = |source: KeyError| ArchiveError::Key { key: format!("cannot wrap the identity for {label}"), source };
    let wrapped = identity.wrap(reader).map_err(failed)?;
    put(store, &label.key(), wrapped.clone().into()).await?;
    Ok(wrapped)
}

/// Removes a wrapped copy. `false` if there was none of that label.
///
/// # Errors
/// [`ArchiveError::Store`].
pub async fn remove_key(store: &dyn Store, label: &Label) -> Result<bool, ArchiveError> {
    let there = store.stat(&label.key()).await?.is_some();
    store.delete(&label.key()).await?;
    Ok(there)
}

/// Opens the repository identity R with a reader's identities: R itself, or any wrapped copy that fits.
///
/// `pinned` is the id that the caller knows from elsewhere (writer key); the identity file's pin counts too. A copy
/// that opens but holds another identity is refused: nobody who can write to the store can put another repository in
/// its place. A `repository.json` that is gone, broken, or names another repository or a newer version does not keep
/// anybody from restoring: if the identity opens a manifest, it is the right one, and each object says its own version.
///
/// # Errors
/// [`ArchiveError::NoRepository`], [`ArchiveError::NoIdentity`], [`ArchiveError::OtherRepository`],
/// [`ArchiveError::Store`].
pub async fn open_identity(
    store: &dyn Store,
    identities: &Identities,
    pinned: Option<RepositoryId>,
    extra_copies: &[Vec<u8>],
) -> Result<RepositoryIdentity, ArchiveError> {
    let hinted = match hinted_id(store).await {
        Ok(id) => Ok(id),
        Err(error @ ArchiveError::Store(_)) => return Err(error),
        Err(error) => Err(error),
    };
    let known = identities.pin().or(pinned);
    let expected = match (known, hinted) {
        (None, Ok(id)) => Expected { id: Some(id), hinted: None },
        (known, hinted) => Expected { id: known, hinted: Some(hinted) },
    };
    let id = expected.id;
    let itself = id.and_then(|id| identities.repository_identity(id)).or_else(|| identities.exported());
    let identity = match itself {
        Some(identity) => Ok(identity),
        None => unwrap_any(store, identities, id, extra_copies).await,
    };
    expected.confirm(store, identity).await
}

/// The repository that a key is for, and what `repository.json` says of it.
struct Expected {
    /// Unknown where neither the identity nor a writer key pins it, and the hint is gone.
    id: Option<RepositoryId>,
    /// Only where the id is known from elsewhere.
    hinted: Option<Result<RepositoryId, ArchiveError>>,
}

impl Expected {
    async fn confirm(
        self,
        store: &dyn Store,
        identity: Result<RepositoryIdentity, ArchiveError>,
    ) -> Result<RepositoryIdentity, ArchiveError> {
        let error = match self.hinted {
            None => return identity,
            Some(Ok(found)) => match self.id {
                Some(expected) if expected != found => {
                    ArchiveError::OtherRepository { store: store.describe(), found, key: "identity", expected }
                }
                _ => return identity,
            },
            // Without the hint: is there a repository at all?
            Some(Err(error)) if identity.is_err() && check_empty(store).await.is_err() => {
                tracing::debug!(%error, "no hint");
                return identity;
            }
            Some(Err(error)) => error,
        };
        match identity {
            Ok(identity) if opens_a_manifest(store, &identity).await? => {
                tracing::warn!(%error, "repository.json is wrong, and not needed: the identity opens the manifests");
                Ok(identity)
            }
            _ => Err(error),
        }
    }
}

/// Whether an identity opens one of the newest manifests.
async fn opens_a_manifest(store: &dyn Store, identity: &RepositoryIdentity) -> Result<bool, ArchiveError> {
    let failed = |source| ArchiveError::Key { key: "cannot use the identity".into(), source };
    let keyring = Keyring::from_identity(identity.clone()).map_err(failed)?;
    let objects = store.list(MANIFESTS_PREFIX).await?;
    let names = objects.iter().rev().filter_map(|o| ManifestName::from_key(&o.key));
    for name in names.take(MANIFESTS_TRIED_MAX) {
        let bytes = match store.get(&name.key(), MANIFEST_OBJECT_LEN_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(_) => continue,
        };
        if keyring.source(&name.source).is_some_and(|keys| seal::open_manifest(&bytes, &name, &keys).is_ok()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tries the local copies, then those in the store.
async fn unwrap_any(
    store: &dyn Store,
    identities: &Identities,
    expected: Option<RepositoryId>,
    extra_copies: &[Vec<u8>],
) -> Result<RepositoryIdentity, ArchiveError> {
    let mut tried = 0;
    for copy in extra_copies {
        tried += 1;
        if let Ok(identity) = RepositoryIdentity::unwrap(copy, identities, expected) {
            return Ok(identity);
        }
    }
    for entry in list_keys(store).await? {
        let Ok(label) = entry.label.parse::<Label>() else { continue };
        tried += 1;
        // One copy that is gone, too long or locked away does not stand in the way of the others.
        let bytes = match store.get(&label.key(), KEY_OBJECT_LEN_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(key = label.key(), %error, "a wrapped identity cannot be read");
                continue;
            }
        };
        match RepositoryIdentity::unwrap(&bytes, identities, expected) {
            Ok(identity) => return Ok(identity),
            Err(KeyError::OtherRepository { found, expected }) => {
                tracing::warn!(key = label.key(), %found, %expected, "a wrapped identity of another repository");
            }
            Err(error) => tracing::debug!(key = label.key(), %error, "does not open"),
        }
    }
    Err(ArchiveError::NoIdentity { tried })
}

/// A key must belong to the repository at hand.
///
/// # Errors
/// [`ArchiveError::OtherRepository`].
pub fn check_repository(
    store: &dyn Store,
    found: RepositoryId,
    key: &'static str,
    expected: RepositoryId,
) -> Result<(), ArchiveError> {
    if found == expected {
        return Ok(());
    }
    Err(ArchiveError::OtherRepository { store: store.describe(), found, key, expected })
}
