//! What clients notice while nodes of a cluster are restarted, come, are replaced and go: `millpond bench moves`.
//!
//! Three nodes on loopback bear a steady load well below what they can. After a while in which nothing happens, each of the things that an operator does
//! to a cluster is done by the command that he would use, and the load is watched until the cluster is whole again and leads stay where they
//! are. In the end everything that was acknowledged is looked for, and all replicas are compared.
//!
//! In reading order: [`load`] the load · [`summary`] what is printed.

mod load;
mod summary;

use crate::{
    args::{Common, Move, MovesArgs},
    chaos::replicas,
    cluster::{Cluster, ClusterSpec, health, timeline::Timeline},
    crash::{audit, work},
    machine::usage::Process,
    node::{Scratch, interrupted},
};
use anyhow::{Context, Result, bail, ensure};
use load::{Load, Measured, TOPIC, Watch};
use millpond_client::{Client, NewTopic};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use summary::{Row, Summary, Wanted};
use tokio::{process::Command, time::sleep, time::timeout};

/// Nodes to begin with.
const NODES: usize = 3;
/// Nodes that join.
const GROWTH: usize = 2;
/// The cluster is whole again within this time.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often one looks how it is.
const LOOK: Duration = Duration::from_millis(250);
/// Reading everything takes no longer.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(240);
/// A connection of a check whose oldest request has waited so long is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs it. Its servers are gone afterwards, however it ends; the directory stays if a check failed.
pub(crate) fn run(args: &MovesArgs, common: &Common) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the test of moves")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = moves(args, common) => done,
            why = interrupted() => bail!("{why}"),
        }
    });
    runtime.shutdown_background();
    let summary = done?;
    summary.print(common.json)?;
    summary.verdict()
}

async fn moves(args: &MovesArgs, common: &Common) -> Result<Summary> {
    let mut scratch = Scratch::new(args.dir.as_deref(), "moves", args.keep)?;
    let done = all(args, common, &scratch).await;
    let done = done.with_context(|| format!("data and logs are in {}", scratch.path().display())).inspect_err(|_| scratch.keep())?;
    if done.wrong() > 0 {
        scratch.keep();
    }
    Ok(done)
}

async fn all(args: &MovesArgs, common: &Common, scratch: &Scratch) -> Result<Summary> {
    let mut test = Test::begin(args, common, scratch).await?;
    test.quiet(args.quiet_for).await?;
    let wants = |which| args.only.is_empty() || args.only.contains(&which);
    if wants(Move::Drain) {
        test.drain().await?;
    }
    if wants(Move::Grow) {
        test.grow().await?;
    }
    if wants(Move::Replace) {
        test.replace().await?;
    }
    if wants(Move::Decommission) {
        test.decommission().await?;
    }
    test.end().await
}

struct Test {
    cluster: Cluster,
    program: PathBuf,
    watch: Watch,
    load: Load,
    timeline: Arc<Timeline>,
    meter: Meter,
    summary: Summary,
    calm: Duration,
    tells: bool,
}

/// What of the load was since a beginning, as long as something went on.
struct Phase {
    began: Instant,
    cpu_s: f64,
    busy: Measured,
}

impl Test {
    async fn begin(args: &MovesArgs, common: &Common, scratch: &Scratch) -> Result<Self> {
        let program = match &args.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().context("finding this program")?,
        };
        let spec = ClusterSpec {
            program: args.program.clone(),
            nodes: NODES,
            cores: args.server_cpus.clone(),
            pin: args.server_cpus.is_some(),
            memory: Some("512MiB".into()),
            disk_reserve: None,
        };
        let cluster = Cluster::start(&spec, scratch.path(), None).await?;
        cluster.whole(WHOLE_TIMEOUT).await?;
        let servers = cluster.addresses().join(",");
        let admin = Client::connect(&servers).await?.admin();
        let timeline = Arc::new(Timeline::new(scratch.path())?);
        let watch = Watch::new(Arc::clone(&timeline));
        watch.shared.ledger().creating(TOPIC);
        let topic = NewTopic::new(TOPIC).partitions(u32::try_from(args.partitions)?).set("retention.ms", "-1");
        admin.create_topic(topic).await.context("making a topic")?;
        watch.shared.ledger().created(TOPIC);
        cluster.whole(WHOLE_TIMEOUT).await?;
        if !common.quiet {
            eprintln!("{NODES} nodes at {servers}: filling {} partitions", args.partitions);
        }
        let load = Load::begin(&servers, args.partitions, args.producers, args.rate, args.load_bytes, &watch).await?;
        let meter = Meter::default();
        let summary = Summary::new(args);
        Ok(Self { cluster, program, watch, load, timeline, meter, summary, calm: args.calm, tells: !common.quiet })
    }

    /// Nothing happens.
    async fn quiet(&mut self, how_long: Duration) -> Result<()> {
        // What was filled settles, and connections are made.
        sleep(self.calm).await;
        let mut phase = self.begins()?;
        sleep(how_long).await;
        phase.busy = self.watch.take();
        self.ends("quiet", Wanted::Nothing, phase)
    }

    /// Each node in turn is drained, stopped and started again.
    async fn drain(&mut self) -> Result<()> {
        let mut phase = self.begins()?;
        for number in 0..self.cluster.addresses().len() {
            let id = self.id(number)?;
            self.command(&["node", "drain", &id.to_string()]).await?;
            self.timeline.say(&format!("node {id} is stopped"))?;
            self.cluster.stop_one(number).await?;
            self.timeline.say(&format!("node {id} is started"))?;
            self.cluster.up().await?;
            self.timeline.say(&format!("node {id} serves"))?;
            self.settle(&mut phase).await.with_context(|| format!("after a restart of node {id}"))?;
        }
        self.ends("drain and restart", Wanted::NoPause, phase)
    }

    /// Two nodes join, and get their share.
    async fn grow(&mut self) -> Result<()> {
        let mut phase = self.begins()?;
        for _ in 0..GROWTH {
            self.timeline.say("a node joins")?;
            self.cluster.add().await?;
        }
        self.command(&["cluster", "rebalance"]).await?;
        self.settle(&mut phase).await.context("after nodes have joined")?;
        let name = format!("grow {NODES} to {}", NODES + GROWTH);
        self.ends(&name, Wanted::Even, phase)
    }

    /// A node and its disk are lost, and another one takes its place.
    async fn replace(&mut self) -> Result<()> {
        let (number, id) = (1, self.id(1)?);
        let mut phase = self.begins()?;
        self.timeline.say(&format!("node {id} is killed"))?;
        self.cluster.kill(number).await?;
        sleep(self.calm).await;
        phase.busy.add(&self.watch.take());
        self.ends("a node is lost", Wanted::Nothing, phase)?;
        let mut phase = self.begins()?;
        self.timeline.say(&format!("a node is started in the place of node {id}"))?;
        self.cluster.replace(number, id).await?;
        self.settle(&mut phase).await.with_context(|| format!("after node {id} was replaced"))?;
        self.ends("replace", Wanted::Even, phase)
    }

    /// A node is taken out.
    async fn decommission(&mut self) -> Result<()> {
        let (number, id) = (0, self.id(0)?);
        let mut phase = self.begins()?;
        self.command(&["node", "decommission", &id.to_string()]).await?;
        phase.busy.add(&self.watch.take());
        self.timeline.say(&format!("node {id} is stopped"))?;
        self.cluster.stop_one(number).await?;
        self.cluster.forget(number);
        self.settle(&mut phase).await.with_context(|| format!("after node {id} was taken out"))?;
        self.ends("decommission", Wanted::Even, phase)
    }

    /// Everything that must hold in the end.
    async fn end(mut self) -> Result<Summary> {
        self.tell("checking");
        self.load.look()?;
        self.load.end().await?;
        let servers = self.cluster.addresses().join(",");
        let auditor = work::auditor(&servers, REQUEST_TIMEOUT).await?;
        timeout(AUDIT_TIMEOUT, audit::audit(&auditor, &self.watch.shared)).await.context("the check did not end")??;
        let compared = timeout(AUDIT_TIMEOUT, replicas::compare(&self.cluster.addresses()[0])).await.context("comparing did not end")??;
        self.cluster.look().await?;
        self.cluster.stop().await?;
        self.summary.checked(&self.watch.shared.ledger(), &compared);
        Ok(self.summary)
    }

    fn id(&self, number: usize) -> Result<u64> {
        self.cluster.ids().get(number).copied().flatten().with_context(|| format!("node {} does not serve", number + 1))
    }

    fn tell(&self, what: &str) {
        if self.tells {
            eprintln!("{what}");
        }
    }

    fn begins(&mut self) -> Result<Phase> {
        self.load.look()?;
        drop(self.watch.take());
        Ok(Phase { began: Instant::now(), cpu_s: self.meter.read(&self.cluster), busy: Measured::default() })
    }

    fn ends(&mut self, name: &str, wanted: Wanted, phase: Phase) -> Result<()> {
        self.load.look()?;
        let took = phase.began.elapsed();
        let cpu_s = self.meter.read(&self.cluster) - phase.cpu_s;
        let row = Row::of(name, wanted, took, cpu_s, &phase.busy);
        let line = self.summary.add(row).line();
        self.tell(&line);
        Ok(())
    }

    /// Runs a command as an operator would.
    async fn command(&self, words: &[&str]) -> Result<()> {
        self.timeline.say(&format!("millpond {}", words.join(" ")))?;
        let servers = self.cluster.serving().join(",");
        let mut command = Command::new(&self.program);
        command.args(words).args(["--quiet", "--server", &servers]).stdin(Stdio::null()).kill_on_drop(true);
        let out = timeout(WHOLE_TIMEOUT, command.output()).await;
        let doing = || format!("running `millpond {}`", words.join(" "));
        let out = out.with_context(doing)?.with_context(doing)?;
        ensure!(out.status.success(), "{}: {}", doing(), String::from_utf8_lossy(&out.stderr).trim());
        self.timeline.say("that is done")
    }

    /// Waits until the cluster is whole, and leads are where they stay. What is measured counts up to the last moment that something still went on.
    async fn settle(&mut self, phase: &mut Phase) -> Result<()> {
        let began = Instant::now();
        let (mut leaders, mut since, mut rest) = (Vec::new(), Instant::now(), Measured::default());
        loop {
            sleep(LOOK).await;
            self.load.look()?;
            self.cluster.look().await?;
            let serving = self.cluster.serving();
            let missing = health::missing_at(&serving[0], serving.len()).await.unwrap_or_else(|error| Some(format!("{error:#}")));
            let now = self.cluster.leaders(TOPIC).await.unwrap_or_default();
            rest.add(&self.watch.take());
            self.meter.read(&self.cluster);
            if missing.is_some() || now.is_empty() || now != leaders {
                self.timeline.say(&format!("led by {now:?}; missing: {}", missing.as_deref().unwrap_or("nothing")))?;
                (leaders, since) = (now, Instant::now());
                phase.busy.add(&std::mem::take(&mut rest));
            }
            if since.elapsed() >= self.calm {
                // Failures count wherever they are.
                phase.busy.failed += rest.failed;
                return Ok(());
            }
            ensure!(
                began.elapsed() < WHOLE_TIMEOUT,
                "not whole after {WHOLE_TIMEOUT:?}: {}",
                missing.unwrap_or("leads come and go".into())
            );
        }
    }
}

/// CPU time of all nodes that ever were, as far as it was seen.
#[derive(Default)]
struct Meter(BTreeMap<u32, f64>);

impl Meter {
    /// In seconds, until now.
    fn read(&mut self, cluster: &Cluster) -> f64 {
        for pid in cluster.pids() {
            if let Ok(process) = Process::look(pid) {
                self.0.insert(pid, process.cpu.total_s());
            }
        }
        self.0.values().sum()
    }
}
