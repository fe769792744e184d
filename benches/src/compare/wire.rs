//! A few requests of Kafka's protocol as bare bytes: the same probe for whatever speaks it, with nothing to warm up and nothing to hide.
//!
//! ```text
//! frame     | len i32 | key i16 | version i16 | number i32 | client id: len i16, bytes | body ... |
//! answer    | len i32 | number i32 | body ... |                  integers are big-endian
//! ```
//!
//! Versions are the newest without tagged fields that every broker of today answers: Metadata 1, CreateTopics 4, Produce 7.

use anyhow::{Context, Result, bail, ensure};
use millpond_batch::{Builder, Compression, builder::NO_HEADERS};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, SystemTime},
};

/// The name by which brokers know us.
const CLIENT: &str = "millpond-bench";
/// Room for a batch of one small record.
const PROBE_BYTES: usize = 256;
/// An answer is not longer: metadata of a topic takes some tens of bytes per partition.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// APIs and their versions.
const PRODUCE: (i16, i16) = (0, 7);
const METADATA: (i16, i16) = (3, 1);
const CREATE_TOPICS: (i16, i16) = (19, 4);

/// The topic that is written to.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: usize,
}

/// A connection on which nothing takes longer than `patience`.
pub(super) fn connect(at: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&at, patience).with_context(|| format!("connecting to {at}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// Whether somebody answers who knows at least one broker.
///
/// # Errors
/// If not, or not in this time.
pub(super) fn answers(at: SocketAddr, patience: Duration) -> Result<()> {
    let mut body = Body::default();
    body.count(0);
    let answer = ask(at, patience, METADATA, &body.0)?;
    let brokers = Answer(&answer).brokers()?;
    ensure!(brokers > 0, "no broker is known yet");
    Ok(())
}

/// Makes a topic with one replica of each partition; that it is there already is no error.
///
/// # Errors
/// If it is refused.
pub(super) fn create(at: SocketAddr, topic: &Topic, patience: Duration) -> Result<()> {
    let mut body = Body::default();
    body.count(1).text(&topic.name).int(i32::try_from(topic.partitions)?).short(1);
    // Neither replicas by name nor settings; with a limit of time, and not just to see.
    body.count(0).count(0).int(i32::try_from(patience.as_millis())?).byte(0);
    let answer = ask(at, patience, CREATE_TOPICS, &body.0)?;
    let mut answer = Answer(&answer);
    // The throttle time, and how many topics.
    let (_, topics) = (answer.int()?, answer.int()?);
    ensure!(topics == 1, "one topic was asked for, and {topics} are answered");
    let (name, code) = (answer.text()?, answer.short()?);
    ensure!(code == 0 || code == TOPIC_ALREADY_EXISTS, "topic {name} is refused with error {code}");
    Ok(())
}

/// The error of a topic that is there already.
const TOPIC_ALREADY_EXISTS: i16 = 36;

/// Whether every partition has a leader.
///
/// # Errors
/// If not.
pub(super) fn is_led(at: SocketAddr, topic: &Topic, patience: Duration) -> Result<()> {
    let mut body = Body::default();
    body.count(1).text(&topic.name);
    let answer = ask(at, patience, METADATA, &body.0)?;
    let led = Answer(&answer).led()?;
    ensure!(led == topic.partitions, "{led} of {} partitions have a leader", topic.partitions);
    Ok(())
}

/// Writes one record to partition 0, acknowledged by all replicas.
///
/// # Errors
/// If it is not acknowledged.
pub(super) fn acknowledge(at: SocketAddr, topic: &Topic, patience: Duration) -> Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut batch = Builder::new(Compression::None, PROBE_BYTES);
    batch.append(now.as_millis() as i64, None, Some(b"is anybody there?"), NO_HEADERS);
    let batch = batch.build(None).context("making a batch")?;
    let mut body = Body::default();
    // No transaction, all replicas, with a limit of time.
    body.short(-1).short(-1).int(i32::try_from(patience.as_millis())?);
    body.count(1).text(&topic.name).count(1).int(0).int(i32::try_from(batch.len())?);
    body.0.extend_from_slice(&batch);
    let answer = ask(at, patience, PRODUCE, &body.0)?;
    let code = Answer(&answer).produced()?;
    ensure!(code == 0, "a record is refused with error {code}");
    Ok(())
}

fn ask(at: SocketAddr, patience: Duration, (key, version): (i16, i16), body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = connect(at, patience)?;
    stream.write_all(&frame(key, version, body)).context("sending a request")?;
    let mut head = [0; 8];
    stream.read_exact(&mut head).context("waiting for an answer")?;
    let (len, _number) = head.split_at(4);
    let len = u32::from_be_bytes(len.try_into().unwrap_or_default()) as usize;
    ensure!((4..=ANSWER_BYTES_MAX).contains(&len), "an answer of {len} bytes");
    let mut answer = vec![0; len - 4];
    stream.read_exact(&mut answer).context("reading an answer")?;
    Ok(answer)
}

fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = Body::default();
    frame.short(key).short(version).int(1).text(CLIENT);
    frame.0.extend_from_slice(body);
    let len = u32::try_from(frame.0.len()).unwrap_or(u32::MAX);
    [&len.to_be_bytes()[..], &frame.0].concat()
}

/// A request, as it is written.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn byte(&mut self, n: u8) -> &mut Self {
        self.0.push(n);
        self
    }

    fn short(&mut self, n: i16) -> &mut Self {
        self.0.extend(n.to_be_bytes());
        self
    }

    fn int(&mut self, n: i32) -> &mut Self {
        self.0.extend(n.to_be_bytes());
        self
    }

    /// How many elements follow.
    fn count(&mut self, n: i32) -> &mut Self {
        self.int(n)
    }

    /// At most 32 KiB.
    fn text(&mut self, text: &str) -> &mut Self {
        let len = i16::try_from(text.len()).unwrap_or(i16::MAX);
        self.short(len);
        self.0.extend(&text.as_bytes()[..len as usize]);
        self
    }
}

/// What is left of an answer.
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(len) else { bail!("an answer ends too early") };
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn short(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn int(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    /// Text, or none.
    fn text(&mut self) -> Result<&'a str> {
        let len = usize::try_from(self.short()?).unwrap_or(0);
        std::str::from_utf8(self.take(len)?).context("an answer has text that is none")
    }

    /// Steps over so many integers as come first.
    fn ints(&mut self) -> Result<()> {
        let count = usize::try_from(self.int()?).unwrap_or(0);
        self.take(count.saturating_mul(4)).map(drop)
    }

    /// Of metadata: how many brokers; what follows them is left.
    fn brokers(&mut self) -> Result<usize> {
        let count = usize::try_from(self.int()?).unwrap_or(0);
        for _ in 0..count {
            // Its id, host, port and rack.
            let _ = (self.int()?, self.text()?, self.int()?, self.text()?);
        }
        Ok(count)
    }

    /// Of metadata of one topic: how many of its partitions have a leader.
    fn led(&mut self) -> Result<usize> {
        self.brokers()?;
        // The controller, and how many topics.
        let (_, topics) = (self.int()?, self.int()?);
        ensure!(topics == 1, "one topic was asked for, and {topics} are answered");
        let (code, name, _is_internal) = (self.short()?, self.text()?, self.byte()?);
        ensure!(code == 0, "topic {name} has error {code}");
        let mut led = 0;
        for _ in 0..self.int()? {
            let (_code, _partition, leader) = (self.short()?, self.int()?, self.int()?);
            // Replicas, and those of them that are in step.
            self.ints()?;
            self.ints()?;
            led += usize::from(leader >= 0);
        }
        Ok(led)
    }

    /// Of one batch that was produced: the error, 0 for none.
    fn produced(&mut self) -> Result<i16> {
        let topics = self.int()?;
        self.text()?;
        let partitions = self.int()?;
        ensure!(topics == 1 && partitions == 1, "one batch was sent, and {topics} topics of {partitions} partitions are answered");
        self.int()?;
        self.short()
    }
}

#[cfg(test)]
mod tests;
