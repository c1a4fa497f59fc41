//! What can be typed.

use super::config_help::{CHECK_AFTER, CONFIG_AFTER};
use super::human::parse_duration;
use crate::pipeline::seal::Compression;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use hah_vault_format::{Label, SourceName};
use std::path::PathBuf;
use std::time::Duration;

const AFTER: &str = "\
Examples:
  hah-vault backup --init vault=vault.snap          first backup, into a local folder
  export HAH_VAULT_REPO=r2://ACCOUNT/BUCKET/PREFIX
  hah-vault init --recipient age1…                  a repository whose readers have keys already
  hah-vault list
  hah-vault restore vault@latest

A MANIFEST is a full name, a unique beginning of one, SOURCE@latest, SOURCE@latest~N, or
SOURCE@TIME (the newest at or before that time, UTC).

Environment:
  HAH_VAULT_REPO, HAH_VAULT_CONFIG, HAH_VAULT_WRITER_KEY_FILE, HAH_VAULT_IDENTITY: as the options
  HAH_VAULT_WRITER_KEY    the writer key itself
  HAH_VAULT_PASSPHRASE    a passphrase, as --passphrase-file
  HAH_VAULT_LOG           log filter, for example hah_vault=debug
  AWS_*                   credentials and settings of S3 stores
  HAH_VAULT_AUTH and others: how secrets come from Vault, see `hah-vault help config`

Exit codes:
  0    done
  1    failed
  2    wrong usage
  3    finished, but something is damaged or was skipped
  10   no repository
  11   something is there already, or belongs to another repository
  12   no identity or writer key fits
  13   the repository was written by a newer version
  130  interrupted";

/// Encrypted, deduplicated, verified backups of Vault, Consul and Nomad snapshots
#[derive(Debug, Parser)]
#[command(name = "hah-vault", version, after_long_help = AFTER, max_term_width = 110)]
pub(super) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// A path; an empty one is let through, because an empty variable is as good as none.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(super) struct Global {
    /// The repository: a path, s3://BUCKET/PREFIX or r2://ACCOUNT/BUCKET/PREFIX
    ///
    /// Without it, a local folder: hah-vault in $XDG_DATA_HOME or ~/.local/share.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "HAH_VAULT_REPO",
        hide_env_values = true,
        help_heading = "Repository and keys"
    )]
    pub repo: Option<String>,

    /// The configuration file, HCL or JSON; see `hah-vault help config`
    ///
    /// Without it, config.hcl or config.json in the configuration folder ($XDG_CONFIG_HOME/hah-vault or
    /// ~/.config/hah-vault), then in /etc/hah-vault. /dev/null is an empty one.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HAH_VAULT_CONFIG",
        hide_env_values = true,
        value_parser = path(),
        help_heading = "Repository and keys"
    )]
    pub config: Option<PathBuf>,

    /// File with the writer key
    ///
    /// The key itself can be in HAH_VAULT_WRITER_KEY. Without both, writer.key in the configuration folder is used if it
    /// is of this repository ($XDG_CONFIG_HOME/hah-vault or ~/.config/hah-vault).
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HAH_VAULT_WRITER_KEY_FILE",
        hide_env_values = true,
        value_parser = path(),
        help_heading = "Repository and keys"
    )]
    pub writer_key_file: Option<PathBuf>,

    /// File with an age identity or SSH private key; - is standard input; repeatable
    ///
    /// Without it, identity.txt in the configuration folder is used if it is of this repository.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "HAH_VAULT_IDENTITY",
        hide_env_values = true,
        value_parser = path(),
        help_heading = "Repository and keys"
    )]
    pub identity: Vec<PathBuf>,

    /// A copy of a wrapped repository identity (repository-key.age), should keys/ in the store be gone; repeatable
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true, help_heading = "Repository and keys")]
    pub key_file: Vec<PathBuf>,

    /// Ask for a passphrase that opens the repository
    #[arg(long, global = true, conflicts_with = "passphrase_file", help_heading = "Repository and keys")]
    pub passphrase: bool,

    /// File with the passphrase; or set HAH_VAULT_PASSPHRASE
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true, help_heading = "Repository and keys")]
    pub passphrase_file: Option<PathBuf>,

    #[command(flatten)]
    pub s3: S3,

    /// Print one JSON object per line
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,

    /// Say more; -vv logs to standard error, -vvv logs all
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,

    /// Only data, warnings and errors
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
}

/// Settings of S3 stores that are not in the URL. Credentials come from the environment and the AWS files only.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "S3 (credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or a profile)")]
pub(super) struct S3 {
    /// Endpoint, https://HOST; or AWS_ENDPOINT_URL
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub s3_endpoint: Option<String>,
    /// Region to sign for; or AWS_REGION
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub s3_region: Option<String>,
    /// Profile in the AWS files; or AWS_PROFILE
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub s3_profile: Option<String>,
    /// Bucket as host name (virtual) or as first part of the path
    #[arg(long, global = true, value_name = "STYLE", hide_short_help = true)]
    pub s3_addressing: Option<Addressing>,
    /// PEM file of certificate authorities to trust instead of the system's; or AWS_CA_BUNDLE
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub s3_ca_bundle: Option<PathBuf>,
}

/// Where the bucket's name goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Addressing {
    Path,
    Virtual,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a repository and its keys
    Init(Init),
    /// Back up snapshots
    Backup(Backup),
    /// List snapshots
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all that is known of one snapshot
    Show(Show),
    /// Restore a snapshot to a file or standard output
    Restore(Restore),
    /// Manage who can read and write the repository
    #[command(subcommand)]
    Key(Key),
    /// Count what the repository holds
    Stats,
    /// Show the settings of this run and where each comes from
    #[command(after_long_help = CONFIG_AFTER)]
    Config,
    /// Test everything that a backup needs, without taking a snapshot
    Check(Check),
    /// Print a completion script for a shell
    #[command(after_long_help = "Example:\n  hah-vault completions bash > /etc/bash_completion.d/hah-vault")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all pages into a folder
    Man {
        /// Folder for the pages
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

const INIT_AFTER: &str = "\
Without --recipient and passphrase, a new identity is made and written to identity.txt.
With --passphrase, --passphrase-file or HAH_VAULT_PASSPHRASE the repository opens with that passphrase.

Examples:
  hah-vault init
  hah-vault init --recipient alice=age1… --recipient bob='ssh-ed25519 AAAA… bob@host'
  hah-vault --repo s3://bucket/backups init --passphrase --out keys";

/// What `init` takes.
#[derive(Debug, Default, Args)]
#[command(after_long_help = INIT_AFTER)]
pub(super) struct Init {
    /// Who shall be able to read: age1…, ssh-ed25519 …, ssh-rsa …, or a plugin's recipient; repeatable
    #[arg(long, short, value_name = "[LABEL=]RECIPIENT")]
    pub recipient: Vec<String>,
    /// Label of the only reader [default: reader-1, or passphrase]
    #[arg(long)]
    pub label: Option<Label>,
    /// Folder for the key files [default: the configuration folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

const BACKUP_AFTER: &str = "\
All sources are backed up at the same time, each for itself: one that fails does not stop the others
(exit code 3; 1 if all fail; a single source's own code).

Sources named vault, consul or nomad, and those whose last backup was a snapshot, must be sound Raft
snapshots; --raw stores any bytes.

vault, consul and nomad without a path are fetched from the service itself, reached as its own client
would: VAULT_ADDR and VAULT_TOKEN (or BAO_*), CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN, NOMAD_ADDR and
NOMAD_TOKEN, and the rest of their variables. VAULT_ADDR and NOMAD_ADDR may be
consul://service/NAME?tag=TAG, to be looked up in Consul's catalog. Tokens can come from Vault, and
sources from a configuration file: see `hah-vault help config`.

Examples:
  hah-vault backup                                  all sources of the configuration file
  hah-vault backup vault consul nomad
  hah-vault backup vault=/var/tmp/vault.snap consul=/var/tmp/consul.snap
  vault operator raft snapshot save /dev/stdout | hah-vault backup vault=-";

/// What `backup` takes.
#[derive(Debug, Args)]
#[command(after_long_help = BACKUP_AFTER)]
pub(super) struct Backup {
    /// NAME=PATH, NAME=- for standard input; or vault, consul, nomad or a configured name [default: all configured]
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Reuse nothing that is stored already
    #[arg(long)]
    pub fresh: bool,
    /// Store any input as it is, also what is no sound snapshot
    #[arg(long)]
    pub raw: bool,
    /// Make the repository first if there is none, as `init` does
    #[arg(long)]
    pub init: bool,
    /// Store again what is older than this, although it is there: 90d, 12h [default: 90d]
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    pub horizon: Option<Duration>,
    /// Compression; off closes guessing of secrets by watching sizes [default: auto]
    #[arg(long, value_name = "MODE")]
    pub compression: Option<CompressionArg>,
}

/// How packs are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CompressionArg {
    Auto,
    Off,
}

impl From<CompressionArg> for Compression {
    fn from(arg: CompressionArg) -> Self {
        match arg {
            CompressionArg::Auto => Self::Auto,
            CompressionArg::Off => Self::Off,
        }
    }
}

/// What `check` takes.
#[derive(Debug, Args)]
#[command(after_long_help = CHECK_AFTER)]
pub(super) struct Check {
    /// Only these sources [default: all configured; without any, those that the environment names]
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<SourceName>,
}

/// What `list` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "The newest comes last. NEW and STORED are what the run added to the repository.\n\n\
    Examples:\n  hah-vault list\n  hah-vault list vault --limit 10\n  hah-vault list --json | jq -r .manifest")]
pub(super) struct List {
    /// Only this source
    pub source: Option<SourceName>,
    /// Only the newest N
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<usize>,
}

/// What `show` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  hah-vault show vault@latest\n  hah-vault show vault/20261122T14")]
pub(super) struct Show {
    /// Full name, unique beginning, SOURCE@latest, SOURCE@latest~N or SOURCE@TIME
    pub manifest: String,
}

const RESTORE_AFTER: &str = "\
Every hash is checked. A file appears under its name only when it is whole and right; standard output is
valid only with exit code 0 or 3. 3 means: the snapshot is right, but in another gzip than the manifest promised.

Examples:
  hah-vault restore vault@latest
  hah-vault restore vault@2026-11-22T14:30 -o vault.snap
  hah-vault restore nomad@latest -o - | nomad operator snapshot restore /dev/stdin";

/// What `restore` takes.
#[derive(Debug, Args)]
#[command(after_long_help = RESTORE_AFTER)]
pub(super) struct Restore {
    /// Full name, unique beginning, SOURCE@latest, SOURCE@latest~N or SOURCE@TIME
    pub manifest: String,
    /// File to write, - for standard output [default: SOURCE-TIME-….snap in the current folder]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write over an existing file
    #[arg(long)]
    pub force: bool,
    /// Do not make the original gzip again: an equivalent one is made faster
    #[arg(long)]
    pub fast: bool,
}

/// What `key` can do.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// List the wrapped copies of the repository identity
    List,
    /// Let one more reader open the repository
    Add(KeyAdd),
    /// Remove a reader's copy
    #[command(after_long_help = "Whoever has copied the wrapped identity, or has opened it once, can go on reading: \
        nothing is encrypted again.")]
    Remove {
        /// Its label
        label: Label,
        /// Also the last one
        #[arg(long)]
        force: bool,
    },
    /// Print the repository identity itself: it opens everything
    #[command(
        after_long_help = "For a sheet of paper in a safe: `age -d -i FILE` opens packs with it, and --identity FILE \
        stands for every reader, also when keys/ is gone."
    )]
    Export,
    /// Print the writer key of everything, or of one source
    #[command(after_long_help = "Example:\n  hah-vault key writer --source consul > writer.key")]
    Writer {
        /// Good for this source only
        #[arg(long, value_name = "SOURCE")]
        source: Option<SourceName>,
    },
}

/// What `key add` takes.
#[derive(Debug, Args)]
#[command(
    after_long_help = "The identity that opens the repository now comes from --identity, --passphrase and so on.\n\n\
    Examples:\n  hah-vault key add --label bob --recipient age1…\n  hah-vault key add --label safe --new-passphrase"
)]
pub(super) struct KeyAdd {
    /// The new reader's label
    #[arg(long)]
    pub label: Label,
    #[command(flatten)]
    pub reader: NewReader,
    /// Also write a copy of the wrapped identity, LABEL.repository-key.age, into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// The new reader: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct NewReader {
    /// age1…, ssh-ed25519 …, ssh-rsa …, or a plugin's recipient
    #[arg(long, short)]
    pub recipient: Option<String>,
    /// Ask for a new passphrase
    #[arg(long)]
    pub new_passphrase: bool,
    /// File with the new passphrase
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
}
