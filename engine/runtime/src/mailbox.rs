//! Bounded queues of owned messages, between cores and from foreign threads into a core.
//!
//! The same code on both backends: it stands on wakers alone. Many may send, one receives. A full queue makes senders
//! wait in the order they came; nothing is dropped. When the receiver is gone, senders get their message back; when the
//! last sender is gone and the queue is empty, the receiver gets `None`.

use crossbeam::queue::ArrayQueue;
use futures_util::task::AtomicWaker;
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
};
use tokio::sync::Semaphore;

struct Shared<M> {
    queue: ArrayQueue<M>,
    /// One permit per free place.
    room: Semaphore,
    receiver: AtomicWaker,
    senders: AtomicUsize,
    receiver_gone: AtomicBool,
}

/// The sending end. Cheap to clone.
pub struct Sender<M>(Arc<Shared<M>>);

/// The receiving end.
pub struct Receiver<M>(Arc<Shared<M>>);

/// The queue is full; the message comes back.
#[derive(Debug)]
pub enum TrySendError<M> {
    /// No room now.
    Full(M),
    /// Nobody will ever receive it.
    Closed(M),
}

/// Nobody will ever receive it; the message comes back.
#[derive(Debug)]
pub struct Closed<M>(pub M);

/// A queue for at most `capacity` messages (at least 1).
pub fn mailbox<M: Send>(capacity: usize) -> (Sender<M>, Receiver<M>) {
    let capacity = capacity.max(1);
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        room: Semaphore::new(capacity),
        receiver: AtomicWaker::new(),
        senders: AtomicUsize::new(1),
        receiver_gone: AtomicBool::new(false),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<M> Shared<M> {
    /// Puts a message into a place whose permit was taken.
    fn place(&self, message: M) {
        assert!(self.queue.push(message).is_ok(), "a permit was given for a place that was not free");
        self.receiver.wake();
    }

    fn take(&self) -> Option<M> {
        let message = self.queue.pop()?;
        self.room.add_permits(1);
        Some(message)
    }
}

impl<M: Send> Sender<M> {
    /// Sends without waiting.
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        if self.0.receiver_gone.load(Ordering::Acquire) {
            return Err(TrySendError::Closed(message));
        }
        match self.0.room.try_acquire() {
            Ok(permit) => {
                permit.forget();
                self.0.place(message);
                Ok(())
            }
            Err(_) => Err(TrySendError::Full(message)),
        }
    }

    /// Sends, waiting for room. Dropped while it waits, it has sent nothing.
    pub async fn send(&self, message: M) -> Result<(), Closed<M>> {
        match self.0.room.acquire().await {
            Ok(permit) if !self.0.receiver_gone.load(Ordering::Acquire) => {
                permit.forget();
                self.0.place(message);
                Ok(())
            }
            _ => Err(Closed(message)),
        }
    }

    /// Messages waiting to be received.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.queue.len()
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl<M> Drop for Sender<M> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.receiver.wake();
        }
    }
}

impl<M: Send> Receiver<M> {
    /// The next message, or `None` once all senders are gone and the queue is empty. Dropping a pending call loses nothing.
    pub async fn recv(&mut self) -> Option<M> {
        poll_fn(|cx| {
            if let Some(message) = self.0.take() {
                return Poll::Ready(Some(message));
            }
            self.0.receiver.register(cx.waker());
            // A message or a farewell between the look and the registration would otherwise wake nobody.
            let last_word = self.0.senders.load(Ordering::Acquire) == 0;
            match self.0.take() {
                Some(message) => Poll::Ready(Some(message)),
                None if last_word => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// The next message, if one is there.
    pub fn try_recv(&mut self) -> Option<M> {
        self.0.take()
    }

    /// Waits for a message and appends it and up to `max - 1` more to `into`; 0 once all senders are gone.
    pub async fn recv_many(&mut self, into: &mut Vec<M>, max: usize) -> usize {
        let Some(first) = self.recv().await else { return 0 };
        into.push(first);
        let mut n = 1;
        while n < max
            && let Some(message) = self.0.take()
        {
            into.push(message);
            n += 1;
        }
        n
    }

    /// Messages waiting.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.queue.len()
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        self.0.receiver_gone.store(true, Ordering::Release);
        self.0.room.close();
        while self.0.queue.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests;
