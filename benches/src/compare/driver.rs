//! A program that puts load on a system: which one, what it is asked for, and what it says of it.
//!
//! It writes lines: `measuring` when its window begins, `measured` when that ends, and then one JSON object ([`Said`]). The processes of
//! the system and of the program itself are looked at when the marks come. Other lines are remarks.

use super::{
    system::{Running, Topic},
    tools::{self, Jars},
};
use crate::{
    machine::usage::{Cpu, Process as Usage},
    process::Process,
    server::tail,
};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

/// A program may take so long beside what it is asked for: to start, to connect, and to wait for the last acks.
const BESIDE: Duration = Duration::from_secs(420);
/// What the JVM of a client gets: enough for its buffer of 32 MiB, and never more.
const JVM: [&str; 2] = ["-Xms512m", "-Xmx512m"];
/// What clients in Java have in common.
const JAVA: &str = include_str!("clients/Load.java");
const PYTHON: &str = include_str!("clients/load.py");
/// The one for Kafka, by its class.
pub(super) const KAFKA: (&str, &str) = ("KafkaLoad", include_str!("clients/KafkaLoad.java"));
/// And the one for NATS.
pub(super) const NATS: (&str, &str) = ("NatsLoad", include_str!("clients/NatsLoad.java"));

/// Which program, and under what name those of several systems are compared.
#[derive(Clone, Debug)]
pub(super) struct Driver {
    pub(super) name: &'static str,
    pub(super) program: Program,
}

/// How it is run.
#[derive(Clone, Debug)]
pub(super) enum Program {
    /// By Java, with these jars: a class, and its source.
    Java(Jars, (&'static str, &'static str)),
    /// By this Python, which has librdkafka.
    Python(PathBuf),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) topic: Topic,
    /// Records per second; `None` for as fast as it goes.
    pub(super) rate: Option<usize>,
    /// How long the client waits for more records; `None` for what it does by default.
    pub(super) linger: Option<Duration>,
    pub(super) record_bytes: usize,
    /// Values of that size, one after the other.
    pub(super) values: PathBuf,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    /// CPUs that it is confined to; none for all.
    pub(super) cpus: Vec<usize>,
}

/// What a program says at its end.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Said {
    /// Its client, and the version of that.
    pub(super) client: String,
    /// How that was set up.
    pub(super) on: Vec<(String, String)>,
    /// How long the window was.
    pub(super) seconds: f64,
    /// Records that were acknowledged in it.
    pub(super) records: u64,
    /// Records that were refused or given up, in all.
    pub(super) failed: u64,
    /// Records that no reader saw, in all.
    pub(super) missing: u64,
    /// The last error.
    pub(super) error: String,
    pub(super) ack: Times,
    /// Where it had a reader.
    pub(super) end_to_end: Option<Times>,
}

/// Latencies, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p999_ns: u64,
}

/// What came of a load.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) said: Said,
    /// What the system used in the window.
    pub(super) system_cpu: Cpu,
    /// What the program used.
    pub(super) driver_cpu: Cpu,
    /// Memory of the system at the end of the window.
    pub(super) rss_bytes: u64,
}

/// A line of a program.
#[derive(Clone, Debug, PartialEq)]
enum Line {
    Begin,
    End,
    Figures(Box<Said>),
    Remark,
}

impl Line {
    fn parse(line: &str) -> Result<Self> {
        Ok(match line.trim() {
            "measuring" => Self::Begin,
            "measured" => Self::End,
            figures if figures.starts_with('{') => {
                Self::Figures(serde_json::from_str(figures).with_context(|| format!("reading the figures of a client: {figures}"))?)
            }
            _ => Self::Remark,
        })
    }
}

impl Said {
    /// That nothing went wrong.
    fn check(&self, name: &str) -> Result<()> {
        ensure!(self.failed == 0, "{} records of {name} failed, the last with: {}", self.failed, self.error);
        ensure!(self.missing == 0, "{} records of {name} were acknowledged and not read", self.missing);
        ensure!(self.error.is_empty(), "{name} says: {}", self.error);
        ensure!(self.records > 0 && self.ack.count > 0, "no record of {name} was acknowledged in {} s", self.seconds);
        Ok(())
    }
}

impl Driver {
    /// The program without what is asked of it; compiled if it is not.
    async fn command(&self, dir: &Path) -> Result<Command> {
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display())).map(|()| path)
        };
        Ok(match &self.program {
            Program::Java(jars, (class, source)) => {
                let classes = dir.join("classes");
                if !classes.join(format!("{class}.class")).exists() {
                    let mut javac = Command::new("javac");
                    javac.arg("-nowarn").arg("-d").arg(&classes).arg("-cp").arg(jars.class_path());
                    javac.arg(write("Load.java", JAVA)?).arg(write(&format!("{class}.java"), source)?);
                    tools::run(javac).await.with_context(|| format!("compiling {class}"))?;
                }
                let mut java = Command::new("java");
                java.args(JVM).arg("-cp").arg(format!("{}:{}", classes.display(), jars.class_path().display())).arg(class);
                java
            }
            Program::Python(python) => {
                let mut command = Command::new(python);
                command.arg(write("load.py", PYTHON)?);
                command
            }
        })
    }

    /// Runs it to its end beside a system; what it says of itself goes to a log in this directory.
    pub(super) async fn run(&self, load: &Load, system: &Running, dir: &Path) -> Result<Measured> {
        let log = dir.join(format!("{}.log", self.name));
        let stderr = File::options().create(true).append(true).open(&log).with_context(|| format!("opening {}", log.display()))?;
        let mut command = self.command(dir).await?;
        command.arg(format!("at={}", system.at())).arg(format!("values={}", load.values.display())).args(load.args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut process = Process::spawn(command, &load.cpus).with_context(|| format!("starting the client {}", self.name))?;
        let at_most = load.warm_up + load.duration + BESIDE;
        let done = timeout(at_most, self.listen(&mut process, system)).await;
        let done = done.with_context(|| format!("it is not done after {at_most:?}")).and_then(|done| done);
        done.with_context(|| format!("the client {}; the end of its log:\n{}", self.name, tail(&log)))
    }

    async fn listen(&self, process: &mut Process, system: &Running) -> Result<Measured> {
        let mut lines = BufReader::new(process.stdout().context("its output was to be a pipe")?).lines();
        let pid = process.pid()?;
        let look = || anyhow::Ok((system.look()?, Usage::look(pid).context("looking at the client")?));
        let (mut begin, mut end) = (None, None);
        let said = loop {
            let Some(line) = lines.next_line().await.context("reading what it says")? else {
                let status = process.wait(BESIDE).await?;
                bail!("it ended with {status} and without figures");
            };
            match Line::parse(&line)? {
                Line::Begin => begin = Some(look()?),
                Line::End => end = Some(look()?),
                Line::Figures(said) => break *said,
                Line::Remark => {}
            }
        };
        let status = process.wait(BESIDE).await?;
        ensure!(status.success(), "it ended with {status}");
        said.check(self.name)?;
        let ((system_before, driver_before), (system_after, driver_after)) = begin.zip(end).context("it did not say when it measured")?;
        Ok(Measured {
            said,
            system_cpu: system_after.cpu.since(system_before.cpu),
            driver_cpu: driver_after.cpu.since(driver_before.cpu),
            rss_bytes: system_after.rss_bytes,
        })
    }
}

impl Load {
    fn args(&self) -> Vec<String> {
        let mut args = vec![
            format!("topic={}", self.topic.name),
            format!("partitions={}", self.topic.partitions),
            format!("rate={}", self.rate.unwrap_or(0)),
            format!("record-size={}", self.record_bytes),
            format!("warm-up-ms={}", self.warm_up.as_millis()),
            format!("measure-ms={}", self.duration.as_millis()),
        ];
        args.extend(self.linger.map(|linger| format!("linger-ms={}", linger.as_millis())));
        args
    }
}

#[cfg(test)]
mod tests;
