//! A node on this machine: its cores, and the control thread beside them.
//!
//! The control thread is the one that calls [`run`]: it locks the data directory, starts the cores, serves HTTP, hears signals, and
//! waits for the cores to end. It never touches what cores own; they meet in [`Shared`].
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the control thread runs tokio, and holds the lock of the data directory"
)]

use crate::{
    boot::{self, Start, recover::Left},
    http::{self, About, Door as HttpDoor, NodeView},
    metrics::CoreSnapshot,
    node::{
        NodeConfig, Shared, Stage,
        mesh::{self, Call},
        shared::StartFailed,
    },
};
/// What the cores run on.
#[cfg(feature = "glommio")]
use millpond_runtime::glo::GloRt as Door;
#[cfg(not(feature = "glommio"))]
use millpond_runtime::ring::RingRt as Door;
use millpond_runtime::{
    Backend, Cores, CoresConfig,
    mailbox::{Receiver, mailbox},
    tls::{Secure, Tls},
};
use std::{
    fs::{self, File, TryLockError},
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, sync::oneshot};

/// A core that has not reported for this long is taken for dead.
const SILENT_AFTER: Duration = Duration::from_secs(10);
/// What a node says that comes into its cluster, comes back, or was taken out of it.
const LEARNING: &str = "this node does not know what its cluster knows: is a majority of its nodes running, and is this one a part of it?";
/// How long HTTP may finish what is under way once the cores have ended.
const HTTP_WITHIN: Duration = Duration::from_secs(2);

/// What to serve.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// The node.
    pub node: NodeConfig,
    /// Where HTTP is served; `None` for nowhere. Port 0 picks one.
    pub http: Option<SocketAddr>,
    /// How connections speak TLS; `None` for those in the clear.
    pub tls: Option<Tls>,
    /// The CPU of each core; `None` leaves it to the scheduler.
    pub cpus: Vec<Option<usize>>,
    /// Threads beside the cores, for compression and the like.
    pub pool_threads: usize,
    /// How long an idle core looks for news before it sleeps; see [`CoresConfig::idle_poll`].
    pub idle_poll: Duration,
}

/// Where a node can be reached.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Ready {
    /// The address of all cores.
    pub listen: SocketAddr,
    /// Each core's own.
    pub cores: Vec<SocketAddr>,
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// The cluster.
    pub cluster_id: String,
    /// The node.
    pub node_id: u64,
}

type Outcome = Result<(), StartFailed>;

/// Runs a node until `stop` is done or it fails; tells `ready` once when it serves.
pub async fn run(config: ServeConfig, stop: impl Future<Output = ()>, ready: impl FnOnce(&Ready)) -> Outcome {
    let data = &config.node.data;
    let _lock = lock(data)?;
    let listener = match config.http {
        Some(at) => Some(TcpListener::bind(at).await.map_err(|e| {
            StartFailed::new(
                format!("cannot serve HTTP on {at}"),
                e,
                "stop what listens there, or choose another address with --http ADDR:PORT (or `--http off`)",
            )
        })?),
        None => None,
    };
    let http_at = listener.as_ref().and_then(|l| l.local_addr().ok());
    let shared = Arc::new(Shared::new());
    let cores = start(&config, &shared)?;
    let view: Arc<dyn NodeView> = Arc::new(View::new(Arc::clone(&shared), config.cpus.len()));
    let (http_stop, http_stopped) = oneshot::channel::<()>();
    let serving = listener.map(|listener| {
        let stop = async {
            // An error means that whoever would stop it has gone.
            let _ = http_stopped.await;
        };
        // Nobody listens on loopback but this machine.
        let tls = config.tls.clone().filter(|_| config.http.is_some_and(|at| !at.ip().is_loopback()));
        let authenticate = config.node.authenticate && tls.is_some();
        let door = HttpDoor { tls, authenticate, principals: config.node.security.principals.clone() };
        tokio::spawn(http::serve(listener, door, view, stop))
    });
    let (ended, mut end) = oneshot::channel();
    let joining = std::thread::Builder::new().name("join".into()).spawn(move || {
        // Nobody listens only if the control thread is gone, and the process with it.
        let _ = ended.send(outcome(cores.join()));
    });
    joining.map_err(|e| StartFailed::new("cannot start a thread", e, "raise the limit of threads (ulimit -u)"))?;
    let outcome = guide(&config, &shared, http_at, stop, ready, &mut end).await;
    drop(http_stop);
    if let Some(serving) = serving {
        // Whoever still reads metrics of a node that has ended is cut off.
        let _ = tokio::time::timeout(HTTP_WITHIN, serving).await;
    }
    outcome
}

/// Follows the node from its start to its end.
async fn guide(
    config: &ServeConfig,
    shared: &Arc<Shared>,
    http: Option<SocketAddr>,
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(&Ready),
    end: &mut oneshot::Receiver<Outcome>,
) -> Outcome {
    let gone = |_| Err(StartFailed::new("cannot go on", "the thread that waits for the cores has ended", "report this as a bug"));
    let mut stop = std::pin::pin!(stop);
    // A node may be asked to stop while it starts.
    let goes_on = tokio::select! {
        stage = shared.reached(|s| matches!(s, Stage::Serving { .. } | Stage::Stopping)) => {
            if let Stage::Serving { identity, port, ports } = stage {
                let at = |port| SocketAddr::new(config.node.listen.ip(), port);
                ready(&Ready {
                    listen: at(port),
                    cores: ports.iter().map(|port| at(*port)).collect(),
                    http,
                    cluster_id: identity.cluster(),
                    node_id: identity.node_id,
                });
            }
            true
        }
        () = &mut stop => false,
        outcome = &mut *end => return outcome.unwrap_or_else(gone),
    };
    if goes_on {
        tokio::select! {
            () = stop => {}
            outcome = &mut *end => return outcome.unwrap_or_else(gone),
        }
    }
    shared.stop();
    end.await.unwrap_or_else(gone)
}

/// Takes the data directory for this process alone. The lock goes with the process, however it ends.
fn lock(data: &Path) -> Result<File, StartFailed> {
    let failed =
        |e: std::io::Error| StartFailed::new(format!("cannot use the data directory {}", data.display()), e, "check who may write there");
    fs::create_dir_all(data).map_err(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(data.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartFailed::new(
            format!("cannot use the data directory {}", data.display()),
            "another server runs on it",
            "stop that one, or choose another directory with --data DIR",
        )),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// Looks at the replicas of a node that does not run, and makes those that are `chosen`, by topic and partition, the only ones of their groups: see
/// [`boot::recover`].
pub fn recover(node: NodeConfig, chosen: impl Fn(&str, u32) -> bool + Send + Sync + 'static) -> Result<Vec<Left>, StartFailed> {
    let data = node.data.clone();
    let _lock = lock(&data)?;
    let cores = CoresConfig { cpus: vec![None], pool_threads: 1, idle_poll: Duration::ZERO, seed: seed(), data_dirs: vec![data] };
    let (node, chosen) = (Arc::new(node), Arc::new(chosen));
    let main = move |rt: Door| {
        let (node, chosen) = (Arc::clone(&node), Arc::clone(&chosen));
        let rt = Secure::new(rt, None);
        async move { boot::recover::recover(&rt, &node, |topic, partition| chosen(topic, partition)).await }
    };
    let failed = |e| StartFailed::new("cannot recover", e, "run `millpond doctor`, which looks at the machine and says what to mend");
    let done = Cores::start(&cores, main).map_err(failed)?.join();
    done.into_iter().next().map_or_else(|| Ok(Vec::new()), |core| core.map_err(failed)?)
}

/// Each core's end of the mesh, until it takes it.
type Mailboxes = Arc<Mutex<Vec<Option<Receiver<Call<Secure<Door>>>>>>>;

fn start(config: &ServeConfig, shared: &Arc<Shared>) -> Result<Cores<Outcome>, StartFailed> {
    let (senders, receivers): (Vec<_>, Vec<_>) = config.cpus.iter().map(|_| mailbox::<Call<Secure<Door>>>(mesh::DEPTH)).unzip();
    let calls: Mailboxes = Arc::new(Mutex::new(receivers.into_iter().map(Some).collect()));
    let node = Arc::new(config.node.clone());
    let (shared, tls) = (Arc::clone(shared), config.tls.clone());
    let cores = CoresConfig {
        cpus: config.cpus.clone(),
        pool_threads: config.pool_threads,
        idle_poll: config.idle_poll,
        seed: seed(),
        data_dirs: vec![config.node.data.clone()],
    };
    let main = move |rt: Door| {
        use millpond_runtime::Rt;
        let mine = calls.lock().unwrap_or_else(PoisonError::into_inner).get_mut(usize::from(rt.core().0)).and_then(Option::take);
        let (config, shared, mesh) = (Arc::clone(&node), Arc::clone(&shared), senders.clone());
        let rt = Secure::new(rt, tls.clone());
        async move {
            let Some(calls) = mine else {
                return Err(StartFailed::new("cannot start a core", "its mailbox is taken", "report this as a bug"));
            };
            boot::run(rt, Start { config, shared, calls, mesh, busy: |rt| rt.below().busy() }).await
        }
    };
    Cores::start(&cores, main)
        .map_err(|e| StartFailed::new("cannot start", e, "run `millpond doctor`, which looks at the machine and says what to mend"))
}

/// What came of all cores: the first failure that is not another's echo.
fn outcome(cores: Vec<Result<Outcome, millpond_runtime::StartError>>) -> Outcome {
    let mut failures: Vec<StartFailed> = cores
        .into_iter()
        .filter_map(|core| match core {
            Ok(done) => done.err(),
            Err(e) => Some(StartFailed::new("a core ended", e, "report this as a bug")),
        })
        .collect();
    failures.sort_by_key(|failure| failure.why.contains("another core"));
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// Different at every start.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// What HTTP shows of the node.
struct View {
    shared: Arc<Shared>,
    cores: usize,
    started_ms: i64,
    /// Per core: what its last report said of its age, and when we first saw that.
    heard: Mutex<Vec<(u64, Instant)>>,
}

impl View {
    fn new(shared: Arc<Shared>, cores: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { shared, cores, started_ms: now.as_millis() as i64, heard: Mutex::new(vec![(0, Instant::now()); cores]) }
    }
}

impl NodeView for View {
    fn cores(&self) -> Vec<CoreSnapshot> {
        self.shared.snapshots()
    }

    fn dead(&self) -> Vec<String> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for snapshot in self.shared.snapshots() {
            if let Some(last) = heard.get_mut(usize::from(snapshot.core)).filter(|last| last.0 != snapshot.up_ns) {
                *last = (snapshot.up_ns, now);
            }
        }
        // Recovery takes as long as it takes, and says so itself.
        if !matches!(self.shared.stage(), Stage::Serving { .. }) {
            heard.iter_mut().for_each(|last| last.1 = now);
        }
        let silent = |(core, last): (usize, &(u64, Instant))| {
            let silence = now - last.1;
            (silence > SILENT_AFTER).then(|| format!("core {core} has not reported for {} s", silence.as_secs()))
        };
        heard.iter().enumerate().filter_map(silent).collect()
    }

    fn unready(&self) -> Vec<String> {
        let learning = self.shared.is_learning();
        let mut why = match self.shared.stage() {
            Stage::Begun => vec!["starting".to_owned()],
            Stage::Recovering(_) | Stage::Serving { .. } if learning => vec![LEARNING.to_owned()],
            Stage::Recovering(_) => vec!["recovering the journals".to_owned()],
            Stage::Serving { .. } => Vec::new(),
            Stage::Stopping => vec!["stopping".to_owned()],
        };
        let full = self.shared.snapshots().into_iter().filter(|core| core.journal.disk_full);
        why.extend(full.map(|core| format!("core {}: the disk is full, appends are refused", core.core)));
        why
    }

    fn about(&self) -> About {
        let (cluster_id, node_id) = self.shared.identity().map_or_else(Default::default, |is| (is.cluster(), is.node_id));
        let version = env!("CARGO_PKG_VERSION").to_owned();
        About { name: "millpond", version, cluster_id, node_id, cores: self.cores as u16, started_ms: self.started_ms }
    }
}

#[cfg(test)]
mod tests;
