//! Consumer groups: each lives with its partition of `__consumer_offsets`, on the core that owns that.
//!
//! Two things keep a position from going back behind somebody's back:
//! * between looking at a group and appending what follows from that, nothing is awaited: who may commit when it is looked at may still
//!   when it is written;
//! * who asks for positions waits for those that are written and not synced yet: they will be what the group goes on from.

mod certain;
mod classic;
mod consumer;
mod transactions;

use self::certain::Answer;
use super::{await_room, core::Core, look::Bounds, meta::append_records, not_owner, partition::Partition, produce::ROOM_WAIT};
use crate::{
    boot::load,
    catalog::OFFSETS,
    coordinator::{Commit, Coordinator, Refused, partition_of},
    keyed::Record,
};
use millpond_runtime::{CoreId, Offset, Rt, Share, Term, rt::to_next};
use millpond_wire::messages::{
    Code, CommitOffsets, CommitOffsetsReply, DeleteGroup, DescribeGroup, DescribeGroupReply, Done, Failure, FetchOffsets,
    FetchOffsetsReply, GroupHeartbeat, GroupHeartbeatReply, Kind, ListGroups, ListGroupsReply,
};
use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    future::Future,
    rc::Rc,
    time::Duration,
};
use tokio::sync::Notify;

/// How often members that fell silent are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// Records of one batch: a large group's tombstones go in several.
const RECORDS_PER_BATCH: usize = 1_000;

/// A coordinator and what is written but not applied yet.
#[derive(Debug, Default)]
pub struct Seat {
    /// The groups.
    pub coordinator: RefCell<Coordinator>,
    /// The term in which it is of use: in another one others may have written.
    term: Term,
    /// Appended records in order of their offsets. They are applied in this order whoever hears first that they last.
    unapplied: RefCell<VecDeque<(Offset, Vec<Record>)>>,
    /// Transactions that are being ended, by their ids; and who is told when one has ended.
    ending: RefCell<BTreeSet<String>>,
    ended: Notify,
}

impl Seat {
    /// A seat for groups as they were read back, of use in this term.
    #[must_use]
    pub fn new(coordinator: Coordinator, term: Term) -> Self {
        Self { coordinator: RefCell::new(coordinator), term, ..Self::default() }
    }
}

/// How long one waits for a commit before it looks whether this node still leads.
const COMMIT_LOOK: Duration = Duration::from_millis(50);

type Held = Rc<Seat>;

fn no_offsets() -> Failure {
    Failure::new(Code::Unavailable, "the topic of positions is not there yet", "retry").retry_after(200)
}

impl<R: Rt> Core<R> {
    /// Where a group lives: the partition of `__consumer_offsets`, and the core.
    fn place_of(&self, group: &str) -> Result<(u32, CoreId), Failure> {
        let route = self.route(OFFSETS).ok_or_else(no_offsets)?;
        let partition = partition_of(group, route.places.len() as u32);
        let place = route.places.get(partition as usize).ok_or_else(no_offsets)?;
        if !place.lives {
            return Err(not_owner(self.leader_of(place.group)));
        }
        Ok((partition, place.core))
    }

    /// Runs `call` next to the coordinator of `group`.
    async fn with_group<T, F>(
        self: &Rc<Self>,
        group: &str,
        call: impl FnOnce(Rc<Self>, Held, u32) -> F + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Answer + Send + 'static,
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        let (partition, core) = self.place_of(group)?;
        self.with_seat(partition, core, call).await
    }

    /// Runs `call` next to the coordinator of a partition of `__consumer_offsets` that lives on this core. What that answers from memory is told once it is certain
    /// that it still is the coordinator, see [`certain`].
    async fn with_seat<T, F>(
        self: &Rc<Self>,
        partition: u32,
        core: CoreId,
        call: impl FnOnce(Rc<Self>, Held, u32) -> F + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Answer + Send + 'static,
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        self.at(core, move |core| async move {
            let held = core.seat(partition).await?;
            core.tell_coordinators();
            let answer = call(Rc::clone(&core), Rc::clone(&held), partition).await;
            if answer.is_from_memory() {
                core.offsets(partition)?.confirm_in(held.term).await?;
            }
            answer
        })
        .await?
    }

    /// The coordinator of a partition of `__consumer_offsets` that this node answers for, read back if it is new here.
    async fn seat(self: &Rc<Self>, partition: u32) -> Result<Held, Failure> {
        let here = self.offsets(partition)?;
        let current = |term| self.coordinators.borrow().get(&partition).filter(|seat| seat.term == term).cloned();
        if let Some(seat) = current(here.serves()?) {
            return Ok(seat);
        }
        let _turn = self.seats_turn.lock().await;
        let term = here.serves()?;
        if let Some(seat) = current(term) {
            return Ok(seat);
        }
        let damaged = |e: crate::node::shared::StartFailed| Failure::new(Code::Corrupt, e.to_string(), e.advice);
        let coordinator = load::coordinator(self, &here).await.map_err(damaged)?;
        if here.serves()? != term {
            return Err(not_owner(None));
        }
        let seat = Rc::new(Seat::new(coordinator, term));
        self.coordinators.borrow_mut().insert(partition, Rc::clone(&seat));
        self.coordinators_behind.set(true);
        Ok(seat)
    }

    /// Groups that live here.
    #[must_use]
    pub fn groups_here(&self) -> usize {
        self.coordinators.borrow().values().map(|seat| seat.coordinator.borrow().groups()).sum()
    }

    /// The most positions that one of the groups here may have.
    #[must_use]
    pub fn largest_group_here(&self) -> usize {
        self.coordinators.borrow().values().map(|seat| seat.coordinator.borrow().largest()).max().unwrap_or(0)
    }

    /// A member's sign of life.
    pub async fn heartbeat(self: &Rc<Self>, host: String, request: GroupHeartbeat) -> Result<GroupHeartbeatReply, Failure> {
        let group = request.group.clone();
        self.with_group(&group, move |core, held, _| async move {
            held.coordinator.borrow_mut().heartbeat(core.now_ms(), &host, &request).map_err(|e| e.failure())
        })
        .await
    }

    /// Keeps positions: synced before the answer.
    pub async fn commit_offsets(self: &Rc<Self>, request: CommitOffsets) -> Result<CommitOffsetsReply, Failure> {
        let group = request.group.clone();
        self.with_group(&group, move |core, held, partition| async move {
            let here = core.offsets(partition)?;
            await_room(&core.rt, &here.log, ROOM_WAIT).await;
            let commit = held.coordinator.borrow().commit(&request).map_err(|e| e.failure())?;
            core.keep(&here, &held, commit).await
        })
        .await
    }

    /// Writes a commit that was checked just now, and waits until it lasts.
    async fn keep(&self, here: &Partition<R>, held: &Seat, Commit { records, reply }: Commit) -> Result<CommitOffsetsReply, Failure> {
        self.put(here, held, records.clone())?;
        held.coordinator.borrow_mut().written(&records);
        self.settle(here, held).await?;
        Ok(reply)
    }

    /// A group's positions.
    pub async fn fetch_offsets(self: &Rc<Self>, request: FetchOffsets) -> Result<FetchOffsetsReply, Failure> {
        let group = request.group.clone();
        self.with_group(&group, move |core, held, partition| async move {
            let here = core.offsets(partition)?;
            core.settle(&here, &held).await?;
            Ok(held.coordinator.borrow().fetch_offsets(&request))
        })
        .await
    }

    /// One group, with where its partitions begin and end.
    pub async fn describe_group(self: &Rc<Self>, request: DescribeGroup) -> Result<DescribeGroupReply, Failure> {
        let group = request.group.clone();
        let mut reply = self
            .with_group(&group, move |_, held, _| async move { held.coordinator.borrow().describe(&request).map_err(|e| e.failure()) })
            .await?;
        let named: Vec<(String, u32)> =
            reply.positions.iter().filter_map(|at| at.position.as_ref()).map(|p| (p.topic.clone(), p.partition)).collect();
        let asked: Vec<(&str, u32)> = named.iter().map(|(topic, partition)| (topic.as_str(), *partition)).collect();
        let bounds = self.bounds_of(&asked).await;
        for (at, bounds) in reply.positions.iter_mut().filter(|at| at.position.is_some()).zip(bounds) {
            if let Ok(Bounds { start, end, .. }) = bounds {
                (at.start_offset, at.end_offset) = (start, end);
            }
        }
        Ok(reply)
    }

    /// Deletes a group without members.
    pub async fn delete_group(self: &Rc<Self>, request: DeleteGroup) -> Result<Done, Failure> {
        let group = request.group.clone();
        self.with_group(&group, move |core, held, partition| async move {
            let here = core.offsets(partition)?;
            let mut begun = false;
            loop {
                await_room(&core.rt, &here.log, ROOM_WAIT).await;
                core.settle(&here, &held).await?;
                let tombstones = held.coordinator.borrow().delete(&request, RECORDS_PER_BATCH);
                let tombstones = match tombstones {
                    Ok(tombstones) => tombstones,
                    Err(Refused::UnknownGroup { .. }) if begun => return Ok(Done {}),
                    Err(refused) => return Err(refused.failure()),
                };
                core.put(&here, &held, tombstones)?;
                begun = true;
            }
        })
        .await
    }

    /// All groups of all cores, and of all nodes if these are to be asked.
    pub async fn list_groups(self: &Rc<Self>, everywhere: bool) -> Result<ListGroupsReply, Failure> {
        let mut all = ListGroupsReply::default();
        let others = if everywhere { self.cluster.others() } else { Vec::new() };
        for node in others {
            let there: ListGroupsReply = match self.ask_node(node, Kind::ListGroups, &ListGroups {}).await {
                Ok(there) => there,
                // What it led is led by others.
                Err(failure) if failure.code() == Code::Unavailable => continue,
                Err(failure) => return Err(failure),
            };
            all.groups.extend(there.groups);
        }
        for core in self.core_ids() {
            let here = self
                .at(core, |core| async move {
                    let held: Vec<Held> = core.coordinators.borrow().values().cloned().collect();
                    held.iter().flat_map(|c| c.coordinator.borrow().list().groups).collect::<Vec<_>>()
                })
                .await?;
            all.groups.extend(here);
        }
        all.groups.sort_by(|a, b| a.group.cmp(&b.group));
        all.groups.dedup_by(|a, b| a.group == b.group);
        Ok(all)
    }

    /// A partition of `__consumer_offsets` that lives here.
    fn offsets(&self, partition: u32) -> Result<Rc<Partition<R>>, Failure> {
        let route = self.route(OFFSETS).ok_or_else(no_offsets)?;
        route.places.get(partition as usize).and_then(|p| p.here.clone()).ok_or_else(no_offsets)
    }

    /// Appends records of positions as one batch, without waiting for anything; [`Core::settle`] makes them true.
    fn put(&self, here: &Partition<R>, held: &Seat, records: Vec<Record>) -> Result<(), Failure> {
        if records.is_empty() {
            return Ok(());
        }
        if here.serves()? != held.term {
            return Err(not_owner(None));
        }
        // It lasts once the log is committed so far, in the same term.
        let pending = append_records(&self.rt, here, &records)?;
        held.unapplied.borrow_mut().push_back((pending.base_offset, records));
        Ok(())
    }

    /// Waits until all that has been appended so far lasts, and applies it.
    async fn settle(&self, here: &Partition<R>, held: &Seat) -> Result<(), Failure> {
        let Some(last) = held.unapplied.borrow().back().map(|(offset, _)| *offset) else { return Ok(()) };
        loop {
            let waiter = Rc::new(Notify::new());
            here.wait_on(&waiter);
            let committed = here.state()?.high_watermark;
            if here.serves() != Ok(held.term) {
                let message = "the leader changed before positions were committed: whether they will be is unknown";
                return Err(Failure::new(Code::MaybeDone, message, "commit again").retry_after(50));
            }
            self.apply_until(held, committed);
            if last < committed {
                return Ok(());
            }
            futures_lite::future::or(waiter.notified(), self.rt.sleep(COMMIT_LOOK)).await;
        }
    }

    fn apply_until(&self, held: &Seat, committed: Offset) {
        let mut unapplied = held.unapplied.borrow_mut();
        while unapplied.front().is_some_and(|(offset, _)| *offset < committed) {
            let records = unapplied.pop_front().map(|(_, records)| records).unwrap_or_default();
            for record in records {
                if let Err(error) = held.coordinator.borrow_mut().apply(&record.key, record.value.as_deref()) {
                    self.rt.halt(&format!("a position that was just written cannot be read: {error}"));
                }
            }
        }
    }

    /// Writes tombstones that nobody waits for.
    pub(super) async fn forget_positions(self: &Rc<Self>, partition: u32, records: Vec<Record>) {
        if let Err(failure) = self.try_forget_positions(partition, &records).await {
            tracing::warn!(partition, failure = failure.message, "positions of deleted topics stay for now");
        }
    }

    async fn try_forget_positions(&self, partition: u32, records: &[Record]) -> Result<(), Failure> {
        let here = self.offsets(partition)?;
        let held = self.coordinators.borrow().get(&partition).cloned().ok_or_else(no_offsets)?;
        for some in records.chunks(RECORDS_PER_BATCH) {
            await_room(&self.rt, &here.log, ROOM_WAIT).await;
            self.settle(&here, &held).await?;
            // The topic may have come anew under its name, and a position in that: a tombstone would bury it.
            let stale = held.coordinator.borrow().still_stale(some);
            self.put(&here, &held, stale)?;
        }
        self.settle(&here, &held).await
    }

    /// Forgets groups that another node answers for now.
    fn leave_seats(&self) {
        let left = |partition: &u32, seat: &mut Held| self.offsets(*partition).is_ok_and(|here| here.serves() == Ok(seat.term));
        self.coordinators.borrow_mut().retain(left);
    }

    /// Takes the seats that are new here: transactions of theirs may wait to be ended.
    async fn take_seats(self: &Rc<Self>) {
        let places = self.route(OFFSETS).map_or(0, |route| route.places.len() as u32);
        for partition in 0..places {
            let serves = self.offsets(partition).and_then(|here| here.serves());
            let seated = self.coordinators.borrow().contains_key(&partition);
            if serves.is_ok()
                && !seated
                && let Err(failure) = self.seat(partition).await
            {
                tracing::debug!(partition, failure = failure.message, "groups are not looked after for now");
            }
        }
    }

    /// Removes silent members, for as long as the node runs.
    pub fn watch_groups(self: &Rc<Self>) {
        let core = Rc::clone(self);
        self.rt.spawn("expire members", Share::Serve, async move {
            while !core.stopping.get() {
                core.rt.sleep(to_next(&core.rt, EXPIRE_EVERY)).await;
                core.leave_seats();
                core.take_seats().await;
                core.tell_coordinators();
                let held: Vec<(u32, Held)> = core.coordinators.borrow().iter().map(|(n, seat)| (*n, Rc::clone(seat))).collect();
                for (partition, seat) in held {
                    let expired = seat.coordinator.borrow_mut().expire(core.now_ms());
                    core.expire_transactions(partition, &seat);
                    core.forget_groups(partition, &seat);
                    core.write_groups_at_leisure(partition, &seat);
                    for gone in expired {
                        tracing::info!(consumer_group = gone.group, member = gone.member, "a member fell silent and was removed");
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
