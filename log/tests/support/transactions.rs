//! Transactions in a log that is made by a test: producers 2 to 4 are in them, and what a log knows of them is what its entries say.

use bytes::Bytes;
use millpond_batch::{Builder, Compression, Header, Marker, Producer};
use millpond_log::{Aborted, Entry, EntryKind, Log};
use millpond_runtime::{GroupId, Offset, sim::SimRt};
use std::collections::BTreeMap;

const IDS: std::ops::RangeInclusive<i64> = 2..=4;

/// Two in five batches, by `fill`: one of a transaction, or what ends one. Markers are numbered by their entries.
pub(crate) fn batch(index: u64, base_offset: Offset, term: u64, fill: usize) -> Option<Bytes> {
    let id = IDS.start() + (fill / 5 % 3) as i64;
    let mut bytes = match fill % 5 {
        3 => {
            let mut builder = Builder::new(Compression::None, 256);
            builder.set_transactional();
            let headers: [(&[u8], Option<&[u8]>); 0] = [];
            builder.append(1_700_000_000_000 + index as i64, Some(b"t"), Some(&vec![fill as u8; fill]), &headers);
            builder.build(Some(Producer { id, epoch: 0, base_sequence: i32::try_from(base_offset.0).expect("a short log") }))
        }
        4 => Marker { commit: fill.is_multiple_of(2), number: i32::try_from(index).expect("a short log") }.batch(id, 0, 1_700_000_000_000),
        _ => return None,
    }
    .expect("it is built");
    millpond_batch::stamp(&mut bytes, base_offset.0, term as i32);
    Some(bytes.freeze())
}

/// What the log knows of transactions is what these entries say, which are all that it ever had.
pub(crate) fn check(log: &Log<SimRt>, group: GroupId, entries: &[Entry]) {
    let (mut open, mut ended, mut aborted) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Batch) {
        let header = Header::parse(&entry.payload).expect("a batch");
        let id = header.producer_id;
        if let Some(marker) = Marker::of(&entry.payload, &header) {
            ended.insert(id, marker.number);
            if let Some(first) = open.remove(&id).filter(|_| !marker.commit) {
                aborted.push(Aborted { producer_id: id, first, marker: entry.base_offset });
            }
        } else if header.is_transactional() {
            open.entry(id).or_insert(entry.base_offset);
        }
    }
    for id in IDS {
        let known = log.producer(group, id);
        assert_eq!(known.and_then(|known| known.open), open.get(&id).copied(), "what producer {id} has open");
        assert_eq!(known.map_or(0, |known| known.ended), ended.get(&id).copied().unwrap_or(0), "what producer {id} has ended");
    }
    let state = log.state(group).expect("it is there");
    aborted.retain(|aborted| aborted.marker >= state.start_offset);
    assert_eq!(log.aborted(group, Offset(0), state.end_offset), aborted);
    let first = open.values().min().copied().unwrap_or(state.high_watermark);
    assert_eq!(state.stable_offset, first.max(state.start_offset).min(state.high_watermark));
}
