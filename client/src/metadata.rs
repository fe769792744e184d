//! What is known of topics, and of where they live.

use millpond_wire::messages::{Code, Failure, MetadataReply, Setting};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// A topic as it was when last asked for.
#[derive(Clone, Debug)]
pub(crate) struct TopicMeta {
    pub(crate) name: Arc<str>,
    pub(crate) topic_id: u64,
    /// The endpoint of each partition's owner.
    pub(crate) owners: Vec<Arc<str>>,
    /// The endpoint of a replica of each partition that stands where this client does, where its owner does not.
    pub(crate) near: Vec<Option<Arc<str>>>,
    /// The largest batch that it takes, in bytes.
    pub(crate) batch_bytes_max: usize,
    learnt: Instant,
}

/// The largest batch that a topic takes if its settings do not say, in bytes.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

#[derive(Default)]
struct Known {
    topics: HashMap<Arc<str>, Arc<TopicMeta>>,
    endpoints: Arc<Vec<Arc<str>>>,
}

/// See the module. Holds topics that were asked for by name, or all; they are few enough to be kept.
pub(crate) struct Cache {
    age_max: Duration,
    known: Mutex<Known>,
}

impl Cache {
    pub(crate) fn new(age_max: Duration) -> Self {
        Self { age_max, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no code panics while it holds this lock")
    }

    /// Takes in an answer. Topics that the server says are not there are forgotten.
    pub(crate) fn learn(&self, reply: &MetadataReply) {
        let endpoints: Vec<Arc<str>> = reply.endpoints.iter().map(|e| endpoint_name(&e.host, e.port)).collect();
        let mut known = self.lock();
        for topic in &reply.topics {
            if topic.failure.is_some() {
                known.topics.remove(topic.name.as_str());
                continue;
            }
            let mut partitions: Vec<(u32, u32, Option<u32>)> = topic.partitions.iter().map(|p| (p.partition, p.endpoint, p.near)).collect();
            partitions.sort_unstable();
            let owners: Option<Vec<Arc<str>>> = partitions.iter().map(|(_, at, _)| endpoints.get(*at as usize).cloned()).collect();
            let near = partitions.iter().map(|(_, _, near)| endpoints.get((*near)? as usize).cloned()).collect();
            let dense = partitions.iter().enumerate().all(|(n, (partition, ..))| *partition == n as u32);
            let Some(owners) = owners.filter(|_| dense) else {
                tracing::warn!(topic = topic.name, "the server's metadata of this topic make no sense and are ignored");
                continue;
            };
            let name: Arc<str> = topic.name.as_str().into();
            if known.topics.get(&name).is_some_and(|known| known.topic_id > topic.topic_id) {
                // Ids only grow: whoever says so has not heard of the topic that was created anew.
                continue;
            }
            let batch_bytes_max = batch_bytes_max(&topic.settings);
            let meta =
                TopicMeta { name: Arc::clone(&name), topic_id: topic.topic_id, owners, near, batch_bytes_max, learnt: Instant::now() };
            known.topics.insert(name, Arc::new(meta));
        }
        if !endpoints.is_empty() {
            known.endpoints = Arc::new(endpoints);
        }
    }

    /// What is known of a topic, if it is young enough.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<TopicMeta>> {
        self.topic_of_any_age(name).filter(|t| t.learnt.elapsed() < self.age_max)
    }

    /// What is known of a topic.
    pub(crate) fn topic_of_any_age(&self, name: &str) -> Option<Arc<TopicMeta>> {
        self.lock().topics.get(name).cloned()
    }

    /// Forgets a topic.
    pub(crate) fn forget(&self, name: &str) {
        self.lock().topics.remove(name);
    }

    /// Every core of every node.
    pub(crate) fn endpoints(&self) -> Arc<Vec<Arc<str>>> {
        Arc::clone(&self.lock().endpoints)
    }
}

/// The endpoint that answers for a partition, where whoever refuses to says which.
pub(crate) fn redirection(failure: &Failure) -> Option<Arc<str>> {
    (failure.code() == Code::NotOwner && failure.port != 0).then(|| endpoint_name(&failure.host, failure.port))
}

fn endpoint_name(host: &str, port: u32) -> Arc<str> {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}").into() } else { format!("{host}:{port}").into() }
}

fn batch_bytes_max(settings: &[Setting]) -> usize {
    let setting = settings.iter().find(|s| s.name == "max.message.bytes");
    setting.and_then(|s| s.value.parse().ok()).unwrap_or(BATCH_BYTES_MAX)
}
