use super::*;

#[test]
fn the_longest_mount_point_names_the_file_system() {
    let mounts = "/dev/a / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/b /procession xfs rw 0 0\n";
    assert_eq!(file_system(mounts, Path::new("/proc/self")).as_deref(), Some("proc"));
    assert_eq!(file_system(mounts, Path::new("/")).as_deref(), Some("ext4"));
    assert_eq!(file_system(mounts, Path::new("/no/such/path")), None);
}

#[test]
fn this_machine_has_a_kernel_a_cpu_and_memory() {
    let facts = Facts::read(Path::new("."), 1);
    assert!(!facts.kernel.is_empty() && facts.cpus > 0 && facts.memory_bytes > 0);
    assert!(facts.version.contains(env!("CARGO_PKG_VERSION")));
}
