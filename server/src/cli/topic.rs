//! `millpond topic`: create, list, describe, alter, trim and delete topics.

use super::{
    Global,
    fail::{Fail, Result},
    out::Out,
    progress::thousands,
    remote::Remote,
    units::{POINTS, Point, Size},
};
use crate::catalog::settings::{SPECS, Values};
use clap::{Args, Subcommand};
use millpond_wire::messages::{AlterTopic, CreateTopic, Endpoint, PartitionInfo, Setting, TopicInfo};
use serde_json::{Value, json};
use std::io::{self, BufRead, IsTerminal, Write};

/// Create, list, describe, alter, trim and delete topics
#[derive(Subcommand)]
pub(super) enum Topic {
    Create(Create),
    List(List),
    Describe(Describe),
    Alter(Alter),
    Trim(Trim),
    Delete(Delete),
    Settings(Settings),
}

/// Create a topic
#[derive(Args)]
pub(super) struct Create {
    /// Its name: 1 to 249 of a-z A-Z 0-9 . _ -
    name: String,
    /// Partitions: what may be written and read at the same time, in no order to each other [default: the server's]
    #[arg(long, short = 'p', value_name = "N", default_value_t = 0, hide_default_value = true)]
    partitions: u32,
    /// Replicas of each partition, on as many nodes [default: 3, or as many as there are nodes]
    #[arg(long, short = 'r', value_name = "N", default_value_t = 0, hide_default_value = true)]
    replication: u32,
    /// A setting, by Kafka's name; see `millpond topic settings`
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// A topic that exists is fine
    #[arg(long)]
    if_not_exists: bool,
    /// Only check
    #[arg(long)]
    dry_run: bool,
}

/// List the topics
#[derive(Args)]
pub(super) struct List {
    /// The system's own too
    #[arg(long)]
    internal: bool,
}

/// Show partitions, offsets, sizes and settings of topics
#[derive(Args)]
pub(super) struct Describe {
    /// Topics
    #[arg(required = true)]
    names: Vec<String>,
}

/// Change settings of a topic, or give it more partitions
#[derive(Args)]
pub(super) struct Alter {
    /// The topic
    name: String,
    /// Grow it to this many; records of a key may go to another partition from then on
    #[arg(long, short = 'p', value_name = "N", default_value_t = 0, hide_default_value = true)]
    partitions: u32,
    /// Have this many replicas of each partition: more are made, or some go, while the topic is in use
    #[arg(long, short = 'r', value_name = "N", default_value_t = 0, hide_default_value = true)]
    replication: u32,
    /// Change a setting
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Take a setting back to its default
    #[arg(long = "unset", value_name = "NAME")]
    unset: Vec<String>,
}

/// Delete the oldest records of a topic
#[derive(Args)]
pub(super) struct Trim {
    /// The topic
    name: String,
    /// Records before this go
    #[arg(long, value_name = "POINT", help = format!("Records before this go: {POINTS}"))]
    before: Point,
    /// Only in this partition
    #[arg(long, short = 'p', value_name = "N")]
    partition: Option<u32>,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

/// Delete topics and all their records
#[derive(Args)]
pub(super) struct Delete {
    /// Topics
    #[arg(required = true)]
    names: Vec<String>,
    /// A topic that does not exist is fine
    #[arg(long)]
    if_exists: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

/// Explain the settings that a topic can have
#[derive(Args)]
pub(super) struct Settings {}

impl Topic {
    pub(super) async fn run(self, global: &Global, out: &mut Out) -> Result {
        match self {
            Self::Create(args) => args.run(global, out).await,
            Self::List(args) => args.run(global, out).await,
            Self::Describe(args) => args.run(global, out).await,
            Self::Alter(args) => args.run(global, out).await,
            Self::Trim(args) => args.run(global, out).await,
            Self::Delete(args) => args.run(global, out).await,
            Self::Settings(_) => settings(out),
        }
    }
}

impl Create {
    async fn run(self, global: &Global, out: &mut Out) -> Result {
        let remote = Remote::connect(global).await?;
        let request = CreateTopic {
            name: self.name.clone(),
            partitions: self.partitions,
            settings: to_settings(&self.set, &[]),
            if_not_exists: self.if_not_exists,
            dry_run: self.dry_run,
            replication: self.replication,
            ..CreateTopic::default()
        };
        let (topic, changed) = remote.create_topic(request).await?;
        let what = match (self.dry_run, changed) {
            (true, _) => "would be created",
            (false, true) => "created",
            (false, false) => "exists already",
        };
        let text = format!("{} {what}, {} partition(s)", topic.name, topic.partitions.len());
        out.either(&json!({ "topic": to_json(&topic, &[]), "changed": changed }), text)
    }
}

impl List {
    async fn run(self, global: &Global, out: &mut Out) -> Result {
        let remote = Remote::connect(global).await?;
        let reply = remote.metadata(self.internal).await?;
        if out.json {
            return reply.topics.iter().try_for_each(|t| out.value(&to_json(t, &reply.endpoints)));
        }
        if reply.topics.is_empty() {
            out.note("there are no topics; create one with `millpond topic create NAME`");
            return Ok(());
        }
        let overrides = |t: &TopicInfo| -> Vec<String> {
            let own = t.settings.iter().filter(|s| !s.is_default);
            own.map(|s| format!("{}={}", s.name, s.value)).collect()
        };
        let rows: Vec<Vec<String>> =
            reply.topics.iter().map(|t| vec![t.name.clone(), t.partitions.len().to_string(), overrides(t).join(" ")]).collect();
        out.table(&["TOPIC", "PARTITIONS", "SETTINGS"], &rows)
    }
}

impl Describe {
    async fn run(self, global: &Global, out: &mut Out) -> Result {
        let remote = Remote::connect(global).await?;
        for name in &self.names {
            let (topic, endpoints) = remote.describe_topic(name).await?;
            if out.json {
                out.value(&to_json(&topic, &endpoints))?;
            } else {
                describe(&topic, &endpoints, out)?;
            }
        }
        Ok(())
    }
}

/// The nodes that have a partition.
fn nodes(p: &PartitionInfo) -> String {
    if p.replicas.is_empty() {
        return "alone".into();
    }
    p.replicas.iter().map(|r| r.node_id.to_string()).collect::<Vec<_>>().join(",")
}

fn describe(topic: &TopicInfo, endpoints: &[Endpoint], out: &mut Out) -> Result {
    let records: u64 = topic.partitions.iter().map(|p| p.end_offset - p.start_offset.min(p.end_offset)).sum();
    let bytes: u64 = topic.partitions.iter().map(|p| p.bytes).sum();
    out.line(format!(
        "{}: {} partition(s), about {} records, {} on disk, id {}{}\n",
        topic.name,
        topic.partitions.len(),
        thousands(records),
        Size(bytes),
        topic.topic_id,
        if topic.internal { ", kept by the system itself" } else { "" },
    ))?;
    let row = |p: &PartitionInfo| {
        let at = endpoints.get(p.endpoint as usize);
        vec![
            p.partition.to_string(),
            p.start_offset.to_string(),
            p.end_offset.to_string(),
            Size(p.bytes).to_string(),
            at.map_or_else(String::new, |e| e.node_id.to_string()),
            at.map_or_else(String::new, |e| e.core.to_string()),
            nodes(p),
            at.map_or_else(String::new, |e| format!("{}:{}", e.host, e.port)),
        ]
    };
    let rows: Vec<Vec<String>> = topic.partitions.iter().map(row).collect();
    out.table(&["PARTITION", "START", "END", "SIZE", "LEADER", "CORE", "REPLICAS", "AT"], &rows)?;
    out.line("")?;
    let rows: Vec<Vec<String>> = topic
        .settings
        .iter()
        .map(|s| vec![s.name.clone(), s.value.clone(), if s.is_default { "default" } else { "set" }.to_owned()])
        .collect();
    out.table(&["SETTING", "VALUE", "FROM"], &rows)
}

impl Alter {
    async fn run(self, global: &Global, out: &mut Out) -> Result {
        if self.partitions == 0 && self.replication == 0 && self.set.is_empty() && self.unset.is_empty() {
            return Err(Fail::usage("nothing is to be changed", "give --partitions, --replication, --set or --unset"));
        }
        let remote = Remote::connect(global).await?;
        let settings = to_settings(&self.set, &self.unset);
        let request = AlterTopic {
            name: self.name.clone(),
            settings,
            partitions: self.partitions,
            replication: self.replication,
            ..AlterTopic::default()
        };
        let (topic, changed) = remote.alter_topic(request).await?;
        let text = format!("{} {}", topic.name, if changed { "changed" } else { "was like this before" });
        out.either(&json!({ "topic": to_json(&topic, &[]), "changed": changed }), text)
    }
}

impl Trim {
    async fn run(self, global: &Global, out: &mut Out) -> Result {
        let remote = Remote::connect(global).await?;
        let (topic, _) = remote.describe_topic(&self.name).await?;
        let wanted = |p: &&PartitionInfo| self.partition.is_none_or(|n| n == p.partition);
        let partitions: Vec<&PartitionInfo> = topic.partitions.iter().filter(wanted).collect();
        if partitions.is_empty() {
            let last = topic.partitions.len().saturating_sub(1);
            return Err(Fail::new(format!("{} has no such partition", self.name), format!("one of 0 to {last}")));
        }
        let mut before = Vec::new();
        for p in &partitions {
            let offset = remote.resolve(&self.name, p.partition, self.before).await?;
            before.push((p.partition, p.start_offset, offset.clamp(p.start_offset, p.end_offset)));
        }
        let records: u64 = before.iter().map(|(_, start, offset)| offset - start).sum();
        if records == 0 {
            return out.either(&json!({ "topic": self.name, "records": 0 }), "there are no records before that");
        }
        let question = format!("delete the oldest {} records of {}?", thousands(records), self.name);
        confirm(self.yes, &question)?;
        for (partition, _, offset) in &before {
            remote.delete_records(&self.name, *partition, *offset).await?;
        }
        let text = format!("{} records of {} deleted", thousands(records), self.name);
        out.either(&json!({ "topic": self.name, "records": records }), text)
    }
}

impl Delete {
    async fn run(self, global: &Global, out: &mut Out) -> Result {
        confirm(self.yes, &format!("delete {} with all records?", self.names.join(", ")))?;
        let remote = Remote::connect(global).await?;
        for name in self.names {
            remote.delete_topic(&name, self.if_exists).await?;
            out.either(&json!({ "deleted": name }), format!("{name} deleted"))?;
        }
        Ok(())
    }
}

fn settings(out: &mut Out) -> Result {
    let values = |v: Values| match v {
        Values::Int { min, max: i64::MAX } => format!("{min} or more"),
        Values::Int { min, max } => format!("{min} to {max}"),
        Values::Ratio => "0 to 1".to_owned(),
        Values::Word(words) => words.join(" | "),
        Values::Words(words) => format!("{} (or both, with a comma)", words.join(" | ")),
    };
    for spec in SPECS {
        if out.json {
            let body = json!({ "name": spec.name, "default": spec.default, "values": values(spec.values), "help": spec.help });
            out.value(&body)?;
        } else {
            let text = format!("{}\n    {}\n    values: {}, default: {}", spec.name, spec.help, values(spec.values), spec.default);
            out.line(text)?;
        }
    }
    Ok(())
}

/// Asks, if somebody sits there to answer.
fn confirm(yes: bool, question: &str) -> Result {
    if yes || !io::stdin().is_terminal() {
        return Ok(());
    }
    let mut stderr = io::stderr();
    let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    asked.map_err(|e| Fail::io("ask", &e))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|e| Fail::io("read the answer", &e))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Fail::new("nothing was deleted", "answer y, or give --yes")),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.trim().into(), value.trim().into())),
        _ => Err("give NAME=VALUE, for example retention.ms=3600000".into()),
    }
}

fn to_settings(set: &[(String, String)], unset: &[String]) -> Vec<Setting> {
    let setting = |name: &String, value: &str| Setting { name: name.clone(), value: value.into(), is_default: false };
    let given = set.iter().map(|(name, value)| setting(name, value));
    given.chain(unset.iter().map(|name| setting(name, ""))).collect()
}

fn to_json(topic: &TopicInfo, endpoints: &[Endpoint]) -> Value {
    let partition = |p: &PartitionInfo| {
        let at = endpoints.get(p.endpoint as usize);
        json!({
            "partition": p.partition,
            "start_offset": p.start_offset,
            "end_offset": p.end_offset,
            "bytes": p.bytes,
            "group": p.group,
            "node": at.map(|e| e.node_id),
            "replicas": p.replicas.iter().map(|r| r.node_id).collect::<Vec<_>>(),
            "core": at.map(|e| e.core),
            "address": at.map(|e| format!("{}:{}", e.host, e.port)),
        })
    };
    let settings: serde_json::Map<String, Value> =
        topic.settings.iter().map(|s| (s.name.clone(), Value::String(s.value.clone()))).collect();
    json!({
        "topic": topic.name,
        "topic_id": topic.topic_id,
        "internal": topic.internal,
        "partitions": topic.partitions.iter().map(partition).collect::<Vec<_>>(),
        "settings": settings,
        "changed_settings": topic.settings.iter().filter(|s| !s.is_default).map(|s| &s.name).collect::<Vec<_>>(),
    })
}
