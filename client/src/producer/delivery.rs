//! What becomes of a record: one completion per batch, shared by the deliveries of its records.

use crate::error::{Error, Result};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

/// Where a record ended up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Its offset; `None` if the producer asked for no acknowledgement.
    pub offset: Option<u64>,
    /// The server's time, where the topic's timestamps are the server's, in milliseconds since 1970.
    pub append_time_ms: Option<i64>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub(crate) base_offset: Option<u64>,
    pub(crate) append_time_ms: Option<i64>,
}

/// The completion of a batch.
#[derive(Debug)]
pub(crate) struct Completion {
    topic: Arc<str>,
    partition: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Result<Acked>>,
    wakers: Vec<Waker>,
}

impl Completion {
    pub(crate) fn new(topic: Arc<str>, partition: u32) -> Self {
        Self { topic, partition, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// Decides it. Once only.
    pub(crate) fn complete(&self, outcome: Result<Acked>) {
        let mut state = self.lock();
        assert!(state.outcome.is_none(), "a batch was decided twice");
        state.outcome = Some(outcome);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Resolves when a record's fate is known. It needs not be awaited: dropping it changes nothing, and
/// [`Producer::flush`](super::Producer::flush) tells of failures too.
#[derive(Debug)]
pub struct Delivery {
    done: Arc<Completion>,
    /// The record's place in its batch.
    index: u32,
    /// Its place among the wakers, once it was polled.
    slot: Option<usize>,
}

impl Delivery {
    pub(crate) fn new(done: Arc<Completion>, index: u32) -> Self {
        Self { done, index, slot: None }
    }

    /// The partition it goes to.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.done.partition
    }

    /// What is known by now.
    #[must_use]
    pub fn now(&self) -> Option<Result<Delivered>> {
        let outcome = self.done.lock().outcome.clone()?;
        Some(outcome.map(|acked| self.delivered(acked)))
    }

    fn delivered(&self, acked: Acked) -> Delivered {
        Delivered {
            topic: Arc::clone(&self.done.topic),
            partition: self.done.partition,
            offset: acked.base_offset.map(|base| base + u64::from(self.index)),
            append_time_ms: acked.append_time_ms,
        }
    }
}

impl Future for Delivery {
    type Output = Result<Delivered, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = Arc::clone(&self.done);
        let mut state = done.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone().map(|acked| self.delivered(acked)));
        }
        match self.slot {
            Some(slot) => state.wakers[slot].clone_from(cx.waker()),
            None => {
                self.slot = Some(state.wakers.len());
                state.wakers.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}

/// Waits until a batch is decided.
pub(crate) async fn decided(done: Arc<Completion>) {
    // Its outcome is told to whoever asked for it.
    let _ = Delivery::new(done, 0).await;
}
