//! A disk that fills up. The server's own reserve stands for the end of the disk: it is set to a little less than what is free, so that
//! what the test writes uses it up, and nobody has to fill a real one.

use crate::{
    honest::Honest,
    node::{Bytes, Node},
    wire::{Client, batch},
};
use bytes::BytesMut;
use millpond_batch::{DecompressLimits, records, split};
use millpond_runtime::sys;
use millpond_wire::messages::{Code, Fetch, FetchPartition, FetchReply, Kind, ProduceResult};

/// What may be written, about, until the disk counts as full. Other programs use the disk too.
const LEFT: Bytes = Bytes::mib(400);
/// By then it must be full, whatever others have deleted meanwhile.
const WRITTEN_MAX: Bytes = Bytes::mib(4 * 1024);
const VALUE_BYTES: usize = 120_000;

fn value(number: u64) -> Vec<u8> {
    // Noise, so that the disk gets all of it.
    (0..VALUE_BYTES as u64).map(|n| ((n + number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect()
}

/// Everything in the partition, from the first record on.
fn read_all(client: &mut Client, partition: u32) -> u64 {
    let mut next = 0;
    loop {
        let at = FetchPartition { topic: "filling".into(), partition, offset: next, bytes_max: 0, ..FetchPartition::default() };
        let fetch = Fetch { partitions: vec![at], bytes_max: 1 << 20, ..Fetch::default() };
        let (reply, payload): (FetchReply, BytesMut) = client.get(Kind::Fetch, &fetch);
        assert!(reply.partitions[0].failure.is_none(), "{reply:?}");
        for batch in split(&payload) {
            let batch = bytes::Bytes::copy_from_slice(batch.expect("whole batches").1);
            for record in records(&batch, DecompressLimits::default()).expect("a batch") {
                let record = record.expect("a record");
                assert_eq!(record.offset, next, "in order, without a gap");
                assert!(record.value.as_deref() == Some(&value(next)[..]), "record {next} is what was written");
                next += 1;
            }
        }
        if next == reply.partitions[0].end_offset {
            return next;
        }
    }
}

fn check_refused(result: &ProduceResult) {
    let failure = result.failure.as_ref().expect("refused");
    assert_eq!(failure.code(), Code::DiskFull, "{failure:?}");
    assert!(failure.message.contains("reserve") && !failure.advice.is_empty() && failure.retry_after_ms > 0, "{failure:?}");
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let mut node = Node::start();
    let mut honest = Honest::new(&node);
    honest.round(&node);
    Client::connect(&node.address()).create("filling", 2);
    node.kill();
    let free = sys::space(&node.data()).expect("a file system").free;
    assert!(free > 2 * LEFT.0, "the test itself needs a disk with room");
    node.set_options(&["--disk-reserve", &(free - LEFT.0).to_string()]);
    node.serve();
    let mut client = Client::connect(&node.address());
    let mut acked = [0, 0];
    let refused = 'full: loop {
        for partition in 0..2 {
            let count: &mut u64 = &mut acked[partition as usize];
            let batches: Vec<BytesMut> = (0..8).map(|n| batch(&value(*count + n))).collect();
            for result in client.produce("filling", partition, &batches).results {
                if result.failure.is_some() {
                    break 'full result;
                }
                assert_eq!(result.base_offset, *count);
                *count += 1;
            }
        }
        assert!((acked[0] + acked[1]) * (VALUE_BYTES as u64) < WRITTEN_MAX.0, "the disk never became full");
    };
    println!("full after {acked:?} records of {VALUE_BYTES} bytes: {}", refused.failure.as_ref().expect("refused").message);
    check_refused(&refused);
    // Everything else goes on: what was acknowledged is read, by those who were connected and by others.
    honest.reconnect(&node);
    honest.check_all();
    for partition in 0..2 {
        let read = read_all(&mut client, partition);
        assert!(read >= acked[partition as usize], "{read} of {acked:?}");
        let again = client.produce("filling", partition, &[batch(&value(read))]);
        if again.results[0].failure.is_some() {
            check_refused(&again.results[0]);
        }
    }
    assert!(node.log().contains("the disk is full: appends are refused"));
    node.check_memory();
    // A crash on a full disk, and a start on it.
    node.kill();
    node.serve();
    honest.reconnect(&node);
    honest.check_all();
    // And there is room again.
    node.kill();
    node.set_options(&[]);
    node.serve();
    let mut client = Client::connect(&node.address());
    for partition in 0..2 {
        let read = read_all(&mut client, partition);
        assert!(read >= acked[partition as usize], "{read} of {acked:?}");
        let result = client.produce("filling", partition, &[batch(&value(read))]).results.remove(0);
        assert!(result.failure.is_none() && result.base_offset == read, "{result:?}");
    }
    honest.reconnect(&node);
    honest.check_all();
    honest.round(&node);
}
