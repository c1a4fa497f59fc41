//! A Consul of its own on the loopback, in a folder that nobody else can enter; killed and removed when dropped.
//!
//! Its folder holds plaintext while it runs: in memory (`/dev/shm`) if there is enough, so that no disk ever has it.

use super::super::{Cancel, service};
use super::DrillError;
use crate::source::settings::{ConsulSettings, FreshToken, Reach};
use crate::source::token::Token;
use crate::source::{Address, Consul, Secret, Target};
use hah_vault_format::Manifest;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server alone leads after some seconds.
const READY_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often other ports are tried: another program may take one between its choice and the server's start.
const STARTS_MAX: usize = 3;
/// What is told of the log.
const LOG_LEN_BYTES_MAX: u64 = 1000;
/// The state in the Raft log, in snapshots being written and read, and something to spare.
const ROOM_PER_STREAM_BYTE: u64 = 4;
const ROOM_FREE_BYTES: u64 = 64 << 20;
const MEMORY_FOLDER: &str = "/dev/shm";
/// The configured management token is known some time after a restore only.
const TOKEN_PATIENCE: FreshToken = FreshToken { retries: 100, delay: Duration::from_millis(200) };

/// A running Consul.
#[derive(Debug)]
pub struct Throwaway {
    child: Child,
    consul: Consul,
    folder: TempDir,
    in_memory: bool,
}

impl Throwaway {
    /// Starts one for a snapshot and waits until it leads.
    ///
    /// # Errors
    /// [`DrillError`].
    pub async fn start(program: &Path, manifest: &Manifest, cancel: &Cancel) -> Result<Self, DrillError> {
        let version = version(program)?;
        let mut starts = 1;
        loop {
            let mut server = Self::launch(program, version, manifest)?;
            match server.wait_until_ready(cancel).await {
                Err(DrillError::Ended { .. }) if starts < STARTS_MAX => starts += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
    }

    /// To restore into, and to count.
    pub fn consul(&self) -> &Consul {
        &self.consul
    }

    /// Whether its folder lies in memory, and no disk sees the plaintext.
    pub fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn launch(program: &Path, version: Version, manifest: &Manifest) -> Result<Self, DrillError> {
        let (folder, in_memory) = folder(manifest)?;
        let failed = |source| DrillError::Folder { folder: folder.path().to_owned(), source };
        let token = token().map_err(failed)?;
        let ports = Ports::choose().map_err(failed)?;
        let file = folder.path().join("config.json");
        let config = config(&ports, &folder.path().join("data"), &token, version, manifest);
        private(&file).and_then(|mut file| file.write_all(config.to_string().as_bytes())).map_err(failed)?;
        let log = private(&folder.path().join("log")).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        let address = Address::of(false, "127.0.0.1", ports.http);
        let address = address.map_err(|reason| failed(io::Error::other(reason)))?;
        let settings = ConsulSettings {
            reach: Reach::at(vec![address]),
            token: Token::Given(token),
            datacenter: None,
            stale: false,
            namespace: None,
            partition: None,
            fresh_token: TOKEN_PATIENCE,
        };
        let consul = Consul::new(settings, &mut |_| ())?;
        let mut command = Command::new(program);
        // Nothing of ours: the environment holds tokens.
        command.env_clear().arg("agent").arg("-config-file").arg(&file);
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let child = child.map_err(|source| DrillError::Program { program: program.to_owned(), source })?;
        Ok(Self { child, consul, folder, in_memory })
    }

    async fn wait_until_ready(&mut self, cancel: &Cancel) -> Result<(), DrillError> {
        let started = Instant::now();
        loop {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return Err(DrillError::Ended { log: self.log() });
            }
            // The index is only told to a token that is known: the ACLs are ready then too.
            if let Ok(preflight) = self.consul.preflight().await
                && preflight.index.is_some()
            {
                return Ok(());
            }
            if started.elapsed() > READY_LIMIT || cancel.is_cancelled() {
                return Err(DrillError::NotReady { after: started.elapsed(), log: self.log() });
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = service::cancelled(cancel) => {}
            }
        }
    }

    /// The end of the log on one line.
    fn log(&self) -> String {
        let read = || {
            let mut file = File::open(self.folder.path().join("log"))?;
            let from = file.metadata()?.len().saturating_sub(LOG_LEN_BYTES_MAX);
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(LOG_LEN_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
        };
        let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
        text.split_whitespace().collect::<Vec<&str>>().join(" ")
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // It has nothing to save. Its folder goes after it.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            tracing::warn!(%error, "the throwaway Consul could not be stopped");
        }
    }
}

/// 0600.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A random management token, in the form of a UUID.
fn token() -> io::Result<Secret> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let [a, b, c, d, e] = [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]].map(<[String]>::concat);
    Ok(Secret::new(format!("{a}-{b}-{c}-{d}-{e}")))
}

/// A folder for one server, 0700: in memory if there is room. The flag says which.
fn folder(manifest: &Manifest) -> Result<(TempDir, bool), DrillError> {
    let room_bytes = manifest.stream.len_bytes.saturating_mul(ROOM_PER_STREAM_BYTE).saturating_add(ROOM_FREE_BYTES);
    let make = |folder: &Path| tempfile::Builder::new().prefix("hah-vault-drill-").tempdir_in(folder);
    if free_memory_bytes() >= room_bytes
        && let Ok(folder) = make(Path::new(MEMORY_FOLDER))
    {
        return Ok((folder, true));
    }
    let below = std::env::temp_dir();
    make(&below).map(|folder| (folder, false)).map_err(|source| DrillError::Folder { folder: below, source })
}

/// What is free in the folder that lies in memory; 0 without one.
#[cfg(target_os = "linux")]
fn free_memory_bytes() -> u64 {
    /// `TMPFS_MAGIC`, statfs(2).
    const TMPFS: rustix::fs::FsWord = 0x0102_1994;
    match rustix::fs::statfs(MEMORY_FOLDER) {
        Ok(found) if found.f_type == TMPFS => found.f_bavail.saturating_mul(u64::try_from(found.f_bsize).unwrap_or(0)),
        _ => 0,
    }
}

/// Only Linux has one.
#[cfg(not(target_os = "linux"))]
fn free_memory_bytes() -> u64 {
    0
}

/// Major and minor.
type Version = (u32, u32);

/// What `consul version` says.
fn version(program: &Path) -> Result<Version, DrillError> {
    let failed = |source| DrillError::Program { program: program.to_owned(), source };
    let output = Command::new(program).env_clear().arg("version").stdin(Stdio::null()).output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_version(&text).ok_or_else(|| failed(io::Error::other("it does not say which version of Consul it is")))
}

fn parse_version(text: &str) -> Option<Version> {
    let mut parts = text.strip_prefix("Consul v")?.split('.');
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?))
}

struct Ports {
    http: u16,
    server: u16,
    serf: u16,
}

impl Ports {
    /// Free ones, for TCP and UDP.
    fn choose() -> io::Result<Self> {
        // All are held until all are chosen, so that they differ.
        let free = || {
            let tcp = TcpListener::bind(("127.0.0.1", 0))?;
            let port = tcp.local_addr()?.port();
            Ok::<_, io::Error>((UdpSocket::bind(("127.0.0.1", port))?, tcp, port))
        };
        let (http, server, serf) = (free()?, free()?, free()?);
        Ok(Self { http: http.2, server: server.2, serf: serf.2 })
    }
}

/// A server alone with ACLs on, reachable from this machine only. The configured token is good after the restore too: the
/// server makes it again when it leads (facts 8).
fn config(ports: &Ports, data: &Path, token: &Secret, version: Version, manifest: &Manifest) -> serde_json::Value {
    let management = if version >= (1, 11) { "initial_management" } else { "master" };
    let mut port_list = json!({
        "http": ports.http, "server": ports.server, "serf_lan": ports.serf,
        "serf_wan": -1, "dns": -1, "grpc": -1, "https": -1,
    });
    if version >= (1, 14) {
        port_list["grpc_tls"] = (-1).into();
    }
    json!({
        "node_name": "hah-vault-drill",
        "datacenter": datacenter(manifest),
        "data_dir": data,
        "server": true,
        "bootstrap_expect": 1,
        "bind_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "ports": port_list,
        "acl": {
            "enabled": true,
            "default_policy": "deny",
            "tokens": {management: token.expose(), "agent": token.expose()},
        },
        "performance": {"raft_multiplier": 1},
        "disable_update_check": true,
        "disable_remote_exec": true,
        "enable_script_checks": false,
        "log_level": "warn",
    })
}

/// That of the snapshot's cluster, as far as the backup knew it.
fn datacenter(manifest: &Manifest) -> &str {
    let legal = |name: &str| {
        let is_legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        !name.is_empty() && name.len() <= 64 && name.bytes().all(is_legal)
    };
    let label = manifest.labels.iter().find(|label| label.key == "cluster-name").map(|label| label.value.as_str());
    label.filter(|name| legal(name)).unwrap_or("dc1")
}

/// `consul` in the PATH.
pub fn find_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = |program: &PathBuf| fs::metadata(program).is_ok_and(|found| found.is_file());
    std::env::split_paths(&path).map(|folder| folder.join("consul")).find(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_tokens_look_like_uuids() {
        assert_eq!(parse_version("Consul v1.8.7\nProtocol 2 spoken"), Some((1, 8)));
        assert_eq!(parse_version("Consul v1.15.2+ent\n"), Some((1, 15)));
        assert_eq!(parse_version("Vault v1.8.7"), None);
        let token = token().unwrap();
        let lens: Vec<usize> = token.expose().split('-').map(str::len).collect();
        assert_eq!(lens, [8, 4, 4, 4, 12]);
    }
}
