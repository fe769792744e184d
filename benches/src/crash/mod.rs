//! Kills a server under load again and again, and checks after each time that nothing acknowledged is lost: `millpond bench crash`.
//!
//! A round: workers load the server over connections of their own, it is killed (SIGKILL) at a moment that the seed chooses, sometimes right
//! after an ack, sometimes again while it recovers; it is started on the same directory, the workers go on for a moment
//! and come to rest, and everything the server holds is read and held against the ledger. After some rounds the directory is
//! left for a new one, so that reading all of it stays cheap.
//!
//! In reading order: [`ledger`] what may be there · [`work`] the load · [`audit`] the check · [`summary`] what is printed.

pub(crate) mod audit;
pub(crate) mod ledger;
mod summary;
pub(crate) mod work;

use crate::{
    args::{Common, CrashArgs},
    node::{Node, NodeSpec, Scratch, interrupted},
};
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use ledger::Sums;
use millpond_client::Client;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    fs,
    io::{IsTerminal, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};
use summary::Summary;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use work::{Crew, Shared, Worker};

/// Workers whose server is back come to rest within this time.
const REST_TIMEOUT: Duration = Duration::from_secs(90);
/// Reading everything takes no longer.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(120);
/// Rounds on one directory.
const ERA_ROUNDS: std::ops::RangeInclusive<usize> = 4..=16;
/// A line is printed after so many rounds where there is no terminal.
const TOLD_ROUNDS: usize = 50;
/// A connection whose oldest request has waited so long is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const MS: Duration = Duration::from_millis(1);

/// Runs it. Its servers are gone afterwards, however it ends; the directory stays if a check failed.
pub(crate) fn run(args: &CrashArgs, common: &Common) -> Result<()> {
    let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
    let seed = args.seed.unwrap_or_else(clock);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the crash test")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = rounds(args, common, seed) => done,
            why = interrupted() => bail!("{why}"),
        }
    });
    runtime.shutdown_background();
    done?.print(common.json)
}

async fn rounds(args: &CrashArgs, common: &Common, seed: u64) -> Result<Summary> {
    let mut scratch = Scratch::new(args.dir.as_deref(), "crash", args.keep)?;
    let mut summary = Summary::new(seed);
    let bar = bar(args.rounds as u64, common.quiet);
    let began = Instant::now();
    let mut era = 0;
    while summary.rounds < args.rounds {
        let mut dice = SmallRng::seed_from_u64(seed.wrapping_add(era));
        let count = dice.random_range(ERA_ROUNDS).min(args.rounds - summary.rounds);
        let dir = scratch.path().join(format!("{era:04}"));
        let mut one = Era::begin(args, &dir, dice).await.with_context(|| failure(seed, &summary, &dir)).inspect_err(|_| scratch.keep())?;
        for _ in 0..count {
            let done = one.round(&mut summary).await;
            done.with_context(|| failure(seed, &summary, &dir)).inspect_err(|_| scratch.keep())?;
            summary.rounds += 1;
            bar.inc(1);
            if bar.is_hidden() && !common.quiet && summary.rounds.is_multiple_of(TOLD_ROUNDS) {
                eprintln!("{} rounds in {:.0} s, {} kills", summary.rounds, began.elapsed().as_secs_f64(), summary.kills);
            }
        }
        let ended = one.end().await;
        summary.add(ended.with_context(|| failure(seed, &summary, &dir)).inspect_err(|_| scratch.keep())?);
        if !args.keep {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        era += 1;
    }
    bar.finish_and_clear();
    summary.seconds = began.elapsed().as_secs_f64();
    Ok(summary)
}

fn failure(seed: u64, summary: &Summary, dir: &Path) -> String {
    let round = summary.rounds + 1;
    format!("seed {seed}, round {round}; the data is in {}; again: `millpond bench crash --seed {seed} --rounds {round}`", dir.display())
}

fn bar(rounds: u64, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rounds).with_message("rounds");
    match ProgressStyle::with_template("{msg} {bar:40} {pos:>5} of {len} {per_sec:>12} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The rounds on one directory.
struct Era {
    spec: NodeSpec,
    node: Option<Node>,
    dice: SmallRng,
    shared: Shared,
    auditor: Client,
    workers: Vec<Worker>,
    /// What of the server's log was looked at, in bytes.
    log_read: u64,
    log: PathBuf,
}

impl Era {
    async fn begin(args: &CrashArgs, dir: &Path, mut dice: SmallRng) -> Result<Self> {
        let mut spec = NodeSpec::new(args.program.as_deref(), dir, Some(args.server_cpus.as_deref().unwrap_or("all")))?;
        spec.pin = args.server_cpus.is_some();
        spec.memory = Some("256MiB".into());
        let node = spec.start().await?;
        let server = spec.listen.to_string();
        let shared = Shared::default();
        let crew = Crew {
            producers: args.producers,
            weaker: true,
            partitions: u32::try_from(args.partitions).context("too many partitions")?,
            trims: true,
            members: 1,
            pause: 3 * MS,
            request_timeout: REQUEST_TIMEOUT,
        };
        let workers = work::hire(&server, &shared, &mut dice, &crew).await?;
        let auditor = work::auditor(&server, REQUEST_TIMEOUT).await?;
        let log = spec.log();
        Ok(Self { spec, node: Some(node), dice, shared, auditor, workers, log_read: 0, log })
    }

    async fn round(&mut self, summary: &mut Summary) -> Result<()> {
        self.shared.rest.send_replace(false);
        let mut working = JoinSet::new();
        let mut names = Vec::new();
        for worker in self.workers.drain(..) {
            names.push(worker.name.clone());
            working.spawn(worker.work());
        }
        self.wait_for_the_moment().await;
        self.crash(summary).await?;
        sleep(self.dice.random_range(10..100) * MS).await;
        self.shared.rest.send_replace(true);
        let resting = async {
            while let Some(done) = working.join_next().await {
                let worker = done.context("a worker of the crash test")?;
                names.retain(|name| *name != worker.name);
                self.workers.push(worker);
            }
            anyhow::Ok(())
        };
        let rested = timeout(REST_TIMEOUT, resting).await;
        rested.map_err(|_| anyhow::anyhow!("not done {REST_TIMEOUT:?} after the restart: {}", names.join(", ")))??;
        // Whoever comes to rest first must not decide who rolls which dice.
        self.workers.sort_by(|a, b| a.name.cmp(&b.name));
        timeout(AUDIT_TIMEOUT, audit::audit(&self.auditor, &self.shared)).await.context("the check did not end")??;
        if let Some(how) = self.node.as_mut().and_then(Node::ended) {
            bail!("the server ended by itself: {how}");
        }
        self.look_into_log()?;
        let ledger = self.shared.ledger();
        let wrong = &ledger.wrong;
        ensure!(wrong.count == 0, "{} differences:\n  {}", wrong.count, wrong.listed.join("\n  "));
        Ok(())
    }

    /// A while, or an ack.
    async fn wait_for_the_moment(&mut self) {
        if self.dice.random_bool(0.7) {
            let while_ms: u32 = self.dice.random_range(1..300);
            return sleep(while_ms * MS).await;
        }
        let more: u64 = self.dice.random_range(1..100);
        let mut acks = self.shared.lone_acks.subscribe();
        let due = *acks.borrow() + more;
        // Where acks are slow, a while is as good as an ack.
        let _ = timeout(2000 * MS, acks.wait_for(|acks| *acks >= due)).await;
    }

    /// Kills it, perhaps again while it recovers, and waits until it serves.
    async fn crash(&mut self, summary: &mut Summary) -> Result<()> {
        self.node.take().context("a server was started")?.kill()?;
        summary.kills += 1;
        while self.dice.random_bool(0.2) {
            let launch = self.spec.launch()?;
            sleep(self.dice.random_range(0..400) * MS).await;
            launch.kill()?;
            summary.kills += 1;
            summary.kills_in_recovery += 1;
        }
        let node = self.spec.start().await?;
        summary.recoveries.push(node.took);
        self.node = Some(node);
        Ok(())
    }

    /// A server that panics or calls something an error has a bug, even if all is there.
    fn look_into_log(&mut self) -> Result<()> {
        let mut file = fs::File::open(&self.log).context("opening the server's log")?;
        file.seek(SeekFrom::Start(self.log_read))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        self.log_read += text.len() as u64;
        let text = String::from_utf8_lossy(&text);
        let bad = text.lines().find(|line| line.contains("panicked") || line.contains(" ERROR "));
        if let Some(line) = bad {
            bail!("the server's log says: {line}");
        }
        Ok(())
    }

    /// Stops its server, which must end well.
    async fn end(mut self) -> Result<Sums> {
        self.node.take().context("a server was started")?.stop().await?;
        self.look_into_log()?;
        Ok(self.shared.ledger().sums)
    }
}
