use super::*;
use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt};

fn file(dir: &std::path::Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).custom_flags(libc::O_DIRECT);
    options.open(dir.join("ring")).expect("a file for direct I/O")
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let mut ring = Ring::new(file(dir.path()), 8, 4 * ALIGN).expect("a ring");
    for (i, byte) in ring.memory().iter_mut().enumerate() {
        *byte = (i / ALIGN) as u8 + 1;
    }
    for block in 0..4 {
        ring.write(block as u64, (3 - block) * ALIGN, ALIGN, (block * ALIGN) as u64).expect("room");
    }
    let mut seen = 0;
    while seen < 4 {
        ring.wait(4 - seen, |done| assert_eq!(done.bytes, ALIGN)).expect("written");
        seen = 4 - ring.in_flight;
    }
    ring.sync(9).expect("room");
    ring.wait(1, |done| assert_eq!(done.tag, 9)).expect("synced");
    ring.memory().fill(0);
    ring.read(1, 0, 4 * ALIGN, 0).expect("room");
    ring.wait(1, |done| assert_eq!(done.bytes, 4 * ALIGN)).expect("read");
    let firsts: Vec<u8> = ring.memory().chunks(ALIGN).map(|block| block[0]).collect();
    assert_eq!(firsts, [4, 3, 2, 1]);
}

#[test]
fn what_the_kernel_refuses_is_an_error_and_the_ring_goes_on() {
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let mut ring = Ring::new(file(dir.path()), 8, ALIGN).expect("a ring");
    assert!(ring.write(1, 0, 2 * ALIGN, 0).is_err(), "beyond the memory");
    ring.write(1, 0, ALIGN, 7).expect("room");
    assert!(ring.wait(1, |_| ()).is_err(), "a position that direct I/O does not take");
    ring.write(2, 0, ALIGN, 0).expect("room");
    ring.wait(1, |done| assert_eq!(done.tag, 2)).expect("written");
}

#[test]
fn a_ring_that_goes_with_work_under_way_waits_for_it() {
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let mut ring = Ring::new(file(dir.path()), 64, 64 * ALIGN).expect("a ring");
    for i in 0..64 {
        ring.write(i as u64, i * ALIGN, ALIGN, (i * ALIGN) as u64).expect("room");
    }
    drop(ring);
    assert_eq!(std::fs::metadata(dir.path().join("ring")).expect("there").len(), 64 * ALIGN as u64);
}
