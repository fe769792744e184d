use super::*;
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};

mod chaos;
mod examples;

/// A coordinator, and the log that it is written to.
#[derive(Default)]
struct Seat {
    now_ms: u64,
    coordinator: Coordinator,
    log: Vec<Record>,
    names: u64,
}

type Answer<T> = Result<Receiver<Result<T, Refused>>, Refused>;

impl Seat {
    fn new() -> Self {
        let mut seat = Self::default();
        seat.tell_topics();
        seat
    }

    fn tell_topics(&mut self) {
        let view = super::super::TopicView { topic_id: 7, partitions: 12 };
        self.coordinator.set_topics(BTreeMap::from([(Arc::from("t"), view)]));
    }

    /// Another node looks after the groups: it knows what was written.
    fn moves(&mut self) {
        self.coordinator = Coordinator::new();
        for record in &self.log {
            self.coordinator.apply(&record.key, record.value.as_deref()).expect("it was written so");
        }
        self.tell_topics();
        self.coordinator.check();
    }

    fn keep(&mut self, records: Vec<Record>) {
        for record in records {
            self.coordinator.apply(&record.key, record.value.as_deref()).expect("it was written so");
            self.log.push(record);
        }
        self.coordinator.check();
    }

    fn join(&mut self, join: &Join) -> Answer<Joined> {
        self.names += 1;
        let Begun { records, answer } = self.coordinator.join(self.now_ms, join.clone(), format!("{}-{}", join.client_id, self.names))?;
        self.keep(records);
        Ok(answer)
    }

    fn sync(&mut self, sync: &Sync) -> Answer<Synced> {
        let Begun { records, answer } = self.coordinator.sync(self.now_ms, sync)?;
        self.keep(records);
        Ok(answer)
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.coordinator.expire(self.now_ms);
        self.coordinator.check();
        let records = self.coordinator.take_over(100);
        self.keep(records);
    }
}

fn protocol(name: &str, metadata: &'static str) -> Protocol {
    Protocol { name: name.into(), metadata: Bytes::from_static(metadata.as_bytes()) }
}

fn join(client: &str) -> Join {
    Join {
        group: "g".into(),
        member: String::new(),
        instance: None,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range", "m")],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        client_id: client.into(),
        host: "/127.0.0.1".into(),
        named_first: false,
        may_skip: true,
    }
}

fn speaker(joined: &Joined) -> Speaker {
    Speaker { group: "g".into(), member: joined.member.clone(), instance: None, generation: joined.generation }
}

/// What has been answered by now.
fn now<T>(answer: Answer<T>) -> Result<T, Refused> {
    answer?.try_recv().expect("it is answered")
}

fn later<T>(answer: Answer<T>) -> Receiver<Result<T, Refused>> {
    let mut answer = answer.expect("it is taken");
    assert!(answer.try_recv().is_err(), "it is not answered yet");
    answer
}

fn then<T>(mut answer: Receiver<Result<T, Refused>>) -> Result<T, Refused> {
    answer.try_recv().expect("it is answered")
}
