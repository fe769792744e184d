//! The receive buffer of a connection: tiny while it is idle, large while bytes pour in, and never larger than what
//! its core can spare.
//!
//! The first [`FREE_BYTES`] are the connection's own ([`CONNECTION_BYTES`](crate::node::config::CONNECTION_BYTES) has them); all
//! above is charged, by the buffer's whole capacity, to the core's memory for arriving frames. What a frame claims costs nothing: a buffer
//! grows at most to twice what has arrived, and to no more than the frame needs.
//!
//! The memory has two halves. One is a pool: a frame that finds no room in it waits, in the order of asking. The other is a lane, for
//! frames that wait, the newest first: there a frame takes memory for all of itself at once, and has room whatever its length is
//! ([`MemoryPlan::frame_bytes_max`](crate::node::config::MemoryPlan::frame_bytes_max)), so that frames that hold the pool and want more of it never
//! wait for each other alone. While somebody waits, half frames whose clients have fallen silent are closed sooner ([`super::sweep`]).

use super::{Front, conn::Speaks, lane::InLane};
use crate::node::budget::Held;
use bytes::BytesMut;
use millpond_runtime::{Nanos, Rt};
use millpond_wire::frame::HEAD_BYTES;

/// What an idle connection keeps, in bytes.
const IDLE_BYTES: usize = 512;
/// The least that is read at a time from one that is not idle, in bytes.
const READ_BYTES_MIN: usize = 2 * 1024;
/// The most that is read at a time, in bytes, but for a larger frame.
const READ_BYTES_MAX: usize = 256 * 1024;
/// What no memory is charged for, in bytes.
const FREE_BYTES: usize = 2 * 1024;

/// See the module.
pub(super) struct Intake {
    pub(super) buf: BytesMut,
    /// When the frame began whose part is in the buffer.
    pub(super) began: Nanos,
    /// Bytes of the memory that `buf` is a part of.
    size: usize,
    /// Which protocol its frames are of; not known before the first bytes.
    pub(super) speaks: Option<Speaks>,
    /// How much to read at a time.
    target: usize,
    charge: Option<Held>,
    /// A frame goes past the pool.
    lane: Option<InLane>,
}

/// Length of the frame at the front of `buf`, `len` included, if its first bytes are there.
fn frame_len(buf: &BytesMut, speaks: Option<Speaks>) -> Option<usize> {
    let len: [u8; 4] = buf.get(..4)?.try_into().ok()?;
    Some(match speaks? {
        Speaks::Native => 4 + u32::from_le_bytes(len) as usize,
        // What is no length is refused when the frame is taken.
        Speaks::Kafka => 4 + usize::try_from(i32::from_be_bytes(len)).unwrap_or(0),
    })
}

impl Intake {
    pub(super) fn new() -> Self {
        Self { buf: BytesMut::new(), began: 0, size: 0, speaks: None, target: IDLE_BYTES, charge: None, lane: None }
    }

    /// Length of the frame whose part is in the buffer; 0 if there is none.
    pub(super) fn partial(&self) -> usize {
        if self.buf.is_empty() { 0 } else { frame_len(&self.buf, self.speaks).unwrap_or(HEAD_BYTES) }
    }

    /// Bytes of the memory that frames in the buffer share: what a slice of it keeps.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether the buffer is larger than an idle connection should keep.
    pub(super) fn is_roomy(&self) -> bool {
        self.target > IDLE_BYTES
    }

    /// Whether it holds memory that others may wait for.
    pub(super) fn is_charged(&self) -> bool {
        self.charge.is_some() || self.lane.is_some()
    }

    /// Gives back what an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.buf.is_empty() {
            *self = Self { speaks: self.speaks, ..Self::new() };
        }
    }

    /// Makes room for the next read. Waits for memory if a frame needs more than there is; dropped meanwhile, it has done nothing.
    pub(super) async fn make_room<R: Rt>(&mut self, front: &Front<R>) {
        let spare = self.buf.capacity() - self.buf.len();
        if self.buf.is_empty() {
            return self.make_room_anew(front, spare);
        }
        let missing = self.partial().saturating_sub(self.buf.len()).max(1);
        if spare >= missing.min(READ_BYTES_MIN) {
            return;
        }
        let least = self.buf.len() + missing.min(self.buf.len().max(READ_BYTES_MIN));
        let liked = least.max(self.target);
        let size = if self.lane.is_none() && self.try_charge(front, liked) {
            liked
        } else {
            if self.lane.is_none() && !self.try_charge(front, least) {
                Box::pin(self.wait_charge(front, least)).await;
            }
            least
        };
        self.renew(size);
    }

    /// The same where no frame has begun. Never waits: small reads are free.
    fn make_room_anew<R: Rt>(&mut self, front: &Front<R>, spare: usize) {
        // A rest too small for a whole read is left to the frames that share its memory.
        if self.lane.is_none() && spare > 0 && spare >= self.target / 2 {
            return;
        }
        let paid = self.lane.take().is_none() && self.missing(self.size).is_none();
        if paid && (self.target..=4 * self.target).contains(&self.size) && self.buf.try_reclaim(self.target) {
            // Nobody has kept anything of it.
            return;
        }
        self.buf = BytesMut::new();
        self.charge = None;
        if let Some(bytes) = charged(self.target) {
            self.charge = front.arriving.try_take(bytes);
            if self.charge.is_none() {
                self.target = FREE_BYTES;
            }
        }
        self.renew(self.target);
    }

    /// Moves what has arrived to memory of exactly so many bytes.
    fn renew(&mut self, size: usize) {
        let mut buf = BytesMut::with_capacity(size);
        buf.extend_from_slice(&self.buf);
        self.buf = buf;
        self.size = size;
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

    /// Charges a buffer of `size` bytes in all, if that needs no waiting.
    fn try_charge<R: Rt>(&mut self, front: &Front<R>, size: usize) -> bool {
        let Some(missing) = self.missing(size) else { return true };
        match front.arriving.try_take(missing) {
            Some(more) => {
                self.hold(more);
                true
            }
            None => false,
        }
    }

    /// Bytes to be charged beyond what is.
    fn missing(&self, size: usize) -> Option<usize> {
        let held = self.charge.as_ref().map_or(0, |charge| charge.num_permits() * 1024);
        charged(size)?.checked_sub(held).filter(|missing| *missing > 0)
    }

    fn hold(&mut self, more: Held) {
        match &mut self.charge {
            Some(charge) => charge.merge(more),
            none => *none = Some(more),
        }
    }

    async fn wait_charge<R: Rt>(&mut self, front: &Front<R>, size: usize) {
        let Some(missing) = self.missing(size) else { return };
        let memory = async { (Some(front.arriving.take(missing).await), None) };
        let lane = async { (None, Some(front.lane.take(self.began, self.partial()).await)) };
        let (memory, lane) = futures_lite::future::or(memory, lane).await;
        if let Some(memory) = memory {
            self.hold(memory);
        }
        if lane.is_some() {
            // The lane has room for all of the frame.
            self.charge = None;
        }
        self.lane = lane;
    }
}

/// What a buffer of `size` bytes is charged; nothing if it is free.
fn charged(size: usize) -> Option<usize> {
    size.checked_sub(FREE_BYTES).filter(|bytes| *bytes > 0)
}
