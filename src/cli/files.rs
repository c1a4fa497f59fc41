//! Local files: the folders of the XDG rules, secrets read and written.

use super::console::Console;
use super::error::CliError;
use hah_vault_format::RepositoryId;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// No key, passphrase or wrapped identity is longer.
const SECRET_LEN_BYTES_MAX: usize = 64 << 10;
/// Name of the writer key's file.
pub(super) const WRITER_KEY_FILE: &str = "writer.key";
/// Name of the identity file.
pub(super) const IDENTITY_FILE: &str = "identity.txt";
/// Name, or end of the name, of a copy of a wrapped repository identity.
pub(super) const REPOSITORY_KEY_FILE: &str = "repository-key.age";

/// `hah-vault` in the folder that `variable` names, or in `below_home`. The XDG rules ignore relative paths.
fn xdg_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(variable).or_else(|| Some(absolute("HOME")?.join(below_home)))?;
    Some(base.join("hah-vault"))
}

/// Where `writer.key` and `identity.txt` are looked for.
pub(super) fn config_folder() -> Option<PathBuf> {
    xdg_folder("XDG_CONFIG_HOME", ".config")
}

/// Where the repository is without `--repo`.
pub(super) fn data_folder() -> Option<PathBuf> {
    xdg_folder("XDG_DATA_HOME", ".local/share")
}

/// Where this host remembers what it saw of a repository.
pub(super) fn state_folder(repository: RepositoryId) -> Option<PathBuf> {
    Some(xdg_folder("XDG_STATE_HOME", ".local/state")?.join(repository.to_string()))
}

/// Where an agent without replicas notes what it did.
pub(super) fn agent_state_folder() -> Option<PathBuf> {
    xdg_folder("XDG_STATE_HOME", ".local/state")
}

/// Reads a secret, wiped when dropped; warns if others can read it too. `-` is standard input.
pub(super) fn read_secret(path: &Path, console: &Console) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let failed = |source| CliError::File { action: "read", path: path.to_owned(), source };
    if path == Path::new("-") {
        return read_all(io::stdin().lock()).map_err(failed);
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && metadata.mode() & 0o007 != 0 {
        let mode = metadata.mode() & 0o777;
        let path = path.display();
        console.warning(None, &format!("everybody can read {path} (mode {mode:04o}): run chmod 600 {path}"));
    }
    read_all(file).map_err(failed)
}

/// Whether others than its owner and group can read a file.
pub(super) fn is_for_everybody(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o007 != 0)
}

fn read_all(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // All of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_LEN_BYTES_MAX + 1));
    from.take(SECRET_LEN_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > SECRET_LEN_BYTES_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "too long to be a key"));
    }
    Ok(bytes)
}

/// Reads a passphrase: all of the file but a line break at its end.
pub(super) fn read_passphrase(path: &Path, console: &Console) -> Result<Zeroizing<String>, CliError> {
    let bytes = read_secret(path, console)?;
    let bad = |what: &str| {
        CliError::usage(format!("{}: {what}", path.display()), "write the passphrase into it as one line of text")
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| bad("the passphrase is not text"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text {
        "" => Err(bad("the passphrase is empty")),
        _ if text.contains('\n') => Err(bad("the passphrase has more than one line")),
        _ => Ok(Zeroizing::new(text.to_owned())),
    }
}

/// A file to be made.
pub(super) struct NewFile {
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub content: Zeroizing<Vec<u8>>,
}

/// Files made by this run; removed again when dropped before [`NewFiles::keep`].
pub(super) struct NewFiles(Vec<PathBuf>);

impl NewFiles {
    /// Refuses names that are taken.
    pub(super) fn check<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Result<(), CliError> {
        match paths.into_iter().find(|path| path.symlink_metadata().is_ok()) {
            Some(path) => Err(exists(path)),
            None => Ok(()),
        }
    }

    /// Makes all files, 0600, and the folder, 0700, durably. Nothing is written over.
    pub(super) fn create(folder: &Path, files: &[NewFile]) -> Result<Self, CliError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| CliError::File { action, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make the folder", folder))?;
        let mut made = Self(Vec::new());
        for file in files {
            let path = &file.path;
            let mut options = OpenOptions::new();
            let mut out = match options.write(true).create_new(true).mode(0o600).open(path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(path)),
                opened => opened.map_err(failed("make", path))?,
            };
            made.0.push(path.clone());
            out.write_all(&file.content).and_then(|()| out.sync_all()).map_err(failed("write", path))?;
        }
        File::open(folder).and_then(|f| f.sync_all()).map_err(failed("write", folder))?;
        Ok(made)
    }

    /// They stay.
    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "could not be removed again");
            }
        }
    }
}

fn exists(path: &Path) -> CliError {
    CliError::Exists {
        path: path.to_owned(),
        hint: "keys are never written over: choose another folder with --out, or move the old keys to a safe place",
    }
}
