//! Vault, Consul and Nomad as sources and as targets of restores.

mod archive;
mod consul;
mod drill;
mod nomad;
mod reach;
mod restore;
mod restore_service;
mod session;
mod vault;

use std::io::Read;
use std::time::Duration;

use hah_vault::source::address::NoScheme;
use hah_vault::source::settings::{ConsulSettings, FreshToken, NomadSettings, Patience, Reach, VaultSettings};
use hah_vault::source::token::Token;
use hah_vault::source::{Address, Secret, Service, SourceError};

use crate::support::repo::fixture;

fn address(text: &str) -> Address {
    Address::parse(text, NoScheme::Refuse).unwrap().0
}

/// Short, so that tests of silence do not take long; long enough for a loaded machine.
fn reach(urls: &[&str]) -> Reach {
    let mut reach = Reach::at(urls.iter().map(|url| address(url)).collect());
    reach.patience = Patience {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(5),
        first_byte: Duration::from_millis(1500),
        gap: Duration::from_millis(700),
    };
    reach
}

fn vault_settings(urls: &[&str], token: &str) -> VaultSettings {
    VaultSettings {
        reach: reach(urls),
        token: Token::Given(Secret::from(token)),
        namespace: Some("team/".into()),
        leader_addresses: Vec::new(),
        follow_redirect: true,
        max_retries: 2,
    }
}

fn consul_settings(urls: &[&str], token: &str) -> ConsulSettings {
    ConsulSettings {
        reach: reach(urls),
        token: Token::Given(Secret::from(token)),
        datacenter: None,
        stale: false,
        namespace: None,
        partition: None,
        fresh_token: FreshToken::OLD,
    }
}

fn nomad_settings(urls: &[&str], token: &str) -> NomadSettings {
    NomadSettings {
        reach: reach(urls),
        token: Token::Given(Secret::from(token)),
        region: None,
        stale: false,
        fresh_token: FreshToken::OLD,
    }
}

fn snapshot_of(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// Facts and bytes of a snapshot, or what its reader says.
type Read_ = Result<(Vec<(&'static str, String)>, Vec<u8>), SourceError>;

/// Opens a snapshot and reads it to its end.
async fn read(service: &dyn Service) -> Read_ {
    let mut snapshot = service.open_snapshot().await?;
    let facts = snapshot.facts;
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        snapshot.body.read_to_end(&mut bytes).map(|_| bytes)
    });
    match read.await.unwrap() {
        Ok(bytes) => Ok((facts, bytes)),
        Err(error) => Err(error.downcast::<SourceError>().expect("an error of ours")),
    }
}

/// The error, which never holds the token.
async fn error_of(service: &dyn Service, token: &str) -> SourceError {
    let error = read(service).await.expect_err("an error");
    let shown = format!("{error} {error:?} {:?}", error.hint());
    assert!(token.is_empty() || !shown.contains(token), "{shown}");
    error
}

fn fact<'f>(facts: &'f [(&'static str, String)], name: &str) -> Option<&'f str> {
    facts.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
}
