//! `verify` (structure) of a repository with thousands of manifests in a local folder: wall time, peak memory, operations.
//!
//! `cargo bench --bench verify`; `-- --manifests 5000 --packs 48`. In the first repository packs are small, everything else
//! is as after five weeks of a snapshot every ten minutes: each manifest is made upon the one before, adds a pack, and names
//! the last 60 of them in 300 extents. The second has a few packs of the full 8 MiB, for the memory that `--read-data`
//! takes, which must not grow with their number. Objects are really sealed; they are written as files, because 15,000
//! backups would take an hour. The figure for memory is the kernel's (VmHWM).

use hah_vault::archive::repository;
use hah_vault::keys::{Keyring, RepositoryIdentity, SourceKeyring, generate_reader};
use hah_vault::pipeline::seal::{self, Compression};
use hah_vault::store::LocalStore;
use hah_vault_format::manifest::{Chunker, Counts, Extent, Kind, Original, PackRef, Stream, Transform, Wrapper};
use hah_vault_format::{Index, IndexEntry, Manifest, ManifestName, UnixTime};
use std::collections::VecDeque;
use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the issue allows.
const SECONDS_MAX: f64 = 60.0;
/// What reading may take, in a job of 256 MB.
const PEAK_MIB_MAX: u64 = 160;

/// What a repository looks like.
#[derive(Clone, Copy)]
struct Shape {
    manifests: u64,
    packs_named: usize,
    extents: u32,
    chunks: u32,
    chunk_len_bytes: u32,
}

const SMALL: Shape = Shape { manifests: 5000, packs_named: 60, extents: 300, chunks: 32, chunk_len_bytes: 256 };
/// 8 MiB of chunks of the mean length.
const LARGE: Shape = Shape { manifests: 48, packs_named: 12, extents: 300, chunks: 4096, chunk_len_bytes: 2048 };

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    println!("| verify | seconds | peak MiB | reads for each manifest | listings |");
    println!("|---|---|---|---|---|");
    let small = Shape { manifests: option("--manifests")?.unwrap_or(SMALL.manifests), ..SMALL };
    let dir = tempfile::tempdir()?;
    fill(dir.path(), small)?;
    let what = format!("of {} manifests", small.manifests);
    let seconds = measure(dir.path(), &what, small, &[], false)?;
    measure(dir.path(), &what, small, &["--read-data"], false)?;
    if seconds > SECONDS_MAX {
        return Err("over the limit".into());
    }
    let large = Shape { manifests: option("--packs")?.unwrap_or(LARGE.manifests), ..LARGE };
    let dir = tempfile::tempdir()?;
    fill(dir.path(), large)?;
    let what = format!("of {} packs of 8 MiB", large.manifests);
    measure(dir.path(), &what, large, &["--read-data"], false)?;
    measure(dir.path(), &format!("{what}, with an identity"), large, &["--read-data"], true)?;
    Ok(())
}

fn option(name: &str) -> Outcome<Option<u64>> {
    let args: Vec<String> = std::env::args().collect();
    let Some(at) = args.iter().position(|a| a == name) else { return Ok(None) };
    Ok(Some(args.get(at + 1).ok_or("a value is missing")?.parse()?))
}

/// Runs `verify` and prints a row; its wall time in seconds.
fn measure(dir: &Path, what: &str, shape: Shape, options: &[&str], with_identity: bool) -> Outcome<f64> {
    let started = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hah-vault"));
    command.args(["verify", "--json", "--repo"]).arg(dir.join("repository")).args(options);
    command.env("HAH_VAULT_WRITER_KEY", std::fs::read_to_string(dir.join("writer.key"))?);
    command.env("HOME", dir).env_remove("XDG_STATE_HOME").env_remove("HAH_VAULT_IDENTITY");
    if with_identity {
        command.env("HAH_VAULT_IDENTITY", dir.join("identity.txt"));
    }
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let peak = peak_mib(&mut child)?;
    let output = child.wait_with_output()?;
    let seconds = started.elapsed().as_secs_f64();
    let text = String::from_utf8(output.stdout)?;
    let last: serde_json::Value = serde_json::from_str(text.lines().last().ok_or("no report")?)?;
    if last["damaged"] != false || last["whole"] != shape.manifests {
        return Err(format!("not whole: {text}").into());
    }
    let chunks = shape.manifests * u64::from(shape.chunks);
    if with_identity && (last["data"]["opened"] != true || last["data"]["chunks"] != chunks) {
        return Err(format!("not all packs were opened: {text}").into());
    }
    let reads = last["operations"]["get"].as_u64().unwrap_or(0) as f64 / shape.manifests as f64;
    let depth = options.first().unwrap_or(&"structure");
    println!("| {depth} {what} | {seconds:.1} | {peak} | {reads:.2} | {} |", last["operations"]["list"]);
    if peak > PEAK_MIB_MAX {
        return Err(format!("{peak} MiB are over the limit").into());
    }
    Ok(seconds)
}

/// Makes the repository, and keys to it.
fn fill(dir: &Path, shape: Shape) -> Outcome<()> {
    let identity = RepositoryIdentity::generate()?;
    let folder = dir.join("repository");
    std::fs::create_dir(&folder)?;
    let store = LocalStore::open(&folder)?;
    let (file, reader) = generate_reader(identity.id());
    std::fs::write(dir.join("identity.txt"), file.as_bytes())?;
    std::fs::set_permissions(dir.join("identity.txt"), Permissions::from_mode(0o600))?;
    std::fs::write(dir.join("writer.key"), identity.writer_key(None)?.to_text().as_bytes())?;
    let copies = [("alice".parse()?, identity.wrap(&reader)?)];
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(repository::create(&store, &identity, &copies))?;
    for folder_name in ["packs", "index", "manifests/consul"] {
        std::fs::create_dir_all(folder.join(folder_name))?;
    }
    let keys = Keyring::from_identity(identity)?.source(&"consul".parse()?).ok_or("scope")?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut packs: VecDeque<PackRef> = VecDeque::new();
    let mut parent = None;
    for number in 0..shape.manifests {
        let time = UnixTime::from_unix_s(now_s - (shape.manifests - number) * 600)?;
        packs.push_back(write_pack(&folder, &keys, time, number, shape)?);
        if packs.len() > shape.packs_named {
            packs.pop_front();
        }
        let name = ManifestName { source: keys.source.clone(), time, suffix: u32::try_from(number)? };
        let manifest = manifest(name.clone(), parent.replace(name), packs.iter().copied().collect(), shape)?;
        let bytes = seal::seal_manifest(&manifest, &keys)?;
        std::fs::write(folder.join(manifest.name.key()), bytes)?;
    }
    Ok(())
}

fn write_pack(folder: &Path, keys: &SourceKeyring, created: UnixTime, number: u64, shape: Shape) -> Outcome<PackRef> {
    let len_bytes = shape.chunk_len_bytes;
    let mut plaintext = vec![0; (shape.chunks * len_bytes) as usize];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut plaintext);
    let sealed = seal::seal_pack(&plaintext, &keys.recipient, Compression::Off)?;
    let chunks = plaintext.chunks(len_bytes as usize);
    let index = Index {
        key_generation: keys.generation,
        source: keys.source.clone(),
        created,
        pack_len_bytes: sealed.bytes.len() as u64,
        chunks: chunks.map(|c| IndexEntry { id: keys.keys.chunk_id.id(c), len_bytes }).collect(),
    };
    std::fs::write(folder.join(sealed.id.pack_key()), &sealed.bytes)?;
    std::fs::write(folder.join(sealed.id.index_key()), seal::seal_index(&index, &sealed.id, keys)?)?;
    let plaintext_len_bytes = u32::try_from(plaintext.len())?;
    Ok(PackRef { id: sealed.id, object_len_bytes: sealed.bytes.len() as u64, plaintext_len_bytes })
}

fn manifest(name: ManifestName, parent: Option<ManifestName>, packs: Vec<PackRef>, shape: Shape) -> Outcome<Manifest> {
    let pack_count = u32::try_from(packs.len())?;
    let extent = |number: u32| Extent {
        pack: number % pack_count,
        offset_bytes: number / pack_count % shape.chunks * shape.chunk_len_bytes,
        len_bytes: shape.chunk_len_bytes,
    };
    let len_bytes = u64::from(shape.extents * shape.chunk_len_bytes);
    Ok(Manifest {
        name,
        key_generation: 1,
        kind: Kind::Other,
        host: "bench".into(),
        tool: "bench".into(),
        parent,
        raft: None,
        labels: Vec::new(),
        original: Original { wrapper: Wrapper::None, len_bytes, sha256: [0; 32] },
        stream: Stream { len_bytes, blake3: [0; 32] },
        transform: Transform::None,
        chunker: Chunker { mean_len_bytes: 2048, join_len_bytes: 0 },
        packs,
        extents: (0..shape.extents).map(extent).collect(),
        records: Vec::new(),
        counts: Counts::default(),
    })
}

/// Waits for the end, and gives the highest resident set size seen on the way. The report fits into the pipe.
fn peak_mib(child: &mut Child) -> Outcome<u64> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    loop {
        if let Ok(text) = std::fs::read_to_string(&status)
            && let Some(line) = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))
        {
            peak_kib = line.trim().trim_end_matches(" kB").parse().unwrap_or(peak_kib);
        }
        if child.try_wait()?.is_some() {
            return Ok(peak_kib / 1024);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
