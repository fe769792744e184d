//! Starting the node, and telling the world that it has.

use super::{CoreChoice, LogFormat, Settings};
use crate::{
    cli::{
        fail::{Fail, Result},
        out::Out,
    },
    node::NodeConfig,
    security::{self, Strangers},
    serve::{self, ServeConfig},
};
use millpond_log::LogConfig;
use millpond_raft::RaftConfig;
use millpond_runtime::{
    placement::{Placement, Wanted},
    tls::Tls,
    topology::Topology,
};
use std::{fs, io::IsTerminal, net::SocketAddr, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Most connections per core: what they cost while idle is a few KiB each.
const CONNECTIONS_PER_CORE_MAX: usize = 100_000;
/// How often the files of TLS are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(60);
/// Partitions of a topic if nobody says.
const PARTITIONS_DEFAULT: u32 = 1;
/// So many hundredths clocks of two nodes may run apart by, where leaders trust them.
const LEASE_DRIFT_PERCENT: u8 = 10;
/// Where the machine's memory cannot be read.
const MEMORY_FALLBACK_BYTES: u64 = 1 << 30;

impl Settings {
    /// Runs the node until it is asked to stop.
    pub(in crate::cli) async fn run(self, out: &mut Out) -> Result {
        self.start_log()?;
        let config = self.config().await?;
        let failed = |e| Fail::io("hear signals", &e);
        let (mut term, mut int) = (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
        let stop = async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::info!("stopping: a second signal ends the process at once");
            tokio::spawn(async move {
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
                tracing::warn!("ended by a second signal; what was acknowledged is safe");
                std::process::exit(130);
            });
        };
        let data = config.node.data.display().to_string();
        if let Some(tls) = config.tls.clone() {
            let asked = signal(SignalKind::hangup()).map_err(failed)?;
            tokio::spawn(renew(tls, asked));
        }
        let told = serve::run(config, stop, |ready| {
            let http = ready.http.map_or_else(String::new, |at| format!(", HTTP on {at}"));
            let cores = ready.cores.len();
            let text =
                format!("Millpond serves on {}, {cores} {}{http}, data in {data}", ready.listen, if cores == 1 { "core" } else { "cores" });
            // Whoever started us may not read: that is no reason not to serve.
            let _ = out.either(ready, text).and_then(|()| out.flush());
        });
        told.await.map_err(|failed| Fail::new(format!("{}: {}", failed.doing, failed.why), failed.advice))?;
        tracing::info!("stopped");
        Ok(())
    }

    fn start_log(&self) -> Result {
        let filter = EnvFilter::try_new(&self.log).map_err(|e| {
            Fail::usage(
                format!("`{}` is no filter: {e}", self.log),
                "give error, warn, info, debug, trace, or a filter such as `millpond=debug`",
            )
        })?;
        let text = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(std::io::stderr().is_terminal());
        let started = match self.log_format {
            LogFormat::Text => tracing_subscriber::registry().with(filter).with(text).try_init(),
            LogFormat::Json => tracing_subscriber::registry().with(filter).with(text.json()).try_init(),
        };
        started.map_err(|e| Fail::new(format!("cannot start the log: {e}"), ""))
    }

    async fn config(self) -> Result<ServeConfig> {
        let cpus = self.cpus()?;
        let mut join = Vec::new();
        for server in &self.join {
            join.extend(find(server, "--join").await?);
        }
        let ip = match (&self.advertise, self.listen.ip()) {
            (Some(host), ip) if ip.is_unspecified() => find(&format!("{host}:0"), "--advertise").await?[0].ip(),
            (None, ip) if ip.is_unspecified() && !join.is_empty() => {
                return Err(Fail::usage(
                    format!("{ip} is no address where other nodes find this one"),
                    "give --advertise HOST as well, the host's own name or address",
                ));
            }
            (_, ip) => ip,
        };
        let tls = self.tls.as_ref().map(Tls::read).transpose();
        let tls = tls.map_err(|e| {
            Fail::usage(format!("cannot speak TLS: {e}"), "check the files of --tls-cert, --tls-key, --tls-node-ca and --tls-client-ca")
        })?;
        let memory = self.memory.unwrap_or_else(|| machine_memory() / 4);
        let node = NodeConfig {
            advertise: self.advertise.unwrap_or_else(|| self.listen.ip().to_string()),
            data: self.data,
            listen: self.listen,
            log: LogConfig {
                disk_reserve_bytes: self.disk_reserve.unwrap_or(LogConfig::default().disk_reserve_bytes),
                ..LogConfig::default()
            },
            raft: RaftConfig { lease_drift_percent: self.lease_reads.then_some(LEASE_DRIFT_PERCENT), ..RaftConfig::default() },
            ip,
            tls: tls.is_some(),
            authenticate: self.authenticate,
            strangers: Strangers::new(&security::random()),
            rack: self.rack,
            join,
            replace: self.replace,
            memory_bytes: usize::try_from(memory).unwrap_or(usize::MAX),
            partitions_default: PARTITIONS_DEFAULT,
            connections_max: CONNECTIONS_PER_CORE_MAX,
            security: self.security,
        };
        let pool_threads = cpus.len().div_ceil(2);
        Ok(ServeConfig { node, http: self.http, tls, cpus, pool_threads, idle_poll: self.idle_poll })
    }

    /// The CPU of each core.
    fn cpus(&self) -> Result<Vec<Option<usize>>> {
        let wanted = match &self.cores {
            CoreChoice::All => Wanted::All,
            CoreChoice::Count(count) => Wanted::Count(*count),
            CoreChoice::Cpus(cpus) => Wanted::Cpus(cpus.clone()),
        };
        let plan = Placement::plan(&Topology::read(), wanted, self.pin);
        Ok(plan.map_err(|e| Fail::usage(e.to_string(), e.advice()))?.cpus())
    }
}

/// Reads the files of TLS again, every now and then and when that is asked for: certificates are renewed while a node serves.
async fn renew(tls: Tls, mut asked: Signal) {
    loop {
        tokio::select! { _ = asked.recv() => {}, () = tokio::time::sleep(CERTIFICATES_EVERY) => {} }
        match tls.read_again() {
            Ok(true) => tracing::info!("the files of TLS are new: connections from now on go by them"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the files of TLS are not as they should be: what was read before stays in use"),
        }
    }
}

/// The addresses of a host with a port, at least one.
async fn find(server: &str, option: &str) -> Result<Vec<SocketAddr>> {
    let advice = || format!("give {option} a host that can be found, and with --join its port, such as node1.example.org:7400");
    let found = tokio::net::lookup_host(server).await.map_err(|e| Fail::usage(format!("`{server}` cannot be found: {e}"), advice()))?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() { Err(Fail::usage(format!("`{server}` has no address"), advice())) } else { Ok(found) }
}

/// Memory of this machine, or of the control group that holds us if that is less, in bytes.
pub(in crate::cli) fn machine_memory() -> u64 {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let kib =
        text("/proc/meminfo").lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let group = text("/sys/fs/cgroup/memory.max").trim().parse::<u64>().ok();
    let all = kib.map(|kib| kib * 1024);
    all.into_iter().chain(group).min().unwrap_or(MEMORY_FALLBACK_BYTES)
}
