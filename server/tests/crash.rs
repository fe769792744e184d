//! A handful of the rounds of `millpond bench crash`, where a real server is killed under load, and a short `millpond bench chaos`, where that and more is
//! done to three of them: nothing acknowledged is lost. `make crash-test N=500` and `make chaos-test D=10m` run as much as one likes.
#![expect(clippy::disallowed_methods, reason = "real files of a real process")]

use millpond_bench::{
    BenchArgs, Common,
    args::{ChaosArgs, CrashArgs, Scenario},
};
use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

const ROUNDS: usize = 6;
const CHAOS: Duration = Duration::from_secs(12);

/// One at a time: each keeps the machine busy.
static TURN: Mutex<()> = Mutex::new(());

/// Every file of ours below `dir`, as `millpond inspect` tells it.
fn inspect(dir: &Path, told: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).expect("a directory of the server").map(|entry| entry.expect("an entry of it").path()) {
        if entry.is_dir() {
            inspect(&entry, told);
        } else if entry.extension().is_some_and(|end| end == "jnl" || end == "seg") {
            let bytes = fs::read(&entry).expect("a file of the server");
            told.push((entry.display().to_string(), millpond_log::inspect::describe(&bytes, true)));
        }
    }
}

#[test]
fn three_nodes_bear_what_happens_to_their_processes() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for data");
    let chaos = ChaosArgs {
        duration: CHAOS,
        seed: None,
        nodes: 3,
        no_netns: true,
        full_disks: false,
        no_trims: false,
        partitions: 6,
        producers: 2,
        server_cpus: Some("1".into()),
        dir: Some(dir.path().join("chaos")),
        keep: true,
        program: Some(env!("CARGO_BIN_EXE_millpond").into()),
    };
    let common = Common { servers: Vec::new(), json: false, quiet: true };
    if let Err(error) = millpond_bench::run(&BenchArgs { scenario: Scenario::Chaos(chaos) }, &common) {
        panic!("{error:#}; {} is kept", dir.keep().display());
    }
}

#[test]
fn kills_under_load_lose_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for data");
    let crash = CrashArgs {
        rounds: ROUNDS,
        seed: None,
        partitions: 6,
        producers: 4,
        server_cpus: None,
        dir: Some(dir.path().join("crash")),
        keep: true,
        program: Some(env!("CARGO_BIN_EXE_millpond").into()),
    };
    let common = Common { servers: Vec::new(), json: false, quiet: true };
    let done = millpond_bench::run(&BenchArgs { scenario: Scenario::Crash(crash) }, &common);
    if let Err(error) = done {
        // What is left is needed to find out why.
        panic!("{error:#}; {} is kept", dir.keep().display());
    }
    let mut told = Vec::new();
    inspect(dir.path(), &mut told);
    assert!(told.iter().any(|(_, text)| text.contains("journal file")), "no journal was found");
    for (file, text) in told {
        let damage: Vec<&str> = text.lines().filter(|line| line.contains("DAMAGED")).collect();
        assert!(damage.is_empty(), "{file}: {damage:#?}");
    }
}
