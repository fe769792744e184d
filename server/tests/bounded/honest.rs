//! The client that must be served whatever others do: it writes a little, and reads it back.

use crate::{
    node::{CORES, Node},
    wire::{Answer, Client, batch},
};
use bytes::Bytes;
use millpond_batch::{DecompressLimits, records, split};
use millpond_wire::messages::{Fetch, FetchPartition, FetchReply, Kind, ListOffset, ListOffsets, ListOffsetsReply};
use std::time::{Duration, Instant};

/// How long a small request of an honest client may take on a machine that is busy with the bad ones.
pub(crate) const SERVED_WITHIN: Duration = Duration::from_secs(10);
/// How many times it writes and reads in one round.
const TIMES: usize = 10;

/// One connection to each core.
pub(crate) struct Honest {
    clients: Vec<Client>,
    written: Vec<Vec<u8>>,
}

impl Honest {
    /// Connects, and makes the topic `honest`.
    pub(crate) fn new(node: &Node) -> Self {
        let mut first = Client::connect(&node.address());
        first.create("honest", 2);
        first.create("honest-large", 1);
        Self::again(node, Vec::new())
    }

    /// Connects to a topic that is there, with what it must hold.
    fn again(node: &Node, written: Vec<Vec<u8>>) -> Self {
        Self { clients: (0..CORES).map(|core| Client::connect(&node.core(core))).collect(), written }
    }

    /// The same client, connected anew.
    pub(crate) fn reconnect(&mut self, node: &Node) {
        *self = Self::again(node, std::mem::take(&mut self.written));
    }

    /// Writes and reads through every core, in a partition of each core; panics if anything fails or takes too long. New
    /// connections are served too.
    pub(crate) fn round(&mut self, node: &Node) {
        let began = Instant::now();
        let mut worst = Duration::ZERO;
        for turn in 0..TIMES {
            if turn == TIMES / 2 {
                self.reconnect(node);
                self.write_large();
            }
            for core in 0..self.clients.len() {
                let began = Instant::now();
                // Its partition lives here, or is one hop away.
                self.write(core);
                self.read(core, (self.written.len() / 2).saturating_sub(1));
                worst = worst.max(began.elapsed());
                assert!(worst < SERVED_WITHIN, "an honest client was served after {worst:?} only");
            }
        }
        println!("honest: {TIMES} times through each core in {:?}, the slowest took {worst:?}", began.elapsed());
    }

    /// Everything that was ever acknowledged is there, in order.
    pub(crate) fn check_all(&mut self) {
        self.read(0, 0);
    }

    /// A batch that does not fit into what every connection has, through every core.
    fn write_large(&mut self) {
        for client in &mut self.clients {
            let began = Instant::now();
            let reply = client.produce("honest-large", 0, &[batch(&[7; 100_000])]);
            assert!(reply.results.iter().all(|r| r.failure.is_none()), "{reply:?}");
            let batch = began.elapsed();
            // And a message that is long.
            let at = ListOffset { topic: "honest".into(), partition: 0, time_ms: -1, committed: false, leader_epoch: None };
            let (offsets, _): (ListOffsetsReply, _) = client.get(Kind::ListOffsets, &ListOffsets { partitions: vec![at; 1_000] });
            assert!(offsets.results.len() == 1_000 && offsets.results.iter().all(|r| r.failure.is_none()));
            println!("honest: a batch of 100,000 bytes took {batch:?}, with a long message {:?}", began.elapsed());
            assert!(began.elapsed() < SERVED_WITHIN, "what is larger took {:?}", began.elapsed());
        }
    }

    /// One record in each partition, both acknowledged.
    fn write(&mut self, core: usize) {
        let value = format!("record {} of the honest client {}", self.written.len(), "x".repeat(1_000));
        for partition in 0..2 {
            let reply = self.clients[core].produce("honest", partition, &[batch(value.as_bytes())]);
            assert_eq!(reply.results.len(), 1);
            assert!(reply.results[0].failure.is_none(), "{reply:?}");
            assert_eq!(reply.results[0].base_offset, self.written.len() as u64);
        }
        self.written.push(value.into_bytes());
    }

    fn read(&mut self, core: usize, from: usize) {
        for partition in 0..2 {
            let mut next = from;
            while next < self.written.len() {
                let at =
                    FetchPartition { topic: "honest".into(), partition, offset: next as u64, bytes_max: 0, ..FetchPartition::default() };
                let fetch = Fetch { partitions: vec![at], bytes_max: 1 << 20, wait_ms_max: 1_000, ..Fetch::default() };
                let (reply, payload): (FetchReply, _) = match self.clients[core].ask(Kind::Fetch, &fetch) {
                    Answer::Reply(frame) => (frame.message().expect("a fetch's"), frame.payload),
                    other => panic!("fetch: {other:?}"),
                };
                assert!(reply.partitions[0].failure.is_none(), "{reply:?}");
                for batch in split(&payload) {
                    let batch = Bytes::copy_from_slice(batch.expect("whole batches").1);
                    for record in records(&batch, DecompressLimits::default()).expect("a batch") {
                        let record = record.expect("a record");
                        if record.offset as usize == next {
                            assert_eq!(record.value.as_deref(), Some(&self.written[next][..]), "record {next} of {partition}");
                            next += 1;
                        }
                    }
                }
            }
        }
    }
}
