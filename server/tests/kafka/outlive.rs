//! Clients at all that they can do (topics, writing, groups whose members change, transactions, replays), on three nodes that are killed one after the other.

use crate::{
    java,
    kcat::{self, Kcat},
    node::Node,
    python::{self, Running},
    whole,
};
use millpond_client::{Client, NewTopic};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long a node is gone, and how long all are there between two.
const GONE: Duration = Duration::from_secs(2);
/// A line of kcat comes as often.
const EVERY: Duration = Duration::from_millis(10);
/// So long may what was written take to be read.
const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "outlive-kcat";
const PARTITIONS: u32 = 6;
/// So many lines of a file does Kafka Connect copy, one after so many milliseconds.
const LINES: &str = "5000";
const PAUSE_MS: &str = "10";

/// Ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // `timeout` ends what it runs, if it is asked to and not killed; it may have ended by itself.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Debian's kcat: it writes lines, and a group of two reads them.
struct KcatAtWork {
    kcat: Kcat,
    stop: Arc<AtomicBool>,
    writing: Option<JoinHandle<usize>>,
    dir: tempfile::TempDir,
    readers: Vec<Ended>,
}

impl KcatAtWork {
    fn begin(servers: &str) -> Self {
        let (kcat, stop) = (Kcat::new(servers), Arc::new(AtomicBool::new(false)));
        let mut writer = kcat.command("-P", &["-t", TOPIC, "-X", "enable.idempotence=true"]).spawn().expect("it is installed");
        let until = Arc::clone(&stop);
        let writing = thread::spawn(move || {
            let mut lines = writer.stdin.take().expect("piped");
            let mut count = 0;
            while !until.load(Ordering::Relaxed) {
                writeln!(lines, "{count}").expect("it reads");
                count += 1;
                thread::sleep(EVERY);
            }
            drop(lines);
            kcat::succeeded(writer.wait_with_output().expect("it ends"));
            count
        });
        let dir = tempfile::tempdir().expect("a directory");
        let reader = |n: usize| {
            let file = |what: &str| Stdio::from(File::create(dir.path().join(format!("{n}.{what}"))).expect("a file"));
            let args = [TOPIC, TOPIC, "-q", "-u", "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=10000"];
            let mut command = kcat.command("-G", &args);
            Ended(command.stdout(file("out")).stderr(file("err")).spawn().expect("it is installed"))
        };
        let readers = (0..2).map(reader).collect();
        Self { kcat, stop, writing: Some(writing), dir, readers }
    }

    fn read(&self) -> BTreeSet<usize> {
        let of_one = |n: usize| fs::read_to_string(self.dir.path().join(format!("{n}.out"))).expect("it is there");
        // The last line may not be whole yet.
        let whole = |text: String| text.rsplit_once('\n').map(|(lines, _)| lines.to_owned()).unwrap_or_default();
        (0..self.readers.len()).flat_map(|n| whole(of_one(n)).lines().map(|l| l.parse().expect("a number")).collect::<Vec<_>>()).collect()
    }

    /// All that was acknowledged is read by the group, and is there once, in order; from an offset and from a time, too.
    fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let count = self.writing.take().expect("it is waited for once").join().expect("all was acknowledged");
        let end = Instant::now() + PATIENCE;
        while self.read() != (0..count).collect() {
            assert!(Instant::now() < end, "{} of {count} are read by the group of kcat", self.read().len());
            thread::sleep(EVERY * 10);
        }
        let mut found: Vec<usize> = Vec::new();
        for partition in 0..PARTITIONS {
            let part = ["-t", TOPIC, "-p", &partition.to_string()];
            let told = self.kcat.consume(&[&part[..], &["-f", "%o %T %s\n"]].concat());
            let lines: Vec<&str> = told.lines().collect();
            let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number");
            let values: Vec<usize> = lines.iter().map(|line| value(line)).collect();
            assert!(values.is_sorted(), "partition {partition} is in another order than it was written in");
            found.extend(values);
            let Some(middle) = lines.get(lines.len() / 2) else { continue };
            let (offset, rest) = middle.split_once(' ').expect("two parts");
            let time = rest.split(' ').next().expect("a time");
            let from = |point: &str| {
                let read = self.kcat.consume(&[&part[..], &["-o", point, "-c", "1", "-f", "%o %T %s\n"]].concat());
                read.trim().to_owned()
            };
            assert_eq!(&from(offset), middle);
            let first = lines.iter().find(|line| line.split(' ').nth(1) >= Some(time)).expect("it is there");
            assert_eq!(&from(&format!("s@{time}")), first);
        }
        found.sort_unstable();
        assert_eq!(found, (0..count).collect::<Vec<_>>(), "each is there once");
    }
}

/// All of them but kafka-python and aiokafka (see `docs/status.md`) at the same time, and Kafka Streams and Connect if `with_all`: three nodes are killed in turn, each
/// while all others are there.
pub(crate) async fn all_clients(nodes: &mut [Node], servers: &str, client: &Client, with_all: bool) {
    client.admin().create_topic(NewTopic::new(TOPIC).partitions(PARTITIONS).replication(3)).await.expect("created");
    let kcat = KcatAtWork::begin(servers);
    let mut others: Vec<Running> =
        vec![java::CLIENT.begin("Outlive", &[servers, "classic"]), java::CLIENT.begin("Outlive", &[servers, "consumer"])];
    others.push(python::begin("outlive.py", &["confluent", servers]));
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    if with_all {
        let [counts, copies] = dirs.each_ref().map(|dir| dir.path().display().to_string());
        others.push(java::STREAMS.begin("WordCount", &[servers, "outlive", &counts, "3"]));
        others.push(java::TOOLS.begin("Connect", &[servers, &copies, "0", LINES, PAUSE_MS]));
    }
    for other in &mut others {
        other.awaits("go");
    }
    for node in nodes {
        node.kill();
        tokio::time::sleep(GONE).await;
        node.serve();
        whole(client).await;
        tokio::time::sleep(GONE).await;
    }
    others.iter_mut().for_each(Running::tell);
    others.into_iter().for_each(Running::finish);
    kcat.finish();
}
