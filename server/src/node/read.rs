//! Fetches over partitions of one core or several.
//!
//! A fetch waits until something can be read, or its time is up; takes memory for the answer; reads partition after partition,
//! whole batches, at least one in all; and, if that is less than the client wants, goes on. The answer's batches are slices
//! of the tail or of blocks read from segments. Its memory is held until the answer is sent.
//!
//! Memory: the request itself comes with what it weighs ([`Working`]), and may keep that while it waits for records only if
//! there is room for waiting; else it is answered at once ([`Fetched::hurried`]). For what it reads it takes
//! memory when there may be something to read, and gives back what it does not need before it waits. A batch that is larger
//! than what was taken for it is let go and read again once there is memory for all of it.

use super::{
    budget::{Held, Working},
    config::{FETCH_BYTES_DEFAULT, FETCH_WAIT_MS_MAX},
    core::{Core, Place},
    failure_of,
    mesh::Lost,
    not_owner,
    partition::{Partition, end_for},
    unknown_partition,
};
use bytes::Bytes;
use millpond_batch::Header;
use millpond_log::{Aborted, LogError};
use millpond_runtime::{CoreId, GroupId, Offset, Rt, Share};
use millpond_wire::messages::{AbortedTransaction, EpochEnd, Failure, Fetch, FetchPartition, FetchReply, FetchedPartition};
use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// An answer, and the memory that it holds.
#[derive(Debug)]
pub struct Fetched {
    /// The message.
    pub reply: FetchReply,
    /// The batches, in the order of the message's partitions.
    pub batches: Vec<Bytes>,
    /// Their length together.
    pub bytes: usize,
    /// Records in them.
    pub records: u64,
    /// To be dropped when the answer is sent.
    pub memory: Option<Held>,
    /// There was nothing to read and no memory to wait with: the next fetch of this client should come a little later.
    pub hurried: bool,
    /// It is part of a replay, for which nobody should wait.
    pub replay: bool,
}

/// Memory that a partition of a fetch takes while the fetch is carried out, in bytes, its name not counted.
pub const PARTITION_BYTES: usize = 704;

/// One partition of a fetch.
struct Reading<R: Rt> {
    core: CoreId,
    group: GroupId,
    here: Option<Rc<Partition<R>>>,
    any_replica: bool,
    committed: bool,
    leader_epoch: Option<i32>,
    last_epoch: Option<i32>,
    asked: Offset,
    next: Offset,
    bytes_max: usize,
    bytes: usize,
    batches: Vec<Bytes>,
    start: Offset,
    end: Offset,
    stable: Offset,
    aborted: Vec<Aborted>,
    diverging: Option<EpochEnd>,
    failure: Option<Failure>,
}

/// What to read from one partition.
struct Slice {
    /// Which of the fetch's partitions it is.
    number: usize,
    group: GroupId,
    from: Offset,
    bytes_max: usize,
    any_replica: bool,
    committed: bool,
    leader_epoch: Option<i32>,
    /// Of the record before the first one that is asked for; nothing once that was looked at.
    last_epoch: Option<i32>,
}

/// What one partition had.
struct Read {
    batches: Vec<Bytes>,
    next: Offset,
    start: Offset,
    end: Offset,
    stable: Offset,
    aborted: Vec<Aborted>,
    diverging: Option<EpochEnd>,
}

/// What may still be read for one answer.
#[derive(Clone, Copy, Debug)]
struct Budget {
    bytes: usize,
    records: u64,
    /// Nothing was read yet: one batch may be larger than all of the budget.
    first: bool,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.bytes == 0 || self.records == 0
    }

    /// Takes batches until the budget is spent; says how many, and where the last of them ends.
    fn take(&mut self, batches: &[Bytes]) -> Result<(usize, Option<u64>), Failure> {
        let mut end = None;
        for (n, batch) in batches.iter().enumerate() {
            if self.is_spent() || (batch.len() > self.bytes && !self.first) {
                return Ok((n, end));
            }
            let damaged = |e| LogError::BadBatch { what: format!("a stored batch cannot be read: {e}") };
            let header = Header::parse(batch).map_err(|e| failure_of(&damaged(e)))?;
            self.bytes = self.bytes.saturating_sub(batch.len());
            self.records = self.records.saturating_sub(u64::from(header.count));
            self.first = false;
            end = Some(header.next_offset());
        }
        Ok((batches.len(), end))
    }
}

/// What is waited for: more in a group than up to an offset, for whoever may read any replica, or wants committed records alone, or asks by an epoch.
type Awaited = (GroupId, Offset, bool, bool, Option<i32>);

fn told(aborted: Aborted) -> AbortedTransaction {
    AbortedTransaction { producer_id: aborted.producer_id as u64, first_offset: aborted.first.0 }
}

type Outcome = (Vec<(usize, Result<Read, Failure>)>, Budget);

impl<R: Rt> Core<R> {
    /// Carries out a fetch, which reads at most `bytes_max` bytes but for a larger batch.
    pub async fn fetch(self: &Rc<Self>, request: &Fetch, bytes_max: usize, working: &mut Working) -> Fetched {
        let until = self.rt.mono() + u64::from(request.wait_ms_max.min(FETCH_WAIT_MS_MAX)) * 1_000_000;
        let mut parts: Vec<Reading<R>> = request.partitions.iter().map(|p| self.reading(p, request)).collect();
        let bytes_max = match request.bytes_max as usize {
            0 => FETCH_BYTES_DEFAULT.min(bytes_max),
            asked => asked.min(bytes_max),
        };
        let all = bytes_max;
        let mut budget = Budget { bytes: bytes_max, records: u64::from(request.records_max), first: true };
        if request.records_max == 0 {
            budget.records = u64::MAX;
        }
        let records_all = budget.records;
        let bytes_min = (request.bytes_min as usize).clamp(1, all);
        let share = if request.replay { Share::Background } else { Share::Serve };
        let mut memory: Option<Held> = None;
        let mut hurried = false;
        loop {
            let waiter = self.wait_on(&parts);
            if parts.iter().any(Reading::may_have) {
                if memory.is_none() {
                    memory = Some(self.leaving.take(bytes_max).await);
                }
                self.read_round(&mut parts, &mut budget, share).await;
                self.pay_for_more(&mut parts, &mut budget, records_all, share, &mut memory).await;
            }
            let got: usize = parts.iter().map(|p| p.bytes).sum();
            let failed = parts.iter().any(|p| p.failure.is_some() || p.diverging.is_some());
            let now = self.rt.mono();
            if got >= bytes_min || failed || budget.is_spent() || parts.is_empty() || now >= until || self.stopping.get() {
                break;
            }
            if got == 0 {
                // Others may have something to read.
                memory = None;
                if !self.requests.may_wait(working) {
                    hurried = true;
                    break;
                }
            }
            self.wait_growth(&parts, &waiter, Duration::from_nanos(until - now)).await;
        }
        Fetched { hurried, replay: request.replay, ..self.fetched(parts, records_all - budget.records, memory) }
    }

    /// A single batch was larger than the memory that was taken for the answer: if there is no more at once, it is let go, and
    /// read again when there is memory for it. Whoever waits for memory holds none.
    async fn pay_for_more(
        self: &Rc<Self>,
        parts: &mut [Reading<R>],
        budget: &mut Budget,
        records: u64,
        share: Share,
        memory: &mut Option<Held>,
    ) {
        let got: usize = parts.iter().map(|p| p.bytes).sum();
        let missing = got.saturating_sub(memory.as_ref().map_or(0, |held| held.num_permits() * 1024));
        if missing == 0 {
            return;
        }
        if let (Some(held), Some(more)) = (memory.as_mut(), self.leaving.try_take(missing)) {
            return held.merge(more);
        }
        parts.iter_mut().for_each(Reading::forget);
        *memory = None;
        *memory = Some(self.leaving.take(got).await);
        *budget = Budget { bytes: got, records, first: true };
        self.read_round(parts, budget, share).await;
        // Nothing is read beyond it.
        budget.bytes = 0;
    }

    fn reading(&self, asked: &FetchPartition, &Fetch { any_replica, committed, .. }: &Fetch) -> Reading<R> {
        let mut reading = Reading {
            core: self.id(),
            group: GroupId(0),
            here: None,
            any_replica,
            committed,
            leader_epoch: asked.leader_epoch,
            last_epoch: asked.last_epoch,
            asked: Offset(asked.offset),
            next: Offset(asked.offset),
            bytes_max: if asked.bytes_max == 0 { usize::MAX } else { asked.bytes_max as usize },
            bytes: 0,
            batches: Vec::new(),
            start: Offset(0),
            end: Offset(0),
            stable: Offset(0),
            aborted: Vec::new(),
            diverging: None,
            failure: None,
        };
        let route = self.route(&asked.topic);
        match route.as_ref().and_then(|r| r.places.get(asked.partition as usize)) {
            None => reading.failure = Some(unknown_partition(&asked.topic, asked.partition)),
            Some(place) if !place.lives => {
                reading.failure = Some(self.told_where(not_owner(self.leads_elsewhere(place.group)), place.group));
            }
            Some(Place { group, core, here, .. }) => {
                (reading.group, reading.core, reading.here) = (*group, *core, here.clone());
            }
        }
        reading
    }

    /// Reads what can be read now, within the budget.
    async fn read_round(self: &Rc<Self>, parts: &mut [Reading<R>], budget: &mut Budget, share: Share) {
        let mut by_core: BTreeMap<CoreId, Vec<Slice>> = BTreeMap::new();
        let wants = |p: &Reading<R>| p.failure.is_none() && p.diverging.is_none() && p.bytes < p.bytes_max;
        for (number, part) in parts.iter().enumerate().filter(|(_, part)| wants(part)) {
            let slice = Slice {
                number,
                group: part.group,
                from: part.next,
                bytes_max: part.bytes_max - part.bytes,
                any_replica: part.any_replica,
                committed: part.committed,
                leader_epoch: part.leader_epoch,
                last_epoch: part.last_epoch,
            };
            by_core.entry(part.core).or_default().push(slice);
        }
        for (core, slices) in by_core {
            let numbers: Vec<usize> = slices.iter().map(|s| s.number).collect();
            let given = *budget;
            let outcome = if core == self.id() {
                self.read_in(slices, given, share).await
            } else {
                self.at(core, move |core| async move { core.read_in(slices, given, share).await }).await.and_then(|out| out)
            };
            match outcome {
                Ok((outs, left)) => {
                    *budget = left;
                    outs.into_iter().for_each(|(number, out)| parts[number].take(out));
                }
                Err(lost) => numbers.iter().for_each(|n| parts[*n].failure = Some(lost.into())),
            }
        }
    }

    /// Reads with the given share of the core.
    async fn read_in(self: &Rc<Self>, slices: Vec<Slice>, budget: Budget, share: Share) -> Result<Outcome, Lost> {
        if share == Share::Serve {
            return Ok(self.read_here(slices, budget).await);
        }
        let (answer, answered) = oneshot::channel();
        let core = Rc::clone(self);
        self.rt.spawn("replay", share, async move {
            // Whoever asked may have gone.
            let _ = answer.send(core.read_here(slices, budget).await);
        });
        answered.await.map_err(|_| Lost)
    }

    async fn read_here(&self, slices: Vec<Slice>, mut budget: Budget) -> Outcome {
        let mut outs = Vec::with_capacity(slices.len());
        for slice in slices {
            outs.push((slice.number, self.read_slice(&slice, &mut budget).await));
            self.rt.yield_if_needed().await;
        }
        (outs, budget)
    }

    async fn read_slice(&self, slice: &Slice, budget: &mut Budget) -> Result<Read, Failure> {
        let Some(partition) = self.partition(slice.group) else { return Err(failure_of(&LogError::UnknownGroup { group: slice.group })) };
        let mut read = Read {
            batches: Vec::new(),
            next: slice.from,
            start: Offset(0),
            end: Offset(0),
            stable: Offset(0),
            aborted: Vec::new(),
            diverging: None,
        };
        if partition.answers(slice.any_replica) {
            partition.check_epoch(slice.leader_epoch)?;
            read.diverging = partition.diverging(slice.from, slice.last_epoch).await?;
        }
        if !budget.is_spent() && read.diverging.is_none() {
            let out = partition.read(slice.from, slice.bytes_max.min(budget.bytes), slice.any_replica, slice.committed).await;
            let out = out.map_err(|failure| self.told_where(failure, slice.group))?;
            let (taken, end) = budget.take(&out.batches)?;
            read.next = if taken == out.batches.len() { out.next } else { Offset(end.unwrap_or(slice.from.0)) };
            read.batches = out.batches;
            read.batches.truncate(taken);
        }
        let state = partition.state()?;
        (read.start, read.end, read.stable) = (state.start_offset, state.high_watermark, state.stable_offset);
        if slice.committed && read.next > slice.from {
            read.aborted = partition.log.aborted(slice.group, slice.from, read.next);
        }
        Ok(read)
    }

    /// The answer.
    fn fetched(&self, mut parts: Vec<Reading<R>>, records: u64, mut memory: Option<Held>) -> Fetched {
        let bytes = parts.iter().map(|p| p.bytes).sum::<usize>();
        // What was taken and not used goes back at once.
        if let Some(held) = &mut memory {
            self.leaving.shrink(held, bytes);
        }
        let mut batches = Vec::new();
        let mut reply = FetchReply::default();
        for part in &mut parts {
            part.look();
            batches.append(&mut part.batches);
            reply.partitions.push(FetchedPartition {
                len: part.bytes as u32,
                next_offset: part.next.0,
                start_offset: part.start.0,
                end_offset: part.end.0,
                failure: part.failure.take(),
                stable_offset: part.stable.0,
                aborted: std::mem::take(&mut part.aborted).into_iter().map(told).collect(),
                diverging: part.diverging,
            });
        }
        Fetched { reply, batches, bytes, records, memory, hurried: false, replay: false }
    }

    /// A waiter that hears of the growth of all partitions that live here, from now on.
    fn wait_on(&self, parts: &[Reading<R>]) -> Rc<Notify> {
        let waiter = Rc::new(Notify::new());
        parts.iter().filter_map(|p| p.here.as_ref()).for_each(|p| p.wait_on(&waiter));
        waiter
    }

    /// Waits until a partition has grown or gone, for at most `wait`.
    async fn wait_growth(self: &Rc<Self>, parts: &[Reading<R>], waiter: &Notify, wait: Duration) {
        let mut others: BTreeMap<CoreId, Vec<Awaited>> = BTreeMap::new();
        for part in parts.iter().filter(|p| p.here.is_none()) {
            others.entry(part.core).or_default().push((part.group, part.next, part.any_replica, part.committed, part.leader_epoch));
        }
        if others.is_empty() {
            return futures_lite::future::or(waiter.notified(), self.rt.sleep(wait)).await;
        }
        let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = vec![Box::pin(waiter.notified()), Box::pin(self.rt.sleep(wait))];
        for (core, asked) in others {
            waits.push(Box::pin(async move {
                let watched = self.watch_at(core, move |core| async move { core.grown(&asked).await });
                // A core that is lost answers the next read so.
                let _ = watched.await;
            }));
        }
        poll_fn(|cx| if waits.iter_mut().any(|w| w.as_mut().poll(cx).is_ready()) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Returns when one of these partitions reaches past its offset, or is gone, or the node stops.
    async fn grown(&self, asked: &[Awaited]) {
        loop {
            let waiter = Rc::new(Notify::new());
            for (group, offset, any_replica, committed, epoch) in asked {
                let Some(partition) = self.partition(*group) else { return };
                partition.wait_on(&waiter);
                let grown = partition.state().is_ok_and(|s| end_for(&s, *committed) != *offset);
                if self.stopping.get() || grown || !partition.answers(*any_replica) || partition.check_epoch(*epoch).is_err() {
                    return;
                }
            }
            waiter.notified().await;
        }
    }
}

impl<R: Rt> Reading<R> {
    /// Whether a read would be of use: there is something, or it would fail, or nobody knows since it lives elsewhere.
    fn may_have(&self) -> bool {
        let here = |p: &Rc<Partition<R>>| {
            let more = p.state().map_or(true, |s| end_for(&s, self.committed) != self.next);
            more || !p.answers(self.any_replica) || p.check_epoch(self.leader_epoch).is_err() || self.last_epoch.is_some()
        };
        self.failure.is_none() && self.diverging.is_none() && self.bytes < self.bytes_max && self.here.as_ref().is_none_or(here)
    }

    fn take(&mut self, read: Result<Read, Failure>) {
        match read {
            Err(failure) => self.failure = Some(failure),
            Ok(read) => {
                self.bytes += read.batches.iter().map(Bytes::len).sum::<usize>();
                self.batches.extend(read.batches);
                // One that reaches over several reads is told once: librdkafka takes each for a transaction of its own.
                let new = read.aborted.into_iter().filter(|aborted| !self.aborted.contains(aborted));
                self.aborted.extend(new.collect::<Vec<_>>());
                (self.next, self.start, self.end, self.stable) = (read.next, read.start, read.end, read.stable);
                (self.diverging, self.last_epoch) = (read.diverging, None);
            }
        }
    }

    /// Lets go what was read, to read it again.
    fn forget(&mut self) {
        (self.next, self.bytes, self.batches, self.aborted) = (self.asked, 0, Vec::new(), Vec::new());
    }

    /// Where a partition that was not read stands.
    fn look(&mut self) {
        if self.end == Offset(0)
            && let Some(Ok(state)) = self.here.as_ref().map(|p| p.state())
        {
            (self.start, self.end, self.stable) = (state.start_offset, state.high_watermark, state.stable_offset);
        }
    }
}
