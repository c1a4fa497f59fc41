//! What can be typed.

use super::config_help::{CHECK_AFTER, CONFIG_AFTER};
use super::human::{parse_duration, parse_long_duration, parse_size};
use crate::archive::retention::Policy;
use crate::archive::tags::Tag;
use crate::pipeline::seal::Compression;
use crate::source::ServiceKind;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use hah_vault_format::{Label, ManifestName, SourceName};
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
  HAH_VAULT_NOMAD_KEYSTORE  as --keystore of backup
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

    #[command(flatten)]
    pub agent: AgentUrl,

    /// Log lines on standard error as text or JSON; the agent always logs
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub log_format: LogFormat,

    #[command(flatten)]
    pub telemetry: TelemetryArgs,

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

/// Another agent that does the work.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Agent")]
pub(super) struct AgentUrl {
    /// Let this agent do it: http://HOST:PORT, https://HOST:PORT or unix:///PATH
    #[arg(
        long = "agent",
        global = true,
        value_name = "URL",
        env = "HAH_VAULT_AGENT",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub url: Option<String>,
    /// File with the agent's token
    #[arg(
        long = "agent-token-file",
        global = true,
        value_name = "FILE",
        env = "HAH_VAULT_AGENT_TOKEN_FILE",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub token_file: Option<PathBuf>,
    /// PEM file of certificate authorities to trust for the agent
    #[arg(long = "agent-ca-file", global = true, value_name = "FILE", hide_short_help = true)]
    pub ca_file: Option<PathBuf>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    #[default]
    Text,
    Json,
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

/// Where a command tells how it went. Problems with it are warnings and change no exit code.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Monitoring (of backup, gc, restore, verify and the agent's runs)")]
pub(super) struct TelemetryArgs {
    /// File for node_exporter's textfile collector; its name ends in .prom
    ///
    /// Replaced as a whole when a backup begins, and when a command or a run of the agent ends, also when it failed. What
    /// earlier runs wrote into it goes on: the time of the last success, and all counters.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HAH_VAULT_METRICS_FILE",
        hide_env_values = true,
        hide_short_help = true,
        value_parser = path()
    )]
    pub metrics_file: Option<PathBuf>,
    /// Prometheus Pushgateway to push the same to; may hold a user and password
    ///
    /// Without --metrics-file beside it, counters are those of one run, or of one agent.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "HAH_VAULT_METRICS_PUSH",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub metrics_push: Option<String>,
    /// Dead man's switch for backups, as of healthchecks.io: posts to URL/start, then URL or URL/fail
    ///
    /// Success is exit code 0; of the agent's backups one that succeeds while no other source's last one failed or is
    /// overdue. The URL is as good as a password: better in the variable than on the command line.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "HAH_VAULT_PING_URL",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub ping: Option<String>,
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
    /// Restore a snapshot to a file, to standard output, or into a server
    Restore(Restore),
    /// Drop old snapshots, and delete what nothing needs any more
    Gc(Gc),
    /// Bring back a snapshot that gc dropped less than 12 hours ago
    Undelete(Undelete),
    /// Keep a snapshot whatever the retention rules say
    Hold(Hold),
    /// Check that snapshots can be restored
    Verify(Verify),
    /// Mend what can be mended, set aside what cannot
    Repair(Repair),
    /// Manage who can read and write the repository
    #[command(subcommand)]
    Key(Key),
    /// Print a recovery sheet for the safe
    Kit(Kit),
    /// Count what the repository holds
    Stats,
    /// Show the settings of this run and where each comes from
    #[command(after_long_help = CONFIG_AFTER)]
    Config,
    /// Test everything that a backup needs, without taking a snapshot
    Check(Check),
    /// Run schedules and a control API until stopped
    Agent(Agent),
    /// Show what an agent does: its lock, its jobs, when they ran and run next
    #[command(after_long_help = "Example:\n  hah-vault --agent http://127.0.0.1:8205 status")]
    Status,
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
    /// Also write a recovery sheet, without the identity; HTML if the name ends with .html
    #[arg(long, value_name = "FILE")]
    pub kit: Option<PathBuf>,
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

const AGENT_AFTER: &str = "\
The configuration file says what runs when, where to listen and how replicas agree: its agent block, and
schedule and retention of each source (deploy/config.hcl shows all of it). Without an agent block every
source is backed up once an hour, and the control API listens on 127.0.0.1:8205, where it only shows:
control functions need a token file, or a unix socket.

SIGHUP reads the configuration again; where it listens and the lock stay as they are. SIGTERM and ctrl-C let
runs finish for stop_timeout and then stop them in good order. systemd is told of all this (Type=notify).

/v1/openapi.json describes the API; / is a web page. backup, verify, gc, list, show, hold and status use it
with --agent URL.

Examples:
  hah-vault --config /etc/hah-vault/config.hcl agent
  hah-vault --agent http://127.0.0.1:8205 --agent-token-file agent.token backup vault";

/// What `agent` takes.
#[derive(Debug, Args)]
#[command(after_long_help = AGENT_AFTER)]
pub(super) struct Agent {
    /// Only check the configuration, and say what would run when
    #[arg(long)]
    pub dry_run: bool,
}

/// What `backup` takes.
#[derive(Debug, Default, Args)]
#[command(after_long_help = BACKUP_AFTER)]
pub(super) struct Backup {
    /// NAME=PATH, NAME=- for standard input; or vault, consul, nomad or a configured name [default: all configured]
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Give the snapshots a tag, for gc --keep-tag and for people; repeatable
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<Tag>,
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
    /// Keystore folder of a Nomad 1.4 to 1.8 server, to be stored with the snapshot of the source nomad
    ///
    /// The snapshots of these versions do not hold the keyring, without which variables cannot be read. It is
    /// <data_dir>/server/keystore of any one server. Since 1.9 the keyring is in the snapshot.
    /// HAH_VAULT_NOMAD_KEYSTORE names one for all runs.
    #[arg(long, value_name = "DIR")]
    pub keystore: Option<PathBuf>,
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
    /// What gc has set aside, and until when it can be brought back
    #[arg(long)]
    pub trash: bool,
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

With --to the snapshot goes into a running server, and replaces everything that it holds. The plan is shown
and has to be confirmed; the whole snapshot is checked before the first byte is sent; what the server holds
now is backed up as another snapshot of --to's name; and then it is waited until the server works again.

--force with --to vault is for a snapshot of a cluster with other unseal keys (a new Vault, after a loss):
Vault's own check is skipped (snapshot-force), and afterwards it is sealed until it gets the unseal or
recovery keys of the snapshot's cluster.

--keystore is for Nomad 1.4 to 1.8, whose snapshots do not hold the keyring.

Examples:
  hah-vault restore vault@latest
  hah-vault restore vault@2026-11-22T14:30 -o vault.snap
  hah-vault restore consul@latest --to consul
  hah-vault restore vault@latest --to vault --force --no-backup-first
  hah-vault restore nomad@latest --to nomad --keystore /opt/nomad/server/keystore";

/// What `restore` takes.
#[derive(Debug, Args)]
#[command(after_long_help = RESTORE_AFTER)]
pub(super) struct Restore {
    /// Full name, unique beginning, SOURCE@latest, SOURCE@latest~N or SOURCE@TIME
    pub manifest: String,
    /// File to write, - for standard output [default: SOURCE-TIME-….snap in the current folder]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write over existing files; with --to vault: the snapshot may be of another cluster
    #[arg(long)]
    pub force: bool,
    /// Do not make the original gzip again: an equivalent one is made faster
    #[arg(long)]
    pub fast: bool,
    /// Write the keystore of Nomad 1.4 to 1.8 that was backed up with the snapshot into this folder
    #[arg(long, value_name = "DIR")]
    pub keystore: Option<PathBuf>,
    #[command(flatten)]
    pub server: IntoServer,
}

/// What `restore --to` takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Into a server")]
pub(super) struct IntoServer {
    /// Restore into this server: vault, consul or nomad
    #[arg(long, value_name = "NAME", conflicts_with_all = ["out", "fast"])]
    pub to: Option<SourceName>,
    /// Do not ask
    #[arg(long, short, requires = "to")]
    pub yes: bool,
    /// Only show the plan and check the snapshot: nothing is sent, nothing backed up
    #[arg(long, requires = "to")]
    pub dry_run: bool,
    /// Do not back up what is about to be replaced
    #[arg(long, requires = "to")]
    pub no_backup_first: bool,
    /// How long the server may take until it works again
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10m", requires = "to")]
    pub settle_limit: Duration,
}

const GC_AFTER: &str = "\
A snapshot stays if one rule wants it. Of each hour, day, week (from Monday), month and year that a rule
counts, in UTC, the newest stays. Always kept: the newest snapshot of each source, those that are held,
those less than a day in the repository, those that do not open, and those that claim a time that has
not come yet; the last two count for nothing.

What needs packs that are missing, of another length, or found damaged by `verify` on this host cannot be
restored and takes no place either: whole snapshots are judged among the whole ones, and the newest whole
one stays. Damaged ones go when they would have gone if they were whole.

Without any keep option: --keep-last 3 --keep-within 1d --keep-hourly 48 --keep-daily 14 --keep-weekly 8
--keep-monthly 12 --keep-yearly 3. With any, only those given count.

What goes is set aside for 24 hours: for 12 of them `undelete` brings it back. A gc after that deletes
it, and with it the packs that nothing else needs. No locks: backups and other gcs may run at the same
time. It takes the writer key of all sources, and credentials that may delete; the backups' own should
not. Interrupted, it leaves nothing that the next gc does not clean up.

While a manifest does not open, no pack is deleted, because nobody knows which ones it needs.

Without rules on the command line those of the configuration hold: `retention` of each source, and that of the agent
block for the others. Without these, a day in full, 48 hours, 14 days, 8 weeks, 12 months and 3 years.

Examples:
  hah-vault gc --dry-run
  hah-vault gc --keep-last 10 --keep-daily 30 --keep-monthly 12
  hah-vault gc --keep-all                           only delete what crashed runs left
  hah-vault gc --dry-run --budget 10GB              how long a free tier lasts";

/// What `gc` takes.
#[derive(Debug, Default, Args)]
#[command(after_long_help = GC_AFTER)]
pub(super) struct Gc {
    /// Show what would be done, and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    #[command(flatten)]
    pub keep: Keep,
    /// Drop snapshots of this source only
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<SourceName>,
    /// Drop also more than half of a source's snapshots
    #[arg(long)]
    pub force: bool,
    /// How long this budget lasts at the present growth: 10GB, 500MB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub budget: Option<u64>,
    /// Delete packs although this manifest does not open: what it needs may go; repeatable
    #[arg(long, value_name = "MANIFEST")]
    pub ignore: Vec<ManifestName>,
    /// How long to keep what was set aside; at least 24h
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "24h")]
    pub grace: Duration,
    /// Allow a shorter --grace: a promise that nothing else uses this repository meanwhile
    #[arg(long)]
    pub exclusive: bool,
}

/// The retention rules.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What stays")]
pub(super) struct Keep {
    /// The newest N, at most one of each hour
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// All that are not older than this, counted from the newest: 12h, 7d, 2w
    #[arg(long, value_name = "TIME", value_parser = parse_long_duration)]
    pub keep_within: Option<Duration>,
    /// The newest of each of the last N hours that have any
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<u32>,
    /// The same for days
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,
    /// The same for weeks
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,
    /// The same for months
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u32>,
    /// The same for years
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u32>,
    /// All that have this tag; repeatable
    #[arg(long = "keep-tag", value_name = "TAG")]
    pub keep_tags: Vec<Tag>,
    /// Everything: only what nothing needs is deleted
    #[arg(
        long,
        conflicts_with_all = ["keep_last", "keep_within", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly", "keep_tags"]
    )]
    pub keep_all: bool,
}

impl Keep {
    /// The policy that was typed; `None` if there was nothing.
    pub(super) fn policy(&self) -> Option<Policy> {
        if self.keep_all {
            return Some(Policy::everything());
        }
        let policy = Policy {
            keep_last: self.keep_last.unwrap_or(0),
            keep_within: self.keep_within.unwrap_or_default(),
            keep_hourly: self.keep_hourly.unwrap_or(0),
            keep_daily: self.keep_daily.unwrap_or(0),
            keep_weekly: self.keep_weekly.unwrap_or(0),
            keep_monthly: self.keep_monthly.unwrap_or(0),
            keep_yearly: self.keep_yearly.unwrap_or(0),
            keep_tags: self.keep_tags.clone(),
        };
        let counts =
            [self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly];
        let typed = counts.iter().any(Option::is_some) || self.keep_within.is_some() || !self.keep_tags.is_empty();
        typed.then_some(policy)
    }
}

const UNDELETE_AFTER: &str = "\
The snapshot gets a name with another ending. The rules that dropped it drop it again after a day:
--hold keeps it.

Examples:
  hah-vault list --trash
  hah-vault undelete vault/20261122T143000Z-1a2b3c4d --hold";

/// What `undelete` takes.
#[derive(Debug, Args)]
#[command(after_long_help = UNDELETE_AFTER)]
pub(super) struct Undelete {
    /// Name of the snapshot, or a unique beginning; or the full name of its trash copy
    pub manifest: String,
    /// Hold it, so that gc does not drop it again
    #[arg(long)]
    pub hold: bool,
}

/// What `hold` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "`list` and `show` say what is held. Releasing takes credentials that may delete.\n\n\
    Examples:\n  hah-vault hold vault@latest --reason 'before the upgrade'\n  hah-vault hold --release vault/20261122T14")]
pub(super) struct Hold {
    /// Full name, unique beginning, SOURCE@latest, SOURCE@latest~N or SOURCE@TIME
    pub manifest: String,
    /// Why, for people; at most 1,024 bytes, stored encrypted
    #[arg(long, value_name = "TEXT", conflicts_with = "release")]
    pub reason: Option<String>,
    /// Let it go again
    #[arg(long)]
    pub release: bool,
}

const VERIFY_AFTER: &str = "\
Three depths, each of which includes the ones before:
  (always)     every manifest and every index opens, is authentic, and they agree; every pack is there with
               the right length; no snapshot that this host saw, or that another one was made upon, is gone
               against the rules of gc. Needs the writer key only. One read for each manifest and index
  --read-data  packs are read: their bytes are those that their names promise; with an identity they are
               opened, and hold the chunks that their indexes list
  --rehearse   the newest snapshot of each source is put together in memory and thrown away: stream,
               SHA256SUMS, records of the state, and the original gzip byte for byte. Needs an identity

--read-data=5 every night reads everything in three weeks: the packs that were not read for longest come
first. What was read when, which snapshots were seen and which packs are damaged is remembered in
$XDG_STATE_HOME/hah-vault or ~/.local/state/hah-vault; backups of this host do not reuse those packs.

Damage is exit code 3, with what is affected and what mends it; 1 if it could not be found out.

--drill consul starts a Consul on the loopback, restores the newest (or the named) snapshot of consul into
it, counts what came back, and destroys it, also on error and ctrl-C. Its files lie in /dev/shm, in memory,
if there is room, and in the folder for temporary files otherwise; a drill that is killed with SIGKILL leaves
them. With --to NAME an empty Consul, Vault or Nomad of the configuration takes its place, with the login that
it has there, and with --to-address one that is reached as the environment says but for the address. One that
has data is refused.

Examples:
  hah-vault verify
  hah-vault verify vault --read-data --rehearse
  hah-vault verify vault@2026-11-22 --rehearse
  hah-vault verify --drill consul
  hah-vault verify --drill vault --to-address https://empty-vault:8200
  hah-vault verify --drill nomad nomad-home@latest --to nomad-drill
  17 3 * * *  hah-vault verify -q --read-data=5 --rehearse";

/// What `verify` takes.
#[derive(Debug, Args)]
#[command(after_long_help = VERIFY_AFTER)]
pub(super) struct Verify {
    /// Sources, or manifests: full name, unique beginning, SOURCE@latest, … [default: all]
    #[arg(value_name = "SOURCE|MANIFEST")]
    pub wanted: Vec<String>,
    /// Read the packs: all, or this share of their bytes
    #[arg(
        long,
        value_name = "PERCENT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100",
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    pub read_data: Option<u8>,
    /// Put snapshots together: the newest of each source, or those that are named
    #[arg(long)]
    pub rehearse: bool,
    /// With --rehearse: all of them
    #[arg(long, requires = "rehearse")]
    pub all: bool,
    /// Forget snapshots and keys that are gone: you know why
    #[arg(long)]
    pub accept_lost: bool,
    /// Restore one snapshot into a throwaway server, and count what came back
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["read_data", "rehearse", "accept_lost"])]
    pub drill: Option<DrillInto>,
    /// The Consul to start for --drill consul [default: the one in the PATH]
    #[arg(long, value_name = "FILE", requires = "drill", conflicts_with = "to_address")]
    pub consul_binary: Option<PathBuf>,
    /// An empty server for --drill, instead of one that is started
    #[arg(long, value_name = "URL", requires = "drill")]
    pub to_address: Option<String>,
    /// The same by its name in the configuration, with the login that it has there
    #[arg(long, value_name = "NAME", requires = "drill", conflicts_with_all = ["to_address", "consul_binary"])]
    pub to: Option<SourceName>,
}

const REPAIR_AFTER: &str = "\
What it does, after a second look at each object:
  a manifest that does not open      is set aside, so that gc deletes packs again
  a pack with other bytes            is set aside, so that the next backup of any host stores again what is
  than its name promises             current of it; known from verify --read-data on this host, or --read-data
  an index that is gone or broken    is made again from its pack; needs an identity
  repository.json                    is written again

To set aside is to copy to broken/ in the store, and then to delete; nothing else looks there. Lost bytes do
not come back: snapshots that need them stay damaged. Name such snapshots to set their manifests aside
too, though they open; the next gc then deletes packs that nothing else names.

Needs the right to delete. Exit code 3 if something is left that cannot be mended.

Examples:
  hah-vault repair --dry-run
  hah-vault repair --read-data
  hah-vault repair vault/20261122T143000Z-1a2b3c4d";

/// What `repair` takes.
#[derive(Debug, Args)]
#[command(after_long_help = REPAIR_AFTER)]
pub(super) struct Repair {
    /// Snapshots that cannot be restored and are to be given up
    #[arg(value_name = "MANIFEST")]
    pub give_up: Vec<String>,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Read all packs first
    #[arg(long)]
    pub read_data: bool,
}

/// What can be drilled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DrillInto {
    Consul,
    Vault,
    Nomad,
}

impl DrillInto {
    /// The service.
    pub(super) fn service(self) -> ServiceKind {
        match self {
            Self::Consul => ServiceKind::Consul,
            Self::Vault => ServiceKind::Vault,
            Self::Nomad => ServiceKind::Nomad,
        }
    }

    /// The source of that name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Consul => "consul",
            Self::Vault => "vault",
            Self::Nomad => "nomad",
        }
    }
}

const KIT_AFTER: &str = "\
A sheet for a safe: where the repository is, what opens it, the commands of the worst day, and blanks for what no
program knows. Without --with-identity no secret is on it: it holds the wrapped keys, which are useless without a
reader's key. With it, the sheet alone opens the repository. QR codes are in the HTML only. Files are made with mode
0600 and never written over.

Examples:
  hah-vault kit --html kit.html
  hah-vault kit --with-identity | lp";

/// What `kit` takes.
#[derive(Debug, Args)]
#[command(after_long_help = KIT_AFTER)]
pub(super) struct Kit {
    /// Write the sheet as HTML, with QR codes, to be printed by a browser
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the sheet as text [default without --html: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Put the repository identity on it, a SECRET: the sheet alone then opens every backup
    #[arg(long)]
    pub with_identity: bool,
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
