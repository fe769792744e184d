use super::*;
use crate::coordinator::{
    Refused as NativeRefused, TopicView,
    tests::{keep, read_back},
};

mod chaos;
mod examples;

/// A coordinator, and the log that it is written to.
struct Seat {
    now_ms: u64,
    coordinator: Coordinator,
    log: Vec<Record>,
    topics: BTreeMap<Arc<str>, TopicView>,
    born: u64,
}

impl Seat {
    fn new(list: &[(&str, u64, u32)]) -> Self {
        let mut seat = Self { now_ms: 0, coordinator: Coordinator::new(), log: Vec::new(), topics: BTreeMap::new(), born: 0 };
        seat.tell(list);
        seat
    }

    /// Topics, their ids and partitions.
    fn tell(&mut self, list: &[(&str, u64, u32)]) {
        self.topics =
            list.iter().map(|(name, topic_id, n)| (Arc::from(*name), TopicView { topic_id: *topic_id, partitions: *n })).collect();
        self.coordinator.set_topics(self.topics.clone());
        self.keep();
    }

    /// Another node looks after the groups: it knows what was written.
    fn moves(&mut self) {
        self.coordinator = read_back(&self.log);
        self.coordinator.set_topics(self.topics.clone());
        self.keep();
    }

    fn keep(&mut self) {
        keep(&mut self.coordinator, &mut self.log);
        self.coordinator.check();
    }

    fn beat(&mut self, beat: &Beat) -> Result<Beaten, Refused> {
        self.born += 1;
        let beaten = self.coordinator.beat_consumer(self.now_ms, beat.clone(), format!("born-{}", self.born));
        self.keep();
        beaten
    }

    fn wait(&mut self, ms: u64) -> Vec<String> {
        self.now_ms += ms;
        let expired = self.coordinator.expire(self.now_ms);
        self.keep();
        expired.into_iter().map(|gone| gone.member).collect()
    }

    fn described(&self) -> Described {
        self.coordinator.described_consumer("g").expect("it has members")
    }
}

/// A first heartbeat.
fn join(member: &str, names: &[&str]) -> Beat {
    Beat {
        group: "g".into(),
        member: member.into(),
        rebalance_timeout_ms: Some(30_000),
        names: Some(names.iter().map(ToString::to_string).collect()),
        owned: Some(BTreeSet::new()),
        ..Beat::default()
    }
}

fn slots(topic_id: u64, partitions: impl IntoIterator<Item = u32>) -> BTreeSet<Slot> {
    partitions.into_iter().map(|partition| Slot { topic_id, partition }).collect()
}
