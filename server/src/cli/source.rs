//! Where `consume` and `replay` get their records from: a replay, a consumer of its own choice, or a member of a group.

use super::{fail::Result, remote::Remote, units::Point};
use clap::{Args, ValueEnum};
use futures_lite::{Stream, StreamExt, future::poll_once};
use millpond_client::{Code, Consumer, ConsumerRecord, Error, Isolation, OffsetReset, OffsetSpec, Position, ReplayMerged, ReplayRecords};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// Most records of one call of [`Source::next`].
const RECORDS_MAX: usize = 1_000;
/// How often a member looks whether it has reached the end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a member waits for a partition before it takes it that the others read them all.
const ASSIGNED_WITHIN: Duration = Duration::from_secs(10);

/// What is read of transactions.
#[derive(Args, Clone, Copy)]
pub(super) struct Transactions {
    /// Of transactions, read those that took effect, once they have, or all that they write
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Level::ReadCommitted)]
    isolation: Level,
}

/// As Kafka's `isolation.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    ReadCommitted,
    ReadUncommitted,
}

impl Transactions {
    fn isolation(self) -> Isolation {
        match self.isolation {
            Level::ReadCommitted => Isolation::ReadCommitted,
            Level::ReadUncommitted => Isolation::ReadUncommitted,
        }
    }
}

/// What to read.
pub(super) struct Reading<'a> {
    pub(super) topics: &'a [String],
    /// All where it is empty.
    pub(super) partitions: &'a [u32],
    pub(super) from: Point,
    pub(super) to: Point,
    pub(super) of: Transactions,
}

/// Positions of partitions: the next offset to read.
pub(super) type Positions = BTreeMap<(Arc<str>, u32), u64>;

/// Records as they come.
pub(super) enum Source {
    /// Stretches that end, one topic after the other.
    Stretches { stretches: VecDeque<Stretch>, passed: u64, total: u64, failed: Option<Error> },
    /// What is there and what comes.
    Live(Box<Consumer>),
    /// The same, shared with other members; up to what was the end when it began, where that is known.
    Member { consumer: Box<Consumer>, ends: Option<Positions>, joined: Instant },
}

/// One topic's stretch.
pub(super) enum Stretch {
    Plain(Box<ReplayRecords>),
    Merged(Box<ReplayMerged>),
}

impl Stretch {
    fn total(&self) -> u64 {
        match self {
            Self::Plain(records) => records.total(),
            Self::Merged(records) => records.total(),
        }
    }

    fn passed(&self) -> u64 {
        match self {
            Self::Plain(records) => records.passed(),
            Self::Merged(records) => records.passed(),
        }
    }

    async fn gather(&mut self, max: usize) -> (Vec<ConsumerRecord>, Option<Error>) {
        match self {
            Self::Plain(records) => gather(records, max).await,
            Self::Merged(records) => gather(records, max).await,
        }
    }
}

/// Waits for one record, then takes what is there. None at all at the end of the stream.
async fn gather<S>(stream: &mut S, max: usize) -> (Vec<ConsumerRecord>, Option<Error>)
where
    S: Stream<Item = Result<ConsumerRecord, Error>> + Unpin,
{
    let mut records = Vec::new();
    let mut next = stream.next().await;
    loop {
        match next {
            Some(Ok(record)) => records.push(record),
            Some(Err(error)) => return (records, Some(error)),
            None => return (records, None),
        }
        if records.len() >= max {
            return (records, None);
        }
        next = match poll_once(stream.next()).await {
            Some(next) => next,
            None => return (records, None),
        };
    }
}

impl Source {
    /// Reads stretches that end.
    pub(super) async fn replay(remote: &Remote, what: &Reading<'_>, merge: bool) -> Result<Self> {
        let mut stretches = VecDeque::new();
        for topic in what.topics {
            let mut replay = remote.client.replay(topic).from(position(what.from)).to(position(what.to)).isolation(what.of.isolation());
            if !what.partitions.is_empty() {
                replay = replay.partitions(what.partitions.iter().copied());
            }
            stretches.push_back(match merge {
                false => Stretch::Plain(Box::new(replay.records().await?)),
                true => Stretch::Merged(Box::new(replay.merged().await?)),
            });
        }
        let total = stretches.iter().map(Stretch::total).sum();
        Ok(Self::Stretches { stretches, passed: 0, total, failed: None })
    }

    /// Reads on and on.
    pub(super) async fn live(remote: &Remote, topics: &[String], partitions: &[u32], from: Point, of: Transactions) -> Result<Self> {
        let mut consumer = remote.client.consumer().isolation(of.isolation()).build().await?;
        for topic in topics {
            if partitions.is_empty() {
                consumer.assign_topic(topic, position(from)).await?;
            } else {
                let chosen: Vec<_> = partitions.iter().map(|p| (*p, position(from))).collect();
                consumer.assign(topic, &chosen).await?;
            }
        }
        Ok(Self::Live(Box::new(consumer)))
    }

    /// Reads as a member of a group, which commits only what it is told to. `until_end`: up to what is the end now.
    pub(super) async fn join(
        remote: &Remote,
        group: &str,
        topics: &[String],
        beginning: bool,
        until_end: bool,
        of: Transactions,
    ) -> Result<Self> {
        let mut ends = Positions::new();
        for topic in topics {
            // A topic that is not there is told now; a member would wait for it.
            let (found, _) = remote.describe_topic(topic).await?;
            if until_end {
                let asked: Vec<_> = (0..found.partitions.len() as u32).map(|p| (p, OffsetSpec::Latest)).collect();
                let offsets = remote.client.admin().list_offsets_by(of.isolation(), topic, &asked).await?;
                let name: Arc<str> = topic.as_str().into();
                ends.extend(asked.iter().zip(offsets).map(|((p, _), at)| ((Arc::clone(&name), *p), at.offset)));
            }
        }
        let reset = if beginning { OffsetReset::Earliest } else { OffsetReset::Latest };
        let consumer = remote.client.consumer().group(group).topics(topics).offset_reset(reset).auto_commit(None);
        let consumer = consumer.isolation(of.isolation()).build().await?;
        Ok(Self::Member { consumer: Box::new(consumer), ends: until_end.then_some(ends), joined: Instant::now() })
    }

    /// Some records, at most `max`; waits for the first. `None` at the end.
    pub(super) async fn next(&mut self, max: u64) -> Result<Option<Vec<ConsumerRecord>>> {
        let max = usize::try_from(max).unwrap_or(usize::MAX).clamp(1, RECORDS_MAX);
        match self {
            Self::Stretches { stretches, passed, failed, .. } => loop {
                if let Some(error) = failed.take() {
                    stretches.clear();
                    return Err(error.into());
                }
                let Some(stretch) = stretches.front_mut() else { return Ok(None) };
                let (records, error) = stretch.gather(max).await;
                *failed = error;
                if !records.is_empty() {
                    return Ok(Some(records));
                }
                if failed.is_none() {
                    *passed += stretch.total();
                    stretches.pop_front();
                }
            },
            Self::Live(consumer) => loop {
                let records = consumer.poll(max, Duration::from_secs(3600)).await?;
                if !records.is_empty() {
                    return Ok(Some(records));
                }
            },
            Self::Member { consumer, ends, joined } => loop {
                let Some(ends) = ends else {
                    let records = consumer.poll(max, Duration::from_secs(3600)).await?;
                    if !records.is_empty() {
                        return Ok(Some(records));
                    }
                    continue;
                };
                if at_end(consumer, ends, *joined) {
                    return Ok(None);
                }
                let mut records = consumer.poll(max, LOOK_EVERY).await?;
                records.retain(|r| ends.get(&(Arc::clone(&r.topic), r.partition)).is_none_or(|end| r.offset() < *end));
                if !records.is_empty() {
                    return Ok(Some(records));
                }
            },
        }
    }

    /// Commits positions, where there is a group. False if that has taken us for dead since they were read: then the records come again.
    pub(super) async fn commit(&mut self, positions: Positions) -> Result<bool> {
        if let Self::Member { consumer, .. } = self {
            let told = positions.into_iter().map(|((topic, partition), offset)| (topic.to_string(), partition, offset));
            match consumer.commit_positions(told).await {
                Err(error) if matches!(error.code(), Some(Code::UnknownMember | Code::FencedMember)) => return Ok(false),
                committed => committed?,
            }
        }
        Ok(true)
    }

    pub(super) async fn close(self) -> Result {
        match self {
            Self::Stretches { .. } => Ok(()),
            Self::Live(consumer) | Self::Member { consumer, .. } => Ok(consumer.close().await?),
        }
    }

    /// Offsets in all stretches.
    pub(super) fn total(&self) -> u64 {
        if let Self::Stretches { total, .. } = self { *total } else { 0 }
    }

    /// How many of them are behind.
    pub(super) fn passed(&self) -> u64 {
        let Self::Stretches { stretches, passed, .. } = self else { return 0 };
        passed + stretches.front().map_or(0, Stretch::passed)
    }
}

/// Whether a member has read everything that it has to.
fn at_end(consumer: &Consumer, ends: &Positions, joined: Instant) -> bool {
    let owned = consumer.assignment();
    if owned.is_empty() {
        return joined.elapsed() > ASSIGNED_WITHIN;
    }
    let reached = |(topic, partition): &(Arc<str>, u32)| {
        let end = ends.get(&(Arc::clone(topic), *partition)).copied().unwrap_or(0);
        consumer.position(topic, *partition).is_some_and(|at| at >= end)
    };
    // Where the last records were compacted away no record tells that the end was reached, but a fetch does.
    owned.iter().all(reached) || consumer.lag() == Some(0)
}

fn position(point: Point) -> Position {
    match point {
        Point::Earliest => Position::Earliest,
        Point::Latest => Position::Latest,
        Point::Offset(offset) => Position::Offset(offset),
        Point::Time(ms) => Position::Time(ms),
    }
}
