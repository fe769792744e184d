//! Reading internal topics back at the start: every committed record, in order.

use crate::{
    catalog::OFFSETS,
    coordinator::{Coordinator, EPOCHS_AFTER_MAX},
    keyed::BadRecord,
    node::{Core, groups::Seat, shared::StartFailed},
};
use millpond_batch::{DecompressLimits, records};
use millpond_log::{Log, ReadLimits};
use millpond_runtime::{GroupId, Rt};
use std::rc::Rc;

/// Read at a time, in bytes.
const READ_BYTES: usize = 1 << 20;

/// Gives every record of a group with a key to `apply`.
pub(super) async fn keyed<R: Rt>(
    core: &Core<R>,
    log: &Log<R>,
    group: GroupId,
    mut apply: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), BadRecord>,
) -> Result<(), StartFailed> {
    let doing = || format!("cannot read internal group {}", group.0);
    let Some(state) = log.state(group) else { return Ok(()) };
    let mut next = state.start_offset;
    while next < state.high_watermark {
        let limits = ReadLimits { bytes_max: READ_BYTES, end: state.high_watermark };
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
        core.rt.yield_if_needed().await;
    }
    Ok(())
}

/// Loads the positions whose partitions of `__consumer_offsets` live here, and starts looking after their groups.
pub(super) async fn positions<R: Rt>(core: &Rc<Core<R>>) -> Result<(), StartFailed> {
    let route =
        core.route(OFFSETS).ok_or_else(|| StartFailed::new("cannot load positions", "their topic is missing", "report this as a bug"))?;
    let here = route.places.iter().filter(|place| place.here.is_some()).count();
    for (number, place) in route.places.iter().enumerate() {
        let Some(partition) = &place.here else { continue };
        let mut coordinator = Coordinator::with_epochs_after(core.rt.rand() & EPOCHS_AFTER_MAX);
        keyed(core, &partition.log, partition.group, |key, value| coordinator.apply(key, value)).await?;
        coordinator.bound_bytes(core.plan.groups / here.max(1));
        core.coordinators.borrow_mut().insert(number as u32, Rc::new(Seat::new(coordinator)));
    }
    core.watch_groups();
    Ok(())
}
