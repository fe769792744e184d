//! Results as text.

use crate::{
    limit::{Figure, Limit},
    results::{Results, Row, Run, Wanted, compared::Compared},
    units::{show_count, show_ns, show_rate, three},
};
use std::fmt::Write;

/// Rows in columns as wide as they must be; all but the first go to the right.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (n, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[n] - cell.chars().count());
            line += &if n == 0 { format!("{cell}{pad}") } else { format!("  {pad}{cell}") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// What a row should be.
#[must_use]
pub fn wanted(row: &Row) -> String {
    let core = if row.core_counts { " or a full core" } else { "" };
    match row.wanted {
        Wanted::AtLeast(bound) => format!("≥ {}{core}", shown(bound)),
        Wanted::AtMost(bound) => format!("≤ {}{core}", shown(bound)),
    }
}

/// A result: small ones to three digits, large ones as counts.
#[must_use]
pub fn shown(value: f64) -> String {
    if value.abs() >= 1000.0 { show_count(value) } else { three(value) }
}

/// One row in one line.
#[must_use]
pub fn row_line(row: &Row) -> String {
    format!(
        "{:12} {}: {} (wanted {}), core {:.0} %: {}",
        row.name,
        row.how,
        shown(row.result()),
        wanted(row),
        row.core * 100.0,
        row.verdict()
    )
}

fn suite(rows: &[Row]) -> String {
    let heads = ["row", "ours", "other", "result", "wanted", "core", "met"];
    let mut table = vec![heads.map(str::to_owned).to_vec()];
    let side = |value: Option<crate::results::Value>| value.map_or_else(String::new, crate::results::Value::show);
    for row in rows {
        table.push(vec![
            row.name.clone(),
            side(row.side(|turn| turn.ours)),
            side(row.side(|turn| turn.other)),
            shown(row.result()),
            wanted(row),
            format!("{:.0} %", row.core * 100.0),
            row.verdict().into(),
        ]);
    }
    let mut out = columns(&table);
    out.push('\n');
    for row in rows {
        let turns: Vec<String> = row.turns.iter().map(|turn| shown(turn.result)).collect();
        let _ = writeln!(out, "{}: {}; against {}. {} = {}", row.name, row.what, row.against, row.how, turns.join(", "));
        for note in &row.notes {
            let _ = writeln!(out, "  {note}");
        }
    }
    out
}

fn runs(runs: &[Run]) -> String {
    let heads = ["run", "batches/s", "records/s", "throughput", "p50", "p99", "p99.9", "max", "server CPU", "flushes/ack"];
    let mut table = vec![heads.map(str::to_owned).to_vec()];
    for run in runs {
        let ns = |ns: u64| if run.latency.count == 0 { String::new() } else { show_ns(ns as f64) };
        let cpu = run.server.as_ref().map(|used| format!("{:.0} %", used.cpu_s / used.seconds.max(1e-9) * 100.0));
        let flushes = run.flushes_per_request().map(|(device, _)| format!("{device:.3}"));
        table.push(vec![
            run.name.clone(),
            show_count(run.requests_per_s()),
            show_count(run.records_per_s()),
            show_rate(run.bytes_per_s()),
            ns(run.latency.p50_ns),
            ns(run.latency.p99_ns),
            ns(run.latency.p999_ns),
            ns(run.latency.max_ns),
            cpu.unwrap_or_default(),
            flushes.unwrap_or_default(),
        ]);
        if let Some(way) = &run.end_to_end {
            let name = format!("  to the reader's hands ({})", show_count(way.count as f64));
            let times = [way.p50_ns, way.p99_ns, way.p999_ns, way.max_ns].map(|ns| show_ns(ns as f64));
            table.push([vec![name, String::new(), String::new(), String::new()], times.to_vec()].concat());
        }
    }
    let mut out = columns(&table);
    for run in runs {
        if run.refused > 0 {
            let _ = writeln!(out, "{}: the server had no room for {} requests", run.name, run.refused);
        }
        if let Some(late) = run.late.as_ref().filter(|late| late.p99_ns > run.latency.p50_ns) {
            let _ =
                writeln!(out, "{}: the load generator was late by {} at p99; it is the bottleneck", run.name, show_ns(late.p99_ns as f64));
        }
    }
    out
}

fn limits(limits: &[Limit]) -> String {
    let heads = ["limit (raw io_uring)", "ops/s", "throughput", "p50", "p99", "max"];
    let mut table = vec![heads.map(str::to_owned).to_vec()];
    for limit in limits {
        let bytes = crate::units::show_bytes(limit.write_bytes as u64);
        let mut row = |name: String, figure: &Figure| {
            if figure.latency.count > 0 {
                let times = [figure.latency.p50_ns, figure.latency.p99_ns, figure.latency.max_ns].map(|ns| show_ns(ns as f64));
                table.push([vec![name, show_count(figure.ops_per_s), show_rate(figure.bytes_per_s)], times.to_vec()].concat());
            }
        };
        row(format!("write {bytes}, fdatasync"), &limit.one_by_one);
        row(format!("{} × {bytes} as one write, fdatasync", limit.writers), &limit.gathered);
        row(format!("{} × {bytes} side by side, fdatasync", limit.writers), &limit.side_by_side);
        row("read in order".into(), &limit.read);
    }
    columns(&table)
}

fn comparison(compared: &Compared) -> String {
    let mut out = String::new();
    for (name, value) in &compared.on {
        let _ = writeln!(out, "{name}: {value}");
    }
    for side in &compared.systems {
        let on: Vec<String> = side.on.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let _ = writeln!(out, "{}: {}", side.name, on.join(", "));
    }
    let (met, all) = compared.met();
    let _ = write!(out, "\n{}", columns(&compared.table()));
    if all > 0 {
        let _ = write!(out, "\n{met} of {all} bounds met");
    }
    for remark in &compared.remarks {
        let _ = write!(out, "\n{remark}");
    }
    out
}

/// Everything, as text.
#[must_use]
pub fn text(results: &Results) -> String {
    let mut out = String::new();
    let facts = &results.facts;
    let place = results.placement.as_ref().map(|p| format!(", server on CPU {:?}, load on {:?}", p.server, p.client));
    let _ = writeln!(out, "{}; {} on {}, {} CPUs{}", results.system, facts.version, facts.cpu, facts.cpus, place.unwrap_or_default());
    let disk = facts.disk.as_deref().unwrap_or("unknown disk");
    let _ = writeln!(out, "Linux {}, {}, {disk}", facts.kernel, facts.file_system.as_deref().unwrap_or("unknown file system"));
    if let Some(compared) = &results.compared {
        let _ = writeln!(out, "\n{}", comparison(compared).trim_end());
    }
    if !results.rows.is_empty() {
        let _ = writeln!(out, "\n{}", suite(&results.rows).trim_end());
    }
    if let Some(run) = results.runs.iter().rev().find(|run| results.rows.is_empty() && !run.on.is_empty()) {
        out.push('\n');
        for (name, value) in &run.on {
            let _ = writeln!(out, "{name}: {value}");
        }
    }
    if !results.runs.is_empty() {
        let _ = writeln!(out, "\n{}", runs(&results.runs).trim_end());
    }
    if !results.limits.is_empty() {
        let _ = writeln!(out, "\n{}", limits(&results.limits).trim_end());
    }
    out
}
