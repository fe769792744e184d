//! Settings of a topic, by Kafka's names: what each may be, what it is if nobody says, and what it means.
//!
//! Only what differs from the defaults is written down, so a better default reaches old topics too. What every setting of
//! [`SPECS`] promises is kept: most have effect, and some of Kafka's (of its files, of syncing, of elections) hold here whatever is asked for, and take no value
//! of which that would not be true. A name that is not listed is refused, never stored and ignored.

use super::{CatalogError, names::shorten};
use millpond_log::GroupConfig;
use millpond_runtime::limits::{BATCH_BYTES_LIMIT, BATCH_BYTES_MAX};
use millpond_wire::messages::Setting;
use std::collections::BTreeMap;

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// A whole number within bounds, both included.
    Int {
        /// Lowest.
        min: i64,
        /// Highest.
        max: i64,
    },
    /// From 0 to 1.
    Ratio,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One or more of these words, separated by commas.
    Words(&'static [&'static str]),
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Kafka's name.
    pub name: &'static str,
    /// What it may be.
    pub values: Values,
    /// What it is if nobody says.
    pub default: &'static str,
    /// What it does, for help texts.
    pub help: &'static str,
}

const WEEK_MS: &str = "604800000";
const DAY_MS: &str = "86400000";
/// 1 GiB, as Kafka has it.
const SEGMENT_BYTES: &str = "1073741824";
/// 1 MiB, as `BATCH_BYTES_MAX` has it.
const MESSAGE_BYTES: &str = "1048576";

/// Every setting there is, by name.
pub const SPECS: &[Spec] = &[
    Spec {
        name: "cleanup.policy",
        values: Values::Words(&["delete", "compact"]),
        default: "delete",
        help: "what happens to old records: `delete` by age and size, `compact` to the last value of each key, or `compact,delete`",
    },
    Spec {
        name: "compression.type",
        values: Values::Word(&["producer"]),
        default: "producer",
        help: "who compresses: batches stay as their producers have compressed them",
    },
    Spec {
        name: "delete.retention.ms",
        values: Values::Int { min: 0, max: i64::MAX },
        default: DAY_MS,
        help: "how long a compacted topic keeps tombstones",
    },
    Spec {
        name: "file.delete.delay.ms",
        values: Values::Int { min: 0, max: i64::MAX },
        default: "0",
        help: "kept for Kafka's tools: a file that goes does so as soon as nobody reads it any more",
    },
    Spec {
        name: "flush.messages",
        values: Values::Int { min: 1, max: i64::MAX },
        default: "1",
        help: "kept for Kafka's tools: every batch is synced before it is acknowledged",
    },
    Spec {
        name: "flush.ms",
        values: Values::Int { min: 0, max: i64::MAX },
        default: "0",
        help: "kept for Kafka's tools: every batch is synced before it is acknowledged",
    },
    Spec {
        name: "index.interval.bytes",
        values: Values::Int { min: 0, max: i64::MAX },
        default: "4096",
        help: "kept for Kafka's tools: every block is indexed",
    },
    Spec {
        name: "max.message.bytes",
        values: Values::Int { min: 1024, max: BATCH_BYTES_LIMIT as i64 },
        default: MESSAGE_BYTES,
        help: "largest batch that is accepted, in bytes, compressed as it comes",
    },
    Spec {
        name: "message.timestamp.type",
        values: Values::Word(&["CreateTime", "LogAppendTime"]),
        default: "CreateTime",
        help: "whose clock a record's timestamp is: the producer's or the server's",
    },
    Spec {
        name: "min.cleanable.dirty.ratio",
        values: Values::Ratio,
        default: "0.5",
        help: "kept for Kafka's tools: compaction goes by what it would free",
    },
    Spec {
        name: "min.compaction.lag.ms",
        values: Values::Int { min: 0, max: i64::MAX },
        default: "0",
        help: "how long a record stays before compaction may remove it",
    },
    Spec {
        name: "min.insync.replicas",
        values: Values::Int { min: 1, max: i64::MAX },
        default: "1",
        help: "how many replicas have a batch that is acknowledged to all: a majority has, so no more than that can be asked for",
    },
    Spec {
        name: "preallocate",
        values: Values::Word(&["false", "true"]),
        default: "false",
        help: "kept for Kafka's tools: journals are written in advance, segments are not",
    },
    Spec {
        name: "producer.id.expiration.ms",
        values: Values::Int { min: 60_000, max: i64::MAX },
        default: DAY_MS,
        help: "how long the sequence numbers of a silent producer are remembered",
    },
    Spec {
        name: "remote.storage.enable",
        values: Values::Word(&["false"]),
        default: "false",
        help: "whether old segments go elsewhere: not yet",
    },
    Spec {
        name: "retention.bytes",
        values: Values::Int { min: -1, max: i64::MAX },
        default: "-1",
        help: "the oldest segments of a partition go when it is over this size; -1 for no limit",
    },
    Spec {
        name: "retention.ms",
        values: Values::Int { min: -1, max: i64::MAX },
        default: WEEK_MS,
        help: "segments go when their youngest record is older than this; -1 keeps them for ever",
    },
    Spec {
        name: "segment.bytes",
        values: Values::Int { min: 1_048_576, max: 1_073_741_824 },
        default: SEGMENT_BYTES,
        help: "size at which a segment is sealed and a new one begun",
    },
    Spec {
        name: "segment.index.bytes",
        values: Values::Int { min: 4, max: i64::MAX },
        default: "10485760",
        help: "kept for Kafka's tools: an index is as long as its segment needs",
    },
    Spec {
        name: "segment.jitter.ms",
        values: Values::Int { min: 0, max: i64::MAX },
        default: "0",
        help: "kept for Kafka's tools: segments are sealed one at a time for each core",
    },
    Spec {
        name: "segment.ms",
        values: Values::Int { min: 1000, max: i64::MAX },
        default: WEEK_MS,
        help: "age at which a segment is sealed even if it is small",
    },
    Spec {
        name: "unclean.leader.election.enable",
        values: Values::Word(&["false"]),
        default: "false",
        help: "whether a replica may lead that lacks what was acknowledged: never by itself (`millpond node recover`)",
    },
];

/// The settings of one topic: checked, and ready to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    overrides: BTreeMap<&'static str, String>,
    /// Age in ms past which records go; `None` for never.
    pub retention_ms: Option<u64>,
    /// Size of a partition in bytes past which its oldest segments go; `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// Size in bytes at which a segment is sealed.
    pub segment_bytes: u64,
    /// Age in ms at which a segment is sealed.
    pub segment_ms: u64,
    /// Whether only the last value of each key is kept.
    pub compact: bool,
    /// Whether age and size remove records.
    pub delete: bool,
    /// How long tombstones of a compacted topic stay, in ms.
    pub delete_retention_ms: u64,
    /// How long a record is safe from compaction, in ms.
    pub min_compaction_lag_ms: u64,
    /// How long a silent producer's sequence numbers are remembered, in ms.
    pub producer_expiry_ms: u64,
    /// Largest batch accepted, in bytes.
    pub message_bytes_max: usize,
    /// Whether the server's clock stamps records.
    pub append_time: bool,
    /// How many replicas must have what is acknowledged to all. A majority has it: it is for the catalog to see that this is enough.
    pub insync_min: usize,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self::build(BTreeMap::new()).expect("the defaults are within their own bounds: tests::defaults_are_valid")
    }
}

impl TopicSettings {
    /// Settings from `(name, value)` pairs; names that are not given have their defaults.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, CatalogError> {
        Self::default().with(pairs)
    }

    /// These settings with some changed. An empty value takes a setting back to its default.
    pub fn with<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, CatalogError> {
        let mut overrides = self.overrides.clone();
        for (name, value) in pairs {
            let spec = find(name)?;
            if value.is_empty() {
                overrides.remove(spec.name);
            } else {
                overrides.insert(spec.name, canonical(spec, value)?);
            }
        }
        Self::build(overrides)
    }

    /// What differs from the defaults, by name.
    pub fn overrides(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.overrides.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// All settings in force, as the wire has them.
    #[must_use]
    pub fn to_wire(&self) -> Vec<Setting> {
        SPECS
            .iter()
            .map(|spec| Setting {
                name: spec.name.to_owned(),
                value: self.text(spec).to_owned(),
                is_default: !self.overrides.contains_key(spec.name),
            })
            .collect()
    }

    fn text(&self, spec: &Spec) -> &str {
        self.overrides.get(spec.name).map_or(spec.default, String::as_str)
    }

    fn build(overrides: BTreeMap<&'static str, String>) -> Result<Self, CatalogError> {
        let text = |name: &str| -> String {
            let spec = SPECS.iter().find(|s| s.name == name).expect("every field below is in SPECS");
            overrides.get(name).cloned().unwrap_or_else(|| spec.default.to_owned())
        };
        // Every value has been through `canonical`, so it parses; a negative one means "no limit".
        let limit = |name: &str| text(name).parse::<u64>().ok();
        let number = |name: &str| limit(name).unwrap_or(0);
        let policy = text("cleanup.policy");
        let settings = Self {
            retention_ms: limit("retention.ms"),
            retention_bytes: limit("retention.bytes"),
            segment_bytes: number("segment.bytes"),
            segment_ms: number("segment.ms"),
            compact: policy.split(',').any(|p| p == "compact"),
            delete: policy.split(',').any(|p| p == "delete"),
            delete_retention_ms: number("delete.retention.ms"),
            min_compaction_lag_ms: number("min.compaction.lag.ms"),
            producer_expiry_ms: number("producer.id.expiration.ms"),
            message_bytes_max: number("max.message.bytes") as usize,
            append_time: text("message.timestamp.type") == "LogAppendTime",
            insync_min: number("min.insync.replicas") as usize,
            overrides,
        };
        if (settings.message_bytes_max as u64) > settings.segment_bytes {
            return Err(CatalogError::BadSetting {
                name: "max.message.bytes".into(),
                value: settings.message_bytes_max.to_string(),
                why: format!("a batch must fit into a segment, and segment.bytes is {}", settings.segment_bytes),
            });
        }
        Ok(settings)
    }
}

impl From<&TopicSettings> for GroupConfig {
    fn from(s: &TopicSettings) -> Self {
        Self {
            retention_ms: s.retention_ms,
            retention_bytes: s.retention_bytes,
            segment_bytes: s.segment_bytes,
            segment_ms: s.segment_ms,
            compact: s.compact,
            delete: s.delete,
            delete_retention_ms: s.delete_retention_ms,
            min_compaction_lag_ms: s.min_compaction_lag_ms,
            producer_expiry_ms: s.producer_expiry_ms,
        }
    }
}

fn find(name: &str) -> Result<&'static Spec, CatalogError> {
    SPECS.iter().find(|spec| spec.name == name).ok_or_else(|| CatalogError::UnknownSetting { name: shorten(name) })
}

/// The value as it is stored: checked, and always spelled the same way.
fn canonical(spec: &Spec, value: &str) -> Result<String, CatalogError> {
    let bad = |why: String| CatalogError::BadSetting { name: spec.name.into(), value: shorten(value), why };
    match spec.values {
        Values::Int { min, max } => {
            let n: i64 = value.trim().parse().map_err(|_| bad("a whole number is needed".into()))?;
            if n < min || n > max {
                return Err(bad(format!("it must be from {min} to {max}")));
            }
            Ok(n.to_string())
        }
        Values::Ratio => {
            let ratio: f64 = value.trim().parse().map_err(|_| bad("a number is needed".into()))?;
            if (0.0..=1.0).contains(&ratio) { Ok(ratio.to_string()) } else { Err(bad("it must be from 0 to 1".into())) }
        }
        Values::Word(words) => words
            .iter()
            .find(|w| w.eq_ignore_ascii_case(value.trim()))
            .map(|w| (*w).to_owned())
            .ok_or_else(|| bad(format!("it must be one of: {}", words.join(", ")))),
        Values::Words(words) => {
            let given: Vec<&str> = value.split(',').map(str::trim).collect();
            match given.iter().find(|g| !words.contains(g)) {
                Some(_) => Err(bad(format!("it must be one or more of: {}", words.join(", ")))),
                None => Ok(words.iter().copied().filter(|w| given.contains(w)).collect::<Vec<_>>().join(",")),
            }
        }
    }
}

const _: () = assert!(BATCH_BYTES_MAX == 1_048_576, "MESSAGE_BYTES spells this number");
