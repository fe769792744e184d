//! A server that is there to be killed: a process of ours with a directory and ports that it keeps over its lives.
//!
//! Its ports lie below those that the kernel gives to outgoing connections. While the server is dead, a client that tries to
//! come back could otherwise be given the very port it is looking for, and would find itself there.

use crate::{
    process::Process,
    server::{START_TIMEOUT, cpus, tail},
    sys,
};
use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Deserialize;
use std::{
    env,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStdout, Command},
    time::timeout,
};

/// Ports that are tried: below what kernels use by themselves, above what services use.
const PORTS: std::ops::Range<u16> = 12_000..30_000;

/// How to start one.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    pub(crate) program: PathBuf,
    /// Its data lies in `data` below it, what it says in `log`.
    pub(crate) dir: PathBuf,
    pub(crate) listen: SocketAddr,
    /// As `millpond serve --cores` takes them.
    pub(crate) cores: String,
    /// Whether each core stays on its CPU.
    pub(crate) pin: bool,
    /// As `millpond serve --memory` takes it.
    pub(crate) memory: Option<String>,
    /// Nodes of the cluster that it is to become a part of at its first start; none for a server that is alone, or the first.
    pub(crate) join: Vec<String>,
    /// The node whose place it is to take at its first start.
    pub(crate) replace: Option<u64>,
    /// The network namespace that it lives in; our own if none is named.
    pub(crate) netns: Option<String>,
    /// As `millpond serve --disk-reserve` takes it.
    pub(crate) disk_reserve: Option<String>,
}

impl NodeSpec {
    /// A server on ports that are free now; `cores` as `millpond serve --cores` takes them, all if nothing is said.
    pub(crate) fn new(program: Option<&Path>, dir: &Path, cores: Option<&str>) -> Result<Self> {
        let allowed = sys::cpus_allowed().context("asking which CPUs may be used")?;
        let count = cpus(cores.unwrap_or("all"), &allowed)?.len();
        let program = match program {
            Some(program) => program.to_owned(),
            None => env::current_exe().context("finding this program")?,
        };
        let port = free_ports(u16::try_from(count + 1).context("too many cores")?)?;
        Ok(Self {
            program,
            dir: dir.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            cores: cores.unwrap_or("all").to_owned(),
            pin: cores.is_some(),
            memory: None,
            join: Vec::new(),
            replace: None,
            netns: None,
            disk_reserve: None,
        })
    }

    /// Where its data lies.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What it says.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Starts a process, which then recovers and begins to serve.
    pub(crate) fn launch(&self) -> Result<Launch> {
        fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        let log = self.log();
        let stderr = File::options().create(true).append(true).open(&log).with_context(|| format!("opening {}", log.display()))?;
        let mut command = match &self.netns {
            None => Command::new(&self.program),
            // It becomes the server in the end, so that the pid of our child is the server's.
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(&self.program);
                command
            }
        };
        // What is meant for another server is not for this one.
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MILLPOND_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--json", "--http", "off", "--cores", &self.cores]);
        command.arg("--listen").arg(self.listen.to_string()).arg("--data").arg(self.data());
        if !self.pin {
            command.arg("--no-pin");
        }
        if let Some(memory) = &self.memory {
            command.arg("--memory").arg(memory);
        }
        if let Some(reserve) = &self.disk_reserve {
            command.arg("--disk-reserve").arg(reserve);
        }
        if !self.listen.ip().is_loopback() {
            command.arg("--insecure");
        }
        if !self.join.is_empty() {
            command.arg("--join").arg(self.join.join(","));
        }
        if let Some(replace) = self.replace {
            command.arg("--replace").arg(replace.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let began = Instant::now();
        let mut process = Process::spawn(command, &[]).with_context(|| format!("starting {}", self.program.display()))?;
        let stdout = process.stdout().context("its output was to be a pipe")?;
        Ok(Launch { process, lines: BufReader::new(stdout).lines(), log, began })
    }

    /// Starts one and waits until it serves.
    pub(crate) async fn start(&self) -> Result<Node> {
        self.launch()?.ready().await
    }
}

/// A process that does not say yet that it serves.
#[derive(Debug)]
pub(crate) struct Launch {
    process: Process,
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
    began: Instant,
}

impl Launch {
    /// Waits until it serves.
    pub(crate) async fn ready(mut self) -> Result<Node> {
        let said = timeout(START_TIMEOUT, self.lines.next_line()).await;
        let took = self.began.elapsed();
        let why = match said {
            Ok(Ok(Some(line))) => match serde_json::from_str::<Ready>(&line) {
                Ok(Ready { node_id }) => return Ok(Node { process: self.process, id: node_id, _lines: self.lines, took }),
                Err(_) => format!("it said: {line}"),
            },
            Ok(Ok(None)) => "it ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it does not serve after {START_TIMEOUT:?}; its threads: {}", self.process.threads()),
        };
        self.process.kill()?;
        bail!("the server did not start: {why}; the end of its log:\n{}", tail(&self.log))
    }

    /// Ends it as a crash would, wherever it is.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()
    }
}

/// What it says when it serves, as far as it matters here.
#[derive(Deserialize)]
struct Ready {
    node_id: u64,
}

/// A server that serves. Killed when this goes.
#[derive(Debug)]
pub(crate) struct Node {
    process: Process,
    /// By which its cluster knows it.
    pub(crate) id: u64,
    /// Open, so that nothing it says fails.
    _lines: Lines<BufReader<ChildStdout>>,
    /// From its start until it served.
    pub(crate) took: Duration,
}

impl Node {
    /// Ends it as a crash would (SIGKILL), and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub(crate) async fn stop(self) -> Result<()> {
        let status = self.process.stop().await.context("stopping the server")?;
        ensure!(status.success(), "the server was asked to stop and ended with {status}");
        Ok(())
    }

    /// Stops it in its tracks (SIGSTOP), until [`Node::resume`].
    pub(crate) fn pause(&self) -> Result<()> {
        sys::pause(self.pid()?).context("pausing the server")
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn resume(&self) -> Result<()> {
        sys::resume(self.pid()?).context("letting the server go on")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.process.pid().context("looking for the server")
    }

    /// Whether it ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<String> {
        match self.process.ended() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// The first of so many ports in a row that nobody uses now.
pub(crate) fn free_ports(count: u16) -> Result<u16> {
    let mut dice = SmallRng::from_os_rng();
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    for _ in 0..200 {
        let first = dice.random_range(PORTS.start..PORTS.end - count);
        if (first..first + count).all(is_free) {
            return Ok(first);
        }
    }
    bail!("no {count} ports in a row are free on 127.0.0.1")
}

/// A directory of ours, which goes with this unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// `dir`, which must be empty or missing, or a new one below the current one.
    pub(crate) fn new(dir: Option<&Path>, name: &str, keep: bool) -> Result<Self> {
        let path = dir.map_or_else(|| PathBuf::from(format!("millpond-{name}-{}", std::process::id())), Path::to_owned);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        let mut inside = fs::read_dir(&path).with_context(|| format!("looking into {}", path.display()))?;
        ensure!(inside.next().is_none(), "{} is not empty; name an empty directory, or one that is not there", path.display());
        Ok(Self { path, keep })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it where it is.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a directory is left behind");
        }
    }
}

/// Resolves when somebody wants us to stop: Ctrl-C, a polite signal, or a terminal that goes.
pub(crate) async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let hear = |kind| signal(kind).ok();
    let (mut int, mut term, mut hup) = (hear(SignalKind::interrupt()), hear(SignalKind::terminate()), hear(SignalKind::hangup()));
    async fn one(signal: &mut Option<tokio::signal::unix::Signal>) {
        match signal {
            Some(signal) => drop(signal.recv().await),
            // One that cannot be heard ends us by itself.
            None => std::future::pending().await,
        }
    }
    tokio::select! {
        () = one(&mut int) => "interrupted",
        () = one(&mut term) => "told to stop",
        () = one(&mut hup) => "the terminal has gone",
    }
}

#[cfg(test)]
mod tests;
