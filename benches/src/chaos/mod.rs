//! A cluster of real processes under load while nodes die, stop, lose their links and fill their disks; then it is mended and everything that it
//! acknowledged is looked for: `millpond bench chaos`.
//!
//! A round: the workers of [`crate::crash`] load the cluster while the faults of a plan begin and end. When all are over, the workers come to rest,
//! the cluster must become whole by itself, everything it holds is read and held against the ledger, and the replicas of each partition are
//! compared with each other. After some rounds all nodes are killed at once (or stopped), started again, and all is checked once more; then
//! the directory is left for a new one.
//!
//! In reading order: [`faults`] what happens when · [`replicas`] whether all replicas hold the same · [`summary`] what is printed.

mod faults;
pub(crate) mod replicas;
mod summary;

use crate::{
    args::{ChaosArgs, Common},
    cluster::{Cluster, ClusterSpec, disk::SmallDisk, net::Net, timeline::Timeline},
    crash::{
        audit,
        work::{self, Crew, Shared, Worker},
    },
    node::{Scratch, interrupted},
};
use anyhow::{Context, Result, bail, ensure};
use faults::{Fault, Kind, Ms, Towards};
use millpond_client::Client;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};
use summary::Summary;
use tokio::{
    task::JoinSet,
    time::{sleep_until, timeout},
};

/// Faults go on for so long at a time.
const ROUND_MS: std::ops::Range<Ms> = 10_000..25_000;
/// A round is not shorter, even if it is the last.
const ROUND_MS_MIN: Ms = 5_000;
/// Rounds on one directory.
const ERA_ROUNDS: std::ops::RangeInclusive<usize> = 2..=4;
/// A cluster whose faults are over is whole again within this time.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Workers whose cluster is mended come to rest within this time.
const REST_TIMEOUT: Duration = Duration::from_secs(90);
/// Reading everything takes no longer.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(240);
/// A connection whose oldest request has waited so long is given up. Links are cut for longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Producers wait for less than this after each burst: the faults are to be many, not the records.
const PAUSE: Duration = Duration::from_millis(60);
/// Refuse writes with less than this left; a small disk is full below it.
const DISK_RESERVE: &str = "64MiB";

/// Runs it. Its servers and their network are gone afterwards, however it ends; the directory stays if a check failed.
pub(crate) fn run(args: &ChaosArgs, common: &Common) -> Result<()> {
    ensure!(args.nodes >= 3, "a cluster that stands the loss of a node has three at least");
    ensure!(args.nodes <= 9, "more than nine nodes are too many for one machine");
    let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
    let seed = args.seed.unwrap_or_else(clock);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the chaos test")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = eras(args, common, seed) => done,
            why = interrupted() => bail!("{why}"),
        }
    });
    runtime.shutdown_background();
    done?.print(common.json)
}

async fn eras(args: &ChaosArgs, common: &Common, seed: u64) -> Result<Summary> {
    let mut scratch = Scratch::new(args.dir.as_deref(), "chaos", args.keep)?;
    let mut summary = Summary::new(seed);
    let began = Instant::now();
    let length = u64::try_from(args.duration.as_millis()).unwrap_or(u64::MAX);
    let mut number = 0;
    while summary.load_ms < length {
        let mut dice = SmallRng::seed_from_u64(seed.wrapping_add(number));
        let rounds = dice.random_range(ERA_ROUNDS);
        let dir = scratch.path().join(format!("{number:04}"));
        let done = era(args, &dir, dice, rounds, length, &mut summary, common.quiet).await;
        let failure = || {
            let options = [(args.no_netns, " --no-netns"), (args.no_trims, " --no-trims"), (args.full_disks, " --full-disks")];
            let options: String = options.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| *name).collect();
            let duration = humantime::format_duration(args.duration);
            format!(
                "seed {seed}, {}; data, logs and the timeline are in {}; again: `millpond bench chaos --seed {seed} --duration {duration} --nodes {}{options}`",
                summary.so_far(),
                dir.display(),
                args.nodes
            )
        };
        done.with_context(failure).inspect_err(|_| scratch.keep())?;
        if !args.keep {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        number += 1;
    }
    summary.seconds = began.elapsed().as_secs_f64();
    Ok(summary)
}

/// The rounds on one directory.
async fn era(args: &ChaosArgs, dir: &Path, dice: SmallRng, rounds: usize, length: u64, summary: &mut Summary, quiet: bool) -> Result<()> {
    let mut era = Era::begin(args, dir, dice, summary, quiet).await?;
    for _ in 0..rounds {
        let left = length.saturating_sub(summary.load_ms);
        if left == 0 {
            break;
        }
        era.round(Ms::try_from(left).unwrap_or(Ms::MAX), summary).await?;
        summary.rounds += 1;
        if !quiet {
            eprintln!("{}", summary.so_far());
        }
    }
    era.end(summary).await
}

/// See [`era`].
struct Era {
    /// Before the disks that its nodes live on.
    cluster: Cluster,
    disks: Vec<SmallDisk>,
    kinds: Vec<Kind>,
    dice: SmallRng,
    shared: Shared,
    auditor: Client,
    workers: Vec<Worker>,
    timeline: Timeline,
    /// What of each node's log was looked at, in bytes.
    logs: Vec<(PathBuf, u64)>,
}

impl Era {
    async fn begin(args: &ChaosArgs, dir: &Path, mut dice: SmallRng, summary: &mut Summary, quiet: bool) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let timeline = Timeline::new(dir)?;
        let net = if args.no_netns { None } else { Some(Net::new(args.nodes)?) };
        let mut kinds = vec![Kind::Kill, Kind::Pause];
        match &net {
            None => summary.note("without network namespaces: links were neither cut nor slow (--no-netns)"),
            Some(net) => {
                kinds.extend([Kind::Cut, Kind::OneWay, Kind::Pair]);
                if net.can_slow() {
                    kinds.push(Kind::Slow);
                } else {
                    summary.note("links were not made slow: this kernel has no `tc` token bucket");
                }
            }
        }
        if args.no_trims {
            summary.note("old records were not deleted (--no-trims)");
        }
        let mut disks = Vec::new();
        if args.full_disks {
            for node in 0..args.nodes {
                disks.push(SmallDisk::new(&dir.join(format!("node-{}", node + 1)))?);
            }
            kinds.push(Kind::Full);
        }
        let spec = ClusterSpec {
            program: args.program.clone(),
            nodes: args.nodes,
            cores: args.server_cpus.clone(),
            pin: args.server_cpus.is_some(),
            memory: Some("256MiB".into()),
            disk_reserve: args.full_disks.then(|| DISK_RESERVE.into()),
        };
        let cluster = Cluster::start(&spec, dir, net).await?;
        if !quiet {
            eprintln!("{} nodes at {}", args.nodes, cluster.addresses().join(", "));
        }
        cluster.whole(WHOLE_TIMEOUT).await.context("after the first start")?;
        let shared = Shared::default();
        let crew = Crew {
            producers: args.producers,
            weaker: false,
            partitions: u32::try_from(args.partitions).context("too many partitions")?,
            trims: !args.no_trims,
            members: 2,
            pause: PAUSE,
            request_timeout: REQUEST_TIMEOUT,
        };
        let servers = cluster.addresses().join(",");
        let workers = work::hire(&servers, &shared, &mut dice, &crew).await?;
        let auditor = work::auditor(&servers, REQUEST_TIMEOUT).await?;
        let logs = cluster.logs().into_iter().map(|log| (log, 0)).collect();
        Ok(Self { cluster, disks, kinds, dice, shared, auditor, workers, timeline, logs })
    }

    async fn round(&mut self, length_max: Ms, summary: &mut Summary) -> Result<()> {
        let length = self.dice.random_range(ROUND_MS).min(length_max).max(ROUND_MS_MIN);
        let plan = faults::plan(&mut self.dice, self.logs.len(), &self.kinds, length);
        self.timeline.say(&format!("round {} of {length} ms, {} faults", summary.rounds + 1, plan.len()))?;
        self.shared.rest.send_replace(false);
        let mut working = JoinSet::new();
        let mut names = Vec::new();
        for worker in self.workers.drain(..) {
            names.push(worker.name.clone());
            working.spawn(worker.work());
        }
        self.suffer(&plan, length, summary).await?;
        summary.load_ms += u64::from(length);
        self.timeline.say("all faults are over")?;
        self.cluster.up().await?;
        summary.whole.push(self.cluster.whole(WHOLE_TIMEOUT).await?);
        self.timeline.say("whole")?;
        self.shared.rest.send_replace(true);
        let resting = async {
            while let Some(done) = working.join_next().await {
                let worker = done.context("a worker of the chaos test")?;
                names.retain(|name| *name != worker.name);
                self.workers.push(worker);
            }
            anyhow::Ok(())
        };
        let rested = timeout(REST_TIMEOUT, resting).await;
        rested.map_err(|_| anyhow::anyhow!("not done {REST_TIMEOUT:?} after all was mended: {}", names.join(", ")))??;
        // Whoever comes to rest first must not decide who rolls which dice.
        self.workers.sort_by(|a, b| a.name.cmp(&b.name));
        self.check(summary).await
    }

    /// Lets the faults of a plan begin and end.
    async fn suffer(&mut self, plan: &[Fault], length: Ms, summary: &mut Summary) -> Result<()> {
        let began = tokio::time::Instant::now();
        let mut events: Vec<(Ms, bool, &Fault)> = plan.iter().flat_map(|f| [(f.begin, true, f), (f.end, false, f)]).collect();
        // Of the same moment, a beginning first: a fault may last no time at all.
        events.sort_by_key(|(at, begins, _)| (*at, !begins));
        for (at, begins, fault) in events {
            sleep_until(began + Duration::from_millis(at.into())).await;
            self.cluster.look().await?;
            if begins {
                self.timeline.say(&fault.to_string())?;
                self.begins(fault).await.with_context(|| format!("{fault}"))?;
                summary.count(fault.kind);
            } else {
                self.ends(fault).with_context(|| format!("ending: {fault}"))?;
                self.timeline.say(&format!("node {} no longer {}", fault.node + 1, fault.kind.name()))?;
            }
        }
        sleep_until(began + Duration::from_millis(length.into())).await;
        self.cluster.look().await
    }

    async fn begins(&mut self, fault: &Fault) -> Result<()> {
        let node = fault.node;
        match fault.kind {
            Kind::Kill => return self.cluster.kill(node).await,
            Kind::Pause => return self.cluster.pause(node).map(drop),
            Kind::Full => return self.disks[node].fill(),
            Kind::Cut | Kind::OneWay | Kind::Pair | Kind::Slow => {}
        }
        let net = self.net()?;
        match fault.kind {
            Kind::Slow => net.slow(node),
            Kind::Cut => net.cut(node),
            _ => self.paths(fault).into_iter().try_for_each(|(from, to)| net.shut(from, to)),
        }
    }

    fn ends(&mut self, fault: &Fault) -> Result<()> {
        let node = fault.node;
        match fault.kind {
            Kind::Kill => return self.cluster.launch(node),
            Kind::Pause => return self.cluster.resume(node),
            Kind::Full => return self.disks[node].empty(),
            Kind::Cut | Kind::OneWay | Kind::Pair | Kind::Slow => {}
        }
        let net = self.net()?;
        match fault.kind {
            Kind::Slow => net.quicken(node),
            Kind::Cut => net.mend(node),
            _ => self.paths(fault).into_iter().try_for_each(|(from, to)| net.open(from, to)),
        }
    }

    fn net(&self) -> Result<&Net> {
        self.cluster.net().context("the plan has faults of links, and there is no network for them")
    }

    /// The ways from a node to another one, or to clients, that a fault shuts.
    fn paths(&self, fault: &Fault) -> Vec<(usize, Option<usize>)> {
        let node = fault.node;
        match (fault.kind, fault.towards) {
            (Kind::Pair, Towards::Node(other)) => vec![(node, Some(other)), (other, Some(node))],
            (_, Towards::Node(other)) => vec![(node, Some(other))],
            (_, Towards::Clients) => vec![(node, None)],
            (_, Towards::Nodes | Towards::All) => {
                (0..self.logs.len()).filter(|other| *other != node).map(|other| (node, Some(other))).collect()
            }
        }
    }

    /// Everything that must hold when nobody works.
    async fn check(&mut self, summary: &mut Summary) -> Result<()> {
        timeout(AUDIT_TIMEOUT, audit::audit(&self.auditor, &self.shared)).await.context("the check did not end")??;
        self.cluster.look().await?;
        self.look_into_logs()?;
        {
            let ledger = self.shared.ledger();
            let wrong = &ledger.wrong;
            ensure!(wrong.count == 0, "{} differences:\n  {}", wrong.count, wrong.listed.join("\n  "));
        }
        let compared = timeout(AUDIT_TIMEOUT, replicas::compare(&self.cluster.addresses()[0]))
            .await
            .context("the comparison of replicas did not end")?;
        summary.compared(&compared?);
        self.timeline.say("checked")
    }

    /// A server that panics has a bug, even if all is there.
    fn look_into_logs(&mut self) -> Result<()> {
        for (log, read) in &mut self.logs {
            let mut file = File::open(&*log).context("opening a server's log")?;
            file.seek(SeekFrom::Start(*read))?;
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            *read += text.len() as u64;
            let text = String::from_utf8_lossy(&text);
            let bad = |line: &&str| line.contains("panicked") || (line.contains(" ERROR ") && self.disks.is_empty());
            if let Some(line) = text.lines().find(bad) {
                bail!("{} says: {line}", log.display());
            }
        }
        Ok(())
    }

    /// Ends all nodes at once, as a power failure would or politely; starts them again and checks all once more; stops them, which
    /// must end well.
    async fn end(mut self, summary: &mut Summary) -> Result<()> {
        if self.dice.random_bool(0.7) {
            self.timeline.say("all nodes are killed")?;
            for node in 0..self.logs.len() {
                self.cluster.kill(node).await?;
            }
            summary.killed_all += 1;
        } else {
            self.timeline.say("all nodes are stopped")?;
            self.cluster.stop().await?;
            summary.stopped_all += 1;
        }
        self.cluster.up().await?;
        self.cluster.whole(WHOLE_TIMEOUT).await.context("after all nodes were started again")?;
        self.check(summary).await.context("after all nodes were started again")?;
        self.cluster.stop().await?;
        self.look_into_logs()?;
        summary.add(&self.shared.ledger());
        Ok(())
    }
}
