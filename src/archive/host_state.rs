//! What a host remembers of a repository between two runs: the manifests that it saw last, when which pack was read, and
//! which packs were found damaged.
//!
//! Nothing here is secret beyond what the store shows, and nothing is needed: without it `verify` chooses at random and
//! notices fewer deletions. A file that is damaged counts as empty; the next write makes it anew.

use super::ArchiveError;
use hah_vault_format::{ManifestName, ObjectId, SourceName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Manifests that are remembered of each source.
const SEEN_MAX: usize = 32;
/// Packs whose last reading is remembered: 20 MB as text.
const READ_MAX: usize = 1 << 18;
/// No file of the state is longer.
const FILE_LEN_BYTES_MAX: u64 = 64 << 20;

const READ_FILE: &str = "verified.json";
const DAMAGED_FILE: &str = "damaged.json";
const KEYS_FILE: &str = "keys.json";
const SEEN_FOLDER: &str = "seen";

/// The state of one repository on this host: a folder, 0700, whose files are replaced as a whole.
#[derive(Debug, Clone)]
pub struct HostState {
    folder: PathBuf,
}

/// Days since 1970 on which packs were read and found good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReadDays(BTreeMap<String, u32>);

impl ReadDays {
    /// For looking up.
    pub fn by_pack(&self) -> HashMap<ObjectId, u32> {
        self.0.iter().filter_map(|(id, day)| Some((id.parse().ok()?, *day))).collect()
    }

    /// From a map; of too many, those read last stay.
    pub fn from_packs(days: &HashMap<ObjectId, u32>) -> Self {
        let mut newest: Vec<(&ObjectId, &u32)> = days.iter().collect();
        newest.sort_by_key(|(id, day)| (std::cmp::Reverse(**day), **id));
        newest.truncate(READ_MAX);
        Self(newest.into_iter().map(|(id, day)| (id.to_string(), *day)).collect())
    }
}

impl HostState {
    /// In a folder, which is made when something is first written.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// When packs were last read.
    pub fn read_days(&self) -> ReadDays {
        self.parse(READ_FILE).unwrap_or_default()
    }

    /// Replaces [`HostState::read_days`].
    ///
    /// # Errors
    /// [`ArchiveError::File`].
    pub fn save_read_days(&self, days: &ReadDays) -> Result<(), ArchiveError> {
        self.save(READ_FILE, days)
    }

    /// Packs that were found damaged though their length was right.
    pub fn damaged(&self) -> BTreeSet<ObjectId> {
        let ids: Vec<String> = self.parse(DAMAGED_FILE).unwrap_or_default();
        ids.iter().filter_map(|id| id.parse().ok()).collect()
    }

    /// Replaces [`HostState::damaged`].
    ///
    /// # Errors
    /// [`ArchiveError::File`].
    pub fn save_damaged(&self, packs: &BTreeSet<ObjectId>) -> Result<(), ArchiveError> {
        if *packs == self.damaged() {
            return Ok(());
        }
        self.save(DAMAGED_FILE, &packs.iter().map(ToString::to_string).collect::<Vec<String>>())
    }

    /// The objects in `keys/` that were last seen, with the BLAKE3 of each.
    pub fn keys(&self) -> BTreeMap<String, ObjectId> {
        let text: BTreeMap<String, String> = self.parse(KEYS_FILE).unwrap_or_default();
        text.into_iter().filter_map(|(key, hash)| Some((key, hash.parse().ok()?))).collect()
    }

    /// Replaces [`HostState::keys`].
    ///
    /// # Errors
    /// [`ArchiveError::File`].
    pub fn save_keys(&self, keys: &BTreeMap<String, ObjectId>) -> Result<(), ArchiveError> {
        if *keys == self.keys() {
            return Ok(());
        }
        let text: BTreeMap<&String, String> = keys.iter().map(|(key, hash)| (key, hash.to_string())).collect();
        self.save(KEYS_FILE, &text)
    }

    /// The manifests of each source that were last seen to be there, oldest first.
    pub fn seen(&self) -> BTreeMap<SourceName, Vec<ManifestName>> {
        let entries = fs::read_dir(self.folder.join(SEEN_FOLDER)).into_iter().flatten().flatten();
        let source = |entry: fs::DirEntry| {
            let source: SourceName = entry.file_name().to_str()?.parse().ok()?;
            let names = self.seen_of(&source);
            Some((source, names))
        };
        entries.filter_map(source).collect()
    }

    /// The same of one source.
    pub fn seen_of(&self, source: &SourceName) -> Vec<ManifestName> {
        let text = self.read(&format!("{SEEN_FOLDER}/{source}")).unwrap_or_default();
        let text = String::from_utf8(text).unwrap_or_default();
        let name = |line: &str| line.parse::<ManifestName>().ok().filter(|name| name.source == *source);
        text.lines().filter_map(name).collect()
    }

    /// Remembers manifests of one source that are there.
    ///
    /// # Errors
    /// [`ArchiveError::File`].
    pub fn note_seen(&self, source: &SourceName, names: &[ManifestName]) -> Result<(), ArchiveError> {
        let before = self.seen_of(source);
        let mut all: BTreeSet<&ManifestName> = before.iter().collect();
        all.extend(names.iter().filter(|name| name.source == *source));
        let newest: Vec<&ManifestName> = all.into_iter().rev().take(SEEN_MAX).collect();
        if newest.iter().rev().copied().eq(&before) {
            return Ok(());
        }
        let text: String = newest.into_iter().rev().map(|name| format!("{name}\n")).collect();
        self.write(&format!("{SEEN_FOLDER}/{source}"), text.as_bytes())
    }

    /// Forgets manifests: somebody has looked into why they are gone.
    ///
    /// # Errors
    /// [`ArchiveError::File`].
    pub fn forget(&self, names: &[ManifestName]) -> Result<(), ArchiveError> {
        let sources: BTreeSet<&SourceName> = names.iter().map(|name| &name.source).collect();
        for source in sources {
            let left = self.seen_of(source).into_iter().filter(|name| !names.contains(name));
            let text: String = left.map(|name| format!("{name}\n")).collect();
            self.write(&format!("{SEEN_FOLDER}/{source}"), text.as_bytes())?;
        }
        Ok(())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.folder.join(name))?.take(FILE_LEN_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&self.read(name).ok()?).ok()
    }

    fn save(&self, name: &str, value: &impl Serialize) -> Result<(), ArchiveError> {
        let text = serde_json::to_vec(value).map_err(|error| ArchiveError::Internal(error.to_string()))?;
        self.write(name, &text)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let path = self.folder.join(name);
        replace(&path, bytes).map_err(|source| ArchiveError::File { action: "write", path, source })
    }
}

/// Replaces a file as a whole; 0600, in folders that nobody else can enter.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(count: u32) -> Vec<ManifestName> {
        (0..count).map(|n| format!("vault/20261122T1430{n:02}Z-0000000{}", n % 10).parse().unwrap()).collect()
    }

    #[test]
    fn what_was_noted_is_read_back_by_the_next_run_and_is_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = HostState::new(folder.path().join("a/b"));
        assert_eq!((state.read_days(), state.damaged(), state.seen()), Default::default());
        let days: HashMap<ObjectId, u32> = [(ObjectId([1; 32]), 20_000), (ObjectId([2; 32]), 20_001)].into();
        state.save_read_days(&ReadDays::from_packs(&days)).unwrap();
        let damaged = BTreeSet::from([ObjectId([3; 32])]);
        state.save_damaged(&damaged).unwrap();
        state.note_seen(&"vault".parse().unwrap(), &names(3)).unwrap();
        let keys = BTreeMap::from([("keys/alice.age".to_owned(), ObjectId([4; 32]))]);
        state.save_keys(&keys).unwrap();
        let again = HostState::new(folder.path().join("a/b"));
        assert_eq!(again.read_days().by_pack(), days);
        assert_eq!(again.damaged(), damaged);
        assert_eq!(again.keys(), keys);
        assert_eq!(again.seen()[&"vault".parse().unwrap()], names(3));
        for name in [READ_FILE, DAMAGED_FILE, KEYS_FILE, "seen/vault"] {
            let mode = fs::metadata(again.folder().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::metadata(again.folder()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_newest_are_remembered_and_some_can_be_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = HostState::new(folder.path().into());
        let vault = "vault".parse().unwrap();
        let all = names(40);
        state.note_seen(&vault, &all[20..]).unwrap();
        state.note_seen(&vault, &all[..30]).unwrap();
        assert_eq!(state.seen_of(&vault), all[40 - SEEN_MAX..]);
        state.forget(&all[..39]).unwrap();
        assert_eq!(state.seen_of(&vault), all[39..]);
    }

    #[test]
    fn a_damaged_file_counts_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        let state = HostState::new(folder.path().into());
        fs::create_dir(folder.path().join(SEEN_FOLDER)).unwrap();
        for bytes in [&b"\xff\x00"[..], b"", b"{", b"[1]", b"{\"x\":5}"] {
            for name in [READ_FILE, DAMAGED_FILE, KEYS_FILE, "seen/vault", "seen/NOT-A-SOURCE"] {
                fs::write(folder.path().join(name), bytes).unwrap();
            }
            assert_eq!(state.read_days().by_pack(), HashMap::new());
            assert_eq!(state.damaged(), BTreeSet::new());
            assert!(state.seen().values().all(Vec::is_empty));
        }
    }
}
