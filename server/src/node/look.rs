//! Look-ups at the owners of partitions: where they begin and end, offsets by time, and deleting the oldest records.

use super::{core::Core, failure_of, mesh::Lost, not_owner, partition::Partition, unknown_partition};
use crate::catalog::Replica;
use millpond_log::LogError;
use millpond_runtime::{CoreId, GroupId, NodeId, Offset, Rt};
use millpond_wire::messages::{
    Code, DeleteRecords, DeleteRecordsReply, EpochEnd, Failure, Kind, ListOffsets, ListOffsetsReply, ListedOffset, TopicInfo,
};
use std::{collections::BTreeMap, future::Future, rc::Rc};

/// Where a partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// First offset still there.
    pub start: u64,
    /// Offset after the last committed record.
    pub end: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

impl<R: Rt> Core<R> {
    /// The owner of a partition, and its group.
    pub fn locate(&self, topic: &str, partition: u32) -> Result<(CoreId, GroupId), Failure> {
        let route = self.route(topic).ok_or_else(|| unknown_partition(topic, partition))?;
        let place = route.places.get(partition as usize).ok_or_else(|| unknown_partition(topic, partition))?;
        if !place.lives {
            return Err(not_owner(self.leads_elsewhere(place.group)));
        }
        Ok((place.core, place.group))
    }

    /// Runs `call` with each of these groups on the cores that own them, one call per core. Answers come with the numbers of
    /// their questions.
    async fn at_owners<Q, T, F>(
        self: &Rc<Self>,
        asked: impl IntoIterator<Item = (usize, CoreId, GroupId, Q)>,
        call: impl Fn(Rc<Partition<R>>, Q) -> F + Clone + Send + 'static,
    ) -> Vec<(usize, Result<T, Failure>)>
    where
        Q: Send + 'static,
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        let mut by_core: BTreeMap<CoreId, Vec<(usize, GroupId, Q)>> = BTreeMap::new();
        for (number, core, group, what) in asked {
            by_core.entry(core).or_default().push((number, group, what));
        }
        let mut answers = Vec::new();
        for (owner, questions) in by_core {
            let numbers: Vec<usize> = questions.iter().map(|q| q.0).collect();
            let call = call.clone();
            let answered = self.at(owner, move |core| async move {
                let mut answers = Vec::with_capacity(questions.len());
                for (number, group, what) in questions {
                    let answer = match core.partition(group) {
                        Some(partition) => call(partition, what).await,
                        None => Err(failure_of(&LogError::UnknownGroup { group })),
                    };
                    answers.push((number, answer));
                    core.rt.yield_if_needed().await;
                }
                answers
            });
            match answered.await {
                Ok(some) => answers.extend(some),
                Err(lost) => answers.extend(numbers.into_iter().map(|n| (n, Err(Failure::from(lost))))),
            }
        }
        answers
    }

    /// Runs `call` with each of these partitions of this node, on the cores that own them. Answers come in the order of the questions.
    pub(super) async fn at_partitions<'a, Q, T, F>(
        self: &Rc<Self>,
        questions: impl IntoIterator<Item = (&'a str, u32, Q)>,
        call: impl Fn(Rc<Partition<R>>, Q) -> F + Clone + Send + 'static,
    ) -> Vec<Result<T, Failure>>
    where
        Q: Send + 'static,
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        let (mut asked, mut answers) = (Vec::new(), Vec::new());
        for (number, (topic, partition, what)) in questions.into_iter().enumerate() {
            match self.locate(topic, partition) {
                Ok((core, group)) => {
                    asked.push((number, core, group, what));
                    answers.push(Err(not_owner(None)));
                }
                Err(failure) => answers.push(Err(failure)),
            }
        }
        for (number, answer) in self.at_owners(asked, call).await {
            answers[number] = answer;
        }
        answers
    }

    /// Where partitions stand, wherever they live.
    pub async fn bounds_of(self: &Rc<Self>, partitions: &[(&str, u32)]) -> Vec<Result<Bounds, Failure>> {
        let look = |partition: Rc<Partition<R>>, ()| async move {
            let state = partition.state()?;
            Ok(Bounds { start: state.start_offset.0, end: state.high_watermark.0, bytes: state.bytes })
        };
        self.at_partitions(partitions.iter().map(|(topic, partition)| (*topic, *partition, ())), look).await
    }

    /// For partitions that this node leads: where else a client of this rack may read them, since a replica there is heard and not far behind.
    pub async fn readable_in(self: &Rc<Self>, rack: &str, partitions: &[(&str, u32)]) -> Vec<Option<NodeId>> {
        let mut asked = Vec::new();
        for (number, (topic, partition)) in partitions.iter().enumerate() {
            let catalog = self.catalog.borrow();
            let stands_there = |replica: &&Replica| catalog.node(replica.node).is_some_and(|node| node.rack == rack);
            let replicas = catalog.topic(topic).and_then(|topic| topic.partitions.get(*partition as usize)?.replicas.as_ref());
            let there: Vec<Replica> = replicas.iter().flat_map(|replicas| &replicas.now).filter(stands_there).copied().collect();
            if let (false, Ok((core, group))) = (there.is_empty(), self.locate(topic, *partition)) {
                asked.push((number, core, group, there));
            }
        }
        let look = |partition: Rc<Partition<R>>, there: Vec<Replica>| async move { Ok(partition.readable_at(&there)) };
        let mut found = vec![None; partitions.len()];
        // A core that does not answer any more sends nobody elsewhere.
        for (number, answer) in self.at_owners(asked, look).await {
            found[number] = answer.ok().flatten();
        }
        found
    }

    /// Bytes on disk of each partition, or replica of one, that lives on this node; a core that does not answer any more tells nothing.
    pub async fn sizes_here(self: &Rc<Self>) -> BTreeMap<GroupId, u64> {
        let mut sizes = BTreeMap::new();
        for core in self.core_ids() {
            let there = self.at(core, |core| async move {
                let partitions = core.partitions.borrow();
                partitions.iter().filter_map(|(group, p)| Some((*group, p.state().ok()?.bytes))).collect::<Vec<_>>()
            });
            sizes.extend(there.await.unwrap_or_default());
        }
        sizes
    }

    /// Fills in where the partitions of some topics stand; a partition whose owner does not know is left as it is.
    pub async fn fill_bounds(self: &Rc<Self>, topics: &mut [TopicInfo]) {
        let partitions: Vec<(String, u32)> =
            topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.clone(), p.partition))).collect();
        let asked: Vec<(&str, u32)> = partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition)).collect();
        let bounds = self.bounds_of(&asked).await;
        for (info, bounds) in topics.iter_mut().flat_map(|t| &mut t.partitions).zip(bounds) {
            if let Ok(Bounds { start, end, bytes }) = bounds {
                (info.start_offset, info.end_offset, info.bytes) = (start, end, bytes);
            }
        }
    }

    /// Offsets by time; those of partitions that other nodes answer for are asked there, if these are to be asked.
    pub async fn list_offsets(self: &Rc<Self>, request: ListOffsets, everywhere: bool) -> Result<ListOffsetsReply, Failure> {
        let mut reply = self.list_offsets_here(&request).await;
        if !everywhere {
            return Ok(reply);
        }
        let mut elsewhere: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (number, result) in reply.results.iter().enumerate() {
            if let Some(failure) = result.failure.as_ref().filter(|f| f.code() == Code::NotOwner && f.node_id != 0) {
                elsewhere.entry(failure.node_id).or_default().push(number);
            }
        }
        for (node, numbers) in elsewhere {
            let asked = ListOffsets { partitions: numbers.iter().map(|n| request.partitions[*n].clone()).collect() };
            match self.ask_node::<ListOffsetsReply>(NodeId(node), Kind::ListOffsets, &asked).await {
                Ok(there) if there.results.len() == numbers.len() => {
                    numbers.into_iter().zip(there.results).for_each(|(number, result)| reply.results[number] = result);
                }
                Ok(_) => {}
                Err(failure) => numbers.iter().for_each(|n| reply.results[*n].failure = Some(failure.clone())),
            }
        }
        Ok(reply)
    }

    async fn list_offsets_here(self: &Rc<Self>, request: &ListOffsets) -> ListOffsetsReply {
        let asked =
            request.partitions.iter().map(|asked| (&*asked.topic, asked.partition, (asked.time_ms, asked.committed, asked.leader_epoch)));
        let look =
            |partition: Rc<Partition<R>>, (time_ms, committed, epoch)| async move { partition.offset_for(time_ms, committed, epoch).await };
        let told = |answer| match answer {
            Ok((Offset(offset), time_ms, leader_epoch)) => ListedOffset { offset, time_ms, failure: None, leader_epoch },
            Err(failure) => ListedOffset { time_ms: -1, failure: Some(failure), ..ListedOffset::default() },
        };
        ListOffsetsReply { results: self.at_partitions(asked, look).await.into_iter().map(told).collect() }
    }

    /// Where epochs end of partitions that this node leads: each by topic, partition, epoch, and the leader's epoch as whoever asks knows it.
    pub async fn epoch_ends(self: &Rc<Self>, asked: &[(&str, u32, i32, Option<i32>)]) -> Vec<Result<Option<EpochEnd>, Failure>> {
        let asked = asked.iter().map(|(topic, partition, epoch, known)| (*topic, *partition, (*epoch, *known)));
        self.at_partitions(asked, |partition: Rc<Partition<R>>, (epoch, known)| async move { partition.epoch_end(epoch, known).await })
            .await
    }

    /// Deletes the oldest records of a partition.
    pub async fn delete_records(self: &Rc<Self>, request: DeleteRecords) -> Result<DeleteRecordsReply, Failure> {
        let (core, group) = self.locate(&request.topic, request.partition)?;
        if self.route(&request.topic).is_some_and(|r| r.internal) {
            let message = format!("{} is kept by the system itself", request.topic);
            return Err(Failure::new(Code::InvalidArgument, message, "leave it alone"));
        }
        let before = Offset(request.before);
        let delete = move |core: Rc<Self>| async move {
            let partition = core.partition(group).ok_or_else(|| failure_of(&LogError::UnknownGroup { group }))?;
            let start = partition.delete_before(before).await?;
            core.align(group).await?;
            Ok::<Offset, Failure>(start)
        };
        let Offset(start_offset) = self.at(core, delete).await.map_err(|lost: Lost| Failure::from(lost))??;
        Ok(DeleteRecordsReply { start_offset })
    }
}
