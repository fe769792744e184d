//! Reading: what is open, kept and read ahead, and blocks that lie.

use super::*;
use crate::segment::{chunk::check_entries, file::unpack_checked, format::BlockHeader};

fn wide() -> GroupConfig {
    GroupConfig { segment_bytes: 3 << 20, ..GroupConfig::default() }
}

/// Entries that do not compress, so that blocks are many.
fn noise(base: u64, count: u64) -> Vec<Entry> {
    let value = |n: u64| (0..3000_u64).map(|i| (n.wrapping_mul(i.wrapping_mul(0x9e37_79b9)) >> 7) as u8).collect::<Vec<u8>>();
    let entry = |n: u64| Entry {
        index: Index(n + 1),
        term: Term(1),
        kind: EntryKind::Batch,
        base_offset: Offset(n),
        payload: batch(n, &[(n as i64, None, Some(&value(n)))]),
    };
    (base..base + count).map(entry).collect()
}

/// A replay of several segments, in reads of any size, gives every record once; blocks are read ahead, within bounds, and
/// nothing of that is left once it has been fetched.
#[test]
fn a_replay_reads_ahead_and_misses_nothing() {
    for bytes_max in [1, 5_000, 200_000, 1 << 20, 5 << 20] {
        on_sim(move |rt| async move {
            rt.create_dir_all("/groups".as_ref()).await.expect("create");
            rt.sync_dir("/".as_ref()).await.expect("sync");
            let cache = 8 << 20;
            let handles = Rc::new(Handles::new(rt.clone(), trash(&rt), 4, cache));
            let group = GroupSegments::new(handles, PathBuf::from("/groups/7"), GROUP);
            let mut mark = None;
            for run in 0..10 {
                mark = Some(group.append(noise(run * 200, 200), Offset((run + 1) * 200), &wide(), 0, 10_000).await.expect("append"));
            }
            assert!(!group.sealed().is_empty() && mark.is_some());
            let (mut at, mut most) = (Offset(0), 0);
            while at < Offset(2000) {
                let out = group.read(at, ReadLimits { bytes_max, end: Offset(2000) }).await.expect("read");
                assert_eq!(offsets(&out), (at.0..out.next.0).collect::<Vec<_>>());
                assert!(out.next > at);
                at = out.next;
                let (open, bytes) = group.handles().used();
                assert!(open <= 4 && bytes <= cache);
                most = most.max(group.handles().ahead_bytes());
            }
            assert!(most > 0, "nothing was read ahead in reads of {bytes_max} bytes");
            assert_eq!(group.handles().ahead_bytes(), 0, "what was read ahead was fetched");
        });
    }
}

/// Readers at random places are no replay.
#[test]
fn reads_here_and_there_read_nothing_ahead() {
    on_sim(|rt| async move {
        rt.create_dir_all("/groups".as_ref()).await.expect("create");
        rt.sync_dir("/".as_ref()).await.expect("sync");
        let group = GroupSegments::new(Rc::new(Handles::new(rt.clone(), trash(&rt), 4, 8 << 20)), PathBuf::from("/groups/7"), GROUP);
        group.append(noise(0, 600), Offset(600), &wide(), 0, 10_000).await.expect("append");
        for from in [500, 300, 100, 400, 200] {
            let out = group.read(Offset(from), ReadLimits { bytes_max: 1, end: Offset(600) }).await.expect("read");
            assert_eq!(offsets(&out), [from]);
            assert_eq!(group.handles().ahead_bytes(), 0);
        }
    });
}

/// Many groups, all appending and read in turn, never have more files open than allowed; nor does the cache outgrow its budget.
#[test]
fn many_groups_share_few_files() {
    on_sim(|rt| async move {
        rt.create_dir_all("/groups".as_ref()).await.expect("create");
        rt.sync_dir("/".as_ref()).await.expect("sync");
        let handles = Rc::new(Handles::new(rt.clone(), trash(&rt), 5, 64 * 1024));
        let groups: Vec<_> =
            (0..60).map(|n| GroupSegments::new(handles.clone(), PathBuf::from(format!("/groups/{n}")), GroupId(n))).collect();
        for run in 0..3 {
            for group in &groups {
                group
                    .append(some(run * 10, 10, 100), Offset(run * 10 + 10), &GroupConfig { segment_bytes: 1, ..small() }, 1, 10_000)
                    .await
                    .expect("append");
                assert!(handles.used().0 <= 5);
            }
        }
        for group in &groups {
            assert_eq!(group.sealed().len(), 2);
            assert_eq!(offsets(&group.read(Offset(0), ALL).await.expect("read")), (0..30).collect::<Vec<_>>());
            let (open, bytes) = handles.used();
            assert!(open <= 5 && bytes <= 64 * 1024, "{open} files, {bytes} bytes");
        }
    });
}

/// A block may have a right checksum and be wrong all the same: our own bug, or somebody's work. It is told, not skipped.
#[test]
fn blocks_that_lie_are_refused() {
    let entries = some(0, 4, 50);
    let chunk = encode_chunk(&entries, Offset(4), ChunkOptions { group: GROUP, position: 4096, level: 0 }, &[]);
    let (header, data) = format::check_block(GROUP, 4096, &chunk.bytes).expect("sound");
    let raw = Bytes::copy_from_slice(data);
    check_entries(&header, &raw).expect("sound");
    let of_next = |next| BlockHeader { next_offset: Offset(next), ..header };
    assert!(check_entries(&BlockHeader { count: 5, ..header }, &raw).is_err());
    assert!(check_entries(&of_next(3), &raw).is_err());
    assert!(check_entries(&BlockHeader { first_offset: Offset(1), ..header }, &raw).is_err());
    assert!(check_entries(&header, &raw.slice(..raw.len() - 1)).is_err());
    let mut twice = raw.to_vec();
    twice.extend_from_slice(&raw);
    assert!(check_entries(&BlockHeader { count: 8, ..of_next(100) }, &Bytes::from(twice)).is_err(), "offsets that go back");
    let index = chunk.index[0];
    let whole = Bytes::copy_from_slice(&chunk.bytes[..index.len as usize]);
    unpack_checked(GROUP, &index, &whole).expect("sound");
    let lied = BlockIndex { max_timestamp: 0, ..index };
    assert!(unpack_checked(GROUP, &lied, &whole).is_err());
}

/// Every byte of a small sealed segment and of a growing one: flipped, it is told, or it was padding that nobody reads.
#[test]
fn every_byte_is_guarded() {
    let sim = Sim::new(9);
    let mark = sim
        .block_on(NODE, |rt| async move {
            let config = GroupConfig { segment_bytes: 1, ..small() };
            rt.create_dir_all("/groups".as_ref()).await.expect("create");
            rt.sync_dir("/".as_ref()).await.expect("sync");
            let group = fresh(&rt);
            group.append(some(0, 3, 40), Offset(3), &config, 0, 10_000).await.expect("append");
            group.append(some(3, 3, 40), Offset(6), &config, 0, 10_000).await.expect("append")
        })
        .expect("the simulation ends well");
    let disk = sim.node(NODE).disk();
    let (mut told, mut silent) = (0, 0);
    for (path, len) in disk.files() {
        let counts = if path.to_string_lossy().contains(&mark.name.to_string()) { mark.position } else { len };
        for position in 0..counts {
            let damaged = path.clone();
            disk.flip(&damaged, position, 1 << (position % 8)).expect("flip");
            let outcome = sim
                .block_on(NODE, move |rt| async move { reopen(&rt, mark, 0).await?.read(Offset(0), ALL).await })
                .expect("the simulation ends well");
            disk.flip(&damaged, position, 1 << (position % 8)).expect("flip back");
            match outcome {
                Ok(out) => {
                    assert_eq!(offsets(&out), (0..6).collect::<Vec<_>>(), "{} byte {position}", path.display());
                    silent += 1;
                }
                Err(LogError::Corrupt { file, position: at, len, .. }) => {
                    assert_eq!(file, path);
                    assert!(at <= position && position < at + len.max(1), "byte {position} is told as {at}+{len}");
                    told += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    // Two heads of 48 bytes, two blocks, a footer of 4 KiB and the growing segment's list, which goes from its block to the end,
    // are told to the last byte; the rest is zeros up to whole 4 KiB, and the list that the footer has made superfluous.
    let block = |base| {
        let options = ChunkOptions { group: GROUP, position: 4096, level: 0 };
        encode_chunk(&some(base, 3, 40), Offset(base + 3), options, &[]).index[0].len
    };
    assert_eq!(told, 2 * 48 + block(0) + block(3) + 4096 + (4096 - block(3)), "{silent} bytes were taken for padding");
}

/// Whoever has verified a group can read all of it, also several blocks at once with what lies between them. Found by the simulator
/// of clusters (its seed 44864).
#[test]
fn what_was_verified_can_be_read() {
    let filled = || {
        let sim = Sim::new(9);
        let mark = sim.block_on(NODE, |rt| async move {
            rt.create_dir_all("/groups".as_ref()).await.expect("create");
            rt.sync_dir("/".as_ref()).await.expect("sync");
            let (group, config) = (fresh(&rt), GroupConfig { segment_bytes: 32 << 10, ..GroupConfig::default() });
            let mut mark = None;
            // Of some chunks the list does not fit behind the block any more, and has 4 KiB of its own.
            for run in 0..10 {
                let entries = some(run * 3, 3, 1200 + 10 * run as usize);
                mark = Some(group.append(entries, Offset(run * 3 + 3), &config, 0, 10_000).await.expect("append"));
            }
            assert_eq!(group.sealed().len(), 1, "one is sealed, and one grows");
            mark.expect("some runs")
        });
        (sim, mark.expect("the simulation ends well"))
    };
    let (sim, mark) = filled();
    let (mut all, mut refused) = (0, 0);
    for (path, len) in sim.node(NODE).disk().files() {
        let counts = if path.to_string_lossy().contains(&mark.name.to_string()) { mark.position } else { len };
        for position in (0..counts).step_by(512) {
            let (sim, mark) = filled();
            sim.node(NODE).disk().spoil(&path, position).expect("it is there");
            let outcome = sim.block_on(NODE, move |rt| async move {
                let Ok(group) = reopen(&rt, mark, 0).await else { return (false, false) };
                (group.verify().await.is_ok(), group.read(Offset(0), ALL).await.is_ok())
            });
            let (verified, read) = outcome.expect("the simulation ends well");
            assert!(!verified || read, "{} from byte {position}", path.display());
            (all, refused) = (all + 1, refused + u64::from(!verified));
        }
    }
    assert!(refused > all / 2, "{refused} of {all} sectors are missed");
}

/// What a start reads of a growing segment does not depend on how much lies in it, but for its index.
#[test]
fn a_growing_segment_is_opened_without_reading_it() {
    let sim = Sim::new(4);
    let runs = 100;
    let (mark, blocks) = sim
        .block_on(NODE, move |rt| async move {
            rt.create_dir_all("/groups".as_ref()).await.expect("create");
            rt.sync_dir("/".as_ref()).await.expect("sync");
            let group = fresh(&rt);
            let mut mark = None;
            for run in 0..runs {
                let entries = some(run * 6, 6, 100_000);
                mark = Some(group.append(entries, Offset(run * 6 + 6), &GroupConfig::default(), 0, 10_000).await.expect("append"));
            }
            let blocks = group.growing().await.expect("open").expect("it grows").index;
            (mark.expect("some runs"), blocks.to_vec())
        })
        .expect("the simulation ends well");
    assert!(mark.position > 50 << 20);
    let disk = sim.node(NODE).disk();
    let before = disk.bytes_read();
    let found = sim
        .block_on(NODE, move |rt| async move {
            let group = reopen(&rt, mark, 0).await.expect("opens");
            group.growing().await.expect("open").expect("it grows").index.to_vec()
        })
        .expect("the simulation ends well");
    assert_eq!(found, blocks);
    let read = disk.bytes_read() - before;
    let bound = mark.position / 500;
    assert!(read <= bound, "{read} bytes read, {bound} are enough for the index of {} bytes", mark.position);
    let first = sim.block_on(NODE, move |rt| async move {
        let one = ReadLimits { bytes_max: 1, end: Offset(u64::MAX) };
        reopen(&rt, mark, 0).await.expect("opens").read(Offset(300), one).await.expect("read")
    });
    assert_eq!(offsets(&first.expect("the simulation ends well")), [300]);
    assert!(disk.bytes_read() - before - read <= bound + (1 << 20), "the first read costs its blocks and the index");
}
