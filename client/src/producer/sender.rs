//! The task behind a producer: it takes batches that are ripe out of the lanes, gathers those of one core into frames, and hands
//! them to that core's connection. Replies settle their batches in the connection's task, where they are read.
//!
//! One look at everything that is listed makes at most one frame, and so one write, per connection and 2 MiB. Nobody else
//! takes batches out of lanes, so what leaves a lane in order is written in order.

use super::{
    Inbox, Shared, Sink,
    lane::{Batch, Next, Outcome},
};
use crate::{
    client,
    conn::{Broken, Conn, Sent},
    error::Error,
    metadata::redirection,
    producer::delivery::Acked,
};
use bytes::Bytes;
use millpond_wire::{
    frame::Frame,
    messages::{Acks, Code, Kind, Produce, ProduceBatch, ProduceReply, ProduceResult},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::time::sleep_until;

/// Batches of one frame, in bytes; a larger batch gets a frame of its own.
const FRAME_BYTES: usize = 2 * 1024 * 1024;
/// Batches of one frame.
const FRAME_BATCHES_MAX: usize = 1_000;
/// How often what is known of topics is asked anew, so that partitions which were added are found.
const REFRESH: Duration = Duration::from_secs(300);

/// Batches for one endpoint.
#[derive(Default)]
struct Parcel {
    batches: Vec<(Arc<Sink>, Box<Batch>)>,
}

/// See the module.
pub(super) struct Sender {
    shared: Arc<Shared>,
    /// When to look at which lane again, if nothing happens before.
    timers: BTreeSet<(Instant, u64)>,
    due: HashMap<u64, (Instant, Arc<Sink>)>,
    /// Endpoints that asked for silence, and the lanes that wait for its end.
    silent: HashMap<Arc<str>, Instant>,
    refresh_at: Instant,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let refresh_at = Instant::now() + REFRESH;
        Self { shared, timers: BTreeSet::new(), due: HashMap::new(), silent: HashMap::new(), refresh_at }
    }

    /// Runs until the producer is closed and everything is decided.
    pub(super) async fn run(mut self) {
        let mut closing = false;
        loop {
            let Inbox { sinks, silences, .. } = self.shared.take_inbox();
            let now = Instant::now();
            for (endpoint, silence) in silences {
                let until = self.silent.entry(endpoint).or_insert(now);
                *until = (*until).max(now + silence);
            }
            if !closing && self.shared.closing.load(Ordering::Acquire) {
                closing = true;
                self.shared.all_sinks().iter().for_each(|sink| self.shared.list(sink));
                sinks.iter().for_each(|sink| sink.listed.store(false, Ordering::Release));
                sinks.iter().for_each(|sink| self.shared.list(sink));
                continue;
            }
            self.look(sinks, now, closing);
            if closing && self.shared.end_if_idle() {
                return;
            }
            if now >= self.refresh_at {
                self.refresh_at = now + REFRESH;
                self.shared.refresh_all();
            }
            let next = self.timers.first().map_or(self.refresh_at, |t| t.0.min(self.refresh_at));
            if next <= Instant::now() {
                continue;
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = sleep_until(next.into()) => {}
            }
        }
    }

    /// Looks at lanes that are listed, and at those whose time has come, and sends what is ripe.
    fn look(&mut self, listed: Vec<Arc<Sink>>, now: Instant, closing: bool) {
        // When somebody waits for memory, nothing waits for company.
        let all = if self.shared.waiting.load(Ordering::Acquire) > 0 { self.shared.all_sinks() } else { Vec::new() };
        let hurry = closing || !all.is_empty();
        let mut parcels = BTreeMap::new();
        for sink in listed {
            sink.listed.store(false, Ordering::Release);
            self.attend(&sink, now, hurry, &mut parcels);
        }
        for sink in all {
            self.attend(&sink, now, hurry, &mut parcels);
        }
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            if let Some((_, sink)) = self.due.remove(&id) {
                self.attend(&sink, now, hurry, &mut parcels);
            }
        }
        for (endpoint, parcel) in parcels {
            self.post(&endpoint, parcel);
        }
    }

    /// Takes out of one lane what is ripe.
    fn attend(&mut self, sink: &Arc<Sink>, now: Instant, hurry: bool, parcels: &mut BTreeMap<Arc<str>, Parcel>) {
        let rules = &self.shared.rules;
        let mut lane = sink.lock();
        let (late, freed) = lane.expire(rules, now);
        let mut again = lane.deadline(rules);
        let mut sooner = |t: Instant| again = Some(again.map_or(t, |a: Instant| a.min(t)));
        match self.silent.get(&lane.owner).copied() {
            Some(until) if until > now => sooner(until),
            _ => loop {
                match lane.next(rules, now, hurry) {
                    Next::Send(batch) => {
                        sooner(now + rules.delivery_timeout);
                        parcels.entry(Arc::clone(&lane.owner)).or_default().batches.push((Arc::clone(sink), batch));
                    }
                    Next::Wait(until) => {
                        sooner(until);
                        break;
                    }
                    Next::Idle => break,
                }
            },
        }
        lane.check(rules);
        drop(lane);
        self.shared.conclude(late, freed);
        if let Some(again) = again {
            self.look_again(sink, again);
        }
    }

    /// Has a lane looked at by then; looking sooner does no harm.
    fn look_again(&mut self, sink: &Arc<Sink>, at: Instant) {
        match self.due.get(&sink.id) {
            Some((known, _)) if *known <= at => return,
            Some((known, _)) => {
                self.timers.remove(&(*known, sink.id));
            }
            None => {}
        }
        self.timers.insert((at, sink.id));
        self.due.insert(sink.id, (at, Arc::clone(sink)));
    }

    /// Sends batches to one endpoint, in frames of a bounded size.
    fn post(&mut self, endpoint: &Arc<str>, parcel: Parcel) {
        let conn = self.shared.client.conn(endpoint, client::Lane::Produce);
        let mut frame = Draft::default();
        for (sink, mut batch) in parcel.batches {
            let number = batch.number;
            let bytes = match batch.bytes() {
                Ok(bytes) => bytes,
                Err(error) => {
                    sink.lock().sent(batch);
                    let error = Error::Invalid(format!("a batch cannot be compressed: {error}"));
                    self.shared.settle(&sink, number, Outcome::Failed(error));
                    continue;
                }
            };
            if frame.bytes + bytes.len() > FRAME_BYTES || frame.sent.len() >= FRAME_BATCHES_MAX {
                std::mem::take(&mut frame).submit(&self.shared, &conn);
            }
            batch.frame = Arc::clone(&frame.fate);
            sink.lock().sent(batch);
            frame.bytes += bytes.len();
            let at = ProduceBatch { topic: sink.topic.name.to_string(), partition: sink.partition, len: bytes.len() as u32 };
            frame.message.batches.push(at);
            frame.payload.push(bytes);
            frame.sent.push((sink, number));
        }
        frame.submit(&self.shared, &conn);
    }
}

/// A frame in the making.
#[derive(Default)]
struct Draft {
    message: Produce,
    payload: Vec<Bytes>,
    bytes: usize,
    sent: Vec<(Arc<Sink>, u64)>,
    /// Known once it is submitted.
    fate: Arc<OnceLock<Sent>>,
}

impl Draft {
    fn submit(mut self, shared: &Arc<Shared>, conn: &Conn) {
        if self.sent.is_empty() {
            return;
        }
        self.message.acks = shared.acks as i32;
        if shared.acks == Acks::None {
            let unanswered =
                |(bytes, (sink, number))| Bytes::from_owner(Unanswered { bytes, sink: Some(sink), number, shared: Arc::clone(shared) });
            let payload: Vec<Bytes> = self.payload.into_iter().zip(self.sent).map(unanswered).collect();
            conn.submit(Kind::Produce, &self.message, &payload, Duration::ZERO, None);
            return;
        }
        let (sent, shared, endpoint) = (self.sent, Arc::clone(shared), Arc::clone(conn.endpoint()));
        let callback = Box::new(move |replied| shared.replied(&endpoint, sent, replied));
        let fate = conn.submit(Kind::Produce, &self.message, &self.payload, Duration::ZERO, Some(callback));
        // Nobody else sets it.
        let _ = self.fate.set(fate);
    }
}

/// The bytes of a batch that nobody will answer. When the connection lets go of them they are written, or lost; either way
/// their memory is free.
struct Unanswered {
    bytes: Bytes,
    sink: Option<Arc<Sink>>,
    number: u64,
    shared: Arc<Shared>,
}

impl AsRef<[u8]> for Unanswered {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            self.shared.settle(&sink, self.number, Outcome::Acked(Acked { base_offset: None, append_time_ms: None }));
        }
    }
}

const DOING: &str = "delivering records";

impl Shared {
    /// Takes the reply to a frame of batches, or the news that there will be none.
    fn replied(self: &Arc<Self>, endpoint: &Arc<str>, sent: Vec<(Arc<Sink>, u64)>, replied: Result<Frame, Broken>) {
        let reply = replied.map_err(|broken| broken.error(DOING)).and_then(|frame| client::answer::<ProduceReply>(DOING, &frame));
        let reply = reply.and_then(|reply| {
            let (wanted, got) = (sent.len(), reply.results.len());
            let what = || format!("{wanted} batches were sent, {got} results came");
            let senseless = || Error::Protocol { doing: DOING.into(), endpoint: endpoint.to_string(), what: what() };
            if wanted == got { Ok(reply) } else { Err(senseless()) }
        });
        match reply {
            Ok(ProduceReply { results, throttle_ms }) => {
                if throttle_ms > 0 {
                    self.inbox().silences.push((Arc::clone(endpoint), Duration::from_millis(u64::from(throttle_ms))));
                }
                for ((sink, number), result) in sent.iter().zip(results) {
                    let outcome = self.outcome(endpoint, sink, result);
                    self.settle(sink, *number, outcome);
                }
            }
            Err(error) => {
                let mut refreshed: Vec<&Arc<str>> = Vec::new();
                for (sink, number) in &sent {
                    if !refreshed.contains(&&sink.topic.name) {
                        refreshed.push(&sink.topic.name);
                        self.refresh(&sink.topic);
                    }
                    let error = error.clone();
                    let wait = error.retry_after();
                    let outcome = match error.is_retryable() {
                        true if sink.lock().owner != *endpoint => Outcome::Moved(error),
                        true => Outcome::Again { error, wait },
                        false => Outcome::Failed(error),
                    };
                    self.settle(sink, *number, outcome);
                }
            }
        }
    }

    fn outcome(self: &Arc<Self>, endpoint: &Arc<str>, sink: &Arc<Sink>, result: ProduceResult) -> Outcome {
        let Some(failure) = result.failure else {
            let append_time_ms = (result.append_time_ms >= 0).then_some(result.append_time_ms);
            return Outcome::Acked(Acked { base_offset: Some(result.base_offset), append_time_ms });
        };
        let (code, there) = (failure.code(), redirection(&failure));
        let error = Error::refused(DOING, failure);
        match code {
            // Whoever has led the partition knows best who does.
            Code::NotOwner if there.is_some_and(|there| sink.lock().redirect(endpoint, &there)) => Outcome::Moved(error),
            Code::OutOfOrderSequence if self.rules.producer_id.is_some() => Outcome::Gap(error),
            // Whether the topic is really gone is asked, too: cores learn of changes one after the other.
            Code::NotOwner | Code::UnknownTopic => {
                self.refresh(&sink.topic);
                Outcome::Again { wait: error.retry_after(), error }
            }
            _ if error.is_retryable() => Outcome::Again { wait: error.retry_after(), error },
            _ => Outcome::Failed(error),
        }
    }

    /// Settles one batch, and has the sender look whether the lane has more.
    pub(super) fn settle(&self, sink: &Arc<Sink>, number: u64, outcome: Outcome) {
        let mut lane = sink.lock();
        let backoff = self.client.backoff();
        let (decided, freed) = lane.settle(&self.rules, Instant::now(), number, outcome, |failures| backoff.after(failures));
        let idle = lane.is_idle();
        drop(lane);
        self.conclude(decided, freed);
        if let Some(error) = sink.topic.gone.get() {
            let (decided, freed) = sink.lock().fail_all(error);
            self.conclude(decided, freed);
        }
        if !idle || self.closing.load(Ordering::Acquire) {
            self.list(sink);
        }
    }
}
