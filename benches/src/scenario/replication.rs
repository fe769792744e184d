//! What replication costs: the same load on a node that is alone and on a cluster, in turns, with both of them up all the time.
//!
//! Throughput is what a closed loop reaches. The ack is held against that of a node alone at the same rate for both, [`RATE_SHARE`] of what the slower one
//! reached: in a closed loop with full CPUs the mean ack is the number of requests in flight by the throughput (Little's law), which says nothing that the
//! throughput does not say. It is printed all the same.

use super::{bench::Bench, load::produce_run};
use crate::{
    args::{Arrivals, Common, ReplicationArgs, ServerArgs},
    cluster::{Cluster, ClusterSpec},
    load::produce::Pace,
    measure::median,
    node::{Scratch, interrupted},
    results::Run,
    system::native::{Native, conn::Conn},
    units::{show_count, show_ns, show_rate, three},
};
use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use millpond_wire::messages::{Done, Kind, Ping};
use serde::Serialize;
use std::{
    io::Write,
    time::{Duration, Instant},
};

/// A cluster that has just been started, or got a topic, is whole within this time.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Round trips measured.
const PINGS: usize = 500;
/// What is promised: at least this share of the throughput of a node alone...
const THROUGHPUT_MIN: f64 = 0.3;
/// ...and the median ack in less than this many times that of a node alone, and a round trip.
const ACK_MAX: f64 = 2.0;

/// Of what the slower side reaches in closed loop, so much is sent to both while acks are compared.
const RATE_SHARE: f64 = 0.5;

/// What one turn measured.
#[derive(Clone, Debug, Serialize)]
struct Turn {
    nodes: usize,
    /// Batches per second that were to be sent; none in closed loop.
    rate_per_s: Option<f64>,
    bytes_per_s: f64,
    batches_per_s: f64,
    ack_p50_ns: u64,
    ack_p99_ns: u64,
}

#[derive(Debug, Serialize)]
struct Summary {
    nodes: usize,
    round_trip_p50_ns: f64,
    turns: Vec<Turn>,
    throughput_ratio: f64,
    /// At the same rate for both.
    ack_p50_ratio: f64,
    closed_ack_p50_ratio: f64,
    throughput_is_met: bool,
    ack_is_met: bool,
}

/// Runs it. Its servers are gone afterwards, however it ends.
pub(super) fn run(args: &ReplicationArgs, common: &Common, progress: &ProgressBar) -> Result<()> {
    ensure!((2..=9).contains(&args.nodes), "two nodes at least, and nine at most");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("starting the servers")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = sides(args, progress) => done,
            why = interrupted() => bail!("{why}"),
        }
    });
    // What measures ends with the process; its servers are gone.
    runtime.shutdown_background();
    progress.finish_and_clear();
    print(&done?, common.json)
}

async fn sides(args: &ReplicationArgs, progress: &ProgressBar) -> Result<Summary> {
    let scratch = Scratch::new(args.dir.as_deref(), "replication", false)?;
    let mut clusters = Vec::new();
    for nodes in [1, args.nodes] {
        progress.set_message(format!("starting {nodes} {}", if nodes == 1 { "node" } else { "nodes" }));
        let spec = ClusterSpec {
            program: args.program.clone(),
            nodes,
            cores: Some(args.server_cores.clone()),
            pin: args.pin,
            memory: Some("512MiB".into()),
            disk_reserve: None,
        };
        let cluster = Cluster::start(&spec, &scratch.path().join(nodes.to_string()), None).await?;
        cluster.whole(WHOLE_TIMEOUT).await?;
        clusters.push(cluster);
    }
    let round_trip_p50_ns = ping(&clusters[0].addresses()[0]).await?;
    let mut turns = Vec::new();
    for turn in 0..args.turns {
        let mut slower = f64::INFINITY;
        for is_open in [false, true] {
            for cluster in &clusters {
                let (nodes, addresses) = (cluster.addresses().len(), cluster.addresses());
                let rate_per_s = is_open.then_some(slower * RATE_SHARE);
                let at = rate_per_s.map_or_else(String::new, |rate| format!(" at {} batches/s", show_count(rate)));
                let name = format!("turn {} of {}, {nodes} {}{at}", turn + 1, args.turns, if nodes == 1 { "node" } else { "nodes" });
                let (args, progress) = (args.clone(), progress.clone());
                // It has threads and runtimes of its own.
                let measured = tokio::task::spawn_blocking(move || measure(&args, addresses, rate_per_s, &name, &progress)).await;
                let run = measured.context("the thread that measures")??;
                if !is_open {
                    slower = slower.min(run.requests_per_s());
                }
                turns.push(Turn {
                    nodes,
                    rate_per_s,
                    bytes_per_s: run.bytes_per_s(),
                    batches_per_s: run.requests_per_s(),
                    ack_p50_ns: run.latency.p50_ns,
                    ack_p99_ns: run.latency.p99_ns,
                });
            }
        }
    }
    for mut cluster in clusters {
        cluster.stop().await?;
    }
    Ok(sum_up(args.nodes, round_trip_p50_ns, turns))
}

fn measure(args: &ReplicationArgs, addresses: Vec<String>, rate_per_s: Option<f64>, name: &str, progress: &ProgressBar) -> Result<Run> {
    let server = ServerArgs {
        spawn: false,
        dir: None,
        server_cpus: None,
        client_cpus: args.client_cpus.clone(),
        server_memory: None,
        program: None,
    };
    let common = Common { servers: addresses.clone(), json: false, quiet: true };
    let mut bench = Bench::of(&server, &common, progress)?;
    let topics = bench.topics(args.work.topics, args.work.partitions)?;
    super::bench::wait(crate::cluster::health::whole(&addresses, WHOLE_TIMEOUT))?;
    let plan = bench.plan(args.warm_up, args.duration);
    let closed = Pace::Closed { in_flight: args.work.in_flight };
    let pace = rate_per_s.map_or(closed, |per_s| Pace::Open { per_s, arrivals: Arrivals::Poisson });
    let run = produce_run(&bench, name, &args.work, &topics, pace, &plan)?;
    ensure!(run.refused == 0, "{} batches were refused for want of room: use fewer connections", run.refused);
    bench.drop_topics(&topics)?;
    Ok(run)
}

/// The median time to a server and back, without anything to do there, in ns.
async fn ping(address: &str) -> Result<f64> {
    let mut conn: Conn = Native::new(&[address.to_owned()]).any().await?;
    let mut times = Vec::new();
    for _ in 0..PINGS {
        let began = Instant::now();
        let _: Done = conn.ask(Kind::Ping, &Ping {}).await?;
        times.push(began.elapsed().as_nanos() as f64);
    }
    Ok(median(&times))
}

fn sum_up(nodes: usize, round_trip_p50_ns: f64, turns: Vec<Turn>) -> Summary {
    let side = |of: usize, open: bool, what: &dyn Fn(&Turn) -> f64| {
        let fits = |turn: &&Turn| turn.nodes == of && turn.rate_per_s.is_some() == open;
        median(&turns.iter().filter(fits).map(what).collect::<Vec<_>>())
    };
    let ratio = |open, what: &dyn Fn(&Turn) -> f64| side(nodes, open, what) / side(1, open, what).max(f64::MIN_POSITIVE);
    let ack = |turn: &Turn| turn.ack_p50_ns as f64;
    let throughput_ratio = ratio(false, &|turn| turn.bytes_per_s);
    Summary {
        nodes,
        round_trip_p50_ns,
        throughput_ratio,
        ack_p50_ratio: ratio(true, &ack),
        closed_ack_p50_ratio: ratio(false, &ack),
        throughput_is_met: throughput_ratio >= THROUGHPUT_MIN,
        ack_is_met: side(nodes, true, &ack) < ACK_MAX * side(1, true, &ack) + round_trip_p50_ns,
        turns,
    }
}

fn print(summary: &Summary, json: bool) -> Result<()> {
    let text = if json { serde_json::to_string(summary).context("writing results as JSON")? } else { text(summary) };
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
        _ => Ok(()),
    }
}

fn text(summary: &Summary) -> String {
    let mut out = String::from("nodes     loop        throughput   batches/s      ack p50      ack p99\n");
    for turn in &summary.turns {
        out += &format!(
            "{:<9} {:<7} {:>13} {:>11} {:>12} {:>12}\n",
            turn.nodes,
            if turn.rate_per_s.is_some() { "open" } else { "closed" },
            show_rate(turn.bytes_per_s),
            show_count(turn.batches_per_s),
            show_ns(turn.ack_p50_ns as f64),
            show_ns(turn.ack_p99_ns as f64)
        );
    }
    let met = |is_met| if is_met { "met" } else { "not met" };
    out += &format!(
        "throughput  {} of a node alone; wanted {THROUGHPUT_MIN} at least: {}\n",
        three(summary.throughput_ratio),
        met(summary.throughput_is_met)
    );
    out += &format!(
        "ack p50     {} times that of a node alone at the same rate (in closed loop {}); wanted less than {ACK_MAX} and a round trip ({}): {}\n",
        three(summary.ack_p50_ratio),
        three(summary.closed_ack_p50_ratio),
        show_ns(summary.round_trip_p50_ns),
        met(summary.ack_is_met)
    );
    out
}

#[cfg(test)]
mod tests;
