//! Consumers: following the end, or reading in bulk.

use super::{Measured, Window, Work, all, produce::arrived, unshare};
use crate::{
    batches::Shape,
    system::{Chunk, Consumer, ConsumerSpec, Reading, Seat, System, Topic},
};
use anyhow::Result;
use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

/// Followers read on for at most so long after the window, for what was sent in it.
const FOLLOW_ON: Duration = Duration::from_secs(3);

/// Consumers.
#[derive(Clone, Debug)]
pub struct Consume<S> {
    /// From what.
    pub system: S,
    /// Which.
    pub topics: Vec<Topic>,
    /// Connections in all.
    pub connections: usize,
    /// How.
    pub reading: Reading,
    /// Bytes to ask for at a time.
    pub fetch_bytes: usize,
    /// Check checksums.
    pub verify: bool,
    /// For followers: what is sent, and since when its stamps count.
    pub stamps: Option<(Shape, Instant)>,
}

impl<S: System> Work for Consume<S> {
    type Open = S::Consumer;

    fn connections(&self) -> usize {
        self.connections
    }

    async fn open(&self, number: usize) -> Result<S::Consumer> {
        let spec = ConsumerSpec {
            seat: Seat { number, of: self.connections },
            topics: self.topics.clone(),
            reading: self.reading,
            fetch_bytes: self.fetch_bytes,
            verify: self.verify,
            stamps_of: self.stamps.as_ref().map(|(shape, _)| Rc::new(shape.clone())),
        };
        self.system.consumer(spec).await
    }

    async fn run(&self, open: Vec<(usize, S::Consumer)>, window: Window) -> Result<Measured> {
        let measured = Rc::new(RefCell::new(Measured::new(&window, self.ends_by_itself())));
        let since = self.stamps.as_ref().map(|(_, since)| *since);
        let read = |(_, consumer): (usize, S::Consumer)| read(consumer, self.reading, since, window, Rc::clone(&measured));
        all(open.into_iter().map(read).collect()).await?;
        unshare(measured)
    }

    fn ends_by_itself(&self) -> bool {
        matches!(self.reading, Reading::Once { .. })
    }
}

async fn read(
    mut consumer: impl Consumer,
    reading: Reading,
    since: Option<Instant>,
    window: Window,
    measured: Rc<RefCell<Measured>>,
) -> Result<()> {
    let mut chunk = Chunk::default();
    let end = if reading == Reading::Follow { window.to + FOLLOW_ON } else { window.to };
    loop {
        match reading {
            Reading::Once { .. } => consumer.next(&mut chunk).await?,
            Reading::Follow | Reading::Again { .. } => match tokio::time::timeout_at(end.into(), consumer.next(&mut chunk)).await {
                Ok(read) => read?,
                Err(_) => return Ok(()),
            },
        }
        let now = Instant::now();
        let mut measured = measured.borrow_mut();
        if let Some(asked) = chunk.asked
            && chunk.bytes > 0
        {
            measured.requests.ended(now, now - asked, chunk.records, chunk.bytes);
            measured.requests.took(asked, now - asked);
            measured.ended = measured.ended.max(now);
        }
        if let Some(since) = since {
            arrived(&mut measured, since, &window, &chunk.stamps);
        }
        let over = match reading {
            Reading::Once { .. } => false,
            Reading::Again { .. } => now >= end,
            // Only once what was sent in the window must have come.
            Reading::Follow => now >= end || (now >= window.to && chunk.bytes == 0),
        };
        if over || chunk.over {
            return Ok(());
        }
    }
}
