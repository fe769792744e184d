//! The main job on real input: `millpond demo`.
//!
//! Starts a server, or a cluster of them, loads flights through the client keyed by flight, kills the server (of a cluster: the one that leads the first
//! partition) with SIGKILL in the middle with records in flight, restarts it, lets the client finish, replays everything, from an offset, and from a date, and checks what was read against the
//! input: every acknowledged record once, in order, with its bytes, and nothing else.
//!
//! In reading order: [`stage`] what serves · [`load`] · [`replay`] · [`check`] · [`table`] what is printed.

mod check;
mod load;
mod replay;
mod stage;
mod table;

use crate::{
    args::{Common, DemoArgs},
    flights::{Flight, Source},
    node::{Scratch, interrupted},
};
use anyhow::{Context, Result, bail};
use check::Sent;
use indicatif::{ProgressBar, ProgressStyle};
use load::{Counts, Way};
use millpond_client::{Client, NewTopic, Position};
use replay::Read;
use stage::Stage;
use std::{
    io::{IsTerminal, Write},
    sync::Arc,
    time::{Duration, Instant},
};
use table::Report;

/// The topic.
const TOPIC: &str = "flights";
/// The header with a record's place in the input.
const NUMBER: &str = "n";

/// Runs the demonstration. Its server and its directory are gone afterwards, however it ends.
pub(crate) fn run(args: &DemoArgs, common: &Common) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the demo")?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = demonstrate(args, common) => report,
            why = interrupted() => bail!("{why}"),
        }
    });
    runtime.shutdown_background();
    let report = report?;
    let text = if common.json { serde_json::to_string(&report).context("writing results as JSON")? } else { report.text() };
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error).context("writing to standard output"),
        _ => {}
    }
    if report.differences > 0 {
        bail!("the check failed: {} differences between what was acknowledged and what was read", report.differences);
    }
    Ok(())
}

/// Tells what is being done.
struct Voice {
    quiet: bool,
}

impl Voice {
    fn say(&self, what: impl std::fmt::Display) {
        if !self.quiet {
            eprintln!("{what}");
        }
    }

    fn bar(&self, what: &'static str, len: u64) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg:22} {bar:40} {human_pos:>9} of {human_len} {per_sec:>14} {eta}");
        let bar = ProgressBar::new(len).with_message(what);
        if let Ok(style) = style { bar.with_style(style) } else { bar }
    }
}

/// A load with a crash in it.
struct Loaded {
    client: Client,
    ways: Vec<Way>,
    took: Duration,
    crash: Crash,
}

/// The crash.
struct Crash {
    killed: Instant,
    /// When the server served again.
    ready: Instant,
    in_flight: usize,
    /// From its second start until it served.
    recovery: Duration,
    /// How long nobody served: not at all where others did.
    down: Duration,
}

async fn demonstrate(args: &DemoArgs, common: &Common) -> Result<Report> {
    let voice = Voice { quiet: common.quiet };
    let source = Source::find(args.flights.as_deref());
    let flights = Arc::new(source.load(args.records.unwrap_or(usize::MAX))?);
    voice.say(format_args!("{} flights from {source}", flights.len()));
    let scratch = Scratch::new(args.dir.as_deref(), "demo", args.keep)?;
    let mut stage = Stage::start(args, scratch.path()).await?;
    voice.say(format_args!("{stage}, data in {}", scratch.path().display()));
    let loaded = load(&mut stage, &flights, args.partitions, &voice).await?;
    stage.settle().await?;
    let report = read_back(source, &flights, &loaded, args.partitions as u32, &voice).await?;
    stage.check().await?;
    drop(loaded);
    drop(stage);
    Ok(report)
}

/// Loads all, with a kill in the middle.
async fn load(stage: &mut Stage, flights: &Arc<Vec<Flight>>, partitions: usize, voice: &Voice) -> Result<Loaded> {
    let client = Client::builder().bootstrap(&stage.servers()).client_id("millpond-demo").request_timeout(Duration::from_secs(10));
    let client = client.connect().await.context("connecting")?;
    // The flights are of 2013: they would be out of date at once.
    let topic = NewTopic::new(TOPIC).partitions(u32::try_from(partitions).context("too many partitions")?).set("retention.ms", "-1");
    client.admin().create_topic(topic).await.context("creating the topic")?;
    let victim = stage.leader().await?;
    let counts = Arc::new(Counts::new(flights.len()));
    let bar = voice.bar("loading", flights.len() as u64);
    let began = Instant::now();
    let loading = load::load(client.clone(), Arc::clone(flights), partitions, Arc::clone(&counts), bar.clone());
    let mut loading = tokio::spawn(loading);
    let (killed, in_flight) = tokio::select! {
        killed = kill(stage, victim, &counts, &bar, voice) => killed?,
        done = &mut loading => {
            done.context("loading")??;
            bail!("all {} records were acknowledged before the server could be killed: too few", flights.len());
        }
    };
    // Where others serve, the load may end before this one does again.
    let recovery = stage.start_again().await?;
    let ready = Instant::now();
    let down = if stage.is_alone() { ready - killed } else { Duration::ZERO };
    let crash = Crash { killed, ready, in_flight, recovery, down };
    let ways = loading.await.context("loading")??;
    bar.finish_and_clear();
    Ok(Loaded { client, ways, took: began.elapsed(), crash })
}

/// Kills a server once half of the records are acknowledged. When, and how many were in flight.
async fn kill(stage: &mut Stage, victim: usize, counts: &Counts, bar: &ProgressBar, voice: &Voice) -> Result<(Instant, usize)> {
    counts.reached.notified().await;
    let in_flight = counts.in_flight();
    let killed = Instant::now();
    stage.kill(victim).await?;
    bar.suspend(|| voice.say(format_args!("killed {} with {in_flight} records in flight; starting it again", stage.name(victim))));
    Ok((killed, in_flight))
}

/// Replays in three ways, and checks each.
async fn read_back(source: Source, flights: &[Flight], loaded: &Loaded, partitions: u32, voice: &Voice) -> Result<Report> {
    let acks: Vec<check::Ack> = loaded.ways.iter().map(|way| way.ack).collect();
    let sent = Sent { flights, acks: &acks, partitions };
    let mut reads: Vec<(String, Read, check::Differences)> = Vec::new();
    // An offset that every partition has.
    let ends = (0..partitions).map(|p| acks.iter().filter(|ack| ack.partition == p).count() as u64);
    let offset = ends.min().unwrap_or_default() / 2;
    let time_ms = flights[flights.len() * 3 / 4].time_ms;
    let date = jiff::Timestamp::from_millisecond(time_ms).context("a time that is none")?;
    let ways = [
        ("everything".to_owned(), Position::Earliest, vec![0; partitions as usize]),
        (format!("from offset {offset}"), Position::Offset(offset), vec![offset; partitions as usize]),
        (format!("from {date}"), Position::Time(time_ms), sent.offsets_of(time_ms)),
    ];
    for (what, position, from) in ways {
        let bar = voice.bar("replaying", flights.len() as u64);
        let read = replay::read(&loaded.client, position, &bar).await.with_context(|| format!("replaying {what}"))?;
        bar.finish_and_clear();
        let differences = sent.check(&from, read.seen());
        reads.push((what, read, differences));
    }
    Ok(Report::new(&source, flights, loaded, &reads))
}
