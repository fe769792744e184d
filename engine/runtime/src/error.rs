//! What the world answers when it refuses.

use std::{io, path::PathBuf};

/// Shorthand for results of the runtime.
pub type Result<T, E = IoError> = std::result::Result<T, E>;

/// A refused operation of disk, net or pool, with what we were doing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// A file operation failed.
    #[error("{doing} {}: {source}", path.display())]
    Disk {
        /// What we were doing, as a verb: "open", "write", "sync".
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A socket operation failed; the connection is of no more use.
    #[error("{doing}: {source}")]
    Net {
        /// What we were doing, as a verb: "send", "connect to 127.0.0.1:7400".
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A position, length or buffer is not a whole number of blocks. Only our own bug does this.
    #[error("{doing} {}: position {position} and length {len} must be whole blocks of {block} bytes", path.display())]
    Unaligned {
        /// "read" or "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Byte position asked for.
        position: u64,
        /// Length in bytes asked for.
        len: usize,
        /// The unit, in bytes.
        block: usize,
    },
    /// A job given to [`crate::Rt::offload`] panicked; its result does not exist.
    #[error("background job {job} panicked: {message}")]
    JobPanicked {
        /// The job's name.
        job: &'static str,
        /// The panic's message.
        message: String,
    },
}

impl IoError {
    /// Whether the disk is full (ENOSPC or EDQUOT): space may come back, nothing is broken.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Disk { source, .. } => matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            _ => false,
        }
    }

    /// Whether a file or directory was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
