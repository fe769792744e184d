//! What the `raft` crate logs, among our own: with the group, the replica and the term that it is about.

use millpond_runtime::GroupId;
use slog::{Drain, KV, Key, Level, Logger, OwnedKVList, Record, Serializer, o};
use std::fmt;

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, replica: &OwnedKVList) -> Result<(), slog::Never> {
        // Fields are looked for only if somebody listens: that is how the macros of tracing are.
        let of = |name| fact(replica, record, name);
        let term = || fact(&record.kv(), record, "term");
        match record.level() {
            Level::Critical | Level::Error => {
                tracing::error!(target: "raft", group = of("group"), replica = of("raft_id"), term = term(), "{}", record.msg());
            }
            Level::Warning => {
                tracing::warn!(target: "raft", group = of("group"), replica = of("raft_id"), term = term(), "{}", record.msg());
            }
            // Elections of thousands of groups are nothing that an operator reads.
            _ => tracing::trace!(target: "raft", group = of("group"), replica = of("raft_id"), term = term(), "{}", record.msg()),
        }
        Ok(())
    }
}

/// A number among what comes with a record.
fn fact(all: &impl KV, record: &Record<'_>, name: &'static str) -> Option<u64> {
    let mut wanted = Wanted { name, found: None };
    // It refuses nothing.
    let _ = all.serialize(record, &mut wanted);
    wanted.found
}

struct Wanted {
    name: &'static str,
    found: Option<u64>,
}

impl Serializer for Wanted {
    fn emit_arguments(&mut self, _: Key, _: &fmt::Arguments<'_>) -> slog::Result {
        Ok(())
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        if key == self.name {
            self.found = Some(value);
        }
        Ok(())
    }
}

/// A logger from which those of all replicas are made.
pub(crate) fn logger() -> Logger {
    Logger::root(ToTracing.fuse(), o!())
}

/// The logger of a replica of this group.
pub(crate) fn of_group(logger: &Logger, group: GroupId) -> Logger {
    logger.new(o!("group" => group.0))
}

#[cfg(test)]
mod tests;
