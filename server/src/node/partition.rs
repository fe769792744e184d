//! A partition at its owner: appending, reading, looking up, and who waits for it to grow.

use super::{failure_of, health::BEHIND, not_owner};
use crate::catalog::{Replica, TopicSettings};
use bytes::BytesMut;
use millpond_batch::{Header, Marker, check, stamp_append_time};
use millpond_log::{Appended, GroupState, Log, LogError, Lsn, ProducerView, ReadLimits, ReadOut, TERM_ALONE, epoch_of};
use millpond_raft::{Driver, ProposeError, Proposed};
use millpond_runtime::{GroupId, NodeId, Offset, Rt, Term};
use millpond_wire::messages::{Code, EpochEnd, Failure, ProduceResult};
use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};
use tokio::sync::Notify;

/// How long one waits for what others have appended before it looks whether this node still answers.
const LASTS_LOOK: Duration = Duration::from_millis(50);
/// Below this many who wait, those who have gone are not looked for.
const WAITING_SWEPT: usize = 16;

/// See the module.
pub struct Partition<R: Rt> {
    /// Its log.
    pub group: GroupId,
    /// The journal it lives in.
    pub log: Log<R>,
    /// What drives its replica, if it is one.
    driver: Driver<R>,
    replica: Cell<bool>,
    message_bytes_max: Cell<usize>,
    append_time: Cell<bool>,
    waiting: RefCell<Vec<Weak<Notify>>>,
}

/// What an append waits for.
#[derive(Debug)]
pub enum Lasts {
    /// A place in the journal, where the log is alone.
    Synced(Lsn),
    /// A quorum of the replicas.
    Committed(Proposed),
}

/// An append that is not acknowledged yet.
#[derive(Debug)]
pub struct Pending {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// To be awaited before the answer.
    pub lasts: Lasts,
    /// It had been appended before.
    pub duplicate: bool,
    /// The server's time where the topic stamps on append, else -1.
    pub append_time_ms: i64,
}

impl Pending {
    /// Whether [`Pending::settle`] would not wait.
    #[must_use]
    pub fn is_ready<R: Rt>(&self, log: &Log<R>) -> bool {
        match &self.lasts {
            Lasts::Synced(lsn) => log.synced_lsn() >= *lsn,
            Lasts::Committed(proposed) => proposed.is_decided(),
        }
    }

    /// Waits until it lasts, in this log and wherever else it has to.
    pub async fn settle<R: Rt>(&mut self, log: &Log<R>) -> Result<(), Failure> {
        match &mut self.lasts {
            Lasts::Synced(lsn) => log.synced(*lsn).await.map_err(|e| failure_of(&e)),
            Lasts::Committed(proposed) => proposed.decided().await.map_err(|lost| {
                let advice = "retry: an idempotent producer's batch takes effect once";
                Failure::new(Code::MaybeDone, lost.to_string(), advice).retry_after(50)
            }),
        }
    }

    /// What the producer is told of one that is ready.
    pub fn outcome(mut self) -> Result<ProduceResult, Failure> {
        if let Lasts::Committed(proposed) = &mut self.lasts {
            proposed.outcome().map_err(|lost| {
                let advice = "retry: an idempotent producer's batch takes effect once";
                Failure::new(Code::MaybeDone, lost.to_string(), advice).retry_after(50)
            })?;
        }
        Ok(self.result())
    }

    /// What the producer is told once it lasts.
    #[must_use]
    pub fn result(&self) -> ProduceResult {
        ProduceResult { base_offset: self.base_offset.0, duplicate: self.duplicate, append_time_ms: self.append_time_ms, failure: None }
    }
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(Code::BadBatch, message, "correct the producer: this batch will be refused again")
}

/// Checks a batch as a client sent it: its own checksum, and that it may be appended at all.
pub fn check_produced(batch: &[u8]) -> Result<Header, Failure> {
    let header = check(batch).map_err(|e| bad(e.to_string()))?;
    if header.is_control() || (header.is_transactional() && !header.is_idempotent()) {
        return Err(bad("a batch of the system's own, or of a transaction without a producer"));
    }
    if u64::from(header.count) != header.record_span() {
        return Err(bad(format!(
            "{} records over {} offsets: a produced batch has records and no holes",
            header.count,
            header.record_span()
        )));
    }
    Ok(header)
}

/// Where a partition ends for a reader, who may want committed records alone.
pub fn end_for(state: &GroupState, committed: bool) -> Offset {
    if committed { state.stable_offset } else { state.high_watermark }
}

impl<R: Rt> Partition<R> {
    /// A partition with these settings.
    #[must_use]
    pub fn new(group: GroupId, log: Log<R>, driver: Driver<R>, settings: &TopicSettings) -> Self {
        let partition = Self {
            group,
            log,
            driver,
            replica: Cell::new(false),
            message_bytes_max: Cell::new(0),
            append_time: Cell::new(false),
            waiting: RefCell::default(),
        };
        partition.set(settings);
        partition
    }

    /// Takes over changed settings.
    pub fn set(&self, settings: &TopicSettings) {
        self.message_bytes_max.set(settings.message_bytes_max);
        self.append_time.set(settings.append_time);
    }

    /// Whether it has, or is to have, other copies; one that is alone holds no elections.
    #[must_use]
    pub fn is_replica(&self) -> bool {
        // A replica is never alone again.
        self.replica.get() || {
            self.replica.set(self.log.is_replica(self.group));
            self.replica.get()
        }
    }

    /// In which term this node answers for the partition; 0 where it is alone. Refuses if another one answers, or nobody for the moment.
    pub fn serves(&self) -> Result<Term, Failure> {
        match self.driver.status(self.group) {
            Some(status) if status.serves => Ok(status.term),
            Some(status) if status.leads => {
                let message = "this replica was elected just now, and does not know all that was acknowledged before";
                Err(Failure::new(Code::Unavailable, message, "retry").retry_after(20))
            }
            Some(status) => Err(not_owner(status.leader_node)),
            None if !self.is_replica() => Ok(Term(0)),
            None => {
                let message = match self.driver.broken(self.group) {
                    Some(why) => format!("the replica here takes no part until it is repaired: {why}"),
                    None => "the replica here is about to start".to_owned(),
                };
                Err(Failure { message, ..not_owner(None) })
            }
        }
    }

    /// Makes sure that this node still answers for the partition: whatever was acknowledged before the call is applied here. A leader that was deposed may
    /// not know it yet. The term in which it answers.
    pub async fn confirm(&self) -> Result<Term, Failure> {
        let term = self.serves()?;
        if self.is_replica() {
            let again = |_| Failure::new(Code::Unavailable, "it is not certain that this node still leads", "retry").retry_after(20);
            self.driver.read_index(self.group).await.map_err(again)?;
            if self.serves()? != term {
                return Err(not_owner(None));
            }
        }
        Ok(term)
    }

    /// In which term a refusal of [`Partition::append`] was made that another leader may know better, as it rests on what is known of the producer. It is final to its
    /// sender, so it is told only once it is [certain](Partition::confirm_in).
    #[must_use]
    pub fn doubts(&self, refusal: &Failure) -> Option<Term> {
        let of_producer = matches!(refusal.code(), Code::OutOfOrderSequence | Code::ProducerFenced | Code::BadBatch);
        self.driver.status(self.group).filter(|_| of_producer).map(|status| status.term)
    }

    /// Makes sure that this node still answers for the partition, in the same term: what was known here then is all there is.
    pub async fn confirm_in(&self, term: Term) -> Result<(), Failure> {
        if self.confirm().await? == term { Ok(()) } else { Err(not_owner(None)) }
    }

    /// The newest term that is known here; nothing if the replica here takes no part.
    fn term(&self) -> Option<Term> {
        match self.driver.status(self.group) {
            Some(status) => Some(status.term),
            None => (!self.is_replica()).then_some(TERM_ALONE),
        }
    }

    /// Refuses whoever asks by another epoch of the leader than the one that is known here. Whoever says none asks by any.
    pub fn check_epoch(&self, known: Option<i32>) -> Result<(), Failure> {
        let (Some(known), Some(term)) = (known, self.term()) else { return Ok(()) };
        let epoch = epoch_of(term);
        let (code, advice) = match known.cmp(&epoch) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Less => (Code::LeaderFenced, "refresh the metadata, and ask by the newer epoch"),
            std::cmp::Ordering::Greater => (Code::LeaderUnknown, "retry: this node has not heard of it yet"),
        };
        Err(Failure::new(code, format!("asked for by epoch {known} of the leader, and it is {epoch}"), advice))
    }

    /// Where an epoch of a leader ends, as its successor knows it: the newest one up to this that the log has. See [`Log::term_end`].
    pub async fn epoch_end(&self, epoch: i32, leader_epoch: Option<i32>) -> Result<Option<EpochEnd>, Failure> {
        self.confirm().await?;
        self.check_epoch(leader_epoch)?;
        self.known_end(epoch).await
    }

    async fn known_end(&self, epoch: i32) -> Result<Option<EpochEnd>, Failure> {
        let Ok(asked) = u64::try_from(epoch) else { return Ok(None) };
        // Epochs past the largest are one.
        let term = self.term().filter(|term| epoch_of(*term) == epoch).unwrap_or(Term(asked));
        let found = self.log.term_end(self.group, term).await.map_err(|e| self.failed(&e))?;
        Ok(found.map(|(term, Offset(end_offset))| EpochEnd { epoch: epoch_of(term), end_offset }))
    }

    /// Where whoever has read up to `from`, in this epoch last, has read something else than is here; nothing if it has not, or does not say. A replica that is behind
    /// what was read says nothing of that: not as a follower, and as a leader only once it is certain that it leads.
    pub async fn diverging(&self, from: Offset, last_epoch: Option<i32>) -> Result<Option<EpochEnd>, Failure> {
        let Some(last) = last_epoch else { return Ok(None) };
        let mut state = self.state()?;
        if from > state.high_watermark {
            if self.serves().is_err() {
                return Ok(None);
            }
            self.confirm().await?;
            state = self.state()?;
        }
        let unknown = LogError::OffsetOutOfRange { group: self.group, start: state.start_offset, end: state.high_watermark, asked: from };
        let end = self.known_end(last).await?.ok_or_else(|| failure_of(&unknown))?;
        Ok(Some(end).filter(|end| end.epoch < last || end.end_offset < from.0))
    }

    /// Appends a batch that [`check_produced`] took. Does not wait: without room in the log it is refused.
    pub fn append(&self, mut batch: BytesMut, mut header: Header, now_ms: i64) -> Result<Pending, Failure> {
        let max = self.message_bytes_max.get();
        // A marker is always taken: a transaction that cannot be ended would be open for ever.
        if batch.len() > max && !header.is_control() {
            let message = format!("a batch of {} bytes, max.message.bytes of the topic is {max}", batch.len());
            return Err(Failure::new(Code::TooLarge, message, "send smaller batches, or raise max.message.bytes"));
        }
        if self.append_time.get() {
            stamp_append_time(&mut batch, now_ms);
            header = Header::parse(&batch).map_err(|e| bad(e.to_string()))?;
        }
        let append_time_ms = if self.append_time.get() { now_ms } else { -1 };
        if self.is_replica() {
            return self.propose(batch, &header, append_time_ms);
        }
        let appended = self.log.append(self.group, batch, &header, now_ms).map_err(|e| failure_of(&e))?;
        Ok(match appended {
            Appended::New { base_offset, lsn } => Pending { base_offset, lasts: Lasts::Synced(lsn), duplicate: false, append_time_ms },
            Appended::Duplicate { base_offset, lsn } => Pending { base_offset, lasts: Lasts::Synced(lsn), duplicate: true, append_time_ms },
        })
    }

    /// What the partition knows of a producer, where this node answers for it.
    pub fn producer(&self, id: u64) -> Result<Option<ProducerView>, Failure> {
        self.serves()?;
        Ok(i64::try_from(id).ok().and_then(|id| self.log.producer(self.group, id)))
    }

    /// Whether a batch of a transaction may be appended: its transaction is open here, or none has ended since the coordinator was asked, when `ended` was the
    /// last one of the producer that had. Whoever does not answer for the partition says that first: what it knows of transactions is not what was asked for, and its
    /// client would come again and again.
    pub fn check_transaction(&self, header: &Header, ended: Option<i32>) -> Result<(), Failure> {
        self.serves()?;
        let view = self.log.producer(self.group, header.producer_id);
        match (view, ended) {
            (Some(ProducerView { open: Some(_), epoch, .. }), _) if epoch == header.producer_epoch => Ok(()),
            (view, Some(ended)) if view.map_or(0, |view| view.ended) == ended => Ok(()),
            (_, Some(_)) => {
                Err(Failure::new(Code::Outdated, "another transaction of the producer has ended meanwhile", "retry").retry_after(20))
            }
            (_, None) => Err(bad("a batch of a transaction, and nobody said of which")),
        }
    }

    /// Ends a transaction of a producer here; returns once that lasts. One that has ended before is not ended again.
    pub async fn end_transaction(&self, producer_id: u64, epoch: i16, marker: Marker) -> Result<(), Failure> {
        let ended = |view: ProducerView| view.ended >= marker.number || view.epoch > epoch;
        if self.producer(producer_id)?.is_some_and(ended) {
            return self.lasts(self.state()?.end_offset).await;
        }
        let now_ms = self.driver.rt().wall_ms();
        let batch = marker.batch(producer_id as i64, epoch, now_ms).map_err(|e| bad(e.to_string()))?;
        let header = Header::parse(&batch).map_err(|e| bad(e.to_string()))?;
        self.append(batch, header, now_ms)?.settle(&self.log).await
    }

    /// Gives up what a producer has open here and nobody else will end, by a marker of this number; returns once that lasts. False if the producer has gone on since the
    /// partition knew of it what was `seen`: it may be another transaction by now.
    pub async fn give_up_hanging(&self, producer_id: u64, seen: ProducerView, number: i32) -> Result<bool, Failure> {
        if self.producer(producer_id)? != Some(seen) {
            return Ok(false);
        }
        // It is appended before anything is awaited.
        self.end_transaction(producer_id, seen.epoch, Marker { commit: false, number }).await.map(|()| true)
    }

    /// Waits until what is before an offset lasts.
    async fn lasts(&self, end: Offset) -> Result<(), Failure> {
        loop {
            let waiter = Rc::new(Notify::new());
            self.wait_on(&waiter);
            if self.state()?.high_watermark >= end {
                return Ok(());
            }
            self.serves()?;
            futures_lite::future::or(waiter.notified(), self.driver.rt().sleep(LASTS_LOOK)).await;
        }
    }

    fn propose(&self, batch: BytesMut, header: &Header, append_time_ms: i64) -> Result<Pending, Failure> {
        let proposed = self.driver.propose(self.group, batch, header).map_err(|error| match &error {
            ProposeError::Log(error) => failure_of(error),
            ProposeError::NotLeader { leader } => not_owner(*leader),
            ProposeError::Unknown(_) => self.serves().err().unwrap_or_else(|| not_owner(None)),
            ProposeError::Busy => Failure::new(Code::Overloaded, error.to_string(), "retry").retry_after(20),
        })?;
        let (base_offset, duplicate) = (proposed.offset, proposed.duplicate);
        Ok(Pending { base_offset, lasts: Lasts::Committed(proposed), duplicate, append_time_ms })
    }

    /// Where one of these replicas may be read instead of this one, if this one leads.
    #[must_use]
    pub fn readable_at(&self, replicas: &[Replica]) -> Option<NodeId> {
        let status = self.driver.status(self.group).filter(|status| status.serves)?;
        let matched = |id| self.driver.matched_by(self.group, id).map(|index| index.0);
        let last = matched(status.me)?;
        let is_near = |replica: &&Replica| matched(replica.id).is_some_and(|index| last.saturating_sub(index) <= BEHIND);
        let is_heard = |replica: &&Replica| self.driver.hears(NodeId(replica.node));
        replicas.iter().filter(is_heard).find(is_near).map(|replica| NodeId(replica.node))
    }

    /// Where the partition stands.
    pub fn state(&self) -> Result<GroupState, Failure> {
        self.log.state(self.group).ok_or_else(|| self.failed(&LogError::UnknownGroup { group: self.group }))
    }

    /// What whoever asks is told of an error of the log. A replica that is not in it is about to begin, anew perhaps.
    fn failed(&self, error: &LogError) -> Failure {
        match error {
            LogError::UnknownGroup { .. } if self.is_replica() => self.serves().err().unwrap_or_else(|| not_owner(None)),
            error => failure_of(error),
        }
    }

    /// Whether its leadership is being handed over just now: it takes no batches, and soon knows who does.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.driver.hands_over(self.group)
    }

    /// Whether it may be read here: as its leader, until another is known, or as any of its replicas if that is enough.
    #[must_use]
    pub fn answers(&self, any_replica: bool) -> bool {
        any_replica || self.serves().is_ok() || self.hands_over()
    }

    /// Reads committed batches from `from` on: about `bytes_max` bytes, one batch at least if there is one. A replica that does not lead, and is enough, may
    /// not know yet of what lies behind its own end. With `committed` nothing behind the first transaction that is open.
    pub async fn read(&self, from: Offset, bytes_max: usize, any_replica: bool, committed: bool) -> Result<ReadOut, Failure> {
        let (leads, any_replica) = (self.serves(), any_replica || self.hands_over());
        let mut state = self.state()?;
        let mut ahead = from > state.high_watermark;
        match leads {
            Err(failure) if !any_replica => return Err(failure),
            Err(_) => {}
            Ok(_) => {
                if ahead {
                    // A reader that knows more than we do may have it from a newer leader.
                    self.confirm().await?;
                    state = self.state()?;
                }
                ahead = false;
            }
        }
        let end = end_for(&state, committed);
        if ahead || from == state.high_watermark || (committed && from >= end) {
            return Ok(ReadOut { batches: Vec::new(), next: from });
        }
        let limits = ReadLimits { bytes_max, end };
        self.log.read(self.group, from, limits).await.map_err(|e| self.failed(&e))
    }

    /// The offset for a time, with the special times of ListOffsets, the timestamp of the record there (-1 for none), and its epoch, or that of the leader at
    /// the end.
    pub async fn offset_for(
        &self,
        time_ms: i64,
        committed: bool,
        leader_epoch: Option<i32>,
    ) -> Result<(Offset, i64, Option<i32>), Failure> {
        const END: i64 = -1;
        const START: i64 = -2;
        const NEWEST: i64 = -3;
        self.confirm().await?;
        self.check_epoch(leader_epoch)?;
        let state = self.state()?;
        let end = end_for(&state, committed);
        let leads = self.term();
        let wanted = match time_ms {
            END => return Ok((end, -1, leads.map(epoch_of))),
            START => {
                let term = self.log.term_at(self.group, state.start_offset).await.map_err(|e| self.failed(&e))?;
                return Ok((state.start_offset, -1, term.or(leads).map(epoch_of)));
            }
            NEWEST => match state.max_timestamp {
                Some(newest) => newest,
                None => return Ok((end, -1, leads.map(epoch_of))),
            },
            ms if ms >= 0 => ms,
            ms => {
                let message = format!("{ms} is no time: -1 is the end, -2 the start, -3 the newest record");
                return Err(Failure::new(Code::InvalidArgument, message, "ask for milliseconds since 1970"));
            }
        };
        let found = self.log.offset_for_time(self.group, wanted).await.map_err(|e| self.failed(&e))?;
        let Some((offset, ms)) = found.filter(|(offset, _)| *offset < end) else { return Ok((end, -1, leads.map(epoch_of))) };
        let term = self.log.term_at(self.group, offset).await.map_err(|e| self.failed(&e))?;
        Ok((offset, ms, term.map(epoch_of)))
    }

    /// Deletes records before an offset, and says where the log begins once that is synced.
    pub async fn delete_before(&self, before: Offset) -> Result<Offset, Failure> {
        self.confirm().await?;
        let state = self.state()?;
        if before > state.high_watermark {
            let error =
                LogError::OffsetOutOfRange { group: self.group, start: state.start_offset, end: state.high_watermark, asked: before };
            return Err(failure_of(&error));
        }
        let lsn = self.log.trim(self.group, before).map_err(|e| self.failed(&e))?;
        self.log.synced(lsn).await.map_err(|e| failure_of(&e))?;
        Ok(self.state()?.start_offset)
    }

    /// `waiter` is notified once, when the partition grows next or goes.
    pub fn wait_on(&self, waiter: &Rc<Notify>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= WAITING_SWEPT && waiting.len().is_power_of_two() {
            waiting.retain(|w| w.strong_count() > 0);
        }
        waiting.push(Rc::downgrade(waiter));
    }

    /// Notifies all who wait.
    pub fn wake(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let woken = std::mem::take(&mut *self.waiting.borrow_mut());
        woken.iter().filter_map(Weak::upgrade).for_each(|w| w.notify_one());
    }
}
