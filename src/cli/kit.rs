//! `kit`: the recovery sheet, for a safe.

mod html;
mod qr;
mod sheet;
mod text;

use super::args::Kit;
use super::context::{Context, Need};
use super::error::{CliError, NEEDS_IDENTITY};
use super::files::{NewFile, NewFiles};
use super::list::iso;
use crate::archive::repository::{list_keys, read_key};
use crate::archive::{ArchiveError, Repository};
use crate::exit::Exit;
use crate::keys::{KeyError, armored};
use crate::store::Store;
use hah_vault_format::{Label, RepositoryId, UnixTime};
use serde_json::json;
use sheet::{Copy, Secret, Sheet, Source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const SECRET_WARNING: &str =
    "the sheet holds the repository identity: whoever reads it can read every backup that the store gives out";

pub(super) async fn run(context: &Context, args: Kit) -> Result<Exit, CliError> {
    check(args.out.iter().chain(&args.html))?;
    let need = if args.with_identity { Need::Reader } else { Need::Writer };
    let repository = context.repository(need, "kit").await?;
    let store = repository.store.as_ref();
    let mut sheet = Sheet::new(repository.keyring.writer.repository, store.describe(), now(context)?);
    sheet.settings = settings(context, store);
    sheet.copies = copies(store).await?;
    sheet.sources = sources(&repository).await?;
    if args.with_identity {
        let identity = repository.keyring.identity.as_ref();
        let none = || CliError::NoKey { what: "kit --with-identity", needs: NEEDS_IDENTITY, ignored: Vec::new() };
        sheet.secret = Some(Secret::new(identity.ok_or_else(none)?.file_text()));
    }
    if sheet.secret.is_some() {
        context.console.warning(None, SECRET_WARNING);
    }
    write(&sheet, args.out.as_deref(), args.html.as_deref())?;
    tell(context, &sheet, &args)?;
    Ok(Exit::Done)
}

/// The sheet of a repository that `init` has just made: no secret is on it.
///
/// # Errors
/// The file cannot be written.
pub(super) fn of_new_repository(
    context: &Context,
    store: &dyn Store,
    id: RepositoryId,
    wrapped: &[(Label, Vec<u8>)],
    path: &Path,
) -> Result<(), CliError> {
    let mut sheet = Sheet::new(id, store.describe(), now(context)?);
    sheet.settings = settings(context, store);
    sheet.copies = wrapped.iter().map(|(label, bytes)| copy(label, bytes)).collect::<Result<_, _>>()?;
    let is_html = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("html"));
    if is_html { write(&sheet, None, Some(path)) } else { write(&sheet, Some(path), None) }
}

/// Refuses names that are taken.
///
/// # Errors
/// [`CliError::Exists`].
pub(super) fn check<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Result<(), CliError> {
    NewFiles::check(paths).map_err(|error| match error {
        CliError::Exists { path, .. } => CliError::Exists { path, hint: "sheets are never written over" },
        error => error,
    })
}

fn write(sheet: &Sheet, out: Option<&Path>, html: Option<&Path>) -> Result<(), CliError> {
    let mut made = Vec::new();
    for (path, content) in [(out, text::page as fn(&Sheet) -> _), (html, html::page)] {
        let Some(path) = path else { continue };
        let content: Zeroizing<String> = content(sheet);
        let file = NewFile { path: path.to_owned(), content: Zeroizing::new(content.as_bytes().to_vec()) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        made.push(NewFiles::create(folder, &[file])?);
    }
    made.into_iter().for_each(NewFiles::keep);
    Ok(())
}

fn tell(context: &Context, sheet: &Sheet, args: &Kit) -> Result<(), CliError> {
    let to_stdout = args.out.is_none() && args.html.is_none();
    if context.console.is_json() {
        let page = to_stdout.then(|| text::page(sheet));
        let object = json!({
            "type": "kit",
            "repository": sheet.id.to_string(),
            "store": sheet.store,
            "with_identity": sheet.secret.is_some(),
            "out": args.out,
            "html": args.html,
            "text": page.as_deref().map(String::as_str),
        });
        let line = Zeroizing::new(format!("{object}\n"));
        return context.console.data(line.as_bytes());
    }
    if to_stdout {
        return context.console.data(text::page(sheet).as_bytes());
    }
    for path in args.out.iter().chain(&args.html) {
        context.console.say(&format!("{} is ready: print it, keep the paper, delete the file", path.display()));
    }
    Ok(())
}

fn now(context: &Context) -> Result<String, CliError> {
    let unix_s = u64::try_from(context.world.host_unix_ms() / 1000).unwrap_or(0);
    let time = UnixTime::from_unix_s(unix_s).map_err(ArchiveError::from)?;
    Ok(iso(time))
}

/// Settings of an S3 store that are not in its URL. None of them is a secret: endpoints that hold one are refused when
/// the store is opened.
fn settings(context: &Context, store: &dyn Store) -> Vec<(&'static str, String)> {
    if !store.describe().starts_with("s3://") && !store.describe().starts_with("r2://") {
        return Vec::new();
    }
    let named = [("AWS_ENDPOINT_URL", "s3.endpoint"), ("AWS_REGION", "s3.region")];
    let given = |key: &str| context.settings.repository.text(key).map(str::to_owned);
    named.into_iter().filter_map(|(variable, key)| Some((variable, given(key)?))).collect()
}

/// The wrapped copies in the store.
async fn copies(store: &dyn Store) -> Result<Vec<Copy>, CliError> {
    let mut copies = Vec::new();
    for entry in list_keys(store).await? {
        let Ok(label) = entry.label.parse::<Label>() else { continue };
        copies.push(copy(&label, &read_key(store, &label).await?)?);
    }
    Ok(copies)
}

fn copy(label: &Label, wrapped: &[u8]) -> Result<Copy, CliError> {
    let failed = |source: KeyError| CliError::Key { name: label.key(), source };
    Ok(Copy { label: label.to_string(), armored: armored(wrapped).map_err(failed)? })
}

/// Each source with its newest manifest.
async fn sources(repository: &Repository) -> Result<Vec<Source>, CliError> {
    let listed = repository.list_manifests(None).await?;
    let newest: BTreeMap<_, _> = listed.into_iter().map(|listed| (listed.name.source.clone(), listed.name)).collect();
    let mut sources = Vec::new();
    for (source, name) in newest {
        // A manifest that does not open, or is out of this writer key's scope, still says that the source is there.
        let kind = repository.open_manifest(&name).await.ok().map(|manifest| manifest.kind);
        sources.push(Source { name: source.to_string(), newest: iso(name.time), kind });
    }
    Ok(sources)
}
