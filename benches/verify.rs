//! `verify` (structure) of a repository with thousands of manifests in a local folder: wall time, peak memory, operations.
//!
//! `cargo bench --bench verify`; `-- --manifests 5000`. Packs are small, everything else is as after five weeks of a
//! snapshot every ten minutes: each manifest is made upon the one before, adds a pack, and names the last 60 of them in 300
//! extents. Objects are really sealed; they are written as files, because 15,000 backups would take an hour. The figure
//! for memory is the kernel's (VmHWM).

use hah_vault::archive::repository;
use hah_vault::keys::{Keyring, RepositoryIdentity, SourceKeyring, generate_reader};
use hah_vault::pipeline::seal::{self, Compression};
use hah_vault::store::LocalStore;
use hah_vault_format::manifest::{Chunker, Counts, Extent, Kind, Original, PackRef, Stream, Transform, Wrapper};
use hah_vault_format::{Index, IndexEntry, Manifest, ManifestName, UnixTime};
use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the issue allows.
const SECONDS_MAX: f64 = 60.0;
const PACKS_NAMED: usize = 60;
const EXTENTS: u32 = 300;
const CHUNK_LEN_BYTES: u32 = 256;
const CHUNKS: u32 = 32;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|a| a == "--manifests");
    let count: u64 = at.and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(5000);
    let dir = tempfile::tempdir()?;
    let identity = RepositoryIdentity::generate()?;
    fill(dir.path(), &identity, count)?;
    let writer = identity.writer_key(None)?.to_text();
    println!("| verify of {count} manifests | seconds | peak MiB | reads for each manifest | listings |");
    println!("|---|---|---|---|---|");
    for options in [&[][..], &["--read-data"]] {
        let started = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hah-vault"));
        command.args(["verify", "--json", "--repo"]).arg(dir.path().join("repository")).args(options);
        command.env("HAH_VAULT_WRITER_KEY", writer.as_str()).env("HOME", dir.path()).env_remove("XDG_STATE_HOME");
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let peak = peak_mib(&mut child)?;
        let output = child.wait_with_output()?;
        let seconds = started.elapsed().as_secs_f64();
        let text = String::from_utf8(output.stdout)?;
        let last: serde_json::Value = serde_json::from_str(text.lines().last().ok_or("no report")?)?;
        if last["damaged"] != false || last["whole"] != count {
            return Err(format!("not whole: {text}").into());
        }
        let reads = last["operations"]["get"].as_u64().unwrap_or(0) as f64 / count as f64;
        let what = options.first().unwrap_or(&"structure");
        println!("| {what} | {seconds:.1} | {peak} | {reads:.2} | {} |", last["operations"]["list"]);
        if options.is_empty() && seconds > SECONDS_MAX {
            return Err("over the limit".into());
        }
    }
    Ok(())
}

/// Makes the repository.
fn fill(dir: &Path, identity: &RepositoryIdentity, count: u64) -> Outcome<()> {
    let folder = dir.join("repository");
    std::fs::create_dir(&folder)?;
    let store = LocalStore::open(&folder)?;
    let (_, reader) = generate_reader(identity.id());
    let copies = [("alice".parse()?, identity.wrap(&reader)?)];
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(repository::create(&store, identity, &copies))?;
    for folder_name in ["packs", "index", "manifests/consul"] {
        std::fs::create_dir_all(folder.join(folder_name))?;
    }
    let keys = Keyring::from_identity(identity.clone())?.source(&"consul".parse()?).ok_or("scope")?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut packs: VecDeque<PackRef> = VecDeque::new();
    let mut parent = None;
    for number in 0..count {
        let time = UnixTime::from_unix_s(now_s - (count - number) * 600)?;
        packs.push_back(write_pack(&folder, &keys, time, number)?);
        if packs.len() > PACKS_NAMED {
            packs.pop_front();
        }
        let name = ManifestName { source: keys.source.clone(), time, suffix: u32::try_from(number)? };
        let manifest = manifest(name.clone(), parent.replace(name), packs.iter().copied().collect())?;
        let bytes = seal::seal_manifest(&manifest, &keys)?;
        std::fs::write(folder.join(manifest.name.key()), bytes)?;
    }
    Ok(())
}

fn write_pack(folder: &Path, keys: &SourceKeyring, created: UnixTime, number: u64) -> Outcome<PackRef> {
    let mut plaintext = vec![0; (CHUNKS * CHUNK_LEN_BYTES) as usize];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut plaintext);
    let sealed = seal::seal_pack(&plaintext, &keys.recipient, Compression::Off)?;
    let chunks = plaintext.chunks(CHUNK_LEN_BYTES as usize);
    let index = Index {
        key_generation: keys.generation,
        source: keys.source.clone(),
        created,
        pack_len_bytes: sealed.bytes.len() as u64,
        chunks: chunks.map(|c| IndexEntry { id: keys.keys.chunk_id.id(c), len_bytes: CHUNK_LEN_BYTES }).collect(),
    };
    std::fs::write(folder.join(sealed.id.pack_key()), &sealed.bytes)?;
    std::fs::write(folder.join(sealed.id.index_key()), seal::seal_index(&index, &sealed.id, keys)?)?;
    let plaintext_len_bytes = u32::try_from(plaintext.len())?;
    Ok(PackRef { id: sealed.id, object_len_bytes: sealed.bytes.len() as u64, plaintext_len_bytes })
}

fn manifest(name: ManifestName, parent: Option<ManifestName>, packs: Vec<PackRef>) -> Outcome<Manifest> {
    let pack_count = u32::try_from(packs.len())?;
    let extent = |number: u32| Extent {
        pack: number % pack_count,
        offset_bytes: number / pack_count % CHUNKS * CHUNK_LEN_BYTES,
        len_bytes: CHUNK_LEN_BYTES,
    };
    let len_bytes = u64::from(EXTENTS * CHUNK_LEN_BYTES);
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
        extents: (0..EXTENTS).map(extent).collect(),
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
