//! Msgpack values of every form, for property tests.

use proptest::prelude::*;

/// A value and how it is encoded.
#[derive(Clone, Debug)]
pub enum Value {
    /// Any leaf, already encoded.
    Leaf(Vec<u8>),
    Array(Width, Vec<Value>),
    Map(Width, Vec<(Value, Value)>),
}

/// How a count is encoded, where it fits.
#[derive(Clone, Copy, Debug)]
pub enum Width {
    Fix,
    Two,
    Four,
}

impl Value {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Leaf(bytes) => out.extend_from_slice(bytes),
            Self::Array(width, values) => {
                count(out, *width, [0x90, 0xdc, 0xdd], values.len());
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Map(width, entries) => {
                count(out, *width, [0x80, 0xde, 0xdf], entries.len());
                for (key, value) in entries {
                    key.encode(out);
                    value.encode(out);
                }
            }
        }
    }

    /// `[type byte][value]`.
    pub fn record(&self) -> Vec<u8> {
        let mut record = vec![7];
        self.encode(&mut record);
        record
    }

    /// The same value with the entries of all maps in another order.
    pub fn shuffled(&self, seed: &mut u64) -> Self {
        match self {
            Self::Leaf(bytes) => Self::Leaf(bytes.clone()),
            Self::Array(width, values) => {
                Self::Array(*width, values.iter().map(|value| value.shuffled(seed)).collect())
            }
            Self::Map(width, entries) => {
                let mut entries: Vec<_> =
                    entries.iter().map(|(key, value)| (key.clone(), value.shuffled(seed))).collect();
                for last in (1..entries.len()).rev() {
                    entries.swap(last, (next(seed) % (last as u64 + 1)) as usize);
                }
                Self::Map(*width, entries)
            }
        }
    }

    /// Whether no map has two equal keys, and all keys are scalars.
    pub fn is_suitable(&self) -> bool {
        match self {
            Self::Leaf(_) => true,
            Self::Array(_, values) => values.iter().all(Self::is_suitable),
            Self::Map(_, entries) => {
                let mut keys: Vec<_> = entries.iter().map(|(key, _)| key.bytes()).collect();
                keys.sort();
                keys.windows(2).all(|pair| pair[0] != pair[1])
                    && entries.iter().all(|(key, value)| key.is_scalar() && value.is_suitable())
            }
        }
    }

    fn is_scalar(&self) -> bool {
        matches!(self, Self::Leaf(bytes) if !matches!(bytes[0], 0xc7..=0xc9 | 0xd4..=0xd8))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }
}

/// A small generator of numbers (splitmix64).
pub fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn count(out: &mut Vec<u8>, width: Width, [fix, two, four]: [u8; 3], count: usize) {
    match width {
        Width::Fix if count < 16 => out.push(fix | count as u8),
        Width::Fix | Width::Two if count <= 0xffff => {
            out.push(two);
            out.extend_from_slice(&(count as u16).to_be_bytes());
        }
        Width::Fix | Width::Two | Width::Four => {
            out.push(four);
            out.extend_from_slice(&(count as u32).to_be_bytes());
        }
    }
}

/// A str of the shortest form.
pub fn str(text: &str) -> Value {
    let mut bytes = Vec::new();
    match text.len() {
        len @ ..32 => bytes.push(0xa0 | len as u8),
        len => bytes.extend_from_slice(&[0xda, (len >> 8) as u8, len as u8]),
    }
    bytes.extend_from_slice(text.as_bytes());
    Value::Leaf(bytes)
}

fn sized(first: u8, width: usize, kind: Option<u8>, payload: &[u8]) -> Value {
    let mut bytes = vec![first];
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[4 - width..]);
    bytes.extend(kind);
    bytes.extend_from_slice(payload);
    Value::Leaf(bytes)
}

/// Leaves of every form, lengths not always in the shortest one.
pub fn leaf() -> impl Strategy<Value = Value> {
    let fixed = (0_usize..19, any::<[u8; 17]>()).prop_map(|(form, bytes)| {
        let (first, len) = [
            (bytes[0] & 0x7f, 0),
            (bytes[0] | 0xe0, 0),
            (0xc0, 0),
            (0xc2, 0),
            (0xc3, 0),
            (0xca, 4),
            (0xcb, 8),
            (0xcc, 1),
            (0xcd, 2),
            (0xce, 4),
            (0xcf, 8),
            (0xd0, 1),
            (0xd1, 2),
            (0xd2, 4),
            (0xd3, 8),
            (0xd4, 2),
            (0xd5, 3),
            (0xd6, 5),
            (0xd8, 17),
        ][form];
        Value::Leaf([&[first], &bytes[..len]].concat())
    });
    let sized = (0_usize..9, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(form, payload)| match form {
        0..3 => sized(0xc4 + form as u8, 1 << form, None, &payload),
        3..6 => sized(0xd9 + form as u8 - 3, 1 << (form - 3), None, &payload),
        _ => sized(0xc7 + form as u8 - 6, 1 << (form - 6), Some(5), &payload),
    });
    prop_oneof![2 => fixed, 1 => sized, 3 => key()]
}

/// Strings that are likely to meet again.
fn key() -> impl Strategy<Value = Value> {
    "[a-e]{0,2}".prop_map(|text| str(&text))
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![4 => Just(Width::Fix), 1 => Just(Width::Two), 1 => Just(Width::Four)]
}

/// Values of every form, nested; keys may be equal, or of any kind.
pub fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(5, 120, 12, |inner| {
        let any_key = prop_oneof![30 => key(), 6 => leaf(), 1 => inner.clone()];
        let entries = prop::collection::vec((any_key, inner.clone()), 0..10);
        prop_oneof![
            1 => (width(), prop::collection::vec(inner, 0..8)).prop_map(|(width, values)| Value::Array(width, values)),
            3 => (width(), entries).prop_map(|(width, entries)| Value::Map(width, entries)),
        ]
    })
}
