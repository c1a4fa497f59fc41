//! What a simulated host sees: a store whose operations wait for the scheduler, and a clock of its own.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::store::{ObjectMeta, Put, Store, StoreError, StoreTime};
use hah_vault::world::World;
use tokio::sync::oneshot;

use super::Random;
use super::history::Outcome;

/// An operation of the store.
#[derive(Clone)]
pub(super) enum Op {
    Now,
    Put(String, Bytes),
    Get(String, u64),
    List(String),
    Stat(String),
    Delete(String),
}

impl Op {
    pub fn changes(&self) -> bool {
        matches!(self, Self::Put(..) | Self::Delete(_))
    }

    pub fn put_key(&self) -> Option<&str> {
        match self {
            Self::Put(key, _) => Some(key),
            _ => None,
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Put(key, _) => write!(f, "put {key}"),
            Self::Get(key, _) => write!(f, "get {key}"),
            Self::List(prefix) => write!(f, "list {prefix}"),
            Self::Stat(key) => write!(f, "stat {key}"),
            Self::Delete(key) => write!(f, "delete {key}"),
        }
    }
}

/// Its answer.
#[derive(Debug)]
pub(super) enum Answer {
    Time(StoreTime),
    Put(Put),
    Bytes(Bytes),
    List(Vec<ObjectMeta>),
    Stat(Option<ObjectMeta>),
    Deleted,
}

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Result<Answer, StoreError>>;

/// What a run tells the scheduler.
pub(super) enum What {
    /// It waits for this.
    Op(Op, Reply),
    /// It has ended.
    Done(Box<Outcome>),
}

pub(super) struct Message {
    pub actor: usize,
    pub run: u64,
    pub what: What,
}

/// The store as one run of one actor sees it.
pub(super) struct SimStore {
    pub actor: usize,
    pub run: u64,
    pub scheduler: Mutex<Sender<Message>>,
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

impl SimStore {
    async fn ask(&self, op: Op) -> Result<Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let message = Message { actor: self.actor, run: self.run, what: What::Op(op, reply) };
        let sent = self.scheduler.lock().expect("lock").send(message);
        match (sent, answer.await) {
            (Ok(()), Ok(answer)) => answer,
            // This run has crashed: it never hears of anything again.
            _ => std::future::pending().await,
        }
    }
}

/// The scheduler answers in kind.
macro_rules! expect {
    ($answer:expr, $variant:ident) => {
        match $answer? {
            Answer::$variant(found) => Ok(found),
            other => panic!("the scheduler answered {other:?}"),
        }
    };
}

#[async_trait]
impl Store for SimStore {
    fn describe(&self) -> String {
        "simulated".into()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        expect!(self.ask(Op::Put(key.into(), bytes)).await, Put)
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        expect!(self.ask(Op::Get(key.into(), len_max_bytes)).await, Bytes)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        expect!(self.ask(Op::List(prefix.into())).await, List)
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        expect!(self.ask(Op::Stat(key.into())).await, Stat)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.ask(Op::Delete(key.into())).await? {
            Answer::Deleted => Ok(()),
            other => panic!("the scheduler answered {other:?}"),
        }
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        expect!(self.ask(Op::Now).await, Time)
    }
}

/// Virtual time, read by every host.
#[derive(Debug, Default)]
pub(super) struct Clock {
    now_ms: AtomicI64,
}

impl Clock {
    pub fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    pub fn set(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }
}

/// A host: its clocks and random numbers.
#[derive(Debug)]
pub(super) struct Host {
    pub clock: Arc<Clock>,
    /// How far its wall clock is off.
    pub skew_ms: i64,
    /// How long it was paused as a virtual machine, which no clock of its own counts.
    pub paused_ms: AtomicI64,
    pub random: Mutex<Random>,
}

impl World for Host {
    fn since_boot(&self) -> Duration {
        let ms = self.clock.now_ms() - self.paused_ms.load(Ordering::SeqCst);
        Duration::from_millis(u64::try_from(ms).expect("after the boot"))
    }

    fn host_unix_ms(&self) -> i64 {
        self.clock.now_ms() + self.skew_ms
    }

    fn random_u32(&self) -> u32 {
        self.random.lock().expect("lock").next_u32()
    }

    fn host(&self) -> String {
        "simulated".into()
    }
}
