//! A server for the tests of the harness: one core, everything in memory, every batch checked.

use bytes::{Bytes, BytesMut};
use millpond_batch::{check, stamp};
use millpond_wire::{
    frame::{Decoder, Flags, Frame, encode},
    messages::{
        Code, CreateTopic, DeleteTopic, Done, Endpoint, Failure, Fetch, FetchReply, FetchedPartition, InitProducerReply, Kind, ListOffsets,
        ListOffsetsReply, ListedOffset, Metadata, MetadataReply, PartitionInfo, Produce, ProduceReply, ProduceResult, TopicInfo,
        TopicReply, Welcome,
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    /// With their end offsets.
    pub(crate) batches: Vec<(u64, Bytes)>,
    /// The next sequence of each producer.
    sequences: BTreeMap<i64, i32>,
}

impl Partition {
    pub(crate) fn end(&self) -> u64 {
        self.batches.last().map_or(0, |(end, _)| *end)
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) topics: BTreeMap<String, Vec<Partition>>,
    producers: u64,
    /// The server does nothing for so long before it answers each produce, once each.
    pub(crate) stalls: Vec<Duration>,
    /// Refuse so many batches for want of room.
    pub(crate) overloaded: u32,
}

/// A running mock; ends with its runtime, which ends with this.
pub(crate) struct Mock {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

impl Mock {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, port, Arc::clone(&shared)));
            }
        });
        Self { address: format!("127.0.0.1:{port}"), state, _runtime: runtime }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

async fn serve(mut stream: TcpStream, port: u16, state: Arc<Mutex<State>>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let decoder = Decoder { frame_bytes_max: 32 << 20 };
    let mut buf = BytesMut::new();
    loop {
        while let Some(frame) = decoder.decode(&mut buf)? {
            let stall = if frame.kind == Kind::Produce { state.lock().expect("no holder panics").stalls.pop() } else { None };
            tokio::time::sleep(stall.unwrap_or_default()).await;
            let reply = answer(frame, port, &state).await?;
            stream.write_all(&reply).await?;
        }
        if stream.read_buf(&mut buf).await? == 0 {
            return Ok(());
        }
    }
}

async fn answer(frame: Frame, port: u16, state: &Mutex<State>) -> anyhow::Result<Bytes> {
    let (kind, id) = (frame.kind, frame.correlation);
    if kind == Kind::Fetch {
        return fetch(&frame, state).await;
    }
    let mut state = state.lock().expect("no holder panics");
    Ok(match kind {
        Kind::Hello => encode(kind, Flags::REPLY, id, &Welcome { version: 1, software: "mock 1".into(), ..Welcome::default() }, 0),
        Kind::CreateTopic => {
            let create: CreateTopic = frame.message()?;
            state.topics.insert(create.name, vec![Partition::default(); create.partitions as usize]);
            encode(kind, Flags::REPLY, id, &TopicReply::default(), 0)
        }
        Kind::DeleteTopic => {
            state.topics.remove(&frame.message::<DeleteTopic>()?.name);
            encode(kind, Flags::REPLY, id, &Done {}, 0)
        }
        Kind::Metadata => {
            let endpoint = Endpoint { node_id: 1, core: 0, host: "127.0.0.1".into(), port: u32::from(port) };
            let known = |name: &String| {
                let failure = Failure::new(Code::UnknownTopic, "no such topic", "");
                let Some(topic) = state.topics.get(name) else {
                    return TopicInfo { name: name.clone(), failure: Some(failure), ..TopicInfo::default() };
                };
                let partitions = (0..topic.len() as u32).map(|partition| PartitionInfo { partition, ..PartitionInfo::default() });
                TopicInfo { name: name.clone(), partitions: partitions.collect(), ..TopicInfo::default() }
            };
            let topics = frame.message::<Metadata>()?.topics.iter().map(known).collect();
            encode(kind, Flags::REPLY, id, &MetadataReply { endpoints: vec![endpoint], topics, ..MetadataReply::default() }, 0)
        }
        Kind::ListOffsets => {
            let asked: ListOffsets = frame.message()?;
            let find = |p: &millpond_wire::messages::ListOffset| {
                let offset = if p.time_ms == -1 { state.topics[&p.topic][p.partition as usize].end() } else { 0 };
                ListedOffset { offset, ..ListedOffset::default() }
            };
            encode(kind, Flags::REPLY, id, &ListOffsetsReply { results: asked.partitions.iter().map(find).collect() }, 0)
        }
        Kind::InitProducer => {
            state.producers += 1;
            encode(kind, Flags::REPLY, id, &InitProducerReply { producer_id: state.producers, epoch: 0 }, 0)
        }
        Kind::Produce => encode(kind, Flags::REPLY, id, &produce(frame, &mut state)?, 0),
        other => encode(other, Flags::FAILURE, id, &Failure::new(Code::BadRequest, "the mock does not know this", ""), 0),
    })
}

fn produce(mut frame: Frame, state: &mut State) -> anyhow::Result<ProduceReply> {
    let mut reply = ProduceReply::default();
    for asked in frame.message::<Produce>()?.batches {
        let mut batch = frame.payload.split_to(asked.len as usize);
        let header = check(&batch)?;
        let mut result = ProduceResult::default();
        let partition = state.topics.get_mut(&asked.topic).and_then(|t| t.get_mut(asked.partition as usize));
        let partition = partition.ok_or_else(|| anyhow::anyhow!("no such partition"))?;
        let sequence = partition.sequences.entry(header.producer_id).or_default();
        if state.overloaded > 0 {
            state.overloaded -= 1;
            result.failure = Some(Failure::new(Code::Overloaded, "no room", ""));
        } else if header.is_idempotent() && *sequence != header.base_sequence {
            result.failure = Some(Failure::new(Code::OutOfOrderSequence, "a gap", ""));
        } else {
            *sequence += header.record_span() as i32;
            result.base_offset = partition.end();
            stamp(&mut batch, result.base_offset, 0);
            partition.batches.push((result.base_offset + header.record_span(), batch.freeze()));
        }
        reply.results.push(result);
    }
    Ok(reply)
}

async fn fetch(frame: &Frame, state: &Mutex<State>) -> anyhow::Result<Bytes> {
    let asked: Fetch = frame.message()?;
    let until = tokio::time::Instant::now() + Duration::from_millis(u64::from(asked.wait_ms_max));
    loop {
        let (mut reply, mut payload) = (FetchReply::default(), Vec::new());
        for p in &asked.partitions {
            let state = state.lock().expect("no holder panics");
            let Some(partition) = state.topics.get(&p.topic).and_then(|t| t.get(p.partition as usize)) else {
                anyhow::bail!("no such partition")
            };
            let mut out = FetchedPartition { next_offset: p.offset, end_offset: partition.end(), ..FetchedPartition::default() };
            for (end, batch) in partition.batches.iter().filter(|(end, _)| *end > p.offset) {
                if !payload.is_empty() && payload.len() + batch.len() > asked.bytes_max as usize {
                    break;
                }
                payload.extend_from_slice(batch);
                (out.len, out.next_offset) = (out.len + batch.len() as u32, *end);
            }
            reply.partitions.push(out);
        }
        if !payload.is_empty() || tokio::time::Instant::now() >= until {
            let head = encode(Kind::Fetch, Flags::REPLY, frame.correlation, &reply, payload.len());
            return Ok([&head[..], &payload].concat().into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
