//! Entries for replicas that lag, or are new: read from segments, or from memory where they lack more than a piece, and sent no faster than those who write can bear ([`crate::pace`]), but for those that would
//! never get there so ([`Progress`]), and for the last piece.

use super::Driver;
use crate::{replica::Replica, storage::Wanted};
use millpond_runtime::{GroupId, Index, Rt};
use std::{collections::VecDeque, time::Duration};

/// Entries that are read at a time for a replica that lags, in bytes: others on the same link wait no longer for it.
pub(crate) const LAG_BYTES_MAX: usize = 256 << 10;

/// Followers of one group that lag at once, and of which it is known whether they gain.
const FOLLOWERS_MAX: usize = 8;

/// Which of those that lag come nearer to the end of the log. One that is sent less than is written meanwhile would never get there.
#[derive(Debug, Default)]
pub(crate) struct Progress(VecDeque<Sent>);

/// What one was sent last.
#[derive(Debug)]
struct Sent {
    /// The entry behind that.
    next: Index,
    entries: u64,
    /// The last entry of the log at that time.
    last: Index,
}

impl Progress {
    /// So many entries from `low` on are to be sent, and the log ends with `last`. Whether that follower gains: since its last piece, less than three quarters
    /// as much was written as that had; true for one that is new here.
    pub(crate) fn gains(&mut self, low: Index, entries: u64, last: Index) -> bool {
        let before = self.0.iter().position(|sent| sent.next == low).and_then(|at| self.0.remove(at));
        if self.0.len() >= FOLLOWERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Sent { next: Index(low.0 + entries), entries, last });
        before.is_none_or(|before| last.0.saturating_sub(before.last.0).saturating_mul(4) < before.entries.saturating_mul(3))
    }
}

impl<R: Rt> Driver<R> {
    /// Reads what a follower lacks, and has Raft send it.
    pub(super) async fn fetch(&self, group: GroupId, wanted: Wanted) {
        let Wanted { low, bytes_max, context } = wanted;
        let read = self.0.log.read_entries(group, low, bytes_max.min(LAG_BYTES_MAX)).await;
        if let Ok(Some(entries)) = &read {
            let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
            let rate = self.0.pace.borrow_mut().of(self.0.config.lag_bytes_per_second);
            let wait = self.0.lag_turns.borrow_mut().wait(self.0.rt.mono(), bytes, rate);
            let last = self.0.log.end_of(group).map_or(low, |(last, _)| last);
            let gains = self.with(group, |replica| replica.raw.store().gains(low, entries.len() as u64, last)).unwrap_or(true);
            // With the last piece it has all there is, and may be about to vote, or vote already: whoever writes may wait for it.
            let is_last = low.0 + entries.len() as u64 > last.0;
            if wait > 0 && gains && !is_last {
                self.0.rt.sleep(Duration::from_nanos(wait)).await;
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

    /// Tells those whose entry is applied what has become of it.
    pub(super) fn tell_applied(&self, replica: &mut Replica<R>) {
        let (log, group) = (&self.0.log, replica.group);
        let mut pace = self.0.pace.borrow_mut();
        replica.tell_applied(self.0.rt.mono(), |index| log.term_of(group, index), |nanos| pace.waited(nanos));
    }
}

#[cfg(test)]
mod tests;
