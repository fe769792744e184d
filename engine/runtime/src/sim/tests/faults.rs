//! Faults of the disk: those that a test asks for, and those of the plan.

use super::{
    disk::{F, is_eio, make, outcomes, path},
    *,
};

#[test]
fn failed_sync_drops_what_was_dirty() {
    let mut left = BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed);
        let disk = sim.node(N1).disk();
        let run = sim.block_on(N1, move |rt| async move {
            let file = make(&rt, F, 1, 1).await;
            file.write_at(0, filled(&file, 1, 2)).await.expect("room");
            disk.inject("f", DiskFault::SyncError);
            assert!(is_eio(file.sync().await));
            file.sync().await.expect("the second sync says all is well");
            file.read_at(0, 4096).await.expect("no faults")[0]
        });
        let seen = run.expect("done");
        sim.crash(N1);
        assert_eq!(sim.node(N1).disk().read(path(F), 0, 1).expect("it is there"), [seen]);
        left.insert(seen);
    }
    assert_eq!(left, BTreeSet::from([1, 2]), "lost, or by luck not");
}

#[test]
fn names_that_were_given_up_are_never_made_good() {
    let left = outcomes(|rt| async move {
        let node = SimNode { world: rt.world.clone(), id: N1 };
        let file = rt.open(path(F), Open::Create).await.expect("room");
        file.write_at(0, filled(&file, 1, 1)).await.expect("room");
        file.sync().await.expect("no faults");
        node.disk().inject("/", DiskFault::NamesGivenUp);
        assert!(is_eio(rt.sync_dir(path("/")).await));
        rt.sync_dir(path("/")).await.expect("the second sync says all is well");
    });
    assert_eq!(left, BTreeSet::from([None, Some(vec![1])]));
}

#[test]
fn failed_sync_of_a_directory_is_made_good_or_ends_all_changes() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed);
        let disk = sim.node(N1).disk();
        let run = sim.block_on(N1, move |rt| async move {
            let file = rt.open(path(F), Open::Create).await.expect("room");
            file.write_at(0, filled(&file, 1, 1)).await.expect("room");
            file.sync().await.expect("no faults");
            disk.inject("/", DiskFault::SyncError);
            assert!(is_eio(rt.sync_dir(path("/")).await));
            let is_well = rt.sync_dir(path("/")).await.is_ok();
            assert_eq!(file.write_at(0, filled(&file, 1, 1)).await.is_ok(), is_well);
            assert_eq!(file.truncate(4096).await.is_ok(), is_well);
            assert_eq!(file.sync().await.is_ok(), is_well);
            assert_eq!(file.read_at(0, 4096).await.expect("no faults")[0], 1, "it can be read");
            assert_eq!(rt.open(path("/other"), Open::Create).await.is_ok(), is_well);
            assert_eq!(rt.create_dir_all(path("/dir")).await.is_ok(), is_well);
            assert_eq!(rt.remove(path("/other")).await.is_ok(), is_well);
            is_well
        });
        let is_well = run.expect("done");
        sim.kill(N1);
        let left = sim.node(N1).disk().read(path(F), 0, 1).ok();
        sim.restart(N1);
        let run = sim.block_on(N1, |rt| async move { drop(make(&rt, "/new", 1, 1).await) });
        run.expect("whoever starts again can write");
        seen.insert((is_well, left));
    }
    assert_eq!(seen, BTreeSet::from([(true, Some(vec![1])), (false, Some(vec![1])), (false, None)]));
}

#[test]
fn injected_faults_happen_once_and_where_asked() {
    let sim = Sim::new(1);
    let disk = sim.node(N1).disk();
    let run = sim.block_on(N1, move |rt| async move {
        let file = make(&rt, F, 8, 1).await;
        let other = make(&rt, "/other", 1, 1).await;
        disk.inject(F, DiskFault::WriteError);
        disk.inject(F, DiskFault::NoSpace);
        disk.inject(F, DiskFault::Misdirected { blocks: 2 });
        other.write_at(0, filled(&file, 1, 9)).await.expect("not meant for this file");
        assert!(is_eio(file.write_at(0, filled(&file, 1, 2)).await));
        assert!(file.write_at(0, filled(&file, 1, 2)).await.is_err_and(|error| error.is_disk_full()));
        file.write_at(4096, filled(&file, 1, 3)).await.expect("it says so");
        assert_eq!(file.read_at(4096, 4096).await.expect("no faults")[0], 1, "the old bytes are still there");
        assert_eq!(file.read_at(3 * 4096, 4096).await.expect("no faults")[0], 3, "and the new ones elsewhere");
        file.write_at(0, filled(&file, 1, 4)).await.expect("each happens once");

        disk.inject(F, DiskFault::ReadError);
        assert!(is_eio(file.read_at(0, 4096).await));
        assert!(is_eio(file.read_at(0, 8192).await), "the sector stays bad");
        assert_eq!(file.read_at(4096, 4096).await.expect("the neighbour is well").len(), 4096);
        file.write_at(0, filled(&file, 1, 5)).await.expect("room");
        assert_eq!(file.read_at(0, 4096).await.expect("written anew")[0], 5);
        disk.spoil(path(F), 8192 + 512).expect("it is there");
        assert!(is_eio(file.read_at(8192, 4096).await));

        disk.inject(F, DiskFault::Stall(10 * SECOND));
        let before = rt.mono();
        file.sync().await.expect("slow and well");
        assert!(rt.mono() - before > 10_000_000_000);

        disk.flip(path(F), 4096 * 7 + 5, 0x80).expect("it is there");
        assert_eq!(file.read_at(4096 * 7, 4096).await.expect("rot is silent")[5], 0x81);
    });
    run.expect("done");
    for name in ["write_error", "no_space", "misdirected_write", "read_error", "disk_stall", "bit_rot"] {
        assert_eq!(sim.coverage().get(name), Some(&1), "{name}");
    }
}

#[test]
fn planned_faults_happen() {
    let mut seen = BTreeMap::new();
    let plan = FaultPlan {
        read_error: 0.1,
        write_error: 0.1,
        sync_error: 0.1,
        misdirected_write: 0.1,
        disk_stall: 0.1,
        bit_rot: 0.5,
        lost_name: 0.5,
        ..FaultPlan::none()
    };
    for seed in 0..100 {
        let sim = Sim::new(SimConfig { seed, faults: plan.clone() });
        let run = sim.block_on(N1, |rt| async move {
            for name in ["/a", "/b"] {
                let Ok(file) = rt.open(path(name), Open::Create).await else { continue };
                for position in 0..4 {
                    let _ = file.write_at(position * 4096, filled(&file, 1, 1)).await;
                }
                let _ = file.sync().await;
                let _ = rt.sync_dir(path("/")).await;
                let _ = file.read_at(0, 8192).await;
            }
        });
        run.expect("done");
        sim.crash(N1);
        sim.coverage().into_iter().for_each(|(name, n)| *seen.entry(name).or_insert(0) += n);
    }
    for name in
        ["read_error", "write_error", "sync_error", "file_system_read_only", "misdirected_write", "disk_stall", "bit_rot", "lost_name"]
    {
        assert!(seen.contains_key(name), "{name} never happened: {seen:?}");
    }
}

#[test]
fn quota_refuses_new_blocks_only() {
    let sim = Sim::new(1);
    let disk = sim.node(N1).disk();
    let run = sim.block_on(N1, move |rt| async move {
        let file = make(&rt, F, 4, 1).await;
        disk.set_quota(Some(6 * 4096));
        assert_eq!(rt.space(path("/")).await.expect("no faults"), crate::Space { free: 2 * 4096, total: 6 * 4096 });
        file.write_at(5 * 4096, filled(&file, 2, 2)).await.expect("just fits");
        assert!(file.write_at(4 * 4096, filled(&file, 1, 3)).await.is_err_and(|error| error.is_disk_full()));
        assert!(rt.open(path("/g"), Open::Create).await.is_err_and(|error| error.is_disk_full()));
        file.write_at(0, filled(&file, 4, 4)).await.expect("old blocks are ours");
        rt.remove(path(F)).await.expect("it is there");
        assert_eq!(rt.space(path("/")).await.expect("no faults").free, 0, "an open file keeps its blocks");
        drop(file);
        assert_eq!(rt.space(path("/")).await.expect("no faults").free, 6 * 4096);
    });
    run.expect("done");
}

#[test]
fn slow_disk_is_slow() {
    let sim = Sim::new(1);
    let time = |sim: &Sim| {
        let before = sim.elapsed();
        sim.block_on(N1, |rt| async move { drop(make(&rt, F, 1, 1).await) }).expect("done");
        sim.elapsed() - before
    };
    let healthy = time(&sim);
    sim.node(N1).disk().slow_down(1000);
    assert!(time(&sim) > healthy * 20);
}

#[test]
fn full_disk_may_take_a_part() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed);
        let disk = sim.node(N1).disk();
        let run = sim.block_on(N1, move |rt| async move {
            let file = make(&rt, F, 1, 1).await;
            disk.set_quota(Some(3 * 4096));
            assert!(file.write_at(0, filled(&file, 8, 2)).await.is_err_and(|error| error.is_disk_full()));
            let left = file.read_at(0, 8 * 4096).await.expect("no faults");
            left.chunks(4096).map(|block| block[0]).collect::<Vec<_>>()
        });
        seen.insert(run.expect("done"));
    }
    assert_eq!(seen, BTreeSet::from([vec![1], vec![2], vec![2, 2], vec![2, 2, 2]]));
}

#[test]
fn later_synced_change_of_a_name_outlives_one_given_up() {
    let left = outcomes(|rt| async move {
        let node = SimNode { world: rt.world.clone(), id: N1 };
        drop(rt.open(path(F), Open::Create).await.expect("room"));
        node.disk().inject("/", DiskFault::NamesGivenUp);
        assert!(is_eio(rt.sync_dir(path("/")).await));
        rt.remove(path(F)).await.expect("it is there");
        rt.sync_dir(path("/")).await.expect("no faults");
    });
    assert_eq!(left, BTreeSet::from([None]), "the removal was synced");
}

#[test]
fn a_calm_disk_has_forgotten_what_was_asked_for() {
    let sim = Sim::new(1);
    let disk = sim.node(N1).disk();
    disk.slow_down(1000);
    disk.inject(F, DiskFault::WriteError);
    disk.calm();
    let run = sim.block_on(N1, move |rt| async move {
        let file = make(&rt, F, 1, 1).await;
        file.write_at(0, filled(&file, 1, 2)).await
    });
    run.expect("done").expect("nothing fails");
    assert!(sim.elapsed() < SECOND, "nor is it slow");
}
