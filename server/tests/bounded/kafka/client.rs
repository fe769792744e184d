//! A client of Kafka's protocol that says what it is told to, and looks at what it is answered.

use super::requests::{NUMBER, Sound, frame, of};
use crate::node::{Node, PATIENCE};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

/// Larger than any answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// One connection.
pub(crate) struct Raw(TcpStream);

/// What came back until the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Whole answers.
    pub(crate) answers: usize,
    /// The server has closed the connection.
    pub(crate) closed: bool,
}

impl Raw {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Self(stream)
    }

    /// Sends; the server may have closed the connection, which is for those who read to find.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Sends for at most so long: whoever does not listen to the answers is not listened to at some time.
    pub(crate) fn send_within(&mut self, bytes: &[u8], wait: Duration) {
        self.0.set_write_timeout(Some(wait)).expect("a socket");
        let _ = self.0.write_all(bytes);
    }

    /// Says that nothing more will come.
    pub(crate) fn end(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// The next answer behind its number; nothing if the connection has ended.
    pub(crate) fn answer(&mut self) -> Option<Vec<u8>> {
        let mut len = [0; 4];
        match self.0.read_exact(&mut len) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("neither an answer nor an end"),
            Err(_) => return None,
            Ok(()) => {}
        }
        let len = u32::from_be_bytes(len) as usize;
        assert!((4..ANSWER_BYTES_MAX).contains(&len), "an answer of {len} bytes");
        let mut answer = vec![0; len];
        self.0.read_exact(&mut answer).ok()?;
        assert_eq!(answer[..4], NUMBER.to_be_bytes(), "the number of another request");
        Some(answer.split_off(4))
    }

    /// Listens to what is answered, for at most `wait`.
    pub(crate) fn listen(&mut self, wait: Duration) -> Heard {
        let until = Instant::now() + wait;
        let (mut heard, mut buf, mut piece) = (Heard { answers: 0, closed: false }, Vec::new(), vec![0; 64 << 10]);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return heard;
            }
            self.0.set_read_timeout(Some(left)).expect("a socket");
            match self.0.read(&mut piece) {
                Ok(n) if n > 0 => buf.extend_from_slice(&piece[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => continue,
                _ => {
                    heard.closed = true;
                    return heard;
                }
            }
            heard.answers += whole(&mut buf);
        }
    }
}

/// Takes the answers that are whole off the front.
fn whole(buf: &mut Vec<u8>) -> usize {
    let mut answers = 0;
    while let Some(len) = buf.first_chunk::<4>().map(|len| u32::from_be_bytes(*len) as usize) {
        assert!((4..ANSWER_BYTES_MAX).contains(&len), "an answer of {len} bytes");
        if buf.len() < 4 + len {
            return answers;
        }
        buf.drain(..4 + len);
        answers += 1;
    }
    answers
}

/// Sound requests of all APIs that a server advertises, in all versions.
pub(crate) fn advertised(node: &Node) -> Vec<Sound> {
    let mut raw = Raw::connect(&node.address());
    raw.send(&frame(18, 0, false, &[]));
    let answer = raw.answer().expect("the versions");
    let rows = answer[6..].chunks_exact(6).map(|row| [0, 2, 4].map(|at| i16::from_be_bytes([row[at], row[at + 1]])));
    let all: Vec<Sound> = rows.flat_map(|[key, min, max]| of(key, (min, max))).collect();
    assert!(all.len() > 100, "{} requests", all.len());
    all
}
