//! Limits of the process: locked memory and open files.

use super::{Check, bytes_text};
use crate::{
    placement::{Placement, Wanted},
    sys::{self, Limit},
    topology::Topology,
};

/// What the ring of a core takes, in bytes. Kernels since 5.12 do not count it as locked memory; some that were patched do.
const RING_BYTES: u64 = 512 * 1024;
/// Files below which a node cannot work.
const FILES_MIN: u64 = 1024;
/// Files that a node with some thousands of clients and segments wants.
const FILES_GOOD: u64 = 65_536;

pub(super) fn checks(topology: &Topology) -> Vec<Check> {
    let cores = Placement::plan(topology, Wanted::All, false).map_or(1, |plan| plan.spots.len());
    vec![memlock(sys::memlock(), cores), files(sys::open_files())]
}

pub(super) fn memlock(limit: Limit, cores: usize) -> Check {
    const NAME: &str = "locked memory";
    if limit.soft == u64::MAX {
        return Check::ok(NAME, "no limit");
    }
    let found = bytes_text(limit.soft);
    let good = RING_BYTES * cores as u64;
    if limit.soft >= good {
        return Check::ok(NAME, found);
    }
    let mib = good.div_ceil(1024 * 1024);
    let raise = format!("`ulimit -l {}`, LimitMEMLOCK={mib}M in the unit, or --ulimit memlock={} for a container", mib * 1024, mib << 20);
    Check::hint(NAME, format!("{found} for {cores} cores"), format!("should a core fail to start for want of memory, raise it: {raise}"))
}

pub(super) fn files(limit: Limit) -> Check {
    const NAME: &str = "open files";
    const RAISE: &str =
        "raise the hard limit: `ulimit -Hn 1048576` as root, LimitNOFILE=1048576 in the unit, or --ulimit nofile=1048576 for a container";
    let found = if limit.hard == u64::MAX { "no limit".to_owned() } else { format!("{} (the hard limit, taken at start)", limit.hard) };
    if limit.hard < FILES_MIN {
        Check::fail(NAME, found, format!("{RAISE}; at least {FILES_MIN} are needed"))
    } else if limit.hard < FILES_GOOD {
        Check::warn(NAME, found, format!("{RAISE}; each connection and each open segment takes one"))
    } else {
        Check::ok(NAME, found)
    }
}
