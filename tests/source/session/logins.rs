//! Every way in, and every refusal.

use super::*;
use crate::support::certificates::file;
use crate::support::vault_cluster::{Method, ROOT};
use hah_vault::source::settings::{Authorities, ClientCertificate, Tls};

#[tokio::test]
async fn every_way_in_gives_a_token_that_is_revoked_at_the_end() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{JWT}\n")).unwrap();
    let kubernetes = Login::Kubernetes {
        mount: "/auth/kubernetes/".into(),
        role: "backup".into(),
        jwt: Token::File { path: file.path().into(), optional: false },
    };
    let ldap = Login::Userpass { mount: "ldap".into(), username: "alice".into(), password: given(PASSWORD) };
    let logins = [
        ("approle", approle()),
        ("jwt", jwt("jwt", Some("backup"), JWT)),
        ("jwt-nomad", jwt("jwt-nomad", None, JWT)),
        ("kubernetes", kubernetes),
        ("userpass", userpass(PASSWORD)),
        ("ldap", ldap),
    ];
    for (mount, login) in logins {
        let (cluster, server) = start().await;
        let session = open(&server, login);
        assert!(server.server.requests().is_empty(), "it connects to nothing before it is needed");
        let token = session.token().await.unwrap();
        assert_eq!(session.token().await.unwrap(), token, "one login is enough");
        close_clean(&session, &cluster).await;
        let name = format!("token 1 of auth/{mount}");
        assert_eq!(cluster.log(), [format!("{name} made"), format!("{name} revoked")]);
        for request in server.server.requests() {
            assert_eq!((request.header("x-vault-request"), request.query.as_str()), ("true", ""));
        }
        assert_no_secret(&cluster, &[format!("{session:?}")]);
    }
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let cluster = Cluster::new();
    let VaultServer { server, .. } = VaultServer::start_tls_in(&cluster, Role::Active, b"").await;
    let mut settings = settings(&[&format!("https://{}", server.address)]);
    let client = ClientCertificate { certificate: file("tls_names/client.pem"), key: file("tls_names/client.key.pem") };
    settings.reach.tls = Tls {
        authorities: Authorities::File(file("tls_names/authority.pem")),
        client: Some(client),
        server_name: Some("vault.test".into()),
        ..Tls::default()
    };
    let session = open_with(settings, Login::Cert { mount: "cert".into(), name: Some("backup".into()) });
    session.token().await.unwrap();
    close_clean(&session, &cluster).await;
    // Over plain HTTP there is none to show.
    let plain = node(&cluster, Role::Active).await;
    let session = open(&plain, Login::Cert { mount: "cert".into(), name: None });
    let error = session.token().await.unwrap_err();
    assert!(error.hint().unwrap().contains("VAULT_CLIENT_CERT"), "{error}");
}

#[tokio::test]
async fn a_role_without_secret_ids_needs_none() {
    let (cluster, server) = start().await;
    cluster.set(|state| {
        if let Some(Method::AppRole(role)) = state.methods.get_mut("approle") {
            role.wants_secret_id = false;
        }
    });
    let Login::AppRole { mount, role_id, .. } = approle() else { unreachable!() };
    let session = open(&server, Login::AppRole { mount, role_id, secret_id: None, wrapped: false, role_name: None });
    session.token().await.unwrap();
    close_clean(&session, &cluster).await;
}

#[tokio::test]
async fn refusals_are_told_in_vaults_words_with_a_hint_and_without_secrets() {
    let other = "00000000-1111-2222-3333-444444444444";
    let approle = |role_id: &str, secret_id: &str| Login::AppRole {
        mount: "approle".into(),
        role_id: given(role_id),
        secret_id: Some(given(secret_id)),
        wrapped: false,
        role_name: None,
    };
    for (login, words, hint) in [
        (approle(other, SECRET_ID), "invalid role ID", "role-id"),
        (approle(ROLE_ID, other), "invalid secret id", "new one made"),
        (jwt("jwt", Some("backup"), "not.a.jwt"), "token is expired", "renew its file"),
        (jwt("jwt", Some("nosuch"), JWT), "role \"nosuch\" could not be found", "auth/jwt/role"),
        (jwt("jwt", None, JWT), "missing role", "auth/jwt/role"),
        (userpass("wrong horse"), "invalid username or password", "password"),
    ] {
        let (cluster, server) = start().await;
        let session = open(&server, login);
        let error = session.token().await.unwrap_err();
        assert!(error.hint().unwrap().contains(hint) && !error.is_transient(), "{error} {:?}", error.hint());
        assert_no_secret(&cluster, &shown(&error));
        let SessionError::LoginRefused { message, status: 400, .. } = reason(error) else { panic!("another error") };
        assert!(message.contains(words), "{message}");
        assert_eq!(server.server.requests().len(), 1, "a refusal is not repeated");
        assert_eq!(session.close().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_login_where_nothing_is_mounted_is_told_apart() {
    let (_, server) = start().await;
    let error = open(&server, jwt("nosuch", None, JWT)).token().await.unwrap_err();
    assert!(error.to_string().contains("no auth method at auth/nosuch"), "{error}");
    assert!(error.hint().unwrap().contains("jwt-nomad"));
}

#[tokio::test]
async fn a_second_factor_is_refused_and_named() {
    let (cluster, server) = start().await;
    cluster.set(|state| state.mfa = true);
    let session = open(&server, approle());
    assert!(matches!(reason(session.token().await.unwrap_err()), SessionError::Mfa { .. }));
    close_clean(&session, &cluster).await;
}

#[tokio::test]
async fn files_are_read_again_at_each_login() {
    let (cluster, server) = start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "an.old.jwt").unwrap();
    let jwt = Token::File { path: file.path().into(), optional: false };
    let session = open(&server, Login::Jwt { mount: "jwt".into(), role: Some("backup".into()), jwt });
    session.token().await.unwrap_err();
    std::fs::write(file.path(), JWT).unwrap();
    session.token().await.unwrap();
    std::fs::remove_file(file.path()).unwrap();
    session.token().await.expect("the token is still good");
    close_clean(&session, &cluster).await;
    let error = open(
        &server,
        Login::Jwt { mount: "jwt".into(), role: None, jwt: Token::File { path: file.path().into(), optional: false } },
    );
    let error = error.token().await.unwrap_err();
    assert!(error.to_string().contains("cannot read the JWT file"), "{error}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_anything_is_connected_to() {
    let refused = |login: Login| {
        let settings = settings(&["http://127.0.0.1:1"]);
        VaultSession::new(settings, login, None, &mut |_| ()).expect_err("refused").to_string()
    };
    assert!(refused(jwt("", None, JWT)).contains("mount"));
    assert!(refused(jwt("../sys", None, JWT)).contains("mount"));
    let Login::AppRole { mount, role_id, .. } = approle() else { unreachable!() };
    let nothing = Login::AppRole { mount, role_id, secret_id: None, wrapped: true, role_name: None };
    assert!(refused(nothing).contains("wrapping token"));
    let mut settings = settings(&["http://127.0.0.1:1"]);
    settings.namespace = Some("a\nb".into());
    let error = VaultSession::new(settings, approle(), None, &mut |_| ()).expect_err("refused");
    assert!(error.to_string().contains("namespace"), "{error}");
}

#[tokio::test]
async fn a_given_token_is_used_and_neither_revoked_nor_missed() {
    let (cluster, server) = start().await;
    let session = open(&server, Login::Token(given(ROOT)));
    assert_eq!(session.token().await.unwrap().expose(), ROOT);
    session.secrets("kv1/app").await.unwrap();
    assert_eq!(session.close().await, [""; 0]);
    assert!(cluster.log().is_empty());
    let none = open(&server, Login::Token(Token::None));
    assert!(matches!(reason(none.token().await.unwrap_err()), SessionError::NoToken));
    // An agent of Vault may add a token: so it is asked all the same.
    let error = none.secrets("kv1/app").await.unwrap_err();
    assert!(error.hint().unwrap().contains("VAULT_TOKEN"), "{error}");
}

#[tokio::test]
async fn a_wrapped_secret_id_is_looked_at_and_then_unwrapped_with_its_own_token_alone() {
    for role_name in [Some("backup"), None] {
        let (cluster, server) = start().await;
        let wrapping = cluster.wrap("auth/approle/role/backup/secret-id");
        let session = open(&server, wrapped(&wrapping, role_name));
        session.token().await.unwrap();
        let paths: Vec<String> = server.server.requests().iter().map(|request| request.path.clone()).collect();
        assert_eq!(paths, ["/v1/sys/wrapping/lookup", "/v1/sys/wrapping/unwrap", "/v1/auth/approle/login"]);
        let requests = server.server.requests();
        assert_eq!(requests[0].header("x-vault-token"), "");
        assert_eq!((requests[1].header("x-vault-token"), requests[1].body.as_slice()), (wrapping.as_str(), &b""[..]));
        close_clean(&session, &cluster).await;
    }
}

#[tokio::test]
async fn a_wrapping_token_of_something_else_is_not_unwrapped() {
    for (path, role_name) in [
        ("auth/approle/role/other/secret-id", Some("backup")),
        ("auth/token/create", None),
        ("sys/wrapping/wrap", Some("backup")),
    ] {
        let (cluster, server) = start().await;
        let wrapping = cluster.wrap(path);
        let session = open(&server, wrapped(&wrapping, role_name));
        let error = session.token().await.unwrap_err();
        assert!(error.to_string().contains(path) && error.hint().unwrap().contains("swapped"), "{error}");
        assert!(server.server.requests_of("/v1/sys/wrapping/unwrap").is_empty());
        assert!(cluster.lock().wrapped.contains_key(&wrapping));
        assert_no_secret(&cluster, &shown(&error));
    }
}

#[tokio::test]
async fn a_used_wrapping_token_may_have_been_intercepted() {
    let (cluster, server) = start().await;
    let wrapping = cluster.wrap("auth/approle/role/backup/secret-id");
    cluster.set(|state| state.wrapped.clear());
    let error = open(&server, wrapped(&wrapping, None)).token().await.unwrap_err();
    assert!(error.hint().unwrap().contains("may have been intercepted"), "{error}");
    assert_no_secret(&cluster, &shown(&error));
    assert!(matches!(reason(error), SessionError::WrappingInvalid));
}

#[tokio::test]
async fn a_second_login_uses_the_secret_id_that_was_unwrapped() {
    let (cluster, server) = start().await;
    let wrapping = cluster.wrap("auth/approle/role/backup/secret-id");
    let session = open(&server, wrapped(&wrapping, None));
    session.secrets("kv1/app").await.unwrap();
    cluster.end_tokens();
    session.secrets("kv1/app").await.unwrap();
    assert_eq!(server.server.requests_of("/v1/sys/wrapping/unwrap").len(), 1);
    let notes = session.close().await;
    assert!(notes.len() == 1 && notes[0].contains("another login was needed"), "{notes:?}");
    assert_eq!(cluster.leaks(), [""; 0]);
}

#[tokio::test]
async fn everything_of_the_login_is_asked_in_its_namespace() {
    let (cluster, server) = start().await;
    cluster.set(|state| state.namespace = Some("team/".into()));
    let mut settings = settings(&[&server.server.url()]);
    settings.namespace = Some("team/".into());
    let session = open_with(settings, approle());
    session.secrets("secret/app/s3").await.unwrap();
    session.consul_token("consul/creds/backup").await.unwrap();
    close_clean(&session, &cluster).await;
    assert!(server.server.requests().iter().all(|request| request.header("x-vault-namespace") == "team/"));
}

/// What is logged at the most verbose level.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// One thread, so that the log of this test is that of its thread.
#[tokio::test(flavor = "current_thread")]
async fn no_secret_is_logged_at_the_most_verbose_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let (cluster, server) = start().await;
    let wrapping = cluster.wrap("auth/approle/role/backup/secret-id");
    let logins = [wrapped(&wrapping, None), jwt("jwt", Some("backup"), JWT), userpass(PASSWORD), userpass("wrong")];
    for login in logins {
        let session = open(&server, login);
        let _ = session.secrets("secret/app/s3").await;
        let _ = session.consul_token("consul/creds/backup").await;
        let _ = session.consul_token("consul/creds/nosuch").await;
        let _ = session.aws_credentials("aws/sts/backup").await;
        cluster.end_tokens();
        let _ = session.secrets("kv1/app").await;
        session.close().await;
    }
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("logging in to Vault") && logged.contains("Vault made credentials"), "{logged}");
    assert_no_secret(&cluster, std::slice::from_ref(&logged));
    assert!(!logged.contains("example secret") && !logged.contains(&wrapping));
}
