//! How far groups have come: OffsetCommit, OffsetFetch, OffsetDelete. In our own words, positions.

use super::{
    super::{Front, conn::Conn, requests::POSITION_BYTES},
    answered, codes, decoded, epochs, groups,
    room::Room,
};
use crate::{
    coordinator::{METADATA_BYTES_MAX, METADATA_PER_COMMIT_BYTES_MAX, POSITIONS_PER_COMMIT_MAX, classic::Speaker},
    kafka::wire::{Request, StrBytes, WireError},
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse,
    TopicName,
    offset_commit_request::OffsetCommitRequestPartition,
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    offset_delete_request::OffsetDeleteRequestPartition,
    offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
    offset_fetch_request::OffsetFetchRequestGroup,
    offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
        OffsetFetchResponseTopics,
    },
};
use millpond_runtime::Rt;
use millpond_wire::messages::{CommitOffsetsReply, Position, TopicPartitions};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// From this version on OffsetFetch tells epochs of leaders.
const EPOCHS_SINCE: i16 = 5;

/// Keeps positions: synced before the answer. Many are kept in several batches.
pub(super) async fn commit<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: OffsetCommitRequest = decoded(request)?;
    let speaker = groups::speaker(&asked.group_id, &asked.member_id, asked.group_instance_id.as_ref(), asked.generation_id_or_member_epoch);
    // By topic and partition, in the order of the request.
    let mut codes: Vec<i16> = Vec::new();
    let (mut some, mut metadata) = (Chunk::default(), 0);
    let may = groups::may_read(front, conn, &asked.group_id);
    let denied = front.denied(conn, Operation::Read, asked.topics.iter().map(|topic| topic.name.as_str()));
    for topic in &asked.topics {
        for p in &topic.partitions {
            let number = codes.len();
            codes.push(codes::NONE);
            if !may || denied.contains(topic.name.as_str()) {
                codes[number] = if may { codes::TOPIC_AUTHORIZATION_FAILED } else { codes::GROUP_AUTHORIZATION_FAILED };
                continue;
            }
            match position(&topic.name, p) {
                Err(code) => codes[number] = code,
                Ok(position) => {
                    if some.positions.len() == POSITIONS_PER_COMMIT_MAX
                        || metadata + position.metadata.len() > METADATA_PER_COMMIT_BYTES_MAX
                    {
                        std::mem::take(&mut some).keep(front, &speaker, &mut codes).await;
                        metadata = 0;
                    }
                    metadata += position.metadata.len();
                    some.numbers.push(number);
                    some.positions.push(position);
                }
            }
        }
    }
    if may {
        some.keep(front, &speaker, &mut codes).await;
    }
    let mut codes = codes.into_iter();
    let mut partition = |p: &OffsetCommitRequestPartition| {
        let code = codes.next().unwrap_or(codes::NONE);
        OffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code)
    };
    let topics = asked.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(&mut partition).collect();
        OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    answered(request, &OffsetCommitResponse::default().with_topics(topics.collect()))
}

/// Some positions of a commit, and which ones of it they are.
#[derive(Default)]
struct Chunk {
    numbers: Vec<usize>,
    positions: Vec<Position>,
}

impl Chunk {
    async fn keep<R: Rt>(self, front: &Rc<Front<R>>, speaker: &Speaker, codes: &mut [i16]) {
        // Whoever commits nothing is told, too, whether it may.
        tell(&self.numbers, groups::outcome(front.core.commit_group(speaker.clone(), self.positions).await), codes);
    }
}

/// What is told of positions, which of a request's are `numbers`.
pub(super) fn tell(numbers: &[usize], kept: Result<CommitOffsetsReply, i16>, codes: &mut [i16]) {
    match kept {
        Err(code) => numbers.iter().for_each(|number| codes[*number] = code),
        Ok(reply) => {
            for failed in reply.failures {
                if let (Some(number), Some(failure)) = (numbers.get(failed.position as usize), &failed.failure) {
                    codes[*number] = codes::of_coordinator(failure);
                }
            }
        }
    }
}

fn position(topic: &str, p: &OffsetCommitRequestPartition) -> Result<Position, i16> {
    checked(topic, p.partition_index, p.committed_offset, p.committed_leader_epoch, p.committed_metadata.as_ref())
}

/// A position that a client wants to have kept.
pub(super) fn checked(topic: &str, partition: i32, offset: i64, epoch: i32, metadata: Option<&StrBytes>) -> Result<Position, i16> {
    let metadata = metadata.map(ToString::to_string).unwrap_or_default();
    if metadata.len() > METADATA_BYTES_MAX {
        return Err(codes::OFFSET_METADATA_TOO_LARGE);
    }
    let partition = u32::try_from(partition).map_err(|_| codes::UNKNOWN_TOPIC_OR_PARTITION)?;
    let offset = u64::try_from(offset).map_err(|_| codes::OFFSET_OUT_OF_RANGE)?;
    Ok(Position { topic: topic.to_owned(), partition, offset, metadata, leader_epoch: epochs::said(epoch) })
}

/// What is asked of one group: topics and their partitions, or everything.
type Wanted = Option<Vec<(TopicName, Vec<i32>)>>;

/// What is kept in one partition, as it is told: offset and epoch are -1 if nothing is.
struct Kept {
    partition: i32,
    offset: i64,
    epoch: i32,
    metadata: StrBytes,
    code: i16,
}

/// What an answer takes, in bytes: what is named, or as much as the largest group has.
pub(super) fn weigh<R: Rt>(front: &Front<R>, request: &Request) -> usize {
    let Ok(asked) = decoded::<OffsetFetchRequest>(request) else { return 0 };
    let everything = front.core.largest_group_here();
    let named = asked.topics.as_ref().map_or(everything, |topics| topics.iter().map(|t| t.partition_indexes.len()).sum());
    let of = |group: &OffsetFetchRequestGroup| {
        group.topics.as_ref().map_or(everything, |topics| topics.iter().map(|t| t.partition_indexes.len()).sum())
    };
    // The groups of a request are asked one after the other, and all of each is looked at.
    (named + asked.groups.iter().map(of).sum::<usize>() + everything) * POSITION_BYTES
}

/// Positions of groups.
pub(super) async fn fetch<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let version = request.header.version;
    let asked: OffsetFetchRequest = decoded(request)?;
    if version < 8 {
        let wanted: Wanted = asked.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let (topics, code) = kept(front, conn, groups::speaker(&asked.group_id, "", None, -1), wanted, asked.require_stable).await;
        let partition = |kept: Kept| {
            let code = if code == codes::NONE { kept.code } else { code };
            let answer = OffsetFetchResponsePartition::default().with_partition_index(kept.partition).with_committed_offset(kept.offset);
            answer
                .with_committed_leader_epoch(if version >= EPOCHS_SINCE { kept.epoch } else { -1 })
                .with_metadata(Some(kept.metadata))
                .with_error_code(code)
        };
        let topic = |(name, all): (TopicName, Vec<Kept>)| {
            OffsetFetchResponseTopic::default().with_name(name).with_partitions(all.into_iter().map(partition).collect())
        };
        let response = OffsetFetchResponse::default().with_topics(topics.into_iter().map(topic).collect());
        return answered(request, &if version >= 2 { response.with_error_code(code) } else { response });
    }
    let mut groups = Vec::with_capacity(asked.groups.len());
    let mut room = Room::of(front);
    for group in asked.groups {
        let wanted: Wanted = group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let member = group.member_id.as_deref().unwrap_or_default();
        let (topics, code) =
            kept(front, conn, groups::speaker(&group.group_id, member, None, group.member_epoch), wanted, asked.require_stable).await;
        // Whoever asks for the same one many times, or for too many large ones, asks again for fewer.
        let fits = room.take(topics.iter().map(|(_, kept)| kept.len() * POSITION_BYTES).sum());
        let code = if fits { code } else { codes::INVALID_REQUEST };
        let partition = |kept: Kept| {
            let answer = OffsetFetchResponsePartitions::default().with_partition_index(kept.partition).with_committed_offset(kept.offset);
            answer.with_committed_leader_epoch(kept.epoch).with_metadata(Some(kept.metadata)).with_error_code(kept.code)
        };
        let topic = |(name, all): (TopicName, Vec<Kept>)| {
            OffsetFetchResponseTopics::default().with_name(name).with_partitions(all.into_iter().map(partition).collect())
        };
        // Of a group that cannot be asked no partitions are told.
        let topics = topics.into_iter().filter(|_| code == codes::NONE).map(topic).collect();
        groups.push(OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_error_code(code).with_topics(topics));
    }
    answered(request, &OffsetFetchResponse::default().with_groups(groups))
}

/// With `stable` no position is told that may be another one soon, when a transaction ends.
async fn kept<R: Rt>(
    front: &Rc<Front<R>>,
    conn: &Conn<R>,
    speaker: Speaker,
    wanted: Wanted,
    stable: bool,
) -> (Vec<(TopicName, Vec<Kept>)>, i16) {
    let may = front.may(conn, Operation::Describe, ResourceType::Group, &speaker.group);
    let fetched = if may { groups::outcome(front.core.fetch_group(speaker).await) } else { Err(codes::GROUP_AUTHORIZATION_FAILED) };
    let (positions, unstable, code) = match fetched {
        Ok((reply, unstable)) => (reply.positions, if stable { unstable } else { BTreeSet::new() }, codes::NONE),
        Err(code) => (Vec::new(), BTreeSet::new(), code),
    };
    let mut found: BTreeMap<String, BTreeMap<u32, Position>> = BTreeMap::new();
    for position in positions {
        found.entry(position.topic.clone()).or_default().insert(position.partition, position);
    }
    let named = wanted.iter().flatten().map(|(name, _)| name.as_str());
    let denied = front.denied(conn, Operation::Describe, named.chain(found.keys().map(String::as_str)));
    let told = |topic: &str, partition: i32, position: Option<&Position>| {
        let is_unstable = u32::try_from(partition).is_ok_and(|partition| unstable.contains(&(topic.to_owned(), partition)));
        let may = !denied.contains(topic);
        let position = position.filter(|_| !is_unstable && may);
        Kept {
            partition,
            offset: position.map_or(-1, |p| p.offset as i64),
            epoch: epochs::told(position.and_then(|p| p.leader_epoch)),
            metadata: position.map(|p| groups::text(&p.metadata)).unwrap_or_default(),
            code: match may {
                false => codes::TOPIC_AUTHORIZATION_FAILED,
                true if is_unstable => codes::UNSTABLE_OFFSET_COMMIT,
                true => codes::NONE,
            },
        }
    };
    let topics = match wanted {
        Some(wanted) => wanted
            .into_iter()
            .map(|(name, partitions)| {
                let here = found.get(name.as_str());
                let find = |p: i32| told(&name, p, u32::try_from(p).ok().and_then(|p| here.and_then(|here| here.get(&p))));
                let found = partitions.into_iter().map(find).collect();
                (name, found)
            })
            .collect(),
        None => found
            .iter()
            .filter(|(name, _)| !denied.contains(*name))
            .map(|(name, here)| (TopicName(groups::text(name)), here.values().map(|p| told(name, p.partition as i32, Some(p))).collect()))
            .collect(),
    };
    (topics, code)
}

/// Forgets positions of partitions that nobody in the group subscribes to.
pub(super) async fn delete<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let mut asked: OffsetDeleteRequest = decoded(request)?;
    if !front.may(conn, Operation::Delete, ResourceType::Group, &asked.group_id) {
        return answered(request, &OffsetDeleteResponse::default().with_error_code(codes::GROUP_AUTHORIZATION_FAILED));
    }
    let denied = front.withhold(conn, (Operation::Read, ResourceType::Topic), &mut asked.topics, |topic| &topic.name);
    let parts = |topic: &kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic| TopicPartitions {
        topic: topic.name.to_string(),
        partitions: topic.partitions.iter().filter_map(|p| u32::try_from(p.partition_index).ok()).collect(),
    };
    let GroupId(group) = &asked.group_id;
    let response = OffsetDeleteResponse::default();
    let subscribed = match front.core.delete_offsets(group.to_string(), asked.topics.iter().map(parts).collect()).await {
        Ok(subscribed) => subscribed,
        Err(failure) => return answered(request, &response.with_error_code(codes::of_coordinator(&failure))),
    };
    let topics = asked.topics.iter().map(|topic| {
        let code = if subscribed.contains(topic.name.as_str()) { codes::GROUP_SUBSCRIBED_TO_TOPIC } else { codes::NONE };
        let partition = |p: i32| OffsetDeleteResponsePartition::default().with_partition_index(p).with_error_code(code);
        let partitions = topic.partitions.iter().map(|p| partition(p.partition_index)).collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    let denied = denied.into_iter().map(|topic| {
        let partition = |p: &OffsetDeleteRequestPartition| {
            let refused = OffsetDeleteResponsePartition::default().with_partition_index(p.partition_index);
            refused.with_error_code(codes::TOPIC_AUTHORIZATION_FAILED)
        };
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(topic.partitions.iter().map(partition).collect())
    });
    answered(request, &response.with_topics(topics.chain(denied).collect()))
}
