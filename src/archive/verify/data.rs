//! Indexes are read and compared with the manifests; and the second depth: packs are read, and with an identity opened and
//! compared with their indexes.

use super::super::{ArchiveError, Cancel, Event, Repository};
use super::report::Flaw;
use super::structure::{Pack, Survey, flaw_of_store};
use super::{Budget, flaw_of, is_verdict, tell_chain};
use crate::keys::{RepositoryIdentity, SourceKeyring};
use crate::pipeline::seal::{self, INDEX_OBJECT_LEN_BYTES_MAX, SealError};
use bytes::Bytes;
use futures::StreamExt;
use hah_vault_format::limits::PACK_OBJECT_LEN_BYTES_MAX;
use hah_vault_format::{Index, ObjectId};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Packs and indexes that are read at the same time, if the budget allows.
const READS_MAX: usize = 8;
/// Indexes that are read at the same time on their own.
const INDEXES_MAX: usize = 16;
/// Sealed bytes in memory at the same time.
const IN_FLIGHT_LEN_BYTES_MAX: u64 = 48 << 20;
/// Packs that are opened at the same time: each takes up to 18 MiB beside its sealed bytes.
const OPENED_MAX: usize = 2;

/// What reading a pack and its index has shown.
#[derive(Debug)]
pub(super) struct Reading {
    /// Its place in the survey.
    pub place: usize,
    pub pack: Option<(Flaw, String)>,
    pub index: Option<(Flaw, String)>,
    /// Chunks whose ids are right.
    pub chunks: usize,
    pub len_bytes: u64,
}

/// Reads the packs at these places; `each` hears of every one.
pub(super) async fn read(
    repository: &Repository,
    survey: &Survey,
    places: &[usize],
    cancel: &Cancel,
    mut each: impl FnMut(Reading),
) -> Result<(), ArchiveError> {
    let (budget, opened) = (Budget::new(IN_FLIGHT_LEN_BYTES_MAX), Semaphore::new(OPENED_MAX));
    let packs: Vec<(usize, &Pack)> =
        places.iter().filter_map(|place| Some((*place, survey.packs.get(*place)?))).collect();
    let total = packs.iter().map(|(_, pack)| pack.object_len_bytes).sum();
    let readings = packs.into_iter().map(|(place, pack)| {
        let (budget, opened) = (&budget, &opened);
        async move {
            cancel.check()?;
            let _room = budget.take(pack.object_len_bytes + pack.index_len_bytes.unwrap_or(0)).await?;
            read_one(repository, pack, place, opened).await
        }
    });
    let mut readings = std::pin::pin!(futures::stream::iter(readings).buffer_unordered(READS_MAX));
    while let Some(reading) = readings.next().await {
        let reading = reading?;
        let done = survey.packs.get(reading.place).map_or(0, |pack| pack.object_len_bytes);
        repository.monitor.event(Event::Checked { what: "packs", done, total, are_bytes: true });
        each(reading);
    }
    Ok(())
}

/// Reads the indexes that are listed, with the writer key; `each` hears of those that do not open or do not agree with the
/// manifests, by their places.
pub(super) async fn read_indexes(
    repository: &Repository,
    survey: &Survey,
    cancel: &Cancel,
    mut each: impl FnMut(usize, (Flaw, String)),
) -> Result<(), ArchiveError> {
    let budget = Budget::new(IN_FLIGHT_LEN_BYTES_MAX);
    let listed = |pack: &Pack| pack.index_len_bytes.filter(|len| *len <= INDEX_OBJECT_LEN_BYTES_MAX);
    let packs = survey.packs.iter().enumerate().filter_map(|(place, pack)| Some((place, pack, listed(pack)?)));
    let total = survey.packs.iter().filter(|pack| listed(pack).is_some()).count() as u64;
    let readings = packs.map(|(place, pack, len_bytes)| {
        let budget = &budget;
        async move {
            cancel.check()?;
            let _room = budget.take(len_bytes).await?;
            let bytes = get(repository, &pack.id.index_key(), len_bytes).await?;
            let job = Job { pack: pack.clone(), keys: repository.source_keys(&pack.source)?, identity: None };
            let judged = tokio::task::spawn_blocking(move || bytes.and_then(|bytes| job.open_index(&bytes))).await;
            let judged = judged.map_err(|error| ArchiveError::Internal(error.to_string()))?;
            Ok::<_, ArchiveError>((place, judged.err()))
        }
    });
    let mut readings = std::pin::pin!(futures::stream::iter(readings).buffered(INDEXES_MAX));
    while let Some(reading) = readings.next().await {
        let (place, wrong) = reading?;
        if let Some(wrong) = wrong {
            each(place, wrong);
        }
        repository.monitor.event(Event::Checked { what: "indexes", done: 1, total, are_bytes: false });
    }
    Ok(())
}

/// An object, or what its absence or length shows.
async fn get(repository: &Repository, key: &str, len_max: u64) -> Result<Result<Bytes, (Flaw, String)>, ArchiveError> {
    match repository.store.get(key, len_max).await {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(error) if is_verdict(&error) => Ok(Err(flaw_of_store(&error))),
        Err(error) => Err(error.into()),
    }
}

/// Reads a pack and its index, and compares them.
pub(super) async fn read_one(
    repository: &Repository,
    pack: &Pack,
    place: usize,
    opened: &Semaphore,
) -> Result<Reading, ArchiveError> {
    let index_len_max = pack.index_len_bytes.unwrap_or(INDEX_OBJECT_LEN_BYTES_MAX).min(INDEX_OBJECT_LEN_BYTES_MAX);
    let index = get(repository, &pack.id.index_key(), index_len_max).await?;
    let bytes = get(repository, &pack.id.pack_key(), pack.object_len_bytes.min(PACK_OBJECT_LEN_BYTES_MAX)).await?;
    let _turn = opened.acquire().await.map_err(|error| ArchiveError::Internal(error.to_string()))?;
    let job = Job {
        pack: pack.clone(),
        keys: repository.source_keys(&pack.source)?,
        identity: repository.keyring.identity.clone().map(Arc::new),
    };
    let judged = tokio::task::spawn_blocking(move || job.judge(bytes, index)).await;
    let (pack_flaw, index_flaw, chunks) = judged.map_err(|error| ArchiveError::Internal(error.to_string()))?;
    Ok(Reading { place, pack: pack_flaw, index: index_flaw, chunks, len_bytes: pack.object_len_bytes })
}

type Found = Option<(Flaw, String)>;

/// What a thread needs to judge one pack.
struct Job {
    pack: Pack,
    keys: SourceKeyring,
    identity: Option<Arc<RepositoryIdentity>>,
}

impl Job {
    fn judge(
        &self,
        bytes: Result<Bytes, (Flaw, String)>,
        index: Result<Bytes, (Flaw, String)>,
    ) -> (Found, Found, usize) {
        let index = index.and_then(|bytes| self.open_index(&bytes));
        let plaintext = bytes.and_then(|bytes| self.open(&bytes));
        match (plaintext, index) {
            (Ok(Some(plaintext)), Ok(index)) => match self.compare(&plaintext, &index) {
                Ok(chunks) => (None, None, chunks),
                Err(flaw) => (None, Some(flaw), 0),
            },
            (pack, index) => (pack.err(), index.err(), 0),
        }
    }

    /// The plaintext; none without an identity, when only the name can be judged.
    fn open(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, (Flaw, String)> {
        let Pack { id, plaintext_len_bytes, .. } = &self.pack;
        let wrong = |error: SealError| {
            let flaw = if matches!(error, SealError::Name) { Flaw::Hash } else { Flaw::Unreadable };
            (flaw, tell_chain(&error))
        };
        match &self.identity {
            Some(identity) => seal::open_pack(bytes, id, *plaintext_len_bytes, identity).map(Some).map_err(wrong),
            None if ObjectId::of(bytes) == *id => Ok(None),
            None => Err(wrong(SealError::Name)),
        }
    }

    fn open_index(&self, bytes: &[u8]) -> Result<Index, (Flaw, String)> {
        let index = seal::open_index(bytes, &self.pack.id, &self.keys);
        let index = index.map_err(|error| (flaw_of(&error), tell_chain(&error)))?;
        let contradiction = |what: &str| Err((Flaw::Contradiction, what.to_owned()));
        if index.source != self.pack.source {
            return contradiction("it is of another source");
        }
        if index.pack_len_bytes != self.pack.object_len_bytes {
            return contradiction("the length of the pack is another one");
        }
        if index.plaintext_len_bytes() != self.pack.plaintext_len_bytes {
            return contradiction("its chunks are not as long as the pack's plaintext");
        }
        Ok(index)
    }

    /// Every chunk's id against its bytes; the lengths add up to the plaintext's.
    fn compare(&self, plaintext: &[u8], index: &Index) -> Result<usize, (Flaw, String)> {
        let mut rest = plaintext;
        let mut wrong = 0;
        for chunk in &index.chunks {
            let (bytes, later) = rest.split_at(rest.len().min(chunk.len_bytes as usize));
            wrong += usize::from(self.keys.keys.chunk_id.id(bytes) != chunk.id);
            rest = later;
        }
        if wrong == 0 {
            return Ok(index.chunks.len());
        }
        let detail = format!("{wrong} of {} chunk ids are not those of the pack's bytes", index.chunks.len());
        Err((Flaw::ChunkIds { chunks: wrong }, detail))
    }
}
