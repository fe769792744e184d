//! What was sent, promised and seen, and what a log may therefore hold: pure, and the heart of the crash test.
//!
//! A record names itself in its value, and all its other bytes follow from its name, so that whoever reads it can tell whether it was
//! sent, by whom, to where, and whether each byte is right. A name is
//!
//! ```text
//! topic#life/partition producer number|filler ...
//! ```
//!
//! where `life` grows when a topic of the same name is made anew, and `number` counts a producer's records in a partition from 0. A record
//! is entered before it is handed to the client, and a promise when the client has it; so whatever a crash does in between,
//! the ledger knows no less than the server.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

/// Differences of one check that are listed; the others are counted.
const LISTED_MAX: usize = 12;
/// The time of record 0, in milliseconds since 1970; each one is a millisecond later than the one before.
const TIME_MS: i64 = 1_700_000_000_000;

/// A record of a partition, by who sent it and his count of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) producer: u32,
    pub(crate) number: u32,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {} of producer {}", self.number, self.producer)
    }
}

/// What a producer is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    /// An ack is for ever: it came after the sync.
    pub(crate) durable: bool,
    /// Never twice, and in order: the producer is idempotent.
    pub(crate) once: bool,
}

/// What became of a record, as far as its producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It may be there or not.
    Unknown,
    /// It is there, at this offset if the server said which.
    Acked(Option<u64>),
    /// It is not there, and will not be.
    Refused,
}

/// The records of one producer in one partition.
#[derive(Debug)]
struct Sender {
    promise: Promise,
    fates: Vec<Fate>,
}

/// One partition of one life of a topic.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    senders: BTreeMap<u32, Sender>,
    /// What readers saw.
    seen: BTreeMap<u64, Id>,
    /// The end that readers saw or were told, at least.
    end: u64,
    /// Where a trim that was acknowledged has put the start, and where one that was asked for may have.
    trimmed: (u64, u64),
}

/// A commit that took so long was tried more than once, most likely.
const SLOW_COMMIT: Duration = Duration::from_millis(500);

/// What a committed position may be.
#[derive(Clone, Debug, Default)]
struct Position {
    acked: Option<u64>,
    attempted: u64,
    /// Those that were acknowledged late, and how late: of use to whoever asks why a position has gone back.
    slow: BTreeMap<u64, Duration>,
}

impl Position {
    /// What is known of how a position came about.
    fn history(&self, offset: Option<u64>) -> String {
        let slow = offset.and_then(|offset| self.slow.get(&offset));
        slow.map_or_else(String::new, |took| format!(" (the commit of {} took {took:.1?})", offset.unwrap_or_default()))
    }
}

/// Whether a topic is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    Gone,
    /// It was asked to come or to go, and not answered.
    Unknown,
}

/// A record as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read<'a> {
    pub(crate) offset: u64,
    pub(crate) time_ms: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

/// Sums for the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Sums {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    /// Not delivered, as far as the producer knows: of those, whose failure is no fault.
    pub(crate) undelivered: u64,
    /// By readers during the load and by checks, each time.
    pub(crate) read: u64,
    pub(crate) commits: u64,
    pub(crate) trims: u64,
    pub(crate) topics_created: u64,
    pub(crate) topics_deleted: u64,
}

impl Sums {
    /// Both together.
    pub(crate) fn add(&mut self, more: Self) {
        self.sent += more.sent;
        self.acked += more.acked;
        self.undelivered += more.undelivered;
        self.read += more.read;
        self.commits += more.commits;
        self.trims += more.trims;
        self.topics_created += more.topics_created;
        self.topics_deleted += more.topics_deleted;
    }
}

/// What is wrong, in sentences; few of many.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    pub(crate) listed: Vec<String>,
    pub(crate) count: u64,
}

impl Wrong {
    pub(crate) fn add(&mut self, what: String) {
        self.count += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(what);
        }
    }

    fn unless(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.add(what());
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By label: `topic#life/partition`.
    lanes: BTreeMap<String, Lane>,
    /// By name: the life, and whether it is there.
    topics: BTreeMap<String, (u32, Presence)>,
    /// By group and label.
    positions: BTreeMap<(String, String), Position>,
    pub(crate) wrong: Wrong,
    /// Why records were not delivered where that is no fault, and how often.
    pub(crate) excuses: BTreeMap<String, u64>,
    pub(crate) sums: Sums,
}

/// The key of a record.
pub(crate) fn key(id: Id) -> Option<String> {
    (!id.number.is_multiple_of(3)).then(|| format!("key-{}", id.number % 17))
}

/// The time of a record.
pub(crate) fn time_ms(id: Id) -> i64 {
    TIME_MS + i64::from(id.number)
}

/// The value of a record.
pub(crate) fn value(label: &str, id: Id) -> String {
    let mut value = format!("{label} {} {}|", id.producer, id.number);
    let mut state = (u64::from(id.producer) << 32 | u64::from(id.number)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Most are small, some are a page, a few are larger than a block.
    let most = [100, 100, 100, 300, 300, 300, 1500, 1500, 4000, 12_000][(next() % 10) as usize];
    let len = next() % most;
    while (value.len() as u64) < len {
        // Half of it repeats itself, so that compression has something to do.
        let word = next();
        let _ = if word & 1 == 0 { write!(value, "{word:016x}") } else { write!(value, "millpond keeps it ") };
    }
    value
}

/// The name at the head of a value.
fn name(value: &[u8]) -> Option<(&str, Id)> {
    let end = value.iter().position(|byte| *byte == b'|')?;
    let mut words = std::str::from_utf8(&value[..end]).ok()?.split(' ');
    let (label, producer, number) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((label, Id { producer, number }))
}

impl Ledger {
    /// The label of a partition of a topic as it is now.
    pub(crate) fn label(&self, topic: &str, partition: u32) -> String {
        format!("{topic}#{}/{partition}", self.topics.get(topic).map_or(0, |(life, _)| *life))
    }

    fn lane(&mut self, label: &str) -> &mut Lane {
        if !self.lanes.contains_key(label) {
            self.lanes.insert(label.to_owned(), Lane::default());
        }
        self.lanes.get_mut(label).expect("inserted if it was missing")
    }

    /// A record is about to be handed to the client.
    pub(crate) fn sending(&mut self, label: &str, producer: u32, promise: Promise) -> Id {
        self.sums.sent += 1;
        let sender = self.lane(label).senders.entry(producer).or_insert(Sender { promise, fates: Vec::new() });
        sender.fates.push(Fate::Unknown);
        Id { producer, number: sender.fates.len() as u32 - 1 }
    }

    /// The client has said what became of it.
    pub(crate) fn decided(&mut self, label: &str, id: Id, fate: Fate) {
        let acked = matches!(fate, Fate::Acked(_));
        self.sums.acked += u64::from(acked);
        self.sums.undelivered += u64::from(!acked);
        let lane = self.lane(label);
        let known = lane.senders.get_mut(&id.producer).and_then(|s| s.fates.get_mut(id.number as usize));
        *known.expect("only what was entered is decided") = fate;
        if let Fate::Refused = fate
            && let Some(offset) = lane.seen.iter().find_map(|(offset, seen)| (*seen == id).then_some(*offset))
        {
            self.wrong.add(format!("{label}@{offset}: {id} was refused as having no effect, and a reader had seen it"));
        }
    }

    /// A record was not delivered, and may not have been.
    pub(crate) fn excuse(&mut self, why: String) {
        let known = self.excuses.len() < LISTED_MAX || self.excuses.contains_key(&why);
        *self.excuses.entry(if known { why } else { "other reasons".into() }).or_default() += 1;
    }

    /// A topic is about to be made. Its life begins with that.
    pub(crate) fn creating(&mut self, topic: &str) {
        let life = self.topics.get(topic).map_or(0, |(life, _)| life + 1);
        self.topics.insert(topic.to_owned(), (life, Presence::Unknown));
    }

    /// It was made.
    pub(crate) fn created(&mut self, topic: &str) {
        self.sums.topics_created += 1;
        self.set(topic, Presence::There);
    }

    /// It is about to be deleted.
    pub(crate) fn deleting(&mut self, topic: &str) {
        self.set(topic, Presence::Unknown);
    }

    /// It was deleted, with all its records.
    pub(crate) fn deleted(&mut self, topic: &str) {
        self.sums.topics_deleted += 1;
        self.set(topic, Presence::Gone);
        let prefix = format!("{topic}#");
        self.lanes.retain(|label, _| !label.starts_with(&prefix));
    }

    fn set(&mut self, topic: &str, presence: Presence) {
        if let Some((_, now)) = self.topics.get_mut(topic) {
            *now = presence;
        }
    }

    /// Whether a topic is there.
    pub(crate) fn presence(&self, topic: &str) -> Presence {
        self.topics.get(topic).map_or(Presence::Gone, |(_, presence)| *presence)
    }

    /// Records below `before` are about to be deleted.
    pub(crate) fn trimming(&mut self, label: &str, before: u64) {
        let trimmed = &mut self.lane(label).trimmed;
        trimmed.1 = trimmed.1.max(before);
    }

    /// They were; the log starts at `start` now.
    pub(crate) fn trimmed(&mut self, label: &str, start: u64) {
        self.sums.trims += 1;
        let trimmed = &mut self.lane(label).trimmed;
        trimmed.0 = trimmed.0.max(start);
    }

    /// A position is about to be committed.
    pub(crate) fn committing(&mut self, group: &str, label: &str, offset: u64) {
        let position = self.positions.entry((group.to_owned(), label.to_owned())).or_default();
        position.attempted = position.attempted.max(offset);
    }

    /// It was.
    pub(crate) fn committed(&mut self, group: &str, label: &str, offset: u64, took: Duration) {
        self.sums.commits += 1;
        let position = self.positions.entry((group.to_owned(), label.to_owned())).or_default();
        if took >= SLOW_COMMIT {
            position.slow.insert(offset, took);
        }
        position.acked = Some(position.acked.map_or(offset, |acked| acked.max(offset)));
    }

    /// What was committed for a group, by label.
    pub(crate) fn acked(&self, group: &str) -> BTreeMap<String, u64> {
        let of_group = self.positions.iter().filter(|((name, _), _)| name == group);
        of_group.filter_map(|((_, label), position)| Some((label.clone(), position.acked?))).collect()
    }

    /// A member of a group stands at `offset` in a partition that was given to it after `committed` was.
    pub(crate) fn stands(&mut self, group: &str, label: &str, offset: u64, committed: u64) {
        self.wrong.unless(offset >= committed, || {
            format!("group {group}, {label}: its member stands at {offset}, and {committed} was committed before")
        });
    }

    /// A position was asked for after `committed` was, and this is what came.
    pub(crate) fn told(&mut self, group: &str, label: &str, told: Option<u64>, committed: u64) {
        if told.is_none_or(|told| told < committed) {
            let history = self.positions.get(&(group.to_owned(), label.to_owned())).map(|p| p.history(told)).unwrap_or_default();
            let asked = format!("and {committed} was committed before it was asked for{history}");
            self.wrong.add(format!("group {group}, {label}: the position was told as {told:?}, {asked}"));
        }
    }

    /// A reader got `offset` next.
    pub(crate) fn reads_on(&mut self, label: &str, due: u64, offset: u64) {
        self.wrong.unless(offset == due, || format!("{label}: a reader got offset {offset}, where {due} was due"));
    }

    /// The end of a partition that readers know of.
    pub(crate) fn end(&self, label: &str) -> u64 {
        self.lanes.get(label).map_or(0, |lane| lane.end)
    }

    /// Takes in what a reader saw, and checks it against what was sent and what was seen before. Who it is, if it is right so far.
    pub(crate) fn seen(&mut self, label: &str, read: &Read<'_>) -> Option<Id> {
        self.sums.read += 1;
        match self.check(label, read) {
            Ok(id) => {
                let lane = self.lane(label);
                lane.seen.insert(read.offset, id);
                lane.end = lane.end.max(read.offset + 1);
                Some(id)
            }
            Err(what) => {
                self.wrong.add(format!("{label}@{}: {what}", read.offset));
                None
            }
        }
    }

    fn check(&self, label: &str, read: &Read<'_>) -> Result<Id, String> {
        let bytes = read.value.unwrap_or_default();
        let head = || String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let (lane, id) = name(bytes).ok_or_else(|| format!("a record that was never sent: {:?}", head()))?;
        if lane != label {
            return Err(format!("a record of {lane}: {:?}", head()));
        }
        let fate = self.lanes.get(label).and_then(|lane| lane.senders.get(&id.producer)?.fates.get(id.number as usize));
        match fate {
            None => return Err(format!("{id} was never sent")),
            Some(Fate::Refused) => return Err(format!("{id} was refused as having no effect, and is there")),
            Some(Fate::Unknown | Fate::Acked(_)) => {}
        }
        if value(label, id).as_bytes() != bytes || key(id).as_deref().map(str::as_bytes) != read.key || time_ms(id) != read.time_ms {
            return Err(format!("{id} has other bytes than were sent"));
        }
        match self.lanes.get(label).and_then(|lane| lane.seen.get(&read.offset)) {
            Some(before) if *before != id => Err(format!("{id}, where a reader saw {before} before")),
            _ => Ok(id),
        }
    }

    /// Checks all of a partition: its records in the order they were read, from its start to its end as the server tells them.
    pub(crate) fn check_lane(&mut self, label: &str, bounds: (u64, u64), reads: &[(u64, Id)]) {
        let (start, end) = bounds;
        let mut wrong = std::mem::take(&mut self.wrong);
        let lane = self.lane(label);
        let (least, most) = lane.trimmed;
        wrong.unless((least..=most).contains(&start), || format!("{label} starts at {start}; it was trimmed to {least}, or up to {most}"));
        wrong.unless(end >= lane.end, || format!("{label} ends at {end}; a reader saw it end at {} or later", lane.end));
        let mut due = start;
        for (offset, id) in reads {
            wrong.unless(*offset == due, || format!("{label}@{offset}: {id}, where offset {due} was due"));
            due = offset + 1;
        }
        wrong.unless(due == end, || format!("{label}: reading ended at {due}, before the end at {end}"));
        let held: BTreeMap<u64, Id> = reads.iter().copied().collect();
        for (producer, sender) in &lane.senders {
            sender.check(label, *producer, start, &held, &mut wrong);
        }
        lane.end = lane.end.max(end);
        self.wrong = wrong;
    }

    /// Checks which topics the server has.
    pub(crate) fn check_topics(&mut self, names: &[String]) {
        for (topic, (_, presence)) in &self.topics {
            let is_there = names.contains(topic);
            match presence {
                Presence::There if !is_there => self.wrong.add(format!("topic {topic} was created and is not there")),
                Presence::Gone if is_there => self.wrong.add(format!("topic {topic} was deleted and is there")),
                _ => {}
            }
        }
        for name in names.iter().filter(|name| !self.topics.contains_key(*name)) {
            self.wrong.add(format!("topic {name} was never created"));
        }
    }

    /// Checks the positions of a group, as (label, offset).
    pub(crate) fn check_positions(&mut self, group: &str, found: &BTreeMap<String, u64>) {
        for ((_, label), position) in self.positions.iter().filter(|((name, _), _)| name == group) {
            let what = match (position.acked, found.get(label)) {
                (Some(acked), None) => format!("position {acked} was committed and is lost"),
                (Some(acked), Some(now)) if *now < acked => {
                    format!("position {acked} was committed, it is {now}{}", position.history(Some(*now)))
                }
                (_, Some(now)) if *now > position.attempted => format!("it is {now}, no more than {} was committed", position.attempted),
                _ => continue,
            };
            self.wrong.add(format!("group {group}, {label}: {what}"));
        }
    }

    /// The groups that committed something.
    pub(crate) fn groups(&self) -> Vec<String> {
        let mut groups: Vec<String> = self.positions.keys().map(|(group, _)| group.clone()).collect();
        groups.dedup();
        groups
    }

    /// The topics that are there.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.topics.iter().filter(|(_, (_, presence))| *presence == Presence::There).map(|(name, _)| name.clone()).collect()
    }
}

impl Sender {
    fn check(&self, label: &str, producer: u32, start: u64, held: &BTreeMap<u64, Id>, wrong: &mut Wrong) {
        let mine = held.iter().filter(|(_, id)| id.producer == producer).map(|(offset, id)| (*offset, id.number));
        if self.promise.once {
            let mut last: Option<u32> = None;
            for (offset, number) in mine {
                let id = Id { producer, number };
                wrong.unless(last != Some(number), || format!("{label}@{offset}: {id} for the second time in a row"));
                wrong.unless(last.is_none_or(|last| last <= number), || {
                    format!("{label}@{offset}: {id} after record {}, which was sent later", last.unwrap_or_default())
                });
                last = last.max(Some(number));
            }
        }
        if !self.promise.durable {
            return;
        }
        for (number, fate) in self.fates.iter().enumerate() {
            let Fate::Acked(Some(offset)) = fate else { continue };
            let id = Id { producer, number: number as u32 };
            let elsewhere = || match held.iter().find(|(_, held)| **held == id) {
                Some((offset, _)) => format!("is at {offset}"),
                None => "is lost".to_owned(),
            };
            match held.get(offset) {
                Some(there) => {
                    wrong.unless(*there == id, || format!("{label}@{offset}: {there}, where {id} was acknowledged, which {}", elsewhere()))
                }
                None => wrong.unless(*offset < start, || format!("{label}@{offset}: {id} was acknowledged there and {}", elsewhere())),
            }
        }
    }
}

#[cfg(test)]
mod tests;
