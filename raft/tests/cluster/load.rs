//! Those who send and read, on every node: they run until their node dies.

use crate::book::{Book, Current};
use bytes::{Bytes, BytesMut};
use millpond_batch::{Builder, Compression, Header, Producer};
use millpond_log::{Log, ReadLimits};
use millpond_raft::{Driver, Lost, ProposeError};
use millpond_runtime::{GroupId, Offset, Rt, rt::timeout, sim::SimRt};
use std::{rc::Rc, time::Duration};

/// Those that send one batch after the other without sending any again, per node and group.
pub(crate) const PLAIN: u64 = 2;

fn batch(value: u64, fill: usize, producer: Option<Producer>) -> (BytesMut, Header) {
    let mut builder = Builder::new(Compression::None, 256);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    builder.append(1_700_000_000_000, Some(&value.to_le_bytes()), Some(&vec![value as u8; fill]), &headers);
    let batch = builder.build(producer).unwrap();
    let header = Header::parse(&batch).unwrap();
    (batch, header)
}

/// What a batch holds.
pub(crate) fn value_of(batch: &Bytes) -> u64 {
    let records = millpond_batch::records(batch, millpond_batch::DecompressLimits::bytes(1 << 20)).unwrap();
    let record = records.into_iter().next().unwrap().unwrap();
    u64::from_le_bytes(record.key.as_deref().unwrap().try_into().unwrap())
}

/// A while, longer when nobody is to do anything.
async fn pause(rt: &SimRt, book: &Book, most_us: u64) {
    let us = rt.rand() % (most_us * book.settings.patience);
    rt.sleep(Duration::from_micros(if book.quiet.get() { 100_000 + us } else { us })).await;
}

/// Reads now and then: everything that was acknowledged before must be there then.
pub(crate) async fn read_on(rt: SimRt, (driver, book): (Driver<SimRt>, Rc<Book>), log: Log<SimRt>, group: GroupId) {
    let (mut before, mut of) = (Offset(0), None);
    loop {
        pause(&rt, &book, 200_000).await;
        if book.quiet.get() {
            continue;
        }
        // One that is made anew begins anew.
        if std::mem::replace(&mut of, driver.kept(group)) != of {
            before = Offset(0);
        }
        // Whatever anybody reads, leader or not, is what it is for ever.
        let end = log.state(group).map_or(Offset(0), |state| state.high_watermark);
        assert!(end >= before, "what can be read of group {group} ends at offset {end}, and ended at {before} before");
        before = end;
        let limits = ReadLimits { bytes_max: 64 << 10, end };
        for batch in log.read(group, Offset(end.0.saturating_sub(5)), limits).await.map_or(Vec::new(), |out| out.batches) {
            let (offset, value) = (Offset(Header::parse(&batch).unwrap().base_offset), value_of(&batch));
            let first = *book.seen.borrow_mut().entry((group, offset)).or_insert(value);
            assert_eq!(first, value, "two readers saw different records at offset {offset} of group {group}");
        }
        let acked = book.acked_end.borrow().get(&group).copied();
        if driver.read_index(group).await.is_ok() {
            let end = log.state(group).map(|state| state.high_watermark);
            assert!(acked.is_none_or(|acked| Some(acked) < end), "offset {acked:?} of group {group} was acknowledged, a read sees {end:?}");
            book.mark("reads that asked the leader");
        }
    }
}

/// Sends whatever comes to mind, as long as this replica leads.
pub(crate) async fn send(rt: SimRt, driver: Driver<SimRt>, group: GroupId, book: Rc<Book>) {
    loop {
        pause(&rt, &book, 40_000).await;
        if book.quiet.get() || !driver.status(group).is_some_and(|status| status.leads) {
            continue;
        }
        let value = book.value();
        let (batch, header) = batch(value, rt.rand() as usize % 3_000, None);
        match driver.propose(group, batch, &header) {
            Ok(proposed) => match timeout(&rt, Duration::from_secs(5), proposed.committed()).await {
                Ok(Ok(offset)) => book.ack(group, offset, value),
                Ok(Err(Lost)) => book.mark("writes lost sight of"),
                Err(_) => book.mark("writes given up"),
            },
            Err(ProposeError::NotLeader { .. } | ProposeError::Busy | ProposeError::Unknown(_)) => {}
            Err(ProposeError::Log(error)) if error.is_retryable() => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends the group's current batch until somebody says that it is there.
pub(crate) async fn resend(rt: SimRt, driver: Driver<SimRt>, group: GroupId, book: Rc<Book>) {
    loop {
        pause(&rt, &book, 40_000).await;
        if book.quiet.get() {
            continue;
        }
        let Current { sequence, value } = book.current(group);
        let (batch, header) = batch(value, 100, Some(Producer { id: 5, epoch: 0, base_sequence: sequence }));
        let Ok(proposed) = driver.propose(group, batch, &header) else { continue };
        if proposed.duplicate {
            book.mark("repeats found out");
        }
        if let Ok(Ok(offset)) = timeout(&rt, Duration::from_millis(500), proposed.committed()).await
            && book.current(group).sequence == sequence
        {
            book.ack(group, offset, value);
            book.next(group, sequence + 1);
        }
    }
}
