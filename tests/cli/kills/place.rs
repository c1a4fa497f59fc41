//! A folder or an S3 server with a repository in it, laid out again and again, and runs of the binary that are killed there.

use crate::cli::sandbox::{Ran, Sandbox, files};
use crate::support::repo::TestRepository;
use crate::support::s3_server::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY};
use bytes::Bytes;
use hah_vault::archive::repository;
use hah_vault::keys::{RepositoryIdentity, generate_reader};
use hah_vault::store::{LocalStore, MemoryStore, Store, StoreTime, open};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PREFIX: &str = "prefix";
/// The S3 server takes no more bytes a second, so that kills fall into uploads.
const BYTES_PER_SECOND: u64 = 16 << 20;
/// How long a folder keeps temporary files of runs that may still go on, and a little more.
const TMP_STALE: Duration = Duration::from_secs(25 * 3600);

/// What lies in a store, and the keys to it.
pub struct Template {
    pub identity: RepositoryIdentity,
    /// The identity file of its only reader.
    reader: String,
    objects: Vec<(String, Bytes, SystemTime)>,
}

impl Template {
    /// An empty repository in memory, and its reader's identity file.
    pub async fn begin(memory: &MemoryStore) -> (RepositoryIdentity, String) {
        let identity = RepositoryIdentity::generate().unwrap();
        let (file, reader) = generate_reader(identity.id());
        let copy = ("reader".parse().unwrap(), identity.wrap(&reader).unwrap());
        repository::create(memory, &identity, &[copy]).await.unwrap();
        (identity, file.to_string())
    }

    /// Everything in a store in memory, with its times.
    pub async fn of(memory: &MemoryStore, identity: RepositoryIdentity, reader: String) -> Self {
        let mut objects = Vec::new();
        for object in memory.list("").await.unwrap() {
            let bytes = memory.get(&object.key, u64::MAX).await.unwrap();
            objects.push((object.key, bytes, system_time(object.modified)));
        }
        Self { identity, reader, objects }
    }
}

fn system_time(time: StoreTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(time.unix_ms).unwrap())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Folder,
    S3,
}

/// When a run is killed.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// So long after it was started.
    After(Duration),
    /// When so many files have come or gone.
    Changes(usize),
}

/// A run that may have been killed.
#[derive(Debug)]
pub struct Run {
    /// `None`: killed.
    pub code: Option<i32>,
    pub took: Duration,
    /// Files that were seen to come or go.
    pub changes: usize,
    pub stderr: String,
}

pub struct Place {
    pub sandbox: Sandbox,
    kind: Kind,
    server: Option<S3Server>,
    identity: RepositoryIdentity,
}

impl Place {
    pub fn new(kind: Kind, template: &Template) -> Self {
        let sandbox = Sandbox::new();
        fs::create_dir_all(sandbox.config("")).unwrap();
        let writer = template.identity.writer_key(None).unwrap().to_text();
        secret(&sandbox.config("writer.key"), writer.as_bytes());
        secret(&sandbox.config("identity.txt"), template.reader.as_bytes());
        let mut place = Self { sandbox, kind, server: None, identity: template.identity.clone() };
        place.lay_out(template);
        place
    }

    /// Puts the store back to what it was, with its times. What the server still does for a killed run is lost.
    pub fn lay_out(&mut self, template: &Template) {
        if self.kind == Kind::S3 {
            let server = S3Server::start();
            server.throttle(BYTES_PER_SECOND);
            self.server = Some(server);
        }
        let root = self.root();
        let _ = fs::remove_dir_all(&root);
        for (key, bytes, modified) in &template.objects {
            let path = root.join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            set_modified(&path, *modified);
        }
    }

    /// Where the objects lie as files.
    pub fn root(&self) -> PathBuf {
        match &self.server {
            None => self.sandbox.repo(""),
            Some(server) => server.root.path().join(BUCKET).join(PREFIX),
        }
    }

    /// The files below [`Place::root`], by their names from there.
    pub fn files(&self) -> BTreeSet<String> {
        let root = self.root();
        let name = |path: PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        files(&root).into_iter().map(name).collect()
    }

    /// Lets the temporary files that a folder keeps for a day grow old.
    pub fn age_temporary_files(&self) {
        for path in files(&self.root().join("tmp")) {
            set_modified(&path, SystemTime::now() - TMP_STALE);
        }
    }

    /// The repository, without the binary in between.
    pub async fn repository(&self) -> TestRepository {
        let store: Arc<dyn Store> = match &self.server {
            None => Arc::new(LocalStore::open(&self.root()).unwrap()),
            Some(server) => open(&server.url(PREFIX), &server.options()).await.unwrap(),
        };
        TestRepository::with_identity(store, self.identity.clone())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command(args);
        if let Some(server) = &self.server {
            command.env("HAH_VAULT_REPO", format!("s3://{BUCKET}/{PREFIX}"));
            command.env("AWS_ENDPOINT_URL", server.endpoint()).env("AWS_REGION", "us-east-1");
            command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().unwrap())
    }

    /// Runs to the end, to learn how long that is.
    pub fn measure(&self, args: &[&str]) -> Run {
        let run = self.kill(args, Moment::Changes(usize::MAX));
        assert_eq!(run.code, Some(0), "{run:?}");
        run
    }

    /// Runs and kills with SIGKILL at a moment, unless it has ended by then.
    pub fn kill(&self, args: &[&str], moment: Moment) -> Run {
        let mut watch = Watch { root: self.root(), known: BTreeSet::new(), changes: 0 };
        watch.look();
        watch.changes = 0;
        let begin = Instant::now();
        let mut child =
            self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        match moment {
            Moment::After(time) => std::thread::sleep(time),
            Moment::Changes(count) => watch.until(count, &mut child),
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let took = begin.elapsed();
        watch.look();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.code().is_some(), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Run { code: output.status.code(), took, changes: watch.changes, stderr }
    }
}

/// Counts the files that come and go below a folder.
struct Watch {
    root: PathBuf,
    known: BTreeSet<PathBuf>,
    changes: usize,
}

impl Watch {
    fn look(&mut self) {
        let found: BTreeSet<PathBuf> = files(&self.root).into_iter().collect();
        self.changes += found.symmetric_difference(&self.known).count();
        self.known = found;
    }

    fn until(&mut self, count: usize, child: &mut Child) {
        while self.changes < count && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(100));
            self.look();
        }
    }
}

/// A file for its owner only.
fn secret(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn set_modified(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
