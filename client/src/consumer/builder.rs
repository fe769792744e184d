//! How to consume: every setting with its default.

use super::{Consumer, Rebalance};
use crate::{
    client::Client,
    error::{Error, Result},
    fetch::{Isolation, Limits, OffsetReset},
    position::Position,
};
use std::{fmt, sync::Arc, time::Duration};

type Listener = dyn Fn(Rebalance<'_>) + Send + Sync;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) group: Option<String>,
    pub(super) reset: OffsetReset,
    pub(super) start: Option<Position>,
    pub(super) auto_commit: Option<Duration>,
    pub(super) session_timeout: Duration,
    pub(super) limits: Limits,
    pub(super) listener: Option<Arc<Listener>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("group", &self.group).field("reset", &self.reset).finish_non_exhaustive()
    }
}

/// How to consume. Made by [`Client::consumer`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ConsumerBuilder {
    client: Client,
    topics: Vec<String>,
    settings: Settings,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        let limits = Limits {
            buffer_bytes: 32 * 1024 * 1024,
            part_bytes_max: 1024 * 1024,
            strands: 3,
            spread: false,
            wait: Duration::from_millis(500),
            replay: false,
            by_part: false,
            isolation: Isolation::default(),
        };
        let settings = Settings {
            group: None,
            reset: OffsetReset::default(),
            start: None,
            auto_commit: Some(Duration::from_secs(5)),
            session_timeout: Duration::from_secs(45),
            limits,
            listener: None,
        };
        Self { client, topics: Vec::new(), settings }
    }

    /// The consumer group: its members share the partitions of their topics, and its positions are kept at the server.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.settings.group = Some(name.into());
        self
    }

    /// Topics to read; with a group as a member of it, else all partitions that they have now.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// What to do where a position is not, or no longer, in the log. Default: [`OffsetReset::Latest`].
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.settings.reset = reset;
        self
    }

    /// Where to begin in partitions of which nothing was committed. Default: as [`ConsumerBuilder::offset_reset`] says.
    pub fn start(mut self, position: Position) -> Self {
        self.settings.start = Some(position);
        self
    }

    /// What of transactions is read. Default: [`Isolation::ReadCommitted`] (Kafka's clients: the other one).
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.limits.isolation = isolation;
        self
    }

    /// How often positions are committed without being told to; `None` for never. Default: every 5 s, and when a partition is given up.
    pub fn auto_commit(mut self, every: Option<Duration>) -> Self {
        self.settings.auto_commit = every;
        self
    }

    /// A member that is silent for so long is taken for dead; 1 s to 30 minutes. Default: 45 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.settings.session_timeout = timeout.clamp(Duration::from_secs(1), Duration::from_secs(1_800));
        self
    }

    /// Memory for what was fetched and not read yet, in bytes; at least 128 KiB for each partition. Default: 32 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.buffer_bytes = bytes;
        self
    }

    /// What one fetch asks of one partition at most, in bytes: 64 KiB to 8 MiB. Default: 1 MiB.
    pub fn fetch_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.part_bytes_max = bytes.clamp(64 * 1024, 8 * 1024 * 1024);
        self
    }

    /// How long the server holds a fetch back while there are no records; up to 60 s. They are sent as soon as there are some. Default: 500 ms.
    pub fn fetch_wait(mut self, wait: Duration) -> Self {
        self.settings.limits.wait = wait.min(Duration::from_secs(60));
        self
    }

    /// Is told what a member of a group gets and gives up. It is called between two heartbeats and must not block.
    pub fn on_rebalance(mut self, listener: impl Fn(Rebalance<'_>) + Send + Sync + 'static) -> Self {
        self.settings.listener = Some(Arc::new(listener));
        self
    }

    /// Makes the consumer. Without topics it reads nothing until [`Consumer::subscribe`] or [`Consumer::assign`].
    ///
    /// # Errors
    /// If there is no group and one of the topics is not there. A group waits for topics to be created.
    pub async fn build(self) -> Result<Consumer> {
        let Self { client, topics, settings } = self;
        let start = match (settings.start, settings.reset) {
            (Some(position), _) => Some(position),
            (None, OffsetReset::Earliest) => Some(Position::Earliest),
            (None, OffsetReset::Latest) => Some(Position::Latest),
            (None, OffsetReset::Fail) => None,
        };
        let has_group = settings.group.is_some();
        let mut consumer = Consumer::new(client, Settings { start, ..settings });
        if topics.is_empty() {
            return Ok(consumer);
        }
        if has_group {
            consumer.subscribe(topics)?;
            return Ok(consumer);
        }
        let start = start.ok_or_else(|| Error::Invalid("without a group, say where to start or how to reset".into()))?;
        for topic in topics {
            consumer.assign_topic(&topic, start).await?;
        }
        Ok(consumer)
    }
}
