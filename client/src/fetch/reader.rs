//! Chunks to batches to records, as they are asked for.
//!
//! A reader keeps the partition's position: what was handed out is *delivered*; it is *processed* when whoever reads says so.

use super::{
    Chunk, Fetcher, Handle,
    isolation::GivenUp,
    record::{ConsumerRecord, RecordBatch, damaged},
};
use crate::error::{Error, Result};
use bytes::Bytes;
use millpond_batch::{DecompressLimits, Marker, Records, check, records};
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

/// The chunk that is being read.
pub(crate) struct Open {
    chunk: Chunk,
    /// The batch that is being read.
    records: Option<(Records, u64)>,
    /// What of it is left out.
    given_up: GivenUp,
}

impl Open {
    pub(crate) fn new(mut chunk: Chunk) -> Self {
        let given_up = GivenUp::new(std::mem::take(&mut chunk.aborted));
        Self { chunk, records: None, given_up }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.chunk.handle
    }

    /// Gives up the rest: its bytes make no sense.
    fn fail(&mut self, offset: u64, source: millpond_batch::BatchError) -> Error {
        self.chunk.bytes = Bytes::new();
        self.records = None;
        damaged(&self.chunk.handle.topic, self.chunk.handle.partition, offset, source)
    }

    /// The next batch with records for users; `None` at the end of the chunk, where the position is past all it stood for.
    pub(crate) fn next_batch(&mut self) -> Option<Result<RecordBatch>> {
        while !self.chunk.bytes.is_empty() {
            let at = self.chunk.handle.delivered().max(self.chunk.from);
            let header = match millpond_batch::Header::parse(&self.chunk.bytes) {
                Ok(header) if header.batch_len <= self.chunk.bytes.len() => header,
                Ok(header) => {
                    let (claimed, found) = (header.batch_len as i64, self.chunk.bytes.len());
                    return Some(Err(self.fail(at, millpond_batch::BatchError::Length { claimed, found })));
                }
                Err(error) => return Some(Err(self.fail(at, error))),
            };
            let bytes = self.chunk.bytes.split_to(header.batch_len);
            if header.next_offset() <= self.chunk.from {
                continue;
            }
            let is_left_out = self.given_up.holds(&header);
            if is_left_out && header.is_control() {
                // A marker that cannot be read would leave out all that follows.
                if let Err(error) = check(&bytes) {
                    return Some(Err(self.fail(header.base_offset, error)));
                }
                if let Some(marker) = Marker::of(&bytes, &header) {
                    self.given_up.end(&header, marker);
                }
            }
            if is_left_out || header.is_control() {
                continue;
            }
            if header.base_offset >= self.chunk.end {
                self.chunk.bytes = Bytes::new();
                break;
            }
            if let Err(error) = check(&bytes) {
                return Some(Err(self.fail(header.base_offset, error)));
            }
            let handle = &self.chunk.handle;
            let (topic, partition) = (Arc::clone(&handle.topic), handle.partition);
            return Some(Ok(RecordBatch { topic, partition, header, bytes, from: self.chunk.from, end: self.chunk.end }));
        }
        None
    }

    /// The next record; `None` at the end of the chunk.
    pub(crate) fn next_record(&mut self) -> Option<Result<ConsumerRecord>> {
        loop {
            if let Some((records, base)) = &mut self.records {
                let base = *base;
                let wanted = |offset| offset >= self.chunk.from && offset < self.chunk.end;
                match records.find(|r| r.as_ref().map_or(true, |r| wanted(r.offset))) {
                    Some(Ok(record)) => {
                        let handle = &self.chunk.handle;
                        handle.deliver(record.offset + 1);
                        return Some(Ok(ConsumerRecord { topic: Arc::clone(&handle.topic), partition: handle.partition, record }));
                    }
                    Some(Err(error)) => return Some(Err(self.fail(base, error))),
                    None => self.records = None,
                }
            }
            match self.next_batch()? {
                Err(error) => return Some(Err(error)),
                Ok(batch) => match records(&batch.bytes, DecompressLimits::default()) {
                    Ok(records) => self.records = Some((records, batch.header.base_offset)),
                    Err(error) => return Some(Err(self.fail(batch.header.base_offset, error))),
                },
            }
        }
    }

    /// The position moves past all that the chunk stood for: holes, too.
    pub(crate) fn close(&self) {
        self.chunk.handle.deliver(self.chunk.next.max(self.chunk.handle.delivered()));
    }
}

/// See the module.
pub(crate) struct Reader {
    pub(crate) fetcher: Arc<Fetcher>,
    open: Option<Open>,
    /// What was begun of partitions that are paused.
    aside: Vec<Open>,
    /// Partitions whose last records were handed out and are not said to be processed yet.
    handed_out: Vec<Arc<Handle>>,
}

impl Reader {
    pub(crate) fn new(fetcher: Arc<Fetcher>) -> Self {
        Self { fetcher, open: None, aside: Vec::new(), handed_out: Vec::new() }
    }

    /// Whoever reads is done with all that was handed out.
    pub(crate) fn process(&mut self) {
        self.handed_out.drain(..).for_each(|handle| handle.process());
        self.open.iter().chain(&self.aside).for_each(|open| open.handle().process());
    }

    /// The next record; `None` when all partitions were read to their end.
    pub(crate) fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ConsumerRecord>>> {
        self.poll(cx, Open::next_record)
    }

    /// The next batch. Records of a batch that was begun by [`Reader::poll_record`] are not handed out again.
    pub(crate) fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        self.poll(cx, |open| {
            open.records = None;
            let batch = open.next_batch()?;
            if let Ok(batch) = &batch {
                open.handle().deliver(batch.header.next_offset().min(batch.end));
            }
            Some(batch)
        })
    }

    fn poll<T>(&mut self, cx: &mut Context<'_>, mut next: impl FnMut(&mut Open) -> Option<Result<T>>) -> Poll<Option<Result<T>>> {
        loop {
            if let Some(paused) = self.open.take_if(|open| open.handle().is_paused()) {
                self.aside.push(paused);
            }
            if self.open.is_none() && !self.aside.is_empty() {
                let resumed = self.aside.iter().position(|open| !open.handle().is_paused());
                self.open = resumed.map(|n| self.aside.swap_remove(n));
            }
            if let Some(open) = &mut self.open {
                if !open.handle().is_revoked() {
                    match next(open) {
                        Some(Err(error)) => {
                            self.fetcher.refetch(open.handle());
                            self.open = None;
                            return Poll::Ready(Some(Err(error)));
                        }
                        Some(item) => return Poll::Ready(Some(item)),
                        None => open.close(),
                    }
                }
                let handle = Arc::clone(open.handle());
                self.open = None;
                if self.handed_out.iter().all(|h| h.id != handle.id) {
                    self.handed_out.push(handle);
                }
                continue;
            }
            match ready!(self.fetcher.poll_chunk(cx)) {
                Some(Ok(chunk)) => self.open = Some(Open::new(chunk)),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}
