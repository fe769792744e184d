//! Reading internal topics back at the start: every committed record, in order.

use crate::{
    catalog::OFFSETS,
    coordinator::{Coordinator, EPOCHS_AFTER_MAX},
    keyed::BadRecord,
    node::{Core, groups::Seat, partition::Partition, shared::StartFailed},
};
use millpond_batch::{DecompressLimits, records};
use millpond_log::{Log, ReadLimits};
use millpond_runtime::{GroupId, Offset, Rt, Term};
use std::rc::Rc;

/// Read at a time, in bytes.
const READ_BYTES: usize = 1 << 20;

/// Gives every committed record of a group with a key to `apply`. Where the group ended then.
pub async fn keyed<R: Rt>(
    rt: &R,
    log: &Log<R>,
    group: GroupId,
    apply: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), BadRecord>,
) -> Result<Offset, StartFailed> {
    let Some(state) = log.state(group) else { return Ok(Offset(0)) };
    keyed_from(rt, log, group, (state.start_offset, state.high_watermark), apply).await?;
    Ok(state.high_watermark)
}

/// The same from an offset on, up to another.
pub async fn keyed_from<R: Rt>(
    rt: &R,
    log: &Log<R>,
    group: GroupId,
    (mut next, end): (Offset, Offset),
    mut apply: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), BadRecord>,
) -> Result<(), StartFailed> {
    let doing = || format!("cannot read internal group {}", group.0);
    while next < end {
        let limits = ReadLimits { bytes_max: READ_BYTES, end };
        let read = log.read(group, next, limits).await.map_err(|e| StartFailed::new(doing(), &e, e.advice()))?;
        for batch in &read.batches {
            let all = records(batch, DecompressLimits::default());
            let all = all.map_err(|e| StartFailed::new(doing(), e, "restore a copy of the data directory"))?;
            for record in all {
                let record = record.map_err(|e| StartFailed::new(doing(), e, "restore a copy of the data directory"))?;
                let Some(key) = record.key.as_deref().filter(|_| record.offset >= next.0) else { continue };
                apply(key, record.value.as_deref()).map_err(|e| StartFailed::new(doing(), &e, e.advice()))?;
            }
        }
        if read.next <= next {
            // Nothing but what compaction has removed is left up to the end.
            break;
        }
        next = read.next;
        rt.yield_if_needed().await;
    }
    Ok(())
}

/// Loads the positions whose partitions of `__consumer_offsets` are alone here, and starts looking after groups. Those of replicas are loaded
/// when this node leads them.
pub(super) async fn positions<R: Rt>(core: &Rc<Core<R>>) -> Result<(), StartFailed> {
    let route = core.route(OFFSETS);
    for (number, place) in route.iter().flat_map(|route| route.places.iter().enumerate()) {
        let Some(partition) = place.here.as_ref().filter(|partition| !partition.is_replica()) else { continue };
        let coordinator = coordinator(core, partition).await?;
        core.coordinators.borrow_mut().insert(number as u32, Rc::new(Seat::new(coordinator, Term(0))));
    }
    core.watch_groups();
    Ok(())
}

/// The groups of a partition of `__consumer_offsets`: those of Kafka's with the members that are written down, those of our own without.
pub async fn coordinator<R: Rt>(core: &Core<R>, partition: &Partition<R>) -> Result<Coordinator, StartFailed> {
    let here = core.route(OFFSETS).map_or(1, |route| route.places.iter().filter(|place| place.here.is_some()).count());
    let mut coordinator = Coordinator::with_epochs_after(core.rt.rand() & EPOCHS_AFTER_MAX);
    keyed(&core.rt, &partition.log, partition.group, |key, value| coordinator.apply(key, value)).await?;
    coordinator.bound_bytes(core.plan.groups / here.max(1));
    Ok(coordinator)
}
