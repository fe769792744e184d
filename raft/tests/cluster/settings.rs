//! How all nodes of a run are set up.

use millpond_log::{GroupConfig, LogConfig};
use millpond_raft::RaftConfig;
use millpond_runtime::sim::Draw;
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) log: LogConfig,
    pub(crate) raft: RaftConfig,
    pub(crate) group: GroupConfig,
    /// Homes of each node: each is a log of its own, with a driver and links of its own, on a core of its own.
    pub(crate) homes: u16,
    /// Whoever sends or reads waits up to so many times the shortest pause in between.
    pub(crate) patience: u64,
    /// A replica trims its log once in so many times that it is looked at; 0 never.
    pub(crate) trim_once_in: u64,
}

impl Settings {
    /// Little memory and few files as often as not, so that followers lack what their leader has in segments alone.
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let log = LogConfig {
            journal_file_bytes: 512 << 10,
            journal_files_max: 6 + 10 * draw.below(2) as usize,
            flush_bytes_max: 128 << 10,
            unsynced_bytes_max: 256 << 10,
            tail_bytes_max: (512 << 10) << (2 * draw.below(3)),
            settle_bytes: (8 << 10) << draw.below(5),
            settle_run_bytes_max: (16 << 10) << draw.below(4),
            compression_level: draw.below(2) as i32,
            trash_step_bytes: 8 << 10,
            disk_reserve_bytes: 0,
            mark_after: Duration::from_micros(500),
            maintain_every: Duration::from_millis(500),
            ..LogConfig::default()
        };
        let raft = RaftConfig {
            seed: draw.below(1 << 40),
            message_bytes_max: (4 << 10) << (2 * draw.below(3)),
            messages_in_flight_max: 2 + 30 * draw.below(2) as usize,
            uncommitted_bytes_max: 128 << 10,
            queue_bytes_max: 256 << 10,
            quiet_ticks: 2 + draw.below(8) as usize,
            snapshots_max: 1 + draw.below(3) as usize,
            snapshot_piece_bytes: 4096 << draw.below(6),
            snapshot_bytes_per_second: (64 << 10) << (4 * draw.below(3)),
            snapshot_patience_ticks: 40 + draw.below(60) as usize,
            ..RaftConfig::default()
        };
        // Not drawn, so that the rest of a schedule stays as it was.
        let raft = RaftConfig { prompt_below: if raft.seed.is_multiple_of(4) { 16 } else { 0 }, ..raft };
        // Clocks in the simulator run wrong by up to 5 hundredths either way.
        let raft = RaftConfig { lease_drift_percent: raft.seed.is_multiple_of(3).then_some(11), ..raft };
        let group = GroupConfig {
            retention_ms: None,
            producer_expiry_ms: u64::MAX,
            segment_bytes: (8 << 10) << (2 * draw.below(5)),
            compact: draw.one_in(4),
            ..GroupConfig::default()
        };
        Self { log, raft, group, homes: 1 + draw.below(2) as u16, patience: 1 << draw.below(4), trim_once_in: draw.any(&[0, 20, 100, 400]) }
    }
}
