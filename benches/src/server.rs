//! The server under load: one that runs already, or a child of ours in a directory of its own, and what its metrics say.

use crate::{
    args::ServerArgs,
    machine::usage::{Process, busy_s},
    sys, units,
};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

/// A server that recovers a lot may take this long until it serves.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(120);
/// A server that is asked to stop does so within this time, or is killed.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a scrape may take.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);
/// Lines of its log that are shown where a server fails.
const LOG_LINES: usize = 20;

/// Which CPUs the server and the load generator use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The server's cores, one CPU each.
    pub server: Vec<usize>,
    /// The load generator's threads, one CPU each.
    pub client: Vec<usize>,
}

/// CPUs out of a list such as `0,2-5`, or the first so many of `allowed`.
pub(crate) fn cpus(text: &str, allowed: &[usize]) -> Result<Vec<usize>> {
    if text == "all" {
        return Ok(allowed.to_vec());
    }
    if let Ok(count) = text.parse::<usize>() {
        ensure!((1..=allowed.len()).contains(&count), "{count} cores are asked for, {} may be used", allowed.len());
        return Ok(allowed[..count].to_vec());
    }
    cpu_list(text, allowed)
}

/// CPUs out of a list such as `0,2-5`, in which one number alone is a CPU, too.
pub(crate) fn cpu_list(text: &str, allowed: &[usize]) -> Result<Vec<usize>> {
    let bad = || format!("`{text}` names no CPUs; try 0, or 0,2-5");
    let mut out = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().with_context(bad)?, last.parse::<usize>().with_context(bad)?);
        ensure!(first <= last && last < 4096, bad());
        out.extend(first..=last);
    }
    match out.iter().find(|cpu| !allowed.contains(cpu)) {
        None => Ok(out),
        Some(cpu) => bail!("CPU {cpu} may not be used; {allowed:?} may"),
    }
}

impl Placement {
    /// From the command line: one CPU for the server and the others for the client, unless it says otherwise.
    ///
    /// # Errors
    /// If CPUs are named that may not be used.
    pub fn of(args: &ServerArgs, allowed: &[usize]) -> Result<Self> {
        let server = cpus(args.server_cpus.as_deref().unwrap_or("1"), allowed)?;
        if let Some(cpu) = args.client_cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            bail!("CPU {cpu} may not be used; {allowed:?} may");
        }
        let client = if args.client_cpus.is_empty() {
            allowed.iter().copied().filter(|cpu| !server.contains(cpu)).collect()
        } else {
            args.client_cpus.clone()
        };
        // With all CPUs given to the server, one thread anywhere sends.
        Ok(Self { server, client })
    }
}

/// A child of ours; stopped when this goes.
#[derive(Debug)]
pub struct Server {
    child: Child,
    spec: ServerSpec,
    /// Where it listens.
    pub listen: String,
    /// Where its metrics are.
    pub http: SocketAddr,
}

/// How to start it.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// The `millpond` program.
    pub program: PathBuf,
    /// Where its data lies.
    pub data: PathBuf,
    /// Its CPUs.
    pub cpus: Vec<usize>,
    /// Its memory, as `millpond serve --memory` takes it.
    pub memory: Option<String>,
}

/// What it says when it serves.
#[derive(Deserialize)]
struct Ready {
    listen: SocketAddr,
    http: Option<SocketAddr>,
}

impl Server {
    /// Starts one, all of its threads on its CPUs and no other, and waits until it serves.
    ///
    /// # Errors
    /// If it does not; with the end of its log.
    pub fn start(spec: &ServerSpec) -> Result<Self> {
        fs::create_dir_all(&spec.data).with_context(|| format!("making {}", spec.data.display()))?;
        let log = spec.log();
        let stderr = File::options().create(true).append(true).open(&log).with_context(|| format!("opening {}", log.display()))?;
        // One CPU alone would read as a count.
        let list: Vec<String> = spec.cpus.iter().map(|cpu| format!("{cpu}-{cpu}")).collect();
        let mut command = Command::new(&spec.program);
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "warn"]);
        command.arg("--data").arg(&spec.data).arg("--cores").arg(list.join(","));
        if let Some(memory) = &spec.memory {
            command.arg("--memory").arg(memory);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = spawn_on(command, &spec.cpus).with_context(|| format!("starting {}", spec.program.display()))?;
        let stdout = child.stdout.take().context("its output was to be a pipe")?;
        match first_line(stdout) {
            Ok(ready) => {
                let Ready { listen, http } = serde_json::from_str(&ready).with_context(|| format!("reading `{}`", ready.trim()))?;
                let http = http.context("the server serves no HTTP")?;
                Ok(Self { child, spec: spec.clone(), listen: listen.to_string(), http })
            }
            Err(error) => {
                // It may have ended by itself.
                let _ = child.kill();
                let status = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
                Err(error.context(format!("the server did not start ({status}); the end of its log:\n{}", tail(&log))))
            }
        }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPUs that it is confined to.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.spec.cpus
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// If it does not in time, or fails.
    pub fn stop(mut self) -> Result<ServerSpec> {
        sys::ask_to_stop(self.child.id()).context("asking the server to stop")?;
        let until = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().context("waiting for the server")? {
                let log = self.spec.log();
                ensure!(status.success(), "the server ended with {status}; the end of its log:\n{}", tail(&log));
                return Ok(self.spec.clone());
            }
            ensure!(Instant::now() < until, "the server did not stop within {STOP_TIMEOUT:?} and was killed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Looks at its process and its metrics.
    ///
    /// # Errors
    /// If it has gone.
    pub fn look(&self) -> Result<Look> {
        look(self.pid(), self.http, &self.spec.cpus)
    }
}

/// Looks at a server that is confined to these CPUs.
pub(crate) fn look(pid: u32, http: SocketAddr, cpus: &[usize]) -> Result<Look> {
    let process = Process::look(pid).context("looking at the server's process")?;
    let busy_s = busy_s(cpus).context("asking how busy CPUs are")? / cpus.len().max(1) as f64;
    Ok(Look { process, cpus_busy_s: Some(busy_s), metrics: scrape(http)? })
}

impl ServerSpec {
    fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; a child of ours that has not been waited for keeps its pid.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Starts a program that may run on these CPUs only: it inherits that from the thread that starts it.
fn spawn_on(mut command: Command, cpus: &[usize]) -> std::io::Result<Child> {
    let cpus = cpus.to_vec();
    let start = move || {
        sys::pin_thread(&cpus)?;
        command.spawn()
    };
    std::thread::spawn(start).join().unwrap_or_else(|_| Err(std::io::Error::other("the thread that starts it panicked")))
}

fn first_line(stdout: impl Read + Send + 'static) -> Result<String> {
    let (line, came) = mpsc::channel();
    std::thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut first = String::new();
        let read = stdout.read_line(&mut first).map(|n| (n > 0).then_some(first));
        // Nobody waits any more only after the timeout.
        let _ = line.send(read);
        // The rest is read too, so that the server never waits for us.
        let _ = std::io::copy(&mut stdout, &mut std::io::sink());
    });
    let read = came.recv_timeout(START_TIMEOUT).with_context(|| format!("waiting {START_TIMEOUT:?} for it to serve"))?;
    read.context("reading what it says")?.context("it ended before it served")
}

pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// The server at one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Its process.
    pub process: Process,
    /// Time that the CPUs it is confined to have been busy, in seconds, the mean of them; `None` where it is not confined.
    pub cpus_busy_s: Option<f64>,
    /// Its metrics.
    pub metrics: Metrics,
}

/// Metrics by name without labels, added up over cores and all other labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text format.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut out = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let name = series.split('{').next().unwrap_or_default();
            if let Ok(value) = value.parse::<f64>() {
                *out.entry(name.to_owned()).or_insert(0.0) += value;
            }
        }
        Self(out)
    }

    /// A counter or gauge, without `millpond_` before it; 0 where there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> f64 {
        let name = format!("millpond_{name}");
        self.0.get(&name).or_else(|| self.0.get(&format!("{name}_total"))).copied().unwrap_or(0.0)
    }
}

/// Reads `/metrics`.
///
/// # Errors
/// If nobody answers, or not with metrics.
pub fn scrape(at: SocketAddr) -> Result<Metrics> {
    let body = get(at, "/metrics").with_context(|| format!("reading http://{at}/metrics"))?;
    Ok(Metrics::parse(&body))
}

fn get(at: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, SCRAPE_TIMEOUT)?;
    stream.set_read_timeout(Some(SCRAPE_TIMEOUT))?;
    stream.set_write_timeout(Some(SCRAPE_TIMEOUT))?;
    // HTTP 1.0: the answer ends with the connection, and comes in one piece.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {at}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 << 20).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "the server says: {}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}

/// What the server did during a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// Over this time, in seconds.
    pub seconds: f64,
    /// CPU time of all its threads, in seconds.
    pub cpu_s: f64,
    /// Of that, inside the kernel.
    pub system_s: f64,
    /// Share of the time that the CPUs it is confined to were busy, 0 to 1; `None` where it is not confined.
    #[serde(default)]
    pub cpus_busy: Option<f64>,
    /// CPU time of its busiest thread name, in seconds: with one core, that core.
    pub busiest: Option<(String, f64)>,
    /// CPU time of all threads by name, in seconds.
    pub threads: BTreeMap<String, f64>,
    /// Memory in RAM at the end, in bytes.
    pub rss_bytes: u64,
    /// Journal flushes that were synced.
    pub syncs: f64,
    /// Entries in them.
    pub entries: f64,
    /// Bytes in them, padding included.
    pub journal_bytes: f64,
    /// Bytes that went on into segments.
    pub settled_bytes: f64,
    /// Reads answered from memory, and from segments.
    pub reads: (f64, f64),
}

impl Used {
    /// Between two looks.
    #[must_use]
    pub fn between(before: &Look, after: &Look, seconds: f64) -> Self {
        let cpu = after.process.cpu.since(before.process.cpu);
        let zero = crate::machine::usage::Cpu::default();
        let thread = |(name, cpu): (&String, &crate::machine::usage::Cpu)| {
            let used = cpu.since(before.process.threads.get(name).copied().unwrap_or(zero)).total_s();
            (name.clone(), used)
        };
        let threads: BTreeMap<String, f64> = after.process.threads.iter().map(thread).filter(|(_, used)| *used > 0.0).collect();
        let cpus_busy = before.cpus_busy_s.zip(after.cpus_busy_s).map(|(before, after)| (after - before) / seconds.max(1e-9));
        let grown = |name: &str| (after.metrics.get(name) - before.metrics.get(name)).max(0.0);
        Self {
            seconds,
            cpu_s: cpu.total_s(),
            system_s: cpu.system_s,
            cpus_busy,
            busiest: threads.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(name, used)| (name.clone(), *used)),
            threads,
            rss_bytes: after.process.rss_bytes,
            syncs: grown("journal_syncs"),
            entries: grown("journal_entries"),
            journal_bytes: grown("journal_bytes"),
            settled_bytes: grown("journal_settled_bytes"),
            reads: (grown("reads_tail"), grown("reads_segments")),
        }
    }

    /// Share of one CPU that its busiest thread used, 0 to 1.
    #[must_use]
    pub fn busiest_share(&self) -> f64 {
        self.busiest.as_ref().map_or(0.0, |(_, used)| used / self.seconds.max(1e-9))
    }

    /// How full what it runs on was, 0 to 1: its CPUs if it is confined to some, its busiest thread otherwise.
    #[must_use]
    pub fn fullness(&self) -> f64 {
        self.cpus_busy.unwrap_or_else(|| self.busiest_share())
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        let busiest = self.busiest.as_ref().map_or_else(String::new, |(name, _)| format!("{name} {:.0} %", self.busiest_share() * 100.0));
        let cpu = self.cpu_s / self.seconds.max(1e-9) * 100.0;
        let full = self.cpus_busy.map_or_else(String::new, |share| format!("its CPUs {:.0} % busy, ", share * 100.0));
        format!("server CPU {cpu:.0} % ({full}{busiest}), {} in RAM", units::show_bytes(self.rss_bytes))
    }
}

#[cfg(test)]
mod tests;
