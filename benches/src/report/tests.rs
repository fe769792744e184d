use super::{
    svg::{Axis, Line, plot},
    *,
};
use crate::{
    measure::{Latency, Recorder, Totals},
    results::{
        Results, Row, Run, Turn, Value, Wanted,
        compared::{self, Compared},
    },
};
use std::time::{Duration, Instant};

fn run(name: &str, offered: Option<f64>) -> Run {
    let from = Instant::now();
    let mut recorder = Recorder::new(from, Duration::from_secs(2));
    for n in 1..=2000_u32 {
        let took = Duration::from_micros(u64::from(100 + n % 97 + n / 1900 * n));
        recorder.ended(from + n * Duration::from_micros(900), took, 1, 1000);
        recorder.took(from + n * Duration::from_micros(900), took);
    }
    Run {
        name: name.into(),
        on: vec![("acks".into(), "all <synced>".into())],
        offered_per_s: offered,
        seconds: 2.0,
        totals: recorder.totals(),
        latency: Latency::of(recorder.latency()),
        series: recorder.series(),
        ..Run::default()
    }
}

fn row(result: f64, core: f64) -> Row {
    let turn = |result| Turn { ours: Value::BytesPerS(result * 1e9), other: Value::BytesPerS(1e9), result };
    Row {
        name: "produce".into(),
        what: "16 KiB & more".into(),
        against: "the disk".into(),
        how: "ours / limit".into(),
        wanted: Wanted::AtLeast(0.8),
        turns: vec![turn(result), turn(result / 2.0), turn(result * 2.0)],
        core,
        core_counts: true,
        notes: vec!["a note".into()],
    }
}

fn results() -> Results {
    Results { rows: vec![row(0.9, 0.5)], runs: vec![run("one", Some(1000.0)), run("two", Some(2000.0))], ..Results::default() }
}

#[test]
fn a_row_is_judged_by_its_median_and_a_full_core_counts_where_it_may() {
    assert_eq!(row(0.9, 0.1).verdict(), "yes");
    assert_eq!(row(0.7, 0.1).verdict(), "no");
    assert_eq!(row(0.7, 0.97).verdict(), "core full");
    assert_eq!(Row { core_counts: false, ..row(0.7, 0.97) }.verdict(), "no");
    assert_eq!(Row { wanted: Wanted::AtMost(2.0), ..row(1.5, 0.0) }.verdict(), "yes");
}

#[test]
fn the_table_names_every_run_and_row() {
    let text = table::text(&results());
    for part in ["one", "two", "produce", "0.90, 0.45, 1.80", "1,000", "a note"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let mut full = run("full", None);
    full.refused = 3;
    let text = table::text(&Results { runs: vec![full], ..Results::default() });
    assert!(text.contains("no room for 3 requests") && text.contains("acks: all <synced>"), "{text}");
}

#[test]
fn the_page_is_whole_in_itself_and_escapes_what_it_shows() {
    let page = html::page(&results());
    for part in ["Latency by offered rate", "Throughput over time", "all &lt;synced&gt;", "16 KiB &amp; more", "99.9 %"] {
        assert!(page.contains(part), "{part} is missing");
    }
    for foreign in ["<script", "http://", "https://", "src=", "NaN", ">inf", "\"inf"] {
        assert!(!page.contains(foreign), "{foreign} is in the page");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn a_plot_leaves_out_what_has_no_place_and_is_nothing_without_points() {
    let axis = |log| Axis { label: "x", log, show: &|v: f64| v.to_string() };
    let line = |points: Vec<(f64, f64)>| [Line { name: "l".into(), points }];
    assert_eq!(plot(&axis(true), &axis(true), &line(vec![(0.0, 1.0), (1.0, f64::NAN)])), "");
    let drawn = plot(&axis(true), &axis(false), &line(vec![(1.0, 0.0), (10.0, 5.0), (100.0, 7.0)]));
    assert_eq!(drawn.matches("<circle").count(), 3);
    // One point alone has a place too.
    assert!(!plot(&axis(false), &axis(true), &line(vec![(3.0, 3.0)])).contains("NaN"));
}

#[test]
fn results_survive_json() {
    let results = results();
    let text = serde_json::to_string(&results).expect("it is plain data");
    let back: Results = serde_json::from_str(&text).expect("it is what we wrote");
    assert_eq!(back.runs[1].totals, Totals { requests: 2000, records: 2000, bytes: 2_000_000 });
    assert_eq!(back.rows[0].turns, results.rows[0].turns);
}

#[test]
fn systems_side_by_side_are_in_the_text_and_in_the_page() {
    let figure = |value, wanted| compared::Figure { turns: vec![value], wanted };
    let side = |name: &str| compared::Side { name: name.into(), on: vec![("syncs".into(), "<always>".into())] };
    let row = compared::Row {
        name: "throughput".into(),
        unit: compared::Unit::BytesPerS,
        figures: vec![figure(5e6, None), figure(1e6, Some(10.0))],
    };
    let compared = Compared {
        on: vec![("partitions".into(), "100".into())],
        systems: vec![side("we"), side("they")],
        rows: vec![row],
        remarks: vec!["they were slow".into()],
    };
    let results = Results { compared: Some(compared), ..Results::default() };
    let text = table::text(&results);
    for part in ["partitions: 100", "they: syncs <always>", "≥ 10.0: missed", "0 of 1 bounds met", "they were slow"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let page = html::page(&results);
    assert!(
        page.contains("<span class=\"no\">≥ 10.0: missed</span>") && page.contains("&lt;always&gt;") && page.contains("they were slow"),
        "{page}"
    );
}
