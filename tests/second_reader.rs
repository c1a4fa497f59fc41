//! What `backup` writes, `format/restore.py` reads: another program, written from SPEC.md. Needs python3, age, zstd.

use crate::support::repo::{TestRepository, fixture};
use hah_vault::keys::{RepositoryIdentity, generate_reader};
use hah_vault::store::LocalStore;
use std::process::Command;
use std::sync::Arc;

#[tokio::test]
async fn restore_py_restores_what_backup_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("repository");
    std::fs::create_dir(&repo).unwrap();
    let identity = RepositoryIdentity::generate().unwrap();
    let (identity_file, reader) = generate_reader(identity.id());
    let identity_path = dir.path().join("identity.txt");
    std::fs::write(&identity_path, identity_file.as_bytes()).unwrap();
    std::fs::create_dir(repo.join("keys")).unwrap();
    std::fs::write(repo.join("keys/reader.age"), identity.wrap(&reader).unwrap()).unwrap();
    let test = TestRepository::with_identity(Arc::new(LocalStore::open(&repo).unwrap()), identity);
    for file in ["nomad-00", "nomad-01", "nomad-02", "consul-00", "consul-01", "vault-00", "vault-01"] {
        let path = fixture(&format!("{file}.snap"));
        let manifest = test.backup(file.split('-').next().unwrap(), &path).await.unwrap().manifest;
        let out = dir.path().join(file);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/format/restore.py");
        let done = Command::new("python3")
            .args(["-B", script, "--identity"])
            .args([&identity_path, &repo])
            .args([manifest.name.to_string(), "-o".into(), out.display().to_string()])
            .output()
            .expect("python3, age and zstd are needed");
        assert!(done.status.success(), "{file}: {}", String::from_utf8_lossy(&done.stderr));
        let mut tar = Vec::new();
        let original = std::fs::File::open(path).unwrap();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(original), &mut tar).unwrap();
        assert!(std::fs::read(out).unwrap() == tar, "{file}");
    }
}
