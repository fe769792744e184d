//! What the documents name exists: files in backquotes, links to files, `make` targets, metrics and alerts.
#![expect(clippy::disallowed_methods, reason = "it reads the documents")]

use millpond::metrics::{self, CoreSnapshot, LagSnapshot, LedSnapshot, PeerSnapshot, QueueSnapshot, TopicSnapshot};
use millpond_wire::messages::{Code, Kind};
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
    for dir in ["docs", "docs/decisions", "docs/operations"] {
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

fn operations(file: &str) -> String {
    fs::read_to_string(root().join("docs/operations").join(file)).expect("the pages for operators are there")
}

/// The names of all samples that a node renders, and the labels that any of them has.
fn rendered() -> (BTreeSet<String>, BTreeSet<String>) {
    let mut core = CoreSnapshot::new(0);
    core.count_request(Kind::Produce, 1);
    core.count_error(Code::Overloaded);
    core.queues.push(QueueSnapshot::default());
    core.topics.push(TopicSnapshot::default());
    core.lags.push(LagSnapshot::default());
    core.cluster.peers.push(PeerSnapshot::default());
    core.cluster.topics.push(LedSnapshot::default());
    let text = metrics::render("1", true, vec![core]);
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let names = lines().filter_map(|line| line.split([' ', '{']).next()).map(str::to_owned).collect();
    let labels = lines().filter_map(|line| line.split_once('{')).flat_map(|(_, rest)| rest.split(',')).filter_map(|l| l.split_once('='));
    (names, labels.map(|(label, _)| label.to_owned()).collect())
}

/// Each whole word of a text that begins with this.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(move |word| word.starts_with(prefix))
}

/// What is between parentheses after each `by`, word by word.
fn grouped_by(text: &str) -> impl Iterator<Item = &str> {
    text.split(" by (").skip(1).filter_map(|rest| rest.split(')').next()).flat_map(|list| list.split(", "))
}

#[test]
fn what_dashboard_and_alerts_ask_for_is_what_a_node_renders() {
    let (names, mut labels) = rendered();
    // Prometheus gives these to whatever it scrapes.
    labels.extend(["job", "instance"].map(str::to_owned));
    let dashboard: serde_json::Value = serde_json::from_str(&operations("dashboard.json")).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let asked = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut asked: Vec<String> = asked.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect();
    let variables = dashboard["templating"]["list"].as_array().expect("it has variables");
    asked.extend(variables.iter().filter_map(|variable| variable["definition"].as_str()).map(str::to_owned));
    assert!(asked.len() > 40, "{} expressions", asked.len());
    asked.push(operations("alerts.yml"));
    for text in &asked {
        for name in words(text, "millpond_") {
            assert!(names.contains(name), "{name} is rendered by no node: {text}");
        }
        for label in grouped_by(text) {
            assert!(labels.contains(label), "nothing has a label {label}: {text}");
        }
    }
}

#[test]
fn a_dashboard_leaves_the_data_source_to_whoever_imports_it() {
    let dashboard: serde_json::Value = serde_json::from_str(&operations("dashboard.json")).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "{} has the id of another", panel["title"]);
        assert!(panel["type"] == "row" || panel["datasource"]["uid"] == "${datasource}", "{} has a source of its own", panel["title"]);
    }
}

#[test]
fn each_alert_is_explained() {
    let (alerts, page) = (operations("alerts.yml"), operations("README.md"));
    let names: BTreeSet<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let explained: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### Millpond").map(|_| &line[4..])).collect();
    assert!(names.len() > 10, "{names:?}");
    assert_eq!(names, explained);
}
