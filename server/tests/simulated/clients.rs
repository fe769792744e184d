//! Those who ask nodes for something, all through the run: each asks any node, goes where it is sent, and tries again as a client would.

use crate::{
    ask::{Open, Trouble},
    book::{Book, GROUPS, SHARED, TOPIC},
    members::{MEMBERS, Member},
};
use bytes::{Bytes, BytesMut};
use millpond_batch::{Builder, Compression, DecompressLimits, Header, Producer};
use millpond_runtime::{Rt, Share, sim::SimRt};
use millpond_wire::messages::{
    Code, CommitOffsets, CommitOffsetsReply, CreateTopic, DeleteTopic, Done, Failure, Fetch, FetchOffsets, FetchOffsetsReply,
    FetchPartition, FetchReply, InitProducer, InitProducerReply, Kind, ListOffset, ListOffsets, ListOffsetsReply, Metadata, MetadataReply,
    Position, Produce, ProduceBatch, ProduceReply, TopicPartitions, TopicReply,
};
use prost::Message;
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

/// What a node may say to whoever is to try again.
const AGAIN: [Code; 4] = [Code::NotOwner, Code::Unavailable, Code::MaybeDone, Code::Overloaded];

/// One client: where it asks next.
pub(crate) struct Client {
    pub(crate) rt: SimRt,
    pub(crate) book: Rc<Book>,
    at: Cell<Option<SocketAddr>>,
    /// The connection that it has used last, and where to.
    kept: RefCell<Option<(SocketAddr, Open)>>,
}

/// Starts all of them.
pub(crate) fn start(rt: &SimRt, book: &Rc<Book>, partitions: u32) {
    let client = || Client { at: Cell::new(None), ..Client::of(rt, book, book.servers[0]) };
    for partition in 0..partitions {
        let (plain, again, reader) = (client(), client(), client());
        rt.spawn("plain producer", Share::Serve, async move { plain.send(partition).await });
        rt.spawn("idempotent producer", Share::Serve, async move { again.send_until_there(partition).await });
        rt.spawn("reader", Share::Serve, async move { reader.read(partition).await });
    }
    for group in 0..GROUPS {
        let writer = client();
        rt.spawn("committer", Share::Serve, async move { writer.commit(group).await });
        for _ in 0..2 {
            let reader = client();
            rt.spawn("reader of positions", Share::Serve, async move { reader.look_up(group).await });
        }
    }
    for number in 0..MEMBERS {
        let member = Member::new(client(), number);
        rt.spawn("member", Share::Serve, member.run());
    }
    let maker = client();
    rt.spawn("maker of topics", Share::Serve, async move { maker.make_topics().await });
}

impl Client {
    pub(crate) async fn pause(&self, most_ms: u64) {
        loop {
            self.rt.sleep(Duration::from_millis(self.rt.rand() % most_ms)).await;
            if !self.book.quiet.get() {
                return;
            }
        }
    }

    /// Counts as busy until what it does is done.
    async fn busy<T>(&self, work: impl Future<Output = T>) -> T {
        self.book.busy.set(self.book.busy.get() + 1);
        let done = work.await;
        self.book.busy.set(self.book.busy.get() - 1);
        done
    }

    /// Asks once, the node that it was sent to last, or any.
    pub(crate) async fn ask<M: Message + Default>(
        &self,
        kind: Kind,
        request: &impl Message,
        payload: &[u8],
    ) -> Result<(M, BytesMut), Trouble> {
        let any = || self.book.servers[self.rt.rand() as usize % self.book.servers.len()];
        let at = self.at.get().unwrap_or_else(any);
        self.at.set(Some(at));
        let kept = self.kept.take().filter(|(to, _)| *to == at);
        let opened = match kept {
            Some((_, open)) => Ok(open),
            None => Open::dial(&self.rt, at).await,
        };
        let asked = match opened {
            Ok(mut open) => {
                let asked = open.ask(&self.rt, kind, request, payload).await;
                if !matches!(asked, Err(Trouble::Unknown)) {
                    self.kept.replace(Some((at, open)));
                }
                asked
            }
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = &asked {
            self.learn(trouble);
        }
        asked
    }

    /// Goes elsewhere next.
    fn learn(&self, trouble: &Trouble) {
        self.at.set(trouble.elsewhere());
        if self.at.get().is_some() {
            self.book.mark("requests sent elsewhere");
        }
    }

    /// A failure within an answer, as that of a whole one.
    pub(crate) fn refuse(&self, failure: Failure) -> Trouble {
        let trouble = Trouble::Refused(failure);
        self.learn(&trouble);
        trouble
    }

    /// Waits before the next try; nothing else but what is to be tried again may be said.
    pub(crate) async fn again(&self, trouble: Trouble) {
        if let Trouble::Refused(failure) = &trouble {
            assert!(AGAIN.contains(&failure.code()), "{failure:?}");
        }
        self.book.mark("tries again");
        self.rt.sleep(Duration::from_millis(20 + self.rt.rand() % 200)).await;
    }

    /// Appends a batch of one record.
    pub(crate) async fn produce(&self, partition: u32, batch: &[u8]) -> Result<(u64, bool), Trouble> {
        let batches = vec![ProduceBatch { topic: TOPIC.into(), partition, len: batch.len() as u32 }];
        let (reply, _): (ProduceReply, _) = self.ask(Kind::Produce, &Produce { batches, acks: 0 }, batch).await?;
        let result = reply.results.into_iter().next().unwrap();
        match result.failure {
            Some(failure) => Err(self.refuse(failure)),
            None => Ok((result.base_offset, result.duplicate)),
        }
    }

    /// Sends one record after the other, each once.
    async fn send(&self, partition: u32) {
        loop {
            self.pause(120).await;
            let value = self.book.value();
            match self.busy(self.produce(partition, &batch(value, None))).await {
                Ok((offset, duplicate)) => {
                    assert!(!duplicate, "nobody counts these");
                    self.book.ack(partition, offset, value);
                }
                Err(trouble) => {
                    let certain = matches!(&trouble, Trouble::Refused(failure) if failure.code() != Code::MaybeDone);
                    if certain || matches!(trouble, Trouble::Unsent) {
                        self.book.mark("records refused");
                        self.book.refused.borrow_mut().insert(value);
                    } else {
                        self.book.mark("records with an unknown end");
                    }
                    self.again(trouble).await;
                }
            }
        }
    }

    /// Sends each record, with its number, until somebody says that it is there.
    async fn send_until_there(&self, partition: u32) {
        let given = loop {
            match self.ask::<InitProducerReply>(Kind::InitProducer, &InitProducer {}, &[]).await {
                Ok((given, _)) => break given,
                Err(trouble) => self.again(trouble).await,
            }
        };
        for number in 0.. {
            self.pause(120).await;
            let value = self.book.value();
            let producer = Producer { id: given.producer_id as i64, epoch: given.epoch as i16, base_sequence: number };
            let batch = batch(value, Some(producer));
            let until_there = async {
                loop {
                    match self.produce(partition, &batch).await {
                        Ok((offset, duplicate)) => break (offset, duplicate),
                        Err(trouble) => self.again(trouble).await,
                    }
                }
            };
            let (offset, duplicate) = self.busy(until_there).await;
            if duplicate {
                self.book.mark("repeats found out");
            }
            self.book.ack(partition, offset, value);
        }
    }

    /// Reads what any replica has, and asks the leader where the partition ends.
    async fn read(&self, partition: u32) {
        let mut last = None;
        loop {
            self.pause(300).await;
            let known = self.book.ends.borrow()[partition as usize];
            // Often where it has read up to, which not every node knows of.
            let again = self.rt.rand().is_multiple_of(2);
            let (from, epoch) = match last.filter(|_| again) {
                Some((offset, epoch)) => (offset + 1, Some(epoch)),
                None if known == 0 => (0, None),
                None => (self.rt.rand() % known, None),
            };
            self.at.set(None);
            match self.fetch(partition, from, epoch).await {
                Ok((records, _)) => {
                    for (offset, epoch, value) in records.into_iter().filter(|(offset, ..)| *offset >= from) {
                        self.book.see(partition, offset, value);
                        last = Some((offset, epoch));
                    }
                }
                // It has read nothing that was not committed: nobody has another record there, and none are gone.
                Err(trouble) => self.again(trouble).await,
            }
            let look_up = ListOffset { topic: TOPIC.into(), partition, time_ms: -1, ..ListOffset::default() };
            let known = self.book.ends.borrow()[partition as usize];
            let asked = self.ask::<ListOffsetsReply>(Kind::ListOffsets, &ListOffsets { partitions: vec![look_up] }, &[]).await;
            let Ok((reply, _)) = asked else { continue };
            let found = reply.results.into_iter().next().unwrap();
            match found.failure {
                Some(failure) => drop(self.refuse(failure)),
                None => {
                    assert!(found.offset >= known, "partition {partition} is said to end at {}, {known} were acknowledged", found.offset);
                    self.book.mark("ends of partitions looked up");
                }
            }
        }
    }

    /// Some records of any replica from an offset on, each with its offset and epoch, and the end that it knows. `last_epoch` is that of the record before.
    pub(crate) async fn fetch(&self, partition: u32, offset: u64, last_epoch: Option<i32>) -> Result<(Vec<(u64, i32, u64)>, u64), Trouble> {
        let part = FetchPartition { topic: TOPIC.into(), partition, offset, bytes_max: 64 << 10, leader_epoch: None, last_epoch };
        let request = Fetch { partitions: vec![part], bytes_min: 1, bytes_max: 64 << 10, any_replica: true, ..Fetch::default() };
        let (reply, payload): (FetchReply, _) = self.ask(Kind::Fetch, &request, &[]).await?;
        let fetched = reply.partitions.into_iter().next().unwrap();
        assert_eq!(fetched.diverging, None, "offset {offset} of partition {partition}, after a record of epoch {last_epoch:?}");
        match fetched.failure {
            Some(failure) => Err(self.refuse(failure)),
            None => Ok((values_of(&payload.freeze()), fetched.end_offset)),
        }
    }

    /// The same of one node.
    pub(crate) fn of(rt: &SimRt, book: &Rc<Book>, at: SocketAddr) -> Self {
        Self { rt: rt.clone(), book: Rc::clone(book), at: Cell::new(Some(at)), kept: RefCell::new(None) }
    }

    /// Whom it asks next, if that is one alone.
    pub(crate) fn knows(&self) -> Option<SocketAddr> {
        self.at.get()
    }

    /// Moves a group's position on, each time until somebody says that it is kept.
    async fn commit(&self, group: usize) {
        let committer = self.rt.rand() | 1;
        for number in 1.. {
            self.pause(400).await;
            self.book.registers.borrow_mut()[group].sends(number);
            let position = Position { topic: TOPIC.into(), partition: 0, offset: number, ..Position::default() };
            let request = CommitOffsets {
                group: format!("group-{group}"),
                positions: vec![position],
                sequence: number,
                committer,
                ..CommitOffsets::default()
            };
            let until_kept = async {
                loop {
                    let asked = self.ask::<CommitOffsetsReply>(Kind::CommitOffsets, &request, &[]).await;
                    let failed = |reply: CommitOffsetsReply| reply.failures.into_iter().next().and_then(|failed| failed.failure);
                    match asked.map(|(reply, _)| failed(reply)) {
                        Ok(None) => return,
                        Ok(Some(failure)) => self.again(self.refuse(failure)).await,
                        Err(trouble) => self.again(trouble).await,
                    }
                }
            };
            self.busy(until_kept).await;
            self.book.mark("positions committed");
            self.book.registers.borrow_mut()[group].keeps(number);
        }
    }

    /// Reads a group's position now and then.
    async fn look_up(&self, group: usize) {
        loop {
            self.pause(300).await;
            // From time to time not whom it knows.
            if self.rt.rand().is_multiple_of(4) {
                self.at.set(None);
            }
            self.position(group).await;
        }
    }

    /// Reads the position of a group without members once: whether there was an answer.
    pub(crate) async fn position(&self, group: usize) -> bool {
        let before = self.book.registers.borrow()[group];
        let Some(found) = self.asked_position(&format!("group-{group}"), 0).await else { return false };
        self.book.registers.borrow_mut()[group].reads(found, before, &format!("group {group}"));
        true
    }

    /// The position of the group with members in a partition, if there was an answer.
    pub(crate) async fn shared_position(&self, partition: u32) -> Option<u64> {
        let before = self.book.shared.borrow()[partition as usize];
        let found = self.asked_position(SHARED, partition).await?;
        self.book.shared.borrow_mut()[partition as usize].reads(found, before, &format!("members in partition {partition}"));
        Some(found)
    }

    async fn asked_position(&self, group: &str, partition: u32) -> Option<u64> {
        let partitions = vec![TopicPartitions { topic: TOPIC.into(), partitions: vec![partition] }];
        let request = FetchOffsets { group: group.into(), partitions };
        match self.ask::<FetchOffsetsReply>(Kind::FetchOffsets, &request, &[]).await {
            Ok((reply, _)) => {
                self.book.mark("positions read");
                Some(reply.positions.first().map_or(0, |position| position.offset))
            }
            Err(trouble) => {
                self.again(trouble).await;
                None
            }
        }
    }

    /// Makes topics, and takes some away again.
    async fn make_topics(&self) {
        for number in 0.. {
            self.pause(3_000).await;
            let name = format!("made-{number}");
            self.busy(self.make_topic(&name)).await;
            if self.rt.rand().is_multiple_of(2) {
                self.busy(self.end_topic(&name)).await;
            }
        }
    }

    async fn make_topic(&self, name: &str) {
        let attempt = self.rt.rand() | 1;
        let id = loop {
            // As our client does: a request that is late on its way must not bring back what was taken away meanwhile.
            let as_of = match self.ask::<MetadataReply>(Kind::Metadata, &Metadata::default(), &[]).await {
                Ok((reply, _)) => reply.epoch,
                Err(trouble) => {
                    self.again(trouble).await;
                    continue;
                }
            };
            let request = CreateTopic { name: name.to_owned(), partitions: 1, replication: 3, as_of, attempt, ..CreateTopic::default() };
            match self.ask::<TopicReply>(Kind::CreateTopic, &request, &[]).await {
                Ok((reply, _)) => break reply.topic.unwrap().topic_id,
                Err(Trouble::Refused(failure)) if failure.code() == Code::Outdated => self.book.mark("topics asked for by an old epoch"),
                Err(trouble) => self.again(trouble).await,
            }
        };
        self.book.mark("topics created");
        self.book.made.borrow_mut().insert(name.to_owned(), id);
    }

    async fn end_topic(&self, name: &str) {
        let id = self.book.made.borrow()[name];
        let request = DeleteTopic { name: name.to_owned(), if_exists: true, topic_id: Some(id) };
        loop {
            match self.ask::<Done>(Kind::DeleteTopic, &request, &[]).await {
                Ok(_) => break,
                Err(trouble) => self.again(trouble).await,
            }
        }
        self.book.mark("topics deleted");
        self.book.gone.borrow_mut().insert(name.to_owned());
    }
}

pub(crate) fn batch(value: u64, producer: Option<Producer>) -> BytesMut {
    let mut builder = Builder::new(Compression::None, 256);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    builder.append(1_700_000_000_000, Some(&value.to_le_bytes()), Some(&vec![value as u8; value as usize % 2_000]), &headers);
    builder.build(producer).unwrap()
}

/// Offsets, epochs and values of batches of one record each.
fn values_of(batches: &Bytes) -> Vec<(u64, i32, u64)> {
    let value = |(header, batch): (Header, &[u8])| {
        let record = millpond_batch::records(&Bytes::copy_from_slice(batch), DecompressLimits::bytes(1 << 20)).unwrap().next();
        (header.base_offset, header.leader_epoch, u64::from_le_bytes(record.unwrap().unwrap().key.as_deref().unwrap().try_into().unwrap()))
    };
    millpond_batch::split(batches).map(|split| value(split.unwrap())).collect()
}
