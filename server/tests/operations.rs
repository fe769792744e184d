//! Short runs of `millpond bench moves` and `millpond bench groups`: what is done to clusters in use, and many groups. Figures are not looked at; that nothing
//! is lost, and no request fails, is.

use millpond_bench::{
    BenchArgs, Common,
    args::{GroupsArgs, MovesArgs, Scenario},
};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// One at a time: each keeps the machine busy.
static TURN: Mutex<()> = Mutex::new(());
const CALM: Duration = Duration::from_millis(500);

fn run(scenario: Scenario, dir: tempfile::TempDir) {
    let common = Common { servers: Vec::new(), json: true, quiet: true };
    if let Err(error) = millpond_bench::run(&BenchArgs { scenario }, &common) {
        panic!("{error:#}; {} is kept", dir.keep().display());
    }
}

#[test]
fn nodes_are_restarted_and_come_and_go_and_nothing_is_lost() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for data");
    let moves = MovesArgs {
        only: Vec::new(),
        partitions: 6,
        producers: 2,
        rate: 200,
        load_bytes: 1 << 20,
        quiet_for: CALM,
        calm: CALM,
        server_cpus: Some("1".into()),
        dir: Some(dir.path().join("moves")),
        keep: true,
        program: Some(env!("CARGO_BIN_EXE_millpond").into()),
    };
    run(Scenario::Moves(moves), dir);
}

#[test]
fn many_groups_take_a_load_and_bear_the_loss_of_a_node() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for data");
    let groups = GroupsArgs {
        only: Vec::new(),
        active: 20,
        few: 2,
        groups: 60,
        turns: 1,
        duration: CALM,
        warm_up: CALM / 5,
        calm: CALM,
        connections: 4,
        in_flight: 2,
        batch_bytes: 4 << 10,
        message_size: 1_000,
        server_cores: "1".into(),
        dir: Some(dir.path().join("groups")),
        program: Some(env!("CARGO_BIN_EXE_millpond").into()),
    };
    run(Scenario::Groups(groups), dir);
}
