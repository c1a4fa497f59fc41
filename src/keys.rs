//! Keys: the repository identity R, its wrapped copies, and what a writer or a reader holds (DESIGN §4, SPEC §4).

use age::secrecy::{ExposeSecret, SecretString};
use hah_vault_format::derive::{self, SourceKeys};
use hah_vault_format::text::{self, Scope, WriterKey};
use hah_vault_format::{FormatError, RepositoryId, Secret, SourceName};
use std::io::{Read, Write};
use std::str::FromStr;
use thiserror::Error;
use zeroize::Zeroizing;

/// log2 of scrypt's N for passphrases: about a second and 256 MiB on the machines of 2026 (DESIGN §4).
pub const SCRYPT_WORK_FACTOR: u8 = 18;
/// Most that a wrapped identity may hold once decrypted.
const IDENTITY_FILE_LEN_BYTES_MAX: u64 = 64 << 10;

/// What can be wrong with a key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A text form that does not parse.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A recipient of no known form.
    #[error("recipient {text:?} is not valid: {reason}")]
    Recipient {
        /// What was given (public).
        text: String,
        /// Why not.
        reason: String,
    },
    /// An identity file that cannot be read as one.
    #[error("{name}: not an age identity: {reason}")]
    Identity {
        /// The file's name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// age could not encrypt.
    #[error("cannot encrypt: {0}")]
    Encrypt(String),
    /// None of the identities opens it.
    #[error("no identity matches its recipient")]
    NoMatch,
    /// An age file that is damaged or of an unknown form.
    #[error("not a valid age file: {0}")]
    Decrypt(String),
    /// A wrapped identity that is not the repository's.
    #[error("it holds the identity of repository {found}, not of {expected}")]
    OtherRepository {
        /// The repository of the identity found.
        found: RepositoryId,
        /// The repository at hand.
        expected: RepositoryId,
    },
}

/// Callbacks for plugins and passphrases; the command line gives one that asks on the terminal.
pub trait Prompt: Clone + Send + Sync + 'static {
    /// Shows a message.
    fn message(&self, text: &str);
    /// Asks yes or no.
    fn confirm(&self, text: &str, yes: &str, no: Option<&str>) -> Option<bool>;
    /// Asks for a text.
    fn text(&self, description: &str) -> Option<String>;
    /// Asks for a passphrase.
    fn passphrase(&self, description: &str) -> Option<String>;
}

/// Asks nobody: every question is answered with no answer.
#[derive(Debug, Clone, Copy)]
pub struct NoPrompt;

impl Prompt for NoPrompt {
    fn message(&self, _: &str) {}
    fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Option<bool> {
        None
    }
    fn text(&self, _: &str) -> Option<String> {
        None
    }
    fn passphrase(&self, _: &str) -> Option<String> {
        None
    }
}

#[derive(Clone)]
struct Asking<P>(P);

impl<P: Prompt> age::Callbacks for Asking<P> {
    fn display_message(&self, message: &str) {
        self.0.message(message);
    }
    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        self.0.confirm(message, yes, no)
    }
    fn request_public_string(&self, description: &str) -> Option<String> {
        self.0.text(description)
    }
    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        self.0.passphrase(description).map(SecretString::from)
    }
}

/// Whoever R is wrapped for.
pub enum Reader {
    /// X25519, SSH key or plugin.
    Recipient(Box<dyn age::Recipient + Send>),
    /// A passphrase alone.
    Passphrase(Zeroizing<String>),
}

impl Reader {
    /// Parses `age1…`, `ssh-ed25519 …`, `ssh-rsa …`, or a plugin's `age1name1…`.
    ///
    /// # Errors
    /// [`KeyError::Recipient`].
    pub fn from_recipient<P: Prompt>(text: &str, prompt: &P) -> Result<Self, KeyError> {
        let bad = |reason: String| KeyError::Recipient { text: text.into(), reason };
        if let Ok(recipient) = age::x25519::Recipient::from_str(text) {
            return Ok(Self::Recipient(Box::new(recipient)));
        }
        if let Ok(recipient) = age::ssh::Recipient::from_str(text) {
            return Ok(Self::Recipient(Box::new(recipient)));
        }
        let recipient = age::plugin::Recipient::from_str(text)
            .map_err(|_| bad("age1…, ssh-ed25519 …, ssh-rsa … or a plugin's recipient is needed".into()))?;
        let name = recipient.plugin().to_owned();
        let plugin = age::plugin::RecipientPluginV1::new(&name, &[recipient], &[], Asking(prompt.clone()));
        let plugin = plugin.map_err(|e| bad(e.to_string()))?;
        Ok(Self::Recipient(Box::new(plugin)))
    }
}

/// The repository identity R: opens everything. Wiped when dropped.
#[derive(Clone)]
pub struct RepositoryIdentity {
    secret: Secret,
    id: RepositoryId,
}

impl RepositoryIdentity {
    /// A fresh one.
    pub fn generate() -> Result<Self, KeyError> {
        let text = age::x25519::Identity::generate().to_string();
        Self::parse(text.expose_secret())
    }

    /// From `AGE-SECRET-KEY-1…`.
    ///
    /// # Errors
    /// [`KeyError::Format`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let secret = text::parse_identity(text.trim())?;
        let id = derive::repository_id(&secret);
        Ok(Self { secret, id })
    }

    /// The id of its repository.
    pub fn id(&self) -> RepositoryId {
        self.id
    }

    /// `AGE-SECRET-KEY-1…`, for `key export`.
    pub fn to_text(&self) -> Zeroizing<String> {
        text::identity_text(&self.secret)
    }

    /// Its recipient, to which packs are encrypted.
    ///
    /// # Errors
    /// Never for an identity that was parsed.
    pub fn recipient(&self) -> Result<[u8; 32], KeyError> {
        let recipient = self.age()?.to_public().to_string();
        Ok(text::parse_recipient(&recipient)?)
    }

    /// As an age identity.
    pub(crate) fn age(&self) -> Result<age::x25519::Identity, KeyError> {
        age_identity(&self.secret)
    }

    /// The writer key of everything, or of one source.
    pub fn writer_key(&self, source: Option<&SourceName>) -> Result<WriterKey, KeyError> {
        let writer = derive::writer_secret(&self.secret);
        let (scope, secret) = match source {
            None => (Scope::All, writer),
            Some(source) => (Scope::Source(source.clone()), derive::source_secret(&writer, source)),
        };
        Ok(WriterKey { generation: 1, scope, repository: self.id, secret, recipient: self.recipient()? })
    }

    /// The identity file that is wrapped for readers, and printed by `key export`.
    pub fn file_text(&self) -> Zeroizing<String> {
        let text = self.to_text();
        let id = self.id;
        Zeroizing::new(format!("# hah-vault repository identity\n# repository: {id}\n{}\n", text.as_str()))
    }

    /// R, wrapped for one reader: the content of `keys/<label>.age`.
    ///
    /// # Errors
    /// [`KeyError::Encrypt`], for example when a plugin fails.
    pub fn wrap(&self, reader: &Reader) -> Result<Vec<u8>, KeyError> {
        let text = self.file_text();
        match reader {
            Reader::Recipient(recipient) => encrypt(&[recipient.as_ref()], text.as_bytes()),
            Reader::Passphrase(passphrase) => {
                let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.as_str().to_owned()));
                recipient.set_work_factor(SCRYPT_WORK_FACTOR);
                encrypt(&[&recipient], text.as_bytes())
            }
        }
    }

    /// Opens a wrapped copy with a reader's identities; its repository must be `expected`, if that is known.
    ///
    /// # Errors
    /// [`KeyError::NoMatch`] if none of the identities fits, [`KeyError::OtherRepository`].
    pub fn unwrap(wrapped: &[u8], identities: &Identities, expected: Option<RepositoryId>) -> Result<Self, KeyError> {
        let text = identities.decrypt(wrapped)?;
        let found = Self::from_file_text(&text, "the wrapped identity")?;
        match expected {
            Some(expected) if expected != found.id => Err(KeyError::OtherRepository { found: found.id, expected }),
            _ => Ok(found),
        }
    }

    /// The one key line of an identity file.
    fn from_file_text(text: &str, name: &str) -> Result<Self, KeyError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match (lines.next(), lines.next()) {
            (Some(line), None) => Self::parse(line),
            _ => Err(KeyError::Identity { name: name.into(), reason: "exactly one key line is needed".into() }),
        }
    }
}

impl std::fmt::Debug for RepositoryIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RepositoryIdentity({})", self.id)
    }
}

pub(crate) fn age_identity(secret: &Secret) -> Result<age::x25519::Identity, KeyError> {
    let text = text::identity_text(secret);
    age::x25519::Identity::from_str(&text).map_err(|e| KeyError::Encrypt(e.into()))
}

pub(crate) fn age_recipient(recipient: &[u8; 32]) -> Result<age::x25519::Recipient, KeyError> {
    age::x25519::Recipient::from_str(&text::recipient_text(recipient)).map_err(|e| KeyError::Encrypt(e.into()))
}

fn encrypt(recipients: &[&dyn age::Recipient], plaintext: &[u8]) -> Result<Vec<u8>, KeyError> {
    let failed = |e: &dyn std::fmt::Display| KeyError::Encrypt(e.to_string());
    let encryptor = age::Encryptor::with_recipients(recipients.iter().copied()).map_err(|e| failed(&e))?;
    let mut out = Vec::new();
    let mut writer = encryptor.wrap_output(&mut out).map_err(|e| failed(&e))?;
    writer.write_all(plaintext).and_then(|()| writer.finish().map(drop)).map_err(|e| failed(&e))?;
    Ok(out)
}

/// A reader's identities: from an identity file, an SSH private key, or a passphrase.
pub struct Identities {
    list: Vec<Box<dyn age::Identity + Send + Sync>>,
    /// Identities that are themselves X25519 keys: one of them may be R itself.
    native: Vec<Zeroizing<String>>,
    /// The repository that the file's comment pins.
    pin: Option<RepositoryId>,
}

/// The comment line of `identity.txt` that pins a repository.
pub const PIN_COMMENT: &str = "# hah-vault repository: ";
/// The comment line of an exported R that names its repository.
const EXPORT_COMMENT: &str = "# repository: ";

impl Identities {
    /// Parses a file's content: age identities (native or plugin), an SSH private key, or one of these encrypted
    /// with a passphrase (asked for by `prompt`).
    ///
    /// # Errors
    /// [`KeyError::Identity`].
    pub fn parse<P: Prompt>(content: &[u8], name: &str, prompt: &P) -> Result<Self, KeyError> {
        let bad = |reason: String| KeyError::Identity { name: name.into(), reason };
        if content.starts_with(b"age-encryption.org/") || content.starts_with(b"-----BEGIN AGE ENCRYPTED FILE") {
            let passphrase = prompt.passphrase(&format!("passphrase of {name}"));
            let passphrase = passphrase.ok_or_else(|| bad("it is encrypted and no passphrase was given".into()))?;
            let inner = Self::from_passphrase(Zeroizing::new(passphrase)).decrypt_armored(content)?;
            return Self::parse(inner.as_bytes(), name, prompt);
        }
        if content.starts_with(b"-----BEGIN") {
            return Self::parse_ssh(content, name, prompt);
        }
        let text = std::str::from_utf8(content).map_err(|_| bad("it is not text".into()))?;
        let file = age::IdentityFile::from_buffer(content).map_err(|e| bad(e.to_string()))?;
        let list = file.with_callbacks(Asking(prompt.clone())).into_identities().map_err(|e| bad(e.to_string()))?;
        if list.is_empty() {
            return Err(bad("it holds no key".into()));
        }
        let native = text.lines().map(str::trim).filter(|line| line.starts_with("AGE-SECRET-KEY-1"));
        let pin = text.lines().find_map(|line| {
            line.strip_prefix(PIN_COMMENT).or_else(|| line.strip_prefix(EXPORT_COMMENT))?.trim().parse().ok()
        });
        let native = native.map(|line| Zeroizing::new(line.to_owned())).collect();
        Ok(Self { list, native, pin })
    }

    fn parse_ssh<P: Prompt>(content: &[u8], name: &str, prompt: &P) -> Result<Self, KeyError> {
        let bad = |reason: String| KeyError::Identity { name: name.into(), reason };
        let identity = age::ssh::Identity::from_buffer(content, Some(name.into())).map_err(|e| bad(e.to_string()))?;
        if let age::ssh::Identity::Unsupported(_) = identity {
            return Err(bad("this type of SSH key cannot decrypt (ssh-ed25519 and ssh-rsa can)".into()));
        }
        let identity: Box<dyn age::Identity + Send + Sync> = Box::new(identity.with_callbacks(Asking(prompt.clone())));
        Ok(Self { list: vec![identity], native: Vec::new(), pin: None })
    }

    /// A passphrase as an identity.
    pub fn from_passphrase(passphrase: Zeroizing<String>) -> Self {
        let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase.as_str().to_owned()));
        // A hostile key file must not make us work for hours.
        identity.set_max_work_factor(SCRYPT_WORK_FACTOR + 2);
        Self { list: vec![Box::new(identity)], native: Vec::new(), pin: None }
    }

    /// The repository that the identity file pins.
    pub fn pin(&self) -> Option<RepositoryId> {
        self.pin
    }

    /// R itself, if one of the identities is the identity of repository `id`.
    pub fn repository_identity(&self, id: RepositoryId) -> Option<RepositoryIdentity> {
        self.native.iter().filter_map(|text| RepositoryIdentity::parse(text).ok()).find(|found| found.id == id)
    }

    /// R itself, from an exported identity file: pinned and self-consistent.
    pub fn exported(&self) -> Option<RepositoryIdentity> {
        self.repository_identity(self.pin?)
    }

    fn decrypt(&self, bytes: &[u8]) -> Result<Zeroizing<String>, KeyError> {
        let decryptor = age::Decryptor::new_buffered(bytes).map_err(|e| KeyError::Decrypt(e.to_string()))?;
        self.read(decryptor)
    }

    fn decrypt_armored(&self, bytes: &[u8]) -> Result<Zeroizing<String>, KeyError> {
        let armored = age::armor::ArmoredReader::new(bytes);
        let decryptor = age::Decryptor::new_buffered(armored).map_err(|e| KeyError::Decrypt(e.to_string()))?;
        self.read(decryptor)
    }

    fn read<R: std::io::BufRead>(&self, decryptor: age::Decryptor<R>) -> Result<Zeroizing<String>, KeyError> {
        let identities = self.list.iter().map(|i| i.as_ref() as &dyn age::Identity);
        let reader = decryptor.decrypt(identities).map_err(|e| match e {
            age::DecryptError::NoMatchingKeys | age::DecryptError::DecryptionFailed => KeyError::NoMatch,
            other => KeyError::Decrypt(other.to_string()),
        })?;
        let mut text = Zeroizing::new(String::new());
        let mut limited = reader.take(IDENTITY_FILE_LEN_BYTES_MAX);
        limited.read_to_string(&mut text).map_err(|e| KeyError::Decrypt(e.to_string()))?;
        Ok(text)
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identities({} [redacted])", self.list.len())
    }
}

/// The first line of an armored age file.
const ARMOR_BEGIN: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// An age file as text, for paper.
///
/// # Errors
/// [`KeyError::Encrypt`], when memory cannot be written to.
pub fn armored(file: &[u8]) -> Result<String, KeyError> {
    let failed = |error: std::io::Error| KeyError::Encrypt(error.to_string());
    let mut out = age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor).map_err(failed)?;
    out.write_all(file).map_err(failed)?;
    let text = out.finish().map_err(failed)?;
    String::from_utf8(text).map_err(|error| KeyError::Encrypt(error.to_string()))
}

/// An age file from either of its forms; what is not armored comes back as it is.
///
/// # Errors
/// [`KeyError::Decrypt`] if the armor is damaged.
pub fn dearmored(file: &[u8]) -> Result<Vec<u8>, KeyError> {
    let text = file.trim_ascii_start();
    if !text.starts_with(ARMOR_BEGIN) {
        return Ok(file.to_vec());
    }
    let mut bytes = Vec::new();
    let reader = age::armor::ArmoredReader::new(text);
    reader.take(IDENTITY_FILE_LEN_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| KeyError::Decrypt(e.to_string()))?;
    Ok(bytes)
}

/// A fresh reader's identity for `identity.txt`: the file's text and its recipient.
pub fn generate_reader(repository: RepositoryId) -> (Zeroizing<String>, Reader) {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public();
    let key = identity.to_string();
    let text = format!("{PIN_COMMENT}{repository}\n# public key: {recipient}\n{}\n", key.expose_secret());
    (Zeroizing::new(text), Reader::Recipient(Box::new(recipient)))
}

/// Whether bytes have the form of a wrapped identity, an age file with a whole header. Only its reader can tell more.
pub fn is_wrapped(bytes: &[u8]) -> bool {
    age::Decryptor::new_buffered(bytes).is_ok()
}

/// What a command holds: a writer key, and for reading packs the repository identity.
#[derive(Debug, Clone)]
pub struct Keyring {
    /// From a file, or derived from the identity.
    pub writer: WriterKey,
    /// Only readers have it.
    pub identity: Option<RepositoryIdentity>,
}

impl Keyring {
    /// All that a reader has.
    ///
    /// # Errors
    /// Never for an identity that was parsed.
    pub fn from_identity(identity: RepositoryIdentity) -> Result<Self, KeyError> {
        Ok(Self { writer: identity.writer_key(None)?, identity: Some(identity) })
    }

    /// The keys of one source; `None` if the writer key is another source's.
    pub fn source(&self, source: &SourceName) -> Option<SourceKeyring> {
        let keys = SourceKeys::new(&self.writer.source_secret(source)?);
        Some(SourceKeyring {
            source: source.clone(),
            generation: self.writer.generation,
            recipient: self.writer.recipient,
            keys,
        })
    }
}

/// The keys with which one source's objects are sealed and its metadata opened.
pub struct SourceKeyring {
    /// The source.
    pub source: SourceName,
    /// Key generation.
    pub generation: u32,
    /// R's recipient.
    pub recipient: [u8; 32],
    /// Derived keys.
    pub keys: SourceKeys,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_identity_opens_with_its_reader_only() {
        let repository = RepositoryIdentity::generate().unwrap();
        let (file, reader) = generate_reader(repository.id());
        let wrapped = repository.wrap(&reader).unwrap();
        let identities = Identities::parse(file.as_bytes(), "identity.txt", &NoPrompt).unwrap();
        assert_eq!(identities.pin(), Some(repository.id()));
        let opened = RepositoryIdentity::unwrap(&wrapped, &identities, Some(repository.id())).unwrap();
        assert_eq!(opened.to_text(), repository.to_text());
        let (stranger, _) = generate_reader(repository.id());
        let stranger = Identities::parse(stranger.as_bytes(), "stranger.txt", &NoPrompt).unwrap();
        assert!(matches!(RepositoryIdentity::unwrap(&wrapped, &stranger, None), Err(KeyError::NoMatch)));
    }

    #[test]
    fn another_repositorys_identity_put_into_the_store_is_refused() {
        let (ours, theirs) = (RepositoryIdentity::generate().unwrap(), RepositoryIdentity::generate().unwrap());
        let (file, reader) = generate_reader(ours.id());
        let planted = theirs.wrap(&reader).unwrap();
        let identities = Identities::parse(file.as_bytes(), "identity.txt", &NoPrompt).unwrap();
        let opened = RepositoryIdentity::unwrap(&planted, &identities, identities.pin());
        assert!(matches!(opened, Err(KeyError::OtherRepository { .. })));
    }

    #[test]
    fn an_exported_identity_stands_for_itself() {
        let repository = RepositoryIdentity::generate().unwrap();
        let identities = Identities::parse(repository.file_text().as_bytes(), "paper.txt", &NoPrompt).unwrap();
        assert_eq!(identities.exported().unwrap().to_text(), repository.to_text());
    }

    #[test]
    fn writer_keys_of_an_identity_derive_the_same_source_keys() {
        let repository = RepositoryIdentity::generate().unwrap();
        let source: SourceName = "vault".parse().unwrap();
        let all = repository.writer_key(None).unwrap();
        let one = repository.writer_key(Some(&source)).unwrap();
        assert_eq!(all.source_secret(&source), one.source_secret(&source));
        assert_eq!(text::recipient_text(&all.recipient), repository.age().unwrap().to_public().to_string());
    }

    #[test]
    fn debug_forms_hold_no_secret() {
        let repository = RepositoryIdentity::generate().unwrap();
        let keyring = Keyring::from_identity(repository.clone()).unwrap();
        let shown = format!("{keyring:?}");
        assert!(!shown.contains("AGE-SECRET") && shown.contains("[redacted]"), "{shown}");
    }
}
