//! Consul's state: a msgpack header with the last index, then a type byte and one msgpack value each.

use super::encode::{Pack, Rng, pair, word_at};
use super::{Made, Shape, archive};

const fn shape(share: u64, count_min: u64, restless: bool) -> Shape {
    Shape { share, count_min, restless }
}

/// In Consul's order: registrations, coordinates, sessions, tokens, policies, KV, intentions, index records.
pub const SHAPES: &[Shape] = &[
    shape(75, 8, false),
    shape(1, 2, true),
    shape(2, 2, false),
    shape(11, 4, false),
    shape(2, 2, false),
    shape(907, 20, false),
    shape(2, 2, false),
    shape(0, 40, true),
];

/// The header.
pub fn header(index: u64, pack: &mut Pack<'_>) {
    pack.map(1).str("LastIndex").uint(index);
}

/// Appends a record.
pub fn object(made: &Made, pack: &mut Pack<'_>) {
    let write = [register, coordinate, session, token, policy, kv, intention, index][made.table];
    pack.out.push([0, 6, 3, 17, 19, 2, 12, 16][made.table]);
    write(made, pack);
}

fn node(id: u64) -> (String, String) {
    let address = format!("10.{}.{}.{}", id >> 56 & 31, id >> 48 & 7, id >> 40 & 255);
    (format!("ip-{}.eu-west-1.compute.internal", address.replace('.', "-")), address)
}

/// A node with one of its services and checks: the maps of Go are here.
fn register(made: &Made, pack: &mut Pack<'_>) {
    let (id, mut base, mut changed) = (made.identity, made.base(), made.changed());
    let (name, address) = node(id);
    let wan = |prefix: &str| pair(prefix, address.as_str());
    let service = format!("{}-{}", word_at(id, 0), word_at(id, 1));
    let seed = base.next();
    let node_meta = [pair("consul-network-segment", ""), pair("instance_type", "m5.4xlarge"), pair("az", "eu-west-1b")];
    pack.map(13).str("Address").str(&address).str("Check").nil().str("Checks").array(1);
    pack.map(9).str("CheckID").str(&format!("service:{service}")).str("CreateIndex").uint(made.create_index);
    pack.str("ModifyIndex").uint(made.modify_index).str("Name").str(&format!("Service '{service}' check"));
    pack.str("Node")
        .str(&name)
        .str("Output")
        .str(&format!("HTTP GET http://{address}:8080/health: 200 OK {}", changed.words(6, " ")));
    pack.str("ServiceID").str(&service).str("ServiceName").str(&service).str("Status").str("passing");
    pack.str("CreateIndex").uint(made.create_index).str("Datacenter").str("dc1");
    pack.str("ID").str(&base.uuid(id)).str("ModifyIndex").uint(made.modify_index).str("Node").str(&name);
    pack.str("NodeMeta").go_map(&node_meta, seed).str("Service").map(9);
    pack.str("Address").str(&address).str("CreateIndex").uint(made.create_index).str("ID").str(&service);
    let meta: Vec<_> =
        (0..3 + base.below(4)).map(|i| pair(super::encode::word_at(i << 58 | id >> 6, 0), base.hex(8))).collect();
    pack.str("Meta").go_map(&distinct(meta), seed + 1).str("ModifyIndex").uint(made.modify_index);
    pack.str("Port").uint(20_000 + base.below(9_999)).str("Service").str(&service);
    pack.str("Tags").array(2).str(base.word()).str(&format!("v{}", changed.below(300)));
    pack.str("Weights").map(2).str("Passing").uint(1).str("Warning").uint(1);
    pack.str("SkipNodeUpdate").bool(false).str("TaggedAddresses");
    pack.go_map(&[wan("lan"), wan("lan_ipv4"), wan("wan"), wan("wan_ipv4")], seed + 2).str("Token").str("");
}

/// Without doubles: a Go map has none.
pub fn distinct(mut pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    pairs.sort();
    pairs.dedup_by(|a, b| a.0 == b.0);
    pairs
}

fn coordinate(made: &Made, pack: &mut Pack<'_>) {
    let mut changed = made.changed();
    let mut small = || changed.below(1 << 40) as f64 / (1u64 << 46) as f64;
    pack.array(1).map(3).str("Coord").map(4).str("Adjustment").double(small()).str("Error").double(small());
    pack.str("Height").double(small()).str("Vec").array(8);
    for _ in 0..8 {
        pack.double(small());
    }
    pack.str("Node").str(&node(made.identity).0).str("Segment").str("");
}

fn session(made: &Made, pack: &mut Pack<'_>) {
    let mut base = made.base();
    pack.map(9).str("Behavior").str("release").str("Checks").nil().str("CreateIndex").uint(made.create_index);
    pack.str("ID").str(&base.uuid(made.identity)).str("LockDelay").uint(15_000_000_000);
    pack.str("ModifyIndex").uint(made.modify_index).str("Name").str(&base.words(2, "-"));
    pack.str("Node").str(&node(base.next()).0).str("NodeChecks").array(1).str("nodeHealth");
}

fn token(made: &Made, pack: &mut Pack<'_>) {
    let (mut base, mut changed) = (made.base(), made.changed());
    let mut hash = Vec::new();
    changed.fill(32, &mut hash);
    pack.map(9).str("AccessorID").str(&base.uuid(made.identity)).str("CreateIndex").uint(made.create_index);
    pack.str("CreateTime").time(archive::unix_s(0), base.next() as u32 % 1_000_000_000);
    pack.str("Description").str(&changed.words(5, " ")).str("Hash").bytes(&hash).str("Local").bool(false);
    let first = base.next();
    pack.str("ModifyIndex").uint(made.modify_index).str("Policies").array(1).map(2);
    pack.str("ID").str(&Rng::of(&[first % 20]).uuid(first % 20)).str("Name").str(&format!("policy-{}", first % 20));
    let secret = base.next();
    pack.str("SecretID").str(&base.uuid(secret));
}

fn policy(made: &Made, pack: &mut Pack<'_>) {
    let (mut base, mut changed) = (made.base(), made.changed());
    let rules: Vec<String> = ["key", "service", "node", "session"]
        .iter()
        .map(|what| {
            format!(
                "{what}_prefix \"{}\" {{ policy = \"{}\" }}",
                base.words(2, "-"),
                ["read", "write"][changed.below(2) as usize]
            )
        })
        .collect();
    pack.map(5).str("CreateIndex").uint(made.create_index).str("Description").str(&base.words(6, " "));
    pack.str("ID").str(&base.uuid(made.identity)).str("ModifyIndex").uint(made.modify_index);
    pack.str("Rules").str(&rules.join("\n"));
}

/// A key with some JSON; a change rewrites its revision, its time, and one field in nine.
fn kv(made: &Made, pack: &mut Pack<'_>) {
    let (id, mut base) = (made.identity, made.base());
    let key = format!("config/{}/{}/{}-{:x}", word_at(id, 0), word_at(id, 1), word_at(id, 2), id & 0xff_ffff);
    let mut value = format!(
        "{{\"revision\": {}, \"updated_at\": \"{}\", \"owner\": \"{}-team\", \"id\": \"{}\", \"enabled\": true",
        made.version,
        archive::unix_s(made.version) * 1_000_000 + id % 1_000_000,
        base.word(),
        base.uuid(!id)
    );
    for i in 0..10 + base.below(14) {
        let (name, form) = (base.words(2, "_"), base.below(5));
        let mut rng = made.part(i, 9);
        let field = match form {
            0 => format!(
                "[{}]",
                (0..1 + rng.below(4)).map(|_| format!("\"{}\"", node(rng.next()).1)).collect::<Vec<_>>().join(", ")
            ),
            1 => rng.below(65_536).to_string(),
            2 => format!("\"{}\"", rng.words(6, " ")),
            3 => format!("\"http://{}.service.consul:{}/{}\"", rng.words(2, "-"), rng.below(65_536), rng.word()),
            _ => format!("\"{}\"", rng.hex(32)),
        };
        value.push_str(&format!(", \"{name}\": {field}"));
    }
    value.push('}');
    pack.map(7).str("CreateIndex").uint(made.create_index).str("Flags").uint(0).str("Key").str(&key);
    pack.str("LockIndex").uint(0).str("ModifyIndex").uint(made.modify_index).str("Session").str("");
    pack.str("Value").bytes(value.as_bytes());
}

fn intention(made: &Made, pack: &mut Pack<'_>) {
    let mut base = made.base();
    pack.map(7).str("Action").str("deny").str("CreateIndex").uint(made.create_index);
    pack.str("DestinationName").str(&base.words(2, "-")).str("ID").str(&base.uuid(made.identity));
    pack.str("Meta").go_map(&[], 0).str("ModifyIndex").uint(made.modify_index);
    pack.str("SourceName").str(&base.words(2, "-"));
}

fn index(made: &Made, pack: &mut Pack<'_>) {
    let name = format!("service.{}-{}", word_at(made.identity, 0), word_at(made.identity, 1));
    pack.map(2).str("Key").str(&name).str("Value").uint(made.modify_index);
}
