//! Millpond and another system in turns, on the same disk and under the same clients: `millpond bench compare`.
//!
//! In each round every system has a turn on an empty directory: it is started, and asked until it answers; clients write as fast as they
//! can, one after the other; then, once the disk has nothing left to do, at an even pace that every system can take, with a reader beside
//! them; it is killed, started again, and written to until it acknowledges; and stopped.
//!
//! In reading order: [`system`] the seam · [`millpond`], [`kafka`] and [`nats`] behind it · [`wire`] the probe of those that speak Kafka's protocol ·
//! [`tools`] what is fetched · [`driver`] the clients · [`figures`] what comes of it.

mod driver;
mod figures;
mod kafka;
mod millpond;
mod nats;
mod system;
mod tools;
mod wire;

use crate::{
    args::{Client, Common, CompareArgs, Payload, Rival},
    batches::Shape,
    machine::facts::Facts,
    node::{Scratch, interrupted},
    results::{
        Results,
        compared::{Compared, Side, Unit},
    },
    server::cpu_list,
    sys,
    units::show_bytes,
};
use anyhow::{Context, Result, bail, ensure};
use driver::{Driver, Load, Program, Said};
use figures::{Bounds, Kind, Value};
use indicatif::ProgressBar;
use kafka::Kafka;
use millpond::Millpond;
use nats::NatsServer;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use system::{Home, Running, System, Topic};
use tokio::{task::spawn_blocking, time::sleep};
use tools::Jars;

/// The topic that is written to.
const TOPIC: &str = "compared";
/// Different values that are sent.
const VALUES: u64 = 512;
/// A system has so long for itself between two loads, once the disk has nothing left to do.
const REST: Duration = Duration::from_secs(2);
/// What is promised against a system that syncs before each ack...
const AGAINST_SYNCED: Bounds = Bounds { throughput: Some(5.0), p99: Some(10.0), cpu: None, start: None, memory: None };
/// ...and against one that does not: ahead, in a quarter of the memory.
const AGAINST_DEFAULTS: Bounds = Bounds { throughput: Some(1.0), p99: Some(1.0), cpu: Some(1.0), start: Some(1.0), memory: Some(4.0) };

/// Runs it. Whatever it started is gone afterwards, however it ends.
pub(crate) fn run(args: &CompareArgs, common: &Common, progress: &ProgressBar) -> Result<Results> {
    ensure!((8..=1 << 20).contains(&args.record_size), "--record-size goes from 8 bytes to 1 MiB");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("starting the comparison")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = compare(args, common, progress) => done,
            why = interrupted() => bail!("{why}"),
        }
    });
    // A probe may still wait for an answer.
    runtime.shutdown_background();
    done
}

async fn compare(args: &CompareArgs, common: &Common, progress: &ProgressBar) -> Result<Results> {
    let allowed = sys::cpus_allowed().context("asking which CPUs may be used")?;
    let some = |named: &Option<String>| named.as_deref().map_or_else(|| Ok(Vec::new()), |named| cpu_list(named, &allowed));
    let (server_cpus, client_cpus) = (some(&args.server_cpus)?, some(&args.client_cpus)?);
    progress.set_message("looking for what is needed");
    let rivals = systems(args, &server_cpus, allowed.len()).await?;
    let mut scratch = Scratch::new(args.dir.as_deref(), "compare", false)?;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let facts = Facts::read(scratch.path(), since.as_millis() as u64);
    let stage = Stage { args, server_cpus, client_cpus, values: values(args, scratch.path())?, dir: scratch.path().to_owned(), progress };
    let mut rounds = Vec::new();
    let mut said = Vec::new();
    for round in 0..args.rounds {
        let mut turns = Vec::new();
        for (system, _) in &rivals {
            let what = format!("round {} of {}, {}", round + 1, args.rounds, system.name());
            if !common.quiet && progress.is_hidden() {
                eprintln!("{what}");
            }
            let turn = stage.turn(system, &what, &mut said).await.with_context(|| format!("{what}; logs are in {}", stage.dir.display()));
            turns.push(turn.inspect_err(|_| scratch.keep())?);
        }
        rounds.push(turns);
    }
    let bounds: Vec<Bounds> = rivals.iter().map(|(_, bounds)| *bounds).collect();
    let side = |(system, _): &(Arc<dyn System>, Bounds)| Side { name: system.name(), on: system.describe() };
    let systems: Vec<Side> = rivals.iter().map(side).collect();
    let rows = figures::rows(&rounds, &bounds);
    let remarks = figures::remarks(&rows, &systems, args.rate);
    let compared = Compared { on: stage.on(&said), systems, rows, remarks };
    let names: Vec<String> = compared.systems.iter().map(|side| side.name.clone()).collect();
    Ok(Results { facts, system: names.join(" | "), compared: Some(compared), ..Results::default() })
}

/// Ours first, then the others; each with how far ahead of it we want to be.
async fn systems(args: &CompareArgs, server_cpus: &[usize], cpus_max: usize) -> Result<Vec<(Arc<dyn System>, Bounds)>> {
    let cache = match &args.cache {
        // Java takes its class path as it is.
        Some(dir) => std::path::absolute(dir).context("finding the cache")?,
        None => tools::cache_dir()?,
    };
    let jars = Jars::of(&tools::KAFKA, &args.kafka_version, &cache).await?;
    let mut drivers = Vec::new();
    for client in clients(args)? {
        let program = match client {
            Client::Java => Program::Java(jars.clone(), driver::KAFKA),
            Client::Librdkafka => Program::Python(tools::python(&cache).await?),
        };
        drivers.push(Driver { name: client.name(), program });
    }
    let ours = Millpond {
        program: args.program.clone().map_or_else(std::env::current_exe, Ok).context("finding this program")?,
        cpus: server_cpus.to_vec(),
        cpus_max,
        memory: args.server_memory.clone(),
        drivers: drivers.clone(),
    };
    let mut all: Vec<(Arc<dyn System>, Bounds)> = vec![(Arc::new(ours), Bounds::default())];
    match args.rival {
        Rival::Kafka => {
            let kafka = |syncs| Kafka { jars: jars.clone(), syncs, drivers: drivers.clone() };
            all.push((Arc::new(kafka(kafka::Syncs::EachAck)), AGAINST_SYNCED));
            all.push((Arc::new(kafka(kafka::Syncs::Never)), AGAINST_DEFAULTS));
        }
        Rival::Nats => {
            let program = tools::nats_server(&args.nats_version, &cache).await?;
            let jars = Jars::of(&tools::NATS, &args.nats_client_version, &cache).await?;
            let driver = Driver { name: Client::Java.name(), program: Program::Java(jars, driver::NATS) };
            let version = args.nats_version.clone();
            let nats = |syncs| NatsServer { program: program.clone(), version: version.clone(), syncs, drivers: vec![driver.clone()] };
            // Nothing is promised against it.
            all.push((Arc::new(nats(nats::Syncs::Always)), Bounds::default()));
            all.push((Arc::new(nats(nats::Syncs::Rarely)), Bounds::default()));
        }
    }
    Ok(all)
}

/// Those that were asked for, or all that the systems have in common.
fn clients(args: &CompareArgs) -> Result<Vec<Client>> {
    let all: &[Client] = match args.rival {
        Rival::Kafka => &[Client::Java, Client::Librdkafka],
        Rival::Nats => &[Client::Java],
    };
    if let Some(client) = args.clients.iter().find(|client| !all.contains(client)) {
        bail!("this system has no client {}", client.name());
    }
    Ok(if args.clients.is_empty() { all.to_vec() } else { args.clients.clone() })
}

/// Writes the values that all clients send.
fn values(args: &CompareArgs, dir: &Path) -> Result<PathBuf> {
    let shape = Shape { payload: Payload::Realistic, ..Shape::single(args.record_size as usize) };
    let all: Vec<u8> = (0..VALUES).flat_map(|n| shape.batch(n)).flat_map(|record| record.value).collect();
    let path = std::path::absolute(dir.join("values")).context("finding the directory")?;
    fs::write(&path, all).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// What all turns have in common.
struct Stage<'a> {
    args: &'a CompareArgs,
    server_cpus: Vec<usize>,
    client_cpus: Vec<usize>,
    values: PathBuf,
    dir: PathBuf,
    progress: &'a ProgressBar,
}

impl Stage<'_> {
    /// One system from its first start to its end, on an empty directory; what clients say of themselves goes to `said`.
    async fn turn(&self, system: &Arc<dyn System>, what: &str, said: &mut Vec<(String, Said)>) -> Result<Vec<Value>> {
        let says = |doing: &str| self.progress.set_message(format!("{what}: {doing}"));
        let dir = std::path::absolute(self.dir.join("turn")).context("finding the directory")?;
        let home = Home::new(&dir, system.ports())?;
        says("starting");
        Running::prepare(system, &home).await?;
        let mut running = Running::start(system, &home, &self.server_cpus)?;
        let start = running.answers().await?;
        let topic = Topic { name: TOPIC.into(), partitions: self.args.partitions };
        running.create(&topic).await?;
        let mut values = Vec::new();
        for driver in system.drivers() {
            says(&format!("{} as fast as it goes", driver.name));
            let measured = driver.run(&self.load(&topic, false), &running, &dir).await?;
            values.extend(figures::flood(driver.name, self.args.record_size as usize, &measured));
            said.push((format!("{} at full load", driver.name), measured.said));
        }
        for driver in system.drivers() {
            says("waiting for the disk");
            self.settle().await?;
            says(&format!("{} at a rate", driver.name));
            let measured = driver.run(&self.load(&topic, true), &running, &dir).await?;
            values.extend(figures::pace(driver.name, &measured));
            said.push((format!("{} at the rate", driver.name), measured.said));
        }
        values.push(Value::new("memory, the most", Unit::Bytes, running.look()?.rss_peak_bytes as f64, Kind::Memory));
        values.push(Value::new("start, until it answers", Unit::S, start.as_secs_f64(), Kind::Start));
        says("killing it");
        running.kill()?;
        let mut running = Running::start(system, &home, &self.server_cpus)?;
        let recovery = running.acknowledges(&topic).await?;
        values.push(Value::new("start after a kill, until the first ack", Unit::S, recovery.as_secs_f64(), Kind::None));
        says("stopping it");
        running.stop().await?;
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        self.settle().await?;
        Ok(values)
    }

    fn load(&self, topic: &Topic, is_paced: bool) -> Load {
        Load {
            topic: topic.clone(),
            rate: is_paced.then_some(self.args.rate),
            linger: is_paced.then_some(self.args.linger),
            record_bytes: self.args.record_size as usize,
            values: self.values.clone(),
            warm_up: self.args.warm_up,
            duration: self.args.duration,
            cpus: self.client_cpus.clone(),
        }
    }

    /// Has the disk take all that was written so far, so that one load does not pay for another.
    async fn settle(&self) -> Result<()> {
        let dir = File::open(&self.dir).with_context(|| format!("opening {}", self.dir.display()))?;
        spawn_blocking(move || sys::sync_file_system(&dir)).await.context("the thread that syncs")?.context("syncing the file system")?;
        sleep(REST).await;
        Ok(())
    }

    /// What was on for all systems.
    fn on(&self, said: &[(String, Said)]) -> Vec<(String, String)> {
        let args = self.args;
        let cpus = |named: &Option<String>| named.clone().unwrap_or_else(|| "all".into());
        let mut on = vec![
            ("records".to_owned(), format!("{} each, JSON events, no keys, not compressed by clients", show_bytes(args.record_size))),
            ("partitions".to_owned(), format!("{}, one replica each, one record to each in turn", args.partitions)),
            ("rounds".to_owned(), format!("{}, of {:?} per load after {:?} of warming up", args.rounds, args.duration, args.warm_up)),
            ("the rate".to_owned(), format!("{} records/s, whatever the system does", args.rate)),
            ("CPUs".to_owned(), format!("servers {}, clients {}", cpus(&args.server_cpus), cpus(&args.client_cpus))),
        ];
        for (name, said) in said {
            let settings: Vec<String> = said.on.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let one = (name.clone(), format!("{}, {}", said.client, settings.join(" ")));
            if !on.contains(&one) {
                on.push(one);
            }
        }
        on
    }
}
