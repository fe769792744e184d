//! What a core tells about itself, once a second.

use super::identity::home_name;
use crate::{
    metrics::{CoreSnapshot, JournalSnapshot, LagSnapshot, QueueSnapshot, TOPICS_MAX, TopicSnapshot},
    node::{Core, mesh},
};
use millpond_runtime::{Nanos, Rt, Share, rt::to_next};
use millpond_wire::messages::DescribeGroup;
use std::{collections::BTreeMap, rc::Rc, time::Duration};

/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// What takes more than a moment is looked at only in every so many reports: lags, which are asked of other cores; all replicas; the disk.
const WIDE_EVERY: u64 = 5;

/// Reports for as long as the core lives.
pub(super) fn start<R: Rt>(core: &Rc<Core<R>>, busy: fn(&R) -> Nanos) {
    let (rt, here) = (core.rt.clone(), Rc::downgrade(core));
    core.rt.spawn("report", Share::Serve, async move {
        let began = rt.mono();
        let mut before = (began, busy(&rt));
        for turn in 0_u64.. {
            let Some(core) = here.upgrade() else { return };
            let mut wide = None;
            if turn % WIDE_EVERY == 0 {
                wide = Some(lags(&core).await);
                let (cluster, (free, total)) = (core.census().await, disk(&core).await);
                let mut counters = core.counters.borrow_mut();
                (counters.cluster, counters.disk_free_bytes, counters.disk_bytes) = (cluster, free, total);
            }
            let mut snapshot = look(&core).await;
            let now = (rt.mono(), busy(&rt));
            snapshot.up_ns = now.0 - began;
            snapshot.busy_ns = now.1;
            let (passed, worked) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
            snapshot.utilisation = if passed == 0 { 0.0 } else { (worked as f64 / passed as f64).min(1.0) };
            before = now;
            if let Some((lags, left_out)) = wide {
                let mut counters = core.counters.borrow_mut();
                counters.lags.clone_from(&lags);
                (snapshot.lags, snapshot.topics_left_out) = (lags, snapshot.topics_left_out + left_out);
            }
            core.shared.report(snapshot);
            drop(core);
            rt.sleep(to_next(&rt, EVERY)).await;
        }
    });
}

/// The counters of this moment, with the gauges filled in.
async fn look<R: Rt>(core: &Rc<Core<R>>) -> CoreSnapshot {
    let mut snapshot = core.counters.borrow().clone();
    let (mut journal, mut tail) = (JournalSnapshot::default(), 0);
    for log in core.logs.values() {
        let stats = log.stats();
        tail += stats.tail_unsettled_bytes + stats.tail_cached_bytes;
        journal.add(&JournalSnapshot::from(&stats));
    }
    snapshot.cluster.learning = core.cluster.learning.get();
    snapshot.cluster.counters = core.replica_counters();
    snapshot.cluster.peers = core.peers();
    snapshot.journal = journal;
    snapshot.tail_bytes = tail;
    snapshot.memory_bytes = tail + core.request_bytes();
    snapshot.memory_bytes_max = core.plan.total(core.logs.len()) as u64;
    snapshot.queues = vec![QueueSnapshot { name: "mesh", depth: core.mesh_depth() as u64, depth_max: mesh::DEPTH as u64 }];
    snapshot.partitions = core.partitions.borrow().len() as u64;
    snapshot.segment_bytes = 0;
    let names: Vec<String> = core.routes.borrow().keys().cloned().collect();
    let mut topics: BTreeMap<String, TopicSnapshot> = BTreeMap::new();
    for name in names {
        let Some(route) = core.route(&name) else { continue };
        let mut sum = TopicSnapshot { topic: name, ..TopicSnapshot::default() };
        for state in route.places.iter().filter_map(|p| p.here.as_ref()?.state().ok()) {
            sum.partitions += 1;
            sum.bytes += state.bytes;
            sum.end_offsets += state.high_watermark.0;
        }
        snapshot.segment_bytes += sum.bytes;
        if sum.partitions > 0 && topics.len() < TOPICS_MAX {
            topics.insert(sum.topic.clone(), sum);
        } else if sum.partitions > 0 {
            snapshot.topics_left_out += 1;
        }
        core.rt.yield_if_needed().await;
    }
    snapshot.topics = topics.into_values().collect();
    snapshot
}

/// What is free and what there is in all on the fullest file system of the homes here, in bytes.
async fn disk<R: Rt>(core: &Rc<Core<R>>) -> (u64, u64) {
    let mut fullest: Option<(u64, u64)> = None;
    for home in core.logs.keys() {
        // One that cannot be asked says so where it is written to.
        let Ok(space) = core.rt.space(&core.config.data.join(home_name(home.0))).await else { continue };
        fullest = Some(fullest.map_or((space.free, space.total), |least| least.min((space.free, space.total))));
    }
    fullest.unwrap_or_default()
}

/// How far the groups that live here are behind, and how many lags did not fit.
async fn lags<R: Rt>(core: &Rc<Core<R>>) -> (Vec<LagSnapshot>, u64) {
    let seats: Vec<_> = core.coordinators.borrow().values().cloned().collect();
    let mut asked = Vec::new();
    let mut left_out = 0;
    for seat in seats {
        let groups = seat.coordinator.borrow().list().groups;
        for group in groups {
            let described = seat.coordinator.borrow().describe(&DescribeGroup { group: group.group.clone() });
            let positions = described.map(|d| d.positions).unwrap_or_default();
            for position in positions.into_iter().filter_map(|p| p.position) {
                if asked.len() < TOPICS_MAX {
                    asked.push((group.group.clone(), position));
                } else {
                    left_out += 1;
                }
            }
        }
        core.rt.yield_if_needed().await;
    }
    let partitions: Vec<(&str, u32)> = asked.iter().map(|(_, p)| (p.topic.as_str(), p.partition)).collect();
    let bounds = core.bounds_of(&partitions).await;
    let lag = |((group, at), bounds): (&(String, millpond_wire::messages::Position), Result<crate::node::look::Bounds, _>)| {
        let records = bounds.ok()?.end.saturating_sub(at.offset);
        Some(LagSnapshot { group: group.clone(), topic: at.topic.clone(), partition: at.partition, records })
    };
    (asked.iter().zip(bounds).filter_map(lag).collect(), left_out)
}
