//! Tags: words that a user gives a snapshot, kept in its manifest's labels.

use hah_vault_format::Manifest;
use hah_vault_format::limits::MANIFEST_LABELS_MAX;
use hah_vault_format::manifest::ManifestLabel;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Longest tag, bytes.
pub const TAG_LEN_BYTES_MAX: usize = 63;
/// Most tags of one snapshot: with commas they fit the value of a label (SPEC §13).
pub const TAGS_MAX: usize = 32;
/// The label that holds them (SPEC §6.4).
const LABEL: &str = "tags";

/// A text that is no tag.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no tag: 1 to 63 of a-z, A-Z, 0-9, `.`, `_` and `-`, beginning with a letter or digit")]
pub struct TagError {
    /// What was given.
    pub text: String,
}

/// One tag: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let ok = begins && text.len() <= TAG_LEN_BYTES_MAX && text.bytes().all(legal);
        if ok { Ok(Self(text.into())) } else { Err(TagError { text: text.into() }) }
    }
}

/// Puts tags among the labels, which stay sorted, unique and within their limit.
pub(super) fn add(labels: &mut Vec<ManifestLabel>, tags: &[Tag]) {
    let mut tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    tags.sort_unstable();
    tags.dedup();
    tags.truncate(TAGS_MAX);
    if tags.is_empty() {
        return;
    }
    labels.retain(|label| label.key != LABEL);
    labels.truncate(MANIFEST_LABELS_MAX - 1);
    labels.push(ManifestLabel { key: LABEL.into(), value: tags.join(",") });
    labels.sort();
}

/// The tags of a manifest. What a hostile writer put there and is no tag is left out.
pub fn of(manifest: &Manifest) -> Vec<Tag> {
    let value = manifest.label(LABEL).unwrap_or_default();
    value.split(',').filter_map(|text| text.parse().ok()).take(TAGS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hah_vault_format::limits::LABEL_VALUE_LEN_BYTES_MAX;

    const _: () = assert!(TAGS_MAX * (TAG_LEN_BYTES_MAX + 1) <= LABEL_VALUE_LEN_BYTES_MAX);

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    #[test]
    fn tags_outside_the_rule_are_refused() {
        for text in ["", "-a", ".a", "a b", "a,b", "é", "a\n", &"a".repeat(64)] {
            assert!(text.parse::<Tag>().is_err(), "{text:?}");
        }
        for text in ["a", "1", "before-1.17", "v1_2", "Prod", &"a".repeat(63)] {
            assert!(text.parse::<Tag>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn tags_stand_sorted_once_each_among_sorted_labels() {
        let label = |key: &str| ManifestLabel { key: key.into(), value: "x".into() };
        let mut labels = vec![label("cluster"), label("tags"), label("version")];
        add(&mut labels, &[tag("b"), tag("a"), tag("b")]);
        let shown: Vec<String> = labels.iter().map(|l| format!("{}={}", l.key, l.value)).collect();
        assert_eq!(shown, ["cluster=x", "tags=a,b", "version=x"]);
        let mut full: Vec<ManifestLabel> = (0..MANIFEST_LABELS_MAX).map(|i| label(&format!("a{i:03}"))).collect();
        add(&mut full, &[tag("a")]);
        assert_eq!((full.len(), full.last().unwrap().value.as_str()), (MANIFEST_LABELS_MAX, "a"));
        let before = labels.clone();
        add(&mut labels, &[]);
        assert_eq!(labels, before);
    }
}
