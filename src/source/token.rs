//! Where a token comes from. Files are read at each use: whoever issues tokens replaces them.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::secret::Secret;
use super::{ServiceKind, SourceError};

/// Longest token file, 64 KiB: JWTs and batch tokens have some kilobytes.
const TOKEN_LEN_BYTES_MAX: usize = 64 << 10;

/// Where a token comes from.
#[derive(Debug, Clone, Default)]
pub enum Token {
    /// There is none.
    #[default]
    None,
    /// It was given.
    Given(Secret),
    /// It is in a file, which is read at each use.
    File {
        /// The file.
        path: PathBuf,
        /// Whether it may be missing, as `~/.vault-token` may.
        optional: bool,
    },
}

impl Token {
    /// The token as of now.
    ///
    /// # Errors
    /// [`SourceError::File`], or [`SourceError::Setting`] if it is empty or has characters that no header can carry.
    pub fn read(&self, service: ServiceKind) -> Result<Option<Secret>, SourceError> {
        let (token, name) = match self {
            Self::None => return Ok(None),
            Self::Given(token) => (token.clone(), "the token".to_owned()),
            Self::File { path, optional } => match std::fs::read_to_string(path) {
                Err(error) if *optional && error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(source) => {
                    return Err(SourceError::File { service, what: "token file", path: path.clone(), source });
                }
                Ok(text) => {
                    let text = Secret::new(text);
                    (Secret::from(text.expose().trim()), format!("the token file {}", path.display()))
                }
            },
        };
        let wrong = |reason: &str| SourceError::Setting { service, name: name.clone(), reason: reason.into() };
        if token.expose().is_empty() {
            return Err(wrong("it is empty"));
        }
        if token.expose().len() > TOKEN_LEN_BYTES_MAX {
            return Err(wrong("it is longer than 64 KiB"));
        }
        // As Vault's own client has it; Consul's and Nomad's are UUIDs or JWTs.
        if !token.expose().bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(wrong("it holds characters that are not printable"));
        }
        Ok(Some(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_read_again_at_each_use() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let token = Token::File { path: file.path().into(), optional: false };
        for text in ["first\n", "  second  "] {
            std::fs::write(file.path(), text).expect("write");
            let read = token.read(ServiceKind::Consul).expect("token").expect("some");
            assert_eq!(read.expose(), text.trim());
        }
        for text in ["", " \n", "a\x01b", "t\u{f6}ken"] {
            std::fs::write(file.path(), text).expect("write");
            let error = token.read(ServiceKind::Consul).expect_err(text);
            assert!(matches!(error, SourceError::Setting { .. }), "{error}");
        }
    }

    #[test]
    fn only_an_optional_token_file_may_be_missing() {
        let path = PathBuf::from("/nonexistent/token");
        let optional = Token::File { path: path.clone(), optional: true };
        assert_eq!(optional.read(ServiceKind::Vault).expect("none"), None);
        assert!(Token::File { path, optional: false }.read(ServiceKind::Vault).is_err());
    }
}
