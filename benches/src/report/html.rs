//! Results as one page: no scripts, nothing from elsewhere.

use super::{
    svg::{Axis, Line, escape, plot},
    table::{shown, wanted},
};
use crate::{
    limit::Limit,
    results::{Results, Row, Run, Value, compared::Compared},
    units::{show_bytes, show_count, show_ns, show_rate},
};
use std::{collections::BTreeMap, fmt::Write};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--ok:#080;--no:#b00}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{margin-top:2.5rem;font-size:1.2rem}h3{font-size:1rem;margin-bottom:.3rem}
table{border-collapse:collapse;width:100%;font-size:13px;display:block;overflow-x:auto}
th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal}
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:currentColor}
.grid{stroke:var(--line);stroke-width:.7}.line{fill:none;stroke-width:1.8}
.legend span{margin-right:1rem;white-space:nowrap}.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.35em}
.yes{color:var(--ok)}.no{color:var(--no)}dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem}dt{opacity:.7}dd{margin:0}
small{opacity:.75}";

fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        let all: String = cells.map(|cell| format!("<{tag}>{cell}</{tag}>")).collect();
        format!("<tr>{all}</tr>")
    };
    let head = cells("th", &mut heads.iter().map(|head| escape(head)));
    let body: String = rows.iter().map(|row| cells("td", &mut row.iter().cloned())).collect();
    format!("<table>{head}{body}</table>")
}

fn list<'a>(rows: impl Iterator<Item = (&'a str, String)>) -> String {
    let all: String = rows.map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(&value))).collect();
    format!("<dl>{all}</dl>")
}

fn facts(results: &Results) -> String {
    let facts = &results.facts;
    let unknown = || "unknown".to_owned();
    let mut rows = vec![
        ("system", results.system.clone()),
        ("harness", facts.commit.as_ref().map_or_else(|| facts.version.clone(), |commit| format!("{} ({commit})", facts.version))),
        ("CPU", format!("{}, {} usable{}", facts.cpu, facts.cpus, if facts.virtual_machine { ", virtual machine" } else { "" })),
        ("memory", show_bytes(facts.memory_bytes)),
        ("kernel", facts.kernel.clone()),
        ("disk", facts.disk.clone().unwrap_or_else(unknown)),
        ("file system", facts.file_system.clone().unwrap_or_else(unknown)),
    ];
    if let Some(placement) = &results.placement {
        rows.push(("CPUs", format!("server {:?}, load generator {:?}, over loopback", placement.server, placement.client)));
    }
    rows.push(("command", facts.command.clone()));
    rows.push((
        "started",
        humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_millis(facts.started_ms)).to_string(),
    ));
    list(rows.into_iter())
}

fn suite(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        let side = |value: Option<Value>| value.map_or_else(String::new, |v| escape(&v.show()));
        let class = if row.verdict() == "no" { "no" } else { "yes" };
        let turns: Vec<String> = row.turns.iter().map(|turn| shown(turn.result)).collect();
        let notes: String = row.notes.iter().map(|note| format!("<br>{}", escape(note))).collect();
        vec![
            format!("<b>{}</b> {}<br><small>against {}{notes}</small>", escape(&row.name), escape(&row.what), escape(&row.against)),
            side(row.side(|turn| turn.ours)),
            side(row.side(|turn| turn.other)),
            format!("{}<br><small>{}: {}</small>", shown(row.result()), escape(&row.how), turns.join(", ")),
            escape(&wanted(row)),
            format!("{:.0} %", row.core * 100.0),
            format!("<span class=\"{class}\">{}</span>", row.verdict()),
        ]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table(&["row", "ours", "other", "result", "wanted", "server core", "met"], &rows)
}

fn runs(runs: &[Run]) -> String {
    let cells = |run: &Run| {
        let ns = |ns: u64| if run.latency.count == 0 { String::new() } else { show_ns(ns as f64) };
        let used = run.server.as_ref().map_or_else(String::new, |used| format!("{:.0} %", used.cpu_s / used.seconds.max(1e-9) * 100.0));
        let flushes = run.flushes_per_request().map_or_else(String::new, |(device, _)| format!("{device:.3}"));
        vec![
            escape(&run.name),
            run.offered_per_s.map_or_else(|| "closed".into(), show_count),
            show_count(run.requests_per_s()),
            show_count(run.records_per_s()),
            show_rate(run.bytes_per_s()),
            ns(run.latency.p50_ns),
            ns(run.latency.p99_ns),
            ns(run.latency.p999_ns),
            ns(run.latency.max_ns),
            used,
            flushes,
        ]
    };
    let heads =
        ["run", "offered/s", "requests/s", "records/s", "throughput", "p50", "p99", "p99.9", "max", "server CPU", "device flushes/request"];
    table(&heads, &runs.iter().map(cells).collect::<Vec<_>>())
}

fn percentile(odds: f64) -> String {
    let share = 100.0 * (1.0 - 1.0 / odds);
    let digits = (odds.log10().ceil() as usize).saturating_sub(2);
    format!("{share:.digits$} %")
}

fn curve(name: String, latency: &crate::measure::Latency) -> Line {
    // The last step of the curve is at 1, which has no odds.
    let points = latency.curve.iter().filter(|(share, _)| *share < 1.0).map(|(share, ns)| (1.0 / (1.0 - share), *ns as f64));
    Line { name, points: points.collect() }
}

const NS: fn(f64) -> String = show_ns;

fn latencies(runs: &[&Run]) -> String {
    let mut lines = Vec::new();
    for run in runs.iter().filter(|run| run.latency.count > 0) {
        lines.push(curve(run.name.clone(), &run.latency));
        lines.extend(run.end_to_end.as_ref().map(|way| curve(format!("{}: to the reader's hands", run.name), way)));
    }
    let x = Axis { label: "share of requests that were at least as fast", log: true, show: &percentile };
    titled("Latency from the intended send time", &plot(&x, &Axis { label: "latency", log: true, show: &NS }, &lines))
}

fn over_time(runs: &[&Run]) -> String {
    let x = Axis { label: "seconds", log: false, show: &|v| format!("{v}") };
    let line = |run: &&Run, of: &dyn Fn(&crate::measure::Slot) -> f64| Line {
        name: run.name.clone(),
        points: run.series.iter().map(|slot| (slot.at_s + slot.len_s / 2.0, of(slot))).collect(),
    };
    let rates: Vec<Line> = runs.iter().map(|run| line(run, &|slot| slot.bytes as f64 / slot.len_s.max(1e-9))).collect();
    let slow: Vec<Line> = runs.iter().map(|run| line(run, &|slot| slot.p99_ns as f64)).collect();
    titled("Throughput over time", &plot(&x, &Axis { label: "throughput", log: false, show: &show_rate }, &rates))
        + &titled("p99 over time", &plot(&x, &Axis { label: "p99", log: true, show: &NS }, &slow))
}

fn steps(runs: &[&Run]) -> String {
    let stepped: Vec<&&Run> = runs.iter().filter(|run| run.offered_per_s.is_some()).collect();
    if stepped.len() < 2 {
        return String::new();
    }
    let line = |name: &str, of: fn(&Run) -> u64| Line {
        name: name.to_owned(),
        points: stepped.iter().map(|run| (run.offered_per_s.unwrap_or(0.0), of(run) as f64)).collect(),
    };
    let lines = [line("p50", |run| run.latency.p50_ns), line("p99", |run| run.latency.p99_ns), line("p99.9", |run| run.latency.p999_ns)];
    let x = Axis { label: "offered requests per second", log: false, show: &show_count };
    let reached = [Line {
        name: "reached".into(),
        points: stepped.iter().map(|run| (run.offered_per_s.unwrap_or(0.0), run.requests_per_s())).collect(),
    }];
    titled("Latency by offered rate", &plot(&x, &Axis { label: "latency", log: true, show: &NS }, &lines))
        + &titled("Reached by offered rate", &plot(&x, &Axis { label: "requests per second", log: false, show: &show_count }, &reached))
}

fn titled(title: &str, plot: &str) -> String {
    if plot.is_empty() { String::new() } else { format!("<h3>{}</h3>{plot}", escape(title)) }
}

fn limits(limits: &[Limit]) -> String {
    let mut rows = Vec::new();
    for limit in limits {
        let bytes = show_bytes(limit.write_bytes as u64);
        let figures = [
            (format!("write {bytes}, fdatasync, one after the other"), &limit.one_by_one),
            (format!("{} × {bytes} as one write, fdatasync", limit.writers), &limit.gathered),
            (format!("{} × {bytes} side by side, fdatasync", limit.writers), &limit.side_by_side),
            ("read in order".to_owned(), &limit.read),
        ];
        for (name, figure) in figures.iter().filter(|(_, figure)| figure.latency.count > 0) {
            let times = [figure.latency.p50_ns, figure.latency.p99_ns, figure.latency.max_ns].map(|ns| show_ns(ns as f64));
            rows.push([vec![escape(name), show_count(figure.ops_per_s), show_rate(figure.bytes_per_s)], times.to_vec()].concat());
        }
    }
    table(&["raw io_uring on the same disk", "ops/s", "throughput", "p50", "p99", "max"], &rows)
}

fn comparison(compared: &Compared) -> String {
    let table_of = compared.table();
    let (heads, rows) = table_of.split_first().map_or((&[][..], &[][..]), |(heads, rows)| (heads.as_slice(), rows));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let coloured = |cell: &String| match cell.rsplit_once(": ") {
        Some((_, "met")) => format!("<span class=\"yes\">{}</span>", escape(cell)),
        Some((_, "missed")) => format!("<span class=\"no\">{}</span>", escape(cell)),
        _ => escape(cell),
    };
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(coloured).collect()).collect();
    let (met, all) = compared.met();
    let mut out = format!("<h2>Side by side</h2>{}", table(&heads, &rows));
    if all > 0 {
        let _ = write!(out, "<p>{met} of {all} bounds met</p>");
    }
    for remark in &compared.remarks {
        let _ = write!(out, "<p>{}</p>", escape(remark));
    }
    out += &list(compared.on.iter().map(|(name, value)| (name.as_str(), value.clone())));
    for side in &compared.systems {
        let _ = write!(out, "<h3>{}</h3>{}", escape(&side.name), list(side.on.iter().map(|(name, value)| (name.as_str(), value.clone()))));
    }
    out
}

/// The whole page.
#[must_use]
pub fn page(results: &Results) -> String {
    let mut out =
        String::from("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">");
    let _ = write!(out, "<title>Millpond: measured</title><style>{STYLE}</style><h1>Millpond: measured</h1>{}", facts(results));
    if let Some(compared) = &results.compared {
        out += &comparison(compared);
    }
    if !results.rows.is_empty() {
        let _ = write!(out, "<h2>Summary</h2>{}", suite(&results.rows));
    }
    if !results.runs.is_empty() {
        let _ = write!(out, "<h2>Runs</h2>{}", runs(&results.runs));
    }
    let mut by_row: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    results.runs.iter().for_each(|run| by_row.entry(&run.row).or_default().push(run));
    for (row, runs) in by_row {
        let title = if row.is_empty() { "In detail" } else { row };
        let _ = write!(out, "<h2>{}</h2>", escape(title));
        if let Some(run) = runs.iter().rev().find(|run| !run.on.is_empty()) {
            out += &list(run.on.iter().map(|(name, value)| (name.as_str(), value.clone())));
        }
        if let Some(used) = runs.iter().rev().find_map(|run| run.server.as_ref()) {
            let _ = write!(out, "<p><small>{}</small></p>", escape(&used.describe()));
        }
        out += &latencies(&runs);
        out += &steps(&runs);
        out += &over_time(&runs);
    }
    if !results.limits.is_empty() {
        let _ = write!(out, "<h2>The limit of the disk</h2>{}", limits(&results.limits));
    }
    out.push_str("</html>\n");
    out
}
