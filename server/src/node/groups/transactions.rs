//! Transactions next to their coordinator, and where they write.
//!
//! * The leader of a partition, and the coordinator of a group, ask the coordinator of a transaction before they take anything of it
//!   ([`Core::join_transaction`]); what they took is part of it then, whatever becomes of whoever asked.
//! * An end is decided when it is written. After that each partition and group is told ([`Core::end_transaction_here`]) until all have ended it; only then is the
//!   producer answered, and may begin the next one. Whoever is the coordinator when a node has failed goes on with that.

use super::{Core, Held, ROOM_WAIT, await_room, classic::Answered, not_owner};
use crate::{
    catalog::OFFSETS,
    coordinator::{
        Coordinator, Part,
        classic::Speaker,
        partition_of, to_wire,
        transactions::{DescribedTransaction, Ending, Step, Times, Who},
    },
    node::partition::Partition,
};
use millpond_batch::Marker;
use millpond_log::ProducerView;
use millpond_runtime::{CoreId, NodeId, Rt, Share};
use millpond_wire::messages::{
    Code, CommitOffsetsReply, DisownTransaction, DisownTransactionReply, EndTransaction, EndTransactionReply, Failure, InitProducer,
    JoinTransaction, JoinTransactionReply, Kind, Position, TopicPartitions, TransactionRefusal as Refusal,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

/// A producer that ends its transaction waits for so long until that has happened everywhere.
const END_WAIT: Duration = Duration::from_secs(5);
/// How long one waits for that before it looks again.
const END_LOOK: Duration = Duration::from_millis(50);
/// Where a transaction could not be ended it is tried again after this time, and then after twice as long, up to the bound.
const END_AGAIN: Duration = Duration::from_millis(10);
const END_AGAIN_MAX: Duration = Duration::from_secs(1);
/// How often a commit asks again whether its transaction is open, when others have ended meanwhile.
const COMMIT_TRIES: usize = 16;

/// What is said of a transaction, or why not; the failure is one of the node.
type Decided<T> = Result<Result<T, Refusal>, Failure>;

impl<R: Rt> Core<R> {
    fn times(&self) -> Times {
        Times { mono_ms: self.now_ms(), wall_ms: self.rt.wall_ms() }
    }

    /// A producer begins under a transactional id; what it, or one before it, has open is given up.
    pub async fn init_transactions(self: &Rc<Self>, id: String, timeout_ms: u32, known: Option<Who>) -> Decided<Who> {
        let name = id.clone();
        self.decide(id, move |c, now, fresh| c.init_transactions(now, &name, timeout_ms, known, fresh)).await
    }

    /// A producer ends its transaction. Who it is from here on.
    pub async fn end_transaction(self: &Rc<Self>, id: String, who: Who, commit: bool, begins_epoch: bool) -> Decided<Who> {
        let name = id.clone();
        self.decide(id, move |c, now, fresh| c.end_transaction(now, &name, who, commit, begins_epoch, fresh)).await
    }

    /// Asks the coordinator of an id until it has decided: with an id that was never used if it needs one, and again after a transaction that is being ended.
    async fn decide(
        self: &Rc<Self>,
        id: String,
        ask: impl Fn(&mut Coordinator, Times, Option<u64>) -> Result<Step, Refusal> + Clone + Send + 'static,
    ) -> Decided<Who> {
        let until = self.rt.mono() + END_WAIT.as_nanos() as u64;
        let mut fresh = None;
        loop {
            let (name, ask) = (id.clone(), ask.clone());
            let decided = self.with_group(&id, move |core, held, partition| async move {
                let here = core.offsets(partition)?;
                await_room(&core.rt, &here.log, ROOM_WAIT).await;
                let decided = ask(&mut held.coordinator.borrow_mut(), core.times(), fresh);
                core.settle_changed(&here, &held).await?;
                if decided == Ok(Step::Wait) {
                    core.await_end(partition, &held, &here, &name, until).await?;
                }
                Ok(decided)
            });
            match decided.await? {
                Ok(Step::Is(who)) => return Ok(Ok(who)),
                Ok(Step::NeedsId) => {
                    let here = self.init_producer().await;
                    fresh = Some(self.or_there(Kind::InitProducer, &InitProducer {}, here).await?.producer_id);
                }
                Ok(Step::Wait) if self.rt.mono() >= until => return Ok(Err(Refusal::Concurrent)),
                Ok(Step::Wait) => {}
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
    }

    /// Partitions and groups come into a transaction, or are asked whether they are in it, at whoever is its coordinator.
    pub async fn join_transaction(self: &Rc<Self>, request: &JoinTransaction) -> Result<JoinTransactionReply, Failure> {
        let here = self.join_transaction_here(request.clone()).await;
        self.or_there(Kind::JoinTransaction, request, here).await
    }

    /// The same where this node is the coordinator.
    pub async fn join_transaction_here(self: &Rc<Self>, request: JoinTransaction) -> Result<JoinTransactionReply, Failure> {
        let id = request.transactional_id.clone();
        self.with_group(&id, move |core, held, partition| async move {
            let here = core.offsets(partition)?;
            await_room(&core.rt, &here.log, ROOM_WAIT).await;
            let JoinTransaction { transactional_id, producer_id, epoch, partitions, groups, add } = request;
            let who = (producer_id, i16::try_from(epoch).unwrap_or(i16::MAX));
            let joined = held.coordinator.borrow_mut().join_transaction(core.times(), &transactional_id, who, (&partitions, &groups), add);
            core.settle_changed(&here, &held).await?;
            Ok(match joined {
                Ok(number) => JoinTransactionReply { refusal: Refusal::None.into(), number },
                Err(refusal) => JoinTransactionReply { refusal: refusal.into(), number: 0 },
            })
        })
        .await
    }

    /// Keeps positions of a group as part of a transaction: synced before the answer.
    pub async fn commit_in_transaction(
        self: &Rc<Self>,
        join: JoinTransaction,
        speaker: Speaker,
        positions: Vec<Position>,
    ) -> Answered<Result<CommitOffsetsReply, Refusal>> {
        let group = speaker.group.clone();
        self.with_group(&group, move |core, held, partition| async move {
            let here = core.offsets(partition)?;
            for _ in 0..COMMIT_TRIES {
                let ends = held.coordinator.borrow().ends();
                let JoinTransactionReply { refusal, number } = core.join_transaction(&join).await?;
                match Refusal::try_from(refusal) {
                    Ok(Refusal::None) => {}
                    refusal => return Ok(Ok(Err(refusal.unwrap_or(Refusal::Invalid)))),
                }
                await_room(&core.rt, &here.log, ROOM_WAIT).await;
                // From here on nothing is awaited until the positions are appended: it cannot end in between.
                if held.coordinator.borrow().ends() != ends {
                    continue;
                }
                let commit = held.coordinator.borrow_mut().commit_in_transaction(&speaker, positions, join.producer_id, number);
                return match commit {
                    Ok(commit) => core.keep(&here, &held, commit).await.map(|reply| Ok(Ok(reply))),
                    Err(refused) => Ok(Err(refused)),
                };
            }
            Ok(Ok(Err(Refusal::Concurrent)))
        })
        .await
    }

    /// Ends a transaction in those of these partitions and groups that this node answers for. Where it has not ended.
    pub async fn end_transaction_here(self: &Rc<Self>, request: EndTransaction) -> EndTransactionReply {
        let EndTransaction { producer_id, epoch, number, commit, partitions, groups } = request;
        let epoch = i16::try_from(epoch).unwrap_or(i16::MAX);
        let marker = Marker { commit, number: i32::try_from(number).unwrap_or(i32::MAX) };
        let all: Vec<Part> = partitions.iter().flat_map(from_wire).collect();
        // No transaction writes to what the system keeps, whoever says so.
        let is_ours = |topic: &str| self.route(topic).is_some_and(|route| route.internal);
        let mut left: BTreeSet<&Part> = all.iter().filter(|part| is_ours(&part.topic)).collect();
        let asked: Vec<&Part> = all.iter().filter(|part| !left.contains(part)).collect();
        let end = move |partition: Rc<Partition<R>>, ()| async move { partition.end_transaction(producer_id, epoch, marker).await };
        let ended = self.at_partitions(asked.iter().map(|part| (&*part.topic, part.partition, ())), end).await;
        for (part, ended) in asked.into_iter().zip(ended) {
            if let Err(failure) = ended {
                tracing::debug!(%part, producer_id, failure = failure.message, "a transaction is to be ended here again");
                left.insert(part);
            }
        }
        let mut left = EndTransactionReply { partitions: to_wire(left), groups: Vec::new() };
        for group in groups {
            let name = group.clone();
            let ended = self.with_group(&group, move |core, held, partition| async move {
                core.end_in_group(&held, partition, &name, producer_id, number, commit).await
            });
            if let Err(failure) = ended.await {
                tracing::debug!(group, producer_id, failure = failure.message, "a transaction is to be ended in a group again");
                left.groups.push(group);
            }
        }
        left
    }

    async fn end_in_group(
        self: &Rc<Self>,
        held: &Held,
        partition: u32,
        group: &str,
        producer_id: u64,
        number: u32,
        commit: bool,
    ) -> Result<(), Failure> {
        let here = self.offsets(partition)?;
        loop {
            await_room(&self.rt, &here.log, ROOM_WAIT).await;
            // What was appended before is to be seen.
            self.settle(&here, held).await?;
            let records = held.coordinator.borrow_mut().end_in_group(group, producer_id, number, commit, super::RECORDS_PER_BATCH);
            if records.is_empty() {
                return here.confirm_in(held.term).await;
            }
            self.put(&here, held, records)?;
        }
    }

    /// Waits until a transaction that is being ended has ended, or for as long as it may.
    async fn await_end(self: &Rc<Self>, partition: u32, held: &Held, here: &Partition<R>, id: &str, until: u64) -> Result<(), Failure> {
        self.end_soon(partition, held, id);
        loop {
            let mut ended = std::pin::pin!(held.ended.notified());
            ended.as_mut().enable();
            if held.coordinator.borrow().ending(id).is_none() {
                return self.settle(here, held).await;
            }
            if self.stopping.get() || here.serves() != Ok(held.term) {
                return Err(not_owner(None));
            }
            if self.rt.mono() >= until {
                return Ok(());
            }
            futures_lite::future::or(ended, self.rt.sleep(END_LOOK)).await;
        }
    }

    /// Has a transaction ended wherever it has written, if nobody does so yet.
    fn end_soon(self: &Rc<Self>, partition: u32, held: &Held, id: &str) {
        if !held.ending.borrow_mut().insert(id.to_owned()) {
            return;
        }
        let (core, held, id) = (Rc::clone(self), Rc::clone(held), id.to_owned());
        self.rt.spawn("end a transaction", Share::Serve, async move {
            if let Err(failure) = core.finish(partition, &held, &id).await {
                tracing::debug!(transactional_id = id, failure = failure.message, "a transaction is left to another coordinator");
            }
            held.ending.borrow_mut().remove(&id);
            held.ended.notify_waiters();
        });
    }

    async fn finish(self: &Rc<Self>, partition: u32, held: &Held, id: &str) -> Result<(), Failure> {
        let here = self.offsets(partition)?;
        let Some(whole) = held.coordinator.borrow().ending(id) else { return Ok(()) };
        // It is decided once it is written, and not before.
        while let Err(failure) = self.settle_changed(&here, held).await {
            if self.stopping.get() || here.serves() != Ok(held.term) {
                return Err(failure);
            }
            self.rt.sleep(END_AGAIN).await;
        }
        let (mut left, mut nap) = (whole.clone(), END_AGAIN);
        loop {
            left = self.end_everywhere(left).await;
            if left.partitions.is_empty() && left.groups.is_empty() {
                break;
            }
            self.rt.sleep(nap).await;
            nap = (nap * 2).min(END_AGAIN_MAX);
            if self.stopping.get() || here.serves() != Ok(held.term) {
                return Err(not_owner(None));
            }
        }
        held.coordinator.borrow_mut().complete_transaction(self.times(), id, &whole);
        self.settle_changed(&here, held).await
    }

    /// Asks all nodes, side by side, to end a transaction where they answer. What is left of it.
    async fn end_everywhere(self: &Rc<Self>, ending: Ending) -> Ending {
        // A topic that is not known is gone only if nobody else knows it: this node may be behind with the catalog.
        let is_strange = |(part, id): (&Part, &u64)| self.catalog.borrow().topic(&part.topic).is_none_or(|topic| topic.topic_id != *id);
        if ending.partitions.iter().any(is_strange) && self.catch_up().await.is_err() {
            return ending;
        }
        let mut left = Ending { partitions: BTreeMap::new(), groups: BTreeSet::new(), ..ending.clone() };
        let mut by_node: BTreeMap<NodeId, (BTreeSet<&Part>, Vec<String>)> = BTreeMap::new();
        {
            let catalog = self.catalog.borrow();
            for (part, topic_id) in &ending.partitions {
                // Of a topic that is gone there is nothing to end.
                let topic = catalog.topic(&part.topic).filter(|topic| topic.topic_id == *topic_id);
                let Some(at) = topic.and_then(|topic| topic.partitions.get(part.partition as usize)) else { continue };
                by_node.entry(self.answers_for(at)).or_default().0.insert(part);
            }
            let offsets = catalog.topic(OFFSETS).map(|topic| &topic.partitions);
            for group in &ending.groups {
                let at = offsets.and_then(|all| all.get(partition_of(group, all.len() as u32) as usize));
                match at.map(|at| self.answers_for(at)) {
                    Some(node) => by_node.entry(node).or_default().1.push(group.clone()),
                    None => drop(left.groups.insert(group.clone())),
                }
            }
        }
        let one = async |node: NodeId, request: EndTransaction| {
            if node.0 == self.identity.node_id {
                return self.end_transaction_here(request).await;
            }
            match self.ask_node(node, Kind::EndTransaction, &request).await {
                Ok(left) => left,
                Err(failure) => {
                    tracing::debug!(node = node.0, failure = failure.message, "a transaction is to be ended there again");
                    EndTransactionReply { partitions: request.partitions, groups: request.groups }
                }
            }
        };
        let request = |(node, (parts, groups)): (NodeId, (BTreeSet<&Part>, Vec<String>))| {
            let (producer_id, epoch) = (ending.who.0, u32::try_from(ending.who.1).unwrap_or(0));
            let (number, commit, partitions) = (ending.number, ending.commit, to_wire(parts));
            one(node, EndTransaction { producer_id, epoch, number, commit, partitions, groups })
        };
        for reply in all(by_node.into_iter().map(request).collect()).await {
            let still: BTreeSet<Part> = reply.partitions.iter().flat_map(from_wire).collect();
            left.partitions.extend(ending.partitions.iter().filter(|(part, _)| still.contains(part)).map(|(part, id)| (part.clone(), *id)));
            left.groups.extend(reply.groups);
        }
        left
    }

    /// Gives up a transaction that hangs: one that is open in a partition that this node leads, and that no coordinator will end. `seen` is what the partition knows of its
    /// producer.
    ///
    /// A coordinator that has it open, or is ending it, refuses: what is decided there is never torn. Else it takes a number that none of its own markers has; what the
    /// producer begins later is ended by a larger one. If the producer goes on in the partition meanwhile nothing is ended.
    pub async fn give_up_hanging(self: &Rc<Self>, part: &Part, producer_id: u64, seen: ProducerView) -> Decided<()> {
        let ended = u32::try_from(seen.ended).unwrap_or(0);
        let request = DisownTransaction { producer_id, topic: part.topic.to_string(), partition: part.partition, ended };
        let number = match self.disown_transaction(&request).await? {
            Ok(number) => i32::try_from(number).unwrap_or(i32::MAX),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let end = move |partition: Rc<Partition<R>>, ()| async move { partition.give_up_hanging(producer_id, seen, number).await };
        let ended = self.at_partitions([(&*part.topic, part.partition, ())], end).await.pop();
        let is_ended = ended.unwrap_or_else(|| Err(not_owner(None)))?;
        tracing::info!(%part, producer_id, number, is_ended, "a transaction that hangs is given up");
        Ok(if is_ended { Ok(()) } else { Err(Refusal::Concurrent) })
    }

    /// Asks all coordinators: that nobody looks after a producer is known only if each of them says so.
    async fn disown_transaction(self: &Rc<Self>, request: &DisownTransaction) -> Decided<u32> {
        self.catch_up().await?;
        let mut by_node: BTreeMap<NodeId, BTreeSet<u32>> = BTreeMap::new();
        for (n, at) in self.catalog.borrow().topic(OFFSETS).iter().flat_map(|topic| topic.partitions.iter().enumerate()) {
            by_node.entry(self.answers_for(at)).or_default().insert(n as u32);
        }
        let one = async |(node, asked): (NodeId, BTreeSet<u32>)| {
            let reply: DisownTransactionReply = if node.0 == self.identity.node_id {
                self.disown_transaction_here(request.clone()).await
            } else {
                self.ask_node(node, Kind::DisownTransaction, request).await?
            };
            Ok::<_, Failure>((asked, reply))
        };
        let mut number = request.ended + 1;
        for answer in all(by_node.into_iter().map(one).collect()).await {
            let (mut silent, reply) = answer?;
            match Refusal::try_from(reply.refusal) {
                Ok(Refusal::None) => number = number.max(reply.number),
                refusal => return Ok(Err(refusal.unwrap_or(Refusal::Invalid))),
            }
            silent.retain(|coordinator| !reply.coordinators.contains(coordinator));
            if let Some(coordinator) = silent.first() {
                let message = format!("the coordinator of {OFFSETS}-{coordinator} cannot be asked just now");
                return Err(Failure::new(Code::Unavailable, message, "retry").retry_after(100));
            }
        }
        Ok(Ok(number))
    }

    /// The same at those coordinators that this node has.
    pub async fn disown_transaction_here(self: &Rc<Self>, request: DisownTransaction) -> DisownTransactionReply {
        let route = self.route(OFFSETS);
        let places = route.iter().flat_map(|route| route.places.iter().enumerate()).filter(|(_, place)| place.lives);
        let one = |(n, core): (u32, CoreId)| {
            let request = request.clone();
            let asked = self.with_seat(n, core, move |core, held, partition| async move {
                let here = core.offsets(partition)?;
                await_room(&core.rt, &here.log, ROOM_WAIT).await;
                let DisownTransaction { producer_id, topic, partition, ended } = request;
                let number = held.coordinator.borrow_mut().disown_transaction(core.times(), producer_id, (&topic, partition), ended);
                core.settle_changed(&here, &held).await?;
                Ok(number)
            });
            async move { (n, asked.await) }
        };
        let asked = all(places.map(|(n, place)| one((n as u32, place.core))).collect()).await;
        let mut reply = DisownTransactionReply::default();
        for (coordinator, answer) in asked {
            match answer {
                Ok(Ok(number)) => reply.number = reply.number.max(number.unwrap_or(0)),
                Ok(Err(refusal)) => reply.refusal = refusal.into(),
                Err(failure) => {
                    tracing::debug!(coordinator, failure = failure.message, "transactions of a producer cannot be asked for");
                    continue;
                }
            }
            reply.coordinators.push(coordinator);
        }
        reply
    }

    /// Gives up transactions that are open for too long, and goes on with those that are being ended.
    pub(super) fn expire_transactions(self: &Rc<Self>, partition: u32, held: &Held) {
        let ending = held.coordinator.borrow_mut().expire_transactions(self.times());
        for id in ending {
            self.end_soon(partition, held, &id);
        }
    }

    /// What partitions that this node answers for know of a producer.
    pub async fn producer_in(self: &Rc<Self>, partitions: &[(&str, u32)], producer_id: u64) -> Vec<Result<Option<ProducerView>, Failure>> {
        let look = move |partition: Rc<Partition<R>>, ()| std::future::ready(partition.producer(producer_id));
        self.at_partitions(partitions.iter().map(|(topic, partition)| (*topic, *partition, ())), look).await
    }

    /// What partitions that this node answers for know of all their producers.
    pub async fn producers_in(self: &Rc<Self>, partitions: &[(&str, u32)]) -> Vec<Result<Vec<(i64, ProducerView)>, Failure>> {
        let look =
            |partition: Rc<Partition<R>>, ()| std::future::ready(partition.serves().map(|_| partition.log.producers(partition.group)));
        self.at_partitions(partitions.iter().map(|(topic, partition)| (*topic, *partition, ())), look).await
    }

    /// A transactional id that this node looks after.
    pub async fn described_transaction(self: &Rc<Self>, id: String) -> Result<Option<DescribedTransaction>, Failure> {
        let name = id.clone();
        self.with_group(&name, move |core, held, partition| async move {
            let here = core.offsets(partition)?;
            core.settle(&here, &held).await?;
            Ok(held.coordinator.borrow().described_transaction(&id))
        })
        .await
    }

    /// All transactional ids that this node looks after.
    pub async fn transactions_here(self: &Rc<Self>) -> Result<Vec<(String, DescribedTransaction)>, Failure> {
        let mut every = Vec::new();
        for core in self.core_ids() {
            let here = self.at(core, |core| async move {
                let held: Vec<Held> = core.coordinators.borrow().values().cloned().collect();
                held.iter().flat_map(|seat| seat.coordinator.borrow().all_transactions()).collect::<Vec<_>>()
            });
            every.extend(here.await?);
        }
        Ok(every)
    }
}

/// The partitions of a topic, one by one.
fn from_wire(of: &TopicPartitions) -> impl Iterator<Item = Part> + use<> {
    let topic: Arc<str> = of.topic.as_str().into();
    of.partitions.clone().into_iter().map(move |partition| Part { topic: Arc::clone(&topic), partition })
}

/// Waits for all of them, side by side.
async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<Pin<Box<_>>> = futures.into_iter().map(Box::pin).collect();
    let mut done = Vec::with_capacity(running.len());
    poll_fn(move |cx| {
        running.retain_mut(|one| match one.as_mut().poll(cx) {
            Poll::Ready(output) => {
                done.push(output);
                false
            }
            Poll::Pending => true,
        });
        if running.is_empty() { Poll::Ready(std::mem::take(&mut done)) } else { Poll::Pending }
    })
    .await
}
