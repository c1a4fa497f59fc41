//! The configuration file: HCL or JSON, to blocks with their settings, each with its origin.
//!
//! ```text
//! text -> hcl | json -> tree -> read (schema) -> sections -> links (names, references, cycles)
//!                                                   └─> merge with the environment
//! ```
//!
//! Architecture invariant: nothing here reads a secret, a variable of the process or any file but the configuration
//! itself, and no message repeats a value that may be a secret.

mod error;
mod hcl;
mod json;
pub mod links;
mod merge;
mod nearest;
mod read;
pub mod schema;
mod section;
mod tree;
mod values;

pub use error::{ConfigError, Place};
pub use merge::{Lookup, Precedence, merge};
pub use schema::Kind;
pub use section::{Origin, Reference, Section, Setting, Value};

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest configuration file, 1 MiB.
const LEN_BYTES_MAX: u64 = 1 << 20;

/// A configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The file; none if there is none.
    pub path: Option<PathBuf>,
    /// Its blocks, in its order.
    pub sections: Vec<Section>,
    /// What is odd, in words.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        use std::io::Read;
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = zeroize::Zeroizing::new(String::new());
        let file = std::fs::File::open(path).map_err(failed)?;
        let len = file.take(LEN_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if len as u64 > LEN_BYTES_MAX {
            return Err(failed(std::io::Error::other("it is longer than 1 MiB")));
        }
        Self::parse(path, &text)
    }

    /// Reads the text of a file. It is JSON if it begins with a brace, or if the file's name ends with `.json`.
    ///
    /// # Errors
    /// [`ConfigError::At`] and [`ConfigError::Setting`], naming line and column.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_json = path.extension().is_some_and(|e| e == "json") || text.trim_start().starts_with('{');
        let mut reader = read::Reader { path: Arc::from(path), text, warnings: Vec::new() };
        let members = if is_json { json::parse(text) } else { hcl::parse(text) };
        let members = members.map_err(|error| reader.syntax(error))?;
        let sections = reader.sections(members)?;
        links::check(&sections)?;
        Ok(Self { path: Some(path.to_owned()), sections, warnings: reader.warnings })
    }

    /// The blocks of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(move |section| section.kind == kind)
    }

    /// The same with what the environment says; the environment's own blocks are added where there is none of a kind.
    pub fn merged(&self, lookup: Lookup<'_>) -> Self {
        let mut merged = self.clone();
        for section in &mut merged.sections {
            let precedence = Precedence::of(section, self.of(section.kind).count());
            *section = merge(section, lookup, precedence);
        }
        merged
    }
}

#[cfg(test)]
mod tests;
