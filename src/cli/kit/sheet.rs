//! What stands on a recovery sheet, whatever it is printed on.

use hah_vault_format::RepositoryId;
use hah_vault_format::manifest::Kind;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Hex digits of a check: enough to find a typing error, short enough to compare by eye.
const CHECK_LEN_DIGITS: usize = 8;
/// Where hah-vault comes from.
pub(super) const HOME: &str = env!("CARGO_PKG_REPOSITORY");
/// The version that prints the sheet.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What hands have to fill in, because no program knows it.
pub(super) const BLANKS: [&str; 5] = [
    "The store's account and keys",
    "The identity, or who holds it",
    "Vault's unseal or recovery keys",
    "The servers' gossip keys, configuration, TLS files",
    "Who to call",
];

/// A recovery sheet.
pub(super) struct Sheet {
    /// The repository, as the keys pin it.
    pub id: RepositoryId,
    /// Its URL, without secrets.
    pub store: String,
    /// When the sheet was printed, UTC by this host's clock.
    pub printed: String,
    /// Variables that the store needs beside its credentials.
    pub settings: Vec<(&'static str, String)>,
    /// The wrapped copies of the identity. Useless without a reader's key.
    pub copies: Vec<Copy>,
    /// What was backed up when the sheet was printed.
    pub sources: Vec<Source>,
    /// The repository identity, if it was asked for.
    pub secret: Option<Secret>,
}

/// A wrapped copy of the repository identity.
pub(super) struct Copy {
    /// Its reader's label.
    pub label: String,
    /// The age file, armored.
    pub armored: String,
}

/// The repository identity as a file.
pub(super) struct Secret {
    /// What `key export` prints.
    pub file: Zeroizing<String>,
    /// Check of its last line: the comments above it need not be typed.
    pub check: String,
}

/// A source, as its newest manifest has it.
pub(super) struct Source {
    /// Its name.
    pub name: String,
    /// Time of the newest snapshot.
    pub newest: String,
    /// Unknown where the manifest does not open.
    pub kind: Option<Kind>,
}

impl Sheet {
    /// A sheet with neither copies nor sources.
    pub(super) fn new(id: RepositoryId, store: String, printed: String) -> Self {
        Self { id, store, printed, settings: Vec::new(), copies: Vec::new(), sources: Vec::new(), secret: None }
    }

    /// The commands of the worst day, with what they do.
    pub(super) fn commands(&self) -> Vec<(&'static str, String)> {
        let mut variables = format!("export HAH_VAULT_REPO={}\n", quoted(&self.store));
        for (name, value) in &self.settings {
            variables.push_str(&format!("export {name}={}\n", quoted(value)));
        }
        if self.store.starts_with("s3://") || self.store.starts_with("r2://") {
            variables.push_str("export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...\n");
        }
        let opens = match self.secret {
            Some(_) => "export HAH_VAULT_IDENTITY=identity.txt\nhah-vault list",
            None => {
                "export HAH_VAULT_IDENTITY=identity.txt\nhah-vault list    # keys/ is gone? add --key-file repository-key.age"
            }
        };
        let mut commands = vec![("Say where the backups are.", variables), ("See what there is.", opens.to_owned())];
        let restore = |name: &str| format!("hah-vault restore {name}@latest -o {name}.snap\n");
        let names = self.names();
        commands
            .push(("Get the snapshots. A file that is there is whole.", names.iter().map(|n| restore(n.0)).collect()));
        let give: String = names.iter().filter_map(|(name, kind)| give(name, *kind)).collect();
        if !give.is_empty() {
            commands.push(("Give them to new, empty servers.", give));
        }
        commands.iter_mut().for_each(|(_, command)| command.truncate(command.trim_end().len()));
        commands
    }

    /// The sources, or the usual three where none is known yet.
    fn names(&self) -> Vec<(&str, Kind)> {
        if self.sources.is_empty() {
            return vec![("consul", Kind::Consul), ("vault", Kind::Vault), ("nomad", Kind::Nomad)];
        }
        self.sources.iter().map(|s| (s.name.as_str(), s.kind.unwrap_or(Kind::Other))).collect()
    }
}

impl Secret {
    /// Of an identity file.
    pub(super) fn new(file: Zeroizing<String>) -> Self {
        let last = file.lines().last().unwrap_or_default();
        let check = check(&Zeroizing::new(format!("{last}\n")));
        Self { file, check }
    }
}

impl Copy {
    /// Check of the whole file.
    pub(super) fn check(&self) -> String {
        check(&self.armored)
    }
}

/// The first digits of what `sha256sum` prints.
fn check(text: &str) -> String {
    let digits: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().take(CHECK_LEN_DIGITS).collect()
}

/// The servers' own restore command.
fn give(name: &str, kind: Kind) -> Option<String> {
    Some(match kind {
        Kind::Consul => format!("consul snapshot restore {name}.snap\n"),
        Kind::Nomad => format!("nomad operator snapshot restore {name}.snap\n"),
        Kind::Vault => format!(
            "vault operator init; vault operator unseal    # throw-away keys\n\
             vault operator raft snapshot restore -force {name}.snap    # then unseal with the OLD keys\n"
        ),
        _ => return None,
    })
}

/// For a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-@%+=".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_what_sha256sum_begins_with() {
        // printf 'abc' | sha256sum
        assert_eq!(check("abc"), "ba7816bf");
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        assert_eq!(quoted("r2://0123/backups/home"), "r2://0123/backups/home");
        assert_eq!(quoted("/srv/it's here"), r"'/srv/it'\''s here'");
        assert_eq!(quoted("$(reboot)"), "'$(reboot)'");
    }
}
