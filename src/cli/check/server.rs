//! Tests of one source: its addresses, the login, the token, what it may do.

use super::super::context::Context;
use super::super::human;
use super::super::servers::{self, Sessions};
use super::finding::{Finding, Verdict};
use super::{Found, is_in_catalog};
use crate::config::{Kind, Reference, Section};
use crate::source::inspect::{Permission, Sight};
use crate::source::settings::FreshToken;
use crate::source::vault::SessionError;
use crate::source::vault::session::VaultSession;
use crate::source::{Consul, Nomad, SourceError};
use std::path::Path;
use std::sync::Arc;

const SNAPSHOT: &str = "sys/storage/raft/snapshot";
const POLICY: &str = "add to its policy: path \"sys/storage/raft/snapshot\" { capabilities = [\"read\"] }";
/// A token that lives shorter than this, and cannot be renewed, may not last for a backup.
const TTL_MIN_S: u64 = 15 * 60;

/// Tests a source; `is_source`: snapshots are taken of it.
pub(super) async fn check(context: &Context, section: &Section, is_source: bool) -> Found {
    let of = section.source_name();
    let mut found = Found::default();
    let mut warnings = Vec::new();
    if let Err(error) = servers::validate(section, &mut |text| warnings.push(text)) {
        found.push(Finding::refused(&of, "settings", &error));
        return found;
    }
    for text in warnings {
        found.push(Finding::new(&of, "settings", Verdict::Warning, text));
    }
    let host_s = context.world.host_unix_ms() / 1000;
    let mut group = Group { of, section, sessions: context.servers.sessions(), host_s, found };
    match section.kind {
        Kind::Vault => group.vault(is_source).await,
        Kind::Consul => group.consul().await,
        Kind::Nomad => group.nomad().await,
        Kind::File => group.file(),
        Kind::Repository | Kind::Agent => {}
    }
    group.found
}

struct Group<'c> {
    of: String,
    section: &'c Section,
    sessions: &'c Arc<Sessions>,
    host_s: i64,
    found: Found,
}

impl Group<'_> {
    fn ok(&mut self, what: &str, words: impl Into<String>) {
        self.found.push(Finding::ok(&self.of, what, words));
    }

    fn tell(&mut self, what: &str, verdict: Verdict, words: impl Into<String>) {
        self.found.push(Finding::new(&self.of, what, verdict, words));
    }

    fn refused(&mut self, what: &str, error: &SourceError) {
        self.found.push(Finding::refused(&self.of, what, error));
    }

    fn file(&mut self) {
        let Some(path) = self.section.text("path") else {
            return self.tell("path", Verdict::Failed, "the block has no path");
        };
        match std::fs::File::open(Path::new(path)).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_dir() => self.tell("path", Verdict::Failed, format!("{path} is a directory")),
            Ok(metadata) => self.ok("path", format!("{path} can be read, {}", human::size(metadata.len()))),
            Err(error) => self.tell("path", Verdict::Failed, format!("cannot read {path}: {error}")),
        }
    }

    /// Tells of each address; whether one of them will do.
    fn sights(&mut self, sights: Result<Vec<Sight>, SourceError>) -> bool {
        let sights = match sights {
            Ok(sights) => sights,
            Err(error) => {
                self.refused("addresses", &error);
                return false;
            }
        };
        if is_in_catalog(self.section) {
            self.ok("catalog", format!("Consul lists {} of them", sights.len()));
        }
        let is_good = |sight: &Sight| sight.seen.as_ref().is_ok_and(|seen| seen.fault.is_none());
        let is_any_good = sights.iter().any(is_good);
        for Sight { address, seen } in sights {
            let what = format!("address {address}");
            let seen = match seen {
                Ok(seen) => seen,
                Err(error) => {
                    self.refused(&what, &error);
                    continue;
                }
            };
            if let Some(unix_s) = seen.unix_s {
                self.found.clocks.push((self.of.clone(), unix_s - self.host_s));
            }
            if let Some(fault) = &seen.fault {
                let finding = Finding::refused(&self.of, what, fault);
                // A sealed node is no harm to a backup as long as another is active.
                let verdict = if is_any_good { Verdict::Warning } else { Verdict::Failed };
                self.found.push(Finding { verdict, ..finding });
                continue;
            }
            let mut words = seen.state;
            words.extend(seen.version.map(|version| format!(", version {version}")));
            words.extend(seen.cluster.map(|cluster| format!(", {cluster}")));
            words.push_str(if address.is_https() { ", TLS" } else { "" });
            self.ok(&what, words);
        }
        if !is_any_good {
            self.tell("token", Verdict::Note, "not tested: no address will do");
        }
        is_any_good
    }

    async fn vault(&mut self, is_source: bool) {
        let vault = match Arc::clone(self.sessions).vault(self.section.clone()).await {
            Ok(vault) => vault,
            Err(error) => return self.refused("addresses", &error),
        };
        if !self.sights(vault.inspect().await) {
            return;
        }
        if is_source {
            match vault.find_leader().await {
                Ok(address) => self.ok("leader", address.to_string()),
                Err(error) => self.refused("leader", &error),
            }
        }
        let session = match Arc::clone(self.sessions).session(self.section.clone()).await {
            Ok(session) => session,
            Err(error) => return self.refused("login", &error),
        };
        match session.token().await {
            Ok(_) => {}
            // Vault's agent may add one.
            Err(SourceError::Session(SessionError::NoToken)) if matches!(session.lookup_self().await, Ok(Some(_))) => {}
            Err(error) => return self.refused("login", &error),
        }
        self.token(&session).await;
        if is_source {
            self.capabilities(&session).await;
        }
    }

    async fn token(&mut self, session: &VaultSession) {
        let method = self.section.text("auth").unwrap_or("token").to_owned();
        let facts = match session.lookup_self().await {
            Err(error) => return self.refused("login", &error),
            // The login's own was good a moment ago; one that was given may be anything.
            Ok(None) if method == "token" && self.is_unknown(session).await => {
                let words = "by token; Vault does not know it, or lets it ask nothing about itself";
                let hint = "has it expired, or been revoked? a good one has the policy `default`, which lets it look";
                return self.found.push(Finding::new(&self.of, "login", Verdict::Failed, words).with_hint(hint));
            }
            Ok(None) => {
                let words = format!("by {method}; the token may not look at itself");
                let hint = "the policy `default` allows auth/token/lookup-self";
                return self.found.push(Finding::new(&self.of, "login", Verdict::Note, words).with_hint(hint));
            }
            Ok(Some(facts)) => facts,
        };
        let lasts = match facts.ttl_s {
            0 => "never expires".to_owned(),
            ttl_s => format!("lasts {}", human::span(ttl_s)),
        };
        let renewable = if facts.is_renewable { ", renewable" } else { "" };
        let words = format!("by {method}; the token {lasts}{renewable}; policies: {}", facts.policies.join(", "));
        let finding = if (1..TTL_MIN_S).contains(&facts.ttl_s) && !facts.is_renewable {
            let hint = "a long backup may outlive it: give it a longer or renewable one";
            Finding::new(&self.of, "login", Verdict::Warning, words).with_hint(hint)
        } else if facts.policies.iter().any(|policy| policy == "root") {
            let hint = "a backup needs no root token: make a policy with what the README lists";
            Finding::new(&self.of, "login", Verdict::Warning, words).with_hint(hint)
        } else {
            Finding::ok(&self.of, "login", words)
        };
        self.found.push(finding);
        if facts.num_uses > 0 {
            let words = format!("the token is good for {} more requests", facts.num_uses);
            self.tell("token", Verdict::Note, words);
        }
    }

    /// Whether Vault does not even tell what the token may do.
    async fn is_unknown(&self, session: &VaultSession) -> bool {
        session.capabilities(&[SNAPSHOT]).await.is_ok_and(|found| found.is_empty())
    }

    async fn capabilities(&mut self, session: &VaultSession) {
        let capabilities = match session.capabilities(&[SNAPSHOT]).await {
            Ok(capabilities) => capabilities.get(SNAPSHOT).cloned().unwrap_or_default(),
            Err(error) => return self.refused("permission", &error),
        };
        let has = |wanted: &[&str]| capabilities.iter().any(|capability| wanted.contains(&capability.as_str()));
        let finding = match () {
            () if capabilities.is_empty() => {
                let words = format!("Vault does not tell whether the token may read {SNAPSHOT}");
                Finding::new(&self.of, "permission", Verdict::Note, words).with_hint(POLICY)
            }
            () if !has(&["read", "root"]) => {
                let words = format!("the token may not read {SNAPSHOT}: {}", capabilities.join(", "));
                Finding::new(&self.of, "permission", Verdict::Failed, words).with_hint(POLICY)
            }
            () if has(&["update", "root"]) => Finding::ok(&self.of, "permission", "snapshots, and restores too"),
            () => Finding::ok(&self.of, "permission", "snapshots, no restores"),
        };
        self.found.push(finding);
    }

    /// What Vault makes or has: told apart from what the server says to it.
    fn issued<S>(&mut self, server: Result<S, SourceError>) -> Option<S> {
        let reference = self.section.secret("token").filter(|reference| reference.needs_vault()).cloned();
        match (server, reference) {
            (Err(error), _) => {
                self.refused("token", &error);
                None
            }
            (Ok(server), Some(reference)) => {
                self.ok("token", format!("from Vault: {reference}"));
                Some(server)
            }
            (Ok(server), None) => Some(server),
        }
    }

    async fn consul(&mut self) {
        let plain = servers::plain_consul(self.section);
        let sights = match &plain {
            Ok(consul) => consul.inspect().await,
            Err(_) => Ok(Vec::new()),
        };
        if !self.sights(sights) {
            return;
        }
        let server = Arc::clone(self.sessions).consul(self.section.clone()).await;
        let Some(consul) = self.issued(server) else { return };
        self.permission(|| Consul::permission(&consul)).await;
    }

    async fn nomad(&mut self) {
        let sights = match Arc::clone(self.sessions).plain_nomad(self.section.clone()).await {
            Ok(nomad) => nomad.inspect().await,
            Err(error) => Err(error),
        };
        if !self.sights(sights) {
            return;
        }
        let server = Arc::clone(self.sessions).nomad(self.section.clone()).await;
        let Some(nomad) = self.issued(server) else { return };
        self.permission(|| Nomad::permission(&nomad)).await;
    }

    /// Asks what a token may do; again for a while if it is so new that the server may not know it yet.
    async fn permission<F: Future<Output = Result<Permission, SourceError>>>(&mut self, ask: impl Fn() -> F) {
        let is_new = matches!(self.section.secret("token"), Some(Reference::Creds(_)));
        let fresh = if is_new { FreshToken::JUST_MADE } else { FreshToken::OLD };
        let mut asked = ask().await;
        for _ in 0..fresh.retries {
            if matches!(asked, Ok(Permission::Granted(_) | Permission::Unknown(_))) {
                break;
            }
            tokio::time::sleep(fresh.delay).await;
            asked = ask().await;
        }
        match asked {
            Ok(Permission::Granted(words)) => self.ok("permission", words),
            Ok(Permission::Unknown(words)) => self.tell("permission", Verdict::Note, words),
            Ok(Permission::Denied(words)) => {
                let hint = match self.section.kind {
                    Kind::Consul => "the token needs a policy with acl = \"write\": a management token",
                    _ => "a management token, or from 1.11.3 on operator { capabilities = [\"snapshot-save\"] }",
                };
                self.found.push(Finding::new(&self.of, "permission", Verdict::Failed, words).with_hint(hint));
            }
            Err(error) => self.refused("permission", &error),
        }
    }
}
