//! `init`: a repository, its keys, and words about where to keep them.

use super::args::Init;
use super::context::Context;
use super::error::CliError;
use super::files::{self, IDENTITY_FILE, NewFile, NewFiles, REPOSITORY_KEY_FILE, WRITER_KEY_FILE};
use super::kit;
use crate::archive::repository::{check_empty, create};
use crate::exit::Exit;
use crate::keys::{self, KeyError, Keyring, Prompt, Reader, RepositoryIdentity};
use crate::store::Store;
use hah_vault_format::Label;
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

pub(super) async fn run(context: &Context, args: Init) -> Result<Exit, CliError> {
    let store = context.store().await?;
    make(context, &store, args).await.map(|_| Exit::Done)
}

/// Who shall be able to read.
enum NewReader {
    /// A recipient as typed.
    Recipient(Label, String),
    /// A passphrase.
    Passphrase(Label),
    /// A fresh identity, for `identity.txt`.
    Fresh(Label),
}

impl NewReader {
    fn label(&self) -> &Label {
        match self {
            Self::Recipient(label, _) | Self::Passphrase(label) | Self::Fresh(label) => label,
        }
    }
}

/// Makes the repository; also for `backup --init`.
pub(super) async fn make(context: &Context, store: &Arc<dyn Store>, args: Init) -> Result<Keyring, CliError> {
    let new_readers = plan(&args, context.passphrase_given())?;
    let none = || CliError::usage("no configuration folder: HOME is not set", "pass --out DIR");
    let folder = args.out.clone().or_else(files::config_folder).ok_or_else(none)?;
    let is_fresh = matches!(new_readers[..], [NewReader::Fresh(_)]);
    let paths = Paths::new(&folder, &new_readers, is_fresh);
    // Everything that can be refused is, before anything is written or a passphrase is worked on.
    NewFiles::check(paths.all())?;
    kit::check(&args.kit)?;
    check_empty(store.as_ref()).await?;
    let identity = RepositoryIdentity::generate().map_err(key_error)?;
    let made = Made::new(context, &identity, &new_readers)?;
    let files = NewFiles::create(&folder, &paths.files(&made)?)?;
    create(store.as_ref(), &identity, &made.wrapped).await?;
    files.keep();
    tell(context, store.as_ref(), &identity, &paths, &new_readers)?;
    if let Some(path) = &args.kit {
        kit::of_new_repository(context, store.as_ref(), identity.id(), &made.wrapped, path)?;
        context.console.say(&format!("\nThe recovery sheet is {}: print it.", path.display()));
    }
    Keyring::from_identity(identity).map_err(key_error)
}

fn key_error(source: KeyError) -> CliError {
    CliError::Key { name: "cannot make the repository's keys".into(), source }
}

/// Labels for everybody.
fn plan(args: &Init, has_passphrase: bool) -> Result<Vec<NewReader>, CliError> {
    let readers = args.recipient.len() + usize::from(has_passphrase);
    if args.label.is_some() && readers > 1 {
        return Err(CliError::usage(
            format!("--label names one reader, and there are {readers}"),
            "name each with --recipient LABEL=RECIPIENT",
        ));
    }
    let mut plan: Vec<NewReader> = Vec::new();
    for (i, text) in args.recipient.iter().enumerate() {
        let (label, recipient) = split_label(text);
        let label = match label.or_else(|| args.label.clone()) {
            Some(label) => label,
            None => numbered(i + 1)?,
        };
        plan.push(NewReader::Recipient(label, recipient.to_owned()));
    }
    if has_passphrase {
        let label = args.label.clone().map_or_else(|| "passphrase".parse(), Ok).map_err(name_error)?;
        plan.push(NewReader::Passphrase(label));
    }
    if plan.is_empty() {
        plan.push(NewReader::Fresh(args.label.clone().map_or_else(|| numbered(1), Ok)?));
    }
    for (i, reader) in plan.iter().enumerate() {
        if plan[..i].iter().any(|before| before.label() == reader.label()) {
            let what = format!("two readers have the label {}", reader.label());
            return Err(CliError::usage(what, "name each with --recipient LABEL=RECIPIENT"));
        }
    }
    Ok(plan)
}

fn numbered(number: usize) -> Result<Label, CliError> {
    format!("reader-{number}").parse().map_err(name_error)
}

fn name_error(error: hah_vault_format::FormatError) -> CliError {
    CliError::Usage { what: error.to_string(), hint: None }
}

/// `LABEL=RECIPIENT`; the base64 of an SSH key may hold `=` too, but nothing before it is a label then.
fn split_label(text: &str) -> (Option<Label>, &str) {
    match text.split_once('=') {
        Some((label, recipient)) if !recipient.is_empty() => match label.parse() {
            Ok(label) => (Some(label), recipient),
            Err(_) => (None, text),
        },
        _ => (None, text),
    }
}

/// Parses a recipient; what is a secret key or a file gets words of its own, and a secret is not repeated.
pub(super) fn parse_recipient<P: Prompt>(text: &str, prompt: &P) -> Result<Reader, CliError> {
    let text = text.trim();
    let upper = text.to_ascii_uppercase();
    if ["AGE-SECRET-KEY-", "AGE-PLUGIN-", "HAH-VAULT-WRITER-", "PRIVATE KEY"].iter().any(|s| upper.contains(s)) {
        return Err(CliError::usage(
            "a secret key was given as recipient",
            "recipients are public keys (`age-keygen -y FILE` prints one); the secret is now in the shell's history and \
             was visible to other processes",
        ));
    }
    if text.len() < 4096 && Path::new(text).is_file() {
        let what = format!("recipient {text:?} is a file");
        return Err(CliError::usage(what, format!("pass what is in it: --recipient \"$(cat {text})\"")));
    }
    for form in ["ecdsa-", "sk-ssh-", "sk-ecdsa-", "ssh-dss"] {
        if text.starts_with(form) {
            return Err(CliError::usage(
                "this type of SSH key cannot be encrypted to",
                "use an ssh-ed25519 or ssh-rsa key, or make an age key with age-keygen",
            ));
        }
    }
    let name = "cannot use a recipient".into();
    Reader::from_recipient(text, prompt).map_err(|source| CliError::Key { name, source })
}

/// Where the files of an `init` go.
struct Paths {
    writer: PathBuf,
    identity: Option<PathBuf>,
    copies: Vec<(Label, PathBuf)>,
}

impl Paths {
    fn new(folder: &Path, readers: &[NewReader], is_fresh: bool) -> Self {
        let copy = |label: &Label| match readers.len() {
            1 => folder.join(REPOSITORY_KEY_FILE),
            _ => folder.join(format!("{label}.{REPOSITORY_KEY_FILE}")),
        };
        Self {
            writer: folder.join(WRITER_KEY_FILE),
            identity: is_fresh.then(|| folder.join(IDENTITY_FILE)),
            copies: readers.iter().map(|reader| (reader.label().clone(), copy(reader.label()))).collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.writer).chain(&self.identity).chain(self.copies.iter().map(|(_, path)| path))
    }

    fn files(&self, made: &Made) -> Result<Vec<NewFile>, CliError> {
        let file =
            |path: &PathBuf, bytes: &[u8]| NewFile { path: path.clone(), content: Zeroizing::new(bytes.to_vec()) };
        let mut files = vec![file(&self.writer, made.writer.as_bytes())];
        if let (Some(path), Some(text)) = (&self.identity, &made.identity) {
            files.push(file(path, text.as_bytes()));
        }
        files.extend(self.copies.iter().zip(&made.wrapped).map(|((_, path), (_, bytes))| file(path, bytes)));
        Ok(files)
    }
}

/// The content of the files.
struct Made {
    writer: Zeroizing<String>,
    identity: Option<Zeroizing<String>>,
    wrapped: Vec<(Label, Vec<u8>)>,
}

impl Made {
    fn new(context: &Context, identity: &RepositoryIdentity, readers: &[NewReader]) -> Result<Self, CliError> {
        let writer = identity.writer_key(None).map_err(key_error)?.to_text();
        let writer = Zeroizing::new(format!("{}\n", writer.as_str()));
        let mut made = Self { writer, identity: None, wrapped: Vec::new() };
        for new in readers {
            let reader = match new {
                NewReader::Recipient(_, text) => parse_recipient(text, &context.recipient_prompt())?,
                NewReader::Passphrase(_) => Reader::Passphrase(context.passphrase(true)?),
                NewReader::Fresh(_) => {
                    let (text, reader) = keys::generate_reader(identity.id());
                    made.identity = Some(text);
                    reader
                }
            };
            made.wrapped.push((new.label().clone(), identity.wrap(&reader).map_err(key_error)?));
        }
        Ok(made)
    }
}

fn tell(
    context: &Context,
    store: &dyn Store,
    identity: &RepositoryIdentity,
    paths: &Paths,
    readers: &[NewReader],
) -> Result<(), CliError> {
    if context.console.is_json() {
        let readers: Vec<_> = paths.copies.iter().map(|(label, path)| json!({"label": label, "copy": path})).collect();
        return context.console.object(&json!({
            "type": "init",
            "repository": identity.id().to_string(),
            "store": store.describe(),
            "writer_key_file": paths.writer,
            "identity_file": paths.identity,
            "readers": readers,
        }));
    }
    context.console.say(&words(&store.describe(), identity, paths, readers));
    Ok(())
}

/// For a tired person.
fn words(store: &str, identity: &RepositoryIdentity, paths: &Paths, readers: &[NewReader]) -> String {
    let opens = match readers {
        [NewReader::Fresh(_)] => "identity.txt".to_owned(),
        [NewReader::Passphrase(_)] => "the passphrase".to_owned(),
        [NewReader::Recipient(label, _)] => format!("the private key of {label}"),
        _ => "a reader's private key or passphrase".to_owned(),
    };
    let mut text = format!("Repository {} is ready at {store}\n\nKey files:\n", identity.id());
    let mut line = |path: &Path, what: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}\n      {what}", path.display());
    };
    line(&paths.writer, "makes backups; the only key that a backup host needs");
    if let Some(path) = &paths.identity {
        line(path, "opens backups: THE key");
    }
    for (label, path) in &paths.copies {
        line(path, &format!("copy of keys/{label}.age in the store; useless without {opens}"));
    }
    let _ = write!(
        text,
        "
Do this today:
  1. Put {opens} and the copy of the wrapped key where neither a fire here nor a thief of the store
     reaches them: a password manager, paper in a safe, another building.
  2. Take {opens} off the hosts that make backups.
  3. Print a recovery sheet: hah-vault kit --html kit.html
On the worst day you need: {opens}, the store's address and credentials,
  and the copy of the wrapped key if keys/ in the store is gone too (--key-file).
A thief of writer.key can add backups and read names, times and sizes, no content.
A thief of {opens} can read every backup that the store gives out.
A thief of the store can read nothing, but can delete: keep a second copy elsewhere."
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(recipients: &[&str], label: Option<&str>, passphrase: bool) -> Option<Vec<String>> {
        let recipient = recipients.iter().map(|r| (*r).to_owned()).collect();
        let args = Init { recipient, label: label.map(|l| l.parse().unwrap()), out: None, kit: None };
        let plan = plan(&args, passphrase).ok()?;
        Some(plan.iter().map(|r| r.label().to_string()).collect())
    }

    #[test]
    fn every_reader_gets_a_label_of_its_own() {
        let some = |list: &[&str]| Some(list.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>());
        assert_eq!(labels(&[], None, false), some(&["reader-1"]));
        assert_eq!(labels(&[], Some("me"), false), some(&["me"]));
        assert_eq!(labels(&[], None, true), some(&["passphrase"]));
        assert_eq!(labels(&["a=age1x", "age1y"], None, true), some(&["a", "reader-2", "passphrase"]));
        assert_eq!(labels(&["a=age1x", "a=age1y"], None, false), None);
        assert_eq!(labels(&["age1x", "age1y"], Some("me"), false), None);
    }

    #[test]
    fn the_equals_sign_of_an_ssh_key_does_not_end_a_label() {
        assert_eq!(split_label("ssh-rsa AAAA= x").0, None);
        assert_eq!(split_label("bob=ssh-rsa AAAA= x"), ("bob".parse().ok(), "ssh-rsa AAAA= x"));
        assert_eq!(split_label("age1x").0, None);
    }
}
