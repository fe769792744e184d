//! What may go wrong in a simulation, beyond what always may.
//!
//! Always, without any plan: a crash keeps, drops or tears what was not synced; tasks run in any order; streams
//! arrive in pieces of any size. Those are no faults but the contract of [`crate::rt`]. The plan adds what breaks a
//! promise of the hardware. Whatever happens is counted in [`super::Sim::coverage`] under the name in the field's text.

use std::time::Duration;

/// Probabilities of faults, each between 0 (never) and 1 (always).
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// Of each read: one of its sectors goes bad, `read_error`. It answers EIO until it is written again.
    pub read_error: f64,
    /// Of each write: answers EIO and leaves any mixture of old and new sectors, `write_error`.
    pub write_error: f64,
    /// Of each sync of a file: answers EIO and drops what was dirty; the next one succeeds, `sync_error`. Of each sync of a
    /// directory: answers EIO, and either the next one covers its changes or nothing can be changed any more before
    /// the file system is mounted anew, `sync_error` and then `file_system_read_only`.
    pub sync_error: f64,
    /// Of each write: it lands some blocks before or behind, and answers success, `misdirected_write`.
    pub misdirected_write: f64,
    /// Of each disk operation: it takes up to ten seconds, `disk_stall`.
    pub disk_stall: f64,
    /// Of each crash: one bit of a stable file flips, `bit_rot`.
    pub bit_rot: f64,
    /// Of each crash: a synced name vanishes, `lost_name`.
    pub lost_name: f64,
    /// Of each question for the wall time: it has jumped by up to an hour either way, `wall_jump`.
    pub wall_jump: f64,
    /// The monotonic clock of a node goes wrong by up to this fraction either way, drawn at each start, `mono_drift`.
    pub mono_drift: f64,
    /// Of each poll: the core stands still for up to 100 ms first, `core_pause`.
    pub core_pause: f64,
    /// Of each piece put on a stream: the connection is reset, `conn_reset`.
    pub conn_reset: f64,
    /// Of each piece put on a stream: its link is clogged for up to two seconds, `link_clog`.
    pub link_clog: f64,
    /// Of each piece put on a stream: one bit flips on the way, `stream_bit_flip`.
    pub stream_bit_flip: f64,
}

impl FaultPlan {
    /// Nothing beyond what always may happen.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What a correct node lives through without an operator: slow disks, crooked clocks, stuck cores, bad links.
    #[must_use]
    pub fn survivable() -> Self {
        Self {
            disk_stall: 0.001,
            wall_jump: 0.01,
            mono_drift: 0.05,
            core_pause: 0.0005,
            conn_reset: 0.0005,
            link_clog: 0.002,
            ..Self::default()
        }
    }

    /// Everything at once: a node may halt, but must not lie.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            read_error: 0.002,
            write_error: 0.002,
            sync_error: 0.002,
            misdirected_write: 0.001,
            bit_rot: 0.2,
            lost_name: 0.05,
            stream_bit_flip: 0.0005,
            ..Self::survivable()
        }
    }
}

/// One disk fault that a test asks for: the next fitting operation meets it, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// A sector of the next read goes bad (EIO until it is written again).
    ReadError,
    /// The next write fails with EIO and leaves any mixture of old and new sectors.
    WriteError,
    /// The next sync fails with EIO: of a file, it drops what was dirty; of a directory, see [`FaultPlan::sync_error`].
    SyncError,
    /// The next sync of a directory fails with EIO; its changes are still seen, and no later sync covers them. No file system
    /// that we know does so; what knows an old name for what it is lives through it.
    NamesGivenUp,
    /// The next write fails with ENOSPC.
    NoSpace,
    /// The next write lands this many blocks away; never before block 0.
    Misdirected {
        /// Blocks; negative: nearer to the beginning.
        blocks: i64,
    },
    /// The next operation takes this much longer.
    Stall(Duration),
}

/// The operations that a [`DiskFault`] may fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskOp {
    Read,
    Write,
    Sync,
    Name,
}

impl DiskFault {
    pub(super) fn fits(self, op: DiskOp) -> bool {
        match self {
            Self::ReadError => op == DiskOp::Read,
            Self::WriteError | Self::NoSpace | Self::Misdirected { .. } => op == DiskOp::Write,
            Self::SyncError | Self::NamesGivenUp => op == DiskOp::Sync,
            Self::Stall(_) => true,
        }
    }
}
