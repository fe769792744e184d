//! What many groups cost: the same load on many partitions and on few, in turns, on one node and on three; and a node that is killed and started again where
//! thousands of groups rest.

mod storm;
mod summary;

use super::{bench::Bench, load::produce_run};
use crate::{
    args::{Common, GroupsArgs, Many, ServerArgs},
    cluster::{Cluster, ClusterSpec, health},
    load::produce::Pace,
    node::{Scratch, interrupted},
    results::Run,
};
use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use std::time::Duration;
use summary::{Summary, Turn};

/// A cluster that has just been started, or got a topic, is whole within this time.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(120);
/// The nodes of each side.
const SIDES: [usize; 2] = [1, 3];

/// Runs it. Its servers are gone afterwards, however it ends.
pub(super) fn run(args: &GroupsArgs, common: &Common, progress: &ProgressBar) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("starting the servers")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = parts(args, progress) => done,
            why = interrupted() => bail!("{why}"),
        }
    });
    runtime.shutdown_background();
    progress.finish_and_clear();
    done?.print(common.json)
}

async fn parts(args: &GroupsArgs, progress: &ProgressBar) -> Result<Summary> {
    let scratch = Scratch::new(args.dir.as_deref(), "groups", false)?;
    let mut summary = Summary::new(args);
    let wants = |part| args.only.is_empty() || args.only.contains(&part);
    if wants(Many::Active) {
        for nodes in SIDES {
            let mut cluster = start(args, &scratch, nodes, &format!("active-{nodes}"), progress).await?;
            let (of, addresses, shown) = (args.clone(), cluster.addresses(), progress.clone());
            // It has threads and runtimes of its own.
            let measured = tokio::task::spawn_blocking(move || in_turns(&of, addresses, &shown)).await;
            summary.turns.extend(measured.context("the thread that measures")??);
            cluster.stop().await?;
        }
    }
    if wants(Many::Storm) {
        let mut cluster = start(args, &scratch, 3, "storm", progress).await?;
        summary.storms = storm::storms(args, &mut cluster, progress).await?;
        cluster.stop().await?;
    }
    Ok(summary)
}

async fn start(args: &GroupsArgs, scratch: &Scratch, nodes: usize, name: &str, progress: &ProgressBar) -> Result<Cluster> {
    progress.set_message(format!("starting {nodes} {}", if nodes == 1 { "node" } else { "nodes" }));
    let spec = ClusterSpec {
        program: args.program.clone(),
        nodes,
        cores: Some(args.server_cores.clone()),
        pin: false,
        memory: Some("512MiB".into()),
        disk_reserve: None,
    };
    let cluster = Cluster::start(&spec, &scratch.path().join(name), None).await?;
    cluster.whole(WHOLE_TIMEOUT).await?;
    Ok(cluster)
}

/// The load on few partitions and on many, one after the other.
fn in_turns(args: &GroupsArgs, addresses: Vec<String>, progress: &ProgressBar) -> Result<Vec<Turn>> {
    let server = ServerArgs { spawn: false, dir: None, server_cpus: None, client_cpus: Vec::new(), server_memory: None, program: None };
    let nodes = addresses.len();
    let common = Common { servers: addresses.clone(), json: false, quiet: true };
    let mut bench = Bench::of(&server, &common, progress)?;
    let few = bench.topics(1, args.few)?;
    let many = bench.topics(1, args.active)?;
    super::bench::wait(health::whole(&addresses, WHOLE_TIMEOUT))?;
    let plan = bench.plan(args.warm_up, args.duration);
    let mut turns = Vec::new();
    for turn in 0..args.turns {
        for (topics, partitions) in [(&few, args.few), (&many, args.active)] {
            let name = format!("turn {} of {}, {nodes} nodes, {partitions} partitions", turn + 1, args.turns);
            let run: Run = produce_run(&bench, &name, &args.work(), topics, Pace::Closed { in_flight: args.in_flight }, &plan)?;
            ensure!(run.refused == 0, "{} batches were refused for want of room: use fewer connections", run.refused);
            turns.push(Turn {
                nodes,
                partitions,
                bytes_per_s: run.bytes_per_s(),
                batches_per_s: run.requests_per_s(),
                ack_p50_ns: run.latency.p50_ns,
                ack_p99_ns: run.latency.p99_ns,
            });
        }
    }
    Ok(turns)
}
