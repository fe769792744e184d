use super::*;

fn spec(dir: &Path) -> LimitSpec {
    LimitSpec {
        dir: dir.to_owned(),
        write_bytes: 16384,
        writers: 8,
        file_bytes: 8 << 20,
        duration: Duration::from_millis(60),
        cpu: None,
        writes: true,
        reads: true,
    }
}

#[test]
fn all_four_measurements_move_bytes_and_leave_nothing_behind() {
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let limit = run(&spec(dir.path()), |_| ()).expect("a disk that takes direct I/O");
    for figure in [&limit.one_by_one, &limit.gathered, &limit.side_by_side, &limit.read] {
        assert!(figure.bytes_per_s > 0.0 && figure.latency.p50_ns > 0 && figure.latency.count > 0);
    }
    let per_op = limit.side_by_side.bytes_per_s / limit.side_by_side.ops_per_s;
    assert!((per_op - 16384.0).abs() < 1.0, "bytes per write: {per_op}");
    let per_commit = limit.gathered.bytes_per_s / limit.gathered.ops_per_s;
    assert!((per_commit - 8.0 * 16384.0).abs() < 8.0, "bytes per gathered write: {per_commit}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let good = spec(dir.path());
    for wrong in [
        LimitSpec { write_bytes: 1000, ..good.clone() },
        LimitSpec { write_bytes: 0, ..good.clone() },
        LimitSpec { writers: 5000, ..good.clone() },
        LimitSpec { file_bytes: 1 << 16, ..good.clone() },
    ] {
        assert!(run(&wrong, |_| ()).is_err(), "{wrong:?}");
    }
}
