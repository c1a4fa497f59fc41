//! Tests of the store, the repository in it, and the keys on this host.

use super::super::context::{Context, Need};
use super::super::error::CliError;
use super::super::files::{self, IDENTITY_FILE};
use super::Found;
use super::finding::{Finding, Verdict};
use crate::archive::repository::read_info;
use crate::keys::Keyring;
use crate::store::{Put, Store, StoreError};
use bytes::Bytes;

const OF: &str = "store";
const REPOSITORY: &str = "repository";

pub(super) async fn check(context: &Context) -> Found {
    let mut found = Found::default();
    let store = match context.store().await {
        Ok(store) => store,
        Err(error) => {
            found.push(Finding::failed(OF, "settings", &error));
            return found;
        }
    };
    let place = store.describe();
    match store.list("keys/").await {
        Ok(_) => found.push(Finding::ok(OF, "list", place)),
        Err(error) => {
            // Without an answer the other tests would only wait for one too.
            let is_away = error.is_transient();
            found.push(failed("list", error));
            if is_away {
                return found;
            }
        }
    }
    write(store.as_ref(), context.world.random_u32(), &mut found).await;
    match store.now().await {
        Ok(now) => found.clocks.push((OF.into(), (now.unix_ms - context.world.host_unix_ms()) / 1000)),
        Err(error) => found.push(failed("time", error)),
    }
    repository(context, store.as_ref(), &mut found).await;
    identity(context, &mut found);
    found
}

fn failed(what: &str, error: StoreError) -> Finding {
    Finding::failed(OF, what, &CliError::from(error))
}

/// Put, put again, get and delete of a small object.
async fn write(store: &dyn Store, random: u32, found: &mut Found) {
    let key = format!("probe/{random:08x}");
    let (first, second) = (Bytes::from_static(b"first\n"), Bytes::from_static(b"second\n"));
    if let Err(error) = store.put_if_absent(&key, first.clone()).await {
        return found.push(failed("put", error));
    }
    match store.put_if_absent(&key, second).await {
        Ok(Put::Existed) => found.push(Finding::ok(OF, "put", "objects are written, and never over others")),
        Ok(Put::Created) => {
            let error = StoreError::Unsupported { store: store.describe(), feature: "put-if-absent (If-None-Match)" };
            found.push(failed("put", error));
        }
        Err(error) => found.push(failed("put", error)),
    }
    match store.get(&key, first.len() as u64).await {
        Ok(bytes) if bytes == first => found.push(Finding::ok(OF, "get", "what was put comes back")),
        Ok(_) => {
            let words = "other bytes came back than were put";
            let hint = "does a proxy or a cache stand in front of the store?";
            found.push(Finding::new(OF, "get", Verdict::Failed, words).with_hint(hint));
        }
        Err(error) => found.push(failed("get", error)),
    }
    let finding = match store.delete(&key).await {
        Ok(()) => Finding::new(OF, "delete", Verdict::Note, "these credentials may delete")
            .with_hint("a backup host is safer with credentials that may not; deleting needs them only where gc runs"),
        Err(StoreError::Denied { .. }) => {
            Finding::ok(OF, "delete", format!("these credentials may not delete ({key} stays)"))
        }
        Err(error) => failed("delete", error),
    };
    found.push(finding);
}

async fn repository(context: &Context, store: &dyn Store, found: &mut Found) {
    let id = match read_info(store).await {
        Ok(Some(info)) => info.id,
        Ok(None) => {
            let words = format!("no repository at {}", store.describe());
            let hint = "make one with `hah-vault init`, or check --repo";
            return found.push(Finding::new(REPOSITORY, "repository", Verdict::Failed, words).with_hint(hint));
        }
        Err(error) => return found.push(Finding::failed(REPOSITORY, "repository", &error.into())),
    };
    found.push(Finding::ok(REPOSITORY, "repository", id.to_string()));
    match context.repository(Need::Writer, "backup").await {
        Ok(repository) => {
            let Keyring { writer, identity } = &repository.keyring;
            let derived = if identity.is_some() { ", derived from an identity" } else { "" };
            found.push(Finding::ok(REPOSITORY, "writer key", format!("good for {}{derived}", writer.scope)));
        }
        Err(error) => found.push(Finding::failed(REPOSITORY, "writer key", &error)),
    }
}

/// An identity opens every backup: a host that only makes them should not have one.
fn identity(context: &Context, found: &mut Found) {
    let own = files::config_folder().map(|folder| folder.join(IDENTITY_FILE)).filter(|path| path.exists());
    let paths: Vec<String> = context.identities().iter().chain(&own).map(|path| path.display().to_string()).collect();
    let finding = match paths.is_empty() {
        true => Finding::ok(REPOSITORY, "identity", "none on this host: it can make backups and read none"),
        false => {
            let words = format!("{} opens every backup", paths.join(", "));
            let hint = "right where you restore; take it away from a host that only makes backups";
            Finding::new(REPOSITORY, "identity", Verdict::Note, words).with_hint(hint)
        }
    };
    found.push(finding);
}
