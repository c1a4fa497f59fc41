//! The archive around a state, as `hashicorp/raft-snapshot` writes it: a tar of `meta.json`, `state.bin`, `SHA256SUMS` and
//! Vault's `SHA256SUMS.sealed`, gzip of Go 1.26 at the default level around it.

use super::encode::Rng;
use super::{Kind, Series};
use hah_vault::pipeline::rewrap::{Rewrap, Rewrapper};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// A tar block.
const BLOCK_LEN_BYTES: usize = 512;

/// The first snapshot's time.
const EPOCH_UNIX_S: u64 = 1_795_360_854;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Length of `state.bin`.
    pub state_len_bytes: u64,
    /// Length of all.
    pub len_bytes: u64,
}

/// Time of a snapshot.
pub fn unix_s(step: u32) -> u64 {
    EPOCH_UNIX_S + 600 * u64::from(step)
}

/// Writes the archive. The state is made twice, as servers do: its length and hash come before it.
pub fn write(series: &Series, out: impl Write, wrapper: Rewrap) -> io::Result<Written> {
    let (mut state_len_bytes, mut sha256) = (0, Sha256::new());
    series.state(&mut |bytes| {
        state_len_bytes += bytes.len() as u64;
        sha256.update(bytes);
        Ok(())
    })?;
    let meta = meta(series, state_len_bytes);
    let mut sums = [
        format!("{}  meta.json\n", hex(&Sha256::digest(meta.as_bytes()))),
        format!("{}  state.bin\n", hex(&sha256.finalize())),
    ];
    let mut rng = Rng::of(&[series.options.seed, u64::from(series.step), 0x5eed]);
    if rng.below(2) == 0 {
        sums.reverse();
    }
    let mut tar = Tar { out: Rewrapper::new(out, wrapper), mtime_unix_s: unix_s(series.step) };
    tar.member("meta.json", meta.as_bytes())?;
    tar.begin("state.bin", state_len_bytes)?;
    series.state(&mut |bytes| tar.out.write(bytes))?;
    tar.pad(state_len_bytes)?;
    tar.member("SHA256SUMS", sums.concat().as_bytes())?;
    if series.options.kind == Kind::Vault {
        let mut sealed = vec![0x0a, 0xb4, 0x01];
        rng.fill(182, &mut sealed);
        tar.member("SHA256SUMS.sealed", &sealed)?;
    }
    tar.out.write(&[0; 2 * BLOCK_LEN_BYTES])?;
    let (mut out, written) = tar.out.finish()?;
    out.flush()?;
    Ok(Written { state_len_bytes, len_bytes: written.len_bytes })
}

fn meta(series: &Series, state_len_bytes: u64) -> String {
    let (index, ms) = (series.index(), unix_s(series.step) * 1000 + 606);
    let (id, peers, server) = match series.options.kind {
        Kind::Vault => ("bolt-snapshot".to_owned(), "null", "vault-base"),
        Kind::Consul | Kind::Nomad => {
            (format!("2-{index}-{ms}"), "\"ka8xMjcuMC4wLjE6MjE1MDE=\"", "30e6c6fc-df6c-cc8e-3b6b-c4170bd98f55")
        }
    };
    format!(
        "{{\"Version\":1,\"ID\":\"{id}\",\"Index\":{index},\"Term\":2,\"Peers\":{peers},\"Configuration\":{{\"Servers\":\
         [{{\"Suffrage\":0,\"ID\":\"{server}\",\"Address\":\"127.0.0.1:21501\"}}]}},\"ConfigurationIndex\":1,\
         \"Size\":{state_len_bytes}}}\n"
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes members as Go's `archive/tar` does.
struct Tar<W> {
    out: Rewrapper<W>,
    mtime_unix_s: u64,
}

impl<W: Write> Tar<W> {
    fn member(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.begin(name, bytes.len() as u64)?;
        self.out.write(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn begin(&mut self, name: &str, len_bytes: u64) -> io::Result<()> {
        if len_bytes >= 8 << 30 {
            return Err(io::Error::other("8 GiB need PAX headers, which this generator does not write"));
        }
        let mut block = [0; BLOCK_LEN_BYTES];
        let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000600\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{len_bytes:011o}\0"));
        put(136, &format!("{:011o}\0", self.mtime_unix_s));
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\0");
        put(263, "00");
        put(329, "0000000\0");
        put(337, "0000000\0");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write(&block)
    }

    fn pad(&mut self, len_bytes: u64) -> io::Result<()> {
        let over = (len_bytes % BLOCK_LEN_BYTES as u64) as usize;
        self.out.write(&[0; BLOCK_LEN_BYTES][..(BLOCK_LEN_BYTES - over) % BLOCK_LEN_BYTES])
    }
}
