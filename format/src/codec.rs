//! The only place that names bincode: little-endian, variable-length integers, a size limit, no leftover bytes,
//! canonical form only. SPEC §3 writes the encoding down, so that the crate can be replaced.

use crate::FormatError;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Encodes a value.
///
/// # Errors
/// [`FormatError::Decode`] if the value cannot be expressed, which no type of this crate causes.
pub fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, FormatError> {
    let config = bincode::config::standard();
    bincode::serde::encode_to_vec(value, config).map_err(|e| FormatError::Decode { what, reason: e.to_string() })
}

/// Decodes all of `bytes`, of which `LIMIT` bytes may be claimed at most.
///
/// # Errors
/// [`FormatError::Limit`] above the limit, [`FormatError::Decode`], [`FormatError::NotCanonical`] for leftover
/// bytes and for a form that `encode` would not have written.
pub fn decode<T: DeserializeOwned + Serialize, const LIMIT: usize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, FormatError> {
    if bytes.len() > LIMIT {
        let (found, limit) = (bytes.len() as u64, LIMIT as u64);
        return Err(FormatError::Limit { what, found, limit });
    }
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let decoded = bincode::serde::decode_from_slice::<T, _>(bytes, config);
    let (value, used) = decoded.map_err(|e| FormatError::Decode { what, reason: reason(&e) })?;
    if used != bytes.len() || encode(what, &value)? != bytes {
        return Err(FormatError::NotCanonical { what });
    }
    Ok(value)
}

fn reason(error: &bincode::error::DecodeError) -> String {
    match error {
        bincode::error::DecodeError::OtherString(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

/// A byte string: its length, then its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor;
        impl Visitor<'_> for BlobVisitor {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte string")
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
        }
        deserializer.deserialize_byte_buf(BlobVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Sample = (u8, u64, i64, String, Vec<u32>, Option<Vec<(u8, [u8; 4])>>);

    #[test]
    fn golden_bytes_hold_the_encoding_still() {
        let sample: Sample = (7, 300, -3, "hé".into(), vec![250, 251, 70_000], Some(vec![(1, [1, 2, 3, 4])]));
        let golden =
            [7, 251, 44, 1, 5, 3, b'h', 0xc3, 0xa9, 3, 250, 251, 251, 0, 252, 0x70, 0x11, 1, 0, 1, 1, 1, 1, 2, 3, 4];
        assert_eq!(encode("sample", &sample).unwrap(), golden);
        assert_eq!(decode::<Sample, 1024>("sample", &golden), Ok(sample));
        assert_eq!(encode("blob", &Blob(vec![9, 8])).unwrap(), [2, 9, 8]);
    }

    #[test]
    fn leftover_and_non_canonical_bytes_are_refused() {
        assert_eq!(decode::<u64, 16>("n", &[5, 0]), Err(FormatError::NotCanonical { what: "n" }));
        assert_eq!(decode::<u64, 16>("n", &[251, 5, 0]), Err(FormatError::NotCanonical { what: "n" }));
        assert!(matches!(decode::<u64, 16>("n", &[251, 5]), Err(FormatError::Decode { .. })));
    }

    #[test]
    fn a_huge_declared_length_is_refused_before_it_is_allocated() {
        let huge = [253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert!(matches!(decode::<Blob, 64>("blob", &huge), Err(FormatError::Decode { .. })));
        assert!(matches!(decode::<Vec<u32>, 64>("list", &huge), Err(FormatError::Decode { .. })));
        assert!(matches!(decode::<String, 64>("text", &huge), Err(FormatError::Decode { .. })));
    }

    proptest! {
        #[test]
        fn values_round_trip(a: u8, b: u64, c: i64, d in ".{0,20}", e: Vec<u32>, f: Option<Vec<(u8, [u8; 4])>>) {
            let sample: Sample = (a, b, c, d, e, f);
            let bytes = encode("sample", &sample).unwrap();
            prop_assert_eq!(decode::<Sample, 65536>("sample", &bytes), Ok(sample));
        }

        #[test]
        fn any_bytes_decode_canonically_or_not_at_all(bytes: Vec<u8>) {
            if let Ok(sample) = decode::<Sample, 65536>("sample", &bytes) {
                prop_assert_eq!(encode("sample", &sample).unwrap(), bytes);
            }
        }
    }
}
