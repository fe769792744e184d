//! What a process of cores does as a whole: what it costs while it idles, and how it ends.
//!
//! Each test runs its part in a child (this program again, told its part by a variable), since other tests of the same
//! process would be counted, or ended, with it.
#![expect(clippy::disallowed_methods, reason = "real processes, in real time")]

use millpond_runtime::{
    Rt, Share,
    cores::{Cores, CoresConfig, EXIT_HALTED},
    placement::Placement,
    ring::RingRt,
    topology::Topology,
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

/// Tells a child its part.
const PART: &str = "MILLPOND_TEST_PART";
/// And where it may write.
const DIR: &str = "MILLPOND_TEST_DIR";

/// Runs the test `test` again in a child with a part to play.
fn child(test: &str, part: &str) -> Output {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let program = env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(PART, part).env(DIR, dir.path());
    command.output().expect("the child was started")
}

/// In a child: its part, and its directory.
fn part() -> Option<(String, PathBuf)> {
    Some((env::var(PART).ok()?, env::var_os(DIR)?.into()))
}

fn config(cores: usize, pin: bool, dir: &Path) -> CoresConfig {
    let cores = cores.min(Topology::read().cpus().len());
    let cpus = Placement::plan(&Topology::read(), Some(cores), pin).expect("no more than there are").cpus();
    CoresConfig { cpus, pool_threads: 1, idle_poll: Duration::ZERO, seed: 1, data_dirs: vec![dir.to_path_buf()] }
}

/// CPU time of all threads of this process so far.
fn cpu_time() -> Duration {
    let of = |entry: std::io::Result<fs::DirEntry>| {
        // A thread that ends meanwhile has done next to nothing.
        let text = fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    fs::read_dir("/proc/self/task").expect("our threads").filter_map(of).sum()
}

#[test]
fn idle_cores_take_less_than_a_hundredth_of_their_cpus() {
    const WATCHED: Duration = Duration::from_secs(3);
    if let Some((_, dir)) = part() {
        let config = config(2, true, &dir);
        let idle = |rt: RingRt| async move { rt.sleep(WATCHED + Duration::from_millis(500)).await };
        let cores = Cores::start(&config, idle).expect("cores start");
        std::thread::sleep(Duration::from_millis(250));
        let (before, begun) = (cpu_time(), Instant::now());
        std::thread::sleep(WATCHED);
        let share = (cpu_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64() / config.cpus.len() as f64;
        assert!(cores.join().iter().all(Result::is_ok), "the cores went on well meanwhile");
        println!("share: {share}");
        return;
    }
    let output = child("idle_cores_take_less_than_a_hundredth_of_their_cpus", "idle");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let share = text.lines().find_map(|line| line.split_once("share: ")?.1.parse::<f64>().ok());
    let share = share.unwrap_or_else(|| panic!("the child measured nothing: {output:?}"));
    assert!(share < 0.01, "each idle core takes {:.2} % of a CPU", share * 100.0);
}

/// Runs a child that panics on one of its two cores while the other would go on for long; how it ended.
fn panicking(test: &str, part: &str) {
    let output = child(test, part);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(EXIT_HALTED), "{output:?}");
    assert!(said.contains("the node halts") && said.contains("on purpose"), "{said}");
}

/// Plays the part of [`panicking`]; the other core sleeps far longer than any test runs.
fn panic_on_core_0(dir: &Path, panics: impl Fn(&RingRt) + Clone + Send + 'static) {
    let main = move |rt: RingRt| {
        let panics = panics.clone();
        async move {
            if rt.core().0 == 0 {
                panics(&rt);
            }
            rt.sleep(Duration::from_secs(3600)).await;
        }
    };
    Cores::start(&config(2, false, dir), main).expect("cores start").join();
}

#[test]
fn a_panic_in_a_task_ends_the_process() {
    if let Some((_, dir)) = part() {
        return panic_on_core_0(&dir, |rt| rt.spawn("bad", Share::Background, async { panic!("on purpose") }));
    }
    panicking("a_panic_in_a_task_ends_the_process", "panic");
}

#[test]
fn a_panic_in_a_core_ends_the_process() {
    if let Some((_, dir)) = part() {
        return panic_on_core_0(&dir, |_| panic!("on purpose"));
    }
    panicking("a_panic_in_a_core_ends_the_process", "panic");
}

#[test]
fn pinned_cores_stay_where_they_were_put_and_the_pool_where_it_has_room() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let config = config(1, true, dir.path());
    let cpu = config.cpus[0].expect("pinned");
    let main = |rt: RingRt| async move {
        let here = millpond_runtime::sys::allowed_cpus().expect("the CPUs of the core");
        let beside = rt.offload("where", millpond_runtime::sys::allowed_cpus).await.expect("a job").expect("the CPUs of the pool");
        (here, beside)
    };
    let mut outcome = Cores::start(&config, main).expect("cores start").join();
    let (here, beside) = outcome.remove(0).expect("the core ended well");
    assert_eq!(here, [cpu]);
    let all: Vec<usize> = Topology::read().cpus().iter().map(|cpu| cpu.id).collect();
    let others: Vec<usize> = all.iter().copied().filter(|id| *id != cpu).collect();
    assert_eq!(beside, if others.is_empty() { all } else { others });
}

#[test]
fn cores_that_cannot_all_be_made_are_not_started_at_all() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mut config = config(1, true, dir.path());
    config.cpus.push(Some(usize::MAX / 2));
    let ran = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let noted = std::sync::Arc::clone(&ran);
    let main = move |_: RingRt| {
        noted.store(true, std::sync::atomic::Ordering::SeqCst);
        async {}
    };
    let refused = Cores::start(&config, main).err().expect("there is no such CPU");
    assert!(refused.to_string().starts_with("core 1 could not be started"), "{refused}");
    assert!(!ran.load(std::sync::atomic::Ordering::SeqCst), "the core that could be made ran");
}
