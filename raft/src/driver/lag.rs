//! Entries for replicas that lag, or are new: read from segments, or from memory where they lack more than a piece, and sent no faster than those who write can
//! bear ([`crate::pace`]), but for those that would never get there so ([`Progress`]), and for the last piece.

use super::Driver;
use crate::{replica::Replica, storage::Wanted};
use millpond_runtime::{GroupId, Index, Nanos, Rt};
use std::{collections::VecDeque, time::Duration};

/// Entries that are read at a time for a replica that lags, in bytes: others on the same link wait no longer for it.
pub(crate) const LAG_BYTES_MAX: usize = 256 << 10;

/// Followers of one group that lag at once, and of which it is known whether they gain.
const FOLLOWERS_MAX: usize = 8;

/// For so long is looked what one is sent, and what is written meanwhile.
const LOOKED_AT: Nanos = 1_000_000_000;

/// Which of those that lag come nearer to the end of the log, if they are held back. One that is sent less than is written meanwhile would never get there.
#[derive(Debug, Default)]
pub(crate) struct Progress(VecDeque<Sent>);

/// What one was sent lately.
#[derive(Debug)]
struct Sent {
    /// The entry behind that.
    next: Index,
    /// From when on.
    since: Nanos,
    bytes: u64,
    /// Bytes that had been written until then.
    written: u64,
    /// What it was sent in a thousand seconds while it was held back, if that was too little: since then it is not.
    too_little: Option<u64>,
}

impl Progress {
    /// So many entries and bytes from `low` on are to be sent now, and `written` bytes have been written so far. Whether that follower gains if it is held back: in the last
    /// second in which it was, less than three quarters as much was written as it was sent, or less is now than that; true for one that is new here. In bytes, since entries of
    /// one time may be a hundred times as long as those of another.
    pub(crate) fn gains(&mut self, now: Nanos, (low, entries): (Index, u64), bytes: u64, written: u64) -> bool {
        let before = self.0.iter().position(|sent| sent.next == low).and_then(|at| self.0.remove(at));
        let mut sent = before.unwrap_or(Sent { next: low, since: now, bytes: 0, written, too_little: None });
        let took = now.saturating_sub(sent.since);
        if took >= LOOKED_AT {
            let rate = |n: u64| (u128::from(n) * u128::from(1_000 * LOOKED_AT) / u128::from(took)) as u64;
            let (had, came) = (rate(sent.bytes), rate(written.saturating_sub(sent.written)));
            let held_back = sent.too_little.unwrap_or(had);
            sent.too_little = (came.saturating_mul(4) >= held_back.saturating_mul(3)).then_some(held_back);
            (sent.since, sent.bytes, sent.written) = (now, 0, written);
        }
        (sent.next, sent.bytes) = (Index(low.0 + entries), sent.bytes + bytes);
        let gains = sent.too_little.is_none();
        if self.0.len() >= FOLLOWERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sent);
        gains
    }
}

impl<R: Rt> Driver<R> {
    /// Reads what a follower lacks, and has Raft send it.
    pub(super) async fn fetch(&self, group: GroupId, wanted: Wanted) {
        let Wanted { low, bytes_max, context } = wanted;
        let read = self.0.log.read_entries(group, low, bytes_max.min(LAG_BYTES_MAX)).await;
        if let Ok(Some(entries)) = &read {
            let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
            let last = self.0.log.end_of(group).map_or(low, |(last, _)| last);
            let now = self.0.rt.mono();
            let piece = (low, entries.len() as u64);
            let gains = self.with(group, |replica| replica.raw.store().gains(now, piece, bytes as u64, replica.put_bytes)).unwrap_or(true);
            // With the last piece it has all there is, and may be about to vote, or vote already: whoever writes may wait for it.
            let is_last = low.0 + entries.len() as u64 > last.0;
            if gains && !is_last {
                self.wait_lag_turn(bytes).await;
            }
        }
        self.count(|c| {
            c.lag_reads += 1;
            c.lag_gone += u64::from(matches!(read, Ok(None)));
        });
        self.with(group, |replica| {
            match read {
                Ok(entries) => {
                    replica.raw.store().fetched(low, entries);
                    replica.ask(|raw| raw.on_entries_fetched(context));
                }
                // The follower asks again by being behind.
                Err(error) => {
                    let term = replica.term().0;
                    tracing::warn!(group = group.0, term, entry = low.0, %error, "what a follower lacks cannot be read");
                }
            }
            replica.raw.store().forget(low);
        });
    }

    /// Waits until so many bytes may leave: in the order of asking, and at the rates of the time in which they wait. What does not wait is no debt of those that do.
    async fn wait_lag_turn(&self, bytes: usize) {
        let _first = self.0.lag_order.lock().await;
        loop {
            let rate = self.0.pace.borrow_mut().of(self.0.config.lag_bytes_per_second);
            let wait = self.0.lag_turns.borrow_mut().left(self.0.rt.mono(), rate);
            if wait == 0 {
                return self.0.lag_turns.borrow_mut().take(bytes);
            }
            self.0.rt.sleep(Duration::from_nanos(wait).min(self.0.config.tick)).await;
        }
    }

    /// Tells those whose entry is applied what has become of it.
    pub(super) fn tell_applied(&self, replica: &mut Replica<R>) {
        let (log, group) = (&self.0.log, replica.group);
        let mut pace = self.0.pace.borrow_mut();
        replica.tell_applied(self.0.rt.mono(), |index| log.term_of(group, index), |nanos| pace.waited(nanos));
    }
}

#[cfg(test)]
mod tests;
