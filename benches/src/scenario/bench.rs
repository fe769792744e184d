//! One server, and one measurement of it after the other.

use super::facts;
use crate::{
    args::{Common, ServerArgs},
    load::{self, Measured, Plan, Work},
    machine::{
        device::{Counters, Device},
        usage::Process,
    },
    measure::Latency,
    results::{Results, Run},
    server::{Look, Placement, Server, ServerSpec, Used, look},
    sys,
    system::{System, Topic, native::Native},
};
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Instant,
};

/// A directory of ours that goes when this goes.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    remove: bool,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.remove
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a directory of the benchmark is left behind");
        }
    }
}

impl Scratch {
    fn of(dir: Option<&Path>) -> Result<Self> {
        let path = dir.map_or_else(|| PathBuf::from(format!("millpond-bench-{}", std::process::id())), Path::to_owned);
        let remove = !path.exists();
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path, remove })
    }
}

/// See the module. What is left of the server ends, and its directory goes, with this.
pub(super) struct Bench {
    server: Option<Server>,
    /// Data and log of the server lie in it.
    scratch: Option<Scratch>,
    spec: Option<ServerSpec>,
    pub(super) system: Native,
    pub(super) placement: Option<Placement>,
    client_cpus: Vec<usize>,
    pub(super) results: Results,
    progress: ProgressBar,
    topics: usize,
    homes: usize,
}

/// What is looked at, at the beginning and the end of a window.
#[derive(Clone)]
struct Probe {
    /// Its process, its metrics, its CPUs.
    server: Option<(u32, SocketAddr, Vec<usize>)>,
    device: Option<Device>,
}

#[derive(Clone)]
struct Seen {
    at: Instant,
    server: Option<Look>,
    device: Option<Counters>,
    own_cpu_s: f64,
}

impl Probe {
    fn look(&self) -> Result<Seen> {
        let server = self.server.as_ref().map(|(pid, http, cpus)| look(*pid, *http, cpus)).transpose()?;
        let own = Process::look(std::process::id()).context("looking at our own process")?;
        let device = self.device.as_ref().and_then(Device::counters);
        Ok(Seen { at: Instant::now(), server, device, own_cpu_s: own.cpu.total_s() })
    }
}

fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

impl Bench {
    /// The server that the command line asks for.
    pub(super) fn of(args: &ServerArgs, common: &Common, progress: &ProgressBar) -> Result<Self> {
        if !args.spawn {
            let system = Native::new(&common.servers);
            let results = Results { facts: facts(Path::new(".")), ..Results::default() };
            return Self {
                server: None,
                scratch: None,
                spec: None,
                system,
                placement: None,
                client_cpus: args.client_cpus.clone(),
                results,
                progress: progress.clone(),
                topics: 0,
                homes: 0,
            }
            .named();
        }
        Self::spawn(args, progress)
    }

    /// A server of our own, with a directory of its own.
    pub(super) fn spawn(args: &ServerArgs, progress: &ProgressBar) -> Result<Self> {
        let allowed = sys::cpus_allowed().context("asking which CPUs may be used")?;
        let placement = Placement::of(args, &allowed)?;
        let scratch = Scratch::of(args.dir.as_deref())?;
        let program = match &args.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().context("finding this program")?,
        };
        let spec =
            ServerSpec { program, data: scratch.path.join("data-0"), cpus: placement.server.clone(), memory: args.server_memory.clone() };
        let results = Results { facts: facts(&scratch.path), placement: Some(placement.clone()), ..Results::default() };
        progress.set_message("starting the server");
        let server = Server::start(&spec)?;
        let system = Native::new(std::slice::from_ref(&server.listen));
        Self {
            server: Some(server),
            scratch: Some(scratch),
            spec: Some(spec),
            system,
            client_cpus: placement.client.clone(),
            placement: Some(placement),
            results,
            progress: progress.clone(),
            topics: 0,
            homes: 0,
        }
        .named()
    }

    fn named(mut self) -> Result<Self> {
        self.results.system = wait(self.system.describe())?;
        Ok(self)
    }

    /// Stops our server and starts it again, on the same data or on none. False if the server is not ours.
    pub(super) fn restart(&mut self, fresh: bool) -> Result<bool> {
        let (Some(server), Some(mut spec)) = (self.server.take(), self.spec.take()) else { return Ok(false) };
        self.progress.set_message("starting the server anew");
        server.stop()?;
        if fresh {
            self.homes += 1;
            let next = spec.data.with_file_name(format!("data-{}", self.homes));
            fs::remove_dir_all(&spec.data).with_context(|| format!("removing {}", spec.data.display()))?;
            spec.data = next;
        }
        let server = Server::start(&spec)?;
        self.system.servers = vec![server.listen.clone()];
        (self.server, self.spec) = (Some(server), Some(spec));
        Ok(true)
    }

    /// Where the data lies; `None` where the server is not ours.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.scratch.as_ref().map(|scratch| scratch.path.as_path())
    }

    /// Says what is being done.
    pub(super) fn says(&self, what: impl Into<String>) {
        self.progress.set_message(what.into());
    }

    /// How long and where.
    pub(super) fn plan(&self, warm_up: std::time::Duration, duration: std::time::Duration) -> Plan {
        Plan { warm_up, duration, cpus: self.client_cpus.clone(), humble: false }
    }

    /// Makes topics that nobody else has.
    pub(super) fn topics(&mut self, count: usize, partitions: usize) -> Result<Vec<Topic>> {
        let mut out = Vec::new();
        for _ in 0..count {
            self.topics += 1;
            let topic = Topic { name: format!("bench-{}-{}", std::process::id(), self.topics), partitions };
            self.progress.set_message(format!("making topic {}", topic.name));
            wait(self.system.create(&topic))?;
            out.push(topic);
        }
        Ok(out)
    }

    /// Removes them.
    pub(super) fn drop_topics(&self, topics: &[Topic]) -> Result<()> {
        topics.iter().try_for_each(|topic| wait(self.system.delete(topic)))
    }

    /// Runs a load and sums it up.
    pub(super) fn measure<W: Work>(&self, name: &str, work: &W, plan: &Plan) -> Result<Run> {
        self.progress.set_message(name.to_owned());
        let probe = Probe {
            server: self.server.as_ref().map(|server| (server.pid(), server.http, server.cpus().to_vec())),
            device: self.dir().and_then(|dir| Device::under(dir).ok().flatten()),
        };
        let by_itself = work.ends_by_itself();
        let (seen, looked) = mpsc::channel();
        let watch = probe.clone();
        let measured = load::run(work, plan, |window| {
            std::thread::spawn(move || {
                sleep_until(window.from);
                let before = watch.look();
                if !by_itself {
                    sleep_until(window.to);
                }
                // Nobody listens only if the run failed.
                let _ = seen.send((before, if by_itself { None } else { Some(watch.look()) }));
            });
        })?;
        let (before, after) = looked.recv().context("the thread that looks at the server ended")?;
        let (before, after) = (before?, after.unwrap_or_else(|| probe.look())?);
        Ok(sum_up(name, &measured, plan, by_itself, &before, &after))
    }

    /// Ends the server and hands out the results.
    pub(super) fn finish(mut self) -> Result<Results> {
        self.progress.set_message("stopping the server");
        if let Some(server) = self.server.take() {
            server.stop()?;
        }
        Ok(std::mem::take(&mut self.results))
    }
}

fn sum_up(name: &str, measured: &Measured, plan: &Plan, by_itself: bool, before: &Seen, after: &Seen) -> Run {
    let seconds = if by_itself { (measured.ended - measured.requests.from()).as_secs_f64() } else { plan.duration.as_secs_f64() };
    let filled = |histogram: &hdrhistogram::Histogram<u64>| (!histogram.is_empty()).then(|| Latency::of(histogram));
    let looked = (after.at - before.at).as_secs_f64();
    Run {
        name: name.to_owned(),
        seconds,
        totals: measured.requests.totals(),
        latency: Latency::of(measured.requests.latency()),
        end_to_end: filled(&measured.end_to_end),
        late: filled(&measured.late),
        refused: measured.refused,
        series: measured.requests.series(),
        server: before.server.as_ref().zip(after.server.as_ref()).map(|(before, after)| Used::between(before, after, looked)),
        client_cpu_s: after.own_cpu_s - before.own_cpu_s,
        device: before.device.zip(after.device).map(|(before, after)| after.since(before)),
        ..Run::default()
    }
}

/// Waits for a request to the server.
pub(super) fn wait<T>(request: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(request)
}
