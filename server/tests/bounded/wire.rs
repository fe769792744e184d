//! A client that does exactly as it is told, and crowds of clients that need no thread each.

use crate::node::{Node, PATIENCE, eventually};
use bytes::{Bytes, BytesMut};
use millpond_batch::{Builder, Compression, builder::NO_HEADERS};
use millpond_wire::{
    VERSION,
    frame::{Decoder, Flags, Frame, encode},
    messages::{Acks, CreateTopic, Failure, Hello, Kind, Produce, ProduceBatch, ProduceReply, Setting, TopicReply},
};
use prost::Message;
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Larger than any frame that a server sends.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Frame),
    Failed(Failure),
    /// The server has closed the connection.
    Closed,
}

impl Answer {
    /// The failure; panics if it is none.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            other => panic!("a failure was expected: {other:?}"),
        }
    }
}

/// A frame, with its payload.
pub(crate) fn frame(kind: Kind, message: &impl Message, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&encode(kind, Flags::REQUEST, 7, message, payload.len())[..]);
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

/// The first frame of a connection.
pub(crate) fn hello() -> Bytes {
    let hello = Hello { version_min: VERSION, version_max: VERSION, client_id: "tests".into(), software: "tests".into(), from_node: 0 };
    frame(Kind::Hello, &hello, &[])
}

/// A batch of one record.
pub(crate) fn batch(value: &[u8]) -> BytesMut {
    packed(value, Compression::None)
}

/// The same, packed.
pub(crate) fn packed(value: &[u8], codec: Compression) -> BytesMut {
    let mut builder = Builder::new(codec, value.len() + 100);
    builder.append(1_700_000_000_000, None, Some(value), NO_HEADERS);
    builder.build(None).expect("there is memory")
}

/// The frame that appends these batches to a partition of a topic.
pub(crate) fn produce<B: AsRef<[u8]>>(topic: &str, partition: u32, batches: &[B]) -> Bytes {
    let one = |batch: &B| ProduceBatch { topic: topic.into(), partition, len: batch.as_ref().len() as u32 };
    let message = Produce { batches: batches.iter().map(one).collect(), acks: Acks::All as i32 };
    let payload: Vec<u8> = batches.iter().flat_map(|batch| batch.as_ref()).copied().collect();
    frame(Kind::Produce, &message, &payload)
}

/// One connection, used by one thread.
pub(crate) struct Client {
    stream: TcpStream,
    buf: BytesMut,
}

impl Client {
    /// Connects, and says nothing.
    pub(crate) fn silent(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Self { stream, buf: BytesMut::new() }
    }

    /// Connects and is greeted.
    pub(crate) fn connect(address: &str) -> Self {
        let mut client = Self::silent(address);
        client.write(&hello());
        assert!(matches!(client.answer(), Answer::Reply(_)), "a greeting");
        client
    }

    /// Sends bytes, whatever they are. The server may be gone: then the answer says so.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next answer; panics if there is none in time.
    pub(crate) fn answer(&mut self) -> Answer {
        let decoder = Decoder { frame_bytes_max: FRAME_BYTES_MAX };
        let mut piece = vec![0; 64 << 10];
        loop {
            if let Some(frame) = decoder.decode(&mut self.buf).expect("frames come from the server") {
                if frame.flags.is_failure() {
                    return Answer::Failed(Failure::decode(frame.meta).expect("a failure"));
                }
                return Answer::Reply(frame);
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Answer::Closed,
                Ok(n) => self.buf.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("no answer within {PATIENCE:?}"),
                Err(_) => return Answer::Closed,
            }
        }
    }

    /// All bytes that come until the server closes the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("it is closed in time");
        rest
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, kind: Kind, message: &impl Message) -> Answer {
        self.write(&frame(kind, message, &[]));
        self.answer()
    }

    /// The same for an answer that must be a reply.
    pub(crate) fn get<M: Message + Default>(&mut self, kind: Kind, message: &impl Message) -> (M, BytesMut) {
        match self.ask(kind, message) {
            Answer::Reply(frame) => (frame.message().expect("what was asked for"), frame.payload),
            other => panic!("{kind:?} from {:?}: {other:?}", self.stream.local_addr()),
        }
    }

    /// Creates a topic that keeps everything.
    pub(crate) fn create(&mut self, name: &str, partitions: u32) {
        let settings = vec![Setting { name: "retention.ms".into(), value: "-1".into(), is_default: false }];
        let create = CreateTopic { name: name.into(), partitions, settings, ..CreateTopic::default() };
        let (_, _): (TopicReply, _) = self.get(Kind::CreateTopic, &create);
    }

    /// Appends batches and waits until all are synced; the results.
    pub(crate) fn produce<B: AsRef<[u8]>>(&mut self, topic: &str, partition: u32, batches: &[B]) -> ProduceReply {
        self.write(&produce(topic, partition, batches));
        match self.answer() {
            Answer::Reply(frame) => frame.message().expect("what was asked for"),
            other => panic!("produce from {:?}: {other:?}", self.stream.local_addr()),
        }
    }
}

/// Fills all caches of a server: as many bytes of records as its budget has, in every partition of the topic `full`.
pub(crate) fn fill(node: &Node, bytes: usize) {
    const BATCH_BYTES: usize = 60_000;
    let mut client = Client::connect(&node.address());
    client.create("full", 2);
    let noise: Vec<u8> = (0..BATCH_BYTES as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect();
    let batches: Vec<BytesMut> = (0..8).map(|_| batch(&noise)).collect();
    let rounds = bytes / (2 * batches.len() * BATCH_BYTES) + 1;
    for _ in 0..rounds {
        for partition in 0..2 {
            let reply = client.produce("full", partition, &batches);
            assert!(reply.results.iter().all(|r| r.failure.is_none()), "{reply:?}");
        }
    }
}

/// Connections that have bytes to send and do not wait for each other.
pub(crate) struct Crowd {
    members: Vec<Member>,
}

struct Member {
    stream: TcpStream,
    out: Bytes,
    gone: bool,
}

/// How long nothing may move before a crowd counts as stuck.
const STUCK_AFTER: Duration = Duration::from_millis(700);

impl Crowd {
    /// So many connections, spread over all cores, that have been greeted; from here on nobody reads what they are sent.
    pub(crate) fn connect(node: &Node, count: usize) -> Self {
        let mut crowd = Self::silent(node, count);
        let greeting = hello();
        for member in &mut crowd.members {
            member.stream.write_all(&greeting).expect("a new socket takes so little");
        }
        for member in &mut crowd.members {
            let mut client = Client { stream: member.stream.try_clone().expect("a socket"), buf: BytesMut::new() };
            client.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            assert!(matches!(client.answer(), Answer::Reply(_)), "a greeting");
        }
        crowd.members.iter().for_each(|m| m.stream.set_nonblocking(true).expect("a socket"));
        crowd
    }

    /// The same, but they do not even say hello.
    pub(crate) fn silent(node: &Node, count: usize) -> Self {
        let one = |n: usize| {
            let stream = TcpStream::connect(node.core((n % usize::from(crate::node::CORES)) as u16)).expect("it listens");
            stream.set_nodelay(true).expect("a socket");
            Member { stream, out: Bytes::new(), gone: false }
        };
        Self { members: (0..count).map(one).collect() }
    }

    /// Gives each its bytes, by its number.
    pub(crate) fn give(&mut self, bytes: impl Fn(usize) -> Bytes) {
        for (n, member) in self.members.iter_mut().enumerate() {
            member.stream.set_nonblocking(true).expect("a socket");
            member.out = bytes(n);
        }
    }

    /// Sends until all is sent, or nothing moves any more for [`STUCK_AFTER`], or the time is up. Members that the server has closed
    /// are gone.
    pub(crate) fn push(&mut self, at_most: Duration) {
        let until = Instant::now() + at_most;
        let mut moved = Instant::now();
        while self.members.iter().any(|m| !m.gone && !m.out.is_empty()) {
            let now = Instant::now();
            if now > until || now - moved > STUCK_AFTER {
                return;
            }
            let mut any = false;
            for member in self.members.iter_mut().filter(|m| !m.gone && !m.out.is_empty()) {
                match member.stream.write(&member.out) {
                    Ok(n) => {
                        any |= n > 0;
                        member.out = member.out.slice(n..);
                    }
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(_) => member.gone = true,
                }
            }
            if any {
                moved = Instant::now();
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Each reads at most `bytes` of what it was sent. How many bytes that were in all.
    pub(crate) fn sip(&mut self, bytes: usize) -> usize {
        let mut piece = vec![0; bytes];
        let mut all = 0;
        for member in self.members.iter_mut().filter(|m| !m.gone) {
            match member.stream.read(&mut piece) {
                Ok(0) => member.gone = true,
                Ok(n) => all += n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => member.gone = true,
            }
        }
        all
    }

    /// Waits until the server has closed all of them.
    pub(crate) fn await_end(&mut self) {
        eventually("the server closes them", || {
            self.sip(64 << 10);
            self.members.iter().all(|m| m.gone)
        });
    }

    /// Those that the server has not closed as far as we know.
    pub(crate) fn alive(&self) -> usize {
        self.members.iter().filter(|m| !m.gone).count()
    }
}
