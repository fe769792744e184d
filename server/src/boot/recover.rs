//! Making do with what is left of groups whose majority is lost for good: a replica on this disk becomes the only member of its group.
//!
//! Raft never does this, since it cannot know what others had: whatever they had acknowledged and this replica has not is lost. So it is done by hand, with the node
//! stopped, and said first. All that this replica has counts as committed from then on, also what nobody was told of.
//!
//! The replica keeps its id and its term; as the only voter it leads in the next term. Members that a pending change would have made are passed over: the new list
//! counts as of the last entry.

use super::{identity, load};
use crate::{
    catalog::{Catalog, Home, META, META_GROUP},
    node::{NodeConfig, shared::StartFailed},
};
use millpond_log::{HardState, Log, LogConfig, LogError, Members};
use millpond_raft::Membership;
use millpond_runtime::{GroupId, NodeId, Rt};
use std::collections::BTreeMap;

/// A replica on this disk, and what would be lost with the others of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The topic and the partition; the catalog's own is `__meta`, 0.
    pub topic: String,
    /// See there.
    pub partition: u32,
    /// How many vote in its group, this one counted if it does.
    pub voters: usize,
    /// The offset after its last record, and after the last one that it knows to be committed.
    pub end: u64,
    /// See there.
    pub committed: u64,
    /// The time of its newest record, in ms since 1970: what is younger, and was acknowledged, may be lost.
    pub newest_ms: Option<i64>,
    /// It is the only member of its group now.
    pub recovered: bool,
}

/// Looks at all replicas of a node that is stopped, and makes those that are `chosen` (by topic and partition) the only ones of their groups.
pub async fn recover<R: Rt>(rt: &R, config: &NodeConfig, chosen: impl Fn(&str, u32) -> bool) -> Result<Vec<Left>, StartFailed> {
    let data = config.data.display();
    let nothing =
        || StartFailed::new(format!("cannot recover {data}"), "there is no node in it", "give the data directory of a node: --data DIR");
    let node = identity::read(rt, &config.data).await?.ok_or_else(nothing)?;
    let (mut catalog, mut all) = (Catalog::new(), Vec::new());
    for home in 0..node.homes {
        let dir = config.data.join(identity::home_name(home));
        let settings =
            LogConfig { cluster_id: node.cluster_id, node_id: node.node_id, ..config.log_config(home, 1, usize::from(node.homes)) };
        let failed = |e: LogError| StartFailed::new(format!("cannot recover {}", dir.display()), &e, e.advice());
        let (log, _) = Log::open(rt.clone(), dir.clone(), settings).await.map_err(failed)?;
        if Home(home) == Home(0) {
            load::keyed(rt, &log, META_GROUP, |key, value| catalog.apply(key, value).map(drop)).await?;
        }
        let mut groups = log.groups();
        groups.sort_unstable();
        for group in groups {
            let (topic, partition) = match catalog.partition_of(group) {
                Some((topic, number)) => (topic.name.clone(), number),
                None if group == META_GROUP => (META.to_owned(), 0),
                // It is no part of any topic any more, and goes at the next start.
                None => continue,
            };
            let act = chosen(&topic, partition);
            all.extend(one(&log, group, NodeId(node.node_id), (topic, partition), act).await.map_err(failed)?);
        }
        log.close().await;
    }
    all.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(all)
}

/// One group, if it is a replica.
async fn one<R: Rt>(
    log: &Log<R>,
    group: GroupId,
    node: NodeId,
    (topic, partition): (String, u32),
    act: bool,
) -> Result<Option<Left>, LogError> {
    let (Some(replica), Some(state)) = (log.replica(group), log.state(group)) else { return Ok(None) };
    let known = Membership::decode(&replica.members.bytes).map_err(|e| LogError::Replica { group, what: e.to_string() })?;
    let left = Left {
        topic,
        partition,
        voters: known.conf.voters.len(),
        end: state.end_offset.0,
        committed: state.high_watermark.0,
        newest_ms: state.max_timestamp,
        recovered: act,
    };
    if act {
        // The others are known and no members: the leader says so in the log, since new replicas that read it would count on them.
        let nodes = known.nodes.into_iter().chain([(known.me, node)]).collect();
        let alone = Membership { nodes, ..Membership::first(known.me, BTreeMap::from([(known.me, node)])) };
        log.set_members(group, Members { index: replica.last_index, bytes: alone.encode() })?;
        let lsn = log.set_hard_state(group, HardState { commit: replica.last_index, ..replica.hard })?;
        log.synced(lsn).await?;
    }
    Ok(Some(left))
}
