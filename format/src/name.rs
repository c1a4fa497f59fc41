//! Names: of sources, manifests, objects, chunks, repositories, key labels; and the keys of objects in the store.

use crate::limits::NAME_LEN_BYTES_MAX;
use crate::{FormatError, UnixTime};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Key of the repository's hint object.
pub const REPOSITORY_KEY: &str = "repository.json";
/// Prefix of pack objects.
pub const PACKS_PREFIX: &str = "packs/";
/// Prefix of index objects.
pub const INDEX_PREFIX: &str = "index/";
/// Prefix of manifests of all sources.
pub const MANIFESTS_PREFIX: &str = "manifests/";
/// Prefix of wrapped copies of the repository identity.
pub const KEYS_PREFIX: &str = "keys/";
/// Prefix of manifests that gc has set aside.
pub const TRASH_PREFIX: &str = "trash/";
/// Prefix of holds: marks that keep a manifest from being retired.
pub const HOLDS_PREFIX: &str = "holds/";

/// Prefix of leases: which replica of an agent runs the schedules.
pub const LEASES_PREFIX: &str = "leases/";

/// Digits of a lease's term: every `u64` fits, and terms sort as their texts do.
const LEASE_TERM_DIGITS: usize = 20;

/// `leases/<name>/<term, 20 digits>`.
pub fn lease_key(name: &Label, term: u64) -> String {
    format!("{LEASES_PREFIX}{name}/{term:0LEASE_TERM_DIGITS$}")
}

/// The term of a key in the store; `None` for keys of another form or another lease.
pub fn lease_term(name: &Label, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(LEASES_PREFIX)?.strip_prefix(name.as_str())?.strip_prefix('/')?;
    let is_term = digits.len() == LEASE_TERM_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    if is_term { digits.parse().ok() } else { None }
}

const NAME_RULE: &str = "a name is 1 to 63 of a-z, 0-9 and -, and does not begin with -";

fn check_name(what: &'static str, text: &str) -> Result<(), FormatError> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ok = !text.is_empty() && text.len() <= NAME_LEN_BYTES_MAX && !text.starts_with('-') && text.bytes().all(legal);
    if ok { Ok(()) } else { Err(FormatError::Name { what, found: text.into(), rule: NAME_RULE }) }
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = FormatError;

            fn from_str(text: &str) -> Result<Self, FormatError> {
                check_name($what, text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = FormatError;

            fn try_from(text: String) -> Result<Self, FormatError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name! {
    /// Where snapshots come from: `vault`, `consul`, `nomad` or a name the user chose.
    /// Matches `[a-z0-9][a-z0-9-]{0,62}`; public.
    SourceName, "source name"
}
checked_name! {
    /// The name of one wrapped copy of the repository identity. Same rule as [`SourceName`].
    Label, "key label"
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = FormatError;

            fn from_str(text: &str) -> Result<Self, FormatError> {
                let bytes = parse_lower_hex(text).and_then(|v| v.try_into().ok());
                bytes.map(Self).ok_or_else(|| FormatError::Name { what: $what, found: text.into(), rule: $rule })
            }
        }
    };
}

hex_id! {
    /// BLAKE3 of a pack object's bytes: the name of a pack and of its index.
    ObjectId, 32, "object name", "64 lower-case hex digits are needed"
}
hex_id! {
    /// First 16 bytes of the keyed BLAKE3 of a chunk's plaintext.
    ChunkId, 16, "chunk id", "32 lower-case hex digits are needed"
}
hex_id! {
    /// First 16 bytes of a hash of the repository identity; pins a repository.
    RepositoryId, 16, "repository id", "32 lower-case hex digits are needed"
}

fn parse_lower_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

impl ObjectId {
    /// The name of a pack object with these bytes.
    pub fn of(object_bytes: &[u8]) -> Self {
        Self(*blake3::hash(object_bytes).as_bytes())
    }

    /// `packs/<64 hex>`.
    pub fn pack_key(&self) -> String {
        format!("{PACKS_PREFIX}{self}")
    }

    /// `index/<64 hex>`; also the logical name that the index's tag covers.
    pub fn index_key(&self) -> String {
        format!("{INDEX_PREFIX}{self}")
    }
}

impl Label {
    /// `keys/<label>.age`.
    pub fn key(&self) -> String {
        format!("{KEYS_PREFIX}{self}.age")
    }

    /// The label of a key in the store; `None` for keys of another form.
    pub fn from_key(key: &str) -> Option<Self> {
        key.strip_prefix(KEYS_PREFIX)?.strip_suffix(".age")?.parse().ok()
    }
}

/// The name of a manifest: source, time of the run by the store's clock, 8 random hex digits.
///
/// Text form `vault/20261122T143000Z-1a2b3c4d`. Names of one source sort as their times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestName {
    /// The source.
    pub source: SourceName,
    /// Store time at which the run began; the time that the manifest claims.
    pub time: UnixTime,
    /// Random, so that runs of one second do not collide.
    pub suffix: u32,
}

const MANIFEST_RULE: &str = "a manifest is SOURCE/YYYYMMDDTHHMMSSZ-xxxxxxxx";

impl ManifestName {
    /// `manifests/<source>/<time>-<8 hex>`.
    pub fn key(&self) -> String {
        format!("{MANIFESTS_PREFIX}{self}")
    }

    /// `manifest/<source>/<time>-<8 hex>`: what the tag covers, the same wherever the object lies (DESIGN §3).
    pub fn logical_name(&self) -> String {
        format!("manifest/{self}")
    }

    /// `manifests/<source>/`.
    pub fn prefix(source: &SourceName) -> String {
        format!("{MANIFESTS_PREFIX}{source}/")
    }

    /// The name of a manifest key in the store; `None` for keys of another form.
    pub fn from_key(key: &str) -> Option<Self> {
        key.strip_prefix(MANIFESTS_PREFIX)?.parse().ok()
    }

    /// `<time>-<8 hex>`, the name without its source.
    pub fn stem(&self) -> String {
        format!("{}-{:08x}", self.time, self.suffix)
    }

    /// `holds/<source>/<time>-<8 hex>`: the mark that keeps it from being retired.
    pub fn hold_key(&self) -> String {
        format!("{HOLDS_PREFIX}{self}")
    }

    /// The manifest that a hold is for; `None` for keys of another form.
    pub fn from_hold_key(key: &str) -> Option<Self> {
        key.strip_prefix(HOLDS_PREFIX)?.parse().ok()
    }
}

impl fmt::Display for ManifestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.stem())
    }
}

impl FromStr for ManifestName {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let bad = || FormatError::Name { what: "manifest name", found: text.into(), rule: MANIFEST_RULE };
        let (source, stem) = text.split_once('/').ok_or_else(bad)?;
        let (time, suffix) = stem.split_once('-').ok_or_else(bad)?;
        let suffix = parse_lower_hex(suffix).and_then(|v| v.try_into().ok()).ok_or_else(bad)?;
        Ok(Self {
            source: source.parse().map_err(|_| bad())?,
            time: time.parse().map_err(|_| bad())?,
            suffix: u32::from_be_bytes(suffix),
        })
    }
}

/// The name of a manifest that gc has set aside: the manifest's own, the store time at which that gc began, 8 random hex
/// digits.
///
/// Text form `vault/20261122T143000Z-1a2b3c4d.20261224T030000Z-5e6f7a8b`. The content's logical name is still the
/// manifest's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrashName {
    /// The manifest.
    pub manifest: ManifestName,
    /// Store time at which the gc began.
    pub time: UnixTime,
    /// Random, so that every copy is a fresh object.
    pub suffix: u32,
}

const TRASH_RULE: &str = "a manifest set aside is MANIFEST.YYYYMMDDTHHMMSSZ-xxxxxxxx";

impl TrashName {
    /// `trash/<source>/<manifest>.<time>-<8 hex>`.
    pub fn key(&self) -> String {
        format!("{TRASH_PREFIX}{self}")
    }

    /// `trash/<source>/`.
    pub fn prefix(source: &SourceName) -> String {
        format!("{TRASH_PREFIX}{source}/")
    }

    /// The name of a trash key in the store; `None` for keys of another form.
    pub fn from_key(key: &str) -> Option<Self> {
        key.strip_prefix(TRASH_PREFIX)?.parse().ok()
    }
}

impl fmt::Display for TrashName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}-{:08x}", self.manifest, self.time, self.suffix)
    }
}

impl FromStr for TrashName {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let bad = || FormatError::Name { what: "trash name", found: text.into(), rule: TRASH_RULE };
        let (manifest, rest) = text.split_once('.').ok_or_else(bad)?;
        let (time, suffix) = rest.split_once('-').ok_or_else(bad)?;
        let suffix = parse_lower_hex(suffix).and_then(|v| v.try_into().ok()).ok_or_else(bad)?;
        Ok(Self {
            manifest: manifest.parse().map_err(|_| bad())?,
            time: time.parse().map_err(|_| bad())?,
            suffix: u32::from_be_bytes(suffix),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn source_names_outside_the_rule_are_refused() {
        for text in ["", "-a", "A", "a/b", "a.b", "é", "..", &"a".repeat(64), "a b", "a\n"] {
            assert!(text.parse::<SourceName>().is_err(), "{text:?}");
        }
        for text in ["a", "0", "vault", "a-", &"a".repeat(63)] {
            assert!(text.parse::<SourceName>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn manifest_names_of_another_form_are_refused() {
        let good = "vault/20261122T143000Z-1a2b3c4d";
        assert_eq!(good.parse::<ManifestName>().map(|n| n.to_string()), Ok(good.into()));
        for text in [
            "vault/20261122T143000Z-1A2b3c4d",
            "vault/20261122T143000Z-1a2b3c4",
            "20261122T143000Z-1a2b3c4d",
            "vault/20261122T143000Z-1a2b3c4d.x",
            "a/b/20261122T143000Z-1a2b3c4d",
        ] {
            assert!(text.parse::<ManifestName>().is_err(), "{text}");
        }
        assert_eq!(
            ManifestName::from_key("manifests/vault/20261122T143000Z-1a2b3c4d").map(|n| n.to_string()),
            Some(good.into())
        );
    }

    #[test]
    fn trash_names_of_another_form_are_refused() {
        let good = "vault/20261122T143000Z-1a2b3c4d.20261224T030000Z-5e6f7a8b";
        let name: TrashName = good.parse().unwrap();
        assert_eq!((name.to_string(), name.manifest.to_string()), (good.into(), good[..31].into()));
        assert_eq!(TrashName::from_key(&format!("trash/{good}")), Some(name));
        for text in [
            "vault/20261122T143000Z-1a2b3c4d",
            "vault/20261122T143000Z-1a2b3c4d.",
            "vault/20261122T143000Z-1a2b3c4d.20261224T030000Z",
            "vault/20261122T143000Z-1a2b3c4d.20261224T030000Z-5E6f7a8b",
            "vault/20261122T143000Z-1a2b3c4d.20261324T030000Z-5e6f7a8b",
            "vault/20261122T143000Z-1a2b3c4d.20261224T030000Z-5e6f7a8b.x",
            "20261122T143000Z-1a2b3c4d.20261224T030000Z-5e6f7a8b",
        ] {
            assert!(text.parse::<TrashName>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn trash_and_hold_keys_round_trip(source in "[a-z0-9][a-z0-9-]{0,62}", times: [u32; 2], suffixes: [u32; 2]) {
            let time = |i: usize| UnixTime::from_unix_s(times[i].into()).unwrap();
            let manifest = ManifestName { source: source.parse().unwrap(), time: time(0), suffix: suffixes[0] };
            prop_assert_eq!(ManifestName::from_hold_key(&manifest.hold_key()), Some(manifest.clone()));
            let name = TrashName { manifest, time: time(1), suffix: suffixes[1] };
            prop_assert_eq!(TrashName::from_key(&name.key()), Some(name.clone()));
            prop_assert!(name.key().starts_with(&TrashName::prefix(&name.manifest.source)));
            prop_assert_eq!(name.to_string().parse::<ManifestName>().ok(), None);
        }

        #[test]
        fn names_round_trip(source in "[a-z0-9][a-z0-9-]{0,62}", unix_s in 0u64..253_402_300_799, suffix: u32, id: [u8; 32]) {
            let name = ManifestName { source: source.parse().unwrap(), time: UnixTime::from_unix_s(unix_s).unwrap(), suffix };
            prop_assert_eq!(name.to_string().parse::<ManifestName>(), Ok(name.clone()));
            prop_assert_eq!(ManifestName::from_key(&name.key()), Some(name));
            prop_assert_eq!(ObjectId(id).to_string().parse::<ObjectId>(), Ok(ObjectId(id)));
        }

        #[test]
        fn any_text_parses_to_itself_or_not_at_all(text in ".{0,40}") {
            if let Ok(name) = text.parse::<ManifestName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
