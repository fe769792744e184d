//! Replication is broken on purpose by the patches in `tests/mutants`, and `tools/cluster-mutants` looks whether the simulator notices. Here it is held
//! that each still applies: a change of what it breaks has to take it along.
#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]
#![expect(clippy::disallowed_methods, reason = "it reads the patches")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

fn patches() -> Vec<PathBuf> {
    let listed = fs::read_dir(root().join("raft/tests/mutants")).unwrap();
    listed.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|extension| extension == "patch")).collect()
}

/// What git says to it. The sources may lie in somebody else's repository, which is none of its business: it would skip them.
fn git_apply(patch: &Path, option: &str) -> Result<String, String> {
    let around = root().parent().expect("the workspace is not the root of the disk");
    let mut git = Command::new("git");
    let run = git.current_dir(root()).env("GIT_CEILING_DIRECTORIES", around).args(["apply", option]).arg(patch).output();
    let out = run.expect("git is there");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if out.status.success() { Ok(text(out.stdout)) } else { Err(text(out.stderr)) }
}

#[test]
fn every_mutant_applies_and_says_what_it_breaks() {
    let all = patches();
    assert!(all.len() >= 12, "only {} mutants", all.len());
    for patch in &all {
        let name = patch.display();
        let first = fs::read_to_string(patch).unwrap().lines().next().unwrap_or_default().to_owned();
        assert!(
            first.ends_with('.') && first.contains(' ') && !first.contains('|'),
            "{name} does not begin with what is broken: {first:?}"
        );
        let changed = git_apply(patch, "--numstat").unwrap_or_else(|said| panic!("{name} is no patch: {said}"));
        let files: Vec<&str> = changed.lines().filter_map(|line| line.split('\t').nth(2)).collect();
        let is_ours = |file: &&str| ["log/src/", "raft/src/"].iter().any(|room| file.starts_with(room));
        assert!(!files.is_empty() && files.iter().all(is_ours), "{name} changes {files:?}");
        git_apply(patch, "--check").unwrap_or_else(|said| panic!("{name} does not apply any more: {said}"));
    }
}
