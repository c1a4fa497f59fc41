//! The scheduler: one operation of one actor at a time, in virtual time, and everything that goes wrong.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hah_vault::store::{At, ObjectMeta, Operation, StoreError, StoreTime};
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;

use super::Random;
use super::double::{Answer, Clock, Host, Message, Op, Reply, SimStore, What};
use super::history::{History, Outcome, Role};
use super::objects::Objects;
use super::oracle::Oracle;

pub(super) const HOUR_MS: f64 = 3_600_000.0;
/// 2026-11-22T00:00:00Z.
pub(super) const START_MS: i64 = 1_795_305_600_000;
/// How long the real code may think between two operations before the test gives up on it.
const THINK_MAX: Duration = Duration::from_secs(120);
/// How long it may take to give up after a failure, where it has asked for other things too.
const REACTION: Duration = Duration::from_millis(3);
/// How long it may take to ask for several things at once.
const ASKING: Duration = Duration::from_micros(300);
/// Readings of the store's clock differ by this much: several machines answer.
const JITTER_MS: f64 = 5_000.0;

/// What goes wrong, and how often.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    /// An actor dies, for each operation.
    pub crash: f64,
    /// An actor stands still after an operation, for hours.
    pub stall: f64,
    /// The same after a manifest or a trash copy was put or deleted.
    pub stall_hot: f64,
    /// The same after a listing was read to its end, but for no longer than a plan may take.
    pub stall_list: f64,
    /// The same between its last look at the clock and the moment in which such an operation is done.
    pub stall_unfenced: f64,
    /// Of the stalls: the machine was paused, and its clocks do not know.
    pub paused: f64,
    /// A put or delete is delivered once more, later.
    pub duplicate: f64,
    /// An operation fails for the caller, though it may have been done, or may still be.
    pub lost_answer: f64,
    /// How long after its sending a request may still be delivered, hours.
    pub window_h: f64,
    /// Each 20 hours the world loses a pack or an index,
    pub loss: f64,
    /// or damages a manifest.
    pub damage: f64,
    /// One read of a manifest gives half of it.
    pub bad_get: f64,
    /// The store's clock runs ahead between two times, by so much; hours.
    pub ahead_h: Option<(f64, f64, f64)>,
    /// Three of ten pages of listings are as old as that at most, hours.
    pub stale_h: f64,
    /// Entries in a page of a listing.
    pub page: usize,
    /// Hours until the end.
    pub horizon_h: f64,
    /// Stalls are of lengths that hurt: shares of the grace.
    pub pointed: bool,
}

enum State {
    Idle,
    /// Its code runs; nothing else happens meanwhile.
    Running,
    /// It waits for the answers to these operations, the first one at `at_ms`.
    Waiting {
        queue: VecDeque<(Op, Reply)>,
        listed: Vec<ObjectMeta>,
    },
}

struct Actor {
    role: Role,
    random: Random,
    /// Which run this is: late words of earlier ones count for nothing.
    run: u64,
    state: State,
    at_ms: i64,
    /// It stands still since then, and these answers wait for it.
    stalled_ms: i64,
    held: Vec<(Reply, Result<Answer, StoreError>)>,
    /// For how long its machine had been paused when it put a copy of this manifest into the trash.
    copied: HashMap<String, i64>,
    task: Option<AbortHandle>,
    host: Arc<Host>,
}

fn is_manifest(key: &str) -> bool {
    key.starts_with("manifests/") || key.starts_with("trash/")
}

/// The manifest of a trash copy.
fn copied(key: &str) -> Option<String> {
    let (name, _) = key.strip_prefix("trash/")?.rsplit_once('.')?;
    Some(format!("manifests/{name}"))
}

/// Whether an operation is one of those that all depends on.
fn is_hot(op: &Op) -> bool {
    match op {
        Op::Put(key, _) | Op::Delete(key) => is_manifest(key),
        _ => false,
    }
}

/// One history.
pub(super) struct Sim {
    pub objects: Objects,
    pub oracle: Oracle,
    pub history: History,
    faults: Faults,
    clock: Arc<Clock>,
    actors: Vec<Actor>,
    late: Vec<(i64, Op, bool)>,
    world: Random,
    world_at_ms: i64,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
}

/// One runtime for all histories.
pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread().worker_threads(2).max_blocking_threads(512).enable_all().build().expect("runtime")
    })
}

fn hours(hours: f64) -> i64 {
    (hours * HOUR_MS) as i64
}

impl Sim {
    pub fn new(seed: u64, faults: Faults, history: History) -> Self {
        let clock = Arc::new(Clock::default());
        clock.set(START_MS);
        let (sender, receiver) = channel();
        let mut actors = Vec::new();
        for (i, role) in history.roles().into_iter().enumerate() {
            let mut random = Random::new(seed, 100 + i as u64);
            let skew_h = match random.unit() {
                x if x < 0.15 => random.uniform(-60.0, 60.0),
                x if x < 0.5 => random.uniform(-0.2, 0.2),
                _ => 0.0,
            };
            let host = Arc::new(Host {
                clock: Arc::clone(&clock),
                skew_ms: hours(skew_h),
                paused_ms: 0.into(),
                random: Mutex::new(Random::new(seed, 200 + i as u64)),
            });
            let at_ms = START_MS + hours(random.uniform(0.0, 12.0));
            actors.push(Actor {
                role,
                random,
                run: 0,
                state: State::Idle,
                at_ms,
                stalled_ms: 0,
                held: Vec::new(),
                copied: HashMap::new(),
                task: None,
                host,
            });
        }
        let mut world = Random::new(seed, 1);
        let world_at_ms = START_MS + hours(world.exponential(20.0));
        Self {
            objects: history.initial_objects(START_MS),
            oracle: Oracle::default(),
            history,
            faults,
            clock,
            actors,
            late: Vec::new(),
            world,
            world_at_ms,
            sender,
            receiver,
        }
    }

    /// Plays the history to its end.
    pub fn play(&mut self) {
        let end_ms = START_MS + hours(self.faults.horizon_h);
        loop {
            self.listen();
            let actor = (0..self.actors.len()).min_by_key(|i| self.actors[*i].at_ms).expect("an actor");
            let late = (0..self.late.len()).min_by_key(|i| self.late[*i].0);
            let at_ms = self.actors[actor].at_ms;
            if let Some(late) = late.filter(|i| self.late[*i].0 <= at_ms.min(self.world_at_ms)) {
                let (at_ms, op, excused) = self.late.remove(late);
                self.advance(at_ms);
                self.oracle.note(at_ms, || format!("delivered late: {op:?}"));
                self.change(&op, at_ms + self.ahead_ms(), excused);
            } else if self.world_at_ms <= at_ms {
                self.advance(self.world_at_ms);
                self.world();
            } else if at_ms > end_ms {
                break;
            } else {
                self.advance(at_ms);
                match self.actors[actor].state {
                    State::Idle => self.begin(actor),
                    _ => self.serve(actor),
                }
            }
        }
        for i in 0..self.actors.len() {
            self.end(i);
        }
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn advance(&self, at_ms: i64) {
        self.clock.set(at_ms.max(self.clock.now_ms()));
    }

    /// Lets the code run until each actor waits for something.
    fn listen(&mut self) {
        while self.actors.iter().any(|actor| matches!(actor.state, State::Running)) {
            let message = self.receiver.recv_timeout(THINK_MAX).expect("the code under test hangs");
            self.take(message);
        }
        // What else has been asked by now only stands in the queue.
        while let Ok(message) = self.receiver.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        let i = message.actor;
        if self.actors[i].run != message.run || matches!(self.actors[i].state, State::Idle) {
            return;
        }
        match message.what {
            What::Op(op, reply) if !self.actors[i].held.is_empty() => {
                // It was sent before the stall, and only now arrives here: too late, and the history is another one.
                let stalled_h = (self.now_ms() - self.actors[i].stalled_ms) as f64 / HOUR_MS;
                self.oracle.without_trash |= stalled_h > self.faults.window_h;
                let answer = self.perform(i, &op);
                self.actors[i].held.push((reply, answer));
            }
            What::Op(op, reply) => {
                if let State::Waiting { queue, .. } = &mut self.actors[i].state {
                    queue.push_back((op, reply));
                    return;
                }
                self.actors[i].state = State::Waiting { queue: [(op, reply)].into(), listed: Vec::new() };
                self.schedule(i);
            }
            What::Done(outcome) => {
                self.abandon(i);
                self.ended(i, *outcome);
                self.rest(i);
            }
        }
    }

    fn ended(&mut self, i: usize, outcome: Outcome) {
        let now_ms = self.now_ms();
        self.oracle.note(now_ms, || format!("{:?} {i}: {}", self.actors[i].role, outcome.words()));
        self.history.count(&outcome);
        self.oracle.promised(outcome, &self.objects, now_ms);
    }

    /// Requests that a run no longer waits for may be done all the same.
    fn abandon(&mut self, i: usize) {
        let late_ms = self.now_ms();
        let State::Waiting { queue, .. } = &mut self.actors[i].state else { return };
        for (op, _) in std::mem::take(queue) {
            let random = &mut self.actors[i].random;
            if op.changes() && random.chance(0.5) {
                let at_ms = late_ms + hours(random.uniform(0.0, self.faults.window_h));
                let excused = self.is_excused(i, &op);
                self.late.push((at_ms, op, excused));
            }
        }
    }

    /// Until its next run.
    fn rest(&mut self, i: usize) {
        let actor = &mut self.actors[i];
        actor.state = State::Idle;
        actor.held.clear();
        actor.task = None;
        actor.at_ms = self.clock.now_ms() + hours(actor.random.exponential(self.history.cast.pause_h(actor.role)));
    }

    /// It is gone, in the middle of whatever it did.
    fn end(&mut self, i: usize) {
        if let Some(task) = self.actors[i].task.take() {
            task.abort();
        }
        self.actors[i].run += 1;
        self.rest(i);
    }

    fn begin(&mut self, i: usize) {
        let actor = &mut self.actors[i];
        actor.run += 1;
        actor.copied.clear();
        actor.state = State::Running;
        let store = Arc::new(SimStore { actor: i, run: actor.run, scheduler: Mutex::new(self.sender.clone()) });
        let began_ms = self.clock.now_ms();
        let work = self.history.run(&actor.role, store, actor.host.clone(), &mut actor.random, began_ms);
        let (run, sender) = (actor.run, self.sender.clone());
        let task = runtime().spawn(async move {
            let outcome = Box::new(work.await);
            // Nobody listens any more once the history is over.
            let _ = sender.send(Message { actor: i, run, what: What::Done(outcome) });
        });
        actor.task = Some(task.abort_handle());
    }

    /// When the first operation in the queue will be done.
    fn schedule(&mut self, i: usize) {
        let State::Waiting { queue, .. } = &self.actors[i].state else { return };
        let is_hot = is_hot(&queue[0].0);
        let actor = &mut self.actors[i];
        let mut pause_h = actor.random.exponential(0.004);
        if is_hot && actor.random.chance(self.faults.stall_unfenced) {
            pause_h += self.stall_h(i);
        }
        self.actors[i].at_ms = self.clock.now_ms() + hours(pause_h);
    }

    /// For how long an actor stands still, and perhaps its clocks with it.
    fn stall_h(&mut self, i: usize) -> f64 {
        let actor = &mut self.actors[i];
        let stall_h = match (self.faults.pointed, actor.random.below(3)) {
            (true, _) => 24.0 * actor.random.choose(&[0.1, 0.2, 0.3, 0.45, 0.6, 0.9, 1.1, 2.0]),
            (false, 0) => actor.random.uniform(0.0, 4.0),
            (false, 1) => actor.random.uniform(2.0, 20.0),
            (false, _) => actor.random.uniform(10.0, 60.0),
        };
        let is_paused = actor.random.chance(self.faults.paused);
        if is_paused {
            actor.host.paused_ms.fetch_add(hours(stall_h), Ordering::SeqCst);
        }
        self.oracle.note(self.clock.now_ms(), || format!("{i} stalls {stall_h:.2} h, paused: {is_paused}"));
        stall_h
    }

    fn serve(&mut self, i: usize) {
        let now_ms = self.now_ms();
        let held = std::mem::take(&mut self.actors[i].held);
        if !held.is_empty() {
            return self.answer(i, held);
        }
        if self.actors[i].random.chance(self.faults.crash / 2.0) {
            self.oracle.note(now_ms, || format!("{i} crashes before an operation"));
            return self.end(i);
        }
        let as_of_ms = self.as_of_ms(i);
        let State::Waiting { queue, listed } = &mut self.actors[i].state else { return };
        let (op, reply) = queue.pop_front().expect("an operation");
        let answer = if let Op::List(prefix) = &op {
            let after = listed.last().map(|meta| meta.key.clone());
            let page = self.objects.page(prefix, after.as_deref(), self.faults.page, as_of_ms);
            let is_last = page.len() < self.faults.page;
            listed.extend(page);
            if !is_last {
                queue.push_front((op, reply));
                return self.schedule(i);
            }
            Ok(Answer::List(std::mem::take(listed)))
        } else {
            self.perform(i, &op)
        };
        if self.actors[i].random.chance(self.faults.crash / 2.0) {
            self.oracle.note(now_ms, || format!("{i} crashes after an operation"));
            return self.end(i);
        }
        // Time passes before the code goes on, and looks at its clocks.
        let stall = match &op {
            Op::List(_) => self.faults.stall_list,
            op if is_hot(op) => self.faults.stall_hot,
            _ => self.faults.stall,
        };
        if self.actors[i].random.chance(stall) {
            return self.stall(i, matches!(op, Op::List(_)), reply, answer);
        }
        self.answer(i, vec![(reply, answer)]);
    }

    /// It stands still. What it had asked for besides is done now: those requests have been sent.
    fn stall(&mut self, i: usize, is_short: bool, reply: Reply, answer: Result<Answer, StoreError>) {
        std::thread::sleep(ASKING);
        while let Ok(message) = self.receiver.try_recv() {
            self.take(message);
        }
        let State::Waiting { queue, .. } = &mut self.actors[i].state else { return };
        let queue = std::mem::take(queue);
        let now_ms = self.now_ms();
        self.actors[i].stalled_ms = now_ms;
        self.actors[i].held.push((reply, answer));
        for (op, reply) in queue {
            let answer = self.perform(i, &op);
            self.actors[i].held.push((reply, answer));
        }
        // Only now: what was asked for before knows nothing of a pause.
        let stall_h = if is_short { self.actors[i].random.uniform(0.0, 3.0) } else { self.stall_h(i) };
        self.actors[i].at_ms = now_ms + hours(stall_h);
    }

    /// Does one operation, well or not.
    fn perform(&mut self, i: usize, op: &Op) -> Result<Answer, StoreError> {
        let now_ms = self.now_ms();
        let random = &mut self.actors[i].random;
        let late_ms = now_ms + hours(random.uniform(0.0, self.faults.window_h));
        let (is_lost, is_doubled) = (random.chance(self.faults.lost_answer), random.chance(self.faults.duplicate));
        let (is_done, is_bad) = (random.chance(0.5), random.chance(self.faults.bad_get));
        let store_ms = now_ms + random.uniform(-JITTER_MS, JITTER_MS) as i64 + self.ahead_ms();
        let (excused, as_of_ms) = (self.is_excused(i, op), self.as_of_ms(i));
        if let Some(copied) = op.put_key().and_then(copied) {
            let paused_ms = self.actors[i].host.paused_ms.load(Ordering::SeqCst);
            self.actors[i].copied.insert(copied, paused_ms);
        }
        if op.changes() && (is_doubled || is_lost && !is_done) {
            self.late.push((late_ms, op.clone(), excused));
        }
        if is_lost {
            if op.changes() && is_done {
                self.change(op, store_ms, excused);
            }
            self.oracle.note(now_ms, || format!("{i} hears of a failure (done: {is_done}): {op:?}"));
            let at = At { operation: Operation::Put, key: "simulated".into(), store: "simulated".into() };
            let source = "on purpose".into();
            return Err(StoreError::Unreachable { at, attempts: 1, hint: None, source });
        }
        match op {
            Op::Now => Ok(Answer::Time(StoreTime { unix_ms: store_ms / 1000 * 1000 })),
            Op::Get(key, len_max_bytes) => match self.get(key, *len_max_bytes) {
                Ok(Answer::Bytes(bytes)) if is_bad && is_manifest(key) => {
                    self.oracle.note(now_ms, || format!("{i} gets half of {key}"));
                    Ok(Answer::Bytes(bytes.slice(..bytes.len() / 2)))
                }
                answer => answer,
            },
            Op::Stat(key) => Ok(Answer::Stat(self.objects.stat(key))),
            Op::List(prefix) => Ok(Answer::List(self.objects.page(prefix, None, usize::MAX, as_of_ms))),
            Op::Put(..) | Op::Delete(_) => {
                self.oracle.note(now_ms, || format!("{i} {op:?}"));
                Ok(self.change(op, store_ms, excused))
            }
        }
    }

    /// The moment that a listing shows.
    fn as_of_ms(&mut self, i: usize) -> i64 {
        let random = &mut self.actors[i].random;
        let stale_h = if random.chance(0.3) { random.uniform(0.0, self.faults.stale_h) } else { 0.0 };
        self.now_ms() - hours(stale_h)
    }

    /// Whether a manifest is deleted so long after its copy was put only because the machine was paused in between: no
    /// clock of it knows, and another copy follows at once.
    fn is_excused(&self, i: usize, op: &Op) -> bool {
        let Op::Delete(key) = op else { return false };
        let actor = &self.actors[i];
        let paused_ms = actor.host.paused_ms.load(Ordering::SeqCst);
        actor.copied.get(key).is_some_and(|at_ms| paused_ms - at_ms > hours(3.0))
    }

    fn answer(&mut self, i: usize, answers: Vec<(Reply, Result<Answer, StoreError>)>) {
        let is_failure = answers.iter().any(|(_, answer)| answer.is_err());
        for (reply, answer) in answers {
            // A run that waits for the first of two answers may have dropped the other.
            let _ = reply.send(answer);
        }
        if is_failure {
            // It may end now, or look at its clocks, although other requests of it are under way.
            std::thread::sleep(REACTION);
            while let Ok(message) = self.receiver.try_recv() {
                self.take(message);
            }
        }
        match &self.actors[i].state {
            State::Idle => {}
            State::Waiting { queue, .. } if !queue.is_empty() => self.schedule(i),
            _ => self.actors[i].state = State::Running,
        }
    }

    fn get(&self, key: &str, len_max_bytes: u64) -> Result<Answer, StoreError> {
        let at = At { operation: Operation::Get, key: key.into(), store: "simulated".into() };
        match self.objects.now.get(key) {
            None => Err(StoreError::NotFound { at }),
            Some(object) if object.bytes.len() as u64 > len_max_bytes => Err(StoreError::TooLong { at, len_max_bytes }),
            Some(object) => Ok(Answer::Bytes(object.bytes.clone())),
        }
    }

    /// How far the store's clock is ahead now.
    fn ahead_ms(&self) -> i64 {
        let at_h = (self.clock.now_ms() - START_MS) as f64 / HOUR_MS;
        match self.faults.ahead_h {
            Some((from_h, to_h, by_h)) if (from_h..to_h).contains(&at_h) => hours(by_h),
            _ => 0,
        }
    }

    fn change(&mut self, op: &Op, at_ms: i64, excused: bool) -> Answer {
        match op {
            Op::Put(key, bytes) => Answer::Put(self.objects.put(key, bytes, at_ms, self.clock.now_ms())),
            Op::Delete(key) => {
                if self.objects.remove(key, self.clock.now_ms()) {
                    self.oracle.deleted(key, &self.objects, self.clock.now_ms(), excused);
                }
                Answer::Deleted
            }
            _ => unreachable!("it changes nothing"),
        }
    }

    /// Loses a pack or an index, or damages a manifest.
    fn world(&mut self) {
        let now_ms = self.now_ms();
        self.world_at_ms = now_ms + hours(self.world.exponential(20.0));
        if self.world.chance(self.faults.loss * 20.0) {
            let packs = self.objects.keys("packs/");
            if !packs.is_empty() {
                let pack = self.world.choose(&packs).trim_start_matches("packs/").to_owned();
                let folder = *self.world.choose(&["packs/", "index/"]);
                self.objects.remove(&format!("{folder}{pack}"), now_ms);
                self.oracle.note(now_ms, || format!("the world loses {folder}{pack}"));
                self.oracle.lost(pack, now_ms);
            }
        }
        if self.world.chance(self.faults.damage * 20.0) {
            let manifests = self.objects.keys("manifests/");
            if !manifests.is_empty() {
                let key = match self.world.chance(0.5) {
                    true => manifests[manifests.len() - 1].clone(),
                    false => self.world.choose(&manifests).clone(),
                };
                let object = self.objects.now.get_mut(&key).expect("listed");
                object.bytes = object.bytes.slice(..object.bytes.len() / 2);
                self.oracle.note(now_ms, || format!("the world damages {key}"));
                self.oracle.damaged(key);
            }
        }
    }
}
