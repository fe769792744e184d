//! The life of a core: what it does from its start until it ends, in order.
//!
//! ```text
//!   core 0                                              the others
//!   identity: read, or written at the first start
//!                 -- Stage::Recovering(identity) -->    wait for it
//!   open the homes that live here                       the same
//!   answer calls                                        the same
//!   __meta -> catalog; install it on every core
//!   create what is missing; load positions everywhere
//!   bind the port of all cores
//!                 -- its number -->                     bind it too
//!   bind the core's own port                            the same
//!                 <-- all ports -->
//!   serve; say where the node is; Stage::Serving        serve
//!   ... Stage::Stopping: answer what was taken, wait until all cores have, close the homes
//! ```
//!
//! A core that fails lets the others go: it asks for a stop, and its end of the mesh closes, so whoever waits for it hears.
//!
//! In reading order: [`block`] small files that are replaced · [`identity`] who the node is · [`age`] how old its disk is · [`join`] how it becomes a part of a cluster · [`load`] what
//! is read back from internal topics · [`recover`] what is done while it does not run, where a majority is lost · [`report`] what the core tells about itself.

mod age;
mod block;
pub mod identity;
pub mod join;
pub mod load;
pub mod recover;
mod report;

use crate::{
    catalog::{Age, Catalog, CatalogError, Home, META_GROUP},
    front::{Bound, Front},
    node::{
        Core, NodeConfig, Shared, Stage,
        mesh::Call,
        shared::{Identity, StartFailed},
    },
};
use millpond_log::{GroupConfig, Log, LogConfig, LogError};
use millpond_runtime::{
    CoreId, Nanos, Rt, Share,
    mailbox::{Receiver, Sender},
    rt::timeout,
};
use millpond_wire::messages::{Failure, JoinReply};
use std::{collections::BTreeMap, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

/// How long requests that were taken may go on after a stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// How long a node that stops hands over what it leads.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// What a core is given at its start.
pub struct Start<R: Rt> {
    /// What the node is asked to be.
    pub config: Arc<NodeConfig>,
    /// Where cores and control thread meet.
    pub shared: Arc<Shared>,
    /// Calls of other cores.
    pub calls: Receiver<Call<R>>,
    /// The calls of every core, by number.
    pub mesh: Vec<Sender<Call<R>>>,
    /// Time that this core has been busy, in ns.
    pub busy: fn(&R) -> Nanos,
}

/// Runs a core from its start until the node has stopped.
pub async fn run<R: Rt>(rt: R, start: Start<R>) -> Result<(), StartFailed> {
    let shared = Arc::clone(&start.shared);
    let done = life(rt, start).await;
    if done.is_err() {
        shared.stop();
        shared.core_drained();
    }
    done
}

async fn life<R: Rt>(rt: R, start: Start<R>) -> Result<(), StartFailed> {
    let Some(Begun { core, front, ports }) = begin(rt, start).await? else { return Ok(()) };
    if core.id() == CoreId(0) && introduce(&core, &ports).await? {
        let identity = core.identity;
        core.shared.advance(Stage::Serving { identity, port: ports.all, ports: Arc::clone(&ports.own) });
        core.grow_older(ports.all, &ports.own);
    }
    core.shared.reached(|stage| *stage == Stage::Stopping).await;
    core.leave(LEAVE_WITHIN).await;
    core.begin_stop();
    if !front.drain(DRAIN_WITHIN).await {
        tracing::warn!(core = core.id().0, "some requests were still under way after {DRAIN_WITHIN:?} and were cut off");
    }
    close(&core).await
}

/// A core whose doors are open.
pub struct Begun<R: Rt> {
    /// The core.
    pub core: Rc<Core<R>>,
    /// Its front.
    pub front: Rc<Front<R>>,
    ports: Ports,
}

/// Starts a core, up to where its doors are open: what [`run`] begins with, and all that whoever throws bytes at a front needs. Nothing,
/// if the node is asked to stop meanwhile.
pub async fn begin<R: Rt>(rt: R, start: Start<R>) -> Result<Option<Begun<R>>, StartFailed> {
    let Start { config, shared, calls, mesh, busy } = start;
    let me = rt.core();
    let (mut joined, mut begun) = (None, false);
    if me == CoreId(0) {
        // A cluster may take its time to take it in.
        let Some(identity) = shared.unless_stopping(identity::establish(&rt, &config, mesh.len(), &mut joined)).await.transpose()? else {
            shared.core_drained();
            return Ok(None);
        };
        let counted = age::count_up(&rt, &config.data).await?;
        shared.set_age(Age { count: counted.count, start: rt.rand() });
        begun = counted.begun;
        shared.advance(Stage::Recovering(identity));
    }
    let Some(identity) = recovering(&shared).await else {
        shared.core_drained();
        return Ok(None);
    };
    let logs = open_homes(&rt, &config, identity, mesh.len()).await?;
    let core = Core::new(rt, config, Arc::clone(&shared), identity, logs, mesh);
    core.answer_calls(calls);
    if me == CoreId(0) {
        let Some(()) = shared.unless_stopping(know(&core, joined, begun)).await.transpose()? else {
            return close(&core).await.map(|()| None);
        };
        if !begun {
            age::begin(&core.rt, &core.config.data).await?;
        }
    }
    let Some((front, ports)) = open_doors(&core).await? else { return close(&core).await.map(|()| None) };
    core.steer();
    report::start(&core, busy);
    Ok(Some(Begun { core, front, ports }))
}

/// Who the node is, or nothing if it is asked to stop before that is known.
async fn recovering(shared: &Shared) -> Option<Identity> {
    match shared.reached(|stage| *stage != Stage::Begun).await {
        Stage::Recovering(identity) | Stage::Serving { identity, .. } => Some(identity),
        Stage::Begun | Stage::Stopping => None,
    }
}

/// Opens the homes of this core, one after the other.
async fn open_homes<R: Rt>(rt: &R, config: &NodeConfig, identity: Identity, cores: usize) -> Result<BTreeMap<Home, Log<R>>, StartFailed> {
    let mut logs = BTreeMap::new();
    let here = (0..identity.homes).filter(|home| usize::from(*home) % cores == usize::from(rt.core().0));
    for home in here {
        let dir = config.data.join(identity::home_name(home));
        let settings = LogConfig {
            cluster_id: identity.cluster_id,
            node_id: identity.node_id,
            ..config.log_config(home, cores, usize::from(identity.homes))
        };
        let opened = Log::open(rt.clone(), dir.clone(), settings).await;
        let (log, recovered) = opened.map_err(|e| StartFailed::new(format!("cannot open {}", dir.display()), &e, e.advice()))?;
        if let Some(torn) = &recovered.torn {
            tracing::info!(file = %torn.file.display(), position = torn.position, bytes = torn.len, "cut a write that the last run had not finished; nobody was told of it");
        }
        let ms = recovered.took_us / 1_000;
        tracing::info!(
            home,
            groups = recovered.groups,
            files = recovered.files,
            bytes = recovered.bytes,
            entries = recovered.entries,
            ms,
            "journal recovered"
        );
        logs.insert(Home(home), log);
    }
    Ok(logs)
}

/// Core 0: says where the node is, and waits a while until it knows what its cluster knows. Whether the node still is to serve.
async fn introduce<R: Rt>(core: &Rc<Core<R>>, ports: &Ports) -> Result<bool, StartFailed> {
    let (told, tell) = tokio::sync::oneshot::channel();
    let (here, at) = (Rc::clone(core), ports.clone());
    core.rt.spawn("introduce", Share::Serve, async move {
        let outcome = here.introduce(at.all, &at.own).await;
        if let Err(Err(failed)) = told.send(outcome) {
            // Nobody waits any more.
            here.rt.halt(&failed.to_string());
        }
    });
    match core.shared.unless_stopping(timeout(&core.rt, join::LEARN_MAX, tell)).await {
        None => Ok(false),
        Some(Ok(Ok(outcome))) => outcome.map(|()| true),
        Some(_) => {
            tracing::warn!("this node does not know what its cluster knows: is a majority of it running? Clients are told to come later");
            Ok(true)
        }
    }
}

/// Core 0: learns the catalog and has all cores know it. `joined` is what the cluster has said, if it was asked; `begun`, whether the catalog must be here.
async fn know<R: Rt>(core: &Rc<Core<R>>, joined: Option<JoinReply>, begun: bool) -> Result<(), StartFailed> {
    let began = core.rt.mono();
    let log =
        core.logs.get(&Home(0)).ok_or_else(|| StartFailed::new("cannot find the catalog", "home 0 is not here", "report this as a bug"))?;
    if log.state(META_GROUP).is_none() && begun {
        // Made anew, it would be a replica that has forgotten what it promised, or a second cluster of the same name.
        let advice = "put the journals back, or start with an empty data directory and take this node out of its cluster (millpond node decommission)";
        return Err(StartFailed::new("cannot find the catalog", "this node had it, and its journals are gone", advice));
    }
    if log.state(META_GROUP).is_none() && core.is_founder() {
        let make = async { log.synced(log.create_group(META_GROUP, GroupConfig::from(&Catalog::meta_settings()))?).await };
        make.await.map_err(|e: LogError| StartFailed::new("cannot create the catalog", &e, e.advice()))?;
    } else if log.state(META_GROUP).is_none() {
        // The last start ended before it had begun.
        let reply = match joined {
            Some(reply) => reply,
            None => join::ask(&core.rt, &core.config, Some(core.identity), core.cores()).await?,
        };
        core.begin_meta(&reply)?;
        for id in core.core_ids() {
            let nodes = join::nodes_of(&reply);
            // A core that is lost is missed below.
            let _ = core.at(id, move |core| async move { core.meet(nodes) }).await;
        }
    } else if log.is_replica(META_GROUP)
        && let Some(driver) = core.drivers.get(&Home(0))
    {
        driver.open(META_GROUP).map_err(|e| StartFailed::new("cannot open the catalog", e, "report this as a bug"))?;
    }
    let mut catalog = Catalog::new();
    let end = load::keyed(&core.rt, log, META_GROUP, |key, value| catalog.apply(key, value).map(drop)).await?;
    not_put_back(core, &catalog)?;
    let lost = |_| StartFailed::new("cannot go on", "another core did not start", "see what it said");
    for id in core.core_ids() {
        let catalog = catalog.clone();
        let installed = core.at(id, move |core| async move { core.install(catalog).await.map_err(|e| e.to_string()) });
        let failed =
            |e| StartFailed::new(format!("core {} cannot follow the catalog", id.0), e, "make room on the disk, or report this as a bug");
        installed.await.map_err(lost)?.map_err(failed)?;
    }
    // What it follows from here on may be how things once were.
    core.learn_first().await;
    core.meta_begins(end);
    if !core.is_member() {
        let failed = |failure: Failure| StartFailed::new("cannot create the internal topics", failure.message, failure.advice);
        let term = core.know_all().await.map_err(failed)?;
        let plan = core.catalog.borrow().plan_bootstrap(core.homes());
        core.commit_plan(plan, term).await.map_err(failed)?;
    }
    for id in core.core_ids() {
        core.at(id, |core| async move { load::positions(&core).await }).await.map_err(lost)??;
    }
    let topics = core.catalog.borrow().topics().count();
    let partitions = core.catalog.borrow().partitions();
    let epoch = core.catalog.borrow().epoch();
    tracing::info!(epoch, topics, partitions, ms = (core.rt.mono() - began) / 1_000_000, "catalog loaded");
    Ok(())
}

/// Refuses what the catalog here is enough to tell: that the age of the disk was put back, and not the journals with it.
fn not_put_back<R: Rt>(core: &Core<R>, catalog: &Catalog) -> Result<(), StartFailed> {
    let (node, age) = (core.identity.node_id, core.shared.age());
    match catalog.node(node).map(|node| node.age).filter(|known| !age.may_be(*known)) {
        None => Ok(()),
        Some(known) => {
            let error = CatalogError::OldDisk { node, age: age.count, known: known.count };
            Err(StartFailed::new("cannot go on in the cluster", &error, error.advice()))
        }
    }
}

/// Where a node listens: the port of all cores and each core's own.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    all: u16,
    own: Arc<[u16]>,
}

/// Binds this core's sockets, waits until all cores have, and serves. Nothing, if the node is asked to stop meanwhile.
async fn open_doors<R: Rt>(core: &Rc<Core<R>>) -> Result<Option<(Rc<Front<R>>, Ports)>, StartFailed> {
    let (me, asked) = (core.id().0, core.config.listen);
    let shared = &core.shared;
    let all = if me == 0 { Some(asked.port()) } else { shared.doors_of(|doors| doors.first().copied().flatten().map(|d| d.all)).await };
    let Some(all) = all else { return Ok(None) };
    let own = if asked.port() == 0 { 0 } else { asked.port().saturating_add(1).saturating_add(me) };
    let at = |port| SocketAddr::new(asked.ip(), port);
    let bound = Bound::bind(&core.rt, at(all), at(own)).await.map_err(|e| {
        StartFailed::new(
            "cannot listen",
            &e,
            "stop what listens there (another server?), or choose another address with --listen ADDR:PORT",
        )
    })?;
    let (all, own) = bound.ports();
    shared.door_open(core.cores(), me, all, own);
    let ports = shared.doors_of(|doors| doors.iter().map(|door| door.map(|d| d.own)).collect::<Option<Arc<[u16]>>>()).await;
    let Some(own) = ports else { return Ok(None) };
    Ok(Some((Front::serve(core, bound, Arc::clone(&own)), Ports { all, own })))
}

/// Waits until no core needs another any more, then closes the homes.
async fn close<R: Rt>(core: &Rc<Core<R>>) -> Result<(), StartFailed> {
    core.begin_stop();
    core.shared.core_drained();
    core.shared.all_drained(core.cores()).await;
    core.drivers.values().for_each(millpond_raft::Driver::stop);
    for log in core.logs.values() {
        log.close().await;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
