//! A node is killed, and started again, where thousands of groups rest: how long until all have a leader, and until leads stay where they are.

use super::{WHOLE_TIMEOUT, summary::Storm};
use crate::{args::GroupsArgs, cluster::Cluster, machine::usage::Process, system::native::conn::Conn};
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use millpond_client::{Client, NewTopic};
use millpond_wire::messages::{DescribeCluster, DescribeClusterReply, Kind};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The topic whose partitions rest.
const TOPIC: &str = "groups";
/// Partitions of one change of the catalog.
const MADE_AT_ONCE: usize = 1_000;
/// How often one looks who leads.
const LOOK: Duration = Duration::from_millis(100);

/// Runs it so often.
pub(super) async fn storms(args: &GroupsArgs, cluster: &mut Cluster, progress: &ProgressBar) -> Result<Vec<Storm>> {
    let admin = Client::connect(&cluster.addresses().join(",")).await?.admin();
    let names: Vec<(String, usize)> = (0..args.groups.div_ceil(MADE_AT_ONCE))
        .map(|n| (format!("{TOPIC}-{n}"), MADE_AT_ONCE.min(args.groups - n * MADE_AT_ONCE)))
        .collect();
    for (name, partitions) in &names {
        progress.set_message(format!("making topic {name}"));
        admin.create_topic(NewTopic::new(name).partitions(u32::try_from(*partitions)?)).await?;
    }
    let topics: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
    cluster.whole(WHOLE_TIMEOUT).await?;
    let mut storms = Vec::new();
    for turn in 0..args.turns {
        progress.set_message(format!("kill {} of {}", turn + 1, args.turns));
        storms.push(storm(args, cluster, &topics, turn % 3).await.with_context(|| format!("kill {}", turn + 1))?);
    }
    Ok(storms)
}

async fn storm(args: &GroupsArgs, cluster: &mut Cluster, topics: &[String], victim: usize) -> Result<Storm> {
    sleep(args.calm).await;
    let (before, began) = (cpu_s(cluster), Instant::now());
    sleep(args.duration).await;
    let idle_cpus = (cpu_s(cluster) - before) / began.elapsed().as_secs_f64() / cluster.pids().len() as f64;
    let led = leaders(cluster, topics).await?.iter().filter(|leader| **leader == victim).count();
    cluster.kill(victim).await?;
    let before = cpu_s(cluster);
    let killed = watch(cluster, topics, Some(victim), args.calm).await.context("after it was killed")?;
    let killed_cpu_s = cpu_s(cluster) - before;
    let before = cpu_s(cluster);
    let began = Instant::now();
    cluster.launch(victim)?;
    cluster.up().await?;
    let serves = began.elapsed();
    let back = watch(cluster, topics, None, args.calm).await.context("after it was started again")?;
    cluster.whole(WHOLE_TIMEOUT).await?;
    Ok(Storm {
        idle_cpus,
        led,
        led_again_s: killed.led.as_secs_f64(),
        killed_settled_s: killed.settled.as_secs_f64(),
        killed_cpu_s,
        serves_s: serves.as_secs_f64(),
        back_led_s: (serves + back.led).as_secs_f64(),
        back_settled_s: (serves + back.settled).as_secs_f64(),
        back_cpu_s: cpu_s(cluster) - before,
    })
}

/// From the call.
struct Seen {
    /// Until all groups had a leader that answers for them.
    led: Duration,
    /// Until who leads changed for the last time.
    settled: Duration,
}

/// Looks who leads until that stays as it is; with `gone`, until that one leads nothing.
async fn watch(cluster: &Cluster, topics: &[String], gone: Option<usize>, calm: Duration) -> Result<Seen> {
    let began = Instant::now();
    let (mut last, mut led, mut settled) = (Vec::new(), None, Duration::ZERO);
    loop {
        // Of the moment at which it was asked, to be no better than it is.
        let now = leaders(cluster, topics).await.unwrap_or_default();
        let at = began.elapsed();
        if now != last {
            settled = if last.is_empty() { Duration::ZERO } else { at };
            last = now;
        }
        let elsewhere = !last.is_empty() && gone.is_none_or(|gone| !last.contains(&gone));
        if !elsewhere || (led.is_none() && leaderless(cluster).await? > 0) {
            settled = began.elapsed();
        } else if led.is_none() {
            led = Some(began.elapsed());
        }
        if let Some(led) = led.filter(|_| began.elapsed() >= settled + calm) {
            return Ok(Seen { led, settled: settled.max(led) });
        }
        ensure!(began.elapsed() < WHOLE_TIMEOUT, "leads come and go after {WHOLE_TIMEOUT:?}");
        sleep(LOOK).await;
    }
}

async fn leaders(cluster: &Cluster, topics: &[String]) -> Result<Vec<usize>> {
    let mut all = Vec::new();
    for topic in topics {
        all.extend(cluster.leaders(topic).await?);
    }
    Ok(all)
}

/// Partitions of which no node that answers says that it leads them.
async fn leaderless(cluster: &Cluster) -> Result<usize> {
    let serving = cluster.serving();
    let mut conn = Conn::open(serving.first().context("no node serves")?).await?;
    let reply: DescribeClusterReply = conn.ask(Kind::DescribeCluster, &DescribeCluster {}).await?;
    Ok(reply.leaderless.iter().map(|topic| topic.partitions.len()).sum())
}

/// CPU time of the nodes that serve.
fn cpu_s(cluster: &Cluster) -> f64 {
    cluster.pids().into_iter().filter_map(|pid| Process::look(pid).ok()).map(|process| process.cpu.total_s()).sum()
}
