//! The content of a PAX header: records of `<length> <key>=<value>\n`.

/// What a PAX header says that matters here; times, owners and comments are passed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) len_bytes: Option<u64>,
}

impl Pax {
    /// Reads all records; the error is the reason in words.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or("a malformed pax record")?;
            bytes = rest;
            let seen = match key {
                b"path" => pax.path.replace(value.to_vec()).is_some(),
                b"size" => {
                    let len_bytes = decimal(value).ok_or("a pax size that is no number")?;
                    pax.len_bytes.replace(len_bytes).is_some()
                }
                _ if key.starts_with(b"GNU.sparse") => return Err("a sparse file"),
                _ => false,
            };
            if seen {
                return Err("a pax record that is there twice");
            }
        }
        Ok(pax)
    }
}

/// Splits the first record off: its key, its value, and the rest.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let digits_len = bytes.iter().position(|byte| *byte == b' ')?;
    let record_len = usize::try_from(decimal(bytes.get(..digits_len)?)?).ok()?;
    let (record, rest) = bytes.split_at_checked(record_len)?;
    let pair = record.get(digits_len.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (key, value) = pair.split_at_checked(equals)?;
    Some((key, value.get(1..)?, rest))
}

fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
