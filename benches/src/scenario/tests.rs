use super::*;
use crate::mock::Mock;
use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bench: BenchArgs,
}

/// Runs a command line against a mock and returns the results that it wrote.
fn results_of(mock: &Mock, command: &str) -> Results {
    let dir = tempfile::tempdir().expect("a directory");
    let (json, html) = (dir.path().join("r.json"), dir.path().join("r.html"));
    let words = ["bench"].into_iter().chain(command.split(' ')).map(str::to_owned);
    let out = ["--results".to_owned(), json.display().to_string(), "--report".to_owned(), html.display().to_string()];
    let cli = Cli::try_parse_from(words.chain(out)).map_err(|e| e.to_string()).expect("a valid command line");
    let common = Common { servers: vec![mock.address.clone()], json: false, quiet: true };
    measure(&cli.bench, &common).expect("it runs");
    assert!(fs::read_to_string(&html).expect("a report").ends_with("</html>\n"));
    assert!(mock.state().topics.is_empty(), "topics are removed afterwards");
    serde_json::from_str(&fs::read_to_string(json).expect("results")).expect("results as written")
}

const SMALL: &str = "--partitions 3 --connections 4 --message-size 200 --batch-bytes 2KiB --warm-up 10ms --duration 150ms";

#[test]
fn produce_in_steps_measures_the_closed_loop_first() {
    let mock = Mock::start();
    let results = results_of(&mock, &format!("produce {SMALL} --rate 500,50%"));
    assert_eq!(results.system, "mock 1");
    let [closed, fixed, share] = &results.runs[..] else { panic!("{} runs", results.runs.len()) };
    assert_eq!((closed.offered_per_s, fixed.offered_per_s), (None, Some(500.0)));
    let half = share.offered_per_s.expect("open loop") / closed.requests_per_s();
    assert!((half - 0.5).abs() < 1e-6, "{half}");
    assert!(fixed.late.is_some() && closed.late.is_none());
    assert!(fixed.on.iter().any(|(name, value)| name == "acks" && value.contains("fdatasync")));
}

#[test]
fn consume_and_replay_read_what_was_loaded() {
    let mock = Mock::start();
    let results = results_of(&mock, &format!("consume {SMALL} --load-bytes 200KiB --verify"));
    assert!(results.runs[1].totals.bytes > 0);
    let results = results_of(&mock, &format!("replay {SMALL} --load-bytes 200KiB --verify"));
    let [loaded, replayed] = &results.runs[..] else { panic!("{} runs", results.runs.len()) };
    assert_eq!(loaded.totals.records, replayed.totals.records);
    assert!(replayed.seconds > 0.0);
}

#[test]
fn end_to_end_and_mixed_have_both_sides() {
    let mock = Mock::start();
    let results = results_of(&mock, &format!("end-to-end {SMALL} --rate 300"));
    let way = results.runs[0].end_to_end.as_ref().expect("followers saw something");
    assert_eq!(way.count, results.runs[0].latency.count);
    let results = results_of(&mock, &format!("mixed {SMALL} --rate 300 --load-bytes 200KiB"));
    let names: Vec<&str> = results.runs.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names, ["load 200 KiB", "produce alone", "produce beside a replay", "replay beside produce"]);
    assert!(results.runs.iter().all(|run| run.totals.requests > 0));
}

#[test]
fn an_unknown_row_of_the_suite_is_refused_with_their_names() {
    let mock = Mock::start();
    let cli = Cli::try_parse_from(["bench", "suite", "--only", "nothing"]).map_err(|e| e.to_string()).expect("it parses");
    let common = Common { servers: vec![mock.address.clone()], json: false, quiet: true };
    let error = measure(&cli.bench, &common).expect_err("no such row");
    assert!(suite::names().iter().all(|name| error.to_string().contains(name)), "{error}");
}
