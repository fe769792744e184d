//! A server of the native protocol for tests: topics in memory, and faults on order.
//!
//! It answers as the real one is documented to: replies in the order of requests, batches with base offsets, the last five
//! batches of a producer remembered. Each node is a listener; partition N lives on node `owners[N]`.

use bytes::{Bytes, BytesMut};
use millpond_batch::{Header, check, stamp};
use millpond_wire::{
    frame::{Decoder, Flags, Frame, encode},
    messages::*,
};
use prost::Message;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection ends before anything is done.
    DropBefore,
    /// It is done, and the connection ends before the reply.
    DropAfter,
    /// It is done, and half of the reply is sent before the connection ends.
    HalfReply,
    /// It is not done and never answered; the connection stays.
    Silence,
    /// It is refused.
    Refuse(Failure),
    /// It is done, and the reply is late.
    Late(Duration),
    /// It is done, and the reply is not a frame.
    Garbage,
}

/// What a hook sees: node, kind, the number of such requests before, and the frame.
pub(crate) type Hook = Box<dyn FnMut(usize, Kind, u64, &Frame) -> Option<Fault> + Send>;

#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) owner: usize,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) batches: Vec<Bytes>,
    producers: HashMap<i64, Producer>,
}

/// A producer's epoch, and its last batches: first and last sequence, base offset.
type Producer = (i16, VecDeque<(i32, i32, u64)>);

#[derive(Default)]
pub(crate) struct Topic {
    pub(crate) id: u64,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) settings: Vec<Setting>,
    attempt: u64,
}

#[derive(Default)]
struct Group {
    epoch: i64,
    members: BTreeMap<String, Member>,
    positions: BTreeMap<(String, u32), u64>,
}

#[derive(Default, Clone)]
struct Member {
    epoch: i64,
    /// The epoch that it joined with: an older one is of an earlier membership.
    joined: i64,
    topics: Vec<String>,
    assigned: Vec<(String, u32)>,
    owned: Vec<(String, u32)>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) topics: BTreeMap<String, Topic>,
    groups: BTreeMap<String, Group>,
    quotas: Vec<AlterQuota>,
    counts: HashMap<Kind, u64>,
    hook: Option<Hook>,
    next_id: u64,
}

pub(crate) struct Server {
    addrs: Vec<SocketAddr>,
    state: Mutex<State>,
    grown: Notify,
    producer_ids: AtomicU64,
    /// Whoever refuses for another node says where that is.
    pub(crate) directs: AtomicBool,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.lock().expect("whole").iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Handle of a test.
pub(crate) struct Mock(pub Arc<Server>);

impl Mock {
    /// Starts with so many nodes.
    pub(crate) async fn start(nodes: usize) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        }
        let addrs = listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
        let server = Arc::new(Server {
            addrs,
            state: Mutex::default(),
            grown: Notify::new(),
            producer_ids: AtomicU64::new(100),
            directs: AtomicBool::new(false),
            tasks: Mutex::default(),
        });
        for (node, listener) in listeners.into_iter().enumerate() {
            let weak = Arc::downgrade(&server);
            let task = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let Some(server) = weak.upgrade() else { return };
                    tokio::spawn(async move {
                        // A client that goes away is none of ours.
                        let _ = server.serve(node, stream).await;
                    });
                }
            });
            server.tasks.lock().expect("whole").push(task);
        }
        Self(server)
    }

    pub(crate) fn address(&self) -> String {
        self.0.addrs[0].to_string()
    }

    pub(crate) fn address_of(&self, node: usize) -> String {
        self.0.addrs[node].to_string()
    }

    /// The node listens no longer; connections that stand stay.
    pub(crate) fn deafen(&self, node: usize) {
        self.0.tasks.lock().expect("whole")[node].abort();
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Has `hook` look at every request from now on.
    pub(crate) fn hook(&self, hook: impl FnMut(usize, Kind, u64, &Frame) -> Option<Fault> + Send + 'static) {
        self.state().hook = Some(Box::new(hook));
    }

    /// A topic whose partition N lives on node N modulo the nodes.
    pub(crate) fn topic(&self, name: &str, partitions: usize) {
        let nodes = self.0.addrs.len();
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        let partition = |n| Partition { owner: n % nodes, ..Partition::default() };
        state
            .topics
            .insert(name.into(), Topic { id, partitions: (0..partitions).map(partition).collect(), settings: Vec::new(), attempt: 0 });
    }

    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.state().counts.get(&kind).copied().unwrap_or(0)
    }

    /// All values of a partition, by offset.
    pub(crate) fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        let state = self.state();
        let mut values = Vec::new();
        for batch in &state.topics[topic].partitions[partition].batches {
            for record in millpond_batch::records(batch, Default::default()).expect("a stored batch") {
                let record = record.expect("a stored record");
                assert_eq!(record.offset, values.len() as u64, "offsets are dense");
                values.push(String::from_utf8(record.value.expect("a value").to_vec()).expect("text"));
            }
        }
        values
    }

    pub(crate) fn committed(&self, group: &str, topic: &str, partition: u32) -> Option<u64> {
        self.state().groups.get(group)?.positions.get(&(topic.to_owned(), partition)).copied()
    }

    /// Forgets all members of all groups, as after a restart.
    pub(crate) fn forget_members(&self) {
        self.state().groups.values_mut().for_each(|g| g.members.clear());
    }
}

fn failure(code: Code, message: &str) -> Failure {
    Failure::new(code, message, "as the mock advises")
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this lock")
    }

    async fn serve(&self, node: usize, mut stream: TcpStream) -> std::io::Result<()> {
        let mut buf = BytesMut::new();
        let decoder = Decoder { frame_bytes_max: 64 << 20 };
        loop {
            while let Some(frame) = decoder.decode(&mut buf).map_err(std::io::Error::other)? {
                let fault = {
                    let mut state = self.lock();
                    let count = state.counts.entry(frame.kind).or_default();
                    let before = *count;
                    *count += 1;
                    state.hook.as_mut().and_then(|hook| hook(node, frame.kind, before, &frame))
                };
                match fault {
                    Some(Fault::DropBefore) => return Ok(()),
                    Some(Fault::Silence) => continue,
                    Some(Fault::Refuse(failure)) => {
                        stream.write_all(&encode(frame.kind, Flags::FAILURE, frame.correlation, &failure, 0)).await?;
                        continue;
                    }
                    _ => {}
                }
                let Some(reply) = self.carry_out(node, &frame).await else { continue };
                match fault {
                    Some(Fault::DropAfter) => return Ok(()),
                    Some(Fault::HalfReply) => return stream.write_all(&reply[..reply.len() / 2]).await,
                    Some(Fault::Garbage) => stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?,
                    Some(Fault::Late(by)) => {
                        tokio::time::sleep(by).await;
                        stream.write_all(&reply).await?;
                    }
                    _ => stream.write_all(&reply).await?,
                }
            }
            if stream.read_buf(&mut buf).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn carry_out(&self, node: usize, frame: &Frame) -> Option<Vec<u8>> {
        fn answer<M: Message>(frame: &Frame, result: Result<M, Failure>) -> Option<Vec<u8>> {
            Some(match result {
                Ok(message) => encode(frame.kind, Flags::REPLY, frame.correlation, &message, 0).to_vec(),
                Err(failure) => encode(frame.kind, Flags::FAILURE, frame.correlation, &failure, 0).to_vec(),
            })
        }
        fn ask<M: Message + Default>(frame: &Frame) -> M {
            frame.message().expect("the client's messages parse")
        }
        match frame.kind {
            Kind::Hello => answer(frame, Ok(Welcome { version: 1, software: "mock".into(), ..Welcome::default() })),
            Kind::Metadata => answer(frame, Ok(self.metadata(&ask(frame)))),
            Kind::CreateTopic => answer(frame, self.create(&ask(frame))),
            Kind::DeleteTopic => answer(frame, self.delete(&ask(frame))),
            Kind::AlterTopic => answer(frame, self.alter(&ask(frame))),
            Kind::InitProducer => {
                let producer_id = self.producer_ids.fetch_add(1, Ordering::Relaxed);
                answer(frame, Ok(InitProducerReply { producer_id, epoch: 0 }))
            }
            Kind::Produce => self.produce(node, frame),
            Kind::Fetch => Some(self.fetch(node, frame).await),
            Kind::ListOffsets => answer(frame, Ok(self.list_offsets(&ask(frame)))),
            Kind::DeleteRecords => answer(frame, self.delete_records(&ask(frame))),
            Kind::GroupHeartbeat => answer(frame, self.heartbeat(&ask(frame))),
            Kind::CommitOffsets => answer(frame, self.commit(&ask(frame))),
            Kind::FetchOffsets => answer(frame, Ok(self.fetch_offsets(&ask(frame)))),
            Kind::ListGroups => answer(frame, Ok(self.list_groups())),
            Kind::DescribeGroup => answer(frame, self.describe_group(&ask(frame))),
            Kind::DeleteGroup => answer(frame, self.delete_group(&ask(frame))),
            Kind::AlterQuota => {
                self.lock().quotas.push(ask(frame));
                answer(frame, Ok(Done {}))
            }
            Kind::ListQuotas => answer(frame, Ok(ListQuotasReply { quotas: self.lock().quotas.clone() })),
            Kind::Ping => answer(frame, Ok(Done {})),
            // What nodes ask of each other, and those who look after them.
            _ => None,
        }
    }

    fn info(name: &str, topic: &Topic) -> TopicInfo {
        let partition = |(n, p): (usize, &Partition)| PartitionInfo {
            partition: n as u32,
            endpoint: p.owner as u32,
            start_offset: p.start,
            end_offset: p.end,
            ..PartitionInfo::default()
        };
        TopicInfo {
            name: name.into(),
            topic_id: topic.id,
            partitions: topic.partitions.iter().enumerate().map(partition).collect(),
            settings: topic.settings.clone(),
            ..TopicInfo::default()
        }
    }

    fn metadata(&self, request: &Metadata) -> MetadataReply {
        let state = self.lock();
        let endpoint =
            |(n, a): (usize, &SocketAddr)| Endpoint { node_id: n as u64, core: 0, host: a.ip().to_string(), port: u32::from(a.port()) };
        let missing = |name: &String| TopicInfo {
            name: name.clone(),
            failure: Some(failure(Code::UnknownTopic, "no such topic")),
            ..TopicInfo::default()
        };
        let topics = if request.topics.is_empty() {
            state.topics.iter().map(|(name, topic)| Self::info(name, topic)).collect()
        } else {
            let one = |name: &String| state.topics.get(name).map_or_else(|| missing(name), |t| Self::info(name, t));
            request.topics.iter().map(one).collect()
        };
        MetadataReply { endpoints: self.addrs.iter().enumerate().map(endpoint).collect(), topics, ..MetadataReply::default() }
    }

    fn create(&self, request: &CreateTopic) -> Result<TopicReply, Failure> {
        let mut state = self.lock();
        if let Some(topic) = state.topics.get(&request.name) {
            let is_again = request.attempt != 0 && request.attempt == topic.attempt;
            if !is_again && !request.if_not_exists {
                return Err(failure(Code::TopicExists, "it is there"));
            }
            return Ok(TopicReply { topic: Some(Self::info(&request.name, topic)), changed: is_again });
        }
        state.next_id += 1;
        let nodes = self.addrs.len();
        let partition = |n| Partition { owner: n % nodes, ..Partition::default() };
        let partitions = (0..request.partitions.max(1) as usize).map(partition).collect();
        let topic = Topic { id: state.next_id, partitions, settings: request.settings.clone(), attempt: request.attempt };
        let info = Self::info(&request.name, &topic);
        if !request.dry_run {
            state.topics.insert(request.name.clone(), topic);
        }
        Ok(TopicReply { topic: Some(info), changed: true })
    }

    fn delete(&self, request: &DeleteTopic) -> Result<Done, Failure> {
        let gone = self.lock().topics.remove(&request.name).is_some();
        if gone || request.if_exists { Ok(Done {}) } else { Err(failure(Code::UnknownTopic, "no such topic")) }
    }

    fn alter(&self, request: &AlterTopic) -> Result<TopicReply, Failure> {
        let mut state = self.lock();
        let nodes = self.addrs.len();
        let topic = state.topics.get_mut(&request.name).ok_or_else(|| failure(Code::UnknownTopic, "no such topic"))?;
        while topic.partitions.len() < request.partitions as usize {
            topic.partitions.push(Partition { owner: topic.partitions.len() % nodes, ..Partition::default() });
        }
        topic.settings.extend(request.settings.iter().cloned());
        Ok(TopicReply { topic: Some(Self::info(&request.name, topic)), changed: true })
    }

    /// Says who owns a partition, if that is wanted. Of one that nobody owns each node says that the next one does.
    fn not_owner(&self, node: usize, owner: usize) -> Failure {
        let failure = failure(Code::NotOwner, "another core has it");
        if !self.directs.load(Ordering::Relaxed) {
            return failure;
        }
        let there = if owner < self.addrs.len() { owner } else { (node + 1) % self.addrs.len() };
        let at = self.addrs[there];
        Failure { host: at.ip().to_string(), port: u32::from(at.port()), node_id: there as u64 + 1, ..failure }
    }

    fn produce(&self, node: usize, frame: &Frame) -> Option<Vec<u8>> {
        let request: Produce = frame.message().expect("the client's messages parse");
        let mut payload = frame.payload.clone();
        let mut results = Vec::new();
        for batch in &request.batches {
            let bytes = payload.split_to(batch.len as usize);
            let mut state = self.lock();
            let partition = state.topics.get_mut(&batch.topic).and_then(|t| t.partitions.get_mut(batch.partition as usize));
            let appended = match partition {
                None => Err(failure(Code::UnknownTopic, "no such partition")),
                Some(p) if p.owner != node => Err(self.not_owner(node, p.owner)),
                Some(p) => p.append(bytes),
            };
            results.push(match appended {
                Ok((base_offset, duplicate)) => ProduceResult { base_offset, duplicate, append_time_ms: -1, failure: None },
                Err(failure) => ProduceResult { append_time_ms: -1, failure: Some(failure), ..ProduceResult::default() },
            });
        }
        assert!(payload.is_empty(), "bytes behind the batches that were announced");
        self.grown.notify_waiters();
        if request.acks == Acks::None as i32 {
            return None;
        }
        let reply = ProduceReply { results, throttle_ms: 0 };
        Some(encode(frame.kind, Flags::REPLY, frame.correlation, &reply, 0).to_vec())
    }

    async fn fetch(&self, node: usize, frame: &Frame) -> Vec<u8> {
        let request: Fetch = frame.message().expect("the client's messages parse");
        let until = tokio::time::Instant::now() + Duration::from_millis(u64::from(request.wait_ms_max));
        loop {
            let grown = self.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            let (reply, payload) = self.read(node, &request);
            let failed = reply.partitions.iter().any(|p| p.failure.is_some());
            if payload.len() >= request.bytes_min as usize || failed || tokio::time::Instant::now() >= until {
                let mut out = encode(frame.kind, Flags::REPLY, frame.correlation, &reply, payload.len()).to_vec();
                out.extend_from_slice(&payload);
                return out;
            }
            tokio::select! {
                () = grown => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    fn read(&self, node: usize, request: &Fetch) -> (FetchReply, Vec<u8>) {
        let state = self.lock();
        let (mut reply, mut payload) = (FetchReply::default(), Vec::new());
        for asked in &request.partitions {
            let mut got = FetchedPartition { next_offset: asked.offset, ..FetchedPartition::default() };
            match state.topics.get(&asked.topic).and_then(|t| t.partitions.get(asked.partition as usize)) {
                None => got.failure = Some(failure(Code::UnknownTopic, "no such partition")),
                Some(p) if p.owner != node => got.failure = Some(self.not_owner(node, p.owner)),
                Some(p) if asked.offset < p.start || asked.offset > p.end => {
                    got.failure = Some(failure(Code::OffsetOutOfRange, "out of range"));
                }
                Some(p) => {
                    (got.start_offset, got.end_offset) = (p.start, p.end);
                    for batch in &p.batches {
                        let header = Header::parse(batch).expect("a stored batch");
                        let full = got.len as usize + batch.len() > asked.bytes_max as usize
                            || payload.len() + batch.len() > request.bytes_max as usize;
                        if header.next_offset() <= asked.offset {
                            continue;
                        }
                        if full && !payload.is_empty() {
                            break;
                        }
                        payload.extend_from_slice(batch);
                        got.len += batch.len() as u32;
                        got.next_offset = header.next_offset();
                    }
                }
            }
            reply.partitions.push(got);
        }
        (reply, payload)
    }

    fn list_offsets(&self, request: &ListOffsets) -> ListOffsetsReply {
        let state = self.lock();
        let one = |asked: &ListOffset| {
            let Some(p) = state.topics.get(&asked.topic).and_then(|t| t.partitions.get(asked.partition as usize)) else {
                return ListedOffset { failure: Some(failure(Code::UnknownTopic, "no such partition")), ..ListedOffset::default() };
            };
            let records = || p.batches.iter().flat_map(|b| millpond_batch::records(b, Default::default()).expect("a stored batch"));
            let found = match asked.time_ms {
                -1 => (p.end, -1),
                -2 => (p.start, -1),
                -3 => records().flatten().max_by_key(|r| r.timestamp).map_or((p.end, -1), |r| (r.offset, r.timestamp)),
                ms => records().flatten().find(|r| r.timestamp >= ms).map_or((p.end, -1), |r| (r.offset, r.timestamp)),
            };
            ListedOffset { offset: found.0, time_ms: found.1, ..ListedOffset::default() }
        };
        ListOffsetsReply { results: request.partitions.iter().map(one).collect() }
    }

    fn delete_records(&self, request: &DeleteRecords) -> Result<DeleteRecordsReply, Failure> {
        let mut state = self.lock();
        let p = state.topics.get_mut(&request.topic).and_then(|t| t.partitions.get_mut(request.partition as usize));
        let p = p.ok_or_else(|| failure(Code::UnknownTopic, "no such partition"))?;
        if request.before > p.end {
            return Err(failure(Code::OffsetOutOfRange, "past the end"));
        }
        p.start = p.start.max(request.before);
        Ok(DeleteRecordsReply { start_offset: p.start })
    }

    /// Partitions go to the members in turn; one that another member owns is given when that one no longer says so.
    fn heartbeat(&self, request: &GroupHeartbeat) -> Result<GroupHeartbeatReply, Failure> {
        let mut state = self.lock();
        let counts: BTreeMap<String, u32> = state.topics.iter().map(|(n, t)| (n.clone(), t.partitions.len() as u32)).collect();
        let group = state.groups.entry(request.group.clone()).or_default();
        if request.member_epoch == -1 {
            group.members.remove(&request.member_id);
            return Ok(GroupHeartbeatReply { member_epoch: -1, ..GroupHeartbeatReply::default() });
        }
        let known = group.members.contains_key(&request.member_id);
        if !known && request.member_epoch != 0 {
            return Err(failure(Code::UnknownMember, "who are you"));
        }
        let member = group.members.entry(request.member_id.clone()).or_default();
        if request.member_epoch != 0 && request.member_epoch != member.epoch {
            return Err(failure(Code::FencedMember, "stale epoch"));
        }
        member.topics = request.topics.clone();
        if request.member_epoch != 0 || !known {
            let flat = |t: &TopicPartitions| t.partitions.iter().map(|p| (t.topic.clone(), *p)).collect::<Vec<_>>();
            member.owned = request.owned.iter().flat_map(flat).collect();
        }
        let ids: Vec<String> = group.members.keys().cloned().collect();
        let place = ids.iter().position(|id| *id == request.member_id).expect("inserted above");
        let mut target = Vec::new();
        for topic in &request.topics {
            let mine = (0..counts.get(topic).copied().unwrap_or(0)).filter(|p| *p as usize % ids.len() == place);
            target.extend(mine.map(|p| (topic.clone(), p)));
        }
        let held: Vec<(String, u32)> = group
            .members
            .iter()
            .filter(|(id, _)| **id != request.member_id)
            .flat_map(|(_, m)| m.owned.iter().chain(&m.assigned).cloned().collect::<Vec<_>>())
            .collect();
        target.retain(|part| !held.contains(part));
        let changed = group.members[&request.member_id].assigned != target || group.members[&request.member_id].epoch == 0;
        if changed {
            group.epoch += 1;
        }
        let epoch = group.epoch;
        let member = group.members.get_mut(&request.member_id).expect("inserted above");
        if changed {
            member.joined = if member.epoch == 0 { epoch } else { member.joined };
            member.epoch = epoch;
            member.assigned = target;
        }
        let mut assigned: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        member.assigned.iter().for_each(|(t, p)| assigned.entry(t.clone()).or_default().push(*p));
        let assigned = assigned.into_iter().map(|(topic, partitions)| TopicPartitions { topic, partitions }).collect();
        Ok(GroupHeartbeatReply { member_epoch: member.epoch, assigned, heartbeat_ms: 20 })
    }

    fn commit(&self, request: &CommitOffsets) -> Result<CommitOffsetsReply, Failure> {
        let mut state = self.lock();
        let group = state.groups.entry(request.group.clone()).or_default();
        if request.member_id.is_empty() {
            if !group.members.is_empty() {
                return Err(failure(Code::GroupNotEmpty, "it has members"));
            }
        } else {
            let member = group.members.get(&request.member_id).ok_or_else(|| failure(Code::UnknownMember, "who are you"))?;
            if !(member.joined..=member.epoch).contains(&request.member_epoch) {
                return Err(failure(Code::FencedMember, "not an epoch of this membership"));
            }
        }
        for p in &request.positions {
            group.positions.insert((p.topic.clone(), p.partition), p.offset);
        }
        Ok(CommitOffsetsReply::default())
    }

    fn fetch_offsets(&self, request: &FetchOffsets) -> FetchOffsetsReply {
        let state = self.lock();
        let all = state.groups.get(&request.group).into_iter().flat_map(|g| &g.positions);
        let wanted = |(topic, partition): &(String, u32)| {
            request.partitions.is_empty() || request.partitions.iter().any(|t| t.topic == *topic && t.partitions.contains(partition))
        };
        let position = |((topic, partition), offset): (&(String, u32), &u64)| Position {
            topic: topic.clone(),
            partition: *partition,
            offset: *offset,
            ..Position::default()
        };
        FetchOffsetsReply { positions: all.filter(|(part, _)| wanted(part)).map(position).collect() }
    }

    fn list_groups(&self) -> ListGroupsReply {
        let state = self.lock();
        let one = |(name, g): (&String, &Group)| GroupListing {
            group: name.clone(),
            state: if g.members.is_empty() { "empty" } else { "stable" }.into(),
            members: g.members.len() as u32,
            ..GroupListing::default()
        };
        ListGroupsReply { groups: state.groups.iter().map(one).collect() }
    }

    fn describe_group(&self, request: &DescribeGroup) -> Result<DescribeGroupReply, Failure> {
        let state = self.lock();
        let group = state.groups.get(&request.group).ok_or_else(|| failure(Code::UnknownGroup, "no such group"))?;
        let member = |(id, m): (&String, &Member)| MemberInfo { member_id: id.clone(), epoch: m.epoch, ..MemberInfo::default() };
        Ok(DescribeGroupReply {
            group: request.group.clone(),
            epoch: group.epoch,
            members: group.members.iter().map(member).collect(),
            ..DescribeGroupReply::default()
        })
    }

    fn delete_group(&self, request: &DeleteGroup) -> Result<Done, Failure> {
        match self.lock().groups.remove(&request.group) {
            Some(_) => Ok(Done {}),
            None => Err(failure(Code::UnknownGroup, "no such group")),
        }
    }
}

impl Partition {
    /// Appends a batch, or finds it among the last of its producer.
    fn append(&mut self, mut bytes: BytesMut) -> Result<(u64, bool), Failure> {
        let header = check(&bytes).map_err(|e| failure(Code::BadBatch, &e.to_string()))?;
        if header.is_idempotent() {
            let first = header.base_sequence;
            let last = first + header.last_offset_delta as i32;
            let known = self.producers.get_mut(&header.producer_id);
            match known {
                Some((epoch, _)) if header.producer_epoch < *epoch => return Err(failure(Code::ProducerFenced, "an older epoch")),
                Some((epoch, window)) if header.producer_epoch == *epoch => {
                    if let Some(seen) = window.iter().find(|w| (w.0, w.1) == (first, last)) {
                        return Ok((seen.2, true));
                    }
                    if window.back().is_some_and(|w| w.1 + 1 != first) {
                        return Err(failure(Code::OutOfOrderSequence, "a gap"));
                    }
                    window.push_back((first, last, self.end));
                    if window.len() > 5 {
                        window.pop_front();
                    }
                }
                Some(_) if first != 0 => return Err(failure(Code::OutOfOrderSequence, "a new epoch begins at 0")),
                _ => {
                    let window = VecDeque::from([(first, last, self.end)]);
                    self.producers.insert(header.producer_id, (header.producer_epoch, window));
                }
            }
        }
        let base = self.end;
        stamp(&mut bytes, base, 0);
        self.end += header.record_span();
        self.batches.push(bytes.freeze());
        Ok((base, false))
    }
}
