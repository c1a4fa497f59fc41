//! Text forms of keys: bech32, as age has it (BIP 173; longer than its 90 characters, as age's plugins do).

use crate::{FormatError, RepositoryId, Secret, SourceName};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Bech32m, Hrp};
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize, Zeroizing};

const RECIPIENT_HRP: Hrp = Hrp::parse_unchecked("age");
const IDENTITY_HRP: Hrp = Hrp::parse_unchecked("age-secret-key-");
const WRITER_HRP: Hrp = Hrp::parse_unchecked("hah-vault-writer-");
/// Version byte of the writer key.
const WRITER_VERSION: u8 = 1;
/// Suite byte of the writer key: X25519 recipients.
const WRITER_SUITE_X25519: u8 = 1;

/// `age1…`: the text form of an X25519 recipient.
pub fn recipient_text(recipient: &[u8; 32]) -> String {
    // 32 bytes always fit the code's length.
    bech32::encode_lower::<Bech32>(RECIPIENT_HRP, recipient).unwrap_or_default()
}

/// The 32 bytes of `age1…`.
///
/// # Errors
/// [`FormatError::Key`].
pub fn parse_recipient(text: &str) -> Result<[u8; 32], FormatError> {
    let what = "recipient";
    let checked = CheckedHrpstring::new::<Bech32>(text);
    let checked = checked.map_err(|_| FormatError::Key { what, reason: "a character or the checksum is wrong" })?;
    let bytes: Vec<u8> = checked.byte_iter().collect();
    match bytes.try_into() {
        // Padding bits that are not zero decode to the same bytes; age refuses them too.
        Ok(bytes) if checked.hrp() == RECIPIENT_HRP && !recipient_text(&bytes).eq_ignore_ascii_case(text) => {
            Err(FormatError::NotCanonical { what })
        }
        Ok(bytes) if checked.hrp() == RECIPIENT_HRP => Ok(bytes),
        _ => Err(FormatError::Key { what, reason: "an X25519 recipient (age1…) is needed" }),
    }
}

/// `AGE-SECRET-KEY-1…`: the text form of an X25519 identity.
pub fn identity_text(identity: &Secret) -> Zeroizing<String> {
    Zeroizing::new(bech32::encode_upper::<Bech32>(IDENTITY_HRP, identity.expose()).unwrap_or_default())
}

/// The 32 bytes of `AGE-SECRET-KEY-1…`.
///
/// # Errors
/// [`FormatError::Key`]; the text is never quoted.
pub fn parse_identity(text: &str) -> Result<Secret, FormatError> {
    let what = "identity";
    let checked = CheckedHrpstring::new::<Bech32>(text);
    let checked = checked.map_err(|_| FormatError::Key { what, reason: "a character or the checksum is wrong" })?;
    let bytes = Zeroizing::new(checked.byte_iter().collect::<Vec<u8>>());
    let identity = match bytes.as_slice().try_into() {
        Ok(bytes) if checked.hrp() == IDENTITY_HRP => Secret::new(bytes),
        _ => return Err(FormatError::Key { what, reason: "AGE-SECRET-KEY-1… is needed" }),
    };
    // Padding bits that are not zero decode to the same bytes; age refuses them too.
    if identity_text(&identity).eq_ignore_ascii_case(text) {
        Ok(identity)
    } else {
        Err(FormatError::NotCanonical { what })
    }
}

/// What a writer key is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every source, and gc. Text form `*`.
    All,
    /// One source only.
    Source(SourceName),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Source(source) => source.fmt(f),
        }
    }
}

/// All that a backup host holds; text form `HAH-VAULT-WRITER-1…`. SPEC §4.3 has its layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterKey {
    /// Generation of the repository's keys, from 1.
    pub generation: u32,
    /// What it is good for.
    pub scope: Scope,
    /// The repository that it belongs to.
    pub repository: RepositoryId,
    /// W for scope `*`, W_s for one source.
    pub secret: Secret,
    /// R's X25519 recipient, to which packs are encrypted.
    pub recipient: [u8; 32],
}

impl WriterKey {
    /// The text form: one line, upper case.
    pub fn to_text(&self) -> Zeroizing<String> {
        let scope = self.scope.to_string();
        let mut bytes = Zeroizing::new(vec![WRITER_VERSION, WRITER_SUITE_X25519]);
        bytes.extend(self.generation.to_le_bytes());
        bytes.push(u8::try_from(scope.len()).unwrap_or(u8::MAX));
        bytes.extend(scope.as_bytes());
        bytes.extend(self.repository.0);
        bytes.extend(self.secret.expose());
        bytes.extend(self.recipient);
        // At most 150 bytes: 240 characters, far below the code's 1023.
        Zeroizing::new(bech32::encode_upper::<Bech32m>(WRITER_HRP, &bytes).unwrap_or_default())
    }

    /// The secret W_s of a source; `None` if the scope does not cover it.
    pub fn source_secret(&self, source: &SourceName) -> Option<Secret> {
        match &self.scope {
            Scope::All => Some(crate::derive::source_secret(&self.secret, source)),
            Scope::Source(own) => (own == source).then(|| self.secret.clone()),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let what = "writer key";
        let mut rest = bytes;
        let mut take = |n: usize| -> Result<&[u8], FormatError> {
            let (head, tail) = rest.split_at_checked(n).ok_or(FormatError::Key { what, reason: "it is cut off" })?;
            rest = tail;
            Ok(head)
        };
        let version = take(1)?[0];
        if version == 0 {
            return Err(FormatError::Key { what, reason: "its version is 0" });
        }
        if version != WRITER_VERSION {
            let (found, newest) = (u16::from(version), u16::from(WRITER_VERSION));
            return Err(FormatError::TooNew { what, found, newest });
        }
        if take(1)?[0] != WRITER_SUITE_X25519 {
            return Err(FormatError::Key { what, reason: "its cipher suite is unknown to this program" });
        }
        let generation = u32::from_le_bytes(array(take(4)?));
        let scope_len = usize::from(take(1)?[0]);
        let bad_scope = FormatError::Key { what, reason: "its scope is neither * nor the name of a source" };
        let scope = match std::str::from_utf8(take(scope_len)?) {
            Ok("*") => Scope::All,
            // Not the name's own error, which would quote what may be secret bytes behind a wrong length.
            Ok(text) => Scope::Source(text.parse().map_err(|_| bad_scope)?),
            Err(_) => return Err(bad_scope),
        };
        let repository = RepositoryId(array(take(16)?));
        let secret = Secret::new(array(take(32)?));
        let recipient = array(take(32)?);
        if !rest.is_empty() {
            return Err(FormatError::Key { what, reason: "it has bytes after its end" });
        }
        if generation == 0 {
            return Err(FormatError::Key { what, reason: "its generation is 0" });
        }
        Ok(Self { generation, scope, repository, secret, recipient })
    }
}

/// A slice whose length `take` has just fixed.
fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(slice);
    out
}

impl FromStr for WriterKey {
    type Err = FormatError;

    /// Upper or lower case, not mixed.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        let what = "writer key";
        let checked = CheckedHrpstring::new::<Bech32m>(text.trim());
        let checked = checked.map_err(|_| FormatError::Key { what, reason: "a character or the checksum is wrong" })?;
        if checked.hrp() != WRITER_HRP {
            return Err(FormatError::Key { what, reason: "HAH-VAULT-WRITER-1… is needed" });
        }
        let mut bytes: Vec<u8> = checked.byte_iter().collect();
        let key = Self::from_bytes(&bytes);
        bytes.zeroize();
        let key = key?;
        // Non-canonical padding bits decode to the same bytes; only one text form is legal.
        if !key.to_text().eq_ignore_ascii_case(text.trim()) {
            return Err(FormatError::NotCanonical { what });
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(scope: &str) -> WriterKey {
        let scope = if scope == "*" { Scope::All } else { Scope::Source(scope.parse().unwrap()) };
        WriterKey {
            generation: 1,
            scope,
            repository: RepositoryId([2; 16]),
            secret: Secret::new([3; 32]),
            recipient: [4; 32],
        }
    }

    #[test]
    fn writer_keys_round_trip_in_both_cases() {
        for scope in ["*", "vault", &"a".repeat(63)] {
            let text = key(scope).to_text();
            assert!(text.starts_with("HAH-VAULT-WRITER-1"));
            assert_eq!(text.parse(), Ok(key(scope)));
            assert_eq!(text.to_lowercase().parse(), Ok(key(scope)));
            assert_eq!(format!(" {}\n", text.as_str()).parse(), Ok(key(scope)));
        }
    }

    #[test]
    fn one_changed_character_of_a_writer_key_is_noticed() {
        let text = key("vault").to_text();
        for i in 0..text.len() {
            for c in ['q', 'Q', '7', '!'] {
                let changed: String = text.char_indices().map(|(j, old)| if i == j { c } else { old }).collect();
                if changed != *text {
                    assert!(changed.parse::<WriterKey>().is_err(), "{i} {c}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_scope_or_version_of_a_writer_key_is_refused_without_quoting_it() {
        for bytes in [[1, 1, 1, 0, 0, 0, 3, b'A', b'B', b'C'], [0, 1, 1, 0, 0, 0, 3, b'a', b'b', b'c']] {
            let text = bech32::encode_upper::<Bech32m>(WRITER_HRP, &bytes).unwrap();
            assert!(matches!(text.parse::<WriterKey>(), Err(FormatError::Key { .. })));
        }
    }

    #[test]
    fn padding_bits_that_are_not_zero_are_refused() {
        use bech32::{ByteIterExt, Fe32, Fe32IterExt};
        let spoilt = |hrp: &Hrp| -> String {
            let mut values: Vec<Fe32> = [7u8; 32].iter().copied().bytes_to_fes().collect();
            // 256 bits in 52 characters: the last 4 bits are padding.
            let last = values.pop().map(|fe| fe.to_u8() | 1).and_then(|v| Fe32::try_from(v).ok());
            values.extend(last);
            values.into_iter().with_checksum::<Bech32>(hrp).chars().collect()
        };
        let not_canonical = |what| FormatError::NotCanonical { what };
        assert_eq!(parse_identity(&spoilt(&IDENTITY_HRP)), Err(not_canonical("identity")));
        assert_eq!(parse_recipient(&spoilt(&RECIPIENT_HRP)), Err(not_canonical("recipient")));
    }

    #[test]
    fn a_newer_writer_key_is_called_newer() {
        let text = bech32::encode_upper::<Bech32m>(WRITER_HRP, &[2, 9, 9]).unwrap();
        assert!(matches!(text.parse::<WriterKey>(), Err(FormatError::TooNew { found: 2, .. })));
    }

    #[test]
    fn a_writer_key_of_one_source_has_no_secret_of_another() {
        assert!(key("vault").source_secret(&"consul".parse().unwrap()).is_none());
        assert!(key("*").source_secret(&"consul".parse().unwrap()).is_some());
    }

    proptest! {
        #[test]
        fn identities_and_recipients_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(parse_identity(&identity_text(&Secret::new(bytes))), Ok(Secret::new(bytes)));
            prop_assert_eq!(parse_recipient(&recipient_text(&bytes)), Ok(bytes));
        }

        #[test]
        fn any_payload_is_refused_or_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = bech32::encode_upper::<Bech32m>(WRITER_HRP, &bytes).unwrap();
            if let Ok(key) = text.parse::<WriterKey>() {
                prop_assert_eq!(&*key.to_text(), &text);
            }
        }
    }
}
