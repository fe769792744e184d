//! The disk's promises, kept, and everything else, broken.

use super::*;
use proptest::prelude::*;
use std::io;

pub(super) fn raw<T>(result: crate::Result<T>) -> io::Error {
    match result {
        Err(IoError::Disk { source, .. }) => source,
        Err(other) => panic!("not an error of the disk: {other}"),
        Ok(_) => panic!("an error was expected"),
    }
}

pub(super) fn is_eio<T>(result: crate::Result<T>) -> bool {
    raw(result).raw_os_error() == Some(libc::EIO)
}

pub(super) const F: &str = "/f";

pub(super) fn path(at: &str) -> &Path {
    Path::new(at)
}

/// A file of `blocks` blocks full of `byte`, synced with its name.
pub(super) async fn make(rt: &SimRt, at: &str, blocks: usize, byte: u8) -> SimFile {
    let file = rt.open(path(at), Open::Create).await.expect("room");
    file.write_at(0, filled(&file, blocks, byte)).await.expect("room");
    file.sync().await.expect("no faults");
    rt.sync_dir(path(at).parent().expect("not the root")).await.expect("no faults");
    file
}

/// What is left of `F` after `program` ran to its end and the power went, for each of many seeds.
pub(super) fn outcomes<F2: Future<Output = ()> + 'static>(program: fn(SimRt) -> F2) -> BTreeSet<Option<Vec<u8>>> {
    let mut left = BTreeSet::new();
    for seed in 0..300 {
        let sim = Sim::new(seed);
        sim.block_on(N1, program).expect("the program ends");
        sim.crash(N1);
        let mut bytes = sim.node(N1).disk().read(path(F), 0, 1 << 20).ok();
        // One byte for each block is enough for whoever writes blocks of one byte.
        if let Some(bytes) = &mut bytes {
            *bytes = bytes.chunks(4096).map(|block| block[0]).collect();
        }
        left.insert(bytes);
    }
    left
}

#[test]
fn synced_bytes_stay_and_other_ones_may() {
    let left = outcomes(|rt| async move {
        let file = make(&rt, F, 1, 1).await;
        file.write_at(0, filled(&file, 1, 2)).await.expect("room");
        file.sync().await.expect("no faults");
    });
    assert_eq!(left, BTreeSet::from([Some(vec![2])]));

    let left = outcomes(|rt| async move {
        let file = make(&rt, F, 1, 1).await;
        file.write_at(0, filled(&file, 1, 2)).await.expect("room");
    });
    assert_eq!(left, BTreeSet::from([Some(vec![1]), Some(vec![2])]));
}

#[test]
fn unsynced_writes_survive_in_any_combination() {
    let left = outcomes(|rt| async move {
        let file = make(&rt, F, 2, 0).await;
        file.write_at(0, filled(&file, 1, 1)).await.expect("room");
        file.write_at(4096, filled(&file, 1, 2)).await.expect("room");
    });
    let all = [[0, 0], [0, 2], [1, 0], [1, 2]].map(|blocks| Some(blocks.to_vec()));
    assert_eq!(left, BTreeSet::from(all), "the later one may stay without the earlier");

    let left = outcomes(|rt| async move {
        let file = make(&rt, F, 1, 0).await;
        file.write_at(0, filled(&file, 1, 1)).await.expect("room");
        file.write_at(0, filled(&file, 1, 2)).await.expect("room");
    });
    assert_eq!(left, BTreeSet::from([0, 1, 2].map(|block| Some(vec![block]))), "the earlier may land last");
}

#[test]
fn length_is_at_stake_until_synced() {
    let left = outcomes(|rt| async move {
        let file = make(&rt, F, 1, 1).await;
        file.write_at(8192, filled(&file, 1, 2)).await.expect("room");
    });
    let all = [vec![1], vec![1, 0, 0], vec![1, 0, 2]].map(Some);
    assert_eq!(left, BTreeSet::from(all), "longer without the bytes, but never bytes without the length");

    let left = outcomes(|rt| async move {
        let file = make(&rt, F, 2, 1).await;
        file.truncate(4096).await.expect("no faults");
    });
    assert_eq!(left, BTreeSet::from([Some(vec![1, 1]), Some(vec![1])]));

    let left = outcomes(|rt| async move {
        let file = make(&rt, F, 2, 1).await;
        file.truncate(4096).await.expect("no faults");
        file.truncate(8192).await.expect("no faults");
        file.sync().await.expect("no faults");
    });
    assert_eq!(left, BTreeSet::from([Some(vec![1, 0])]), "what was cut off comes back as zeros");
}

#[test]
fn sync_does_not_cover_what_was_still_under_way() {
    let mut left = BTreeSet::new();
    for seed in 0..1000 {
        let sim = Sim::new(seed);
        let written_meanwhile = sim.block_on(N1, |rt| async move {
            let file = Rc::new(make(&rt, F, 1, 1).await);
            let written = Rc::new(Cell::new(false));
            let (file2, flag) = (file.clone(), written.clone());
            rt.spawn("writes", Share::Serve, async move {
                file2.write_at(0, filled(&file2, 1, 2)).await.expect("room");
                flag.set(true);
            });
            rt.sleep(Duration::from_micros(5)).await;
            let before = written.get();
            file.sync().await.expect("no faults");
            !before && written.get()
        });
        sim.crash(N1);
        if written_meanwhile.expect("done") {
            left.insert(sim.node(N1).disk().read(path(F), 0, 4096).expect("it is there"));
        }
    }
    assert!(left.contains(&vec![1; 4096]), "a write that ended during the sync, and before its end, may be lost");
    assert!(left.contains(&vec![2; 4096]), "or not");
}

#[test]
fn names_last_once_their_directory_is_synced() {
    let left = outcomes(|rt| async move {
        let file = rt.open(path(F), Open::Create).await.expect("room");
        file.write_at(0, filled(&file, 1, 1)).await.expect("room");
        file.sync().await.expect("no faults");
    });
    assert_eq!(left, BTreeSet::from([None, Some(vec![1])]), "its name was not synced");

    let left = outcomes(|rt| async move {
        drop(make(&rt, F, 1, 1).await);
        rt.remove(path(F)).await.expect("it is there");
    });
    assert_eq!(left, BTreeSet::from([None, Some(vec![1])]), "a removed file may come back");

    let left = outcomes(|rt| async move {
        drop(make(&rt, F, 1, 1).await);
        rt.remove(path(F)).await.expect("it is there");
        rt.sync_dir(path("/")).await.expect("no faults");
    });
    assert_eq!(left, BTreeSet::from([None]));
}

#[test]
fn directory_lasts_once_its_parent_is_synced() {
    let mut left = BTreeSet::new();
    for seed in 0..100 {
        for synced in [false, true] {
            let sim = Sim::new(seed);
            let run = sim.block_on(N1, move |rt| async move {
                rt.create_dir_all(path("/a/b")).await.expect("room");
                rt.create_dir_all(path("/a/b")).await.expect("existing ones are fine");
                make(&rt, "/a/b/f", 1, 1).await;
                if synced {
                    rt.sync_dir(path("/a")).await.expect("no faults");
                    rt.sync_dir(path("/")).await.expect("no faults");
                }
            });
            run.expect("done");
            sim.crash(N1);
            left.insert((synced, sim.node(N1).disk().files().len()));
        }
    }
    assert_eq!(left, BTreeSet::from([(false, 0), (false, 1), (true, 1)]));
}

#[test]
fn renamed_file_bears_one_name_or_both() {
    let mut left = BTreeSet::new();
    for seed in 0..200 {
        let sim = Sim::new(seed);
        let run = sim.block_on(N1, |rt| async move {
            make(&rt, "/old", 1, 1).await;
            rt.rename(path("/old"), path("/new")).await.expect("it is there");
            assert_eq!(rt.list(path("/")).await.expect("the root"), ["new"]);
        });
        run.expect("done");
        sim.crash(N1);
        let files = sim.node(N1).disk().files();
        left.insert(files.into_iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>());
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(left, BTreeSet::from([names(&["/old"]), names(&["/new"]), names(&["/new", "/old"])]));
}

#[test]
fn moved_file_is_in_one_directory_or_both() {
    let mut left = BTreeSet::new();
    for seed in 0..200 {
        for synced in ["/a", "/b", "neither"] {
            let sim = Sim::new(seed);
            let run = sim.block_on(N1, move |rt| async move {
                rt.create_dir_all(path("/a")).await.expect("room");
                rt.create_dir_all(path("/b")).await.expect("room");
                rt.sync_dir(path("/")).await.expect("no faults");
                drop(make(&rt, "/a/f", 1, 1).await);
                rt.rename(path("/a/f"), path("/b/f")).await.expect("it is there");
                if synced != "neither" {
                    rt.sync_dir(path(synced)).await.expect("no faults");
                }
            });
            run.expect("done");
            sim.crash(N1);
            let disk = sim.node(N1).disk();
            left.insert((synced, [path("/a/f"), path("/b/f")].map(|name| disk.read(name, 0, 1).is_ok())));
        }
    }
    let (old, new, both) = ([true, false], [false, true], [true, true]);
    let allowed = [("/a", new), ("/b", new), ("/b", both), ("neither", old), ("neither", new), ("neither", both)];
    assert_eq!(left, BTreeSet::from(allowed), "a synced removal of the old name brings the new one with it");
}

/// Replaces a file as it should be done: write aside, sync, rename, sync the directory.
async fn replace(rt: SimRt) -> crate::Result<()> {
    let file = rt.open(path("/tmp"), Open::Create).await?;
    file.write_at(0, filled(&file, 4, 2)).await?;
    file.sync().await?;
    rt.rename(path("/tmp"), path(F)).await?;
    rt.sync_dir(path("/")).await
}

#[test]
fn replacing_a_file_is_atomic_at_every_await() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        for at in 0.. {
            let sim = Sim::new(seed);
            let node = sim.node(N1);
            sim.block_on(N1, |rt| async move { drop(make(&rt, F, 4, 1).await) }).expect("done");
            let done = Rc::new(Cell::new(false));
            let flag = done.clone();
            node.start(C0, |rt| async move { flag.set(replace(rt).await.is_ok()) });
            sim.crash_at_poll(N1, node.polls() + at);
            sim.run_until(|| done.get() || !node.is_up(), HOUR).expect("it ends or dies");
            let died = !node.is_up();
            sim.crash(N1);
            let left = node.disk().read(path(F), 0, 1 << 20).expect("one of the two is there");
            let new = left == [2; 4 * 4096];
            assert!(new || left == [1; 4 * 4096], "seed {seed}, poll {at}: neither old nor new");
            assert!(new || !done.get(), "seed {seed}: the new one was reported durable");
            seen.insert((at, new, node.disk().read(path("/tmp"), 0, 1).is_ok()));
            if !died {
                break;
            }
        }
    }
    let outcomes: BTreeSet<(bool, bool)> = seen.iter().map(|(_, new, tmp)| (*new, *tmp)).collect();
    assert_eq!(outcomes.len(), 4, "old and new, with and without the other name: {seen:?}");
    assert!(seen.iter().any(|(at, new, _)| *at == 5 && *new), "a rename may last before the directory is synced");
}

#[test]
fn replacing_without_sync_is_not() {
    let left = outcomes(|rt| async move {
        drop(make(&rt, F, 4, 1).await);
        let file = rt.open(path("/tmp"), Open::Create).await.expect("room");
        file.write_at(0, filled(&file, 4, 2)).await.expect("room");
        rt.rename(path("/tmp"), path(F)).await.expect("it is there");
        rt.sync_dir(path("/")).await.expect("no faults");
    });
    assert!(left.contains(&Some(vec![])) && left.contains(&Some(vec![2; 4])) && left.len() > 4, "{left:?}");
}

/// What one step of a random program does to one of eight blocks.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write { block: u64, blocks: u8 },
    Begin { block: u64 },
    Sync,
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..6_u64, 1..3_u8).prop_map(|(block, blocks)| Step::Write { block, blocks }),
        2 => (0..8_u64).prop_map(|block| Step::Begin { block }),
        2 => Just(Step::Sync),
        1 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 1..24)
}

/// For each block: the bytes that it may hold after a power cut. Each write has a byte of its own.
#[derive(Default)]
struct Allowed {
    /// Byte, and whether its write had completed.
    blocks: [Vec<(u8, bool)>; 8],
}

impl Allowed {
    fn begin(&mut self, block: u64, byte: u8) {
        self.blocks[block as usize].push((byte, false));
    }

    fn complete(&mut self, block: u64, byte: u8) {
        // What completes last is what is read, so it goes to the end.
        let of_block = &mut self.blocks[block as usize];
        of_block.retain(|(other, _)| *other != byte);
        of_block.push((byte, true));
    }

    /// The completed writes as they are when a sync is called: of these all but the last are out.
    fn completed(&self) -> [Option<u8>; 8] {
        let last = |of_block: &Vec<(u8, bool)>| of_block.iter().rev().find(|(_, done)| *done).map(|(byte, _)| *byte);
        [0, 1, 2, 3, 4, 5, 6, 7].map(|block| last(&self.blocks[block]))
    }

    fn synced(&mut self, completed: [Option<u8>; 8]) {
        for (of_block, last) in self.blocks.iter_mut().zip(completed) {
            if let Some(at) = of_block.iter().position(|(byte, _)| Some(*byte) == last) {
                let kept = of_block[at..].to_vec();
                let under_way = of_block[..at].iter().copied().filter(|(_, done)| !done);
                *of_block = under_way.chain(kept).collect();
            }
        }
    }
}

async fn random_program(rt: SimRt, steps: Vec<Step>, allowed: Rc<RefCell<Allowed>>) {
    let file = Rc::new(make(&rt, F, 8, 0).await);
    for block in 0..8 {
        allowed.borrow_mut().complete(block, 0);
    }
    for (n, step) in steps.into_iter().enumerate() {
        let byte = n as u8 + 1;
        match step {
            Step::Write { block, blocks } => {
                (0..u64::from(blocks)).for_each(|i| allowed.borrow_mut().begin(block + i, byte));
                file.write_at(block * 4096, filled(&file, blocks.into(), byte)).await.expect("room");
                (0..u64::from(blocks)).for_each(|i| allowed.borrow_mut().complete(block + i, byte));
            }
            Step::Begin { block } => {
                let (file, allowed) = (file.clone(), allowed.clone());
                rt.spawn("write", Share::Serve, async move {
                    allowed.borrow_mut().begin(block, byte);
                    file.write_at(block * 4096, filled(&file, 1, byte)).await.expect("room");
                    allowed.borrow_mut().complete(block, byte);
                });
            }
            Step::Sync => {
                let completed = allowed.borrow().completed();
                file.sync().await.expect("no faults");
                allowed.borrow_mut().synced(completed);
            }
            Step::Wait => rt.sleep(Duration::from_micros(rt.rand() % 2000)).await,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// After a crash at any poll each byte is of the last synced write or of a later one, and nothing else.
    #[test]
    fn crash_keeps_synced_bytes_and_invents_none(seed: u64, crash_at in 0..120_u64, steps in steps()) {
        let sim = Sim::new(seed);
        let node = sim.node(N1);
        let allowed = Rc::new(RefCell::new(Allowed::default()));
        let shared = allowed.clone();
        node.start(C0, |rt| random_program(rt, steps, shared));
        sim.crash_at_poll(N1, 20 + crash_at);
        sim.run_for(HOUR).expect("nothing fails");
        sim.crash(N1);
        let left = node.disk().read(path(F), 0, 8 * 4096).expect("it was synced with its name");
        prop_assert_eq!(left.len(), 8 * 4096);
        for (block, bytes) in left.chunks(4096).enumerate() {
            let may: Vec<u8> = allowed.borrow().blocks[block].iter().map(|(byte, _)| *byte).collect();
            let stranger = bytes.iter().find(|byte| !may.contains(byte));
            prop_assert!(stranger.is_none(), "block {} holds {:?}, and may hold {:?}", block, stranger, may);
        }
        prop_assert_eq!(node.disk().read_stable(path(F), 0, 8 * 4096).expect("it is there"), left);
    }
}

#[test]
fn crash_tears_sectors_and_writes() {
    let (mut mixed_write, mut torn_sector) = (false, false);
    let mut seen = BTreeMap::new();
    for seed in 0..200 {
        let sim = Sim::new(seed);
        let run = sim.block_on(N1, |rt| async move {
            let file = make(&rt, F, 8, 1).await;
            file.write_at(0, filled(&file, 8, 2)).await.expect("room");
        });
        run.expect("done");
        sim.crash(N1);
        let left = sim.node(N1).disk().read(path(F), 0, 8 * 4096).expect("it is there");
        mixed_write |= left.windows(512).any(|two| two[0] == 1 && two[511] == 2);
        torn_sector |= left.chunks(512).any(|sector| sector.iter().any(|byte| *byte != sector[0]));
        sim.coverage().into_iter().for_each(|(name, n)| *seen.entry(name).or_insert(0) += n);
    }
    assert!(mixed_write && torn_sector);
    for name in ["unsynced_write_kept", "unsynced_write_lost", "unsynced_write_cut", "unsynced_write_mixed", "sector_torn"] {
        assert!(seen.contains_key(name), "{name} never happened: {seen:?}");
    }
}

#[test]
fn killed_process_leaves_its_writes_unsynced() {
    let mut left = BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed);
        let run = sim.block_on(N1, |rt| async move {
            let file = make(&rt, F, 1, 1).await;
            file.write_at(0, filled(&file, 1, 2)).await.expect("room");
        });
        run.expect("done");
        sim.kill(N1);
        let disk = sim.node(N1).disk();
        assert_eq!(disk.read(path(F), 0, 1).expect("it is there"), [2], "what was written is read again");
        assert!(!disk.is_clean());
        sim.restart(N1);
        sim.crash(N1);
        left.insert(disk.read(path(F), 0, 1).expect("it is there"));
    }
    assert_eq!(left, BTreeSet::from([vec![1], vec![2]]), "and may still be lost");
}

#[test]
fn halting_amid_a_write_leaves_any_of_it() {
    let mut left = BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed);
        sim.node(N1).start(C0, |rt| async move {
            let file = make(&rt, F, 1, 1).await;
            rt.spawn("write", Share::Serve, async move {
                let _ = file.write_at(0, filled(&file, 1, 2)).await;
            });
            rt.yield_now().await;
            rt.yield_now().await;
            rt.halt("enough");
        });
        sim.run_for(SECOND).expect("halting is no failure");
        let bytes = sim.node(N1).disk().read(path(F), 0, 4096).expect("it is there");
        left.insert((bytes.contains(&1), bytes.contains(&2)));
    }
    assert_eq!(left, BTreeSet::from([(true, false), (true, true), (false, true)]));
}

#[test]
fn unaligned_access_is_refused_as_in_production() {
    let sim = Sim::new(1);
    let run = sim.block_on(N1, |rt| async move {
        let file = make(&rt, F, 2, 1).await;
        let mut odd = file.buf(10);
        assert_eq!(odd.capacity(), 4096);
        odd.put(b"odd");
        assert!(matches!(file.write_at(0, odd).await, Err(IoError::Unaligned { len: 3, .. })));
        let whole = filled(&file, 1, 1);
        assert!(matches!(file.write_at(512, whole).await, Err(IoError::Unaligned { position: 512, .. })));
        assert!(matches!(file.read_at(0, 100).await, Err(IoError::Unaligned { .. })));
        assert!(matches!(file.read_at(1, 4096).await, Err(IoError::Unaligned { .. })));
        file.write_at(16_384, filled(&file, 1, 3)).await.expect("room");
        assert_eq!(file.len().await.expect("it is there"), 20_480);
        assert_eq!(*file.read_at(8192, 8192).await.expect("no faults"), [0; 8192], "never written");
        assert_eq!(file.read_at(16_384, 1 << 16).await.expect("no faults").len(), 4096, "the end");
        assert!(file.read_at(1 << 20, 4096).await.expect("no faults").is_empty());
        let reader = rt.open(path(F), Open::Read).await.expect("it is there");
        assert_eq!(raw(reader.write_at(0, filled(&file, 1, 9)).await).raw_os_error(), Some(libc::EBADF));
        assert!(rt.open(path("/g"), Open::ReadWrite).await.is_err_and(|error| error.is_not_found()));
    });
    run.expect("done");
}

#[test]
#[should_panic(expected = "3 bytes do not fit behind 4096 in a buffer of 4096")]
fn buffer_does_not_grow() {
    let mut buf = file::SimBuf::new(1000);
    buf.put_zeros(4096);
    buf.put(b"abc");
}

#[test]
fn read_under_a_write_shows_any_mixture() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let sim = Sim::new(seed);
        let run = sim.block_on(N1, |rt| async move {
            let file = Rc::new(make(&rt, F, 1, 1).await);
            let file2 = file.clone();
            rt.spawn("write", Share::Serve, async move {
                let _ = file2.write_at(0, filled(&file2, 1, 2)).await;
            });
            rt.yield_now().await;
            file.read_at(0, 4096).await.expect("no faults")
        });
        let bytes = run.expect("done");
        seen.insert((bytes.contains(&1), bytes.contains(&2)));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn dropped_write_happens_or_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed);
        let run = sim.block_on(N1, |rt| async move {
            let file = make(&rt, F, 1, 1).await;
            let _ = timeout(&rt, Duration::from_micros(5), file.write_at(0, filled(&file, 1, 2))).await;
            rt.sleep(SECOND).await;
            file.read_at(0, 4096).await.expect("no faults")
        });
        let bytes = run.expect("done");
        assert!(bytes == [1; 4096] || bytes == [2; 4096]);
        seen.insert(bytes[0]);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn disks_can_be_exchanged_and_set_back() {
    let sim = Sim::new(1);
    let disk = sim.node(N1).disk();
    sim.block_on(N1, |rt| async move {
        rt.create_dir_all(path("/a/b")).await.expect("room");
        make(&rt, "/a/b/f", 2, 1).await;
    })
    .expect("done");
    let image = disk.snapshot();
    sim.block_on(N1, |rt| async move { drop(make(&rt, "/a/b/f", 1, 2).await) }).expect("done");
    assert_eq!(disk.read(path("/a/b/f"), 0, 1).expect("it is there"), [2]);
    sim.crash(N1);
    disk.restore(&image);
    assert!(disk.is_clean());
    assert_eq!(disk.files(), [(path("/a/b/f").to_owned(), 8192)]);
    assert_eq!(disk.read_stable(path("/a/b/f"), 0, 8192).expect("it is there"), [1; 8192]);
    disk.restore(&DiskImage::empty());
    assert!(disk.files().is_empty());
}

#[test]
fn names_are_checked() {
    let sim = Sim::new(1);
    let run = sim.block_on(N1, |rt| async move {
        rt.create_dir_all(path("/d")).await.expect("room");
        drop(make(&rt, "/d/f", 1, 1).await);
        drop(make(&rt, "/g", 1, 2).await);
        assert_eq!(raw(rt.remove_dir(path("/d")).await).kind(), io::ErrorKind::DirectoryNotEmpty);
        assert_eq!(raw(rt.remove(path("/d")).await).kind(), io::ErrorKind::IsADirectory);
        assert_eq!(raw(rt.open(path("/d"), Open::Read).await).kind(), io::ErrorKind::IsADirectory);
        assert_eq!(raw(rt.open(path("/g/f"), Open::Create).await).kind(), io::ErrorKind::NotADirectory);
        assert!(rt.open(path("/no/f"), Open::Create).await.is_err_and(|error| error.is_not_found()));
        assert!(rt.list(path("/no")).await.is_err_and(|error| error.is_not_found()));
        rt.rename(path("/g"), path("/d/f")).await.expect("over an existing file");
        assert_eq!(rt.list(path("/d")).await.expect("it is there"), ["f"]);
        rt.remove(path("/d/f")).await.expect("it is there");
        rt.remove_dir(path("/d")).await.expect("it is empty");
        assert!(rt.list(path("/")).await.expect("the root").is_empty());
        let emptied = make(&rt, F, 1, 1).await;
        let again = rt.open(path(F), Open::Create).await.expect("it is there");
        assert_eq!(again.len().await.expect("no faults") + emptied.len().await.expect("no faults"), 0);
    });
    run.expect("done");
}
