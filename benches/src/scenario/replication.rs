//! What replication costs: the same load on a node that is alone and on a cluster, in turns, with both of them up all the time.
//!
//! Throughput is what a closed loop reaches. The ack is held against that of a node alone at the same rates for both, [`RATE_SHARES`] of what the slower one
//! reached: in a closed loop with full CPUs the mean ack is the number of requests in flight by the throughput (Little's law), which says nothing that the
//! throughput does not say. For the same reason what is promised of the ack is held against the rates at which the machine's CPUs are at most
//! [`BUSY_MAX`] busy while the cluster serves: all nodes share them here, so that above it requests wait for a CPU, as they would for machines that are too
//! small. All rates are printed.

use super::{bench::Bench, load::produce_run};
use crate::{
    args::{Arrivals, Common, ReplicationArgs, ServerArgs},
    cluster::{Cluster, ClusterSpec},
    load::produce::Pace,
    machine::usage::all_busy_s,
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
const RATE_SHARES: [f64; 4] = [0.0625, 0.125, 0.25, 0.5];
/// The ack is promised where the machine's CPUs are no busier than this.
const BUSY_MAX: f64 = 0.5;

/// What one turn measured.
#[derive(Clone, Debug, Serialize)]
struct Turn {
    nodes: usize,
    /// Of what the slower side reached in closed loop, so much was to be sent; none in closed loop.
    share: Option<f64>,
    /// Share of the time that the machine's CPUs were busy with anything, 0 to 1.
    cpus_busy: f64,
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
    closed_ack_p50_ratio: f64,
    /// At the same rates for both.
    acks: Vec<Ack>,
    throughput_is_met: bool,
    ack_is_met: bool,
}

/// Median acks at one rate.
#[derive(Debug, PartialEq, Serialize)]
struct Ack {
    share: f64,
    /// While the cluster served.
    cpus_busy: f64,
    p50_ratio: f64,
    /// That of a node alone allows so much.
    ratio_max: f64,
    /// What is promised of the ack counts here.
    counts: bool,
}

impl Ack {
    fn is_met(&self) -> bool {
        self.p50_ratio < self.ratio_max
    }
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
        for share in std::iter::once(None).chain(RATE_SHARES.map(Some)) {
            for cluster in &clusters {
                let (nodes, addresses) = (cluster.addresses().len(), cluster.addresses());
                let rate_per_s = share.map(|share| slower * share);
                let at = rate_per_s.map_or_else(String::new, |rate| format!(" at {} batches/s", show_count(rate)));
                let name = format!("turn {} of {}, {nodes} {}{at}", turn + 1, args.turns, if nodes == 1 { "node" } else { "nodes" });
                let (args, progress) = (args.clone(), progress.clone());
                // It has threads and runtimes of its own.
                let measured = tokio::task::spawn_blocking(move || measure(&args, addresses, rate_per_s, &name, &progress)).await;
                let (run, cpus_busy) = measured.context("the thread that measures")??;
                if share.is_none() {
                    slower = slower.min(run.requests_per_s());
                }
                turns.push(Turn {
                    nodes,
                    share,
                    cpus_busy,
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

fn measure(
    args: &ReplicationArgs,
    addresses: Vec<String>,
    rate_per_s: Option<f64>,
    name: &str,
    progress: &ProgressBar,
) -> Result<(Run, f64)> {
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
    let count = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let (began, busy) = (Instant::now(), all_busy_s()?);
    let run = produce_run(&bench, name, &args.work, &topics, pace, &plan)?;
    let cpus_busy = (all_busy_s()? - busy) / began.elapsed().as_secs_f64() / count;
    ensure!(run.refused == 0, "{} batches were refused for want of room: use fewer connections", run.refused);
    bench.drop_topics(&topics)?;
    Ok((run, cpus_busy))
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
    let side = |of: usize, share: Option<f64>, what: &dyn Fn(&Turn) -> f64| {
        let fits = |turn: &&Turn| turn.nodes == of && turn.share == share;
        median(&turns.iter().filter(fits).map(what).collect::<Vec<_>>())
    };
    let ratio = |share, what: &dyn Fn(&Turn) -> f64| side(nodes, share, what) / side(1, share, what).max(f64::MIN_POSITIVE);
    let ack = |turn: &Turn| turn.ack_p50_ns as f64;
    let at = |share: f64| {
        let cpus_busy = side(nodes, Some(share), &|turn| turn.cpus_busy);
        let ratio_max = ACK_MAX + round_trip_p50_ns / side(1, Some(share), &ack).max(f64::MIN_POSITIVE);
        Ack { share, cpus_busy, p50_ratio: ratio(Some(share), &ack), ratio_max, counts: cpus_busy <= BUSY_MAX }
    };
    let acks: Vec<Ack> = RATE_SHARES.into_iter().map(at).collect();
    let throughput_ratio = ratio(None, &|turn| turn.bytes_per_s);
    Summary {
        nodes,
        round_trip_p50_ns,
        throughput_ratio,
        closed_ack_p50_ratio: ratio(None, &ack),
        throughput_is_met: throughput_ratio >= THROUGHPUT_MIN,
        ack_is_met: acks.iter().any(|ack| ack.counts) && acks.iter().all(|ack| !ack.counts || ack.is_met()),
        acks,
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
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let mut out = String::from("nodes     load           throughput   batches/s      ack p50      ack p99    CPUs busy\n");
    for turn in &summary.turns {
        out += &format!(
            "{:<9} {:<10} {:>14} {:>11} {:>12} {:>12} {:>12}\n",
            turn.nodes,
            turn.share.map_or_else(|| "closed".to_owned(), |share| format!("1/{:.0}", 1.0 / share)),
            show_rate(turn.bytes_per_s),
            show_count(turn.batches_per_s),
            show_ns(turn.ack_p50_ns as f64),
            show_ns(turn.ack_p99_ns as f64),
            percent(turn.cpus_busy)
        );
    }
    let met = |is_met| if is_met { "met" } else { "not met" };
    out += &format!(
        "throughput  {} of a node alone; wanted {THROUGHPUT_MIN} at least: {}\n",
        three(summary.throughput_ratio),
        met(summary.throughput_is_met)
    );
    for ack in &summary.acks {
        let verdict = if ack.counts { met(ack.is_met()) } else { "not counted, the CPUs are too busy" };
        out += &format!(
            "ack p50     {} times that of a node alone at 1/{:.0} of what {} nodes reach, CPUs {} busy; wanted less than {}: {verdict}\n",
            three(ack.p50_ratio),
            1.0 / ack.share,
            summary.nodes,
            percent(ack.cpus_busy),
            three(ack.ratio_max),
        );
    }
    out += &format!(
        "in all      wanted an ack of less than {ACK_MAX} times and a round trip ({}) where CPUs are at most {} busy: {}; in closed loop it is {} times\n",
        show_ns(summary.round_trip_p50_ns),
        percent(BUSY_MAX),
        met(summary.ack_is_met),
        three(summary.closed_ack_p50_ratio),
    );
    out
}

#[cfg(test)]
mod tests;
