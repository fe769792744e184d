//! A crate is a room, a dependency is a door. This test holds the plan of the house: which rooms there are, which of them
//! know which, and which rooms may touch the world by means that everybody else has to ask the runtime for.
//!
//! A new door is a decision: it gets its line here together with a page in `docs/decisions/`.
#![expect(clippy::disallowed_methods, reason = "it reads the manifests")]

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use std::collections::{BTreeMap, BTreeSet};

/// A room, the rooms that it knows, and those that its tests and benchmarks know besides. A room knows only rooms above it in
/// this list, so that there are no circles.
const ROOMS: &[(&str, &[&str], &[&str])] = &[
    ("millpond-runtime", &[], &[]),
    ("millpond-batch", &[], &[]),
    ("millpond-log", &["millpond-batch", "millpond-runtime"], &[]),
    ("millpond-raft", &["millpond-batch", "millpond-log", "millpond-runtime"], &[]),
    ("millpond-wire", &["millpond-batch"], &[]),
    ("millpond-client", &["millpond-batch", "millpond-wire"], &[]),
    // The harness sees a server as its clients do, and the disk without any of our code between.
    ("millpond-bench", &["millpond-batch", "millpond-client", "millpond-wire"], &["millpond-log", "millpond-runtime"]),
    (
        "millpond",
        &["millpond-batch", "millpond-bench", "millpond-client", "millpond-log", "millpond-raft", "millpond-runtime", "millpond-wire"],
        &[],
    ),
];

/// What touches the world, and the rooms that may.
const WORLD: &[(&str, &[&str])] = &[
    ("async-task", &["millpond-runtime"]),
    ("crossbeam", &["millpond-runtime"]),
    ("glommio", &["millpond-runtime"]),
    ("hwlocality", &["millpond-runtime"]),
    ("io-uring", &["millpond-bench", "millpond-runtime"]),
    ("libc", &["millpond-bench", "millpond-runtime"]),
    ("socket2", &["millpond-runtime"]),
    ("memmap2", &["millpond-log"]),
    ("rand", &["millpond-bench", "millpond-client", "millpond-runtime"]),
    // Elsewhere its `sync` alone is used, which needs no runtime: clippy.toml refuses the rest.
    // Its `SystemRandom`: secrets must not follow from a seed.
    ("ring", &["millpond", "millpond-client"]),
    ("tokio", &["millpond", "millpond-bench", "millpond-client", "millpond-log", "millpond-raft", "millpond-runtime"]),
    // HTTP, on the control thread.
    ("tokio-rustls", &["millpond"]),
    ("tokio-stream", &["millpond", "millpond-bench", "millpond-client"]),
    ("axum", &["millpond"]),
    ("prometheus-client", &["millpond"]),
    ("clap", &["millpond", "millpond-bench"]),
    // By other names: nobody.
    ("async-io", &[]),
    ("async-std", &[]),
    ("fastrand", &[]),
    ("getrandom", &[]),
    ("hyper", &[]),
    ("mio", &[]),
    ("monoio", &[]),
    ("nix", &[]),
    ("num_cpus", &[]),
    ("parking_lot", &[]),
    ("rayon", &[]),
    ("rustix", &[]),
    ("smol", &[]),
    ("tokio-uring", &[]),
];

/// The rooms as Cargo sees them.
fn rooms() -> Vec<Package> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo reads the workspace");
    metadata.packages.into_iter().filter(|package| metadata.workspace_members.contains(&package.id)).collect()
}

/// The names of a room's dependencies, in tests and benchmarks alone or otherwise.
fn doors(room: &Package, in_tests: bool) -> BTreeSet<&str> {
    let wanted = |kind| (kind == DependencyKind::Development) == in_tests;
    room.dependencies.iter().filter(|door| wanted(door.kind)).map(|door| door.name.as_str()).collect()
}

#[test]
fn the_plan_has_no_circles() {
    for (n, (room, known, known_in_tests)) in ROOMS.iter().enumerate() {
        for door in known.iter().chain(*known_in_tests) {
            assert!(ROOMS[..n].iter().any(|(above, ..)| above == door), "{room} knows {door}, which is not above it");
        }
    }
}

#[test]
fn rooms_know_those_that_the_plan_says() {
    let found = rooms();
    let names: BTreeSet<&str> = found.iter().map(|room| room.name.as_str()).collect();
    assert_eq!(names, ROOMS.iter().map(|(room, ..)| *room).collect(), "the rooms of the workspace");
    for (name, known, known_in_tests) in ROOMS {
        let room = found.iter().find(|room| room.name.as_str() == *name).expect("compared above");
        for (in_tests, plan) in [(false, known), (true, known_in_tests)] {
            let doors: BTreeSet<&str> = doors(room, in_tests).into_iter().filter(|door| names.contains(door)).collect();
            assert_eq!(doors, plan.iter().copied().collect(), "the rooms that {name} knows{}", if in_tests { " in tests" } else { "" });
        }
    }
}

#[test]
fn the_world_is_touched_where_the_plan_says() {
    let found = rooms();
    let mut touched: BTreeMap<&str, BTreeSet<&str>> = WORLD.iter().map(|(what, _)| (*what, BTreeSet::new())).collect();
    for room in &found {
        for door in doors(room, false).into_iter().chain(doors(room, true)) {
            if let Some(rooms) = touched.get_mut(door) {
                rooms.insert(room.name.as_str());
            }
        }
    }
    for (what, rooms) in WORLD {
        assert_eq!(touched[what], rooms.iter().copied().collect(), "the rooms that depend on {what}");
    }
}

#[test]
fn every_room_says_what_it_is_and_takes_versions_from_the_workspace() {
    for room in rooms() {
        assert!(room.description.as_deref().is_some_and(|text| text.ends_with('.')), "{} has no description", room.name);
        let text = std::fs::read_to_string(&room.manifest_path).expect("its manifest");
        let own = text.lines().filter(|line| line.contains("version =")).collect::<Vec<_>>();
        assert!(own.is_empty(), "{} has versions of its own: {own:?}", room.name);
        assert!(text.contains("[lints]\nworkspace = true"), "{} has lints of its own", room.name);
    }
}
