//! What `millpond bench` runs: the server, the load and the results of each scenario.
//!
//! In reading order: [`bench`] the server and one measurement · [`load`] the scenarios of one load · [`suite`] the named set ·
//! [`replication`] one node and several in turns · [`groups`] many partitions and few.

mod bench;
mod groups;
mod load;
mod replication;
mod suite;

use crate::{
    args::{BenchArgs, Common, LimitArgs, OutArgs, Scenario},
    chaos, compare, crash, failover,
    limit::{self, LimitSpec},
    machine::facts::Facts,
    moves, report,
    results::Results,
};
use anyhow::{Context, Result, bail};
use bench::Bench;
use indicatif::ProgressBar;
use std::{fs, path::Path, time::SystemTime};

/// Runs a scenario, writes its results and prints them.
pub(crate) fn run(args: &BenchArgs, common: &Common) -> Result<()> {
    match &args.scenario {
        Scenario::Crash(args) => return crash::run(args, common),
        Scenario::Chaos(args) => return chaos::run(args, common),
        Scenario::Failover(args) => return failover::run(args, common),
        Scenario::Moves(args) => return moves::run(args, common),
        Scenario::Groups(args) => return groups::run(args, common, &spinner(common)),
        Scenario::Replication(args) => return replication::run(args, common, &spinner(common)),
        _ => {}
    }
    let results = measure(args, common)?;
    print(&results, common)
}

/// Runs a scenario and writes its results to where the command line says.
fn measure(args: &BenchArgs, common: &Common) -> Result<Results> {
    let progress = spinner(common);
    let (results, out) = match &args.scenario {
        Scenario::Produce(args) => (load::produce(Bench::of(&args.server, common, &progress)?, args)?, &args.out),
        Scenario::Consume(args) => (load::consume(Bench::of(&args.server, common, &progress)?, args)?, &args.out),
        Scenario::EndToEnd(args) => (load::end_to_end(Bench::of(&args.server, common, &progress)?, args)?, &args.out),
        Scenario::Replay(args) => (load::replay(Bench::of(&args.server, common, &progress)?, args)?, &args.out),
        Scenario::Mixed(args) => (load::mixed(Bench::of(&args.server, common, &progress)?, args)?, &args.out),
        Scenario::Limit(args) => (limit_alone(args, &progress)?, &args.out),
        Scenario::Suite(args) => (suite::run(args, common, &progress)?, &args.out),
        Scenario::Compare(args) => (compare::run(args, common, &progress)?, &args.out),
        Scenario::Crash(_)
        | Scenario::Chaos(_)
        | Scenario::Failover(_)
        | Scenario::Moves(_)
        | Scenario::Groups(_)
        | Scenario::Replication(_) => {
            bail!("this measures nothing")
        }
    };
    progress.finish_and_clear();
    write(&results, out)?;
    Ok(results)
}

fn spinner(common: &Common) -> ProgressBar {
    let progress = if common.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    progress.enable_steady_tick(std::time::Duration::from_millis(120));
    progress
}

fn limit_alone(args: &LimitArgs, progress: &ProgressBar) -> Result<Results> {
    fs::create_dir_all(&args.dir).with_context(|| format!("making {}", args.dir.display()))?;
    let facts = facts(&args.dir);
    let limit = limit::run(&LimitSpec::of(args)?, |what| progress.set_message(what.to_owned()))?;
    Ok(Results { facts, system: "raw io_uring".into(), limits: vec![limit], ..Results::default() })
}

fn facts(data: &Path) -> Facts {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Facts::read(data, since.as_millis() as u64)
}

fn write(results: &Results, out: &OutArgs) -> Result<()> {
    if let Some(path) = &out.results {
        let json = serde_json::to_string(results).context("writing results as JSON")?;
        fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &out.report {
        fs::write(path, report::html::page(results)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn print(results: &Results, common: &Common) -> Result<()> {
    use std::io::Write;
    let text = if common.json { serde_json::to_string(results).context("writing results as JSON")? } else { report::table::text(results) };
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        // Whoever read our output has gone.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("writing to standard output"),
    }
}

#[cfg(test)]
mod tests;
