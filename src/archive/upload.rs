//! Puts sealed packs and their indexes while the pipeline goes on. What the store cannot take fast enough waits in
//! memory up to a limit, and then, still encrypted, in unnamed temporary files: a slow store never slows a source.

use super::{ArchiveError, Event, Monitor};
use crate::room;
use crate::store::{Put, Store, StoreError};
use bytes::Bytes;
use hah_vault_format::SourceName;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

/// Sealed bytes that may wait in memory, for all sources of a run together: one full pack.
const WAITING_LEN_BYTES_MAX: usize = 9 << 20;
/// Packs that are put at the same time. Each holds at most one object of 10 MiB.
const PUTS_MAX: usize = 3;

/// A sealed pack with its index.
pub struct Upload {
    /// Whose it is.
    pub source: SourceName,
    /// Key of the pack.
    pub pack_key: String,
    /// The pack.
    pub pack: Vec<u8>,
    /// Key of the index.
    pub index_key: String,
    /// The index.
    pub index: Vec<u8>,
}

/// Answers when an upload is done.
pub type Uploaded = oneshot::Receiver<Result<(), ArchiveError>>;

enum Body {
    Memory(Vec<u8>),
    Spilled(File),
}

impl Body {
    fn in_memory_bytes(&self) -> usize {
        match self {
            Self::Memory(pack) => pack.len(),
            Self::Spilled(_) => 0,
        }
    }
}

struct Item {
    upload: Upload,
    body: Body,
    done: oneshot::Sender<Result<(), ArchiveError>>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    memory_bytes: usize,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    more: Notify,
    dir: PathBuf,
    monitor: Arc<dyn Monitor>,
}

impl Shared {
    /// A panic elsewhere leaves the queue as it is: every change of it is one step.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The uploads of a run. Dropping it stops them.
pub struct Uploader {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
}

/// The end that the pipeline pushes into.
#[derive(Clone)]
pub struct UploadQueue(Arc<Shared>);

impl Uploader {
    /// Starts the workers.
    pub fn start(store: &Arc<dyn Store>, monitor: &Arc<dyn Monitor>) -> Self {
        let (dir, monitor) = (std::env::temp_dir(), Arc::clone(monitor));
        let shared = Arc::new(Shared { queue: Mutex::default(), more: Notify::new(), dir, monitor });
        let mut workers = JoinSet::new();
        for _ in 0..PUTS_MAX {
            workers.spawn(work(Arc::clone(store), Arc::clone(&shared)));
        }
        Self { shared, workers }
    }

    /// The end to push into.
    pub fn queue(&self) -> UploadQueue {
        UploadQueue(Arc::clone(&self.shared))
    }

    /// Waits until everything pushed is done, or nobody waits for it any more.
    pub async fn finish(mut self) {
        self.shared.lock().closed = true;
        self.shared.more.notify_waiters();
        while self.workers.join_next().await.is_some() {}
    }
}

impl UploadQueue {
    /// Queues a pack; blocks for no more than writing it to a temporary file.
    ///
    /// # Errors
    /// [`ArchiveError::Spill`] if it has to wait on disk and there is no room.
    pub fn push(&self, mut upload: Upload) -> Result<Uploaded, ArchiveError> {
        let pack = std::mem::take(&mut upload.pack);
        let fits = {
            let mut queue = self.0.lock();
            let fits = queue.items.is_empty() || queue.memory_bytes + pack.len() <= WAITING_LEN_BYTES_MAX;
            queue.memory_bytes += if fits { pack.len() } else { 0 };
            fits
        };
        let body = if fits { Body::Memory(pack) } else { Body::Spilled(self.spill(&pack)?) };
        let (done, uploaded) = oneshot::channel();
        self.0.lock().items.push_back(Item { upload, body, done });
        self.0.more.notify_one();
        Ok(uploaded)
    }

    /// An unnamed file: gone with the process, however that ends. Only sealed bytes go there.
    fn spill(&self, sealed: &[u8]) -> Result<File, ArchiveError> {
        let write = || {
            let mut file = tempfile::tempfile_in(&self.0.dir)?;
            file.write_all(sealed)?;
            file.rewind()?;
            Ok(file)
        };
        write().map_err(|source| ArchiveError::Spill { dir: self.0.dir.clone(), source })
    }
}

async fn work(store: Arc<dyn Store>, shared: Arc<Shared>) {
    loop {
        let more = shared.more.notified();
        let (item, closed) = {
            let mut queue = shared.lock();
            (queue.items.pop_front(), queue.closed)
        };
        match item {
            Some(item) => {
                let Item { upload, body, mut done } = item;
                let in_memory_bytes = body.in_memory_bytes();
                // When nobody waits any more the source has failed or was stopped: no manifest will name this pack.
                let result = tokio::select! {
                    biased;
                    () = done.closed() => None,
                    result = put_both(store.as_ref(), &shared, upload, body) => Some(result),
                };
                shared.lock().memory_bytes -= in_memory_bytes;
                if let Some(result) = result {
                    // The same: nobody may wait.
                    let _ = done.send(result);
                }
            }
            None if closed => return,
            None => more.await,
        }
    }
}

async fn put_both(store: &dyn Store, shared: &Arc<Shared>, upload: Upload, body: Body) -> Result<(), ArchiveError> {
    let pack = match body {
        Body::Memory(pack) => pack,
        Body::Spilled(file) => read_back(file, shared.dir.clone()).await?,
    };
    let len_bytes = (pack.len() + upload.index.len()) as u64;
    put(store, &upload.pack_key, pack.into()).await?;
    put(store, &upload.index_key, upload.index.into()).await?;
    shared.monitor.event(Event::Stored { source: upload.source, len_bytes });
    Ok(())
}

async fn read_back(mut file: File, dir: PathBuf) -> Result<Vec<u8>, ArchiveError> {
    let read = tokio::task::spawn_blocking(move || {
        let len_bytes = file.metadata()?.len();
        let mut bytes = room::with_capacity(usize::try_from(len_bytes).unwrap_or(0).saturating_add(1));
        file.read_to_end(&mut bytes).map(|_| bytes)
    });
    let read = read.await.map_err(|e| ArchiveError::Internal(e.to_string()))?;
    read.map_err(|source| ArchiveError::Spill { dir, source })
}

/// Puts an object whose name is random or its own hash. One of that name that exists already is fine if it has the
/// same bytes: a request that was delivered twice.
///
/// # Errors
/// [`ArchiveError::Store`]; [`ArchiveError::Collision`] if other bytes are there.
pub async fn put(store: &dyn Store, key: &str, bytes: Bytes) -> Result<(), ArchiveError> {
    let collision = || ArchiveError::Collision { key: key.into() };
    match store.put_if_absent(key, bytes.clone()).await? {
        Put::Created => Ok(()),
        Put::Existed => match store.get(key, bytes.len() as u64).await {
            Ok(found) if found == bytes => Ok(()),
            Ok(_) | Err(StoreError::TooLong { .. }) => Err(collision()),
            Err(error) => Err(error.into()),
        },
    }
}
