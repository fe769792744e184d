//! What the catalog writes into `__meta`: JSON, since people read it when something is wrong.
//!
//! ```text
//!   key              value
//!   topic/<name>     {"v":1,"topic_id":3,"internal":false,"partitions":[[17,0],[18,1]],"settings":{"retention.ms":"1000"},
//!                     "replicas":[null,{"first":[[5,1]],"now":[[5,1]],"wanted":[[5,1],[6,2]]}],"attempt":77}
//!   node/<id>        {"v":1,"host":"a.example","ip":"10.0.0.1","port":7400,"ports":[7401],"homes":1,"rack":"","meta":1,"state":"in"}
//!   meta             {"v":1,"first":[[1,1]]}
//!   quota/<client>   {"v":1,"produce_bytes_per_s":1000,"fetch_bytes_per_s":0}
//!   user-quota/[..]  {"v":1,"produce_bytes_per_s":0,"fetch_bytes_per_s":1000}
//!   user/<m>/<name>  {"v":1,"iterations":15000,"salt":"00ff","stored_key":"00ff","server_key":"00ff"}
//!   acl/[..]         {"v":1}
//!   ids              {"v":1,"group":19,"topic":4,"producer":2000,"node":2,"replica":7,"epoch":7,"deleted":5}
//! ```
//!
//! `<m>` is a mechanism, such as `SCRAM-SHA-256`; salts and keys are written in hexadecimal digits. An ACL is all
//! in its key: `acl/["topic","literal","orders","User:ann","*","read","allow"]`. A quota of a user is at `user-quota/["ann",null]`, one of a client id of hers at `user-quota/["ann","app"]`. A
//! partition is `[group, home]`, its number is its place in the list, and so are its replicas, each `[id, node]`; there are none where all
//! partitions are alone. Which attempt has made a topic is said where whoever asked has said it. A node that is being replaced says by which, in `replaced_by`. `meta` says with which replicas the catalog's own group began. `ids` holds
//! the next free number of each kind: numbers are never given twice, even after what bore them is gone. An unknown `v` is refused, never guessed.

use super::{CatalogError, FOUNDER, Home, Ids, META, Node, Partition, Quota, Replica, Replicas, Topic, TopicSettings, Whose};
use crate::{
    keyed::{BadRecord, Record},
    security::{
        Credential, Mechanism,
        acl::{Acl, Operation, Pattern, Permission, ResourceType},
    },
};
use bytes::Bytes;
use millpond_runtime::GroupId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const VERSION: u32 = 1;

/// What a record says.
#[derive(Debug)]
pub(super) enum Said {
    Topic(String, Option<Topic>),
    Quota(Whose, Option<Quota>),
    User(String, Mechanism, Option<Credential>),
    /// Whether it is there.
    Acl(Acl, bool),
    Ids(Ids),
    Node(u64, Option<Node>),
    MetaFirst(Vec<Replica>),
}

#[derive(Serialize, Deserialize)]
struct TopicValue {
    v: u32,
    topic_id: u64,
    internal: bool,
    partitions: Vec<(u64, u16)>,
    settings: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<Option<Replicas>>,
    #[serde(default, skip_serializing_if = "is_none")]
    attempt: u64,
}

fn is_none(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
struct NodeValue {
    v: u32,
    #[serde(flatten)]
    node: Node,
}

#[derive(Serialize, Deserialize)]
struct MetaValue {
    v: u32,
    first: Vec<Replica>,
}

#[derive(Serialize, Deserialize)]
struct QuotaValue {
    v: u32,
    produce_bytes_per_s: u64,
    fetch_bytes_per_s: u64,
}

#[derive(Serialize, Deserialize)]
struct UserValue {
    v: u32,
    iterations: u32,
    salt: String,
    stored_key: String,
    server_key: String,
}

#[derive(Serialize, Deserialize)]
struct AclValue {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct IdsValue {
    v: u32,
    group: u64,
    topic: u64,
    producer: u64,
    #[serde(default = "second_node")]
    node: u64,
    #[serde(default = "one")]
    replica: u64,
    epoch: u64,
    #[serde(default)]
    deleted: u64,
}

fn second_node() -> u64 {
    FOUNDER + 1
}

fn one() -> u64 {
    1
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
        replicas: if topic.partitions.iter().all(|p| p.replicas.is_none()) {
            Vec::new()
        } else {
            topic.partitions.iter().map(|p| p.replicas.as_deref().cloned()).collect()
        },
        attempt: topic.attempt,
    };
    Record { key: topic_key(&topic.name), value: Some(json(&value)) }
}

pub(super) fn topic_gone(name: &str) -> Record {
    Record { key: topic_key(name), value: None }
}

pub(super) fn quota(whose: &Whose, quota: Quota) -> Record {
    let value = (!quota.is_unlimited()).then(|| {
        json(&QuotaValue { v: VERSION, produce_bytes_per_s: quota.produce_bytes_per_s, fetch_bytes_per_s: quota.fetch_bytes_per_s })
    });
    let key = match whose {
        Whose { user: None, client } => format!("quota/{}", client.as_deref().unwrap_or_default()),
        Whose { user: Some(user), client } => {
            format!("user-quota/{}", serde_json::to_string(&(user, client)).expect("texts always serialise"))
        }
    };
    Record { key: key.into(), value }
}

pub(super) fn user(name: &str, mechanism: Mechanism, credential: Option<&Credential>) -> Record {
    let value = credential.map(|c| {
        let (salt, stored_key, server_key) = (hex(&c.salt), hex(&c.stored_key), hex(&c.server_key));
        json(&UserValue { v: VERSION, iterations: c.iterations, salt, stored_key, server_key })
    });
    Record { key: format!("user/{}/{name}", mechanism.name()).into(), value }
}

pub(super) fn acl(acl: &Acl, is_there: bool) -> Record {
    let Acl { resource, name, pattern, principal, host, operation, permission } = acl;
    let key = [resource.name(), pattern.name(), name, principal, host, operation.name(), permission.name()];
    let key = serde_json::to_string(&key).expect("texts always serialise");
    Record { key: format!("acl/{key}").into(), value: is_there.then(|| json(&AclValue { v: VERSION })) }
}

fn read_acl(key: &str) -> Option<Acl> {
    let [resource, pattern, name, principal, host, operation, permission]: [String; 7] = serde_json::from_str(key).ok()?;
    let acl = Acl {
        resource: ResourceType::of_name(&resource)?,
        name,
        pattern: Pattern::of_name(&pattern)?,
        principal,
        host,
        operation: Operation::of_name(&operation)?,
        permission: Permission::of_name(&permission)?,
    };
    acl.checked().ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    text.as_bytes().chunks(2).map(|pair| Some((digit(&pair[0])? * 16 + digit(pair.get(1)?)?) as u8)).collect()
}

fn read_user(mechanism: Mechanism, value: &UserValue) -> Result<Credential, String> {
    let bytes = |text: &str| of_hex(text).ok_or_else(|| "bytes that are not written in hexadecimal digits".to_owned());
    let credential = Credential {
        salt: bytes(&value.salt)?,
        iterations: value.iterations,
        stored_key: bytes(&value.stored_key)?,
        server_key: bytes(&value.server_key)?,
    };
    credential.fault(mechanism).map_or(Ok(credential), Err)
}

pub(super) fn ids(ids: Ids) -> Record {
    let Ids { group, topic, producer, node, replica, epoch, deleted } = ids;
    let value = IdsValue { v: VERSION, group, topic, producer, node, replica, epoch, deleted };
    Record { key: Bytes::from_static(b"ids"), value: Some(json(&value)) }
}

pub(super) fn node(id: u64, node: &Node) -> Record {
    Record { key: format!("node/{id}").into(), value: Some(json(&NodeValue { v: VERSION, node: node.clone() })) }
}

pub(super) fn node_gone(id: u64) -> Record {
    Record { key: format!("node/{id}").into(), value: None }
}

pub(super) fn meta_first(first: &[Replica]) -> Record {
    Record { key: Bytes::from_static(b"meta"), value: Some(json(&MetaValue { v: VERSION, first: first.to_vec() })) }
}

/// Reads one record back.
pub(super) fn read(key: &[u8], value: Option<&[u8]>) -> Result<Said, BadRecord> {
    let bad = |why: String| BadRecord::new(META, key, why);
    let text = std::str::from_utf8(key).map_err(|_| bad("the key is not text".into()))?;
    if let Some(name) = text.strip_prefix("topic/") {
        let topic = value.map(|v| read_topic(name, parse(key, v)?).map_err(|e| bad(e.to_string()))).transpose()?;
        return Ok(Said::Topic(name.to_owned(), topic));
    }
    let of_client = text.strip_prefix("quota/").map(|client| Ok(Whose::client(client)));
    let of_user = |pair| {
        let (user, client) = serde_json::from_str(pair).map_err(|_| bad("that is no user's".into()))?;
        Ok(Whose { user: Some(user), client })
    };
    if let Some(whose) = of_client.or_else(|| text.strip_prefix("user-quota/").map(of_user)) {
        let quota = value.map(|v| parse::<QuotaValue>(key, v)).transpose()?;
        let quota = quota.map(|q| Quota { produce_bytes_per_s: q.produce_bytes_per_s, fetch_bytes_per_s: q.fetch_bytes_per_s });
        return Ok(Said::Quota(whose?, quota));
    }
    if let Some(rest) = text.strip_prefix("acl/") {
        let acl = read_acl(rest).ok_or_else(|| bad("that is no ACL".into()))?;
        let is_there = value.map(|v| parse::<AclValue>(key, v)).transpose()?.is_some();
        return Ok(Said::Acl(acl, is_there));
    }
    if let Some(rest) = text.strip_prefix("user/") {
        let named = rest.split_once('/').and_then(|(mechanism, name)| Some((Mechanism::of_name(mechanism)?, name)));
        let (mechanism, name) = named.ok_or_else(|| bad("no such mechanism".into()))?;
        let credential = value.map(|v| read_user(mechanism, &parse(key, v)?).map_err(bad)).transpose()?;
        return Ok(Said::User(name.to_owned(), mechanism, credential));
    }
    if let Some(id) = text.strip_prefix("node/") {
        let id = id.parse().ok().filter(|id| *id > 0).ok_or_else(|| bad("that is no node".into()))?;
        let node = value.map(|v| parse::<NodeValue>(key, v)).transpose()?.map(|v| v.node);
        if node.as_ref().is_some_and(|node| node.ports.is_empty()) {
            return Err(bad("a node without ports".into()));
        }
        return Ok(Said::Node(id, node));
    }
    match (text, value) {
        ("ids", Some(v)) => {
            let IdsValue { v: _, group, topic, producer, node, replica, epoch, deleted } = parse(key, v)?;
            Ok(Said::Ids(Ids { group, topic, producer, node, replica, epoch, deleted }))
        }
        ("meta", Some(v)) => Ok(Said::MetaFirst(parse::<MetaValue>(key, v)?.first)),
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
        partitions: value
            .partitions
            .iter()
            .enumerate()
            .map(|(n, &(group, home))| Partition {
                group: GroupId(group),
                home: Home(home),
                replicas: value.replicas.get(n).cloned().flatten().map(Box::new),
            })
            .collect(),
        settings: TopicSettings::new(value.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())))?,
        attempt: value.attempt,
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
