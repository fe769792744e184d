//! Fetching: what consumers and replays read through.
//!
//! Each partition that is read has a [`Part`](parts::Part); those that have room ask for more, as many together as live on one
//! core. There is no task: replies are handled where they are read, in the connection's task, and the next request leaves from
//! there, so that a stretch of history is one reply after the other without a wake-up between. Fetches have connections of
//! their own, since they may wait long for records.
//!
//! ```text
//!   parts with room -> plan -> requests, at most `strands` per core -> replies -> chunks, per part in order -> reader
//!          ^--------------------------------------------------------------------------- room, as chunks are taken
//! ```
//!
//! In reading order: `parts` who may ask for what, pure · [`isolation`] what of transactions is read · `reader` chunks to batches to records · `record` what a reader hands out.

pub(crate) mod isolation;
pub(crate) mod parts;
pub(crate) mod reader;
pub(crate) mod record;

use crate::{
    admin::OffsetSpec,
    client::{self, Client},
    conn::{Broken, Conn},
    error::{Error, Result},
    metadata::redirection,
};
use bytes::Bytes;
pub use isolation::Isolation;
use millpond_wire::{
    frame::Frame,
    messages::{Code, FetchReply, FetchedPartition, Kind},
};
use parts::{Arrived, Order, Parts};
pub(crate) use parts::{Chunk, Handle, Limits};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// What to do with a partition whose position is not, or no longer, in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// Go on with the first record still there.
    Earliest,
    /// Go on with what is produced from now on.
    #[default]
    Latest,
    /// Return [`Error::NoPosition`].
    Fail,
}

impl OffsetReset {
    pub(crate) fn spec(self) -> Option<OffsetSpec> {
        match self {
            Self::Earliest => Some(OffsetSpec::Earliest),
            Self::Latest => Some(OffsetSpec::Latest),
            Self::Fail => None,
        }
    }
}

/// A partition that failed for good is tried again after this long; its reader hears of each failure.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

struct State {
    parts: Parts,
    errors: VecDeque<Error>,
    conns: HashMap<(Arc<str>, usize), Conn>,
    /// Topics whose metadata are being asked for.
    refreshing: BTreeSet<Arc<str>>,
    reader: Option<Waker>,
    /// When a timer will go off.
    timer: Option<Instant>,
    closed: bool,
}

struct Shared {
    client: Client,
    limits: Limits,
    reset: OffsetReset,
    state: Mutex<State>,
}

/// See the module. Dropping it ends all fetches.
pub(crate) struct Fetcher {
    shared: Arc<Shared>,
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.close();
    }
}

impl Fetcher {
    pub(crate) fn new(client: Client, limits: Limits, reset: OffsetReset) -> Self {
        let state = State {
            parts: Parts::new(limits.clone()),
            errors: VecDeque::new(),
            conns: HashMap::new(),
            refreshing: BTreeSet::new(),
            reader: None,
            timer: None,
            closed: false,
        };
        Self { shared: Arc::new(Shared { client, limits, reset, state: Mutex::new(state) }) }
    }

    /// Begins to read partitions: (handle, owner, first offset, offset to end before).
    pub(crate) fn add(&self, parts: impl IntoIterator<Item = (Arc<Handle>, Arc<str>, u64, Option<u64>)>) {
        let mut state = self.shared.lock();
        for (handle, owner, from, end) in parts {
            state.parts.add(handle, owner, from, end);
        }
        self.shared.pump(state);
    }

    /// The same for partitions that are read from a replica which need not lead, as long as it has something to say.
    pub(crate) fn add_near(&self, parts: impl IntoIterator<Item = (Arc<Handle>, Arc<str>, u64, Option<u64>)>) {
        let mut state = self.shared.lock();
        for (handle, near, from, end) in parts {
            state.parts.add_near(handle, near, from, end);
        }
    }

    /// Stops reading a partition. What of it was fetched and not taken is dropped.
    pub(crate) fn remove(&self, handle: &Arc<Handle>) {
        handle.revoke();
        self.shared.lock().parts.remove(handle.id);
    }

    /// Fetches anew from the reader's position, after a while: what came is damaged.
    pub(crate) fn refetch(&self, handle: &Arc<Handle>) {
        let mut state = self.shared.lock();
        state.parts.refetch(handle.id, Instant::now() + FAILED_PAUSE);
        self.shared.pump(state);
    }

    /// Asks for no more of a partition and hands nothing of it out, or does again.
    pub(crate) fn pause(&self, handle: &Arc<Handle>, paused: bool) {
        let mut state = self.shared.lock();
        state.parts.pause(handle.id, paused);
        state.wake_reader();
        self.shared.pump(state);
    }

    /// Hands the reader an error.
    pub(crate) fn tell(&self, error: Error) {
        let mut state = self.shared.lock();
        state.errors.push_back(error);
        state.wake_reader();
    }

    /// The next chunk of any partition, in the order of arrival; `None` when every partition was read to its end.
    pub(crate) fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk>>> {
        self.poll_with(cx, Parts::take, Parts::is_finished)
    }

    /// The next chunk of one partition; `None` when it was read to its end.
    pub(crate) fn poll_chunk_of(&self, id: u64, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk>>> {
        self.poll_with(cx, |parts| parts.take_of(id), |parts| parts.is_finished_part(id))
    }

    fn poll_with(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Parts) -> Option<Chunk>,
        finished: impl FnOnce(&Parts) -> bool,
    ) -> Poll<Option<Result<Chunk>>> {
        let mut state = self.shared.lock();
        if let Some(error) = state.errors.pop_front() {
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(chunk) = take(&mut state.parts) {
            self.shared.pump(state);
            return Poll::Ready(Some(Ok(chunk)));
        }
        if state.closed || finished(&state.parts) {
            return Poll::Ready(None);
        }
        match &mut state.reader {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Ends all fetches.
    pub(crate) fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.parts = Parts::new(self.shared.limits.clone());
        let conns = std::mem::take(&mut state.conns);
        state.wake_reader();
        drop(state);
        // Their callbacks take the lock.
        drop(conns);
    }
}

impl State {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

const DOING: &str = "fetching records";

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// Sends what can be asked for now.
    fn pump(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.closed {
            return;
        }
        let (orders, again) = state.parts.plan(Instant::now());
        let mut ready = Vec::with_capacity(orders.len());
        for (order, request) in orders {
            let slot = state.conns.entry((Arc::clone(&order.endpoint), order.strand));
            let conn = slot.or_insert_with(|| self.client.private_conn(&order.endpoint, Duration::ZERO));
            if !conn.is_alive() {
                *conn = self.client.private_conn(&order.endpoint, Duration::ZERO);
            }
            ready.push((conn.clone(), order, request));
        }
        if let Some(at) = again.filter(|at| state.timer.is_none_or(|t| *at < t)) {
            state.timer = Some(at);
            let shared = Arc::downgrade(self);
            tokio::spawn(async move {
                tokio::time::sleep_until(at.into()).await;
                let Some(shared) = shared.upgrade() else { return };
                let mut state = shared.lock();
                if state.timer == Some(at) {
                    state.timer = None;
                }
                shared.pump(state);
            });
        }
        drop(state);
        for (conn, order, request) in ready {
            let shared = Arc::clone(self);
            let callback = Box::new(move |replied| shared.replied(order, replied));
            conn.submit(Kind::Fetch, &request, &[], self.limits.wait, Some(callback));
        }
    }

    fn replied(self: &Arc<Self>, order: Order, replied: Result<Frame, Broken>) {
        let reply = replied.map_err(|broken| broken.error(DOING)).and_then(|mut frame| {
            let payload = std::mem::take(&mut frame.payload).freeze();
            let reply: FetchReply = client::answer(DOING, &frame)?;
            check(&order, &reply, &payload).map(|()| (reply, payload))
        });
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let now = Instant::now();
        match reply {
            Ok((reply, payload)) => {
                let silent = now + Duration::from_millis(u64::from(reply.throttle_ms));
                state.parts.landed(&order, silent);
                self.take_in(&mut state, &order, reply.partitions, payload, now);
            }
            Err(error) => {
                state.parts.landed(&order, now);
                for (id, _) in &order.asked {
                    if state.parts.is_near(*id) {
                        self.to_leader(&mut state, *id, now);
                    } else {
                        self.failed(&mut state, *id, error.clone(), now);
                    }
                }
            }
        }
        self.pump(state);
    }

    fn take_in(self: &Arc<Self>, state: &mut State, order: &Order, parts: Vec<FetchedPartition>, mut payload: Bytes, now: Instant) {
        let mut woken = false;
        for (asked, got) in order.asked.iter().zip(parts) {
            let bytes = payload.split_to(got.len as usize);
            match got.failure {
                None => {
                    // Whoever reads committed records alone is not behind by those that are open.
                    let is_committed = self.limits.isolation.is_committed();
                    let log_end = if is_committed { got.stable_offset.min(got.end_offset) } else { got.end_offset };
                    let arrived = Arrived { bytes, next: got.next_offset, log_end, aborted: got.aborted };
                    woken |= state.parts.arrived(*asked, arrived, now);
                    if state.parts.is_stuck_near(asked.0) {
                        self.to_leader(state, asked.0, now);
                    }
                }
                Some(_) if state.parts.is_near(asked.0) => self.to_leader(state, asked.0, now),
                Some(failure) if failure.code() == Code::OffsetOutOfRange => self.out_of_range(state, asked.0, &failure.message, now),
                // Whoever has led the partition knows best who does.
                Some(failure) if redirection(&failure).is_some_and(|there| state.parts.redirect(asked.0, &order.endpoint, &there)) => {}
                Some(failure) => self.failed(state, asked.0, Error::refused(DOING, failure), now),
            }
        }
        if woken || state.parts.is_finished() || !state.errors.is_empty() {
            state.wake_reader();
        }
    }

    /// A replica that need not lead is of no use: the leader is asked from here on.
    fn to_leader(self: &Arc<Self>, state: &mut State, id: u64, now: Instant) {
        let Some(part) = state.parts.part(id) else { return };
        let topic = Arc::clone(&part.handle.topic);
        state.parts.rest(id, now + FAILED_PAUSE);
        self.find_owners(state, topic);
    }

    /// Asks where a topic lives now; its partitions go on as soon as that is known.
    fn find_owners(self: &Arc<Self>, state: &mut State, topic: Arc<str>) {
        if state.refreshing.insert(Arc::clone(&topic)) {
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.refresh(topic).await });
        }
    }

    /// A fetch of a partition failed. What passes by itself is tried again; its reader hears of it when that takes too long.
    fn failed(self: &Arc<Self>, state: &mut State, id: u64, error: Error, now: Instant) {
        let Some(part) = state.parts.part(id) else { return };
        let topic = Arc::clone(&part.handle.topic);
        let first = part.failed_since.get_or_insert(now);
        let patience = self.client.api_timeout();
        let is_over = now.duration_since(*first) >= patience;
        part.failures += 1;
        let wait = self.client.backoff().after(part.failures).max(error.retry_after());
        let is_moved = matches!(error.code(), Some(Code::NotOwner | Code::UnknownTopic)) || error.code().is_none();
        let passes = error.is_retryable() || error.code() == Some(Code::UnknownTopic) && part.failures <= 3;
        if is_over || !passes {
            part.failed_since = None;
            state.errors.push_back(error);
            state.wake_reader();
            state.parts.rest(id, now + FAILED_PAUSE);
        } else {
            state.parts.rest(id, now + wait);
        }
        if is_moved {
            self.find_owners(state, topic);
        }
    }

    async fn refresh(self: Arc<Self>, topic: Arc<str>) {
        let refreshed = self.client.refresh_topic(&topic).await;
        let mut state = self.lock();
        state.refreshing.remove(&topic);
        if let Ok(meta) = refreshed {
            state.parts.moved(&topic, &meta.owners);
        }
        self.pump(state);
    }

    /// The position of a partition is not in the log.
    fn out_of_range(self: &Arc<Self>, state: &mut State, id: u64, why: &str, now: Instant) {
        let Some(part) = state.parts.part(id) else { return };
        let handle = Arc::clone(&part.handle);
        state.parts.rest(id, now + FAILED_PAUSE);
        match self.reset.spec() {
            None => {
                let (topic, partition) = (handle.topic.to_string(), handle.partition);
                state.errors.push_back(Error::NoPosition { topic, partition, why: why.to_owned() });
            }
            Some(spec) => {
                let shared = Arc::clone(self);
                tokio::spawn(async move {
                    let found =
                        shared.client.admin().list_offsets_by(shared.limits.isolation, &handle.topic, &[(handle.partition, spec)]).await;
                    let mut state = shared.lock();
                    match found {
                        Ok(found) => found.iter().for_each(|found| state.parts.reposition(handle.id, found.offset)),
                        Err(error) => {
                            state.errors.push_back(error);
                            state.wake_reader();
                        }
                    }
                    shared.pump(state);
                });
            }
        }
    }
}

/// Whether a reply can be an answer to the request.
fn check(order: &Order, reply: &FetchReply, payload: &Bytes) -> Result<()> {
    let senseless = |what: String| Error::Protocol { doing: DOING.into(), endpoint: order.endpoint.to_string(), what };
    if reply.partitions.len() != order.asked.len() {
        return Err(senseless(format!("{} partitions were asked for, {} came", order.asked.len(), reply.partitions.len())));
    }
    let said: u64 = reply.partitions.iter().map(|p| u64::from(p.len)).sum();
    if said != payload.len() as u64 {
        return Err(senseless(format!("{said} bytes of batches are announced, {} came", payload.len())));
    }
    for ((_, asked), got) in order.asked.iter().zip(&reply.partitions) {
        if got.failure.is_none() && got.next_offset < *asked {
            return Err(senseless(format!("offset {asked} was asked for, the next is said to be {}", got.next_offset)));
        }
    }
    Ok(())
}
