//! SPEC.md says what the code does: its tables and examples are read out of the text and compared.

use hah_vault_format::{derive, limits, padme};
use std::collections::BTreeMap;
use std::fs;

fn spec() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/SPEC.md")).unwrap()
}

/// The cells of every table row.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

macro_rules! values {
    ($($name:ident),* $(,)?) => {
        BTreeMap::from([$((stringify!($name), u64::try_from(limits::$name).unwrap())),*])
    };
}

#[test]
fn the_table_of_limits_agrees_with_the_code() {
    let values = values![
        PACK_PLAINTEXT_LEN_BYTES_MAX,
        PACK_CHUNKS_MAX,
        CHUNK_LEN_BYTES_MAX,
        PACK_OBJECT_LEN_BYTES_MAX,
        PACK_WINDOW_LOG_MAX,
        MANIFEST_LEN_BYTES_MAX,
        INDEX_LEN_BYTES_MAX,
        AGE_OVERHEAD_LEN_BYTES_MAX,
        KEY_OBJECT_LEN_BYTES_MAX,
        REPOSITORY_OBJECT_LEN_BYTES_MAX,
        MANIFEST_PACKS_MAX,
        MANIFEST_EXTENTS_MAX,
        MANIFEST_REGIONS_MAX,
        MANIFEST_LABELS_MAX,
        MANIFEST_RECORD_TAGS_MAX,
        TEXT_LEN_BYTES_MAX,
        LABEL_VALUE_LEN_BYTES_MAX,
        HOLD_REASON_LEN_BYTES_MAX,
        NAME_LEN_BYTES_MAX,
        STREAM_LEN_BYTES_MAX,
    ];
    let code = include_str!("../src/limits.rs");
    assert_eq!(values.len(), code.matches("pub const ").count(), "a limit is missing in this test");
    let spec = spec();
    let section = spec.split("\n## ").find(|section| section.starts_with("13.")).unwrap();
    let listed: BTreeMap<_, _> = rows(section)
        .filter(|cells| cells[0].starts_with('`'))
        .map(|cells| (cells[0].trim_matches('`'), cells[1].parse::<u64>().unwrap()))
        .collect();
    assert_eq!(listed, values);
}

#[test]
fn the_contexts_of_the_derivation_are_all_there() {
    let spec = spec();
    let contexts = [
        derive::CONTEXT_REPOSITORY_ID,
        derive::CONTEXT_WRITER,
        derive::CONTEXT_SOURCE,
        derive::CONTEXT_CHUNK_ID,
        derive::CONTEXT_GEAR,
        derive::CONTEXT_JOIN,
        derive::CONTEXT_MANIFEST_TAG,
        derive::CONTEXT_INDEX_TAG,
        derive::CONTEXT_METADATA,
    ];
    assert_eq!(contexts.len(), include_str!("../src/derive.rs").matches("pub const CONTEXT_").count());
    for context in contexts {
        assert_eq!(spec.matches(&format!("| `{context}` |")).count(), 1, "{context}");
    }
}

#[test]
fn the_table_of_padded_lengths_is_right() {
    let spec = spec();
    let numbers = |first: &str| -> Vec<u64> {
        let cells = rows(&spec).find(|cells| cells[0] == first).unwrap();
        cells[1..].iter().map(|cell| cell.parse().unwrap()).collect()
    };
    let padded: Vec<_> = numbers("L").into_iter().map(padme::padded_len_bytes).collect();
    assert_eq!(padded, numbers("L'"));
}

/// Hex digits of a text, without what stands between them.
fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_hexdigit).collect()
}

fn vector(file: &str) -> String {
    let bytes = fs::read(format!("{}/vectors/v1/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_examples_are_the_vectors() {
    let spec = spec();
    // The hex column of the example that begins so: everything before two spaces, `…` written out.
    let example = |beginning: &str| -> String {
        let block = spec.split("```\n").find(|block| block.starts_with(beginning)).unwrap();
        let column = |line: &str| digits(line.trim_start().split("  ").next().unwrap());
        let full = |line: &str| {
            ["01", "02", "03", "04"].iter().fold(line.to_owned(), |line, byte| {
                let repeated = byte.repeat(32);
                line.replace(&format!("{byte}{byte}…{byte}"), &repeated).replace(&format!("{byte}{byte}…"), &repeated)
            })
        };
        block.lines().map(|line| column(&full(line))).collect()
    };
    assert!(vector("manifest/good-full.bin")[100..].starts_with(&example("01        ")));
    assert_eq!(vector("pack/good.bin"), example("28b52ffd 60"));
    assert_eq!(vector("envelope/good-empty.bin"), example("48414856"));
    let list = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v1/vectors.json")).unwrap();
    assert!(list.contains(&format!("\"hex\":\"{}\"", example("04    "))));
    for text in
        spec.split_whitespace().filter(|word| word.starts_with("HAH-VAULT-WRITER-1Q") || word.starts_with("age1q"))
    {
        assert!(list.contains(text), "{text}");
    }
}
