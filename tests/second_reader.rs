//! `format/restore.py`, the reader that shares no code with the product, against what `restore` gives; and whole
//! repositories made once by `backup` and kept, so that no later version forgets how to read them (SPEC §14).

use crate::support::repo::{TestRepository, fixture};
use crate::support::tools::tool;
use hah_vault::archive::{ArchiveError, repository};
use hah_vault::keys::{Identities, NoPrompt, Reader, RepositoryIdentity, generate_reader};
use hah_vault::store::{LocalStore, Store};
use hah_vault_format::{Label, ManifestName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

fn restore_py(identity: &Path, folder: &Path, manifest: &str, out: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("format/restore.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(script).arg("--identity").arg(identity).arg(folder).arg(manifest).arg("-o").arg(out);
    command.output().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// One manifest of a kept repository, and what restoring it must give.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Expected {
    manifest: String,
    /// Exit code of restore.py; the product fails where it is not 0.
    exit: i32,
    stream_blake3: String,
    original_sha256: String,
}

struct Case {
    folder: PathBuf,
    expected: Vec<Expected>,
}

fn cases_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("format/vectors/v1/restore")
}

fn cases() -> Vec<Case> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(cases_folder()).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    let case = |folder: PathBuf| {
        let expected = serde_json::from_slice(&std::fs::read(folder.join("expect.json")).unwrap()).unwrap();
        Case { folder, expected }
    };
    folders.into_iter().map(case).collect()
}

impl Case {
    async fn open(&self) -> Result<TestRepository, ArchiveError> {
        let store = Arc::new(LocalStore::open(&self.folder.join("repository")).unwrap());
        let file = std::fs::read(self.folder.join("identity.txt")).unwrap();
        let identities = Identities::parse(&file, "identity.txt", &NoPrompt).unwrap();
        let identity = repository::open_identity(store.as_ref(), &identities, None, &[]).await?;
        Ok(TestRepository::with_identity(store, identity))
    }

    async fn restore(&self, manifest: &str) -> Result<(Vec<u8>, [u8; 32]), ArchiveError> {
        let name: ManifestName = manifest.parse().unwrap();
        let (bytes, report) = self.open().await?.restore(&name).await?;
        Ok((bytes, report.manifest.stream.blake3))
    }
}

#[tokio::test]
async fn kept_repositories_restore_as_on_the_day_they_were_made() {
    let cases = cases();
    assert_eq!(cases.len(), 6, "sound, four with one damage each, and one whose hint is wrong");
    for case in cases {
        for expected in &case.expected {
            let what = format!("{} {}", case.folder.display(), expected.manifest);
            match case.restore(&expected.manifest).await {
                Ok((bytes, blake3)) => {
                    assert_eq!(expected.exit, 0, "{what}: restored");
                    assert_eq!(hex(&Sha256::digest(&bytes)), expected.original_sha256, "{what}");
                    assert_eq!(hex(&blake3), expected.stream_blake3, "{what}");
                }
                Err(error) => assert_ne!(expected.exit, 0, "{what}: {error}"),
            }
        }
    }
}

#[test]
fn the_second_reader_restores_kept_repositories_alike() {
    tool("age");
    tool("zstd");
    for case in cases() {
        for expected in &case.expected {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("out");
            let identity = case.folder.join("identity.txt");
            let output = restore_py(&identity, &case.folder.join("repository"), &expected.manifest, &out);
            let words = String::from_utf8_lossy(&output.stderr);
            let what = format!("{} {}: {words}", case.folder.display(), expected.manifest);
            assert_eq!(output.status.code(), Some(expected.exit), "{what}");
            assert_eq!(out.exists(), expected.exit == 0, "{what}");
            if expected.exit == 0 {
                let stream = std::fs::read(&out).unwrap();
                assert_eq!(blake3::hash(&stream).to_string(), expected.stream_blake3, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn the_second_reader_restores_what_backup_makes_today() {
    tool("age");
    tool("zstd");
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("repository");
    let (test, identity) = repository_in(&folder, dir.path()).await;
    for file in
        ["vault-01.snap", "vault-02.snap", "consul-02.snap", "consul-02-again.snap", "nomad-01.snap", "nomad-02.snap"]
    {
        let source = file.split('-').next().unwrap();
        let manifest = test.backup(source, &fixture(file)).await.unwrap().manifest;
        let out = dir.path().join(file);
        let output = restore_py(&identity, &folder, &manifest.name.to_string(), &out);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(*blake3::hash(&std::fs::read(&out).unwrap()).as_bytes(), manifest.stream.blake3, "{file}");
    }
}

/// A repository in a folder with one reader, and the reader's identity file.
async fn repository_in(folder: &Path, keys: &Path) -> (TestRepository, PathBuf) {
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(folder).unwrap());
    let identity = RepositoryIdentity::generate().unwrap();
    let (text, reader): (_, Reader) = generate_reader(identity.id());
    let label: Label = "identity".parse().unwrap();
    let wrapped = identity.wrap(&reader).unwrap();
    repository::create(store.as_ref(), &identity, &[(label, wrapped)]).await.unwrap();
    let file = keys.join("identity.txt");
    std::fs::write(&file, text.as_bytes()).unwrap();
    (TestRepository::with_identity(store, identity), file)
}

/// Makes the kept repositories, where there are none yet: `HAH_VAULT_MAKE_RESTORE_VECTORS=1 cargo test kept`. What is
/// there is never made anew: that it was made by an old version is the point.
#[tokio::test]
async fn kept_repositories_are_made_only_once() {
    if std::env::var_os("HAH_VAULT_MAKE_RESTORE_VECTORS").is_none() || cases_folder().exists() {
        assert!(cases_folder().join("sound/expect.json").exists());
        return;
    }
    let files = [
        "vault-01.snap",
        "vault-02.snap",
        "consul-02.snap",
        "consul-02-again.snap",
        "nomad-02.snap",
        "nomad-02-again.snap",
    ];
    make("sound", &files, 0, |_| ()).await;
    make("pack-missing", &["vault-00.snap"], 1, |f| std::fs::remove_file(first(&f.join("packs"))).unwrap()).await;
    make("pack-damaged", &["vault-00.snap"], 1, |f| flip(&first(&f.join("packs")))).await;
    make("manifest-damaged", &["vault-00.snap"], 1, |f| flip(&first(&f.join("manifests/vault")))).await;
    make("key-missing", &["vault-00.snap"], 12, |f| std::fs::remove_file(first(&f.join("keys"))).unwrap()).await;
    make("hint-wrong", &["vault-00.snap"], 0, |f| {
        let file = f.join("repository.json");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"version\":1", "\"version\":2")).unwrap();
    })
    .await;
}

async fn make(case: &str, files: &[&str], exit: i32, damage: fn(&Path)) {
    let folder = cases_folder().join(case);
    std::fs::create_dir_all(&folder).unwrap();
    let (test, _) = repository_in(&folder.join("repository"), &folder).await;
    let mut expected = Vec::new();
    for file in files {
        let manifest = test.backup(file.split('-').next().unwrap(), &fixture(file)).await.unwrap().manifest;
        // Names have whole seconds; the next run must find this one as its parent.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        expected.push(Expected {
            manifest: manifest.name.to_string(),
            exit,
            stream_blake3: hex(&manifest.stream.blake3),
            original_sha256: hex(&manifest.original.sha256),
        });
    }
    let _ = std::fs::remove_dir_all(folder.join("repository/tmp"));
    damage(&folder.join("repository"));
    std::fs::write(folder.join("expect.json"), serde_json::to_string_pretty(&expected).unwrap() + "\n").unwrap();
}

fn first(folder: &Path) -> PathBuf {
    std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}

fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}
