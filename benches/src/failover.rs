//! How long writes stand still when the leader of a partition dies: `millpond bench failover`.
//!
//! A writer per partition sends small records at an even pace and waits for none of them, with the client's and the server's default settings.
//! The process of a node that leads some of the partitions is killed (SIGKILL) at a moment that nobody chose. For each partition that it led, the
//! gap is the time from just before the kill to the first ack of a record that was sent after it: acks that were on their way do not count.
//! Then the node is started again, and the next round begins when the cluster is whole.

use crate::{
    args::{Common, FailoverArgs},
    cluster::{Cluster, ClusterSpec},
    node::{Scratch, interrupted},
    units::show_ns,
};
use anyhow::{Context, Result, bail, ensure};
use millpond_client::{Acks, Client, Delivery, NewTopic, Producer, ProducerRecord};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;
use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// The topic that is written to.
const TOPIC: &str = "failover";
/// Bytes of a record.
const RECORD_BYTES: usize = 100;
/// Records of a writer that are not acknowledged yet: more than are sent in the longest gap that is waited for.
const UNACKED_MAX: usize = 100_000;
/// The wait before a second try, where the longest one is said.
const BACKOFF: Duration = Duration::from_millis(50);
/// The cluster is whole again within this time.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A gap is not waited for longer.
const GAP_MAX: Duration = Duration::from_secs(60);
/// From a cluster that is whole to the kill, in milliseconds.
const CALM_MS: std::ops::Range<u64> = 500..1500;
/// What is promised at default settings: half of the gaps, and all but one in a hundred.
const WANTED: (Duration, Duration) = (Duration::from_millis(600), Duration::from_millis(1500));

/// Runs it. Its servers are gone afterwards, however it ends.
pub(crate) fn run(args: &FailoverArgs, common: &Common) -> Result<()> {
    ensure!((3..=9).contains(&args.nodes), "three nodes at least, and nine at most");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the failover test")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = rounds(args, common) => done,
            why = interrupted() => bail!("{why}"),
        }
    });
    runtime.shutdown_background();
    done?.print(common.json)
}

/// When the last kill was, and when each partition took a write after it.
#[derive(Debug)]
struct Watch {
    killed: Option<Instant>,
    acked: Vec<Option<Instant>>,
}

type Shared = Arc<Mutex<Watch>>;

async fn rounds(args: &FailoverArgs, common: &Common) -> Result<Summary> {
    let mut scratch = Scratch::new(args.dir.as_deref(), "failover", false)?;
    let done = measure(args, common, &scratch).await;
    done.with_context(|| format!("the data is in {}", scratch.path().display())).inspect_err(|_| scratch.keep())
}

async fn measure(args: &FailoverArgs, common: &Common, scratch: &Scratch) -> Result<Summary> {
    let spec = ClusterSpec {
        program: args.program.clone(),
        nodes: args.nodes,
        cores: args.server_cpus.clone(),
        pin: args.server_cpus.is_some(),
        memory: Some("512MiB".into()),
        disk_reserve: None,
    };
    let mut cluster = Cluster::start(&spec, scratch.path(), None).await?;
    cluster.whole(WHOLE_TIMEOUT).await?;
    let servers = cluster.addresses().join(",");
    let admin = Client::connect(&servers).await?.admin();
    admin.create_topic(NewTopic::new(TOPIC).partitions(u32::try_from(args.partitions)?)).await?;
    cluster.whole(WHOLE_TIMEOUT).await?;
    let shared = Shared::new(Mutex::new(Watch { killed: None, acked: vec![None; args.partitions] }));
    // Writers stop when this goes.
    let (going, goes) = watch::channel(());
    let mut writers = JoinSet::new();
    for partition in 0..args.partitions {
        let mut client = Client::builder().bootstrap(&servers).client_id(format!("writer-{partition}"));
        if let Some(max) = args.backoff_max {
            client = client.backoff(BACKOFF.min(max), max);
        }
        let client = client.connect().await?;
        writers.spawn(writer(client, partition, args.every, Arc::clone(&shared), goes.clone()));
    }
    let mut dice = SmallRng::from_os_rng();
    let mut summary = Summary::default();
    for round in 0..args.rounds {
        tokio::select! {
            done = one(&mut cluster, &shared, &mut dice, &mut summary) => done.with_context(|| format!("round {}", round + 1))?,
            Some(ended) = writers.join_next() => ended.context("a writer")??,
        }
        if !common.quiet && (round + 1) % 10 == 0 {
            eprintln!("{} rounds", round + 1);
        }
    }
    drop((going, goes));
    while let Some(ended) = timeout(GAP_MAX, writers.join_next()).await.context("a writer does not end")? {
        ended.context("a writer")??;
    }
    cluster.stop().await?;
    Ok(summary)
}

/// Kills a leader, waits for writes, and mends all.
async fn one(cluster: &mut Cluster, shared: &Shared, dice: &mut SmallRng, summary: &mut Summary) -> Result<()> {
    sleep(Duration::from_millis(dice.random_range(CALM_MS))).await;
    let leaders = cluster.leaders(TOPIC).await?;
    let victim = leaders[dice.random_range(0..leaders.len())];
    let killed = Instant::now();
    *shared.lock().expect("nobody panics while holding this") = Watch { killed: Some(killed), acked: vec![None; leaders.len()] };
    cluster.kill(victim).await?;
    let mut led = None;
    let acked = loop {
        sleep(Duration::from_millis(10)).await;
        if led.is_none() && cluster.leaders(TOPIC).await.is_ok_and(|leaders| !leaders.contains(&victim)) {
            led = Some(killed.elapsed());
        }
        let acked = shared.lock().expect("nobody panics while holding this").acked.clone();
        match acked.iter().copied().collect::<Option<Vec<Instant>>>() {
            Some(all) => break all,
            None if killed.elapsed() > GAP_MAX => {
                let none: Vec<usize> = (0..acked.len()).filter(|partition| acked[*partition].is_none()).collect();
                bail!("{GAP_MAX:?} after node {} was killed, partitions {none:?} took no write; it led {leaders:?}", victim + 1);
            }
            None => {}
        }
    };
    // If all took a write before anyone was asked, it is known no better.
    summary.led.push(led.unwrap_or_else(|| killed.elapsed()));
    for (leader, acked) in leaders.iter().zip(acked) {
        let gaps = if *leader == victim { &mut summary.gaps } else { &mut summary.others };
        gaps.push(acked - killed);
    }
    summary.rounds += 1;
    let restarted = Instant::now();
    cluster.up().await?;
    cluster.whole(WHOLE_TIMEOUT).await?;
    summary.whole.push(restarted.elapsed());
    Ok(())
}

/// Sends to one partition at an even pace until it is told to stop.
async fn writer(client: Client, partition: usize, every: Duration, shared: Shared, mut goes: watch::Receiver<()>) -> Result<()> {
    let producer = client.producer().acks(Acks::All).build().await?;
    let (sent, acks) = mpsc::channel(UNACKED_MAX);
    let sending = async move {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // Only its end is told.
                _ = goes.changed() => return Ok(()),
            }
            let delivery = send(&producer, partition).await?;
            sent.send(delivery).await.context("nobody waits for acks")?;
        }
    };
    tokio::try_join!(sending, listen(acks, partition, &shared)).map(drop)
}

async fn send(producer: &Producer, partition: usize) -> Result<(Instant, Delivery)> {
    let value = [b'x'; RECORD_BYTES];
    let record = ProducerRecord::to(TOPIC).partition(u32::try_from(partition)?).value(&value);
    let at = Instant::now();
    Ok((at, producer.send(record).await.context("sending")?))
}

/// Waits for the acks, which come in order.
async fn listen(mut acks: mpsc::Receiver<(Instant, Delivery)>, partition: usize, shared: &Shared) -> Result<()> {
    while let Some((sent, delivery)) = acks.recv().await {
        delivery.await.with_context(|| format!("a record of partition {partition}"))?;
        let mut watch = shared.lock().expect("nobody panics while holding this");
        if watch.killed.is_some_and(|killed| sent >= killed) {
            watch.acked[partition].get_or_insert_with(Instant::now);
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Summary {
    rounds: usize,
    /// Of partitions whose leader was killed.
    gaps: Vec<Duration>,
    /// Of the others.
    others: Vec<Duration>,
    /// Until a node that is left names other leaders for all that the dead one led.
    led: Vec<Duration>,
    /// From the start of the node that was killed.
    whole: Vec<Duration>,
}

/// Of some times, in seconds.
#[derive(Debug, Serialize)]
struct Spread {
    count: usize,
    p50_s: f64,
    p99_s: f64,
    max_s: f64,
}

impl Spread {
    fn of(times: &[Duration]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        // The smallest value that so large a share of all does not exceed.
        let at =
            |share: f64| sorted.get(((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1)).map_or(0.0, Duration::as_secs_f64);
        Self { count: sorted.len(), p50_s: at(0.5), p99_s: at(0.99), max_s: at(1.0) }
    }

    fn text(&self) -> String {
        format!("p50 {}, p99 {}, max {} of {}", show_ns(self.p50_s * 1e9), show_ns(self.p99_s * 1e9), show_ns(self.max_s * 1e9), self.count)
    }
}

impl Summary {
    /// To standard output.
    fn print(&self, json: bool) -> Result<()> {
        let (gaps, others) = (Spread::of(&self.gaps), Spread::of(&self.others));
        let (led, whole) = (Spread::of(&self.led), Spread::of(&self.whole));
        let is_met = gaps.p50_s < WANTED.0.as_secs_f64() && gaps.p99_s < WANTED.1.as_secs_f64();
        let text = if json {
            let value = serde_json::json!({ "rounds": self.rounds, "gap": gaps, "gap_elsewhere": others, "led": led, "whole": whole, "is_met": is_met });
            value.to_string()
        } else {
            format!(
                "kills          {}\nnext write     {}\n  elsewhere    {}\nall led again  {}\nwhole again    {}\nwanted         p50 below {:?}, p99 below {:?}: {}",
                self.rounds,
                gaps.text(),
                others.text(),
                led.text(),
                whole.text(),
                WANTED.0,
                WANTED.1,
                if is_met { "met" } else { "not met" }
            )
        };
        match writeln!(std::io::stdout().lock(), "{text}") {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
