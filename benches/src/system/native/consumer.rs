//! A connection that reads. Two fetches are under way at a time where it reads in bulk, each of another partition, so that the
//! server reads for one while the other is on its way; following is one fetch of all partitions that waits at the server.

use super::{
    Place,
    conn::{Conn, answer, describe},
    producer::stamp_at,
};
use crate::{
    batches::STAMP_BYTES,
    system::{Chunk, Consumer, ConsumerSpec, Reading},
};
use anyhow::{Context, Result, bail, ensure};
use millpond_batch::{check, split};
use millpond_wire::{
    frame::{Flags, Frame, encode},
    messages::{Fetch, FetchPartition, FetchReply, Kind},
};
use std::{collections::VecDeque, time::Instant};

/// Fetches under way in bulk.
const DEPTH: usize = 2;
/// How long a fetch of a follower waits for records, in ms.
const WAIT_MS: u32 = 1_000;
/// Empty answers in bulk, one after the other, before we say that something is wrong.
const EMPTY_MAX: u32 = 1_000;

#[derive(Debug)]
struct Part {
    place: Place,
    start: u64,
    next: u64,
    end: u64,
}

/// See the module.
#[derive(Debug)]
pub struct NativeConsumer {
    conn: Conn,
    parts: Vec<Part>,
    reading: Reading,
    fetch_bytes: u32,
    verify: bool,
    stamp_at: Option<usize>,
    /// Parts without a fetch under way that have something to read.
    idle: VecDeque<usize>,
    /// Fetches under way, oldest first: when sent, and which part (all of them where it follows).
    under_way: VecDeque<(Instant, Option<usize>)>,
    empty: u32,
}

impl NativeConsumer {
    pub(crate) fn new(conn: Conn, places: Vec<Place>, bounds: &[(u64, u64)], spec: &ConsumerSpec) -> Self {
        let mut conn = conn;
        conn.expect(spec.fetch_bytes);
        let follow = spec.reading == Reading::Follow;
        let part = |(place, (start, end)): (Place, &(u64, u64))| Part {
            place,
            start: *start,
            next: if follow { *end } else { *start },
            end: *end,
        };
        let parts: Vec<Part> = places.into_iter().zip(bounds).map(part).collect();
        let idle = if follow { VecDeque::new() } else { (0..parts.len()).filter(|n| parts[*n].next < parts[*n].end).collect() };
        Self {
            conn,
            parts,
            reading: spec.reading,
            fetch_bytes: u32::try_from(spec.fetch_bytes).unwrap_or(u32::MAX),
            verify: spec.verify,
            stamp_at: spec.stamps_of.as_ref().and_then(|shape| stamp_at(shape).ok()),
            idle,
            under_way: VecDeque::new(),
            empty: 0,
        }
    }

    fn ask(&mut self, part: Option<usize>) -> Result<()> {
        let asked: Vec<&Part> = part.map_or_else(|| self.parts.iter().collect(), |n| vec![&self.parts[n]]);
        let partition = |part: &&Part| FetchPartition {
            topic: part.place.topic.clone(),
            partition: part.place.partition,
            offset: part.next,
            bytes_max: 0,
            ..FetchPartition::default()
        };
        let fetch = Fetch {
            partitions: asked.iter().map(partition).collect(),
            bytes_min: 1,
            bytes_max: self.fetch_bytes,
            wait_ms_max: WAIT_MS,
            records_max: 0,
            replay: matches!(self.reading, Reading::Once { background: true } | Reading::Again { background: true }),
            any_replica: false,
            committed: false,
        };
        self.conn.send(&encode(Kind::Fetch, Flags::REQUEST, 0, &fetch, 0), &[])?;
        self.under_way.push_back((Instant::now(), part));
        Ok(())
    }

    fn ask_more(&mut self) -> Result<()> {
        if self.reading == Reading::Follow {
            return if self.under_way.is_empty() && !self.parts.is_empty() { self.ask(None) } else { Ok(()) };
        }
        while self.under_way.len() < DEPTH {
            let Some(part) = self.idle.pop_front() else { break };
            self.ask(Some(part))?;
        }
        Ok(())
    }

    fn took(&mut self, frame: &Frame, chunk: &mut Chunk) -> Result<()> {
        let (asked, part) = self.under_way.pop_front().context("an answer to no fetch")?;
        let reply: FetchReply = answer(frame)?;
        let parts = part.map_or(0..self.parts.len(), |n| n..n + 1);
        ensure!(reply.partitions.len() == parts.len(), "{} partitions, {} were asked for", reply.partitions.len(), parts.len());
        let mut rest = &frame.payload[..];
        for (n, fetched) in parts.zip(&reply.partitions) {
            let part = &mut self.parts[n];
            if let Some(failure) = &fetched.failure {
                bail!("reading partition {} of {}: {}", part.place.partition, part.place.topic, describe(failure));
            }
            let (bytes, behind) = rest.split_at_checked(fetched.len as usize).context("an answer shorter than it says")?;
            rest = behind;
            part.next = part.next.max(fetched.next_offset);
            for batch in split(bytes) {
                let (header, batch) = batch.context("a batch that was read")?;
                if self.verify {
                    check(batch).context("a batch that was read")?;
                }
                chunk.records += u64::from(header.count);
                let stamp = self.stamp_at.and_then(|at| batch.get(at..at + STAMP_BYTES)?.try_into().ok());
                chunk.stamps.extend(stamp.map(u64::from_be_bytes));
            }
        }
        chunk.bytes += frame.payload.len() as u64;
        chunk.asked = Some(asked);
        self.empty = if frame.payload.is_empty() { self.empty + 1 } else { 0 };
        ensure!(
            self.reading == Reading::Follow || self.empty < EMPTY_MAX,
            "the server answers with nothing, though there should be records"
        );
        if let Some(n) = part {
            let part = &mut self.parts[n];
            if part.next >= part.end && matches!(self.reading, Reading::Again { .. }) {
                part.next = part.start;
            }
            if part.next < part.end {
                self.idle.push_back(n);
            }
        }
        Ok(())
    }
}

impl Consumer for NativeConsumer {
    async fn next(&mut self, chunk: &mut Chunk) -> Result<()> {
        *chunk = Chunk { stamps: std::mem::take(&mut chunk.stamps), ..Chunk::default() };
        chunk.stamps.clear();
        self.ask_more()?;
        if self.under_way.is_empty() {
            chunk.over = true;
            return Ok(());
        }
        let frame = self.conn.frame().await?;
        self.took(&frame, chunk)
    }
}
