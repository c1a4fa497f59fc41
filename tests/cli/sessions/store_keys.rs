//! The store's keys and the writer key: from key-value stores of both versions, and from the secrets engine of AWS.

use super::*;
use crate::support::vault_cluster::Trouble;
use crate::support::vault_server::json as answer;

impl World {
    /// A file in the place of all variables but those of the login.
    fn with_file(&mut self, s3_keys: &str) {
        for name in ["HAH_VAULT_REPO", "AWS_ENDPOINT_URL", "AWS_REGION", "HAH_VAULT_KV"] {
            self.set(name, "");
        }
        let config = format!(
            "repository {{\n  url = \"s3://bucket/prefix\"\n  writer_key = kv(\"secret/hah-vault\", \"writer_key\")\n  s3 {{\n    \
             endpoint = \"{}\"\n    region = \"us-east-1\"\n    {s3_keys}\n  }}\n}}\n",
            self.store.endpoint()
        );
        let file = self.sandbox.file("own.hcl", config);
        self.set("HAH_VAULT_CONFIG", file.to_str().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_value_stores_of_both_versions_hold_the_keys() {
    let mut world = World::new().await.with_jwt();
    let fields = world.cluster.lock().kv2["hah-vault"].last().unwrap().data.clone();
    world.backs_up_all();
    // Version 1, and no other secret of that name.
    world.cluster.set(|state| {
        state.kv2.remove("hah-vault");
        state.kv1.insert("hah-vault".into(), fields.clone());
    });
    world.set("HAH_VAULT_KV", "kv1/hah-vault");
    world.run(&ALL).ok();
    assert_eq!(world.vault.server.requests_of("/v1/kv1/hah-vault").len(), 1, "read once, for both keys");
    // A Vault that does not tell which version it is.
    world.cluster.set(|state| state.knows_mounts = false);
    world.run(&ALL).ok();
    world.cluster.set(|state| state.knows_mounts = true);
    // An older version of a secret whose newest one is deleted.
    let gone = Version { is_deleted: true, ..Version::of(json!({})) };
    world.cluster.set(|state| {
        state.kv2.insert("hah-vault".into(), vec![Version::of(fields), gone]);
    });
    world.set("HAH_VAULT_KV", "secret/hah-vault?version=1");
    world.run(&ALL).ok();
    world.set("HAH_VAULT_KV", "secret/hah-vault");
    let words = "cannot get kv (HAH_VAULT_KV): version 2 of the secret secret/hah-vault was deleted";
    world.run(&ALL).refused(1, words, "vault kv undelete -versions=2");
    for (path, denied, words, hint) in [
        ("kv1/nosuch", "", "no secret at kv1/nosuch", "vault kv get"),
        ("kv1/hah-vault", "kv1/*", "refused kv1/hah-vault: ", "path \"kv1/hah-vault\" { capabilities = [\"read\"] }"),
        ("consul/creds/backup", "", "is of type consul, not a key-value store", "vault secrets list"),
    ] {
        world.cluster.set(|state| state.denied = vec![denied.into()]);
        world.set("HAH_VAULT_KV", path);
        let ran = world.run(&ALL);
        ran.refused(1, "cannot get kv (HAH_VAULT_KV): ", hint);
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_not_there_is_named_with_those_that_are() {
    let mut world = World::new().await.with_jwt();
    world.with_file(
        "access_key_id = kv(\"secret/hah-vault\", \"r2_access_key_id\")\n    secret_access_key = \
         kv(\"secret/hah-vault\", \"r2_secret\")",
    );
    let ran = world.run(&ALL);
    ran.refused(1, "has no field r2_secret; it has r2_access_key_id, r2_secret_access_key, writer_key", "vault kv get");
    assert!(ran.stderr.contains("s3.secret_access_key (") && ran.stderr.contains("own.hcl:8)"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_of_aws_makes_the_stores_keys_and_ends_them() {
    for (path, is_sts) in [("aws/creds/backup", false), ("aws/sts/backup?ttl=15m", true)] {
        let mut world = World::new().await.with_jwt();
        world.with_file(&format!("credentials = aws(\"{path}\")"));
        world.backs_up_all();
        assert_eq!(world.made("lease aws/"), 1, "{:?}", world.cluster.log());
        let has_session_token = world.store.header_names().iter().any(|name| name == "x-amz-security-token");
        assert_eq!(has_session_token, is_sts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_aws_that_makes_no_keys_says_why() {
    let mut world = World::new().await.with_jwt();
    let what = "cannot get s3.credentials (";
    world.with_file("credentials = aws(\"aws/creds/nosuch\")");
    let ran = world.run(&ALL);
    ran.refused(1, what, "is there a role nosuch at aws?");
    assert!(ran.stderr.contains("made no credentials at aws/creds/nosuch"), "{ran:?}");
    world.with_file("credentials = aws(\"aws/creds/backup\")");
    world.cluster.set(|state| state.denied = vec!["aws/*".into()]);
    world.run(&ALL).refused(1, what, "path \"aws/creds/backup\" { capabilities = [\"read\"] }");
    world.cluster.set(|state| state.denied.clear());
    // AWS itself says no: in the words that Vault quotes.
    let text = "Error creating IAM user: AccessDenied: User: arn:aws:iam::1:user/vault is not authorized";
    let refusal = answer("400 Bad Request", &json!({ "errors": [text] }).to_string());
    world.cluster.trouble("aws/creds/backup", 1, Trouble::Answer(refusal));
    let ran = world.run(&ALL);
    ran.refused(1, what, "Vault's log");
    assert!(ran.stderr.contains("is not authorized"), "{ran:?}");
    assert_eq!(files(&world.store.root.path().join("bucket/prefix/manifests")).len(), 0);
}
