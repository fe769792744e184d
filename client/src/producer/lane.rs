//! The batches of one partition, from the first record to the last word about them. Pure: time is an argument.
//!
//! ```text
//!   append -> open -> closed -> in flight -> decided
//!                        again <-'  (to be sent again, before anything younger)
//! ```
//!
//! Batches are numbered in the order of their records, and are sent in the order of their numbers. What keeps the server's
//! order the same as ours, whatever is lost or refused:
//!
//! * A batch that has to be sent again goes before everything younger, and only when nothing younger is in flight.
//! * Every batch of an idempotent producer carries a sequence that follows its predecessor's; the server refuses gaps. A
//!   batch keeps its sequence over all tries, so that one that was appended already is not appended again.
//! * A server that does not know a producer takes any sequence. So until a batch of this epoch has been acknowledged, and
//!   again after a long silence, only one is in flight.
//! * The server remembers its last five batches of a producer. So nothing is sent that is five or more behind the oldest one whose fate is unknown, though those
//!   between were acknowledged: if all answers are lost again, the oldest must still be remembered.
//! * When a batch is given up, its sequence is missing. The next one opens a new epoch, whose sequences begin at 0, when
//!   nothing is in flight; the epoch also keeps late copies of what was given up out of the log. So does a lane that takes the place of another one, whose topic
//!   was said to be gone.

use super::delivery::{Acked, Completion};
use crate::{
    conn::Sent,
    error::{Effect, Error},
};
use bytes::{Bytes, BytesMut};
use millpond_batch::{Builder, Compression, Producer, stamp_producer};
use millpond_wire::messages::{Code, Failure};
use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// A producer that was silent for so long at a partition may have been forgotten there.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a batch waits for company while others are in flight, if the user does not say.
pub(crate) const LINGER_BUSY: Duration = Duration::from_millis(5);
/// So many owners in a row may each name another one before we wait a while: they have not heard of each other yet.
const REDIRECTS_MAX: u32 = 3;
/// Memory for a batch to begin with, in bytes.
const BATCH_BYTES_FIRST: usize = 1024;

/// What the user has asked for.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) in_flight_max: usize,
    pub(crate) linger: Option<Duration>,
    pub(crate) delivery_timeout: Duration,
    pub(crate) batch_bytes: usize,
    pub(crate) compression: Compression,
    /// The producer's id, if it is idempotent.
    pub(crate) producer_id: Option<i64>,
}

/// A batch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    builder: Option<Builder>,
    /// The whole batch, once it was built.
    bytes: Bytes,
    stamp: Option<Producer>,
    /// Whether `bytes` carry `stamp`.
    stamped: bool,
    pub(crate) count: u32,
    created: Instant,
    pub(crate) done: Arc<Completion>,
    /// Memory that it is charged, in bytes.
    charged: usize,
    /// The frame that it is in.
    pub(crate) frame: Arc<OnceLock<Sent>>,
    /// Some try's answer was lost.
    maybe_done: bool,
    last: Option<Error>,
}

impl Batch {
    /// The bytes to send, built or stamped anew if needed. This is where compression happens.
    pub(crate) fn bytes(&mut self) -> std::io::Result<Bytes> {
        if let Some(builder) = self.builder.take() {
            self.bytes = builder.build(self.stamp)?.freeze();
        } else if let (false, Some(stamp)) = (self.stamped, self.stamp) {
            let bytes = std::mem::take(&mut self.bytes);
            let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            stamp_producer(&mut bytes, stamp);
            self.bytes = bytes.freeze();
        }
        self.stamped = true;
        Ok(self.bytes.clone())
    }
}

#[derive(Debug)]
enum Stage {
    /// Its bytes are being made.
    Building,
    /// The server has it, or will.
    Out(Box<Batch>),
    /// Its time was up before the answer came.
    GivenUp,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    done: Arc<Completion>,
    charged: usize,
    stage: Stage,
}

/// What the server, or the lack of it, said to a batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    Acked(Acked),
    /// To be sent again, no sooner than after `wait`.
    Again {
        error: Error,
        wait: Duration,
    },
    /// It was not answered, or refused, and somebody else owns the partition, as is known by now: to be sent there at once.
    Moved(Error),
    /// Its sequence does not follow: an older one is missing. It was not appended.
    Gap(Error),
    Failed(Error),
}

/// A batch whose fate is known.
#[derive(Debug)]
#[must_use = "the deliveries of a decided batch wait to be completed"]
pub(crate) struct Decided {
    pub(crate) done: Arc<Completion>,
    pub(crate) outcome: Result<Acked, Error>,
}

/// What to do with the lane now.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send this, then call [`Lane::sent`].
    Send(Box<Batch>),
    /// Look again at that time, or when something is settled.
    Wait(Instant),
    /// Look again when something is settled or appended.
    Idle,
}

/// What became of an append.
pub(crate) enum Appended {
    /// It is in a batch, at this place. `attend` if the sender should look at the lane.
    Done { done: Arc<Completion>, index: u32, attend: bool },
    /// The batch needs more memory, of so many bytes.
    Charge(usize),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    topic: Arc<str>,
    partition: u32,
    pub(crate) owner: Arc<str>,
    open: Option<Batch>,
    closed: VecDeque<Batch>,
    again: VecDeque<Batch>,
    in_flight: VecDeque<Flight>,
    next_number: u64,
    /// Batches up to this number do not wait for company.
    flush_to: u64,
    epoch: i16,
    next_sequence: i32,
    proven: Option<Instant>,
    gap: bool,
    not_before: Option<Instant>,
    pub(crate) failures: u32,
    /// Owners that have named another one, one after the other.
    redirects: u32,
    /// Bytes of the last full batch: what the next one gets to begin with.
    size_hint: usize,
}

impl Lane {
    pub(crate) fn new(topic: Arc<str>, partition: u32, owner: Arc<str>, epoch: i16) -> Self {
        Self {
            topic,
            partition,
            owner,
            open: None,
            closed: VecDeque::new(),
            again: VecDeque::new(),
            in_flight: VecDeque::new(),
            next_number: 1,
            flush_to: 0,
            epoch,
            next_sequence: 0,
            proven: None,
            gap: false,
            not_before: None,
            failures: 0,
            redirects: 0,
            size_hint: BATCH_BYTES_FIRST,
        }
    }

    /// Somebody else owns the partition now: what waits to be sent again is sent there at once. Whether it was another one before.
    pub(crate) fn move_to(&mut self, owner: &Arc<str>) -> bool {
        if self.owner == *owner {
            return false;
        }
        self.owner = Arc::clone(owner);
        self.not_before = None;
        true
    }

    /// The endpoint `from` names another one that owns the partition. Whether what waits may be sent there at once: not if they send us around for too long.
    pub(crate) fn redirect(&mut self, from: &Arc<str>, there: &Arc<str>) -> bool {
        if from == there {
            return false;
        }
        // It may be there already, for an earlier batch.
        if self.owner != *there {
            if self.redirects >= REDIRECTS_MAX {
                return false;
            }
            self.redirects += 1;
            self.move_to(there);
        }
        true
    }

    /// Appends a record of at most `len` bytes to a batch of about `batch_bytes` at most, if the memory for it was charged; `prepaid` bytes have been charged by the caller
    /// and are taken over if a batch needs them.
    pub(crate) fn append(
        &mut self,
        rules: &Rules,
        batch_bytes: usize,
        now: impl FnOnce() -> Instant,
        len: usize,
        prepaid: &mut usize,
        put: impl FnOnce(&mut Builder),
    ) -> Appended {
        let mut attend = false;
        if let Some(open) = &self.open {
            let bytes = open.builder.as_ref().map_or(0, Builder::len);
            if bytes + len > batch_bytes {
                self.size_hint = bytes.next_multiple_of(BATCH_BYTES_FIRST);
                self.closed.extend(self.open.take());
                attend = true;
            }
        }
        let (bytes, charged) = self.open.as_ref().map_or((0, 0), |b| (b.builder.as_ref().map_or(0, Builder::len), b.charged));
        if bytes + len > charged {
            let first = if charged == 0 { self.size_hint } else { charged * 2 };
            let wanted = first.min(batch_bytes).max(bytes + len) - charged;
            if *prepaid < wanted {
                // A batch that was just closed is waiting for the sender already.
                return Appended::Charge(wanted);
            }
            *prepaid -= wanted;
            attend |= self.open.is_none();
            self.open_batch(rules, now, wanted);
        }
        let open = self.open.as_mut().expect("opened above if there was none");
        let builder = open.builder.as_mut().expect("an open batch is not built");
        put(builder);
        let index = open.count;
        open.count += 1;
        Appended::Done { done: Arc::clone(&open.done), index, attend }
    }

    /// Opens a batch, or adds to the charge of the open one.
    fn open_batch(&mut self, rules: &Rules, now: impl FnOnce() -> Instant, charge: usize) {
        if let Some(open) = &mut self.open {
            open.charged += charge;
            return;
        }
        let batch = Batch {
            number: self.next_number,
            builder: Some(Builder::new(rules.compression, charge)),
            bytes: Bytes::new(),
            stamp: None,
            stamped: false,
            count: 0,
            created: now(),
            done: Arc::new(Completion::new(Arc::clone(&self.topic), self.partition)),
            charged: charge,
            frame: Arc::default(),
            maybe_done: false,
            last: None,
        };
        self.next_number += 1;
        self.open = Some(batch);
    }

    /// What to do now. With `hurry` nothing waits for company.
    pub(crate) fn next(&mut self, rules: &Rules, now: Instant, hurry: bool) -> Next {
        if let Some(until) = self.not_before.filter(|t| now < *t) {
            return Next::Wait(until);
        }
        self.not_before = None;
        let proven = rules.producer_id.is_none() || self.proven.is_some_and(|t| now.duration_since(t) < SILENCE_MAX);
        let room = if proven { rules.in_flight_max } else { 1 };
        if self.in_flight.len() >= room || (self.gap && !self.in_flight.is_empty()) {
            return Next::Idle;
        }
        if self.gap {
            self.begin_epoch();
        }
        if self.is_far_ahead(rules) {
            return Next::Idle;
        }
        if let Some(first) = self.again.front() {
            if self.in_flight.iter().any(|f| f.number > first.number) {
                return Next::Idle;
            }
            return self.launch(rules, |lane| lane.again.pop_front());
        }
        if !self.closed.is_empty() {
            return self.launch(rules, |lane| lane.closed.pop_front());
        }
        let Some(open) = &self.open else { return Next::Idle };
        let linger = match rules.linger {
            Some(linger) => linger,
            None if self.in_flight.is_empty() => Duration::ZERO,
            None => LINGER_BUSY,
        };
        let until = open.created + linger;
        if hurry || open.number <= self.flush_to || until <= now {
            return self.launch(rules, |lane| lane.open.take());
        }
        Next::Wait(until)
    }

    /// Whether what would be sent next is so far behind the oldest one whose fate is unknown that the server might forget that one.
    fn is_far_ahead(&self, rules: &Rules) -> bool {
        let oldest = self.in_flight.front().map(|f| f.number).into_iter().chain(self.again.front().map(|b| b.number)).min();
        let next = self.again.front().or(self.closed.front()).or(self.open.as_ref()).map(|b| b.number);
        let far = |(oldest, next): (u64, u64)| next >= oldest + rules.in_flight_max as u64;
        rules.producer_id.is_some() && oldest.zip(next).is_some_and(far)
    }

    fn launch(&mut self, rules: &Rules, take: impl FnOnce(&mut Self) -> Option<Batch>) -> Next {
        let Some(mut batch) = take(self) else { return Next::Idle };
        if let (Some(id), None) = (rules.producer_id, batch.stamp) {
            batch.stamp = Some(Producer { id, epoch: self.epoch, base_sequence: self.next_sequence });
            batch.stamped = false;
            self.next_sequence = advance(self.next_sequence, batch.count);
        }
        let flight = Flight { number: batch.number, done: Arc::clone(&batch.done), charged: batch.charged, stage: Stage::Building };
        self.in_flight.push_back(flight);
        Next::Send(Box::new(batch))
    }

    /// The batch that [`Lane::next`] gave is about to be handed to a connection.
    pub(crate) fn sent(&mut self, batch: Box<Batch>) {
        let flight = self.in_flight.iter_mut().find(|f| f.number == batch.number);
        flight.expect("a batch that is sent was launched").stage = Stage::Out(batch);
    }

    /// The epoch after this lane's. After 32,767 epochs they begin anew; the server has forgotten the first by then, or refuses.
    pub(crate) fn epoch_after(&self) -> i16 {
        self.epoch.wrapping_add(1).max(0)
    }

    /// A new epoch, after a batch was given up. Nothing is in flight, so every batch left was surely not appended, or carries
    /// a sequence of the old epoch and an unknown fate, and is asked about first by the server's own memory of it.
    fn begin_epoch(&mut self) {
        // One whose fate is unknown keeps its stamp: the server knows whether it has it.
        if self.again.iter().any(|b| b.maybe_done) {
            return;
        }
        self.epoch = self.epoch_after();
        self.next_sequence = 0;
        self.proven = None;
        self.gap = false;
        for batch in &mut self.again {
            batch.stamp = None;
        }
    }

    /// Takes the outcome of a batch in flight. The memory that is free again comes with it.
    pub(crate) fn settle(
        &mut self,
        rules: &Rules,
        now: Instant,
        number: u64,
        outcome: Outcome,
        pause: impl FnOnce(u32) -> Duration,
    ) -> (Option<Decided>, usize) {
        let Some(at) = self.in_flight.iter().position(|f| f.number == number) else { return (None, 0) };
        let Some(Flight { done, charged, stage, .. }) = self.in_flight.remove(at) else { return (None, 0) };
        let Stage::Out(mut batch) = stage else {
            // Its deliveries were told long ago.
            return (None, charged);
        };
        let idempotent = rules.producer_id.is_some();
        match outcome {
            Outcome::Acked(acked) => {
                (self.failures, self.redirects, self.proven) = (0, 0, Some(now));
                (Some(Decided { done, outcome: Ok(acked) }), charged)
            }
            Outcome::Failed(error) => {
                self.gap |= idempotent;
                (Some(Decided { done, outcome: Err(with_effect(error, batch.maybe_done)) }), charged)
            }
            Outcome::Again { error, wait } => {
                self.failures += 1;
                let wait = pause(self.failures).max(wait);
                self.not_before = Some(self.not_before.map_or(now + wait, |t| t.max(now + wait)));
                batch.maybe_done |= error.effect() == Effect::Unknown;
                batch.last = Some(error);
                self.put_back(*batch);
                (None, 0)
            }
            Outcome::Moved(error) => {
                batch.maybe_done |= error.effect() == Effect::Unknown;
                batch.last = Some(error);
                self.put_back(*batch);
                (None, 0)
            }
            Outcome::Gap(error) => {
                let older = self.again.iter().any(|b| b.number < number) || self.in_flight.iter().any(|f| f.number < number);
                if !older && !self.gap {
                    // All before it were acknowledged: the server has lost them, or us.
                    self.failures += 1;
                    self.not_before = Some(now + pause(self.failures));
                    self.gap = true;
                }
                batch.maybe_done = false;
                batch.last = Some(error);
                self.put_back(*batch);
                (None, 0)
            }
        }
    }

    fn put_back(&mut self, batch: Batch) {
        let at = self.again.partition_point(|b| b.number < batch.number);
        self.again.insert(at, batch);
    }

    /// Gives up what was not delivered in time. The memory that is free again comes with it.
    pub(crate) fn expire(&mut self, rules: &Rules, now: Instant) -> (Vec<Decided>, usize) {
        let is_late = |created: Instant| created + rules.delivery_timeout <= now;
        let (mut decided, mut freed) = (Vec::new(), 0);
        for flight in &mut self.in_flight {
            let Stage::Out(batch) = &flight.stage else { continue };
            if is_late(batch.created) {
                let Stage::Out(batch) = std::mem::replace(&mut flight.stage, Stage::GivenUp) else { continue };
                let maybe_done = batch.maybe_done || batch.frame.get().is_none_or(Sent::is_written);
                decided.push(Decided { done: batch.done, outcome: Err(timed_out(rules, batch.last, maybe_done)) });
                self.gap |= rules.producer_id.is_some();
            }
        }
        for queue in [&mut self.again, &mut self.closed] {
            while queue.front().is_some_and(|b| is_late(b.created)) {
                let Some(batch) = queue.pop_front() else { break };
                self.gap |= batch.stamp.is_some();
                freed += batch.charged;
                decided.push(Decided { done: batch.done, outcome: Err(timed_out(rules, batch.last, batch.maybe_done)) });
            }
        }
        if let Some(open) = self.open.take_if(|b| is_late(b.created)) {
            freed += open.charged;
            decided.push(Decided { done: open.done, outcome: Err(timed_out(rules, open.last, false)) });
        }
        (decided, freed)
    }

    /// Gives up everything that is not in flight, for a reason that concerns the whole partition.
    pub(crate) fn fail_all(&mut self, error: &Error) -> (Vec<Decided>, usize) {
        let (mut decided, mut freed) = (Vec::new(), 0);
        let waiting = self.again.drain(..).chain(self.closed.drain(..)).chain(self.open.take());
        for batch in waiting {
            self.gap |= batch.stamp.is_some();
            freed += batch.charged;
            decided.push(Decided { done: batch.done, outcome: Err(with_effect(error.clone(), batch.maybe_done)) });
        }
        (decided, freed)
    }

    /// When the oldest batch is to be given up.
    pub(crate) fn deadline(&self, rules: &Rules) -> Option<Instant> {
        let out = self.in_flight.iter().filter_map(|f| if let Stage::Out(b) = &f.stage { Some(b.created) } else { None });
        let waiting = self.again.front().into_iter().chain(self.closed.front()).chain(&self.open).map(|b| b.created);
        out.chain(waiting).min().map(|t| t + rules.delivery_timeout)
    }

    /// Has everything up to now sent without waiting for company, and returns what is undecided.
    pub(crate) fn flush(&mut self) -> Vec<Arc<Completion>> {
        self.flush_to = self.next_number - 1;
        let out = self.in_flight.iter().filter(|f| !matches!(f.stage, Stage::GivenUp)).map(|f| &f.done);
        let waiting = self.again.iter().chain(&self.closed).chain(&self.open).map(|b| &b.done);
        out.chain(waiting).cloned().collect()
    }

    /// Whether there is anything that is not decided.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_none() && self.closed.is_empty() && self.again.is_empty() && self.in_flight.is_empty()
    }

    /// What always holds.
    pub(crate) fn check(&self, rules: &Rules) {
        assert!(self.in_flight.len() <= rules.in_flight_max, "{} batches in flight", self.in_flight.len());
        let sorted = |a: u64, b: u64| assert!(a < b, "batch {b} was put behind {a}");
        self.in_flight.iter().zip(self.in_flight.iter().skip(1)).for_each(|(a, b)| sorted(a.number, b.number));
        let waiting: Vec<u64> = self.again.iter().chain(&self.closed).chain(&self.open).map(|b| b.number).collect();
        waiting.windows(2).for_each(|w| sorted(w[0], w[1]));
    }
}

/// The sequence `n` places after `sequence`; they wrap from `i32::MAX` to 0.
fn advance(sequence: i32, n: u32) -> i32 {
    ((i64::from(sequence) + i64::from(n)) % (i64::from(i32::MAX) + 1)) as i32
}

fn timed_out(rules: &Rules, last: Option<Error>, maybe_done: bool) -> Error {
    Error::Timeout {
        doing: "delivering records".into(),
        after: rules.delivery_timeout,
        last: last.map(Box::new),
        effect: if maybe_done { Effect::Unknown } else { Effect::None },
    }
}

/// The error of the last try, told with what an earlier one may have done.
fn with_effect(mut error: Error, maybe_done: bool) -> Error {
    if !maybe_done {
        return error;
    }
    match &mut error {
        Error::Refused { effect, .. } | Error::Lost { effect, .. } | Error::Timeout { effect, .. } => *effect = Effect::Unknown,
        // They speak of what was never sent, and this may have been.
        other => {
            let failure = Failure::new(Code::MaybeDone, other.to_string(), "it may have taken effect: look before it is repeated");
            error = Error::refused("delivering records", failure);
        }
    }
    assert!(error.effect() == Effect::Unknown, "nobody knows whether it took effect, and it is said: {error}");
    error
}

#[cfg(test)]
mod tests;
