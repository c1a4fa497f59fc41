//! Vault's state: a varint length and a protobuf `StorageEntry` each, sorted by key, values encrypted.

use super::encode::{Rng, varint, word_at};
use super::{Made, Shape};

const fn shape(share: u64, count_min: u64, restless: bool) -> Shape {
    Shape { share, count_min, restless }
}

/// In the order of the keys: AppRole accessors, what the leader rewrites, secrets, counters, leases, policies, tokens.
pub const SHAPES: &[Shape] = &[
    shape(8, 4, false),
    shape(0, 6, true),
    shape(945, 20, false),
    shape(0, 2, true),
    shape(22, 4, false),
    shape(5, 4, false),
    shape(20, 4, false),
];

/// Mounts; their UUIDs ascend.
const MOUNTS: [&str; 4] = [
    "375d280a-1528-ade2-cbe3-bacd29ce9323",
    "63c1e20c-bb95-4f0a-9c1d-77e0a6df1a51",
    "8f8117478-fd7e-18f5-5e2a-cbec014c5a19",
    "d45e78ed-070e-26eb-130a-8714b953bb9c",
];

/// Appends an entry.
pub fn object(made: &Made, out: &mut Vec<u8>) {
    let (id, mut base) = (made.identity, made.base());
    let (key, len) = match made.table {
        0 => (format!("auth/{}/accessor/{id:016x}{}", MOUNTS[0], base.hex(48)), 110),
        1 => (format!("core/leader/{}", Rng::of(&[id, 3]).uuid(id)), 1_500),
        2 => {
            let mount = MOUNTS[(id >> 62) as usize];
            let (a, b) = (word_at(id << 2, 0), word_at(id << 8, 0));
            (format!("logical/{mount}/{a}/{b}-{:011x}", id & ((1 << 44) - 1)), value_len(&mut base))
        }
        3 => (format!("sys/counters/activity/{id:016x}"), 400),
        4 => (format!("sys/expire/id/auth/approle/login/h{id:016x}{}", base.hex(48)), 900 + base.below(300)),
        5 => (format!("sys/policy/{}-{id:016x}", word_at(id, 0)), 300 + base.below(800)),
        _ => (format!("sys/token/id/h{id:016x}{}", base.hex(48)), 300 + base.below(200)),
    };
    // A rewritten value has a new nonce, so none of its bytes stay; its length changes a little.
    let mut changed = made.changed();
    let value_len = len + changed.below(16);
    let mut body = Vec::with_capacity(key.len() + value_len as usize + 16);
    body.push(0x0a);
    varint(key.len() as u64, &mut body);
    body.extend_from_slice(key.as_bytes());
    body.push(0x12);
    varint(value_len, &mut body);
    // Term of the barrier key, version of the cipher, then nonce, ciphertext and tag.
    body.extend_from_slice(&[0, 0, 0, 1, 2]);
    changed.fill(value_len as usize - 5, &mut body);
    varint(body.len() as u64, out);
    out.extend_from_slice(&body);
}

/// Lengths of secrets: most are small, a few long; with the rest the mean of an entry is about 1,060 bytes.
fn value_len(rng: &mut Rng) -> u64 {
    match rng.below(10) {
        0..6 => 200 + rng.below(600),
        6..9 => 900 + rng.below(900),
        _ => 1_500 + rng.below(3_000),
    }
}
