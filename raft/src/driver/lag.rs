//! Entries for replicas that lag, or are new: read from segments, and sent no faster than those who write can bear ([`crate::pace`]).

use super::Driver;
use crate::{replica::Replica, storage::Wanted};
use millpond_runtime::{GroupId, Rt};
use std::time::Duration;

/// Entries that are read at a time for a replica that lags, in bytes: others on the same link wait no longer for it.
const LAG_BYTES_MAX: usize = 256 << 10;

impl<R: Rt> Driver<R> {
    /// Reads what a follower lacks, and has Raft send it.
    pub(super) async fn fetch(&self, group: GroupId, wanted: Wanted) {
        let Wanted { low, bytes_max, context } = wanted;
        let read = self.0.log.read_entries(group, low, bytes_max.min(LAG_BYTES_MAX)).await;
        if let Ok(Some(entries)) = &read {
            let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
            let rate = self.0.pace.borrow().of(self.0.config.lag_bytes_per_second);
            let wait = self.0.lag_turns.borrow_mut().wait(self.0.rt.mono(), bytes, rate);
            if wait > 0 {
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
        let (writers, nanos) = replica.tell_applied(self.0.rt.mono(), |index| log.term_of(group, index));
        self.0.pace.borrow_mut().waited(writers, nanos);
    }
}
