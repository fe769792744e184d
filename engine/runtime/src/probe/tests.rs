use super::*;
use crate::{
    Space,
    sys::{ClockState, Limit},
    topology::tests::{machine, within},
};
use std::{io, time::Duration};

mod disk;

/// A made-up tree of /proc and /sys, removed with the directory.
fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let root = Root(dir.path().to_path_buf());
    for (path, text) in files {
        let path = root.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    (dir, root)
}

fn advice(check: &Check) -> &str {
    check.advice.as_deref().unwrap_or_default()
}

#[test]
fn this_machine_can_run_a_node() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let checks = doctor(&dir.path().join("not/yet/there"));
    for check in &checks {
        // Warnings are for whoever owns the machine; what fails here, the other tests need too.
        assert!(check.status != Status::Fail, "{check:?}");
        assert!(check.status == Status::Ok || check.advice.is_some(), "{check:?}");
        assert!(!check.found.is_empty(), "{check:?}");
    }
    let names: Vec<_> = checks.iter().map(|check| check.name).filter(|name| *name != "disk").collect();
    assert_eq!(
        names,
        [
            "kernel",
            "io_uring",
            "locked memory",
            "open files",
            "clock source",
            "clock",
            "time synchronisation",
            "file system",
            "free space",
            "direct I/O",
            "sync latency",
            "CPUs",
            "NUMA",
            "CPU governor",
            "huge pages"
        ]
    );
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0, "nothing is left behind");
}

#[test]
fn a_panic_in_a_check_is_a_finding() {
    let checks = guarded("odd", &|| panic!("on purpose"));
    assert_eq!(checks.len(), 1);
    assert_eq!((checks[0].status, checks[0].found.as_str()), (Status::Fail, "the check itself failed: on purpose"));
}

#[test]
fn kernels_are_told_apart() {
    let status = |release: &str| kernel::version(Some(release)).status;
    assert_eq!(status("4.19.0-25-amd64"), Status::Fail);
    assert_eq!(status("5.12.19"), Status::Fail);
    assert_eq!(status("5.13.0"), Status::Ok);
    assert_eq!(status("5.14.0-427.el9.x86_64"), Status::Ok);
    assert!(kernel::version(Some("5.14.0")).advice.is_some());
    assert_eq!(kernel::version(Some("6.1.0-18-cloud-amd64")), Check::ok("kernel", "Linux 6.1.0-18-cloud-amd64"));
    assert_eq!(status("something"), Status::Warn);
    assert_eq!(kernel::version(None).status, Status::Warn);
}

#[test]
fn a_refused_ring_names_who_refuses_it() {
    let refused = |errno, disabled, seccomp| kernel::ring(Err(io::Error::from_raw_os_error(errno)), disabled, seccomp);
    assert_eq!(kernel::ring(Ok(()), Some("0"), true).status, Status::Ok);
    for (check, word) in [
        (refused(libc::EPERM, Some("2"), false), "kernel.io_uring_disabled=0"),
        (refused(libc::EPERM, Some("1"), true), "kernel.io_uring_group"),
        (refused(libc::EPERM, Some("0"), true), "seccomp"),
        (refused(libc::EPERM, None, false), "SELinux"),
        (refused(libc::ENOSYS, None, true), "seccomp"),
        (refused(libc::ENOSYS, None, false), "CONFIG_IO_URING"),
        (refused(libc::ENOMEM, None, false), "LimitMEMLOCK"),
        (refused(libc::EMFILE, None, false), "LimitNOFILE"),
    ] {
        assert_eq!(check.status, Status::Fail);
        assert!(advice(&check).contains(word), "{check:?} should say {word}");
    }
}

#[test]
fn limits_that_are_too_low_say_what_to_set() {
    let kib = |soft: u64| limits::memlock(Limit { soft: soft * 1024, hard: u64::MAX }, 2);
    assert_eq!(kib(64).status, Status::Ok, "the kernel does not count rings");
    assert!(advice(&kib(64)).contains("LimitMEMLOCK=1M"), "{:?}", kib(64));
    assert!(advice(&kib(64)).contains("`ulimit -l 1024`"), "{:?}", kib(64));
    assert_eq!(kib(1024), Check::ok("locked memory", "1 MiB"), "what is advised is enough");
    assert_eq!(limits::memlock(Limit { soft: u64::MAX, hard: u64::MAX }, 64).advice, None);
    let files = |hard| limits::files(Limit { soft: 256, hard });
    assert_eq!((files(512).status, files(4096).status, files(1 << 20).status), (Status::Fail, Status::Warn, Status::Ok));
    assert_eq!(files(1024).status, Status::Warn);
    assert_eq!(files(u64::MAX), Check::ok("open files", "no limit"));
}

#[test]
fn clocks_are_judged() {
    let ns = Duration::from_nanos;
    assert_eq!(clock::reading(Some("tsc"), ns(25)), Check::ok("clock source", "tsc, 25 ns a reading"));
    assert!(clock::reading(Some("xen"), ns(300)).advice.is_some());
    assert_eq!(clock::reading(Some("hpet"), ns(1_500)).status, Status::Warn);
    assert_eq!(clock::reading(None, ns(30)).status, Status::Ok);
    let ms = Duration::from_millis;
    let watched = |wall, now| clock::going(&clock::Watched { mono: ms(50), wall, now: Some(Duration::from_secs(now)) });
    let today = 1_760_000_000;
    assert_eq!(watched(Some(ms(50)), today).status, Status::Ok);
    assert_eq!(watched(Some(ms(54)), today).status, Status::Ok);
    assert_eq!(watched(Some(ms(3_650)), today).status, Status::Warn);
    assert_eq!(watched(Some(ms(40)), today).status, Status::Warn);
    assert_eq!(watched(None, today).status, Status::Warn);
    assert!(watched(Some(ms(50)), 12).found.contains("years behind"));
    let kept = |synchronised| clock::kept(&Ok(ClockState { synchronised, error_us_max: 1_500 }));
    assert_eq!(kept(true), Check::ok("time synchronisation", "kept in step, at most 1.5 ms off"));
    assert_eq!(kept(false).status, Status::Warn);
    assert_eq!(clock::kept(&Err(io::Error::from_raw_os_error(libc::EPERM))).status, Status::Ok);
}

#[test]
fn governors_and_huge_pages_are_read_from_sys() {
    let (_dir, root) = tree(&[
        ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
        ("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n"),
        ("/sys/devices/system/cpu/online", "0-1\n"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
    ]);
    let governor = machine::governor(&root);
    assert_eq!(governor.found, "performance on 1, powersave on 1");
    assert!(governor.advice.is_some());
    assert!(machine::huge_pages(&root).advice.is_some());
    let (_dir, root) = tree(&[
        ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ]);
    assert_eq!(machine::governor(&root), Check::ok("CPU governor", "performance on 1"));
    assert_eq!(machine::huge_pages(&root), Check::ok("huge pages", "transparent, madvise"));
    let (_dir, bare) = tree(&[]);
    assert_eq!((machine::governor(&bare).advice, machine::huge_pages(&bare).advice), (None, None));
}

#[test]
fn cpus_and_nodes_are_told() {
    let two = machine(&[(0, 0, 0), (1, 0, 0), (2, 1, 1), (3, 1, 1)]);
    assert_eq!(machine::cpus(&two), Check::ok("CPUs", "4 may be used (0-3), 2 physical cores; --cores all runs 2 on 0,2"));
    assert_eq!(machine::numa(&two).found, "2 nodes, cores and their memory are spread over them (node 0: CPUs 0-1; node 1: CPUs 2-3)");
    let quota = machine::cpus(&within(&two, &[0, 1, 2, 3], 1));
    assert!(advice(&quota).contains("the time of 1 CPUs") && quota.found.ends_with("runs 1 on 0"), "{quota:?}");
    assert!(machine::cpus(&machine(&[(7, 0, 0)])).advice.is_some());
    assert_eq!(machine::numa(&machine(&[(7, 0, 0)])), Check::ok("NUMA", "one node"));
}

#[test]
fn bytes_are_written_for_people() {
    for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"), (1 << 50, "1 PiB")] {
        assert_eq!(bytes_text(bytes), text);
    }
}
