//! What is wrong in a configuration, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Longest part of a line that is shown, in characters.
const EXCERPT_LEN_CHARS_MAX: usize = 80;

/// A configuration cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file.
    #[error("cannot read the configuration {}", .path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it.
    #[error("{place}: {what}{}", .place.quoted())]
    At {
        /// Where.
        place: Place,
        /// What is wrong; holds no secret.
        what: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// Something that comes from the environment.
    #[error("{origin}: {what}")]
    Setting {
        /// The variable, or `file:line`.
        origin: String,
        /// What is wrong; holds no secret.
        what: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl ConfigError {
    /// What to write instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("name it with --config or HAH_VAULT_CONFIG".into()),
            Self::At { hint, .. } | Self::Setting { hint, .. } => hint.clone(),
        }
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, its values left out: they may be secrets.
    pub excerpt: String,
}

impl Place {
    /// The same without the line: where the text cannot be read, nobody knows what is a value.
    pub(super) fn without_excerpt(self) -> Self {
        Self { excerpt: String::new(), ..self }
    }

    /// The place of a byte.
    pub(super) fn of(path: PathBuf, text: &str, at: usize) -> Self {
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let (before, after) = text.split_at(at);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = after.find('\n').map_or(text.len(), |newline| at + newline);
        let line = before.matches('\n').count() + 1;
        let column = before.get(start..).unwrap_or_default().chars().count() + 1;
        Self { path, line, column, excerpt: excerpt(text.get(start..end).unwrap_or_default()) }
    }

    fn quoted(&self) -> String {
        if self.excerpt.is_empty() { String::new() } else { format!(" (in `{}`)", self.excerpt) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Whether a text is a key, perhaps behind the beginning of its block, rather than the end of a value.
fn is_key(text: &str) -> bool {
    !text.contains(',') && text.matches('"').count() <= 2
}

/// A line up to its first value; nothing of a line that does not begin like a key or a block: it may be a part of a
/// secret.
fn excerpt(line: &str) -> String {
    let line = line.trim();
    let (mut shown, mut quoted) = (String::new(), false);
    for (at, c) in line.char_indices().take(EXCERPT_LEN_CHARS_MAX) {
        if !quoted && (c == '=' || c == ':') {
            // base64 ends so.
            let is_end = line[at + c.len_utf8()..].trim_matches('=').is_empty();
            return if is_end || !is_key(&shown) { String::new() } else { format!("{shown}{c} …") };
        }
        quoted ^= c == '"';
        shown.push(if c.is_control() { ' ' } else { c });
    }
    if line.ends_with('{') && is_key(&shown) || line == "}" { shown } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_characters_and_shows_no_value() {
        let text = "a = 1\n  \u{e4}\u{f6} = \"hunter2\"\n";
        let place = Place::of("x.hcl".into(), text, text.find('=').map_or(0, |_| 8));
        assert_eq!((place.line, place.column, place.excerpt.as_str()), (2, 3, "\u{e4}\u{f6} = …"));
        assert_eq!(place.to_string(), "x.hcl:2:3");
        assert_eq!(Place::of("x".into(), text, 1000).line, 3);
    }

    #[test]
    fn what_may_be_a_value_is_never_shown() {
        for (line, shown) in [
            ("vault \"home\" {", "vault \"home\" {"),
            ("token = \"hunter2\"", "token = …"),
            ("token = 'hunter2'", "token = …"),
            ("{\"vault\": {\"token\": \"hunter2\"}}", "{\"vault\": …"),
            ("  hunter2", ""),
            ("  hunter2==", ""),
            ("}", "}"),
            ("\"hunter2\", \"tls\": {}", ""),
            ("\"hunter2\", \"tls\" {", ""),
        ] {
            let excerpt = excerpt(line);
            assert_eq!(excerpt, shown);
        }
    }
}
