//! `key`: who can read and write.

use super::args::{Key, KeyAdd};
use super::context::{Context, Need};
use super::error::{CliError, NEEDS_IDENTITY};
use super::files::{self, NewFile, NewFiles, REPOSITORY_KEY_FILE};
use super::human;
use super::init::parse_recipient;
use super::list::iso;
use crate::archive::ArchiveError;
use crate::archive::host_state::HostState;
use crate::archive::repository::{KeyEntry, add_key, hinted_id, list_keys, remove_key};
use crate::exit::Exit;
use crate::keys::{Reader, RepositoryIdentity};
use hah_vault_format::text::{Scope, WriterKey};
use hah_vault_format::{Label, SourceName, UnixTime};
use serde_json::json;
use zeroize::Zeroizing;

pub(super) async fn run(context: &Context, command: Key) -> Result<Exit, CliError> {
    match command {
        Key::List => list(context).await,
        Key::Add(args) => add(context, args).await,
        Key::Remove { label, force } => remove(context, &label, force).await,
        Key::Export => export(context).await,
        Key::Writer { source } => writer(context, source).await,
    }
    .map(|()| Exit::Done)
}

fn unix_time(entry: &KeyEntry) -> Option<UnixTime> {
    UnixTime::from_unix_s(u64::try_from(entry.modified_unix_ms / 1000).ok()?).ok()
}

/// Needs no key: labels are public.
async fn list(context: &Context) -> Result<(), CliError> {
    let store = context.store().await?;
    hinted_id(store.as_ref()).await?;
    let entries = list_keys(store.as_ref()).await?;
    if context.console.is_json() {
        return entries.iter().try_for_each(|entry| {
            let added = unix_time(entry).map(iso);
            context.console.object(&json!({
                "type": "key", "label": entry.label, "len_bytes": entry.len_bytes, "added": added,
            }))
        });
    }
    if entries.is_empty() {
        context.console.say("keys/ in the store is empty: only copies kept elsewhere (--key-file) open the repository");
        return Ok(());
    }
    let now = context.world.host_unix_ms();
    let age = |entry: &KeyEntry| unix_time(entry).map_or_else(String::new, |time| human::age(time.unix_s(), now));
    let row = |entry: &KeyEntry| vec![entry.label.clone(), age(entry), human::size(entry.len_bytes)];
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    context.console.show(&human::table(&["LABEL", ">ADDED", ">SIZE"], &rows))
}

/// R itself.
async fn identity(context: &Context, what: &'static str) -> Result<RepositoryIdentity, CliError> {
    let repository = context.repository(Need::Reader, what).await?;
    repository.keyring.identity.ok_or(CliError::NoKey { what, needs: NEEDS_IDENTITY, ignored: Vec::new() })
}

async fn add(context: &Context, args: KeyAdd) -> Result<(), CliError> {
    let label = &args.label;
    let copy = args.out.as_ref().map(|folder| folder.join(format!("{label}.{REPOSITORY_KEY_FILE}")));
    NewFiles::check(&copy)?;
    let store = context.store().await?;
    let reader = new_reader(context, &args)?;
    let identity = identity(context, "key add").await?;
    let wrapped = add_key(store.as_ref(), &identity, label, &reader).await?;
    if let (Some(folder), Some(path)) = (&args.out, &copy) {
        let file = NewFile { path: path.clone(), content: Zeroizing::new(wrapped) };
        NewFiles::create(folder, &[file])?.keep();
    }
    if context.console.is_json() {
        return context.console.object(&json!({"type": "key_added", "label": label, "copy": copy}));
    }
    context.console.say(&format!("{label} can open the repository now, all of it, older backups too"));
    match copy {
        Some(path) => context.console.say(&format!("{} is for a place outside the store", path.display())),
        None => context.console.say(&format!("keep a copy of {} outside the store", label.key())),
    }
    Ok(())
}

fn new_reader(context: &Context, args: &KeyAdd) -> Result<Reader, CliError> {
    let new = &args.reader;
    match (&new.recipient, &new.new_passphrase_file) {
        (Some(text), _) => parse_recipient(text, &context.recipient_prompt()),
        (None, Some(path)) => Ok(Reader::Passphrase(files::read_passphrase(path, &context.console)?)),
        (None, None) => Ok(Reader::Passphrase(context.ask_passphrase(true)?)),
    }
}

async fn remove(context: &Context, label: &Label, force: bool) -> Result<(), CliError> {
    let store = context.store().await?;
    let id = hinted_id(store.as_ref()).await?;
    let labels: Vec<String> = list_keys(store.as_ref()).await?.into_iter().map(|entry| entry.label).collect();
    if !labels.iter().any(|known| known == label.as_str()) {
        let what = format!("no key has the label {label}");
        return Err(CliError::usage(what, format!("there are: {}", labels.join(", "))));
    }
    if labels.len() == 1 && !force {
        return Err(CliError::LastKey { label: label.to_string() });
    }
    remove_key(store.as_ref(), label).await?;
    if let Some(state) = files::state_folder(id).map(HostState::new) {
        let mut seen = state.keys();
        seen.remove(&label.key());
        state.save_keys(&seen)?;
    }
    if context.console.is_json() {
        return context.console.object(&json!({"type": "key_removed", "label": label}));
    }
    context.console.say(&format!(
        "{label} is removed from keys/\nwhoever has a copy of it, or has opened it before, can go on reading: nothing was \
         encrypted again"
    ));
    Ok(())
}

/// Written by hand: a JSON value would leave copies behind, and nothing in these texts needs escaping.
fn secret_object(context: &Context, object: String) -> Result<(), CliError> {
    let mut object = Zeroizing::new(object);
    object.push('\n');
    context.console.data(object.as_bytes())
}

async fn export(context: &Context) -> Result<(), CliError> {
    let identity = identity(context, "key export").await?;
    let id = identity.id();
    context.console.warning(None, "this key opens every backup of the repository, for ever: nothing takes it back");
    if context.console.is_json() {
        let text = identity.to_text();
        let text = text.as_str();
        return secret_object(context, format!(r#"{{"type":"identity","repository":"{id}","identity":"{text}"}}"#));
    }
    context.console.data(identity.file_text().as_bytes())
}

/// An identity gives every writer key; a writer key gives itself, and that of scope `*` gives each source's.
async fn writer(context: &Context, source: Option<SourceName>) -> Result<(), CliError> {
    let repository = context.repository(Need::Writer, "key writer").await?;
    let held = &repository.keyring.writer;
    let key = match source {
        None => held.clone(),
        Some(source) => {
            let secret = held
                .source_secret(&source)
                .ok_or_else(|| ArchiveError::Scope { scope: held.scope.to_string(), source_name: source.clone() })?;
            WriterKey { scope: Scope::Source(source), secret, ..held.clone() }
        }
    };
    let text = key.to_text();
    if context.console.is_json() {
        let (id, scope, text) = (key.repository, &key.scope, text.as_str());
        let object = format!(r#"{{"type":"writer_key","repository":"{id}","scope":"{scope}","key":"{text}"}}"#);
        return secret_object(context, object);
    }
    context.console.data(Zeroizing::new(format!("{}\n", text.as_str())).as_bytes())
}
