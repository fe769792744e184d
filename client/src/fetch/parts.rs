//! Which partitions may ask for more, and what was fetched of each. Pure: time is an argument.
//!
//! A part is in one place at a time: flying (a request is under way), resting (until a time), paused, full (its chunks
//! wait to be taken), done (at its end), or idle: listed under its owner, to be asked for with the next request there.
//!
//! Bounds: each part asks for `part_bytes` at a time, and not while `room_bytes` of it wait; together that is about
//! `buffer_bytes`, but at least 128 KiB per part, and a batch that is larger is fetched whole.

use super::isolation::Isolation;
use bytes::Bytes;
use millpond_wire::messages::{AbortedTransaction, Fetch, FetchPartition};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Least that a part asks for, in bytes.
const PART_BYTES_MIN: usize = 64 * 1024;
/// Most that one request asks for, in bytes.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// So many owners in a row may each name another one before we wait a while: they have not heard of each other yet.
const REDIRECTS_MAX: u32 = 3;
/// Most partitions of one request.
const REQUEST_PARTS_MAX: usize = 1_000;

/// A replica that need not lead is left after so many answers in a row without anything.
const NEAR_NOTHING_MAX: u32 = 2;

/// How to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// What may be fetched and not taken, in bytes.
    pub(crate) buffer_bytes: usize,
    /// Most that a part asks for at a time, in bytes.
    pub(crate) part_bytes_max: usize,
    /// Requests under way per core.
    pub(crate) strands: usize,
    /// Partitions are spread over the strands; else each request asks for all that have room.
    pub(crate) spread: bool,
    /// How long the server may wait for records.
    pub(crate) wait: Duration,
    /// It is history, at full speed.
    pub(crate) replay: bool,
    /// Readers take chunks of the partition that they choose.
    pub(crate) by_part: bool,
    /// What of transactions is read.
    pub(crate) isolation: Isolation,
}

/// A partition that is read: shared by whoever fetches, reads and commits.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: u64,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    /// Offset after the last record handed out.
    delivered: AtomicU64,
    /// Offset after the last record that the reader is done with: it has asked for the next one.
    processed: AtomicU64,
    /// What was committed last; `u64::MAX` for nothing.
    pub(crate) committed: AtomicU64,
    /// End of the log when last heard of.
    end: AtomicU64,
    revoked: AtomicBool,
    paused: AtomicBool,
}

impl Handle {
    pub(crate) fn new(topic: Arc<str>, partition: u32, position: u64) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            topic,
            partition,
            delivered: AtomicU64::new(position),
            processed: AtomicU64::new(position),
            committed: AtomicU64::new(u64::MAX),
            end: AtomicU64::new(0),
            revoked: AtomicBool::new(false),
            paused: AtomicBool::new(false),
        })
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Acquire)
    }

    pub(crate) fn processed(&self) -> u64 {
        self.processed.load(Ordering::Acquire)
    }

    pub(crate) fn deliver(&self, next: u64) {
        self.delivered.store(next, Ordering::Release);
    }

    /// All that was handed out is done with.
    pub(crate) fn process(&self) {
        self.processed.store(self.delivered.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Records between the position and the end of the log, as last heard of; `None` before anything was heard.
    pub(crate) fn lag(&self) -> Option<u64> {
        let end = self.end.load(Ordering::Acquire);
        (end != 0).then(|| (end - 1).saturating_sub(self.delivered()))
    }

    fn heard_of_end(&self, end: u64) {
        self.end.store(end.saturating_add(1), Ordering::Release);
    }

    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
    }

    /// Whether nothing of it is to be handed out for now.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }
}

/// Batches of one partition, as they came.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) handle: Arc<Handle>,
    pub(crate) bytes: Bytes,
    /// Records before it were not asked for.
    pub(crate) from: u64,
    /// Offset after all that the chunk stands for.
    pub(crate) next: u64,
    /// Records at or after it are not wanted.
    pub(crate) end: u64,
    /// Transactions whose records are not wanted.
    pub(crate) aborted: Vec<AbortedTransaction>,
}

/// What a reply brought of one partition.
pub(crate) struct Arrived {
    pub(crate) bytes: Bytes,
    /// Offset after all that it stands for.
    pub(crate) next: u64,
    /// End of what there is to be read.
    pub(crate) log_end: u64,
    pub(crate) aborted: Vec<AbortedTransaction>,
}

pub(crate) struct Part {
    pub(crate) handle: Arc<Handle>,
    owner: Arc<str>,
    /// Its owner is a replica that need not lead: how many answers in a row have brought nothing.
    near: Option<u32>,
    next: u64,
    end: Option<u64>,
    chunks: VecDeque<Chunk>,
    waiting_bytes: usize,
    flying: bool,
    listed: bool,
    paused: bool,
    /// Chunks that came up while it was paused.
    held: usize,
    resting: Option<Instant>,
    pub(crate) failures: u32,
    pub(crate) failed_since: Option<Instant>,
}

impl Part {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// A request to be sent.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) endpoint: Arc<str>,
    pub(crate) strand: usize,
    /// Parts, and the offsets that they ask for.
    pub(crate) asked: Vec<(u64, u64)>,
}

#[derive(Default)]
struct Owner {
    idle: VecDeque<u64>,
    /// Strands with a request under way.
    busy: BTreeSet<usize>,
    silent_until: Option<Instant>,
    parts: usize,
}

/// See the module.
pub(crate) struct Parts {
    limits: Limits,
    parts: HashMap<u64, Part>,
    owners: BTreeMap<Arc<str>, Owner>,
    resting: BTreeSet<(Instant, u64)>,
    /// Parts with chunks, one entry per chunk, in the order of arrival.
    ready: VecDeque<u64>,
}

impl Parts {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, parts: HashMap::new(), owners: BTreeMap::new(), resting: BTreeSet::new(), ready: VecDeque::new() }
    }

    pub(crate) fn part(&mut self, id: u64) -> Option<&mut Part> {
        self.parts.get_mut(&id)
    }

    pub(crate) fn add(&mut self, handle: Arc<Handle>, owner: Arc<str>, from: u64, end: Option<u64>) {
        self.add_at(handle, owner, None, (from, end));
    }

    /// The same, read from a replica that need not lead.
    pub(crate) fn add_near(&mut self, handle: Arc<Handle>, replica: Arc<str>, from: u64, end: Option<u64>) {
        self.add_at(handle, replica, Some(0), (from, end));
    }

    /// Whether a part is read from a replica that need not lead.
    pub(crate) fn is_near(&self, id: u64) -> bool {
        self.parts.get(&id).is_some_and(|part| part.near.is_some())
    }

    /// Whether such a replica has had nothing to say for long.
    pub(crate) fn is_stuck_near(&self, id: u64) -> bool {
        self.parts.get(&id).is_some_and(|part| part.near.is_some_and(|nothing| nothing >= NEAR_NOTHING_MAX))
    }

    fn add_at(&mut self, handle: Arc<Handle>, owner: Arc<str>, near: Option<u32>, (from, end): (u64, Option<u64>)) {
        let id = handle.id;
        self.owners.entry(Arc::clone(&owner)).or_default().parts += 1;
        let part = Part {
            handle,
            owner,
            near,
            next: from,
            end,
            chunks: VecDeque::new(),
            waiting_bytes: 0,
            flying: false,
            listed: false,
            paused: false,
            held: 0,
            resting: None,
            failures: 0,
            failed_since: None,
        };
        self.parts.insert(id, part);
        self.list(id);
    }

    pub(crate) fn remove(&mut self, id: u64) {
        let Some(part) = self.parts.remove(&id) else { return };
        if let Some(at) = part.resting {
            self.resting.remove(&(at, id));
        }
        self.ready.retain(|other| *other != id);
        if let Some(owner) = self.owners.get_mut(&part.owner) {
            owner.parts -= 1;
            owner.idle.retain(|other| *other != id);
        }
    }

    pub(crate) fn pause(&mut self, id: u64, paused: bool) {
        if let Some(part) = self.parts.get_mut(&id) {
            part.paused = paused;
            part.handle.paused.store(paused, Ordering::Release);
            if !paused {
                self.ready.extend(std::iter::repeat_n(id, std::mem::take(&mut part.held)));
            }
            self.list(id);
        }
    }

    /// Goes on at another offset.
    pub(crate) fn reposition(&mut self, id: u64, next: u64) {
        if let Some(part) = self.parts.get_mut(&id) {
            part.next = next;
            if let Some(at) = part.resting.take() {
                self.resting.remove(&(at, id));
            }
            self.list(id);
        }
    }

    /// Fetches anew from where the reader stands, after a while: what came cannot be read.
    pub(crate) fn refetch(&mut self, id: u64, until: Instant) {
        let Some(part) = self.parts.get_mut(&id) else { return };
        part.chunks.clear();
        (part.waiting_bytes, part.held) = (0, 0);
        part.next = part.handle.delivered();
        self.ready.retain(|other| *other != id);
        self.rest(id, until);
    }

    /// Partitions of a topic have new owners.
    pub(crate) fn moved(&mut self, topic: &str, owners: &[Arc<str>]) {
        let owner = |part: &Part| owners.get(part.handle.partition as usize).filter(|owner| **owner != part.owner).cloned();
        let of_topic = self.parts.iter().filter(|(_, part)| &*part.handle.topic == topic);
        let moved: Vec<(u64, Arc<str>)> = of_topic.filter_map(|(id, part)| Some((*id, owner(part)?))).collect();
        for (id, owner) in moved {
            self.move_to(id, &owner);
        }
        // Those that were read from a replica which need not lead, and waited to be told.
        let near: Vec<u64> = self.parts.iter().filter(|(_, p)| &*p.handle.topic == topic && p.near.is_some()).map(|(id, _)| *id).collect();
        for id in near {
            if let Some(part) = self.parts.get_mut(&id) {
                part.near = None;
                Self::hurry(&mut self.resting, part);
            }
        }
    }

    /// What kept a part waiting is no more.
    fn hurry(resting: &mut BTreeSet<(Instant, u64)>, part: &mut Part) {
        if let Some(at) = part.resting {
            let now = Instant::now().min(at);
            resting.remove(&(at, part.handle.id));
            resting.insert((now, part.handle.id));
            part.resting = Some(now);
        }
    }

    /// The endpoint `from` names another one that owns a part. Whether that may be asked at once: not if they send us around for too long.
    pub(crate) fn redirect(&mut self, id: u64, from: &Arc<str>, there: &Arc<str>) -> bool {
        let Some(part) = self.parts.get_mut(&id).filter(|part| from != there && part.failures < REDIRECTS_MAX) else { return false };
        part.failures += 1;
        self.move_to(id, there);
        self.list(id);
        true
    }

    fn move_to(&mut self, id: u64, owner: &Arc<str>) {
        let Some(part) = self.parts.get_mut(&id) else { return };
        if let Some(old) = self.owners.get_mut(&part.owner) {
            old.parts -= 1;
            old.idle.retain(|other| *other != id);
        }
        part.owner = Arc::clone(owner);
        let new = self.owners.entry(Arc::clone(owner)).or_default();
        new.parts += 1;
        if part.listed {
            new.idle.push_back(id);
        }
        // What kept it waiting was the old one's.
        part.near = None;
        Self::hurry(&mut self.resting, part);
    }

    /// Leaves a part alone until a time.
    pub(crate) fn rest(&mut self, id: u64, until: Instant) {
        if let Some(part) = self.parts.get_mut(&id) {
            if let Some(at) = part.resting.replace(until) {
                self.resting.remove(&(at, id));
            }
            self.resting.insert((until, id));
        }
    }

    /// What a part asks for at a time, and how much of it may wait, in bytes.
    fn part_bytes(&self) -> (usize, usize) {
        let share = self.limits.buffer_bytes / self.parts.len().max(1);
        let one = (share / 2).clamp(PART_BYTES_MIN, self.limits.part_bytes_max.max(PART_BYTES_MIN));
        (one, share.saturating_sub(one).max(one))
    }

    /// Lists a part that may ask for more.
    fn list(&mut self, id: u64) {
        let (_, room_bytes) = self.part_bytes();
        let Some(part) = self.parts.get_mut(&id) else { return };
        let rests = part.flying || part.listed || part.paused || part.resting.is_some();
        if rests || part.waiting_bytes >= room_bytes || part.is_done() {
            return;
        }
        part.listed = true;
        self.owners.entry(Arc::clone(&part.owner)).or_default().idle.push_back(id);
    }

    /// The requests to send now, and when to look again.
    pub(crate) fn plan(&mut self, now: Instant) -> (Vec<(Order, Fetch)>, Option<Instant>) {
        while let Some((at, id)) = self.resting.first().copied().filter(|(at, _)| *at <= now) {
            self.resting.remove(&(at, id));
            if let Some(part) = self.parts.get_mut(&id) {
                part.resting = None;
            }
            self.list(id);
        }
        let mut again = self.resting.first().map(|(at, _)| *at);
        let (part_bytes, _) = self.part_bytes();
        let mut orders = Vec::new();
        for (endpoint, owner) in &mut self.owners {
            if owner.idle.is_empty() {
                continue;
            }
            if let Some(until) = owner.silent_until.filter(|t| *t > now) {
                again = Some(again.map_or(until, |t| t.min(until)));
                continue;
            }
            let each = if self.limits.spread { owner.parts.div_ceil(self.limits.strands).max(1) } else { REQUEST_PARTS_MAX };
            for strand in 0..self.limits.strands {
                if owner.idle.is_empty() || !owner.busy.insert(strand) {
                    continue;
                }
                let mut order = Order { endpoint: Arc::clone(endpoint), strand, asked: Vec::new() };
                let mut request = Fetch::default();
                while let Some(id) = owner.idle.pop_front() {
                    let Some(part) = self.parts.get_mut(&id) else { continue };
                    part.listed = false;
                    if part.paused || part.resting.is_some() {
                        continue;
                    }
                    part.flying = true;
                    request.any_replica |= part.near.is_some();
                    order.asked.push((id, part.next));
                    request.partitions.push(FetchPartition {
                        topic: part.handle.topic.to_string(),
                        partition: part.handle.partition,
                        offset: part.next,
                        bytes_max: part_bytes as u32,
                        ..FetchPartition::default()
                    });
                    if order.asked.len() >= each.min(REQUEST_PARTS_MAX) {
                        break;
                    }
                }
                if order.asked.is_empty() {
                    owner.busy.remove(&strand);
                    break;
                }
                request.bytes_min = 1;
                request.bytes_max = (part_bytes * order.asked.len()).min(REQUEST_BYTES_MAX) as u32;
                request.wait_ms_max = self.limits.wait.as_millis() as u32;
                request.replay = self.limits.replay;
                request.committed = self.limits.isolation.is_committed();
                orders.push((order, request));
            }
        }
        (orders, again)
    }

    /// A request came back, whatever it brought. Its endpoint wants silence until then.
    pub(crate) fn landed(&mut self, order: &Order, silent_until: Instant) {
        if let Some(owner) = self.owners.get_mut(&order.endpoint) {
            owner.busy.remove(&order.strand);
            owner.silent_until = Some(silent_until);
            if owner.parts == 0 && owner.busy.is_empty() {
                self.owners.remove(&order.endpoint);
            }
        }
        for (id, _) in &order.asked {
            if let Some(part) = self.parts.get_mut(id) {
                part.flying = false;
            }
        }
    }

    /// Batches of a part. True if its reader has something to take.
    pub(crate) fn arrived(&mut self, (id, asked): (u64, u64), arrived: Arrived, now: Instant) -> bool {
        let Arrived { bytes, next, log_end, aborted } = arrived;
        let Some(part) = self.parts.get_mut(&id) else { return false };
        if asked != part.next {
            // It goes on elsewhere since.
            self.list(id);
            return false;
        }
        (part.failures, part.failed_since) = (0, None);
        part.handle.heard_of_end(log_end);
        let is_news = next > part.next;
        part.near = part.near.map(|nothing| if is_news { 0 } else { nothing + 1 });
        if is_news {
            let end = part.end.unwrap_or(u64::MAX);
            let chunk = Chunk { handle: Arc::clone(&part.handle), from: part.next, next: next.min(end), end, bytes, aborted };
            part.next = next;
            part.waiting_bytes += chunk.bytes.len();
            part.chunks.push_back(chunk);
            if !self.limits.by_part {
                self.ready.push_back(id);
            }
        } else if !bytes.is_empty() {
            // Batches that lead nowhere: asked for again at once they would come for ever.
            self.rest(id, now + Duration::from_millis(100));
        }
        self.list(id);
        is_news
    }

    /// The next chunk of any part.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        loop {
            let id = self.ready.pop_front()?;
            match self.parts.get_mut(&id) {
                Some(part) if part.paused => part.held += 1,
                _ => return self.take_of(id),
            }
        }
    }

    /// The next chunk of a part.
    pub(crate) fn take_of(&mut self, id: u64) -> Option<Chunk> {
        let part = self.parts.get_mut(&id)?;
        let chunk = part.chunks.pop_front()?;
        part.waiting_bytes -= chunk.bytes.len();
        self.list(id);
        Some(chunk)
    }

    /// Whether every part was read to its end. Parts without an end are never finished, and no part at all is not either.
    pub(crate) fn is_finished(&self) -> bool {
        !self.parts.is_empty() && self.parts.values().all(|p| p.is_done() && p.chunks.is_empty())
    }

    pub(crate) fn is_finished_part(&self, id: u64) -> bool {
        self.parts.get(&id).is_none_or(|p| p.is_done() && p.chunks.is_empty())
    }
}
