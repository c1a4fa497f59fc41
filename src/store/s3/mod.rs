//! S3 and R2, by way of opendal's S3 service.
//!
//! Retries and time-outs are ours and not opendal's layers: a time-out has to follow from the length of the object, and whether
//! an earlier attempt may have been done decides what "the key is taken" means.

mod failure;
mod settings;
mod wire;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use opendal::{HttpTransporter, Operator, services};

use super::key::{self, check_key, check_prefix};
use super::{
    At, LIST_LEN_MAX, ObjectMeta, Operation, Patience, Put, Store, StoreError, StoreOptions, StoreTime, StoreUrl,
    random,
};
use crate::room;
use failure::Failure;
use settings::{Nothing, Process, Settings, Surroundings};
use wire::Wire;

/// The longest body of an answer that is not an object: a page of 1000 keys has at most some 2 MB.
const ANSWER_LEN_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A bucket, or a prefix in one.
pub(super) struct S3Store {
    url: String,
    /// With a slash at its end, or empty. Not opendal's root: opendal panics when a listing names a key outside its root.
    prefix: String,
    operator: Operator,
    client: reqwest::Client,
    host: Arc<str>,
    patience: Arc<Patience>,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("url", &self.url).finish_non_exhaustive()
    }
}

/// One operation on one key, for as many attempts as it takes.
struct Call<'a> {
    operation: Operation,
    key: &'a str,
    /// What an attempt sends or receives at most: decides its time-out.
    len_bytes: u64,
    /// The longest body of an answer.
    answer_len_bytes_max: u64,
}

/// How a call ended.
struct Ended<T> {
    result: Result<T, Failure>,
    attempts: u32,
    /// Some attempt, maybe the last one, failed in a way that leaves open whether it was done.
    maybe_done: bool,
}

/// What a read-back found under a key.
enum Found {
    OwnBytes,
    OtherBytes,
    Nothing,
    Unknown,
}

impl S3Store {
    pub(super) fn open(url: &StoreUrl, options: &StoreOptions) -> Result<Self, StoreError> {
        let around: &dyn Surroundings = if options.ignore_environment { &Nothing } else { &Process };
        let settings = Settings::resolve(url, options, around)?;
        let operator = operator(&settings, options.ignore_environment)?;
        if !operator.info().capability().write_with_if_not_exists {
            return Err(StoreError::Unsupported { store: url.to_string(), feature: "put-if-absent (If-None-Match)" });
        }
        let prefix = match settings.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(Self {
            url: url.to_string(),
            prefix,
            operator,
            client: wire::client(&settings, options.patience.connect)?,
            host: settings.host.into(),
            patience: Arc::new(options.patience.clone()),
        })
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The operator for one attempt, and where the Date of its answer will be.
    fn attach(&self, body_len_bytes_max: u64) -> (Operator, Arc<OnceLock<StoreTime>>) {
        let date = Arc::new(OnceLock::new());
        let wire = Wire {
            client: self.client.clone(),
            own_host: Arc::clone(&self.host),
            patience: Arc::clone(&self.patience),
            body_len_bytes_max,
            date: Arc::clone(&date),
        };
        let context = self.operator.base_context();
        let context = context.with_http_transport(HttpTransporter::new(wire));
        (self.operator.clone().with_context(context), date)
    }

    /// Attempts until one succeeds, fails for good, or is the last one allowed.
    async fn call<T, F>(&self, call: &Call<'_>, attempt: impl Fn(Operator) -> F) -> Ended<T>
    where
        F: Future<Output = opendal::Result<T>>,
    {
        let limit = self.patience.attempt(call.len_bytes);
        let mut maybe_done = false;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (operator, _) = self.attach(call.answer_len_bytes_max);
            let result = match tokio::time::timeout(limit, attempt(operator)).await {
                Ok(result) => result.map_err(Failure::from),
                Err(_) => Err(Failure::Late(limit)),
            };
            maybe_done |= result.as_ref().is_err_and(Failure::is_ambiguous);
            match &result {
                Err(failure) if failure.is_transient() && attempts < self.patience.attempts_max => {
                    self.pause(call, attempts, failure).await;
                }
                _ => {
                    return Ended { result, attempts, maybe_done };
                }
            }
        }
    }

    async fn pause(&self, call: &Call<'_>, failures: u32, failure: &Failure) {
        let delay = self.patience.retry_delay(failures, failure.retry_after(), random::fraction());
        let Call { operation, key, .. } = call;
        tracing::debug!(%operation, %key, failures, ?delay, ?failure, "attempt failed, trying again");
        tokio::time::sleep(delay).await;
    }

    fn at(&self, call: &Call<'_>) -> At {
        At { operation: call.operation, key: call.key.to_owned(), store: self.url.clone() }
    }

    fn error<T>(&self, call: &Call<'_>, ended: Ended<T>) -> Result<T, StoreError> {
        let at = self.at(call);
        let failed = |failure: Failure| failure.into_error(at, ended.attempts, call.answer_len_bytes_max);
        ended.result.map_err(failed)
    }

    async fn read(&self, call: &Call<'_>) -> Ended<Bytes> {
        let path = self.path(call.key);
        self.call(call, |operator| {
            let path = path.clone();
            async move { Ok(joined(operator.read(&path).await?)) }
        })
        .await
    }

    async fn read_back(&self, key: &str, own: &Bytes) -> Found {
        let len_bytes = own.len() as u64;
        let call = Call { operation: Operation::Get, key, len_bytes, answer_len_bytes_max: len_bytes };
        match self.read(&call).await.result {
            Ok(bytes) if bytes == *own => Found::OwnBytes,
            Ok(_) | Err(Failure::Fault(wire::Fault::TooLong(_))) => Found::OtherBytes,
            Err(failure) if failure.is_absent() => Found::Nothing,
            Err(_) => Found::Unknown,
        }
    }

    /// A put that was not simply accepted. Never guesses: reads back.
    async fn settle(&self, call: &Call<'_>, own: &Bytes, ended: Ended<()>) -> Result<Put, StoreError> {
        let Err(failure) = &ended.result else {
            return Ok(Put::Created);
        };
        if failure.is_taken() && !ended.maybe_done {
            return Ok(Put::Existed);
        }
        if !failure.is_maybe_taken() && !ended.maybe_done {
            return self.error(call, ended).map(|()| Put::Created);
        }
        match self.read_back(call.key, own).await {
            Found::OwnBytes if ended.maybe_done => Ok(Put::Created),
            Found::OwnBytes | Found::OtherBytes => Ok(Put::Existed),
            Found::Nothing | Found::Unknown => self.error(call, ended).map(|()| Put::Created),
        }
    }

    /// Lists until the end or a failure, beginning after the last key found so far: a failure on page 400 does not begin again.
    async fn list_on(&self, path: &str, found: &mut Vec<ObjectMeta>, seen: &mut usize) -> Result<(), Failure> {
        let limit = self.patience.request;
        let (operator, _) = self.attach(ANSWER_LEN_BYTES_MAX);
        let late = |_| Failure::Late(limit);
        let mut listing = operator.lister_with(if path.is_empty() { "/" } else { path }).recursive(true);
        if let Some(last) = found.last() {
            listing = listing.start_after(&self.path(&last.key));
        }
        let mut listing = tokio::time::timeout(limit, listing).await.map_err(late)??;
        // All entries count, or a store could keep us busy for ever with those that are skipped.
        while *seen <= LIST_LEN_MAX {
            let next = tokio::time::timeout(limit, listing.next()).await.map_err(late)?;
            let Some(entry) = next.transpose()? else {
                break;
            };
            *seen += 1;
            found.extend(self.listed(path, &entry));
        }
        Ok(())
    }

    /// A store may list in any order and twice; callers get neither.
    fn finish_list(
        &self,
        call: &Call<'_>,
        mut found: Vec<ObjectMeta>,
        seen: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        if seen > LIST_LEN_MAX {
            let (at, len_max) = (self.at(call), LIST_LEN_MAX);
            return Err(StoreError::TooMany { at, len_max });
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found.dedup_by(|a, b| a.key == b.key);
        Ok(found)
    }

    /// An entry of a listing, unless it is none of ours: a folder's marker, another tool's object, an invention of the store.
    fn listed(&self, path: &str, entry: &opendal::Entry) -> Option<ObjectMeta> {
        let key = entry.path().strip_prefix(&self.prefix)?;
        if !entry.path().starts_with(path) || !key::is_key(key) {
            return None;
        }
        meta(key, entry.metadata())
    }
}

#[async_trait]
impl Store for S3Store {
    fn describe(&self) -> String {
        self.url.clone()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        check_key(key)?;
        let call = Call {
            operation: Operation::Put,
            key,
            len_bytes: bytes.len() as u64,
            answer_len_bytes_max: ANSWER_LEN_BYTES_MAX,
        };
        let path = self.path(key);
        let ended = self
            .call(&call, |operator| {
                let (path, bytes) = (path.clone(), bytes.clone());
                async move {
                    let put = operator.write_with(&path, bytes).if_not_exists(true);
                    put.await.map(drop)
                }
            })
            .await;
        self.settle(&call, &bytes, ended).await
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        check_key(key)?;
        let call =
            Call { operation: Operation::Get, key, len_bytes: len_max_bytes, answer_len_bytes_max: len_max_bytes };
        let ended = self.read(&call).await;
        self.error(&call, ended)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        check_prefix(prefix)?;
        let call = Call::small(Operation::List, prefix);
        let path = self.path(prefix);
        let mut found = Vec::new();
        let (mut attempts, mut len_before, mut seen) = (0, 0, 0);
        loop {
            attempts = if found.len() > len_before { 1 } else { attempts + 1 };
            len_before = found.len();
            match self.list_on(&path, &mut found, &mut seen).await {
                Err(failure) if failure.is_transient() && attempts < self.patience.attempts_max => {
                    self.pause(&call, attempts, &failure).await;
                }
                result => {
                    let ended = Ended { result, attempts, maybe_done: false };
                    self.error(&call, ended)?;
                    return self.finish_list(&call, found, seen);
                }
            }
        }
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        check_key(key)?;
        let call = Call::small(Operation::Stat, key);
        let path = self.path(key);
        let ended = self
            .call(&call, |operator| {
                let path = path.clone();
                async move { operator.stat(&path).await }
            })
            .await;
        if ended.result.as_ref().is_err_and(Failure::is_absent) {
            return Ok(None);
        }
        let (attempts, maybe_done) = (ended.attempts, false);
        let found = self.error(&call, ended)?;
        let no_time = || Failure::not_understood("the answer has no Last-Modified");
        let result = meta(key, &found).ok_or_else(no_time);
        self.error(&call, Ended { result, attempts, maybe_done }).map(Some)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        let call = Call::small(Operation::Delete, key);
        let path = self.path(key);
        let ended = self
            .call(&call, |operator| {
                let path = path.clone();
                async move { operator.delete(&path).await }
            })
            .await;
        if ended.result.as_ref().is_err_and(Failure::is_absent) {
            return Ok(());
        }
        self.error(&call, ended)
    }

    /// One HEAD of a name that nothing has. Any answer of the store carries its Date, also a refusal, so that this works with
    /// whatever rights there are. Whole seconds, cut off: early by up to a second, which makes ages look younger.
    async fn now(&self) -> Result<StoreTime, StoreError> {
        let call = Call::small(Operation::Now, "");
        let path = self.path(&format!("probe/{}", random::hex16()));
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (operator, date) = self.attach(ANSWER_LEN_BYTES_MAX);
            let limit = self.patience.request;
            let answer = tokio::time::timeout(limit, operator.stat(&path)).await;
            if let Some(date) = date.get() {
                return Ok(*date);
            }
            let failure = match answer {
                Err(_) => Failure::Late(limit),
                Ok(Err(error)) => Failure::from(error),
                Ok(Ok(_)) => Failure::not_understood("the answer has no Date"),
            };
            if !failure.is_transient() || attempts >= self.patience.attempts_max {
                let result = Err(failure);
                return self.error(&call, Ended { result, attempts, maybe_done: false });
            }
            self.pause(&call, attempts, &failure).await;
        }
    }
}

impl<'a> Call<'a> {
    /// An operation that moves little.
    fn small(operation: Operation, key: &'a str) -> Self {
        Self { operation, key, len_bytes: 0, answer_len_bytes_max: ANSWER_LEN_BYTES_MAX }
    }
}

/// One run of bytes.
fn joined(pieces: opendal::Buffer) -> Bytes {
    // An empty one may have no current piece.
    if pieces.is_empty() {
        return Bytes::new();
    }
    if pieces.current().len() == pieces.len() {
        return pieces.to_bytes();
    }
    let mut bytes = room::with_capacity(pieces.len());
    for piece in pieces {
        bytes.extend_from_slice(&piece);
    }
    bytes.into()
}

fn meta(key: &str, found: &opendal::Metadata) -> Option<ObjectMeta> {
    let unix_ms = found.last_modified()?.into_inner().as_millisecond();
    Some(ObjectMeta { key: key.to_owned(), len_bytes: found.content_length(), modified: StoreTime { unix_ms } })
}

fn operator(settings: &Settings, ignore_environment: bool) -> Result<Operator, StoreError> {
    let mut builder =
        services::S3::default().bucket(&settings.bucket).endpoint(&settings.endpoint).region(&settings.region);
    if settings.virtual_host_style {
        builder = builder.enable_virtual_host_style();
    }
    if ignore_environment {
        builder = builder.disable_config_load();
    }
    if ignore_environment || !settings.is_aws {
        // Elsewhere nobody answers at the address where instances ask for credentials, and the wait is long.
        builder = builder.disable_ec2_metadata();
    }
    if let Some(profile) = &settings.profile {
        builder = builder.profile(profile);
    }
    if let Some(keys) = &settings.credentials {
        builder = builder.access_key_id(&keys.access_key_id).secret_access_key(keys.secret_access_key.expose());
        if let Some(token) = &keys.session_token {
            builder = builder.session_token(token.expose());
        }
    }
    Operator::new(builder).map_err(|error| StoreError::Invalid {
        what: format!("the S3 settings are not usable: {}", error.message()),
        hint: None,
    })
}
