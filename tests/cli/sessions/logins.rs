//! Every way to log in, from the environment: one backup, nothing left; and what is said when it is refused.

use super::*;
use crate::support::certificates::file;
use crate::support::service_server::Reply;
use crate::support::vault_cluster::{PASSWORD, Trouble};
use crate::support::vault_server::json;

/// A variable and its value.
type Variables<'v> = Vec<(&'v str, String)>;

impl World {
    async fn with(variables: Variables<'_>) -> Self {
        let mut world = Self::new().await;
        for (name, value) in variables {
            world.set(name, value);
        }
        world
    }

    /// With a response-wrapped secret id that was made at this path.
    async fn with_wrapped(creation_path: &str) -> (Self, String) {
        let mut world = Self::with(variables(&[
            ("HAH_VAULT_AUTH", "approle"),
            ("HAH_VAULT_AUTH_ROLE_ID", ROLE_ID),
            ("HAH_VAULT_AUTH_SECRET_ID_WRAPPED", "true"),
            ("HAH_VAULT_AUTH_ROLE_NAME", "backup"),
        ]))
        .await;
        let wrapping = world.cluster.wrap(creation_path);
        let path = world.sandbox.file("wrapping-token", format!("{wrapping}\n"));
        world.set("HAH_VAULT_AUTH_SECRET_ID_FILE", path.to_str().unwrap());
        (world, wrapping)
    }

    /// With a Vault that wants our certificate.
    async fn with_certificate() -> Self {
        let mut world =
            Self::with(variables(&[("HAH_VAULT_AUTH", "cert"), ("VAULT_TLS_SERVER_NAME", "vault.test")])).await;
        world.vault = VaultServer::start_tls_in(&world.cluster, Role::Active, &fixture("vault-00.snap")).await;
        world.set("VAULT_ADDR", format!("https://{}", world.vault.server.address));
        for (name, path) in [
            ("VAULT_CACERT", "tls_names/authority.pem"),
            ("VAULT_CLIENT_CERT", "tls_names/client.pem"),
            ("VAULT_CLIENT_KEY", "tls_names/client.key.pem"),
        ] {
            world.set(name, file(path).to_str().unwrap());
        }
        world
    }

    fn unwrapped(&self) -> usize {
        self.vault.server.requests_of("/v1/sys/wrapping/unwrap").len()
    }
}

fn variables<'v>(pairs: &[(&'v str, &str)]) -> Variables<'v> {
    pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn password(method: &str, username: &str, password: &str) -> Variables<'static> {
    let fields =
        [("HAH_VAULT_AUTH", method), ("HAH_VAULT_AUTH_USERNAME", username), ("HAH_VAULT_AUTH_PASSWORD", password)];
    variables(&fields)
}

fn forbidden() -> Reply {
    json("403 Forbidden", r#"{"errors":["permission denied"]}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_secret_id_is_looked_at_and_unwrapped_once() {
    let (world, _) = World::with_wrapped("auth/approle/role/backup/secret-id").await;
    world.backs_up_all();
    let asked: Vec<String> = world.vault.server.requests().into_iter().map(|request| request.path).collect();
    let at = |path: &str| asked.iter().position(|asked| asked == path).expect(path);
    assert!(at("/v1/sys/wrapping/lookup") < at("/v1/sys/wrapping/unwrap"), "{asked:?}");
    // Whoever comes second learns that somebody was first.
    let ran = world.run(&ALL);
    ran.refused(1, "the wrapping token is not valid: it was used already", "may have been intercepted");
    assert_eq!((world.unwrapped(), world.made("token")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapping_token_of_something_else_is_refused_and_kept_whole() {
    for path in ["auth/approle/role/other/secret-id", "auth/token/create"] {
        let (world, wrapping) = World::with_wrapped(path).await;
        let words = format!("made by {path}, not by auth/approle/role/backup/secret-id: it is not unwrapped");
        world.run(&ALL).refused(1, &words, "it may have been swapped");
        assert_eq!((world.unwrapped(), world.made("token")), (0, 0));
        assert!(world.cluster.lock().wrapped.contains_key(&wrapping), "it can still be looked into");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_kubernetes_service_account_is_enough() {
    let mut world =
        World::with(variables(&[("HAH_VAULT_AUTH", "kubernetes"), ("HAH_VAULT_AUTH_ROLE", "backup")])).await;
    // Where Kubernetes puts it, there is none here.
    world.run(&ALL).refused(1, "/var/run/secrets/kubernetes.io/serviceaccount/token", "");
    let path = world.sandbox.file("token", format!("{JWT}\n"));
    world.set("HAH_VAULT_AUTH_JWT_FILE", path.to_str().unwrap());
    world.backs_up_all();
    world.set("HAH_VAULT_AUTH_ROLE", "nosuch");
    let refused = "refused the Kubernetes login at auth/kubernetes with status 400: role \"nosuch\" could not be found";
    world.run(&ALL).refused(1, refused, "vault list auth/kubernetes/role");
    world.set("HAH_VAULT_AUTH_ROLE", "backup");
    world.cluster.trouble("auth/kubernetes/login", 1, Trouble::Answer(forbidden()));
    let refused = "refused the Kubernetes login at auth/kubernetes with status 403: permission denied";
    world.run(&ALL).refused(1, refused, "bound service accounts");
    world.set("HAH_VAULT_AUTH_MOUNT", "k8s");
    world.run(&ALL).refused(1, "no auth method at auth/k8s", "vault auth list");
    world.set("HAH_VAULT_AUTH_ROLE", "");
    world.run(&ALL).refused(2, "HAH_VAULT_AUTH_ROLE", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_enough() {
    let mut world = World::with_certificate().await;
    world.backs_up_all();
    world.set("HAH_VAULT_AUTH_NAME", "nosuch");
    let refused = "refused the certificate login at auth/cert with status 400: invalid certificate";
    world.run(&ALL).refused(1, refused, "VAULT_CLIENT_CERT");
    world.set("HAH_VAULT_AUTH_NAME", "backup");
    world.cluster.trouble("auth/cert/login", 1, Trouble::Answer(forbidden()));
    world.run(&ALL).refused(1, "at auth/cert with status 403: permission denied", "VAULT_CLIENT_CERT");
    // Without ours, the server does not even talk.
    world.set("VAULT_CLIENT_CERT", "");
    world.set("VAULT_CLIENT_KEY", "");
    world.run(&ALL).refused(1, "cannot connect to Vault", "VAULT_CLIENT_CERT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_name_and_a_password_are_enough_also_of_a_directory() {
    for method in ["userpass", "ldap"] {
        let mut world = World::with(password(method, "alice", "")).await;
        let path = world.sandbox.file("password", format!("{PASSWORD}\n"));
        world.set("HAH_VAULT_AUTH_PASSWORD_FILE", path.to_str().unwrap());
        world.backs_up_all();
        assert_eq!(world.vault.server.requests_of(&format!("/v1/auth/{method}/login/alice")).len(), 1);
        fs::write(&path, "wrong horse").unwrap();
        let ran = world.run(&ALL);
        let refused =
            format!("refused the password login at auth/{method} with status 400: invalid username or password");
        ran.refused(1, &refused, "check user name and password");
        assert!(!ran.stderr.contains("wrong horse"), "{ran:?}");
        world.cluster.trouble(&format!("auth/{method}/login"), 1, Trouble::Answer(forbidden()));
        world.run(&ALL).refused(1, "with status 403: permission denied", &format!("is auth/{method} the right mount"));
        world.set("HAH_VAULT_AUTH_USERNAME", "");
        world.run(&ALL).refused(2, "HAH_VAULT_AUTH_USERNAME", "");
    }
    // A directory's own words.
    let world = World::with(password("ldap", "alice", "wrong horse")).await;
    let down = json("400 Bad Request", r#"{"errors":["ldap operation failed: failed to bind as user"]}"#);
    world.cluster.trouble("auth/ldap/login", 1, Trouble::Answer(down));
    world.run(&ALL).refused(1, "ldap operation failed", "check user name and password");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_even_when_everything_is() {
    let world = World::with(password("userpass", "alice", PASSWORD)).await;
    let mut command = world.command(&ALL);
    let ran = Ran::from(command.env("HAH_VAULT_LOG", "trace").output().unwrap()).ok();
    assert!(ran.stderr.contains("logging in to Vault") && ran.stderr.contains("TRACE"), "{ran:?}");
    world.nothing_is_left(&ran);
}
