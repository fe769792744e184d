use super::*;

#[test]
fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
    let line = "4242 (a (strange) name) S 1 2 3 4 5 6 7 8 9 10 250 130 0 0 20 0 3 0 100 1000 50";
    let (name, cpu) = stat(line).expect("a line as the kernel writes it");
    assert_eq!(name, "a (strange) name");
    assert_eq!(cpu, Cpu { user_s: 2.5, system_s: 1.3 });
    assert!(stat("").is_none() && stat("1 (x) S").is_none());
}

#[test]
fn our_own_process_uses_cpu_and_memory() {
    let before = Process::look(std::process::id()).expect("we exist");
    let cpus = crate::sys::cpus_allowed().expect("there are some");
    let busy = busy_s(&cpus).expect("the kernel tells");
    let start = std::time::Instant::now();
    while start.elapsed().as_millis() < 100 {
        std::hint::black_box(0);
    }
    let after = Process::look(std::process::id()).expect("we exist");
    assert!(after.cpu.since(before.cpu).total_s() >= 0.05);
    assert!(busy_s(&cpus).expect("the kernel tells") > busy);
    assert!(all_busy_s().expect("the kernel tells") > busy);
    assert_eq!(busy_s(&[]).expect("the kernel tells"), 0.0);
    assert!(after.rss_bytes > 100_000 && after.rss_peak_bytes >= after.rss_bytes);
    assert!(!after.threads.is_empty());
    assert!(Process::look(u32::MAX).is_err());
}
