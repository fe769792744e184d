//! What the log answers when it refuses: facts as fields, words for people, advice for whoever is paged.

use millpond_runtime::{GroupId, IoError, Offset};
use std::path::PathBuf;

/// Shorthand for results of the log.
pub type Result<T, E = LogError> = std::result::Result<T, E>;

/// A refusal of the log. Nothing that was refused has taken effect, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The group does not live in this journal home.
    #[error("group {group} does not live in this journal")]
    UnknownGroup {
        /// The group asked for.
        group: GroupId,
    },
    /// A group of this id exists, or once existed: ids are never reused.
    #[error("group {group} exists already")]
    GroupExists {
        /// The group that was to be created.
        group: GroupId,
    },
    /// The offset is outside what the group retains and has synced.
    #[error("offset {asked} of group {group} is outside {start}..={end}")]
    OffsetOutOfRange {
        /// The group asked for.
        group: GroupId,
        /// First offset that is retained.
        start: Offset,
        /// Offset after the last one that is synced: a reader may wait there.
        end: Offset,
        /// The offset asked for.
        asked: Offset,
    },
    /// A producer's batch does not follow the last one of it: something between was lost, or came out of order.
    #[error("producer {producer_id} sent sequence {found}, expected {expected}")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// The sequence that would have followed.
        expected: i32,
        /// The base sequence of the batch.
        found: i32,
    },
    /// A newer incarnation of the producer has written.
    #[error("producer {producer_id} of epoch {found} is fenced by epoch {current}")]
    ProducerFenced {
        /// The producer.
        producer_id: i64,
        /// The newest epoch that has written.
        current: i16,
        /// The epoch of the batch.
        found: i16,
    },
    /// A batch whose sequence was seen, but so long ago that its offset is forgotten. It has taken effect.
    #[error("producer {producer_id} repeats sequence {found}, which is older than the remembered window")]
    DuplicateForgotten {
        /// The producer.
        producer_id: i64,
        /// The base sequence of the batch.
        found: i32,
    },
    /// The bytes given to append are not what the caller's header says, or are larger than the journal can take.
    #[error("the batch cannot be appended: {what}")]
    BadBatch {
        /// What is wrong with it.
        what: String,
    },
    /// The file system has less left than the reserve: appends are refused until space is back, reads go on.
    #[error("the disk of {} has {free} bytes left, the reserve is {reserve}", dir.display())]
    DiskFull {
        /// The journal home.
        dir: PathBuf,
        /// Bytes free when last looked at.
        free: u64,
        /// Bytes that are kept free for settling and deletion.
        reserve: u64,
    },
    /// Memory of the tail or files of the journal are used up for the moment; settling makes room.
    #[error("no room in the {what} for the moment: {used} of {bound} bytes in use")]
    Full {
        /// "tail" or "journal".
        what: &'static str,
        /// Bytes in use.
        used: u64,
        /// The bound, in bytes.
        bound: u64,
    },
    /// A group of this number was dropped, and its files are still being deleted.
    #[error("what was here of group {group} is still being deleted")]
    Dropping {
        /// The group.
        group: GroupId,
    },
    /// Raft asks for what cannot be: a mistake of ours. The group goes no further.
    #[error("group {group}: {what}")]
    Replica {
        /// The group.
        group: GroupId,
        /// What was asked for.
        what: String,
    },
    /// Bytes on disk are not what we wrote and synced. Nothing was truncated or skipped.
    #[error("{} is damaged at byte {position} ({len} bytes): {what}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// First damaged byte.
        position: u64,
        /// Bytes that cannot be trusted.
        len: u64,
        /// What was found and what was expected.
        what: String,
    },
    /// A replica's segments are damaged, or a read has just met what seems so: others have what it lacks.
    #[error("the replica of group {group} here is damaged: {what}")]
    Damaged {
        /// The group.
        group: GroupId,
        /// What was found first.
        what: String,
    },
    /// The file or home belongs to something else: another node, another core, a format from the future.
    #[error("{} is not ours: {what}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What was found and what was expected.
        what: String,
    },
    /// The configuration cannot work.
    #[error("log configuration: {what}")]
    Config {
        /// Which settings contradict each other.
        what: String,
    },
    /// The journal has stopped: a write or sync failed, or it was closed. Whether the last appends last is unknown.
    #[error("the journal has stopped: {why}")]
    Stopped {
        /// Why.
        why: String,
    },
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl LogError {
    /// What to do about it, in a sentence.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::UnknownGroup { .. } => "refresh the metadata: the partition was deleted or lives elsewhere",
            Self::GroupExists { .. } => "ask for a fresh group id",
            Self::OffsetOutOfRange { .. } => "seek to an offset inside the range, or to the earliest or latest",
            Self::OutOfOrderSequence { .. } => {
                "the producer lost a batch or sends out of order: resend from the expected sequence, or start a new producer"
            }
            Self::ProducerFenced { .. } => "another instance of this producer took over: stop this one",
            Self::DuplicateForgotten { .. } => "the batch was written earlier: do not send it again",
            Self::BadBatch { .. } => "fix the request: this batch will be refused again",
            Self::DiskFull { .. } => "free space on the data directory's file system, or shorten retention; appends resume by themselves",
            Self::Dropping { .. } => "retry after a short wait",
            Self::Full { .. } => "retry after a short wait; if it lasts, the disk is slower than the producers",
            Self::Replica { .. } => "report this as a bug, with the log of the node",
            Self::Corrupt { .. } => {
                "do not delete anything: run `millpond inspect` on the file, and restore it from a copy if there is one"
            }
            Self::Damaged { .. } => {
                "retry: another replica takes over, and this one is made anew; `millpond cluster health` names partitions that wait for that"
            }
            Self::Foreign { .. } => "check that the data directory belongs to this node and this version of millpond",
            Self::Config { .. } => "fix the settings that the message names",
            Self::Stopped { .. } => "the node restarts from what is on disk; check the disk's health first",
            Self::Io(error) if error.is_disk_full() => "free space on the data directory's file system",
            Self::Io(_) => "check the disk and the permissions of the data directory",
        }
    }

    /// Whether the same request may succeed later without anybody changing it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Full { .. } | Self::Dropping { .. } | Self::Stopped { .. })
    }

    /// Whether bytes that were synced once cannot be had any more, or not as they were.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Damaged { .. } => true,
            Self::Io(error) => !error.is_not_found() && !error.is_disk_full(),
            _ => false,
        }
    }
}
