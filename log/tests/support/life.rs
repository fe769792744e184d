//! One life of the node: writers, readers and an administrator, until the power goes.

use super::{
    model::{Drop, GroupModel, Model, ProducerModel, Sent, header, make_batch, offset, stamped},
    verify,
};
use bytes::BytesMut;
use millpond_log::{Advance, Appended, GroupConfig, Log, LogError};
use millpond_runtime::{GroupId, Rt, Share};
use std::{cell::RefCell, rc::Rc, time::Duration};

type Shared = Rc<RefCell<Model>>;

/// How a life is led.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LifePlan {
    /// Longest pause of a writer between two rounds, in microseconds.
    pub(crate) think_us: u64,
    /// Batches of a producer in flight at most.
    pub(crate) burst_max: u64,
    pub(crate) groups_max: usize,
}

/// Starts everybody. They run until they are dropped or the log stops.
pub(crate) fn start<R: Rt>(rt: &R, log: &Log<R>, model: &Shared, plan: LifePlan) {
    watch_advances(log, model);
    for id in log.groups() {
        start_writers(rt, log, model, id, plan);
    }
    let (r, l, m) = (rt.clone(), log.clone(), model.clone());
    rt.spawn("administrator", Share::Serve, async move { administrate(r, l, m, plan).await });
    let (r, l, m) = (rt.clone(), log.clone(), model.clone());
    rt.spawn("reader", Share::Serve, async move { read(r, l, m).await });
}

/// High watermarks only rise, and never past what was appended.
fn watch_advances<R: Rt>(log: &Log<R>, model: &Shared) {
    // Not the log itself: it holds the callback, and would never go.
    let m = model.clone();
    let high = RefCell::new(std::collections::BTreeMap::<GroupId, u64>::new());
    log.on_advance(move |advances: &[Advance]| {
        for advance in advances {
            let before = high.borrow_mut().insert(advance.group, advance.high_watermark.0).unwrap_or(0);
            if before > advance.high_watermark.0 {
                m.borrow_mut().broke(format!("{advance:?} after {before}"));
            }
        }
    });
}

fn start_writers<R: Rt>(rt: &R, log: &Log<R>, model: &Shared, id: GroupId, plan: LifePlan) {
    let producers = model.borrow().groups.get(&id).map_or(0, |g| g.producers.len());
    for which in 0..producers {
        let (r, l, m) = (rt.clone(), log.clone(), model.clone());
        rt.spawn("writer", Share::Serve, async move {
            if let Err(what) = write(&r, &l, &m, id, which, plan).await {
                m.borrow_mut().broke(what);
            }
        });
    }
}

/// One producer: first what was not acked in the life before, then new batches, some at a time.
async fn write<R: Rt>(rt: &R, log: &Log<R>, model: &Shared, id: GroupId, which: usize, plan: LifePlan) -> Result<(), String> {
    loop {
        let burst = 1 + rt.rand() % plan.burst_max;
        let mut last = None;
        if rt.rand().is_multiple_of(8)
            && let Some((sequence, batch)) = old_batch(rt, model, id, which)
        {
            // The ack was lost on its way, and the producer was away for a while.
            if append(rt, log, model, id, which, sequence, &batch).await?.is_none() {
                return Ok(());
            }
        }
        for _ in 0..burst {
            let Some((sequence, batch)) = next_batch(rt, model, id, which) else { return Ok(()) };
            match append(rt, log, model, id, which, sequence, &batch).await? {
                Some(end) => last = Some(end),
                None => return Ok(()),
            }
        }
        if let Some((lsn, end)) = last {
            if log.synced(lsn).await.is_err() {
                return Ok(());
            }
            let mut m = model.borrow_mut();
            if let Some(g) = m.groups.get_mut(&id) {
                g.acked_end = g.acked_end.max(end);
            }
            m.saw("acks");
            if log.state(id).is_some_and(|s| s.high_watermark.0 < end) {
                return Err(format!("group {id}: acked up to {end}, but the high watermark is lower"));
            }
        }
        // Some are so slow that the journal has long forgotten their last batch when they come again.
        let patience = if (id.0 + which as u64).is_multiple_of(4) { 60 } else { 1 };
        rt.sleep(Duration::from_micros(rt.rand() % (patience * plan.think_us.max(1)))).await;
    }
}

/// One of the producer's last five batches, if all of them are in the log.
fn old_batch<R: Rt>(rt: &R, model: &Shared, id: GroupId, which: usize) -> Option<(i32, BytesMut)> {
    let m = model.borrow();
    let g = m.groups.get(&id)?;
    let p = &g.producers[which];
    if !p.retry.is_empty() {
        return None;
    }
    let sent: Vec<&Sent> = g.batches.iter().rev().filter(|b| b.producer == p.id).take(5).collect();
    let again = sent.get(rt.rand() as usize % sent.len().max(1))?;
    Some((again.sequence, BytesMut::from(&again.bytes[..])))
}

/// What the producer sends next: it stays in the model's list until the log has taken it.
fn next_batch<R: Rt>(rt: &R, model: &Shared, id: GroupId, which: usize) -> Option<(i32, BytesMut)> {
    let mut m = model.borrow_mut();
    let p = &mut m.groups.get_mut(&id)?.producers[which];
    if p.retry.is_empty() {
        let batch = make_batch(&mut || rt.rand(), p.id, p.next_sequence, rt.wall_ms());
        p.retry.push((p.next_sequence, batch.clone()));
        p.next_sequence += header(&batch).record_span() as i32;
    }
    p.retry.first().cloned()
}

/// Appends one batch, waiting for room. `None` if the log stopped or the group is gone.
async fn append<R: Rt>(
    rt: &R,
    log: &Log<R>,
    model: &Shared,
    id: GroupId,
    which: usize,
    sequence: i32,
    batch: &BytesMut,
) -> Result<Option<(millpond_log::Lsn, u64)>, String> {
    let head = header(batch);
    loop {
        match log.append(id, batch.clone(), &head, rt.wall_ms()) {
            Ok(Appended::New { base_offset, lsn }) => {
                let mut m = model.borrow_mut();
                let Some(g) = m.groups.get_mut(&id) else { return Ok(None) };
                g.producers[which].retry.retain(|(s, _)| *s != sequence);
                if base_offset.0 != g.end() {
                    return Err(format!("group {id}: appended at {base_offset}, the end is {}", g.end()));
                }
                if g.batches.iter().any(|b| b.producer == head.producer_id && b.sequence == sequence) {
                    return Err(format!("group {id}: producer {} has sequence {sequence} twice", head.producer_id));
                }
                let (base, count) = (base_offset.0, head.record_span());
                let bytes = stamped(batch, base);
                g.batches.push(Sent { base, count, bytes, producer: head.producer_id, sequence });
                return Ok(Some((lsn, base + count)));
            }
            Ok(Appended::Duplicate { base_offset, lsn }) => {
                let mut m = model.borrow_mut();
                m.saw("duplicates");
                let Some(g) = m.groups.get_mut(&id) else { return Ok(None) };
                g.producers[which].retry.retain(|(s, _)| *s != sequence);
                let same = g.batches.iter().find(|b| b.producer == head.producer_id && b.sequence == sequence);
                return match same {
                    Some(b) if b.base == base_offset.0 => Ok(Some((lsn, b.base + b.count))),
                    other => Err(format!("group {id}: duplicate at {base_offset}, sent was {:?}", other.map(|b| b.base))),
                };
            }
            Err(LogError::Full { .. }) => {
                model.borrow_mut().saw("refused_full");
                log.wait_room().await;
                rt.sleep(Duration::from_micros(100)).await;
            }
            Err(LogError::DiskFull { .. }) => {
                model.borrow_mut().saw("refused_disk_full");
                rt.sleep(Duration::from_millis(5)).await;
            }
            Err(LogError::Stopped { .. } | LogError::UnknownGroup { .. }) => return Ok(None),
            Err(error) => return Err(format!("group {id}: append of sequence {sequence}: {error}")),
        }
    }
}

/// Creates, changes, trims and drops groups.
async fn administrate<R: Rt>(rt: R, log: Log<R>, model: Shared, plan: LifePlan) {
    loop {
        let groups = log.groups();
        let outcome = match rt.rand() % 8 {
            0..=5 if 2 * groups.len() < plan.groups_max && plan.groups_max > 8 => create(&rt, &log, &model, plan).await,
            0 | 1 if groups.len() < plan.groups_max => create(&rt, &log, &model, plan).await,
            _ if groups.is_empty() => create(&rt, &log, &model, plan).await,
            2 if groups.len() > 2 && rt.rand().is_multiple_of(4) => drop_one(&log, &model, groups[rt.rand() as usize % groups.len()]).await,
            3 | 4 => trim(&rt, &log, &model, groups[rt.rand() as usize % groups.len()]).await,
            5 => alter(&rt, &log, &model, groups[rt.rand() as usize % groups.len()]).await,
            _ => Ok(()),
        };
        match outcome {
            Ok(()) | Err(LogError::Full { .. } | LogError::DiskFull { .. } | LogError::UnknownGroup { .. }) => {}
            Err(LogError::Stopped { .. }) => return,
            Err(error) => {
                model.borrow_mut().broke(format!("administrator: {error}"));
                return;
            }
        }
        rt.sleep(Duration::from_micros(rt.rand() % (20 * plan.think_us.max(1)))).await;
    }
}

fn random_config(rt: &impl Rt) -> GroupConfig {
    let compact = rt.rand().is_multiple_of(4);
    let delete = !compact || rt.rand().is_multiple_of(3);
    GroupConfig {
        retention_ms: (rt.rand().is_multiple_of(4)).then(|| 20 + rt.rand() % 400),
        retention_bytes: (rt.rand().is_multiple_of(4)).then(|| 20_000 + rt.rand() % 60_000),
        segment_bytes: 8_000 + rt.rand() % 40_000,
        segment_ms: 20 + rt.rand() % 500,
        compact,
        delete,
        delete_retention_ms: rt.rand() % 200,
        min_compaction_lag_ms: rt.rand() % 50,
        producer_expiry_ms: 24 * 3600 * 1000,
    }
}

async fn create<R: Rt>(rt: &R, log: &Log<R>, model: &Shared, plan: LifePlan) -> Result<(), LogError> {
    let (id, config, producers) = {
        let mut m = model.borrow_mut();
        m.next_group += 1;
        let producers: Vec<ProducerModel> = (0..1 + rt.rand() % 2)
            .map(|_| {
                m.next_producer += 1;
                ProducerModel { id: m.next_producer, next_sequence: 0, retry: Vec::new() }
            })
            .collect();
        (GroupId(m.next_group), random_config(rt), producers)
    };
    let lsn = log.create_group(id, config.clone())?;
    model.borrow_mut().groups.insert(id, GroupModel::new(config, producers));
    start_writers(rt, log, model, id, plan);
    log.synced(lsn).await?;
    if let Some(g) = model.borrow_mut().groups.get_mut(&id) {
        g.create_acked = true;
    }
    model.borrow_mut().saw("groups_created");
    Ok(())
}

async fn drop_one<R: Rt>(log: &Log<R>, model: &Shared, id: GroupId) -> Result<(), LogError> {
    let lsn = log.drop_group(id)?;
    if let Some(g) = model.borrow_mut().groups.get_mut(&id) {
        g.drop = Drop::Asked;
    }
    log.synced(lsn).await?;
    if let Some(g) = model.borrow_mut().groups.get_mut(&id) {
        g.drop = Drop::Acked;
    }
    model.borrow_mut().saw("groups_dropped");
    Ok(())
}

async fn trim<R: Rt>(rt: &R, log: &Log<R>, model: &Shared, id: GroupId) -> Result<(), LogError> {
    let Some(state) = log.state(id) else { return Ok(()) };
    let span = state.high_watermark.0 - state.start_offset.0;
    let before = state.start_offset.0 + if rt.rand().is_multiple_of(3) { span } else { rt.rand() % (span + 1) };
    let lsn = log.trim(id, offset(before))?;
    if let Some(g) = model.borrow_mut().groups.get_mut(&id) {
        g.trim_asked = g.trim_asked.max(before);
    }
    log.synced(lsn).await?;
    if let Some(g) = model.borrow_mut().groups.get_mut(&id) {
        g.trim_acked = g.trim_acked.max(before);
    }
    model.borrow_mut().saw("trims");
    Ok(())
}

async fn alter<R: Rt>(rt: &R, log: &Log<R>, model: &Shared, id: GroupId) -> Result<(), LogError> {
    let Some(before) = log.config(id) else { return Ok(()) };
    // The policies stay, since the model can't tell which of two the log knew when it died.
    let config = GroupConfig { segment_bytes: 8_000 + rt.rand() % 40_000, ..before };
    let lsn = log.alter_group(id, config.clone())?;
    if let Some(g) = model.borrow_mut().groups.get_mut(&id) {
        g.config.segment_bytes = config.segment_bytes;
    }
    log.synced(lsn).await
}

async fn read<R: Rt>(rt: R, log: Log<R>, model: Shared) {
    loop {
        let groups = log.groups();
        if !groups.is_empty() {
            let id = groups[rt.rand() as usize % groups.len()];
            let checked = if rt.rand().is_multiple_of(3) {
                let ms = rt.wall_ms() - (rt.rand() % 300) as i64;
                verify::times(&log, &model, id, ms).await
            } else {
                verify::contents(&log, &model, id).await
            };
            if let Err(what) = checked {
                model.borrow_mut().broke(what);
                return;
            }
        }
        log.check();
        rt.sleep(Duration::from_micros(rt.rand() % 4000)).await;
    }
}
