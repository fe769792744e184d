//! What consumers tell each other through a group of theirs: what they subscribe to, and what each shall read (`ConsumerProtocolSubscription`,
//! `ConsumerProtocolAssignment`). A coordinator passes it on as it is; this is for those who look.
//!
//! ```text
//!   | version i16 | topics: [string]                   | more ... |   a subscription
//!   | version i16 | topics: [string, partitions [i32]] | more ... |   an assignment
//! ```

use super::{Reader, WireError, Writer};
use bytes::Bytes;
use millpond_wire::messages::TopicPartitions;

const PARTITIONS: &str = "assigned partitions";
const TOPICS: &str = "topics of a subscription";

/// The partitions of an assignment, whatever follows them. No bytes are none, as of a member that was given nothing.
pub fn assigned(bytes: &Bytes) -> Result<Vec<TopicPartitions>, WireError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut r = Reader::new(bytes.clone(), false);
    r.i16("version of an assignment")?;
    let topics = r.count(size_of::<i16>() + size_of::<i32>(), PARTITIONS)?;
    let mut all = Vec::new();
    for _ in 0..topics {
        let topic = r.string(PARTITIONS)?.to_string();
        let count = r.count(size_of::<i32>(), PARTITIONS)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.extend(u32::try_from(r.i32(PARTITIONS)?));
        }
        all.push(TopicPartitions { topic, partitions });
    }
    Ok(all)
}

/// An assignment of these partitions, in the oldest version, which all can read.
#[must_use]
pub fn assignment(parts: &[TopicPartitions]) -> Bytes {
    let mut w = Writer::new(false);
    w.i16(0);
    w.count(parts.len());
    for part in parts {
        w.string(&part.topic);
        w.count(part.partitions.len());
        part.partitions.iter().for_each(|p| w.i32(*p as i32));
    }
    w.nullable_bytes(None);
    std::mem::take(w.raw()).freeze()
}

/// The topics of a subscription, whatever follows them.
pub fn subscribed(bytes: &Bytes) -> Result<Vec<String>, WireError> {
    let mut r = Reader::new(bytes.clone(), false);
    r.i16("version of a subscription")?;
    let count = r.count(size_of::<i16>(), TOPICS)?;
    (0..count).map(|_| r.string(TOPICS).map(|topic| topic.to_string())).collect()
}

#[cfg(test)]
mod tests;
