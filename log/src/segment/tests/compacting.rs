//! Compaction: what stays, what goes, within which memory, and what a crash leaves.

use super::*;
use crate::segment::compact::{self, Budget, Compacted, run_within};
use bytes::BytesMut;
use millpond_batch::Record;
use std::collections::{BTreeMap, BTreeSet};

/// A row of a log: key and value.
type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

fn entry(base: u64, payload: BytesMut) -> Entry {
    let mut payload = payload;
    stamp(&mut payload, base, 1);
    Entry { index: Index(base + 1), term: Term(3), kind: EntryKind::Batch, base_offset: Offset(base), payload: payload.freeze() }
}

fn one(base: u64, pair: &Pair, transactional: bool) -> Entry {
    let mut builder = Builder::new(Compression::None, 256);
    builder.append(1_000 + base as i64, pair.0.as_deref(), pair.1.as_deref(), NO_HEADERS);
    if transactional {
        builder.set_transactional();
    }
    entry(base, builder.build(None).expect("a batch"))
}

fn pair(key: u64, value: Option<&str>) -> Pair {
    (Some(format!("key {key}").into_bytes()), value.map(|v| v.as_bytes().to_vec()))
}

fn config() -> GroupConfig {
    // Each append is a segment of its own.
    GroupConfig { segment_bytes: 1, compact: true, delete_retention_ms: 1_000, ..GroupConfig::default() }
}

/// Appends each run of entries as a segment; the last one is the growing one.
async fn segments(rt: &SimRt, runs: Vec<Vec<Entry>>) -> (GroupSegments<SimRt>, Mark) {
    rt.create_dir_all("/groups".as_ref()).await.expect("create");
    rt.sync_dir("/".as_ref()).await.expect("sync");
    let group = fresh(rt);
    let mut mark = None;
    for run in runs {
        let next = run.last().map(|e| Offset(e.base_offset.0 + 1)).expect("no empty run");
        mark = Some(group.append(run, next, &config(), 1, 10_000).await.expect("append"));
    }
    (group, mark.expect("at least one run"))
}

async fn compact(group: &GroupSegments<SimRt>, mark: Mark, now_ms: i64, keys_max: usize) -> Compacted {
    let range = compact::pick(&group.sealed(), mark.name.base_offset, &config(), now_ms);
    // Outputs may be large again: only the inputs were to be small.
    let config = GroupConfig { segment_bytes: 1 << 20, ..config() };
    run_within(group, range, &config, 1, now_ms, Budget { keys_max }).await.expect("compact")
}

async fn rows(group: &GroupSegments<SimRt>) -> Vec<Record> {
    let all = group.read(Offset(0), ALL).await.expect("read").batches;
    all.iter().flat_map(|b| records(b, DecompressLimits::default()).expect("a batch").map(|r| r.expect("a record"))).collect()
}

async fn left(group: &GroupSegments<SimRt>) -> Vec<u64> {
    rows(group).await.iter().map(|r| r.offset).collect()
}

/// However little memory there is, the outcome of running until nothing is left to do is the same, and it comes to an end.
#[test]
fn any_budget_leads_to_the_same_end() {
    let log: Vec<Pair> = (0..240).map(|n| pair(n * n % 37, Some("some value"))).collect();
    for keys_max in [1, 2, 5, 16, 36, 37, 1000] {
        let log = log.clone();
        on_sim(move |rt| async move {
            let runs = log.chunks(40).enumerate();
            let runs = runs.map(|(n, c)| c.iter().zip(n as u64 * 40..).map(|(p, at)| one(at, p, false)).collect()).collect();
            let (group, mark) = segments(&rt, runs).await;
            let mut work = 0;
            loop {
                let done = compact(&group, mark, 5_000, keys_max).await;
                if done == Compacted::default() {
                    break;
                }
                work += 1;
                assert!(work <= 6, "{keys_max} keys at a time: each run must leave fewer dirty segments");
            }
            // With the growing segment's 40 records untouched, exactly the newest of each key of the others is there.
            let newest: BTreeMap<_, _> = (0..200).map(|n| (log[n].0.clone(), n as u64)).collect();
            let mut expected: Vec<u64> = newest.into_values().collect();
            expected.sort_unstable();
            expected.extend(200..240);
            let got = left(&group).await;
            assert!(expected.iter().all(|o| got.contains(o)), "{keys_max} keys at a time: a newest record is gone");
            if keys_max >= 37 {
                assert_eq!(got, expected);
            }
            // In rounds, too, every dirty segment was looked at in full: no key twice among the clean ones of one run.
            assert!(group.sealed().iter().all(|s| s.name.generation > 0), "{keys_max} keys at a time: a segment was left dirty");
        });
    }
}

/// One dirty segment with more keys than fit: rounds find all that is superseded, in it and before it.
#[test]
fn rounds_find_what_one_look_would() {
    for keys_max in [1, 3, 7, 1000] {
        on_sim(move |rt| async move {
            let run = |range: std::ops::Range<u64>| range.map(|n| one(n, &pair(n % 23, Some("v")), false)).collect::<Vec<_>>();
            let (group, mark) = segments(&rt, vec![run(0..100), run(100..101)]).await;
            compact(&group, mark, 5_000, keys_max).await;
            assert_eq!(left(&group).await, (77..101).collect::<Vec<_>>(), "{keys_max} keys at a time");
        });
    }
}

/// The clean head may hold more keys than memory does: it must not be compacted again and again in place of what is new.
#[test]
fn a_large_clean_head_does_not_stop_the_rest() {
    on_sim(|rt| async move {
        let run = |range: std::ops::Range<u64>, modulus: u64| {
            range.map(move |n| one(n, &pair(n % modulus, Some("v")), false)).collect::<Vec<_>>()
        };
        let (group, mark) = segments(&rt, vec![run(0..50, 1000), run(50..51, 1000)]).await;
        compact(&group, mark, 5_000, 1000).await;
        let clean = group.sealed()[0].name;
        let mut mark = mark;
        for n in 0..6 {
            let from = 51 + n * 50;
            let run = run(from..from + 50, 10);
            mark = group.append(run, Offset(from + 50), &config(), 1, 10_000).await.expect("append");
        }
        for _ in 0..8 {
            compact(&group, mark, 5_000, 20).await;
        }
        assert!(group.sealed().iter().all(|s| s.name.generation > 0));
        assert_ne!(group.sealed()[0].name, clean);
        let got = left(&group).await;
        let sealed_end = mark.name.base_offset.0;
        assert!(got.iter().filter(|o| (51..sealed_end).contains(o)).count() <= 10 * group.sealed().len(), "{got:?}");
    });
}

/// A tombstone stays for the retention time counted from its first compaction, not from what its producer says of time.
#[test]
fn tombstones_stay_for_their_time() {
    on_sim(|rt| async move {
        let log = [pair(1, Some("a")), pair(2, Some("b")), pair(1, None), pair(3, Some("c"))];
        let runs = log.iter().zip(0..).map(|(p, at)| vec![one(at, p, false)]).collect();
        let (group, mut mark) = segments(&rt, runs).await;
        // Its timestamp, 1,002 ms, lies long before.
        let now = 1_000_000;
        compact(&group, mark, now, 100).await;
        assert_eq!(left(&group).await, [1, 2, 3], "the value goes, the tombstone stays");
        let stone = rows(&group).await[1].clone();
        assert!(stone.is_tombstone() && stone.timestamp == 1_002);
        // A later run within the time keeps it and does not grant more; one past the time lets it go.
        for (n, later, expected) in [(4_u64, now + 1_000, vec![1, 2, 3, 4]), (5, now + 1_001, vec![1, 3, 4, 5])] {
            mark = group
                .append(vec![one(n, &pair(n, Some(&"v".repeat(5000))), false)], Offset(n + 1), &config(), 0, 10_000)
                .await
                .expect("append");
            let range = compact::pick(&group.sealed(), mark.name.base_offset, &config(), later);
            let range = if range.is_empty() { 0..group.sealed().len() } else { range };
            run_within(&group, range, &config(), 0, later, Budget::default()).await.expect("compact");
            assert_eq!(left(&group).await, expected);
        }
    });
}

/// What a producer writes where compaction writes its horizon is not believed.
#[test]
fn a_producers_horizon_is_ignored() {
    on_sim(|rt| async move {
        let plain = one(0, &pair(1, None), false).payload;
        let forged =
            millpond_batch::filter::retain(&plain, DecompressLimits::default(), Some(5), |_| true).expect("a batch").expect("stamped");
        assert_eq!(check(&forged).expect("sound").delete_horizon(), Some(5));
        let (group, mark) = segments(&rt, vec![vec![entry(0, forged)], vec![one(1, &pair(2, None), false)]]).await;
        compact(&group, mark, 1_000_000, 100).await;
        assert_eq!(left(&group).await, [0, 1]);
        let first = group.read(Offset(0), ALL).await.expect("read").batches[0].clone();
        assert_eq!(check(&first).expect("sound").delete_horizon(), Some(1_001_000));
    });
}

/// Nobody here knows whether a transaction was committed: its records replace nothing. Neither do those of a batch that
/// readers cannot parse.
#[test]
fn uncertain_records_replace_nothing() {
    on_sim(|rt| async move {
        let mut builder = Builder::new(Compression::None, 256);
        for key in [1, 2] {
            let (key, value) = pair(key, Some("hidden"));
            builder.append(5, key.as_deref(), value.as_deref(), NO_HEADERS);
        }
        let mut broken = builder.build(None).expect("a batch");
        // The last record claims a header that is not there; the checksum is right, as a broken producer's would be.
        *broken.last_mut().expect("bytes") = 2;
        let crc = crc32c_of(&broken[21..]);
        broken[17..21].copy_from_slice(&crc.to_be_bytes());
        check(&broken).expect("sound as far as anybody checks on arrival");
        let broken = Entry { index: Index(5), ..entry(3, broken) };
        let runs = vec![
            vec![one(0, &pair(1, Some("a")), false), one(1, &pair(2, Some("b")), false)],
            vec![one(2, &pair(1, Some("in doubt")), true)],
            vec![broken, one(5, &pair(9, Some("end")), false)],
            vec![one(6, &pair(9, Some("growing")), false)],
        ];
        let (group, mark) = segments(&rt, runs).await;
        compact(&group, mark, 5_000, 100).await;
        let all = group.read(Offset(0), ALL).await.expect("read").batches;
        let bases: Vec<u64> = all.iter().map(|b| check(b).expect("sound").base_offset).collect();
        assert_eq!(bases, [0, 1, 2, 3, 5, 6]);
    });
}

/// CRC-32C, bit by bit, so that the tests need no crate for it.
fn crc32c_of(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// Terms are needed for as long as the entries are: they stay with their blocks.
#[test]
fn terms_stay() {
    on_sim(|rt| async move {
        let log = [pair(1, Some("a")), pair(1, Some("b")), pair(2, Some("c"))];
        let runs = log.iter().zip(0..).map(|(p, at)| vec![one(at, p, false)]).collect();
        let (group, mark) = segments(&rt, runs).await;
        compact(&group, mark, 5_000, 100).await;
        let name = group.sealed()[0].name;
        let opened = group.handles().sealed(group.key(name), || group.dir().join(name.to_string())).await.expect("open");
        assert!(!opened.index.is_empty() && opened.index.iter().all(|b| b.term == Term(3)));
    });
}

#[test]
fn a_reader_whose_end_lies_in_what_was_compacted_away_gets_on() {
    on_sim(|rt| async move {
        // One key: of ten records the last is left, far behind the end that the reader came with.
        let runs = vec![(0..10).map(|n| one(n, &pair(1, Some("v")), false)).collect(), vec![one(10, &pair(2, Some("v")), false)]];
        let (group, mark) = segments(&rt, runs).await;
        compact(&group, mark, 5_000, 100).await;
        let out = group.read(Offset(3), ReadLimits { bytes_max: 1000, end: Offset(6) }).await.expect("read");
        assert_eq!((out.batches.len(), out.next), (0, Offset(6)));
        let out = group.read(Offset(3), ReadLimits { bytes_max: 1000, end: Offset(10) }).await.expect("read");
        assert_eq!((out.batches.len(), out.next), (1, Offset(10)));
    });
}

#[test]
fn without_a_lag_a_clock_that_is_ahead_stops_nothing() {
    let name = |base| SegmentName { base_offset: Offset(base), generation: 0 };
    let sealed = [compacting_facts(name(0), 10, i64::MAX), compacting_facts(name(10), 20, 5)];
    let lagging = GroupConfig { min_compaction_lag_ms: 100, ..config() };
    assert_eq!(compact::pick(&sealed, Offset(20), &config(), 1_000), 0..2);
    assert_eq!(compact::pick(&sealed, Offset(20), &lagging, 1_000), 0..0);
    assert_eq!(compact::pick(&sealed[1..], Offset(20), &lagging, 1_000), 0..1);
    assert_eq!(compact::pick(&sealed, Offset(10), &config(), 1_000), 0..1, "what the journal has not noted is left alone");
}

fn compacting_facts(name: SegmentName, next: u64, max_timestamp: i64) -> group::Sealed {
    group::Sealed { name, next_offset: Offset(next), last_index: Index(next), bytes: 100, max_timestamp }
}

/// Settling goes on while a compaction runs, and trims come: whatever overtakes what, the log is whole from its start on.
#[test]
fn appends_and_trims_go_on_beside_a_compaction() {
    let (mut compacted, mut given_up) = (0, 0);
    for seed in 0..200_u64 {
        let (done, trimmed) = Sim::new(seed)
            .block_on(NODE, move |rt| async move {
                let run = |range: std::ops::Range<u64>| range.map(|n| one(n, &pair(n % 5, Some("v")), false)).collect::<Vec<_>>();
                let (group, mark) = segments(&rt, (0..6).map(|n| run(n * 20..n * 20 + 20)).collect()).await;
                let work = async {
                    let mut start = 0;
                    for n in 0..4_u64 {
                        // The seed decides when a trim comes, and how far it goes.
                        for _ in 0..rt.rand() % 40 {
                            rt.yield_now().await;
                        }
                        if rt.rand() % 3 == 0 {
                            start = start.max(rt.rand() % (120 + n * 20));
                            group.remove_before(Offset(start)).await.expect("trim");
                        }
                        let from = 120 + n * 20;
                        group.append(run(from..from + 20), Offset(from + 20), &config(), 1, 10_000).await.expect("append");
                    }
                    start
                };
                let compaction = async {
                    let range = compact::pick(&group.sealed(), mark.name.base_offset, &config(), 5_000);
                    let config = GroupConfig { segment_bytes: 20_000, ..config() };
                    run_within(&group, range, &config, 1, 5_000, Budget::default()).await.expect("compact")
                };
                let (done, start) = futures_lite::future::zip(compaction, work).await;
                group.remove_before(Offset(start)).await.expect("trim");
                let sealed = group.sealed();
                assert!(sealed.windows(2).all(|w| w[0].next_offset == w[1].name.base_offset), "{sealed:?}");
                let names = rt.list(group.dir()).await.expect("list");
                let mut expected: Vec<_> = sealed.iter().map(|s| s.name.to_string()).collect();
                expected.push(SegmentName { base_offset: Offset(180), generation: 0 }.to_string());
                assert_eq!(names, expected, "nothing is left behind by a compaction that gave up");
                let got: Vec<u64> = left(&group).await.into_iter().filter(|o| *o >= start).collect();
                for n in start..200 {
                    // The newest five of what was sealed when it ran, and all that came later.
                    assert!(n < 95 || got.contains(&n), "{n} is missing from {start} on");
                }
                (done, start)
            })
            .expect("the simulation ends well");
        compacted += u32::from(done.segments > 0);
        given_up += u32::from(done.overtaken && trimmed > 0);
    }
    assert!(compacted > 20 && given_up > 20, "{compacted} compactions did something, {given_up} were overtaken");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Against the rule itself: a record stays exactly if it has no key, or is the newest of its key among the sealed ones.
    #[test]
    fn the_newest_of_each_key_stays(log in proptest::collection::vec((proptest::option::of(0..12_u64), any::<bool>()), 2..120), cuts in proptest::collection::btree_set(1..119_usize, 0..6), keys_max in 1..20_usize) {
        on_sim(move |rt| async move {
            let log: Vec<Pair> = log.iter().map(|(key, stone)| (key.map(|k| vec![k as u8]), (!*stone || key.is_none()).then(|| vec![1]))).collect();
            let cuts: BTreeSet<usize> = cuts.into_iter().filter(|c| *c < log.len()).collect();
            let mut runs: Vec<Vec<Entry>> = vec![Vec::new()];
            for (n, pair) in log.iter().enumerate() {
                if cuts.contains(&n) {
                    runs.push(Vec::new());
                }
                runs.last_mut().expect("one").push(one(n as u64, pair, false));
            }
            let (group, mark) = segments(&rt, runs).await;
            let end = mark.name.base_offset.0 as usize;
            compact(&group, mark, 5_000, keys_max).await;
            if keys_max >= 12 {
                let newest: BTreeMap<_, _> = (0..end).filter_map(|n| Some((log[n].0.clone()?, n))).collect();
                let stays = |n: &usize| *n >= end || log[*n].0.as_ref().is_none_or(|key| newest[key] == *n);
                let expected: Vec<u64> = (0..log.len()).filter(stays).map(|n| n as u64).collect();
                assert_eq!(left(&group).await, expected);
            }
            // Reading finds the same after a start.
            let before = rows(&group).await;
            let again = reopen(&rt, mark, 0).await.expect("opens");
            assert_eq!(rows(&again).await, before);
        });
    }
}

#[test]
fn compaction_keeps_the_newest_of_each_key_and_every_offset() {
    on_sim(|rt| async move {
        let config = GroupConfig { compact: true, delete_retention_ms: 0, ..small() };
        let group = fresh(&rt);
        let mark = fill(&group, 12, 100, 200).await;
        let noted = mark.name.base_offset;
        let range = compact::pick(&group.sealed(), noted, &config, i64::MAX);
        assert!(!range.is_empty());
        let before = group.bytes();
        let wide = GroupConfig { segment_bytes: 1 << 20, ..config.clone() };
        let done = compact::run(&group, range, &wide, 1, 5_000_000).await.expect("compact");
        assert!(done.bytes_after < done.bytes_before / 2 && group.bytes() < before);
        assert!(compact::pick(&group.sealed(), noted, &config, i64::MAX).is_empty(), "clean segments are left alone");
        for group in [group, reopen(&rt, mark, 0).await.expect("opens")] {
            let all = offsets(&group.read(Offset(0), ALL).await.expect("read"));
            let sealed_end = noted.0;
            let kept: Vec<_> = all.iter().copied().filter(|o| *o < sealed_end).collect();
            assert_eq!(kept, (sealed_end - 5..sealed_end).collect::<Vec<_>>(), "the last of five keys");
            assert_eq!(all[5..], (sealed_end..1200).collect::<Vec<_>>());
            let hole = group.read(Offset(3), ReadLimits { bytes_max: 1, end: Offset(1200) }).await.expect("read");
            assert_eq!(offsets(&hole), [sealed_end - 5]);
            assert_eq!(group.find_time(1_000, Offset(0)).await.expect("find"), Some((Offset(sealed_end - 5), 995 + sealed_end as i64)));
        }
    });
}

#[test]
fn crashes_inside_compaction_leave_the_old_or_the_new() {
    for poll in 1..400 {
        let sim = Sim::new(poll);
        let config = GroupConfig { compact: true, ..small() };
        let mark = sim
            .block_on(NODE, |rt| async move {
                let group = fresh(&rt);
                fill(&group, 8, 100, 100).await
            })
            .expect("the simulation ends well");
        sim.crash_at_poll(NODE, poll);
        let running = config.clone();
        let finished = sim.block_on(NODE, move |rt| async move {
            let group = reopen(&rt, mark, 0).await.expect("opens");
            let range = compact::pick(&group.sealed(), mark.name.base_offset, &running, i64::MAX);
            compact::run(&group, range, &running, 1, 0).await.expect("compact");
        });
        if finished.is_ok() && poll > 350 {
            break;
        }
        sim.crash(NODE);
        sim.restart(NODE);
        let all = sim
            .block_on(NODE, move |rt| async move {
                let group = reopen(&rt, mark, 0).await.expect("opens after the crash");
                offsets(&group.read(Offset(0), ALL).await.expect("reads after the crash"))
            })
            .expect("the simulation ends well");
        let whole = all.len() == 800;
        let last = all.last().copied();
        assert_eq!(last, Some(799), "poll {poll}");
        let sealed_end = mark.name.base_offset.0;
        for key in 0..5 {
            assert!(all.contains(&(sealed_end - 5 + key)), "poll {poll}: the newest of key {key} is gone");
        }
        assert!(whole || all.iter().filter(|o| **o < sealed_end).count() >= 5);
    }
}
