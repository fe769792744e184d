//! Millpond's own protocol, over bare frames: the adapter shares the messages with the client crate and nothing else, so that
//! it measures the server and not a client.
//!
//! Connections go straight to the cores that own the partitions. In reading order: [`conn`] one connection ·
//! [`producer`] · [`consumer`].

pub mod conn;
pub mod consumer;
pub mod producer;
#[cfg(test)]
mod tests;

use super::{ConsumerSpec, ProducerSpec, Seat, System, Topic};
use anyhow::{Context, Result, bail, ensure};
use conn::Conn;
use millpond_wire::messages::{
    CreateTopic, DeleteTopic, Done, Kind, ListOffset, ListOffsets, ListOffsetsReply, Metadata, MetadataReply, Setting, TopicReply,
};
use std::collections::BTreeMap;

/// `ListOffset::time_ms` for the end and the start of a partition.
const END: i64 = -1;
const START: i64 = -2;

/// A running Millpond.
#[derive(Clone, Debug)]
pub struct Native {
    /// Where it listens, `host:port`; the first that answers is used.
    pub servers: Vec<String>,
    /// Settings of the topics that are made.
    pub settings: Vec<(String, String)>,
}

/// A partition and the address of the core that owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) owner: String,
}

impl Native {
    /// A system at these addresses.
    #[must_use]
    pub fn new(servers: &[String]) -> Self {
        Self { servers: servers.to_vec(), settings: Vec::new() }
    }

    /// A connection to any core.
    ///
    /// # Errors
    /// If none answers.
    pub async fn any(&self) -> Result<Conn> {
        let mut last = None;
        for server in &self.servers {
            match Conn::open(server).await {
                Ok(conn) => return Ok(conn),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no server is named")))
    }

    /// All partitions of these topics, in order.
    async fn places(&self, topics: &[Topic]) -> Result<Vec<Place>> {
        let mut conn = self.any().await?;
        let asked = Metadata { topics: topics.iter().map(|t| t.name.clone()).collect(), internal: false, rack: String::new() };
        let reply: MetadataReply = conn.ask(Kind::Metadata, &asked).await?;
        let mut out = Vec::new();
        for topic in topics {
            let info = reply.topics.iter().find(|info| info.name == topic.name);
            let info = info.with_context(|| format!("the server does not know its topic {}", topic.name))?;
            if let Some(failure) = &info.failure {
                bail!("topic {}: {}", topic.name, failure.message);
            }
            for partition in &info.partitions {
                let endpoint = reply.endpoints.get(partition.endpoint as usize);
                let endpoint = endpoint.with_context(|| format!("metadata names endpoint {}, which it lacks", partition.endpoint))?;
                let owner = format!("{}:{}", endpoint.host, endpoint.port);
                out.push(Place { topic: topic.name.clone(), partition: partition.partition, owner });
            }
        }
        ensure!(!out.is_empty(), "the topics have no partitions");
        Ok(out)
    }

    /// The partitions of one connection, all of the same core.
    async fn seat(&self, topics: &[Topic], seat: Seat, shared: bool) -> Result<(String, Vec<Place>)> {
        Ok(share_out(self.places(topics).await?, seat, shared))
    }

    /// Start and end offset of each.
    async fn bounds(&self, places: &[Place]) -> Result<Vec<(u64, u64)>> {
        let mut conn = self.any().await?;
        let mut sides = Vec::new();
        for time_ms in [START, END] {
            let partitions = places
                .iter()
                .map(|p| ListOffset { topic: p.topic.clone(), partition: p.partition, time_ms, committed: false, leader_epoch: None })
                .collect::<Vec<_>>();
            let reply: ListOffsetsReply = conn.ask(Kind::ListOffsets, &ListOffsets { partitions }).await?;
            ensure!(reply.results.len() == places.len(), "{} answers to {} look-ups", reply.results.len(), places.len());
            if let Some(failure) = reply.results.iter().find_map(|r| r.failure.as_ref()) {
                bail!("looking up offsets: {}", failure.message);
            }
            sides.push(reply.results.iter().map(|r| r.offset).collect::<Vec<_>>());
        }
        Ok(sides[0].iter().copied().zip(sides[1].iter().copied()).collect())
    }
}

/// Shares partitions out to connections: connections go round the cores, and those of one core either all use all of its
/// partitions (`shared`) or divide them.
fn share_out(places: Vec<Place>, seat: Seat, shared: bool) -> (String, Vec<Place>) {
    let mut by_owner: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    places.into_iter().for_each(|place| by_owner.entry(place.owner.clone()).or_default().push(place));
    let owners = by_owner.len();
    let (owner, mut places) =
        by_owner.into_iter().nth(seat.number % owners).expect("the number is below their count, and there is at least one");
    let (rank, of) = (seat.number / owners, (seat.of - seat.number % owners).div_ceil(owners));
    if shared {
        // Each begins elsewhere, so that not all send to the same partition at a time.
        let begin = rank * places.len() / of % places.len();
        places.rotate_left(begin);
    } else {
        let mut n = 0;
        places.retain(|_| {
            n += 1;
            (n - 1) % of == rank
        });
    }
    (owner, places)
}

impl System for Native {
    type Producer = producer::NativeProducer;
    type Consumer = consumer::NativeConsumer;

    async fn describe(&self) -> Result<String> {
        Ok(self.any().await?.software().to_owned())
    }

    async fn create(&self, topic: &Topic) -> Result<()> {
        let setting = |(name, value): &(String, String)| Setting { name: name.clone(), value: value.clone(), is_default: false };
        let create = CreateTopic {
            name: topic.name.clone(),
            partitions: u32::try_from(topic.partitions).context("too many partitions")?,
            settings: self.settings.iter().map(setting).collect(),
            ..CreateTopic::default()
        };
        let _: TopicReply = self.any().await?.ask(Kind::CreateTopic, &create).await?;
        Ok(())
    }

    async fn delete(&self, topic: &Topic) -> Result<()> {
        let delete = DeleteTopic { name: topic.name.clone(), if_exists: true, topic_id: None };
        let _: Done = self.any().await?.ask(Kind::DeleteTopic, &delete).await?;
        Ok(())
    }

    async fn producer(&self, spec: ProducerSpec) -> Result<Self::Producer> {
        let (owner, places) = self.seat(&spec.topics, spec.seat, true).await?;
        let id = if spec.idempotent { Some(self.any().await?.producer_id().await?) } else { None };
        producer::NativeProducer::new(Conn::open(&owner).await?, &places, &spec, id)
    }

    async fn consumer(&self, spec: ConsumerSpec) -> Result<Self::Consumer> {
        let (owner, places) = self.seat(&spec.topics, spec.seat, false).await?;
        let bounds = self.bounds(&places).await?;
        Ok(consumer::NativeConsumer::new(Conn::open(&owner).await?, places, &bounds, &spec))
    }
}
