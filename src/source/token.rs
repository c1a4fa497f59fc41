//! Where a token comes from. Files are read at each use: whoever issues tokens replaces them.

use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

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

/// What a secret text is: errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A server's token.
    Token,
    /// The role id of an AppRole.
    RoleId,
    /// The secret id of an AppRole.
    SecretId,
    /// A response-wrapping token around a secret id.
    WrappingToken,
    /// A signed JWT.
    Jwt,
    /// A password. It may hold any characters, and blanks at its ends count.
    Password,
}

impl TokenKind {
    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::RoleId => "role id",
            Self::SecretId => "secret id",
            Self::WrappingToken => "wrapping token",
            Self::Jwt => "JWT",
            Self::Password => "password",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Token => "token file",
            Self::RoleId => "role id file",
            Self::SecretId => "secret id file",
            Self::WrappingToken => "wrapping token file",
            Self::Jwt => "JWT file",
            Self::Password => "password file",
        }
    }

    /// The text of a file without what editors and agents add to it.
    fn trimmed(self, text: &str) -> &str {
        match self {
            Self::Password => text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line)),
            _ => text.trim(),
        }
    }
}

/// The text of a file with a secret. No more is read of it than shows that it is too long: it may be a device.
///
/// # Errors
/// The file's own, also if it is longer than 64 KiB or not UTF-8.
pub(crate) fn read_file(path: &Path) -> io::Result<Secret> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let len = std::fs::File::open(path)?.take(TOKEN_LEN_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    if len > TOKEN_LEN_BYTES_MAX {
        return Err(io::Error::other("it is longer than 64 KiB"));
    }
    Ok(Secret::from(text.as_str()))
}

impl Token {
    /// The token as of now.
    ///
    /// # Errors
    /// [`SourceError::File`], or [`SourceError::Setting`] if it is empty or has characters that no header can carry.
    pub fn read(&self, service: ServiceKind) -> Result<Option<Secret>, SourceError> {
        self.read_as(service, TokenKind::Token)
    }

    /// The same for another secret text; errors say which.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_as(&self, service: ServiceKind, kind: TokenKind) -> Result<Option<Secret>, SourceError> {
        let (token, name) = match self {
            Self::None => return Ok(None),
            Self::Given(token) => (token.clone(), format!("the {}", kind.name())),
            Self::File { path, optional } => match read_file(path) {
                Err(error) if *optional && error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(source) => {
                    return Err(SourceError::File { service, what: kind.file(), path: path.clone(), source });
                }
                Ok(text) => {
                    (Secret::from(kind.trimmed(text.expose())), format!("the {} {}", kind.file(), path.display()))
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
        let is_printable = token.expose().bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if kind != TokenKind::Password && !is_printable {
            return Err(wrong("it holds characters that are not printable"));
        }
        Ok(Some(token))
    }

    /// The same where there must be one.
    ///
    /// # Errors
    /// As [`Self::read`], and [`SourceError::Setting`] if there is none.
    pub fn require(&self, service: ServiceKind, kind: TokenKind) -> Result<Secret, SourceError> {
        self.read_as(service, kind)?.ok_or_else(|| SourceError::Setting {
            service,
            name: format!("the {}", kind.name()),
            reason: "there is none".into(),
        })
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
    fn a_device_is_not_read_to_its_end() {
        let token = Token::File { path: PathBuf::from("/dev/zero"), optional: false };
        let error = token.read(ServiceKind::Vault).expect_err("zeros");
        let reason = std::error::Error::source(&error).expect("a reason").to_string();
        assert!(matches!(error, SourceError::File { .. }) && reason.contains("longer than 64 KiB"), "{error}");
    }

    #[test]
    fn only_an_optional_token_file_may_be_missing() {
        let path = PathBuf::from("/nonexistent/token");
        let optional = Token::File { path: path.clone(), optional: true };
        assert_eq!(optional.read(ServiceKind::Vault).expect("none"), None);
        assert!(Token::File { path, optional: false }.read(ServiceKind::Vault).is_err());
    }

    #[test]
    fn errors_name_what_was_wanted_and_passwords_are_taken_as_they_are() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let token = Token::File { path: file.path().into(), optional: false };
        std::fs::write(file.path(), " p\u{e4}ss \r\n").expect("write");
        let password = token.require(ServiceKind::Vault, TokenKind::Password).expect("password");
        assert_eq!(password.expose(), " p\u{e4}ss ");
        let error = token.require(ServiceKind::Vault, TokenKind::Jwt).expect_err("no JWT").to_string();
        assert!(error.contains("the JWT file") && !error.contains("p\u{e4}ss"), "{error}");
        let error = Token::None.require(ServiceKind::Vault, TokenKind::SecretId).expect_err("none").to_string();
        assert!(error.contains("the secret id cannot be used: there is none"), "{error}");
    }
}
