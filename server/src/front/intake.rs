//! The receive buffer of a connection: tiny while it is idle, large while bytes pour in, and never larger than what
//! its core can spare.
//!
//! The first [`FREE_BYTES`] are the connection's own; all above is charged to the core's memory for arriving frames. A frame
//! that does not fit waits for that memory, in the order of asking; if it is used up, one frame at a time may go
//! past it, so that half frames of silent clients cannot keep everybody else's out. What a frame claims costs nothing:
//! memory is reserved at most [`AHEAD_BYTES`] ahead of what has arrived.

use super::Front;
use bytes::BytesMut;
use millpond_runtime::Rt;
use millpond_wire::frame::HEAD_BYTES;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// What an idle connection keeps, in bytes.
const IDLE_BYTES: usize = 512;
/// The least that is read at a time from one that is not idle, in bytes.
const READ_BYTES_MIN: usize = 4 * 1024;
/// The most that is read at a time, in bytes, but for a larger frame.
const READ_BYTES_MAX: usize = 256 * 1024;
/// What no memory is charged for, in bytes.
const FREE_BYTES: usize = 16 * 1024;
/// Memory is reserved at most so far ahead of the bytes, in bytes.
const AHEAD_BYTES: usize = 1024 * 1024;

/// See the module.
pub(super) struct Intake {
    pub(super) buf: BytesMut,
    /// How much to read at a time.
    target: usize,
    charge: Option<OwnedSemaphorePermit>,
    /// A frame goes past the memory.
    lane: Option<OwnedSemaphorePermit>,
}

/// Length of the frame at the front of `buf`, `len` included, if its first bytes are there.
fn frame_len(buf: &BytesMut) -> Option<usize> {
    let len: [u8; 4] = buf.get(..4)?.try_into().ok()?;
    Some(4 + u32::from_le_bytes(len) as usize)
}

impl Intake {
    pub(super) fn new() -> Self {
        Self { buf: BytesMut::new(), target: IDLE_BYTES, charge: None, lane: None }
    }

    /// Length of the frame whose part is in the buffer; 0 if there is none.
    pub(super) fn partial(&self) -> usize {
        if self.buf.is_empty() { 0 } else { frame_len(&self.buf).unwrap_or(HEAD_BYTES) }
    }

    /// Whether the buffer is larger than an idle connection should keep.
    pub(super) fn is_roomy(&self) -> bool {
        self.target > IDLE_BYTES
    }

    /// Gives back what an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.buf.is_empty() {
            *self = Self::new();
        }
    }

    /// Makes room for the next read. Waits for memory if a frame needs more than there is.
    pub(super) async fn make_room<R: Rt>(&mut self, front: &Front<R>) {
        let missing = self.partial().saturating_sub(self.buf.len());
        let spare = self.buf.capacity() - self.buf.len();
        if self.buf.is_empty() {
            self.lane = None;
            // A rest too small for a whole read is left to the frames that share its memory.
            if spare >= self.target.min(READ_BYTES_MAX) / 2 && spare > 0 {
                return;
            }
            if !self.try_charge(front, self.target) {
                self.target = FREE_BYTES;
                self.charge = None;
            }
            return self.buf.reserve(self.target);
        }
        let wanted = missing.clamp(1, AHEAD_BYTES);
        if spare >= wanted {
            return;
        }
        let size = self.buf.len() + wanted;
        if self.lane.is_none() && !self.try_charge(front, size) {
            Box::pin(self.wait_charge(front, size)).await;
        }
        self.buf.reserve(wanted);
    }

    /// Learns from a read of `n` bytes into `spare`: whether to read more at a time, or less.
    pub(super) fn learn(&mut self, n: usize, spare: usize) {
        self.target = if n >= spare {
            (self.target * 4).clamp(READ_BYTES_MIN, READ_BYTES_MAX)
        } else {
            let some = (n + n / 8).next_multiple_of(READ_BYTES_MIN);
            // Slowly, since streams pause.
            some.max(self.target / 2).clamp(READ_BYTES_MIN, READ_BYTES_MAX)
        };
    }

    /// Charges a buffer of `size` bytes in all, if that needs no waiting. Gives back what is too much.
    fn try_charge<R: Rt>(&mut self, front: &Front<R>, size: usize) -> bool {
        let kib = charged_kib(size, front.arriving_kib);
        let held = self.charge.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if kib < held {
            drop(self.charge.as_mut().and_then(|charge| charge.split(held - kib)));
            return true;
        }
        if kib == held {
            return true;
        }
        match Arc::clone(&front.arriving).try_acquire_many_owned((kib - held) as u32) {
            Ok(more) => {
                self.hold(more);
                true
            }
            Err(_) => false,
        }
    }

    fn hold(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.charge {
            Some(charge) => charge.merge(more),
            none => *none = Some(more),
        }
    }

    async fn wait_charge<R: Rt>(&mut self, front: &Front<R>, size: usize) {
        let held = self.charge.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = charged_kib(size, front.arriving_kib).saturating_sub(held) as u32;
        let memory = async { (Arc::clone(&front.arriving).acquire_many_owned(more).await.ok(), None) };
        let lane = async { (None, Arc::clone(&front.lane).acquire_owned().await.ok()) };
        let (memory, lane) = futures_lite::future::or(memory, lane).await;
        if let Some(memory) = memory {
            self.hold(memory);
        }
        self.lane = lane;
    }
}

/// What a buffer of `size` bytes is charged, in KiB, where there are `all` KiB.
fn charged_kib(size: usize, all: usize) -> usize {
    size.saturating_sub(FREE_BYTES).div_ceil(1024).min(all)
}
