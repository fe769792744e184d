//! Turns for the reads of a home: enough at once to keep a fast disk busy, and one at a time while the journal is being written, since a
//! flush waits behind every read that the disk has been given before it.

use millpond_runtime::{Nanos, Rt};
use std::cell::Cell;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Reads that a home has under way at once, of [`READ_BYTES_MAX`](super::file::READ_BYTES_MAX) each.
const TURNS: u32 = 8;
/// So long after a flush, in ns, reads make way for the next one.
const MAKE_WAY_FOR: Nanos = 20_000_000;

/// See the module.
pub(crate) struct Lane<R> {
    rt: R,
    turns: Semaphore,
    /// Until when reads make way.
    makes_way: Cell<Nanos>,
}

/// A read may be under way while this lives.
pub(super) type Turn<'a> = SemaphorePermit<'a>;

impl<R: Rt> Lane<R> {
    /// All turns are free.
    pub(super) fn new(rt: R) -> Self {
        Self { rt, turns: Semaphore::new(TURNS as usize), makes_way: Cell::new(0) }
    }

    /// The journal is written now.
    pub(crate) fn make_way(&self) {
        self.makes_way.set(self.rt.mono() + MAKE_WAY_FOR);
    }

    /// Waits for a turn, in the order of asking.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let turns = if self.rt.mono() < self.makes_way.get() { TURNS } else { 1 };
        self.turns.acquire_many(turns).await.expect("nobody closes a lane")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::poll_once;
    use millpond_runtime::{
        NodeId,
        sim::{Sim, SimRt},
    };
    use std::time::Duration;

    #[test]
    fn reads_go_side_by_side_but_one_by_one_while_the_journal_is_written() {
        let reads = |rt: SimRt| async move {
            let lane = Lane::new(rt.clone());
            let mut turns = Vec::new();
            while let Some(turn) = poll_once(lane.turn()).await {
                turns.push(turn);
            }
            assert_eq!(turns.len(), TURNS as usize);
            turns.clear();
            lane.make_way();
            let alone = lane.turn().await;
            assert!(poll_once(lane.turn()).await.is_none(), "another one is under way");
            drop(alone);
            rt.sleep(Duration::from_nanos(MAKE_WAY_FOR)).await;
            let both = (lane.turn().await, lane.turn().await);
            drop(both);
        };
        Sim::new(1).block_on(NodeId(1), reads).expect("the simulation ends well");
    }
}
