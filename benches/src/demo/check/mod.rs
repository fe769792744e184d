//! What was read against what was sent: pure, and the heart of the demonstration.
//!
//! Each record carries its place in the input as a header. That names it where something is wrong; whether it is right is decided by
//! its bytes. Of each partition it is known which records went there, in which order, and at which offset each was
//! acknowledged; so exactly one content is right.

use super::NUMBER;
use crate::flights::Flight;
use std::collections::HashMap;

/// Differences that are listed; the others are counted.
const LISTED_MAX: usize = 20;

/// What became of one record of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) partition: u32,
    pub(super) offset: u64,
}

/// One record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen<'a> {
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) time_ms: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    /// The header with its place in the input.
    pub(super) number: Option<&'a [u8]>,
}

/// What is wrong, in sentences; few of many.
#[derive(Debug, Default)]
pub(super) struct Differences {
    pub(super) listed: Vec<String>,
    pub(super) count: u64,
}

impl Differences {
    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(what());
        }
    }

    fn unless(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.add(what);
        }
    }
}

/// What was sent, and where it was acknowledged.
pub(super) struct Sent<'a> {
    pub(super) flights: &'a [Flight],
    /// By place in the input.
    pub(super) acks: &'a [Ack],
    pub(super) partitions: u32,
}

/// Where a partition is.
#[derive(Clone, Default)]
struct Place {
    next_offset: Option<u64>,
    last: Option<usize>,
}

impl Sent<'_> {
    /// The records of each partition that a replay from `first` must give, as places in the input: those whose ack `is_in` it.
    fn wanted(&self, is_in: impl Fn(usize, Ack) -> bool) -> Vec<Vec<usize>> {
        let mut wanted = vec![Vec::new(); self.partitions as usize];
        for (n, ack) in self.acks.iter().enumerate().filter(|(n, ack)| is_in(*n, **ack)) {
            wanted[ack.partition as usize].push(n);
        }
        wanted
    }

    /// The first offset of each partition whose record is of this time or later; the end of the log where there is none.
    pub(super) fn offsets_of(&self, time_ms: i64) -> Vec<u64> {
        let mut firsts = vec![u64::MAX; self.partitions as usize];
        for (flight, ack) in self.flights.iter().zip(self.acks) {
            let first = &mut firsts[ack.partition as usize];
            if flight.time_ms >= time_ms {
                *first = ack.offset.min(*first);
            }
        }
        firsts
    }

    /// Compares what a replay from `from` (an offset for each partition) to the end has read.
    pub(super) fn check<'r>(&self, from: &[u64], seen: impl IntoIterator<Item = Seen<'r>>) -> Differences {
        let mut wrong = Differences::default();
        let mut places = vec![Place::default(); self.partitions as usize];
        let mut found: Vec<Option<u64>> = vec![None; self.flights.len()];
        let mut keys: HashMap<&str, (u32, usize)> = HashMap::new();
        for record in seen {
            let at = format_args!("{}@{}", record.partition, record.offset).to_string();
            let Some(place) = places.get_mut(record.partition as usize) else {
                wrong.add(|| format!("{at}: there is no such partition"));
                continue;
            };
            let first = from[record.partition as usize];
            let due = place.next_offset.unwrap_or(first);
            wrong.unless(record.offset == due, || format!("{at}: offset {due} was due"));
            place.next_offset = Some(record.offset + 1);
            let Some(n) = self.name(&record) else {
                wrong.add(|| format!("{at}: a record that was never sent"));
                continue;
            };
            self.check_record(&record, n, &at, &mut wrong);
            if let Some(before) = found[n].replace(record.offset) {
                wrong.add(|| format!("{at}: record {n} for the second time, after offset {before}"));
                continue;
            }
            wrong.unless(place.last.is_none_or(|last| last < n), || {
                format!("{at}: record {n} after record {}, which was sent later", place.last.unwrap_or_default())
            });
            place.last = Some(n);
            let key = &*self.flights[n].key;
            if let Some((partition, last)) = keys.insert(key, (record.partition, n)) {
                wrong.unless(partition == record.partition, || format!("{at}: key {key} was in partition {partition} before"));
                wrong.unless(last < n, || format!("{at}: record {n} of key {key} after record {last}, which was sent later"));
            }
        }
        for n in self.wanted(|_, ack| ack.offset >= from[ack.partition as usize]).into_iter().flatten() {
            wrong.unless(found[n].is_some(), || {
                format!("record {n} is lost; it was acknowledged at {}@{}", self.acks[n].partition, self.acks[n].offset)
            });
        }
        wrong
    }

    /// Its place in the input, if it names one.
    fn name(&self, record: &Seen<'_>) -> Option<usize> {
        let number = u64::from_be_bytes(record.number?.try_into().ok()?);
        usize::try_from(number).ok().filter(|n| *n < self.flights.len())
    }

    fn check_record(&self, record: &Seen<'_>, n: usize, at: &str, wrong: &mut Differences) {
        let (flight, ack) = (&self.flights[n], self.acks[n]);
        wrong.unless(record.value == Some(flight.line.as_bytes()), || {
            let bytes = record.value.map(String::from_utf8_lossy).unwrap_or_default();
            format!("{at}: record {n} has other bytes than were sent: {bytes:?} instead of {:?}", flight.line)
        });
        wrong.unless(record.key == Some(flight.key.as_bytes()), || format!("{at}: record {n} has another key than {}", flight.key));
        wrong.unless(record.time_ms == flight.time_ms, || {
            format!("{at}: record {n} has time {} instead of {} ms", record.time_ms, flight.time_ms)
        });
        wrong.unless((record.partition, record.offset) == (ack.partition, ack.offset), || {
            format!("{at}: record {n} was acknowledged at {}@{}", ack.partition, ack.offset)
        });
    }
}

/// The header that names a record.
pub(super) fn number_of(record: &millpond_client::ConsumerRecord) -> Option<bytes::Bytes> {
    record.headers().find(|header| header.key == NUMBER).and_then(|header| header.value)
}

#[cfg(test)]
mod tests;
