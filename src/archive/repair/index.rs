//! An index made again from its pack and the snapshot that uses most of it: as a rule the one whose run made the pack.
//!
//! The ids are computed from the pack's own bytes, so the index is right wherever it is cut; that it is cut as the writer
//! cut it makes it useful: the next backup finds its chunks in it.

use super::super::restore::restore_stream;
use super::super::reuse::used_bytes;
use super::super::{ArchiveError, Cancel, Repository};
use super::cuts::{self, Ends};
use crate::pipeline::ingest::{Ingest, IngestError, IngestOptions, Ingested};
use crate::pipeline::packer::NewPack;
use crate::pipeline::seal;
use crate::pipeline::table::ChunkTable;
use hah_vault_format::limits::PACK_OBJECT_LEN_BYTES_MAX;
use hah_vault_format::manifest::{Kind, PackRef, Transform};
use hah_vault_format::{Index, IndexEntry, Manifest, ManifestName, ObjectId};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Pieces of the stream on their way to be cut.
const PIECES_WAITING_MAX: usize = 4;

/// The sealed index of a pack.
pub(super) async fn rebuild(repository: &Repository, id: &ObjectId, cancel: &Cancel) -> Result<Vec<u8>, ArchiveError> {
    let Users { main, oldest } = Users::find(repository, id, cancel).await?;
    let Some((number, pack)) = place(&main, id) else {
        return Err(ArchiveError::Internal("a pack is not where it was".into()));
    };
    let keys = repository.source_keys(&main.name.source)?;
    let what = "making an index again";
    let identity = repository.keyring.identity.clone().ok_or(ArchiveError::NeedsIdentity { what })?;
    let bytes = repository.store.get(&id.pack_key(), PACK_OBJECT_LEN_BYTES_MAX).await?;
    let opened = seal::open_pack(&bytes, id, pack.plaintext_len_bytes, &identity);
    let failed = |source| ArchiveError::Pack { id: *id, manifest: Box::new(main.name.clone()), source };
    let plaintext = opened.map_err(failed)?;
    let (cut, ends) = cut_again(repository, &main, cancel).await?;
    let mut all = BTreeSet::new();
    cuts::add(&mut all, &main.extents, number, &cut.extents, &ends);
    if let Transform::MapOrder { notes, .. } = &cut.transform {
        cuts::add(&mut all, main.notes(), number, notes, &ends);
    }
    let mut rest = plaintext.as_slice();
    let mut chunks = Vec::new();
    for len_bytes in cuts::lens(&all, pack.plaintext_len_bytes) {
        let (chunk, later) = rest.split_at(rest.len().min(len_bytes as usize));
        chunks.push(IndexEntry { id: keys.keys.chunk_id.id(chunk), len_bytes });
        rest = later;
    }
    let index = Index {
        key_generation: main.key_generation,
        source: main.name.source.clone(),
        // That of the run that made the pack, or of the first one after it that is still there.
        created: oldest.time,
        pack_len_bytes: pack.object_len_bytes,
        chunks,
    };
    Ok(seal::seal_index(&index, id, &keys)?)
}

/// Number and description of a pack in a manifest.
fn place(manifest: &Manifest, id: &ObjectId) -> Option<(u32, PackRef)> {
    let number = manifest.packs.iter().position(|pack| pack.id == *id)?;
    Some((u32::try_from(number).ok()?, manifest.packs[number]))
}

/// Snapshots that use a pack.
struct Users {
    /// The one that uses most of it; of several the newest.
    main: Manifest,
    oldest: ManifestName,
}

impl Users {
    async fn find(repository: &Repository, id: &ObjectId, cancel: &Cancel) -> Result<Self, ArchiveError> {
        let mut users: Option<(u64, Self)> = None;
        for listed in repository.list_manifests(None).await? {
            cancel.check()?;
            // One that does not open cannot help.
            let Ok(manifest) = repository.open_manifest(&listed.name).await else { continue };
            let Some((number, _)) = place(&manifest, id) else { continue };
            let used_bytes = used_bytes(&manifest).get(number as usize).copied().unwrap_or(0);
            users = Some(match users {
                Some((most_bytes, users)) if most_bytes > used_bytes => (most_bytes, users),
                Some((_, users)) => (used_bytes, Self { main: manifest, oldest: users.oldest }),
                None => (used_bytes, Self { oldest: manifest.name.clone(), main: manifest }),
            });
        }
        let none = || ArchiveError::Internal(format!("no snapshot names pack {id} any more"));
        users.map(|(_, users)| users).ok_or_else(none)
    }
}

/// Restores a snapshot's stream and cuts it as its writer did: the extents in new packs, and the boundaries in these.
async fn cut_again(
    repository: &Repository,
    manifest: &Manifest,
    cancel: &Cancel,
) -> Result<(Ingested, Vec<Ends>), ArchiveError> {
    let keys = repository.source_keys(&manifest.name.source)?;
    let (pieces, received) = sync_channel(PIECES_WAITING_MAX);
    let (chunker, kind) = (manifest.chunker, manifest.kind);
    let len_bytes = manifest.stream.len_bytes;
    let cutting = tokio::task::spawn_blocking(move || {
        let options = IngestOptions {
            keys: &keys.keys,
            table: ChunkTable::default(),
            first_pack: 0,
            parent_chunker: Some(chunker),
            len_hint_bytes: (kind == Kind::Other).then_some(len_bytes),
            is_snapshot: kind != Kind::Other,
        };
        cut(options, &received)
    });
    let restored = restore_stream(repository, &manifest.name, Pieces(pieces), cancel).await;
    let cut = cutting.await.map_err(|error| ArchiveError::Internal(error.to_string()))?;
    restored?;
    let failed = |error: IngestError| match error {
        IngestError::Tar(source) => ArchiveError::RestoredTar { name: manifest.name.clone(), source },
        IngestError::Stopped => ArchiveError::Internal("nobody cuts any more".into()),
    };
    cut.map_err(failed)
}

fn cut(options: IngestOptions<'_>, pieces: &Receiver<Vec<u8>>) -> Result<(Ingested, Vec<Ends>), IngestError> {
    let mut ends = Vec::new();
    let mut ingest = Ingest::new(options, |pack: NewPack| {
        ends.push(ends_of(&pack));
        Ok(())
    });
    for piece in pieces {
        ingest.push(&piece)?;
    }
    let mut ingested = ingest.finish()?;
    let last = ingested.last_pack.take();
    ends.extend(last.iter().map(ends_of));
    Ok((ingested, ends))
}

fn ends_of(pack: &NewPack) -> Ends {
    let ends = pack.chunks.iter().scan(0, |end, chunk| {
        *end += chunk.len_bytes;
        Some(*end)
    });
    [0].into_iter().chain(ends).collect()
}

/// Hands a stream on, piece by piece.
struct Pieces(SyncSender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.send(bytes.to_vec());
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
