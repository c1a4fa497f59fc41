//! What a configuration comes to: blocks with their settings, each with its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::schema::Kind;
use crate::source::Secret;

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the configuration file.
    File {
        /// Which.
        path: Arc<Path>,
        /// Line, from 1.
        line: usize,
    },
    /// In an environment variable.
    Variable(String),
    /// On the command line.
    Flag(&'static str),
    /// Nowhere: it is ours.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// What.
    pub value: Value,
    /// Where it was said.
    pub origin: Origin,
}

/// A value, of the shape that its key takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text or a choice.
    Text(String),
    /// One text or several.
    Texts(Vec<String>),
    /// Yes or no.
    Flag(bool),
    /// Percent.
    Number(u8),
    /// How many.
    Count(u32),
    /// A time.
    Duration(Duration),
    /// Texts by text, in the order given.
    TextMap(Vec<(String, String)>),
    /// Secrets by name.
    SecretMap(Vec<(String, Reference)>),
    /// A secret.
    Secret(Reference),
    /// A variable's text as it is: its reader knows its form.
    Raw(String),
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// It was written out.
    Literal(Secret),
    /// An environment variable.
    Env(String),
    /// A file, read at each use, blanks at its ends taken off.
    File(PathBuf),
    /// A field in Vault's KV.
    Kv {
        /// Mount and path: `secret/hah-vault`.
        path: String,
        /// The field.
        field: String,
    },
    /// A token that Vault's Consul or Nomad secrets engine makes.
    Creds(String),
    /// Keys that Vault's AWS secrets engine makes.
    Aws(String),
}

impl Reference {
    /// Whether Vault has to be asked.
    pub fn needs_vault(&self) -> bool {
        matches!(self, Self::Kv { .. } | Self::Creds(_) | Self::Aws(_))
    }
}

/// As it would be written; a secret that was written out is not shown.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("[redacted]"),
            Self::Env(name) => write!(f, "env({name:?})"),
            Self::File(path) => write!(f, "file({:?})", path.display().to_string()),
            Self::Kv { path, field } => write!(f, "kv({path:?}, {field:?})"),
            Self::Creds(path) => write!(f, "creds({path:?})"),
            Self::Aws(path) => write!(f, "aws({path:?})"),
        }
    }
}

/// A block, or what the environment says in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it is.
    pub kind: Kind,
    /// Its label.
    pub label: Option<String>,
    /// Where it begins; none for what the environment alone says.
    pub origin: Option<Origin>,
    /// Whether variables count for what it does not say.
    pub sees_environment: bool,
    /// By dotted key.
    pub(super) settings: BTreeMap<&'static str, Setting>,
}

impl Section {
    /// Without any setting.
    pub fn empty(kind: Kind) -> Self {
        Self { kind, label: None, origin: None, sees_environment: true, settings: BTreeMap::new() }
    }

    /// A setting.
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key)
    }

    /// Puts a setting in the place of another.
    pub fn set(&mut self, key: &'static str, setting: Setting) {
        self.settings.insert(key, setting);
    }

    /// All settings, by key.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.settings.iter().map(|(key, setting)| (*key, setting))
    }

    /// A text, from the file or a variable.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.setting(key)?.value {
            Value::Text(text) | Value::Raw(text) => Some(text),
            _ => None,
        }
    }

    /// Texts; a variable holds one.
    pub fn texts(&self, key: &str) -> Vec<&str> {
        match self.setting(key).map(|setting| &setting.value) {
            Some(Value::Texts(texts)) => texts.iter().map(String::as_str).collect(),
            Some(Value::Text(text) | Value::Raw(text)) => vec![text],
            _ => Vec::new(),
        }
    }

    /// A flag of the file.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.setting(key)?.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    /// A time of the file.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        match self.setting(key)?.value {
            Value::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    /// A number of the file.
    pub fn number(&self, key: &str) -> Option<u8> {
        match self.setting(key)?.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// A count of the file.
    pub fn count(&self, key: &str) -> Option<u32> {
        match self.setting(key)?.value {
            Value::Count(count) => Some(count),
            _ => None,
        }
    }

    /// A secret.
    pub fn secret(&self, key: &str) -> Option<&Reference> {
        match &self.setting(key)?.value {
            Value::Secret(reference) => Some(reference),
            _ => None,
        }
    }

    /// Secrets by name.
    pub fn secrets(&self, key: &str) -> &[(String, Reference)] {
        match self.setting(key).map(|setting| &setting.value) {
            Some(Value::SecretMap(map)) => map,
            _ => &[],
        }
    }

    /// The source's name: `source`, or the kind with the label. A file's is its label.
    pub fn source_name(&self) -> String {
        match (self.text("source"), &self.label) {
            (Some(name), _) => name.to_owned(),
            (None, None) => self.kind.name().to_owned(),
            (None, Some(label)) if self.kind == Kind::File => label.clone(),
            (None, Some(label)) => format!("{}-{label}", self.kind.name()),
        }
    }

    /// Whether a backup without names takes it.
    pub fn is_backed_up(&self) -> bool {
        self.kind.is_source() && self.flag("backup") != Some(false)
    }

    /// As it would be written: `vault "home"`.
    pub fn title(&self) -> String {
        match &self.label {
            Some(label) => format!("{} {label:?}", self.kind.name()),
            None => self.kind.name().to_owned(),
        }
    }

    /// Where a key, or the block, was said.
    pub fn origin_of(&self, key: &str) -> String {
        let origin = self.setting(key).map(|setting| &setting.origin).or(self.origin.as_ref());
        origin.map_or_else(|| "the environment".to_owned(), ToString::to_string)
    }

    /// All references in it, with their keys.
    pub fn references(&self) -> impl Iterator<Item = (&'static str, &Reference)> {
        self.settings().flat_map(|(key, setting)| {
            let references: Vec<&Reference> = match &setting.value {
                Value::Secret(reference) => vec![reference],
                Value::SecretMap(map) => map.iter().map(|(_, reference)| reference).collect(),
                _ => Vec::new(),
            };
            references.into_iter().map(move |reference| (key, reference))
        })
    }
}
