//! A second encoder, written from SPEC.md alone: what the product writes is compared with what this writes, and
//! what the product would never write is made with it.

use hah_vault_format::padme::padded_len_bytes;

/// An unsigned number (SPEC §3.1).
pub fn uint(value: u64) -> Vec<u8> {
    let le = value.to_le_bytes();
    match value {
        0..=250 => vec![le[0]],
        251..=0xffff => [&[251], &le[..2]].concat(),
        0x1_0000..=0xffff_ffff => [&[252], &le[..4]].concat(),
        _ => [&[253], &le[..]].concat(),
    }
}

/// A signed number (SPEC §3.2).
pub fn int(value: i64) -> Vec<u8> {
    uint(((value << 1) ^ (value >> 63)).cast_unsigned())
}

/// Bytes or text (SPEC §3.3).
pub fn bytes(value: impl AsRef<[u8]>) -> Vec<u8> {
    [uint(value.as_ref().len() as u64), value.as_ref().to_vec()].concat()
}

/// A list (SPEC §3.4).
pub fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [uint(items.len() as u64), items.concat()].concat()
}

/// An optional value that is there (SPEC §3.5).
pub fn some(value: Vec<u8>) -> Vec<u8> {
    [vec![1], value].concat()
}

/// An optional value that is not there.
pub fn none() -> Vec<u8> {
    vec![0]
}

/// An envelope before its tag is known to be right (SPEC §5).
pub struct Envelope<'a> {
    pub magic: &'a [u8; 8],
    pub version: u16,
    pub key: &'a [u8; 32],
    pub logical_name: &'a str,
    pub body: &'a [u8],
}

impl Envelope<'_> {
    /// The bytes, with a valid tag.
    pub fn seal(&self) -> Vec<u8> {
        let len = |n: usize| (n as u64).to_le_bytes();
        let head = [&self.magic[..], &self.version.to_le_bytes()].concat();
        let name = [&len(self.logical_name.len())[..], self.logical_name.as_bytes()].concat();
        let body = [&len(self.body.len())[..], self.body].concat();
        let tag = blake3::keyed_hash(self.key, &[&head[..], &name, &body].concat());
        let mut sealed = [&head[..], tag.as_bytes(), &body].concat();
        sealed.resize(usize::try_from(padded_len_bytes(sealed.len() as u64)).unwrap(), 0);
        sealed
    }
}

/// A body as named fields in their order, one of which can be replaced.
#[derive(Clone)]
pub struct Fields(pub Vec<(&'static str, Vec<u8>)>);

impl Fields {
    /// The same with one field changed.
    pub fn with(&self, name: &str, value: Vec<u8>) -> Self {
        let mut changed = self.clone();
        changed.0.iter_mut().find(|(n, _)| *n == name).unwrap().1 = value;
        changed
    }

    /// The body.
    pub fn join(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(_, value)| value.clone()).collect()
    }
}
