//! Ways to a server: sockets, TLS, names, basic authentication, several addresses.

use super::{address, error_of, nomad_settings, read, snapshot_of, vault_settings};
use crate::support::certificates::{acceptor, file};
use crate::support::nomad_server::{self, NomadServer};
use crate::support::service_server::{Handler, Reply, Request, Server};
use crate::support::vault_server::{self, Role, TOKEN};
use hah_vault::source::address::BasicAuth;
use hah_vault::source::settings::{Authorities, ClientCertificate, Tls, VaultSettings};
use hah_vault::source::{Nomad, SourceError, Vault};
use std::sync::Arc;

async fn start(named: bool) -> Server {
    let state = vault_server::state(Role::Active, &snapshot_of("vault-00.snap"));
    Server::start_tls(vault_server::handler(&state), acceptor(named)).await
}

fn settings(server: &Server, tls: Tls) -> VaultSettings {
    let mut settings = vault_settings(&[&format!("https://{}", server.address)], TOKEN);
    settings.reach.tls = tls;
    settings
}

fn authority(name: &str) -> Authorities {
    Authorities::File(file(name))
}

fn new(settings: VaultSettings) -> Vault {
    Vault::new(settings, None, &mut |text| panic!("{text}")).unwrap()
}

#[tokio::test]
async fn a_private_authority_is_named_by_file_folder_or_bytes() {
    let server = start(false).await;
    let pem = std::fs::read_to_string(file("tls/authority.pem")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.pem"), &pem).unwrap();
    std::fs::write(folder.path().join("README"), "no certificate").unwrap();
    let folder = Authorities::Folder(folder.path().into());
    for authorities in [authority("tls/authority.pem"), folder, Authorities::Pem(pem)] {
        let tls = Tls { authorities, ..Tls::default() };
        read(&new(settings(&server, tls))).await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_authority_is_refused_with_a_hint_and_skip_verify_warns() {
    let server = start(false).await;
    for authorities in [Authorities::System, authority("tls_names/authority.pem")] {
        let tls = Tls { authorities, ..Tls::default() };
        let error = error_of(&new(settings(&server, tls)), TOKEN).await;
        assert!(matches!(error, SourceError::Connect { .. }) && !error.is_transient(), "{error}");
        assert!(error.hint().unwrap().contains("VAULT_CACERT"), "{error}");
    }
    let mut warnings = Vec::new();
    let tls = Tls { skip_verify: true, ..Tls::default() };
    let vault = Vault::new(settings(&server, tls), None, &mut |text| warnings.push(text)).unwrap();
    assert!(warnings[0].contains("NOT verified"), "{warnings:?}");
    read(&vault).await.unwrap();
}

#[tokio::test]
async fn the_name_in_the_certificate_and_a_client_certificate_are_used() {
    let server = start(true).await;
    let client = ClientCertificate { certificate: file("tls_names/client.pem"), key: file("tls_names/client.key.pem") };
    let all = Tls {
        authorities: authority("tls_names/authority.pem"),
        client: Some(client),
        server_name: Some("vault.test".into()),
        skip_verify: false,
    };
    read(&new(settings(&server, all.clone()))).await.unwrap();
    let host = format!("127.0.0.1:{}", server.address.port());
    assert!(server.requests().iter().all(|request| request.header("host") == host));
    let other_name = Tls { server_name: Some("consul.test".into()), ..all.clone() };
    let no_name = Tls { server_name: None, ..all.clone() };
    let no_client = Tls { client: None, ..all };
    for tls in [other_name, no_name, no_client] {
        let error = error_of(&new(settings(&server, tls)), TOKEN).await;
        assert!(!error.to_string().is_empty(), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_a_wrong_certificate() {
    let plain = vault_server::VaultServer::start(Role::Active, b"").await;
    let tls = Tls { authorities: authority("tls/authority.pem"), ..Tls::default() };
    let error = error_of(&new(settings(&plain.server, tls)), TOKEN).await;
    assert!(error.hint().unwrap().contains("http://"), "{error}: {:?}", error.hint());
}

#[tokio::test]
async fn https_is_never_left_for_http() {
    let plain = vault_server::VaultServer::start(Role::Active, &snapshot_of("vault-00.snap")).await;
    for role in [Role::Standby(plain.server.url()), Role::Hidden] {
        let state = vault_server::state(role, b"");
        state.lock().unwrap().redirect = Some(format!("{}{}", plain.server.url(), vault_server::PATH));
        let server = Server::start_tls(vault_server::handler(&state), acceptor(false)).await;
        let tls = Tls { authorities: authority("tls/authority.pem"), ..Tls::default() };
        let error = error_of(&new(settings(&server, tls)), TOKEN).await;
        assert!(error.to_string().contains("unencrypted"), "{error}");
    }
    assert!(plain.server.requests().is_empty());
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named_at_once() {
    let broken = |tls: Tls| {
        let mut settings = vault_settings(&["https://127.0.0.1:1"], TOKEN);
        settings.reach.tls = tls;
        Vault::new(settings, None, &mut |_| ()).expect_err("an error").to_string()
    };
    let missing = broken(Tls { authorities: Authorities::File("/nonexistent.pem".into()), ..Tls::default() });
    assert!(missing.contains("/nonexistent.pem"), "{missing}");
    let empty = broken(Tls { authorities: Authorities::Pem("no PEM".into()), ..Tls::default() });
    assert!(empty.contains("PEM"), "{empty}");
    let certificate = file("tls_names/client.pem");
    let client = ClientCertificate { key: certificate.clone(), certificate };
    let keyless = broken(Tls { client: Some(client), ..Tls::default() });
    assert!(keyless.contains("client.pem"), "{keyless}");
}

#[tokio::test]
async fn a_unix_socket_is_a_way_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let state = NomadServer::state(&snapshot_of("nomad-00.snap"));
    let _server = Server::start_unix(NomadServer::handler(&state), &path).await;
    let url = format!("unix://{}", path.display());
    let nomad = Nomad::new(nomad_settings(&[&url], nomad_server::TOKEN), None, &mut |_| ()).unwrap();
    let (facts, bytes) = read(&nomad).await.unwrap();
    assert!(bytes == snapshot_of("nomad-00.snap"));
    assert_eq!(super::fact(&facts, "address"), Some(&*url));
}

#[tokio::test]
async fn addresses_are_tried_in_turn_and_all_failures_are_told() {
    let server = NomadServer::start(&snapshot_of("nomad-00.snap")).await;
    let urls = ["http://127.0.0.1:1", &server.server.url()];
    let nomad = Nomad::new(nomad_settings(&urls, nomad_server::TOKEN), None, &mut |_| ()).unwrap();
    read(&nomad).await.unwrap();
    server.set(|s| s.has_leader = false);
    let error = error_of(&nomad, nomad_server::TOKEN).await.to_string();
    assert!(error.contains("none of 2 addresses") && error.contains("127.0.0.1:1:"), "{error}");
    assert!(error.contains("has no leader"), "{error}");
}

#[tokio::test]
async fn a_refused_token_is_not_tried_at_every_address() {
    let (one, two) = (NomadServer::start(b"").await, NomadServer::start(b"").await);
    let urls = [one.server.url(), two.server.url()];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let nomad = Nomad::new(nomad_settings(&urls, "not a token"), None, &mut |_| ()).unwrap();
    error_of(&nomad, "not a token").await;
    assert!(two.server.requests().is_empty());
}

#[tokio::test]
async fn a_prefix_and_basic_authentication_are_for_the_proxy_in_front() {
    let server = NomadServer::start(b"").await;
    let mut settings = nomad_settings(&[], nomad_server::TOKEN);
    settings.reach.place =
        hah_vault::source::settings::Place::Addresses(vec![address(&format!("{}/nomad", server.server.url()))]);
    settings.reach.basic_auth = Some(BasicAuth { user: "me".into(), password: Some("pass".into()) });
    error_of(&Nomad::new(settings, None, &mut |_| ()).unwrap(), "pass").await;
    for request in server.server.requests() {
        assert!(request.path.starts_with("/nomad/v1/"), "{}", request.path);
        assert_eq!(request.header("authorization"), "Basic bWU6cGFzcw==");
    }
}

#[tokio::test]
async fn an_error_page_that_repeats_basic_authentication_gives_nothing_away() {
    struct Echo;
    impl Handler for Echo {
        fn answer(&self, request: &Request) -> Reply {
            Reply::text("403 Forbidden", "text/plain", &format!("you sent {:?}", request.headers))
        }
    }
    let server = Server::start(Arc::new(Echo)).await;
    let mut settings = nomad_settings(&[&server.url()], nomad_server::TOKEN);
    settings.reach.basic_auth = Some(BasicAuth { user: "me".into(), password: Some("pass".into()) });
    let error = error_of(&Nomad::new(settings, None, &mut |_| ()).unwrap(), "pass").await.to_string();
    assert!(error.contains("Basic [redacted]") && !error.contains("bWU6cGFzcw"), "{error}");
}
