//! The seam of the comparison: what it asks of a system. The probes are those of Kafka's protocol ([`super::wire`]), for whoever speaks it; another
//! one brings its own, and its own client.
//!
//! ```text
//! prepare ── start ── answers ── create ── drivers at work ── kill ── start ── acknowledge ── stop
//! ```
//!
//! A system says which program is to be run; [`Running`] runs it, so that every one is started, watched, killed and stopped in the
//! same way.

use super::{driver::Driver, wire};
use crate::{
    machine::usage::Process as Usage,
    node::free_ports,
    process::Process,
    server::{START_TIMEOUT, tail},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{process::Command, task::spawn_blocking, time::sleep};

pub(super) use wire::Topic;

/// How long a probe waits for its answer before it asks again.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// From one probe that failed to the next: what is measured by probes is no more exact than this.
const PROBE_EVERY: Duration = Duration::from_millis(1);
/// What is done once before the first start takes no longer.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(60);
/// How a Java virtual machine, alone of all, says that it was asked to stop and did: 128 and the signal.
const STOPPED_BY_SIGNAL: i32 = 128 + 15;

/// A system that is compared.
pub(super) trait System: Send + Sync {
    /// What it is called in the table.
    fn name(&self) -> String;

    /// What is on for it: its version, when it syncs, flags.
    fn describe(&self) -> Vec<(String, String)>;

    /// Ports that it needs, in a row; clients connect to the first.
    fn ports(&self) -> u16;

    /// What is to be run once in a directory that is empty, if anything.
    ///
    /// # Errors
    /// If the directory cannot be written.
    fn prepare(&self, home: &Home) -> Result<Option<Command>>;

    /// The program itself, in the foreground.
    ///
    /// # Errors
    /// If it cannot be said.
    fn command(&self, home: &Home) -> Result<Command>;

    /// Whether it serves. Blocks.
    ///
    /// # Errors
    /// If it does not.
    fn answers(&self, at: SocketAddr, patience: Duration) -> Result<()> {
        wire::answers(at, patience)
    }

    /// Makes a topic; that it is there already is no error. Blocks.
    ///
    /// # Errors
    /// If it is not made.
    fn create(&self, at: SocketAddr, topic: &Topic, patience: Duration) -> Result<()> {
        wire::create(at, topic, patience)
    }

    /// Whether a topic can be written to. Blocks.
    ///
    /// # Errors
    /// If it cannot, yet.
    fn is_ready(&self, at: SocketAddr, topic: &Topic, patience: Duration) -> Result<()> {
        wire::is_led(at, topic, patience)
    }

    /// Writes one record, and has it acknowledged. Blocks.
    ///
    /// # Errors
    /// If it is not.
    fn acknowledge(&self, at: SocketAddr, topic: &Topic, patience: Duration) -> Result<()> {
        wire::acknowledge(at, topic, patience)
    }

    /// The programs that put load on it, under the names by which those of several systems are compared.
    fn drivers(&self) -> Vec<Driver>;
}

/// Where a system lives: a directory of its own, and its ports.
#[derive(Clone, Debug)]
pub(super) struct Home {
    dir: PathBuf,
    at: SocketAddr,
}

impl Home {
    /// An empty one, on ports that are free now.
    pub(super) fn new(dir: &Path, ports: u16) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), at: SocketAddr::from(([127, 0, 0, 1], free_ports(ports)?)) })
    }

    /// Where clients connect.
    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// The port after the one of clients by so many.
    pub(super) fn port(&self, after: u16) -> u16 {
        self.at.port() + after
    }

    /// Its data.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Whatever else it needs.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What it says.
    fn log(&self) -> PathBuf {
        self.file("log")
    }
}

/// A system that runs. Killed when this goes.
pub(super) struct Running {
    system: Arc<dyn System>,
    home: Home,
    process: Process,
    began: Instant,
}

impl Running {
    /// Does what is to be done once, in a home that is new.
    pub(super) async fn prepare(system: &Arc<dyn System>, home: &Home) -> Result<()> {
        let Some(mut command) = system.prepare(home)? else { return Ok(()) };
        say_to(&mut command, &home.log())?;
        let mut process = Process::spawn(command, &[]).with_context(|| format!("preparing {}", system.name()))?;
        let status = process.wait(PREPARE_TIMEOUT).await.with_context(|| format!("preparing {}", system.name()))?;
        ensure!(status.success(), "preparing {} ended with {status}; the end of its log:\n{}", system.name(), tail(&home.log()));
        Ok(())
    }

    /// Starts it, on these CPUs if any are named.
    pub(super) fn start(system: &Arc<dyn System>, home: &Home, cpus: &[usize]) -> Result<Self> {
        let mut command = system.command(home)?;
        say_to(&mut command, &home.log())?;
        let began = Instant::now();
        let process = Process::spawn(command, cpus).with_context(|| format!("starting {}", system.name()))?;
        Ok(Self { system: Arc::clone(system), home: home.clone(), process, began })
    }

    /// Waits until it serves: the time since its start.
    pub(super) async fn answers(&mut self) -> Result<Duration> {
        self.until("answers", |system, at| system.answers(at, PROBE_PATIENCE)).await
    }

    /// Waits until one record is acknowledged: the time since its start.
    pub(super) async fn acknowledges(&mut self, topic: &Topic) -> Result<Duration> {
        let topic = topic.clone();
        self.until("acknowledges a record", move |system, at| system.acknowledge(at, &topic, PROBE_PATIENCE)).await
    }

    /// Makes a topic and waits until it can be written to.
    pub(super) async fn create(&mut self, topic: &Topic) -> Result<()> {
        let (made, led) = (topic.clone(), topic.clone());
        self.until("makes a topic", move |system, at| system.create(at, &made, START_TIMEOUT)).await?;
        self.until("has a topic ready", move |system, at| system.is_ready(at, &led, PROBE_PATIENCE)).await.map(drop)
    }

    /// Asks again and again until it is so; [`START_TIMEOUT`] at most.
    async fn until(
        &mut self,
        what: &str,
        is_so: impl Fn(&dyn System, SocketAddr) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Duration> {
        let (asked, is_so) = (Instant::now(), Arc::new(is_so));
        loop {
            let (system, is_so, at) = (Arc::clone(&self.system), Arc::clone(&is_so), self.home.at());
            let so = spawn_blocking(move || is_so(&*system, at)).await.context("the thread that asks")?;
            let took = self.began.elapsed();
            let Err(why) = so else { return Ok(took) };
            if let Some(status) = self.process.ended().context("looking at it")? {
                bail!("{} ended with {status}; the end of its log:\n{}", self.system.name(), tail(&self.home.log()));
            }
            if asked.elapsed() > START_TIMEOUT {
                let log = tail(&self.home.log());
                return Err(why.context(format!("{} does not: it {what}; the end of its log:\n{log}", self.system.name())));
            }
            sleep(PROBE_EVERY).await;
        }
    }

    /// Where clients connect.
    pub(super) fn at(&self) -> SocketAddr {
        self.home.at()
    }

    /// Its process, now.
    pub(super) fn look(&self) -> Result<Usage> {
        let pid = self.process.pid().with_context(|| format!("{} has ended", self.system.name()))?;
        Usage::look(pid).with_context(|| format!("looking at the process of {}", self.system.name()))
    }

    /// Ends it as a crash would (SIGKILL).
    pub(super) fn kill(mut self) -> Result<()> {
        self.process.kill().with_context(|| format!("killing {}", self.system.name()))
    }

    /// Asks it to stop, and waits until it has.
    pub(super) async fn stop(self) -> Result<()> {
        let name = self.system.name();
        let status = self.process.stop().await.with_context(|| format!("stopping {name}"))?;
        ensure!(
            status.success() || status.code() == Some(STOPPED_BY_SIGNAL),
            "{name} was asked to stop and ended with {status}; the end of its log:\n{}",
            tail(&self.home.log())
        );
        Ok(())
    }
}

/// Has a program write what it says to the end of a file.
fn say_to(command: &mut Command, log: &Path) -> Result<()> {
    let open = || File::options().create(true).append(true).open(log).with_context(|| format!("opening {}", log.display()));
    command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
    Ok(())
}
