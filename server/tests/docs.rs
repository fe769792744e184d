//! What the documents name exists: files in backquotes, links to files, `make` targets.
#![expect(clippy::disallowed_methods, reason = "it reads the documents")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "fuzz/README.md"].iter().map(|f| root().join(f)).collect();
    for dir in ["docs", "docs/decisions"] {
        let listed = fs::read_dir(root().join(dir)).expect("the documents are there");
        found.extend(listed.map(|e| e.expect("readable").path()).filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    found
}

/// The texts between backquotes, and the targets of links.
fn named(text: &str) -> (Vec<&str>, Vec<&str>) {
    let quoted = text.split('`').skip(1).step_by(2).filter(|t| !t.contains('\n')).collect();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    (quoted, links)
}

/// Whether this is meant to be a file of the repository.
fn is_path(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-".contains(c));
    let ours = ["engine/", "log/", "raft/", "client/", "server/", "benches/", "fuzz/", "docs/", "tools/"]
        .iter()
        .any(|room| text.starts_with(room));
    plain && ours && !text.contains("..")
}

#[test]
fn files_and_links_that_are_named_exist() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("readable");
        let dir = document.parent().expect("in a directory");
        let (quoted, links) = named(&text);
        let quoted = quoted.into_iter().filter(|t| is_path(t)).map(|t| root().join(t));
        let links = links.into_iter().filter(|l| !l.starts_with("http") && !l.starts_with('#'));
        let links = links.map(|l| dir.join(l.split('#').next().unwrap_or(l)));
        for path in quoted.chain(links) {
            seen += 1;
            if !path.exists() {
                missing.push(format!("{}: {}", document.display(), path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(seen > 10, "the documents name files");
}

#[test]
fn targets_that_are_named_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("a Makefile");
    let targets: BTreeSet<&str> = makefile.lines().filter_map(|l| l.split_once(':').map(|(t, _)| t)).collect();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("readable");
        let (quoted, _) = named(&text);
        for target in quoted.iter().filter_map(|t| t.strip_prefix("make ")).filter_map(|t| t.split_whitespace().next()) {
            assert!(targets.contains(target), "{}: there is no `make {target}`", document.display());
        }
    }
}
