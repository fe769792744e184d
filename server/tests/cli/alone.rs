//! What the command does without a server.

use super::command::{millpond, run};
use std::{fs, path::Path, process::Stdio};

/// Help texts are written down, so that a change of them is seen: `UPDATE=1 cargo test` rewrites them.
#[test]
fn help_is_as_written_down() {
    let commands: &[&[&str]] = &[
        &[],
        &["serve"],
        &["topic"],
        &["topic", "create"],
        &["topic", "list"],
        &["topic", "describe"],
        &["topic", "alter"],
        &["topic", "trim"],
        &["topic", "delete"],
        &["produce"],
        &["consume"],
        &["replay"],
        &["group"],
        &["group", "describe"],
        &["group", "seek"],
        &["quota", "set"],
        &["certificate"],
        &["certificate", "authority"],
        &["certificate", "node"],
        &["certificate", "client"],
        &["user"],
        &["user", "create"],
        &["user", "delete"],
        &["cluster"],
        &["cluster", "rebalance"],
        &["node"],
        &["node", "drain"],
        &["node", "decommission"],
        &["node", "recover"],
        &["dev-cluster"],
        &["doctor"],
        &["inspect"],
        &["bench"],
        &["bench", "chaos"],
        &["bench", "compare"],
        &["bench", "failover"],
        &["bench", "moves"],
        &["bench", "groups"],
        &["demo"],
        &["completions"],
        &["man"],
    ];
    let mut wrong = Vec::new();
    for command in commands {
        let did = run(&[command, &["--help"][..]].concat()).ok();
        let name = if command.is_empty() { "millpond".into() } else { command.join("-") };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/help-{name}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &did.out).expect("the repository can be written");
        } else if fs::read_to_string(&path).ok().as_ref() != Some(&did.out) {
            wrong.push(format!("{name}:\n{}", did.out));
        }
        assert!(did.out.lines().all(|l| l.chars().count() <= 110), "{name} is too wide");
    }
    assert!(wrong.is_empty(), "run with UPDATE=1 if this is meant:\n{}", wrong.join("\n"));
}

#[test]
fn mistakes_on_the_command_line_end_with_2_and_a_hint() {
    for (args, says) in [
        (&["topc"][..], "topic"),
        (&["topic", "create"], "<NAME>"),
        (&["topic", "create", "x", "--set", "retention.ms"], "NAME=VALUE"),
        (&["topic", "alter", "x"], "--set"),
        (&["consume", "t", "--from", "soon"], "earliest"),
        (&["consume", "t", "--from-beginning", "--from", "1"], "cannot be used with"),
        (&["replay", "t", "--rate", "0"], "rate"),
        (&["replay", "t", "--into", "u", "--output", "f"], "cannot be used with"),
        (&["serve", "--cores", "none"], "number of cores"),
        (&["serve", "--memory", "1 parsec"], "parsec"),
        (&["serve", "--config", "/does/not/exist"], "/does/not/exist"),
        (&["completions", "cmd"], "bash"),
        (&["quota", "set", "c"], "--produce"),
        (&["user", "create", "u", "--iterations", "100"], "4096"),
        (&["user", "create", "u", "--mechanism", "md5"], "scram-sha-512"),
    ] {
        let did = run(args);
        let expected = if args.contains(&"--config") { 1 } else { 2 };
        assert_eq!(did.code, expected, "{args:?}: {did:?}");
        assert!(did.err.contains(says), "{args:?}: {}", did.err);
        assert!(did.out.is_empty(), "{args:?}: {}", did.out);
    }
    assert_eq!(run(&[]).code, 2, "no command is a mistake too");
}

#[test]
fn without_a_server_it_says_how_to_start_one() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback").port();
    let server = format!("127.0.0.1:{port}");
    for command in [&["topic", "list"][..], &["group", "list"], &["quota", "list"], &["consume", "t"], &["produce", "t"]] {
        let did = run(&[command, &["--server", &server]].concat());
        assert_eq!(did.code, 69, "{command:?}: {did:?}");
        assert!(did.err.contains("millpond serve") && did.err.contains(&server), "{command:?}: {}", did.err);
    }
    let did = run(&["topic", "list", "--server", &server, "--json"]);
    let error: serde_json::Value = serde_json::from_str(&did.err).expect("errors are JSON too");
    assert_eq!((did.code, error["exit"].as_i64()), (69, Some(69)));
}

#[test]
fn completions_and_manual_pages_know_all_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).ok().out;
        for command in ["serve", "topic", "produce", "consume", "replay", "group", "quota", "user", "doctor", "inspect", "bench"] {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
    assert!(run(&["man"]).ok().out.starts_with(".ie"), "roff");
    let dir = tempfile::tempdir().expect("a directory");
    let pages = dir.path().join("pages");
    run(&["man", "--dir", &pages.display().to_string()]).ok();
    for page in ["millpond.1", "millpond-serve.1", "millpond-topic-create.1"] {
        assert!(pages.join(page).exists(), "{page}");
    }
}

#[test]
fn settings_are_explained_without_a_server() {
    let names: Vec<_> = run(&["topic", "settings", "--json"]).ok().json();
    assert!(names.iter().any(|s| s["name"] == "retention.ms" && s["default"] == "604800000"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = millpond(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test");
    // Gone before the first byte is written, most likely; if not, the test proves nothing, and does not fail.
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_doctor_looks_at_everything() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let did = run(&["doctor", "--json", "--data", &dir.path().display().to_string()]);
    let checks = did.json();
    let failed = checks.iter().filter(|c| c["status"] == "fail").count();
    assert_eq!(did.code, i32::from(failed > 0), "{did:?}");
    for name in ["kernel", "io_uring", "locked memory", "open files", "clock", "disk", "direct I/O", "sync latency"] {
        assert!(checks.iter().any(|c| c["name"].as_str().is_some_and(|n| n.contains(name))), "{name}: {checks:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("it is still there").count(), 0, "what it wrote is gone");
}

#[test]
fn files_that_are_not_ours_are_told_so() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), b"something else").expect("written");
    let did = run(&["inspect", &file.path().display().to_string()]).ok();
    assert!(did.out.contains("not one of our files"), "{}", did.out);
    let missing = run(&["inspect", "/does/not/exist"]);
    assert_eq!((missing.code, missing.err.contains("/does/not/exist")), (1, true), "{missing:?}");
}
