//! A store that fails, lies and stalls on demand, around any other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::store::{At, ObjectMeta, Operation, Put, Store, StoreError, StoreTime};

/// What happens instead of, or after, an operation.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Refused, without being done.
    Deny,
    /// Not reached, without being done.
    Unreachable,
    /// No space, without being done.
    Full,
    /// Done, but the caller hears of a time-out.
    LostAnswer,
    /// Never ends.
    Hang,
    /// Takes this long, then goes on as usual.
    Delay(Duration),
    /// Takes as long as its bytes take at this speed, then goes on as usual.
    Throttle { bytes_per_second: u64 },
    /// A get, stat or delete finds nothing.
    Missing,
    /// A get gives only this many bytes.
    Truncate(usize),
    /// A get gives one bit, of this byte (modulo the length), the wrong way round.
    Flip(usize),
    /// A get gives these bytes.
    Replace(Bytes),
    /// A listing leaves out the keys that contain this.
    Hide(String),
    /// A listing names an object that is not there.
    Invent(ObjectMeta),
    /// The store's clock is this far off.
    ClockOff { ms: i64 },
}

/// A fault for some operations.
#[derive(Debug, Clone)]
pub struct Rule {
    pub operation: Operation,
    /// Only keys or prefixes that contain this.
    pub key_part: String,
    /// Operations to let pass first.
    pub skip: usize,
    /// How many it hits then.
    pub times: usize,
    pub fault: Fault,
}

/// Any store, with faults.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    rules: Mutex<Vec<Rule>>,
}

impl FaultStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        let rules = Mutex::default();
        Self { inner, rules }
    }

    /// Every operation of a kind, from now on.
    pub fn always(&self, operation: Operation, fault: Fault) {
        self.rule(Rule { operation, key_part: String::new(), skip: 0, times: usize::MAX, fault });
    }

    /// The nth operation of a kind from now on, counted from 0.
    pub fn nth(&self, operation: Operation, skip: usize, fault: Fault) {
        self.rule(Rule { operation, key_part: String::new(), skip, times: 1, fault });
    }

    pub fn rule(&self, rule: Rule) {
        self.rules.lock().expect("lock").push(rule);
    }

    /// No more faults.
    pub fn heal(&self) {
        self.rules.lock().expect("lock").clear();
    }

    fn at(&self, operation: Operation, key: &str) -> At {
        At { operation, key: key.to_owned(), store: self.describe() }
    }

    fn meet(&self, operation: Operation, key: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().expect("lock");
        let fits = |rule: &&mut Rule| rule.operation == operation && rule.times > 0 && key.contains(&rule.key_part);
        let rule = rules.iter_mut().find(fits)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault.clone())
    }

    /// The faults that any operation can meet. `Ok`: go on, and look at what is left of the fault afterwards.
    async fn before(&self, operation: Operation, key: &str, len: usize) -> Result<Option<Fault>, StoreError> {
        let at = self.at(operation, key);
        let fault = self.meet(operation, key);
        match &fault {
            Some(Fault::Deny) => Err(StoreError::Denied { at, hint: None, source: "on purpose".into() }),
            Some(Fault::Unreachable) => {
                Err(StoreError::Unreachable { at, attempts: 1, hint: None, source: "on purpose".into() })
            }
            Some(Fault::Full) => Err(StoreError::Full { at, source: "on purpose".into() }),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(*delay).await;
                Ok(None)
            }
            Some(Fault::Throttle { bytes_per_second }) => {
                tokio::time::sleep(Duration::from_secs_f64(len as f64 / *bytes_per_second as f64)).await;
                Ok(None)
            }
            _ => Ok(fault),
        }
    }

    fn after(&self, operation: Operation, key: &str, fault: Option<&Fault>) -> Result<(), StoreError> {
        let Some(Fault::LostAnswer) = fault else {
            return Ok(());
        };
        Err(StoreError::Timeout { at: self.at(operation, key), after_ms: 0, attempts: 1 })
    }
}

#[async_trait]
impl Store for FaultStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        let fault = self.before(Operation::Put, key, bytes.len()).await?;
        let put = self.inner.put_if_absent(key, bytes).await?;
        self.after(Operation::Put, key, fault.as_ref())?;
        Ok(put)
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        let bytes = self.inner.get(key, len_max_bytes).await?;
        let fault = self.before(Operation::Get, key, bytes.len()).await?;
        self.after(Operation::Get, key, fault.as_ref())?;
        Ok(match fault {
            Some(Fault::Missing) => {
                let at = self.at(Operation::Get, key);
                return Err(StoreError::NotFound { at });
            }
            Some(Fault::Truncate(len)) => bytes.slice(..len.min(bytes.len())),
            Some(Fault::Flip(index)) => flipped(&bytes, index),
            Some(Fault::Replace(other)) => other,
            _ => bytes,
        })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        let fault = self.before(Operation::List, prefix, 0).await?;
        let mut found = self.inner.list(prefix).await?;
        self.after(Operation::List, prefix, fault.as_ref())?;
        match fault {
            Some(Fault::Hide(part)) => found.retain(|object| !object.key.contains(&part)),
            Some(Fault::Invent(object)) => found.push(object),
            _ => {}
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        let fault = self.before(Operation::Stat, key, 0).await?;
        let found = self.inner.stat(key).await?;
        self.after(Operation::Stat, key, fault.as_ref())?;
        Ok(found.filter(|_| !matches!(fault, Some(Fault::Missing))))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let fault = self.before(Operation::Delete, key, 0).await?;
        if !matches!(fault, Some(Fault::Missing)) {
            self.inner.delete(key).await?;
        }
        self.after(Operation::Delete, key, fault.as_ref())
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        let fault = self.before(Operation::Now, "", 0).await?;
        let mut now = self.inner.now().await?;
        if let Some(Fault::ClockOff { ms }) = fault {
            now.unix_ms += ms;
        }
        Ok(now)
    }
}

fn flipped(bytes: &Bytes, index: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    let len = bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(index % len) {
        *byte ^= 1;
    }
    bytes.into()
}
