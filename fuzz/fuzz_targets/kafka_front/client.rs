//! Clients that do as a step says, and look at what they are answered.

use super::steps::{Step, What, frame};
use bytes::{Buf, Bytes, BytesMut};
use millpond::kafka::wire::versions::{self, API_VERSIONS, FETCH, JOIN_GROUP, METADATA, PRODUCE, SYNC_GROUP};
use millpond_runtime::{Conn, ConnRead, ConnWrite, Rt, Share, rt::timeout, sim::SimRt};
use std::{cell::RefCell, collections::VecDeque, net::SocketAddr, rc::Rc, time::Duration};

/// A server that takes nothing for so long takes nothing any more: it waits for its own answers to be made.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// What does not wait is answered within this time. What asks for many changes of the catalog has some for each.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Larger than any answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What is known of a connection.
#[derive(Default)]
struct Told {
    buf: BytesMut,
    /// Requests that are not answered yet: their numbers and their APIs.
    waiting: VecDeque<(i32, i16)>,
    /// Something was sent that is no request: nothing can be said of what is answered.
    wild: bool,
    /// Something was asked.
    begun: bool,
    ended: bool,
}

impl Told {
    /// Looks at the answers that are whole.
    fn look(&mut self) {
        while let Some(len) = self.buf.first_chunk::<4>().map(|len| u32::from_be_bytes(*len) as usize) {
            assert!(self.wild || (4..ANSWER_BYTES_MAX).contains(&len), "an answer of {len} bytes");
            if self.wild || self.buf.len() < 4 + len {
                return;
            }
            let mut answer = self.buf.split_to(4 + len);
            answer.advance(4);
            self.answered(answer.get_i32());
        }
    }

    /// Answers come in the order of the requests. Batches that are not to be acknowledged have none.
    fn answered(&mut self, number: i32) {
        while let Some((next, key)) = self.waiting.pop_front() {
            if next == number {
                return;
            }
            assert_eq!(key, PRODUCE.key, "request {next} is passed over for {number}");
        }
        panic!("{number} is answered, and was not asked");
    }

    /// Whether all is answered that must be by now.
    fn is_done(&self) -> bool {
        let first = self.waiting.iter().find(|(_, key)| *key != PRODUCE.key);
        // What waits for something else does so as long as it was told to, and so does all that comes behind it.
        let waits = first.is_none_or(|(_, key)| [FETCH.key, JOIN_GROUP.key, SYNC_GROUP.key].contains(key));
        self.ended || self.wild || waits
    }
}

struct Connection {
    write: <<SimRt as Rt>::Conn as Conn>::Write,
    told: Rc<RefCell<Told>>,
    stuck: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Its reader hears it, and lets go of the other half.
        self.write.shutdown();
    }
}

/// The clients of an input.
pub struct Clients {
    rt: SimRt,
    at: SocketAddr,
    open: [Option<Connection>; 2],
    number: i32,
}

impl Clients {
    /// Nobody is connected yet.
    pub fn new(rt: SimRt, at: SocketAddr) -> Self {
        Self { rt, at, open: [None, None], number: 0 }
    }

    async fn connection(&mut self, on: usize) -> &mut Connection {
        if self.open[on].is_none() {
            let (mut read, write) = self.rt.dial(self.at).await.expect("it listens").split();
            let told: Rc<RefCell<Told>> = Rc::default();
            let here = Rc::downgrade(&told);
            self.rt.spawn("client", Share::Serve, async move {
                let mut buf = BytesMut::with_capacity(64 << 10);
                loop {
                    let got = read.recv(&mut buf).await.unwrap_or(0);
                    let Some(told) = here.upgrade() else { return };
                    let mut told = told.borrow_mut();
                    told.buf.extend_from_slice(&buf);
                    told.ended = got == 0;
                    told.look();
                    if told.ended {
                        return;
                    }
                    buf.clear();
                    buf.reserve(64 << 10);
                }
            });
            self.open[on] = Some(Connection { write, told, stuck: false });
        }
        self.open[on].as_mut().expect("made just now")
    }

    async fn send(&mut self, on: usize, bytes: Vec<u8>) {
        let rt = self.rt.clone();
        let connection = self.connection(on).await;
        if !connection.stuck && !bytes.is_empty() {
            // It may have been closed, which is what the reader hears.
            connection.stuck = timeout(&rt, SEND_WITHIN, connection.write.send(&[Bytes::from(bytes)])).await.is_err();
            connection.told.borrow_mut().wild |= connection.stuck;
        }
    }

    /// Does as it says.
    pub async fn take(&mut self, Step { on, what }: Step) {
        match what {
            What::Request(key, version, body, crumbs) => self.ask(on, (key, version), &body, crumbs).await,
            What::Lying(lie, key, version, body) => {
                let mut bytes = frame(0, key, version, &body);
                let len = match lie {
                    i8::MIN => i32::MAX,
                    -127 => i32::MIN,
                    -126 => -1,
                    127 => 4 << 20,
                    126 => (16 << 20) - 1,
                    by => (bytes.len() as i32 - 4 + i32::from(by)).max(0),
                };
                bytes[..4].copy_from_slice(&len.to_be_bytes());
                self.connection(on).await.told.borrow_mut().wild = true;
                self.send(on, bytes).await;
            }
            What::Raw(bytes) => {
                self.connection(on).await.told.borrow_mut().wild = true;
                self.send(on, bytes).await;
            }
            What::Pass(ms) => self.rt.sleep(Duration::from_millis(ms)).await,
            What::Close => self.open[on] = None,
        }
    }

    async fn ask(&mut self, on: usize, (key, version): (i16, i16), body: &[u8], crumbs: bool) {
        self.number += 1;
        let number = self.number;
        let told = Rc::clone(&self.connection(on).await.told);
        // What begins with an API that nobody knows is taken for our own protocol, and answered in that.
        let is_first = !std::mem::replace(&mut told.borrow_mut().begun, true);
        told.borrow_mut().wild |= is_first && versions::api(key).is_err();
        told.borrow_mut().waiting.push_back((number, key));
        let bytes = frame(number, key, version, body);
        if crumbs {
            for byte in bytes {
                self.send(on, vec![byte]).await;
            }
        } else {
            self.send(on, bytes).await;
        }
    }

    /// Waits for the answers, and goes away.
    pub async fn finish(&mut self) {
        let mut left = ANSWER_WITHIN;
        while !self.open.iter().flatten().all(|connection| connection.told.borrow().is_done()) {
            let waiting: Vec<_> = self.open.iter().flatten().map(|c| c.told.borrow().waiting.clone()).collect();
            left = left.checked_sub(LOOK_EVERY).unwrap_or_else(|| panic!("neither answered nor closed: {waiting:?}"));
            self.rt.sleep(LOOK_EVERY).await;
        }
        self.open = [None, None];
    }

    /// A client that behaves is served.
    pub async fn probe(&mut self) {
        self.ask(0, (API_VERSIONS.key, 0), &[], false).await;
        self.ask(0, (METADATA.key, 1), &[0, 0, 0, 0], false).await;
        let told = Rc::clone(&self.connection(0).await.told);
        let served = async {
            while !told.borrow().waiting.is_empty() && !told.borrow().ended {
                self.rt.sleep(LOOK_EVERY).await;
            }
        };
        timeout(&self.rt, Duration::from_secs(10), served).await.expect("a new client is served");
        assert!(!told.borrow().ended, "a new client is closed");
    }
}
