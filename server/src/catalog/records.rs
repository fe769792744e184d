//! What the catalog writes into `__meta`: JSON, since people read it when something is wrong.
//!
//! ```text
//!   key              value
//!   topic/<name>     {"v":1,"topic_id":3,"internal":false,"partitions":[[17,0],[18,1]],"settings":{"retention.ms":"1000"}}
//!   quota/<client>   {"v":1,"produce_bytes_per_s":1000,"fetch_bytes_per_s":0}
//!   ids              {"v":1,"group":19,"topic":4,"producer":2000,"epoch":7}
//! ```
//!
//! A partition is `[group, home]`, its number is its place in the list. `ids` holds the next free number of each kind:
//! numbers are never given twice, even after what bore them is gone. An unknown `v` is refused, never guessed.

use super::{CatalogError, Home, Ids, META, Partition, Quota, Topic, TopicSettings};
use crate::keyed::{BadRecord, Record};
use bytes::Bytes;
use millpond_runtime::GroupId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const VERSION: u32 = 1;

/// What a record says.
#[derive(Debug)]
pub(super) enum Said {
    Topic(String, Option<Topic>),
    Quota(String, Option<Quota>),
    Ids(Ids),
}

#[derive(Serialize, Deserialize)]
struct TopicValue {
    v: u32,
    topic_id: u64,
    internal: bool,
    partitions: Vec<(u64, u16)>,
    settings: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct QuotaValue {
    v: u32,
    produce_bytes_per_s: u64,
    fetch_bytes_per_s: u64,
}

#[derive(Serialize, Deserialize)]
struct IdsValue {
    v: u32,
    group: u64,
    topic: u64,
    producer: u64,
    epoch: u64,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

pub(super) fn topic(topic: &Topic) -> Record {
    let value = TopicValue {
        v: VERSION,
        topic_id: topic.topic_id,
        internal: topic.internal,
        partitions: topic.partitions.iter().map(|p| (p.group.0, p.home.0)).collect(),
        settings: topic.settings.overrides().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
    };
    Record { key: topic_key(&topic.name), value: Some(json(&value)) }
}

pub(super) fn topic_gone(name: &str) -> Record {
    Record { key: topic_key(name), value: None }
}

pub(super) fn quota(client_id: &str, quota: Quota) -> Record {
    let value = (!quota.is_unlimited()).then(|| {
        json(&QuotaValue { v: VERSION, produce_bytes_per_s: quota.produce_bytes_per_s, fetch_bytes_per_s: quota.fetch_bytes_per_s })
    });
    Record { key: format!("quota/{client_id}").into(), value }
}

pub(super) fn ids(ids: Ids) -> Record {
    let Ids { group, topic, producer, epoch } = ids;
    Record { key: Bytes::from_static(b"ids"), value: Some(json(&IdsValue { v: VERSION, group, topic, producer, epoch })) }
}

/// Reads one record back.
pub(super) fn read(key: &[u8], value: Option<&[u8]>) -> Result<Said, BadRecord> {
    let bad = |why: String| BadRecord::new(META, key, why);
    let text = std::str::from_utf8(key).map_err(|_| bad("the key is not text".into()))?;
    if let Some(name) = text.strip_prefix("topic/") {
        let topic = value.map(|v| read_topic(name, parse(key, v)?).map_err(|e| bad(e.to_string()))).transpose()?;
        return Ok(Said::Topic(name.to_owned(), topic));
    }
    if let Some(client) = text.strip_prefix("quota/") {
        let quota = value.map(|v| parse::<QuotaValue>(key, v)).transpose()?;
        let quota = quota.map(|q| Quota { produce_bytes_per_s: q.produce_bytes_per_s, fetch_bytes_per_s: q.fetch_bytes_per_s });
        return Ok(Said::Quota(client.to_owned(), quota));
    }
    match (text, value) {
        ("ids", Some(v)) => {
            let IdsValue { v: _, group, topic, producer, epoch } = parse(key, v)?;
            Ok(Said::Ids(Ids { group, topic, producer, epoch }))
        }
        ("ids", None) => Err(bad("it is deleted, which no version does".into())),
        _ => Err(bad("no such kind of key".into())),
    }
}

fn read_topic(name: &str, value: TopicValue) -> Result<Topic, CatalogError> {
    super::names::check(name)?;
    Ok(Topic {
        name: name.to_owned(),
        topic_id: value.topic_id,
        internal: value.internal,
        partitions: value.partitions.iter().map(|&(group, home)| Partition { group: GroupId(group), home: Home(home) }).collect(),
        settings: TopicSettings::new(value.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())))?,
    })
}

fn topic_key(name: &str) -> Bytes {
    format!("topic/{name}").into()
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain structs with text keys always serialise").into()
}

fn parse<'a, T: Deserialize<'a>>(key: &[u8], value: &'a [u8]) -> Result<T, BadRecord> {
    let bad = |why: String| BadRecord::new(META, key, why);
    let VersionOnly { v } = serde_json::from_slice(value).map_err(|e| bad(e.to_string()))?;
    if v != VERSION {
        return Err(bad(format!("it has version {v}, and only {VERSION} is known here")));
    }
    serde_json::from_slice(value).map_err(|e| bad(e.to_string()))
}
