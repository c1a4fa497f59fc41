//! Backup tools, each with a local repository of its own.

use crate::measure::{Usage, run};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PASSWORD: &str = "a password for measuring";

/// What a tool is given of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The file as the service sends it.
    Snap,
    /// The tar in it, gunzipped beforehand (which is not counted).
    Tar,
}

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The binary `hah-vault`.
    HahVault,
    /// The library, in a child process of this benchmark: until there is a command line.
    HahVaultLibrary,
    /// restic.
    Restic,
    /// borg.
    Borg,
    /// rustic.
    Rustic,
}

/// A tool and what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program.
    pub program: Program,
    /// What it gets.
    pub given: Given,
}

/// Ours: the binary if it has the commands.
pub fn ours() -> Tool {
    let help = Command::new(binary()).args(["backup", "--help"]).output();
    let has_commands = help.is_ok_and(|o| o.status.success() && String::from_utf8_lossy(&o.stdout).contains("--repo"));
    let program = if has_commands { Program::HahVault } else { Program::HahVaultLibrary };
    Tool { program, given: Given::Snap }
}

/// The others that are installed.
pub fn others() -> Vec<Tool> {
    let all = [
        (Program::Restic, Given::Snap),
        (Program::Restic, Given::Tar),
        (Program::Rustic, Given::Snap),
        (Program::Borg, Given::Snap),
        (Program::Borg, Given::Tar),
    ];
    let tools = all.into_iter().map(|(program, given)| Tool { program, given });
    tools.filter(|t| t.version().is_some()).collect()
}

fn binary() -> PathBuf {
    std::env::var_os("HAH_VAULT_BIN").map_or_else(|| env!("CARGO_BIN_EXE_hah-vault").into(), PathBuf::from)
}

impl Tool {
    /// Its name in tables.
    pub fn name(self) -> String {
        let name = match self.program {
            Program::HahVault => "hah-vault",
            Program::HahVaultLibrary => "hah-vault (library)",
            Program::Restic => "restic",
            Program::Borg => "borg",
            Program::Rustic => "rustic",
        };
        match self.given {
            Given::Snap => name.to_owned(),
            Given::Tar => format!("{name}, gunzipped"),
        }
    }

    /// Its first line of version.
    pub fn version(self) -> Option<String> {
        let (program, argument) = match self.program {
            Program::HahVault => (binary(), "--version"),
            Program::HahVaultLibrary => return Some(concat!("hah-vault ", env!("CARGO_PKG_VERSION")).to_owned()),
            Program::Restic => ("restic".into(), "version"),
            Program::Borg => ("borg".into(), "--version"),
            Program::Rustic => ("rustic".into(), "--version"),
        };
        let output = Command::new(program).arg(argument).output().ok().filter(|o| o.status.success())?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
    }

    /// Makes a repository in an empty folder.
    ///
    /// # Errors
    /// The tool's.
    pub fn init(self, folder: &Path) -> io::Result<Repository> {
        std::fs::create_dir_all(folder)?;
        let repository = Repository { tool: self, folder: folder.to_owned() };
        let mut command = match self.program {
            Program::HahVault => {
                let mut command = Command::new(binary());
                command.arg("init").arg("--repo").arg(repository.data()).arg("--out").arg(repository.keys());
                command
            }
            Program::HahVaultLibrary => repository.library("init"),
            Program::Restic => {
                let mut command = repository.command("restic");
                command.args(["init", "--repository-version", "2"]);
                command
            }
            Program::Rustic => {
                let mut command = repository.command("rustic");
                command.arg("init");
                command
            }
            Program::Borg => {
                let mut command = repository.command("borg");
                command.args(["init", "--encryption", "repokey-blake2"]);
                command
            }
        };
        run(command.stdout(Stdio::null()))?;
        Ok(repository)
    }
}

/// A repository of a tool.
pub struct Repository {
    tool: Tool,
    folder: PathBuf,
}

impl Repository {
    fn data(&self) -> PathBuf {
        self.folder.join("repository")
    }

    fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for tool in ["RESTIC", "RUSTIC"] {
            command.env(format!("{tool}_REPOSITORY"), self.data()).env(format!("{tool}_PASSWORD"), PASSWORD);
            command.env(format!("{tool}_CACHE_DIR"), self.folder.join("cache"));
        }
        command.env("BORG_REPO", self.data()).env("BORG_PASSPHRASE", PASSWORD);
        command.env("BORG_BASE_DIR", self.folder.join("cache")).env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes");
        command
    }

    fn library(&self, action: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap_or_default());
        command.args(["library", action]).arg(&self.folder);
        command
    }

    /// Backs one snapshot up.
    ///
    /// # Errors
    /// The tool's.
    pub fn backup(&self, source: &str, file: &Path, nth: usize) -> io::Result<Usage> {
        let mut input = Stdio::null();
        let mut command = match self.tool.program {
            Program::HahVault => {
                let mut command = Command::new(binary());
                command.args(["backup", "--quiet", "--repo"]).arg(self.data());
                command.arg("--writer-key-file").arg(self.keys().join("writer.key"));
                command.arg(format!("{source}={}", file.display()));
                command
            }
            Program::HahVaultLibrary => {
                let mut command = self.library("backup");
                command.arg(source).arg(file);
                command
            }
            Program::Restic | Program::Rustic => {
                input = File::open(file)?.into();
                let restic = self.tool.program == Program::Restic;
                let mut command = self.command(if restic { "restic" } else { "rustic" });
                command.args(if restic { ["backup", "--stdin"] } else { ["backup", "-"] });
                command.args(["--stdin-filename", source]);
                command
            }
            Program::Borg => {
                input = File::open(file)?.into();
                let mut command = self.command("borg");
                command.args(["create", "--compression", "zstd,3", "--stdin-name", source]);
                command.arg(format!("::{source}-{nth:03}")).arg("-");
                command
            }
        };
        run(command.stdin(input).stdout(Stdio::null()))
    }

    /// Restores the newest snapshot to a file.
    ///
    /// # Errors
    /// The tool's.
    pub fn restore(&self, source: &str, nth: usize, to: &Path, fast: bool) -> io::Result<Usage> {
        let _ = std::fs::remove_file(to);
        let mut output = Stdio::null();
        let mut command = match self.tool.program {
            Program::HahVault => {
                let mut command = Command::new(binary());
                command.args(["restore", "--quiet", "--repo"]).arg(self.data());
                command.arg("--identity").arg(self.keys().join("identity.txt"));
                command.arg(format!("{source}@latest")).arg("-o").arg(to).args(fast.then_some("--fast"));
                command
            }
            Program::HahVaultLibrary => {
                let mut command = self.library("restore");
                command.arg(source).arg(to).args(fast.then_some("--fast"));
                command
            }
            Program::Restic | Program::Rustic => {
                output = File::create(to)?.into();
                let restic = self.tool.program == Program::Restic;
                let mut command = self.command(if restic { "restic" } else { "rustic" });
                if restic {
                    command.args(["dump", "latest", source])
                } else {
                    command.args(["dump", &format!("latest:{source}")])
                };
                command
            }
            Program::Borg => {
                output = File::create(to)?.into();
                let mut command = self.command("borg");
                command.args(["extract", "--stdout"]).arg(format!("::{source}-{nth:03}"));
                command
            }
        };
        run(command.stdout(output))
    }

    /// Bytes of the repository, not of caches and keys.
    pub fn stored_bytes(&self) -> u64 {
        folder_bytes(&self.data())
    }
}

/// Bytes of all files below a folder.
fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { folder_bytes(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) }).sum()
}
