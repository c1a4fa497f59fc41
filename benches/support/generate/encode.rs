//! Random numbers, words, and the encodings of Go: msgpack with maps in Go's random order, protobuf varints.

/// Splitmix64: small, fast, and the same everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that depends on all of `parts`.
    pub fn of(parts: &[u64]) -> Self {
        let mut rng = Self(0x6a09_e667_f3bc_c908);
        for part in parts {
            rng.0 ^= part;
            rng.0 = rng.next();
        }
        rng
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True `share` times in a million.
    pub fn chance_ppm(&mut self, share: u64) -> bool {
        self.below(1_000_000) < share
    }

    /// Appends incompressible bytes.
    pub fn fill(&mut self, len: usize, out: &mut Vec<u8>) {
        let end = out.len() + len;
        out.reserve(len + 8);
        while out.len() < end {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(end);
    }

    /// Lower-case hexadecimal digits.
    pub fn hex(&mut self, len: usize) -> String {
        let mut text = String::with_capacity(len + 16);
        while text.len() < len {
            text.push_str(&format!("{:016x}", self.next()));
        }
        text.truncate(len);
        text
    }

    /// A UUID that begins with `first`: tables of UUIDs are sorted by it.
    pub fn uuid(&mut self, first: u64) -> String {
        let (head, tail) = (format!("{first:016x}"), self.hex(16));
        format!("{}-{}-{}-{}-{}", &head[..8], &head[8..12], &head[12..16], &tail[..4], &tail[4..16])
    }

    /// A word as operators like them.
    pub fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as u64) as usize]
    }

    /// Some words.
    pub fn words(&mut self, count: u64, between: &str) -> String {
        let words: Vec<&str> = (0..count).map(|_| self.word()).collect();
        words.join(between)
    }
}

/// Sorted, so that a key made of the leading bits of an identity sorts as that does.
const WORDS: [&str; 64] = [
    "account",
    "alert",
    "archive",
    "audit",
    "auth",
    "backend",
    "batch",
    "billing",
    "burst",
    "cache",
    "canary",
    "cart",
    "checkout",
    "cluster",
    "consumer",
    "coupon",
    "customer",
    "discount",
    "download",
    "email",
    "encode",
    "external",
    "fraud",
    "frontend",
    "gateway",
    "indexer",
    "internal",
    "inventory",
    "invoice",
    "kafka",
    "ledger",
    "limit",
    "locale",
    "logging",
    "metrics",
    "node",
    "oncall",
    "order",
    "pager",
    "partition",
    "payment",
    "pool",
    "postgres",
    "pricing",
    "primary",
    "producer",
    "profile",
    "quota",
    "rate",
    "refund",
    "region",
    "replica",
    "return",
    "rollout",
    "scheduler",
    "search",
    "session",
    "shipping",
    "staging",
    "stream",
    "tax",
    "thumbnail",
    "tracing",
    "video",
];

/// The word that the `nth` six bits of an identity give.
pub fn word_at(identity: u64, nth: u32) -> &'static str {
    WORDS[(identity >> (58 - 6 * nth) & 63) as usize]
}

/// Appends a protobuf varint.
pub fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes msgpack as Go's codec does: old raw strings, fields of structs ascending, entries of maps in any order.
pub struct Pack<'a> {
    /// Where it goes.
    pub out: &'a mut Vec<u8>,
    /// The order of maps: another one in each snapshot.
    pub order: &'a mut Rng,
}

impl Pack<'_> {
    /// A map's head; its fields must follow in ascending order if it is a struct.
    pub fn map(&mut self, len: usize) -> &mut Self {
        self.head(len, 0x80, 16, 0xde)
    }

    /// An array's head.
    pub fn array(&mut self, len: usize) -> &mut Self {
        self.head(len, 0x90, 16, 0xdc)
    }

    fn head(&mut self, len: usize, fix: u8, fix_end: usize, wide: u8) -> &mut Self {
        if len < fix_end {
            self.out.push(fix | len as u8);
        } else {
            self.out.push(wide);
            self.out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        self
    }

    /// A string.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Bytes: a raw string as well.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        if bytes.len() <= usize::from(u16::MAX) {
            self.head(bytes.len(), 0xa0, 32, 0xda);
        } else {
            self.out.push(0xdb);
            self.out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        }
        self.out.extend_from_slice(bytes);
        self
    }

    /// An unsigned number of the shortest form.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        match value {
            0..0x80 => self.out.push(value as u8),
            0x80..0x100 => self.out.extend_from_slice(&[0xcc, value as u8]),
            0x100..0x1_0000 => {
                self.out.push(0xcd);
                self.out.extend_from_slice(&(value as u16).to_be_bytes());
            }
            0x1_0000..0x1_0000_0000 => {
                self.out.push(0xce);
                self.out.extend_from_slice(&(value as u32).to_be_bytes());
            }
            _ => {
                self.out.push(0xcf);
                self.out.extend_from_slice(&value.to_be_bytes());
            }
        }
        self
    }

    /// A double.
    pub fn double(&mut self, value: f64) -> &mut Self {
        self.out.push(0xcb);
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Nil.
    pub fn nil(&mut self) -> &mut Self {
        self.out.push(0xc0);
        self
    }

    /// A bool.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.out.push(0xc2 | u8::from(value));
        self
    }

    /// Go's binary form of a time: 15 bytes.
    pub fn time(&mut self, unix_s: u64, nanos: u32) -> &mut Self {
        let mut bytes = [0; 15];
        bytes[0] = 1;
        // Seconds since the year 1.
        bytes[1..9].copy_from_slice(&(unix_s + 62_135_596_800).to_be_bytes());
        bytes[9..13].copy_from_slice(&nanos.to_be_bytes());
        self.bytes(&bytes)
    }

    /// A Go map of strings, in the order in which Go's runtime walks one of its maps: up to 8 entries from a random
    /// one on, more by bucket, from a random bucket and a random place in each on. `map_seed` stands for the map's own
    /// hash seed and the order of its insertions, which stay while it lives.
    pub fn go_map(&mut self, entries: &[(String, String)], map_seed: u64) -> &mut Self {
        const BUCKET_LEN: usize = 8;
        let mut buckets_len = 1;
        while entries.len() * 2 > 13 * buckets_len && entries.len() > BUCKET_LEN {
            buckets_len *= 2;
        }
        let mut buckets: Vec<Vec<usize>> = vec![Vec::new(); buckets_len];
        let mut inserted: Vec<usize> = (0..entries.len()).collect();
        inserted.sort_by_key(|i| Rng::of(&[map_seed, *i as u64]).next());
        for i in inserted {
            buckets[Rng::of(&[map_seed, 7, i as u64]).below(buckets_len as u64) as usize].push(i);
        }
        let (from, offset) = (self.order.below(buckets_len as u64) as usize, self.order.below(8) as usize);
        self.map(entries.len());
        for b in 0..buckets_len {
            // A bucket that overflows is walked block by block; within a block from the offset on.
            for block in buckets[(from + b) % buckets_len].chunks(BUCKET_LEN) {
                for slot in 0..BUCKET_LEN {
                    if let Some(i) = block.get((slot + offset) % BUCKET_LEN) {
                        self.str(&entries[*i].0).str(&entries[*i].1);
                    }
                }
            }
        }
        self
    }
}

/// An owned pair, for maps.
pub fn pair(key: &str, value: impl Into<String>) -> (String, String) {
    (key.to_owned(), value.into())
}
