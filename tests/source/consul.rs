//! A real Consul, where there is one.

use super::{consul_settings, error_of, fact, read, snapshot_of, vault_settings};
use crate::support::consul_server::{ConsulServer, consul};
use crate::support::repo::TestRepository;
use crate::support::vault_server::{Role, TOKEN, VaultServer};
use hah_vault::archive::Cancel;
use hah_vault::archive::backup::{BackupOptions, BackupReport, Input, SourceSpec, backup};
use hah_vault::source::catalog::Query;
use hah_vault::source::settings::{Authorities, ClientCertificate, FreshToken, Place, Tls};
use hah_vault::source::{Consul, Service, ServiceKind, SourceError, Target, Vault};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const MASTER: &str = "11111111-2222-3333-4444-555555555555";
const MASTER_OF_THE_TARGET: &str = "aaaaaaaa-1111-2222-3333-bbbbbbbbbbbb";

fn source(servers: &[&ConsulServer], token: &str) -> Consul {
    let urls: Vec<String> = servers.iter().map(|server| server.url()).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let mut settings = consul_settings(&urls, token);
    // A real server on a loaded machine.
    settings.reach.patience.first_byte = Duration::from_secs(60);
    settings.reach.patience.gap = Duration::from_secs(20);
    settings.reach.patience.answer = Duration::from_secs(20);
    Consul::new(settings, &mut |text| panic!("{text}")).unwrap()
}

async fn back_up(test: &TestRepository, consul: Consul) -> BackupReport {
    let spec = SourceSpec { name: "consul".parse().unwrap(), input: Input::Service(Arc::new(consul)) };
    let options = BackupOptions::default();
    let mut outcomes = backup(&test.repository, vec![spec], &options, &Cancel::default()).await.unwrap();
    outcomes.remove(0).1.unwrap()
}

#[tokio::test]
async fn a_destroyed_consul_is_restored_with_every_key_service_session_and_token() {
    let Some(program) = consul() else { return };
    let mut server = ConsulServer::start(&program, MASTER).await;
    let (token, _) = server.fill().await;
    let before = server.dump(MASTER).await;
    let test = TestRepository::in_memory().await;
    let report = back_up(&test, source(&[&server], &token)).await;
    let label = |key: &str| report.manifest.labels.iter().find(|l| l.key == key).map(|l| l.value.clone());
    let index = report.manifest.raft.as_ref().unwrap().index;
    assert_eq!(label("raft-index-header"), Some(index.to_string()));
    // This token may not look at the agent; the master token may.
    assert_eq!(label("server-version"), None);
    let report = back_up(&test, source(&[&server], MASTER)).await;
    let label = |key: &str| report.manifest.labels.iter().find(|l| l.key == key).map(|l| l.value.as_str());
    assert_eq!((label("server-version"), label("cluster-name")), (Some("1.8.7"), Some("dc1")));
    server.kill();
    drop(server);

    let (archive, _) = test.restore_latest("consul").await.unwrap();
    let fresh = ConsulServer::start(&program, MASTER_OF_THE_TARGET).await;
    let target = source(&[&fresh], MASTER_OF_THE_TARGET);
    let preflight = target.preflight().await.unwrap();
    assert_eq!(preflight.version.as_deref(), Some("1.8.7"));
    assert!(preflight.index.unwrap() < index);
    let (mut writer, restoring) = target.restore(&preflight.address, false).await.unwrap();
    let writing = tokio::task::spawn_blocking(move || writer.write_all(&archive).and_then(|()| writer.finish()));
    let (written, answered) = tokio::join!(writing, restoring.wait());
    written.unwrap().unwrap();
    answered.unwrap();
    target.settle(&preflight.address, Duration::from_secs(60)).await.unwrap();

    let after = fresh.dump(MASTER).await;
    for part in ["keys", "services", "sessions", "policies"] {
        assert_eq!(before[part], after[part], "{part}");
    }
    let (old, new) = (before["tokens"].as_array().unwrap(), after["tokens"].as_array().unwrap());
    assert!(old.len() >= 4 && old.iter().all(|token| new.contains(token)));
    // The target's own configured master token is there too (facts 8).
    assert_eq!(new.len(), old.len() + 1);
}

#[tokio::test]
async fn tokens_that_may_not_are_refused_with_the_policy_that_is_needed() {
    let Some(program) = consul() else { return };
    let server = ConsulServer::start(&program, MASTER).await;
    let (_, low) = server.fill().await;
    let error = error_of(&source(&[&server], &low), &low).await;
    assert!(error.to_string().contains("Permission denied"), "{error}");
    assert!(error.hint().unwrap().contains("acl = \"write\""));
    let unknown = "00000000-0000-0000-0000-00000000dead";
    let error = error_of(&source(&[&server], unknown), unknown).await;
    assert!(error.hint().unwrap().contains("does not know the token"), "{error}");
    let mut settings = consul_settings(&[&server.url()], unknown);
    settings.fresh_token = FreshToken { retries: 2, delay: Duration::from_millis(10) };
    error_of(&Consul::new(settings, &mut |_| ()).unwrap(), unknown).await;
    let mut settings = consul_settings(&[&server.url()], MASTER);
    settings.datacenter = Some("nosuch".into());
    let error = error_of(&Consul::new(settings, &mut |_| ()).unwrap(), MASTER).await;
    assert!(error.hint().unwrap().contains("data center") && !error.is_transient(), "{error}");

    // The catalog: addresses for those who may see them, an empty list for the others.
    let query = Query::parse("consul://service/web?tag=v1.3&scheme=https", ServiceKind::Vault).unwrap();
    let found = source(&[&server], MASTER).instances(&query).await.unwrap();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["https://10.0.0.9:8003"]);
    let error = source(&[&server], &low).instances(&query).await.expect_err("nothing");
    assert!(matches!(error, SourceError::NothingListed { .. }), "{error}");
    assert!(error.hint().unwrap().contains("node:read"));
}

#[tokio::test]
async fn a_consul_behind_tls_with_client_certificates_is_reached() {
    let Some(program) = consul() else { return };
    let server = ConsulServer::start(&program, MASTER).await;
    let file = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls_names").join(name);
    let mut settings = consul_settings(&[&format!("https://127.0.0.1:{}", server.https_port)], MASTER);
    let client = ClientCertificate { certificate: file("client.pem"), key: file("client.key.pem") };
    settings.reach.tls = Tls {
        authorities: Authorities::File(file("authority.pem")),
        client: Some(client),
        server_name: Some("vault.test".into()),
        skip_verify: false,
    };
    read(&Consul::new(settings.clone(), &mut |_| ()).unwrap()).await.unwrap();
    settings.reach.tls.client = None;
    error_of(&Consul::new(settings, &mut |_| ()).unwrap(), MASTER).await;
}

#[tokio::test]
async fn a_consul_killed_in_mid_stream_is_an_error() {
    let Some(program) = consul() else { return };
    let mut server = ConsulServer::start(&program, MASTER).await;
    let mut noise = vec![0; 400 << 10];
    // More than our memory and the sockets of both sides can hold.
    for number in 0..100_u8 {
        blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut noise);
        server.put(&format!("/v1/kv/noise/{number}"), noise.clone()).await;
    }
    let mut snapshot = source(&[&server], MASTER).open_snapshot().await.unwrap();
    let mut snapshot = tokio::task::spawn_blocking(move || {
        snapshot.body.read_exact(&mut [0; 100_000]).unwrap();
        snapshot
    })
    .await
    .unwrap();
    server.kill();
    let rest = tokio::task::spawn_blocking(move || std::io::copy(&mut snapshot.body, &mut std::io::sink()));
    let error = rest.await.unwrap().expect_err("broken off").downcast::<SourceError>().unwrap();
    assert!(matches!(error, SourceError::Broken { .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_follower_gives_the_leaders_snapshot_and_the_next_leader_does_when_that_one_is_killed() {
    let Some(program) = consul() else { return };
    let mut servers = ConsulServer::start_three(&program, MASTER).await;
    servers[0].fill().await;
    let leader = servers[0].get("/v1/status/leader", MASTER).await;
    let leader = leader.as_str().unwrap().to_owned();
    let is_leader = |server: &ConsulServer| leader == format!("127.0.0.1:{}", server.rpc_port);
    let leader_at = servers.iter().position(is_leader).unwrap();
    let follower = &servers[(leader_at + 1) % 3];
    let test = TestRepository::in_memory().await;
    let before = back_up(&test, source(&[follower], MASTER)).await;
    let mut settings = consul_settings(&[&follower.url()], MASTER);
    settings.stale = true;
    let (facts, _) = read(&Consul::new(settings, &mut |_| ()).unwrap()).await.unwrap();
    assert!(fact(&facts, "raft-index-header").is_some());

    servers[leader_at].kill();
    // The dead one first: its address refuses connections, the others elect meanwhile and answer 500 until then.
    let all = [leader_at, (leader_at + 1) % 3, (leader_at + 2) % 3].map(|at| &servers[at]);
    let after = back_up(&test, source(&all, MASTER)).await;
    let index = |report: &BackupReport| report.manifest.raft.as_ref().unwrap().index;
    assert!(index(&after) >= index(&before));
}

#[tokio::test]
async fn vault_is_found_through_the_catalog_and_backed_up() {
    let Some(program) = consul() else { return };
    let server = ConsulServer::start(&program, MASTER).await;
    let vault = VaultServer::start(Role::Active, &snapshot_of("vault-02.snap")).await;
    let port = vault.server.address.port();
    let service = serde_json::json!({"Node": "vault-host", "Address": "127.0.0.1",
        "Service": {"ID": "vault-1", "Service": "vault", "Tags": ["active"], "Address": "", "Port": port}});
    server.put("/v1/catalog/register", service.to_string().into()).await;
    let place = |query: &str| Place::Catalog(Query::parse(query, ServiceKind::Vault).unwrap());
    let mut settings = vault_settings(&[], TOKEN);
    settings.reach.place = place("consul://service/vault?tag=active&scheme=http");
    let catalog = Some(Arc::new(source(&[&server], MASTER)));
    let found = Vault::new(settings.clone(), catalog.clone(), &mut |_| ()).unwrap();
    let (facts, bytes) = read(&found).await.unwrap();
    assert!(bytes == snapshot_of("vault-02.snap"));
    assert_eq!(fact(&facts, "address"), Some(&*vault.server.url()));
    let error = error_of(&Vault::new(settings.clone(), None, &mut |_| ()).unwrap(), TOKEN).await;
    assert!(error.to_string().contains("no Consul is configured"), "{error}");
    settings.reach.place = place("consul://service/vault?tag=standby");
    let error = error_of(&Vault::new(settings, catalog, &mut |_| ()).unwrap(), TOKEN).await;
    assert!(error.to_string().contains("vault with tag standby"), "{error}");
}
