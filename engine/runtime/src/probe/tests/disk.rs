use super::super::disk::{self, Device, Mount, Refused};
use super::*;

const MOUNTS: &str = "\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:5 / /dev rw,nosuid - devtmpfs devtmpfs rw,size=1k
31 21 0:40 / /mnt/with\\040space rw,noatime shared:9 master:1 - btrfs /dev/sdb rw,ssd
32 21 8:17 / /srv rw - xfs /dev/sdb1 rw,nobarrier
33 32 8:33 / /srv/data ro - xfs /dev/sdc1 ro
34 32 8:34 / /srv/data rw,noatime - ext4 /dev/sdc2 rw
a line that is none
";

fn mount(kind: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|o| (*o).to_owned()).collect();
    Mount { point: "/srv".into(), kind: kind.into(), device: "8:1".into(), options }
}

#[test]
fn the_innermost_mount_holds_a_path() {
    let at = |path: &str| Mount::of(MOUNTS, Path::new(path)).map(|mount| (mount.kind, mount.device));
    let is = |kind: &str, device: &str| Some((kind.to_owned(), device.to_owned()));
    assert_eq!(at("/var/lib"), is("ext4", "254:0"));
    assert_eq!(at("/mnt/with space/x"), is("btrfs", "0:40"));
    assert_eq!(at("/srv/other"), is("xfs", "8:17"));
    assert_eq!(at("/srv/database"), is("xfs", "8:17"), "a name that only begins alike is elsewhere");
    assert_eq!(at("/srv/data/x"), is("ext4", "8:34"), "of two mounts on a point the last is seen");
    assert_eq!(Mount::of("", Path::new("/x")), None);
}

#[test]
fn file_systems_are_judged() {
    let judge = |kind: &str, options: &[&str]| disk::file_system(Some(&mount(kind, options)), Path::new("/"));
    assert_eq!(judge("ext4", &["rw"]), Check::ok("file system", "ext4 on /srv"));
    assert_eq!(judge("xfs", &["rw"]).status, Status::Ok);
    for kind in ["btrfs", "overlay", "tmpfs", "nfs4", "fuse.sshfs"] {
        assert_eq!(judge(kind, &["rw"]).status, Status::Warn, "{kind}");
    }
    assert_eq!((judge("jfs", &[]).status, judge("jfs", &[]).advice.is_some()), (Status::Ok, true));
    assert_eq!(judge("ext4", &["rw", "ro"]).status, Status::Fail);
    assert_eq!(judge("ext4", &["rw", "barrier=0"]).status, Status::Fail);
    assert_eq!(judge("xfs", &["rw", "nobarrier"]).status, Status::Fail);
    assert_eq!(disk::file_system(None, Path::new("/")).status, Status::Warn);
    let later = disk::file_system(Some(&mount("ext4", &[])), Path::new("/srv/no/such"));
    assert_eq!(later.found, "ext4 on /srv (/srv/no/such does not exist yet)");
}

#[test]
fn a_disk_and_its_partition_are_read_from_sys() {
    let (_dir, root) = tree(&[
        ("/sys/dev/block/8:0/queue/logical_block_size", "512\n"),
        ("/sys/dev/block/8:0/queue/physical_block_size", "4096\n"),
        ("/sys/dev/block/8:0/queue/rotational", "1\n"),
        ("/sys/dev/block/8:0/queue/write_cache", "write back\n"),
        ("/sys/dev/block/8:0/8:1/partition", "1\n"),
        ("/sys/dev/block/9:0/size", "1\n"),
    ]);
    let found = disk::device(&root, "8:0").expect("a disk");
    assert_eq!(disk::blocks(&found), Check::ok("disk", "8:0: blocks of 512 B, 4096 B physical, rotating or virtual, write back cache"));
    assert_eq!(disk::device(&root, "8:0/8:1").expect("its partition").physical, 4096);
    assert_eq!(disk::device(&root, "9:0"), None);
    assert_eq!(disk::device(&root, "0:40"), None);
    let sized =
        |logical, physical| disk::blocks(&Device { name: "x".into(), logical, physical, rotates: false, cache: String::new() }).status;
    assert_eq!((sized(4096, 4096), sized(4096, 16384), sized(16384, 16384)), (Status::Ok, Status::Warn, Status::Fail));
}

#[test]
fn room_is_judged() {
    let judge = |free| disk::room(Ok(Space { free, total: 1 << 40 })).status;
    assert_eq!((judge(1 << 20), judge(1 << 30), judge(1 << 39)), (Status::Fail, Status::Warn, Status::Ok));
    assert_eq!(disk::room(Err(io::Error::from_raw_os_error(libc::EACCES))).status, Status::Warn);
}

#[test]
fn a_refusal_says_how_to_mend_it() {
    let refused = |doing, errno| {
        let checks = disk::syncs(Err(Refused { doing, error: io::Error::from_raw_os_error(errno) }), Path::new("/srv"));
        assert_eq!((checks.len(), checks[0].status), (1, Status::Fail));
        advice(&checks[0]).to_owned()
    };
    assert!(refused("create a file", libc::EACCES).contains("right to write"));
    assert!(refused("open for direct I/O", libc::EINVAL).contains("O_DIRECT"));
    assert!(refused("write with direct I/O", libc::EINVAL).contains("O_DIRECT"));
    assert!(!refused("sync", libc::EINVAL).contains("O_DIRECT"));
    assert!(refused("write", libc::ENOSPC).contains("free some"));
    assert!(refused("sync", libc::EIO).contains("dmesg"));
}

#[test]
fn syncs_are_judged_by_their_median_and_their_worst() {
    let ms = |n: u64| Duration::from_millis(n);
    let judge = |took: Vec<Duration>| disk::latency(took);
    let mut took = vec![ms(1); 63];
    took.push(ms(20));
    let fine = judge(took.clone());
    assert_eq!((fine.status, fine.found.as_str()), (Status::Ok, "4 KiB written and synced: median 1.00 ms, p99 20.00 ms of 64"));
    took.push(ms(200));
    assert!(advice(&judge(took)).contains("stalls"));
    assert!(advice(&judge(vec![ms(9); 64])).contains("every acknowledgement"));
    assert_eq!(judge(vec![ms(6_000)]).status, Status::Warn, "one sync is a measurement too");
    assert_eq!(judge(vec![]).status, Status::Ok, "and none is no reason to panic");
}
