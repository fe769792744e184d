//! What is counted: what never happens in a run of many seeds is not tested.

use crate::{cluster::Cluster, many::Sum};
use std::{collections::BTreeMap, fmt::Write as _};

/// What must have happened in a run of at least so many seeds: ten times as many as meet it once.
pub(crate) const MARKS: &[(&str, u64)] = &[
    ("bits changed in journals", 100),
    ("bits changed in segments", 100),
    ("changes of members", 20),
    ("changes of names that a power cut took back", 20),
    ("connections reset", 20),
    ("cores that stood still", 1),
    ("cuts both ways", 40),
    ("cuts one way", 20),
    ("damage that a read found", 100),
    ("damage that harmed nothing at the start", 100),
    ("damage that nobody ever met", 100),
    ("disks exchanged", 20),
    ("elections seen", 1),
    ("empty disks refused", 100),
    ("entries refused for want of room", 200),
    ("file systems that took no changes any more", 1000),
    ("followers that lacked what was gone", 20),
    ("half-open connections found out", 1),
    ("jumps of the wall clock", 1),
    ("kills", 40),
    ("kills at any await", 40),
    ("leaders asked to hand over", 40),
    ("lengths of files that a power cut took back", 200),
    ("links stuck for a while", 1),
    ("misdirected writes that a read found", 500),
    ("misdirected writes that a start found", 200),
    ("misdirected writes that nothing found", 500),
    ("moves of groups", 20),
    ("nodes cut off from all others", 40),
    ("nodes dialled that did not answer", 20),
    ("nodes that ended over a damaged log", 500),
    ("nodes that ended when their disk failed", 40),
    ("nodes that hear nobody", 40),
    ("nodes that nobody hears", 40),
    ("old disks refused", 40),
    ("operations that a disk held up", 1),
    ("pauses of all clients", 20),
    ("pieces of snapshots asked for again", 100),
    ("power cuts", 20),
    ("power cuts at any await", 40),
    ("power cuts one after the other", 40),
    ("reads of segments for followers", 20),
    ("reads that asked the leader", 1),
    ("renames of which a power cut kept both names", 1000),
    ("repeats found out", 20),
    ("replicas begun anew", 25_000),
    ("replicas found damaged", 500),
    ("replicas made anew", 500),
    ("replicas woken for a node that was silent or began anew", 40),
    ("rests of groups", 1),
    ("sectors of journals that cannot be read", 200),
    ("sectors of segments that cannot be read", 200),
    ("sectors torn", 100),
    ("seeds run twice with the same trace", 50),
    ("slow disks", 20),
    ("slow links", 40),
    ("snapshots installed", 20),
    ("snapshots of which nothing came", 100),
    ("snapshots offered", 20),
    ("starts refused over a damaged log", 100),
    ("starts with a clock that runs wrong", 1),
    ("syncs that failed", 100),
    ("terms that committed something", 1),
    ("unsynced writes that a power cut cut short", 100),
    ("unsynced writes that a power cut kept", 40),
    ("unsynced writes that a power cut left in pieces", 40),
    ("unsynced writes that a power cut took back", 40),
    ("writes acknowledged", 1),
    ("writes given up", 100),
    ("writes lost sight of", 20),
    ("writes that failed", 100),
    ("writes that landed elsewhere", 100),
];

/// What the simulator counts, by the names that people read.
const SIMULATED: &[(&str, &str)] = &[
    ("both_names_kept", "renames of which a power cut kept both names"),
    ("conn_reset", "connections reset"),
    ("core_pause", "cores that stood still"),
    ("crash_at_poll", "power cuts at any await"),
    ("dial_unanswered", "nodes dialled that did not answer"),
    ("disk_slow", "slow disks"),
    ("disk_stall", "operations that a disk held up"),
    ("file_system_read_only", "file systems that took no changes any more"),
    ("kill_at_poll", "kills at any await"),
    ("length_lost", "lengths of files that a power cut took back"),
    ("link_clog", "links stuck for a while"),
    ("link_slow", "slow links"),
    ("misdirected_write", "writes that landed elsewhere"),
    ("mono_drift", "starts with a clock that runs wrong"),
    ("name_change_lost", "changes of names that a power cut took back"),
    ("reset_by_absent_peer", "half-open connections found out"),
    ("sector_torn", "sectors torn"),
    ("sync_error", "syncs that failed"),
    ("unsynced_write_cut", "unsynced writes that a power cut cut short"),
    ("unsynced_write_kept", "unsynced writes that a power cut kept"),
    ("unsynced_write_lost", "unsynced writes that a power cut took back"),
    ("unsynced_write_mixed", "unsynced writes that a power cut left in pieces"),
    ("wall_jump", "jumps of the wall clock"),
    ("write_error", "writes that failed"),
];

/// All that was counted in a run.
pub(crate) fn of(cluster: &Cluster) -> BTreeMap<&'static str, u64> {
    let book = &cluster.book;
    let counters = *book.counters.borrow();
    book.add("writes acknowledged", book.acked.borrow().len() as u64);
    book.add("reads of segments for followers", counters.lag_reads);
    book.add("followers that lacked what was gone", counters.lag_gone);
    book.add("replicas begun anew", counters.begun_anew);
    book.add("entries refused for want of room", counters.refused);
    book.add("changes of members", counters.changes);
    book.add("elections seen", counters.elections);
    book.add("rests of groups", counters.rests);
    book.add("reads by a lease", counters.lease_reads);
    book.add("replicas woken for a node that was silent or began anew", counters.woken);
    book.add("snapshots offered", counters.snapshots_offered);
    book.add("snapshots installed", counters.snapshots_installed);
    book.add("pieces of snapshots asked for again", counters.snapshots_resumed);
    book.add("snapshots of which nothing came", counters.snapshots_failed);
    let simulated = cluster.sim.coverage();
    for (name, mark) in SIMULATED {
        book.add(mark, simulated.get(name).copied().unwrap_or(0));
    }
    book.marks()
}

/// Marks that a run of so many seeds should have met.
pub(crate) fn missing(sum: &Sum) -> Vec<&'static str> {
    let never = |(mark, within): &&(&'static str, u64)| sum.seeds >= *within && !sum.marks.contains_key(mark);
    MARKS.iter().filter(never).map(|(mark, _)| *mark).collect()
}

/// The coverage table, in Markdown.
pub(crate) fn table(sum: &Sum) -> String {
    let mut out = String::new();
    let nodes: Vec<String> = sum
        .shapes
        .iter()
        .map(|((nodes, homes), n)| format!("{n} of {nodes} nodes with {homes} core{}", if *homes == 1 { "" } else { "s" }))
        .collect();
    let _ = writeln!(
        out,
        "{} seeds from {} on, {:.1} hours of the clusters' time; {}.\n",
        sum.seeds,
        sum.first,
        sum.elapsed.as_secs_f64() / 3600.0,
        nodes.join(", ")
    );
    let _ = writeln!(out, "| what | times | in runs |\n|---|---:|---:|");
    for (mark, (times, runs)) in &sum.marks {
        let _ = writeln!(out, "| {mark} | {times} | {runs} |");
    }
    out
}

/// Puts the table between its markers in a text that has them, or in the place of it all.
pub(crate) fn into_text(text: &str, table: &str) -> String {
    const BEGIN: &str = "<!-- table: written by the run -->";
    const END: &str = "<!-- end of table -->";
    match text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1))) {
        Some((before, after)) => format!("{before}{BEGIN}\n{table}{END}{after}"),
        None => table.to_owned(),
    }
}

#[test]
fn the_table_takes_its_place_between_the_markers() {
    let text = "before\n<!-- table: written by the run -->\nold\n<!-- end of table -->\nafter\n";
    let new = into_text(text, "new\n");
    assert_eq!(new, text.replace("old", "new"));
    assert_eq!(into_text("other", "new\n"), "new\n");
}
