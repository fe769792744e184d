//! Every command against a real server.

use super::{
    command::{Did, millpond, run, run_with},
    node::Node,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

/// Commands against one server.
struct At(String);

impl At {
    fn run(&self, args: &[&str]) -> Did {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &[&str], input: &str) -> Did {
        run_with(&[args, &["--server", &self.0]].concat(), input.as_bytes())
    }

    /// Runs a command with `--json` that must succeed.
    fn json(&self, args: &[&str]) -> Vec<Value> {
        self.run(&[args, &["--json"]].concat()).ok().json()
    }
}

fn at(node: &Node) -> At {
    At(node.address())
}

fn fields<'a>(values: &'a [Value], name: &str) -> Vec<&'a Value> {
    values.iter().map(|v| &v[name]).collect()
}

#[test]
fn topics_are_made_shown_changed_and_deleted() {
    let node = Node::start();
    let at = at(&node);
    at.run(&["topic", "create", "orders", "--partitions", "3", "--set", "retention.ms=3600000"]).ok();
    let again = at.run(&["topic", "create", "orders"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("orders") && again.err.contains("exists"), "{}", again.err);
    at.run(&["topic", "create", "orders", "--partitions", "3", "--if-not-exists"]).ok();
    assert_eq!(fields(&at.json(&["topic", "list"]), "topic"), [&json!("orders")]);
    let told = at.run(&["topic", "describe", "orders"]).ok().out;
    assert!(told.contains("orders") && told.contains("retention.ms"), "{told}");
    at.run(&["topic", "alter", "orders", "--set", "retention.ms=7200000"]).ok();
    let told = serde_json::to_string(&at.json(&["topic", "describe", "orders"])).expect("JSON");
    assert!(told.contains("7200000"), "{told}");
    let wrong = at.run(&["topic", "alter", "orders", "--set", "retention.ms=soon"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.err.contains("retention.ms"), "{}", wrong.err);
    at.run(&["topic", "delete", "orders", "--yes"]).ok();
    assert!(at.json(&["topic", "list"]).is_empty());
    let gone = at.run(&["consume", "orders", "--until-end"]);
    assert_eq!(gone.code, 1, "{gone:?}");
    assert!(gone.err.contains("orders"), "{}", gone.err);
}

#[test]
fn lines_go_in_and_come_out() {
    let node = Node::start();
    let at = at(&node);
    at.run(&["topic", "create", "lines"]).ok();
    let told = at.run_with(&["produce", "lines"], "one\ntwo\n\nfour").ok();
    assert!(told.out.is_empty() && told.err.contains("4 records"), "{told:?}");
    assert_eq!(at.run(&["consume", "lines", "--from-beginning", "--until-end"]).ok().out, "one\ntwo\n\nfour\n");
    assert_eq!(at.run(&["consume", "lines", "--from", "1", "-n", "2"]).ok().out, "two\n\n");
    assert_eq!(at.run(&["consume", "lines", "--until-end"]).ok().out, "", "it begins at the end");
    let placed = at.run(&["consume", "lines", "--from", "3", "-n", "1", "--with-place"]).ok().out;
    assert!(placed.starts_with("lines-0\t3\t") && placed.ends_with("\tfour\n"), "{placed}");
    let outside = at.run(&["consume", "lines", "--from", "9", "--until-end", "--partition", "0"]).ok();
    assert_eq!(outside.out, "", "nothing is there yet");
    assert_eq!(at.run(&["consume", "lines", "--from", "0", "--until-end", "--partition", "7"]).code, 1);
}

#[test]
fn consuming_goes_on_as_records_come() {
    let node = Node::start();
    let at = at(&node);
    at.run(&["topic", "create", "live"]).ok();
    at.run_with(&["produce", "live"], "before\n").ok();
    let mut child = millpond(&["consume", "live", "--from-beginning", "--server", &at.0])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    assert_eq!(lines.next().as_deref(), Some("before"));
    at.run_with(&["produce", "live"], "after\n").ok();
    assert_eq!(lines.next().as_deref(), Some("after"));
    // As Ctrl-C does.
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(killed.success());
    assert_eq!(lines.next(), None);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn json_lines_bring_keys_and_times() {
    let node = Node::start();
    let at = at(&node);
    at.run(&["topic", "create", "flights", "--partitions", "2"]).ok();
    let lines = "{\"id\":\"a\",\"at\":\"2013-01-01T10:00:00Z\"}\n{\"id\":\"b\",\"at\":\"2013-01-02T10:00:00Z\"}\n\
        {\"id\":\"a\",\"at\":\"2013-01-03T10:00:00Z\"}\n";
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), zstd::encode_all(lines.as_bytes(), 1).expect("compressed")).expect("written");
    let path = file.path().display().to_string();
    let told = at.run(&["produce", "flights", &path, "--key-field", "id", "--time-field", "at", "--json"]).ok();
    assert_eq!(told.json()[0]["records"], 3);
    assert!(told.err.contains("2013-01-01") && told.err.contains("retention.ms=-1"), "{}", told.err);
    let read = at.json(&["replay", "flights", "--merge", "--from", "2013-01-02"]);
    assert_eq!(fields(&read, "key"), ["b", "a"]);
    assert_eq!(read[0]["time"], "2013-01-02T10:00:00.000Z");
    let bad = at.run_with(&["produce", "flights", "--key-field", "id"], "{\"id\":\"c\"}\nnonsense\n");
    assert_eq!(bad.code, 1, "{bad:?}");
    assert!(bad.err.contains("line 2") && bad.err.contains("--skip-bad"), "{}", bad.err);
    let skipped = at.run_with(&["produce", "flights", "--key-field", "id", "--skip-bad", "--json"], "nonsense\n{\"id\":\"c\"}\n");
    assert_eq!(skipped.ok().json()[0]["skipped"], 1);
}

#[test]
fn a_stretch_is_replayed_into_a_file_and_into_a_topic() {
    let node = Node::start();
    let at = at(&node);
    at.run(&["topic", "create", "from"]).ok();
    at.run(&["topic", "create", "into"]).ok();
    let lines: Vec<String> = (0..1_000).map(|n| format!("line {n}")).collect();
    at.run_with(&["produce", "from"], &(lines.join("\n") + "\n")).ok();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out").display().to_string();
    let told = at.run(&["replay", "from", "--from", "100", "--to", "900", "--output", &path]).ok();
    assert!(told.err.contains("800 records"), "{told:?}");
    assert!(fs::read_to_string(&path).expect("written") == lines[100..900].join("\n") + "\n", "another stretch");
    let told = at.json(&["replay", "from", "--into", "into", "--rate", "100000/s"]);
    assert_eq!(told[0]["records"], 1_000);
    assert!(at.run(&["replay", "into"]).ok().out == lines.join("\n") + "\n", "other records");
}

#[test]
fn a_group_remembers_and_can_be_moved() {
    let node = Node::start();
    let at = at(&node);
    at.run(&["topic", "create", "work"]).ok();
    at.run_with(&["produce", "work"], "1\n2\n3\n4\n").ok();
    let first = at.run(&["consume", "work", "--group", "g", "--from-beginning", "-n", "3"]).ok().out;
    assert_eq!(first, "1\n2\n3\n");
    let rest = at.run(&["consume", "work", "--group", "g", "--from-beginning", "--until-end"]).ok().out;
    assert_eq!(rest, "4\n");
    let groups = at.json(&["group", "list"]);
    assert_eq!(fields(&groups, "group"), [&json!("g")]);
    let told = at.run(&["group", "describe", "g"]).ok().out;
    assert!(told.contains("work"), "{told}");
    at.run(&["group", "seek", "g", "work", "--to", "1"]).ok();
    let again = at.run(&["consume", "work", "--group", "g", "--until-end"]).ok().out;
    assert_eq!(again, "2\n3\n4\n");
}

#[test]
fn quotas_are_set_and_shown() {
    let node = Node::start();
    let at = at(&node);
    at.run(&["quota", "set", "greedy", "--produce", "1MB"]).ok();
    let told = serde_json::to_string(&at.json(&["quota", "list"])).expect("JSON");
    assert!(told.contains("greedy") && told.contains("1000000"), "{told}");
    at.run(&["quota", "set", "--user", "ann", "--fetch", "2MB"]).ok();
    at.run(&["quota", "set", "greedy", "--all-users", "--produce", "3MB"]).ok();
    let quota = |user: Option<&str>, client: Option<&str>, produce: u64, fetch: u64| json!({ "user": user, "client_id": client, "produce_bytes_per_s": produce, "fetch_bytes_per_s": fetch });
    let all =
        [quota(None, Some("greedy"), 1_000_000, 0), quota(Some(""), Some("greedy"), 3_000_000, 0), quota(Some("ann"), None, 0, 2_000_000)];
    assert_eq!(at.json(&["quota", "list"]), all);
    at.run(&["quota", "set", "--user", "ann", "--fetch", "0"]).ok();
    assert_eq!(at.json(&["quota", "list"]), all[..2]);
}

#[test]
fn users_are_created_listed_and_deleted() {
    let mut node = Node::start();
    let told = |node: &Node| at(node).json(&["user", "list"]);
    at(&node).run_with(&["user", "create", "ann", "--mechanism", "scram-sha-256", "--iterations", "4096"], "first secret\n").ok();
    let kept = |mechanism: &str, iterations: u32| json!({ "mechanism": mechanism, "iterations": iterations });
    assert_eq!(told(&node), [json!({ "user": "ann", "credentials": [kept("SCRAM-SHA-256", 4096)] })]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), "another secret\nwhatever follows").expect("it is written");
    let path = file.path().display().to_string();
    at(&node).run(&["user", "create", "ann", "--password-file", &path]).ok();
    at(&node).run(&["user", "create", "bob", "--password-file", &path]).ok();
    node.kill();
    node.serve();
    let both = [kept("SCRAM-SHA-256", 15_000), kept("SCRAM-SHA-512", 15_000)];
    assert_eq!(told(&node), ["ann", "bob"].map(|user| json!({ "user": user, "credentials": both })));
    at(&node).run(&["user", "delete", "ann"]).ok();
    let again = at(&node).run(&["user", "delete", "ann"]);
    assert!(again.code == 1 && again.err.contains("no user ann"), "{again:?}");
    assert_eq!(fields(&told(&node), "user"), [&json!("bob")]);
    let empty = at(&node).run_with(&["user", "create", "eve"], "\n");
    assert!(empty.code == 1 && empty.err.contains("from 1 to 1024"), "{empty:?}");
}

#[test]
fn the_files_of_a_node_are_told_and_damage_is_found() {
    let mut node = Node::start();
    let at = at(&node);
    at.run(&["topic", "create", "kept"]).ok();
    at.run_with(&["produce", "kept"], "something\n").ok();
    node.kill();
    let data = node.data().display().to_string();
    let told = run(&["inspect", &data]).ok().out;
    assert!(told.contains("journal file 1") && told.contains("of cluster"), "{told}");
    let journal = node.data().join("core-00/journal/00000001.jnl");
    let mut bytes = fs::read(&journal).expect("a journal");
    bytes[20] ^= 1;
    let broken = node.data().join("broken");
    fs::write(&broken, &bytes).expect("written");
    let did = run(&["inspect", "--json", &broken.display().to_string()]);
    assert_eq!((did.code, &did.json()[0]["damaged"]), (1, &json!(true)));
}

/// Two servers could share a port as the cores of one do, and clients would come to either of them.
#[test]
fn a_port_of_one_server_is_no_other_ones() {
    let node = Node::start();
    let address = node.address();
    let (host, port) = address.rsplit_once(':').expect("an address");
    let port: u16 = port.parse().expect("a port");
    let dir = tempfile::tempdir().expect("a directory");
    for taken in [port, port + 1, port - 1] {
        let (listen, data) = (format!("{host}:{taken}"), dir.path().join(taken.to_string()).display().to_string());
        let mut command = millpond(&["serve", "--no-pin", "--cores", "1", "--http", "off", "--listen", &listen, "--data", &data]);
        let mut other = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary was built for this test");
        let end = Instant::now() + Duration::from_secs(20);
        while other.try_wait().expect("a child of ours").is_none() {
            if Instant::now() > end {
                other.kill().expect("a child of ours");
                panic!("it serves on {listen}, and so does the one at {address}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let did = other.wait_with_output().expect("it has ended");
        let said = String::from_utf8_lossy(&did.stderr);
        assert!(!did.status.success() && said.contains("cannot listen") && said.contains("--listen"), "{listen}: {said}");
    }
}
