//! What the `raft` crate logs, among our own.

use slog::{Drain, Level, Logger, OwnedKVList, Record, o};

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", record.msg()),
            Level::Warning => tracing::warn!(target: "raft", "{}", record.msg()),
            // Elections of thousands of groups are nothing that an operator reads.
            _ => tracing::trace!(target: "raft", "{}", record.msg()),
        }
        Ok(())
    }
}

/// A logger for all replicas.
pub(crate) fn logger() -> Logger {
    Logger::root(ToTracing.fuse(), o!())
}
