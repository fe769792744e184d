//! The catalog: which topics there are, where their partitions live, how they are set, who has which quota, which users there are, and what they may do.
//!
//! A state machine without effects. The node's meta task is its only caller and does one change at a time:
//!
//! 1. `let plan = catalog.plan_create(&request, homes)?` — nothing has changed yet;
//! 2. append `plan.records` to `__meta` **as one batch** and wait for its sync;
//! 3. `for r in &plan.records { effects.extend(catalog.apply(&r.key, r.value.as_deref())?) }`;
//! 4. carry the [`Effect`]s out: create, alter and drop groups in the logs of their homes. All may be done twice.
//!
//! After a start: replay `__meta` through [`Catalog::apply`] (its effects are ignored), then run what
//! [`Catalog::reconcile`] says for each home, which makes good whatever a crash left undone between steps 2 and 4; then
//! write [`Catalog::plan_bootstrap`].
//!
//! Always true ([`Catalog::check`]): a group belongs to one partition; numbers that were given are below the next free
//! ones; `__meta` is group 1 on home 0, and is known before the first record is read.

mod acls;
mod age;
pub mod cluster;
mod error;
pub mod names;
pub mod placement;
pub mod quotas;
mod records;
pub mod settings;
#[cfg(test)]
mod tests;
mod users;

pub use acls::{ACLS_MAX, ACLS_PER_CHANGE_MAX, acl_entry};
pub use age::{AGES_EVERY, Age};
pub use cluster::{Lives, Node, NodeState, Replica, Replicas};
pub use error::CatalogError;
pub use quotas::{CLIENT_ID_BYTES_MAX, QUOTAS_MAX, Quota, Whose};
pub use settings::TopicSettings;
pub use users::CREDENTIALS_MAX;

use crate::{
    keyed::{BadRecord, Record},
    security::{Credential, Mechanism, acl::Acls},
};
use millpond_runtime::GroupId;
use millpond_wire::messages::{AlterTopic, CreateTopic, DeleteTopic, Setting};
use records::Said;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// The internal topic that holds the catalog.
pub const META: &str = "__meta";
/// The internal topic that holds the positions of consumer groups.
pub const OFFSETS: &str = "__consumer_offsets";
/// The group behind `__meta`, on [`Home`] 0.
pub const META_GROUP: GroupId = GroupId(1);
/// Partitions of a topic if nobody says.
pub const PARTITIONS_DEFAULT: u32 = 1;
/// Most partitions of one topic. Its record in `__meta` must fit into a batch of 1 MiB.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;
/// Most partitions of all topics together.
pub const PARTITIONS_MAX: usize = 100_000;

/// The node that has founded the cluster.
pub const FOUNDER: u64 = 1;
/// Groups below this number are the system's own.
const FIRST_GROUP: u64 = 16;

/// The journal in which a partition lives: directory `core-NN`, counted from 0. A home is not a core: the node opens all
/// homes that exist and spreads them over the cores that it has today.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Home(pub u16);

/// Where a partition lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its log.
    pub group: GroupId,
    /// The journal that the log is in, on every node that has it.
    pub home: Home,
    /// Its replicas; none for a log that is alone, on the node that has founded the cluster.
    pub replicas: Option<Box<Replicas>>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Never reused: a topic created anew under an old name has another.
    pub topic_id: u64,
    /// Kept by the system itself: clients may read it, and nothing else.
    pub internal: bool,
    /// Partitions by number. At least one.
    pub partitions: Vec<Partition>,
    /// Settings.
    pub settings: TopicSettings,
    /// Which attempt has made it ([`CreateTopic::attempt`]); 0 where that was not said.
    pub attempt: u64,
}

impl Topic {
    /// One that is still to be given its number and its partitions.
    fn new(name: &str, internal: bool, settings: TopicSettings) -> Self {
        Self { name: name.to_owned(), topic_id: 0, internal, partitions: Vec::new(), settings, attempt: 0 }
    }

    /// Whether this attempt has made it.
    #[must_use]
    pub fn is_by(&self, attempt: u64) -> bool {
        attempt != 0 && self.attempt == attempt
    }
}

/// The next free number of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ids {
    group: u64,
    topic: u64,
    producer: u64,
    /// Of nodes; the founder is the first.
    node: u64,
    /// Of replicas.
    replica: u64,
    /// Grows with every change of topics.
    epoch: u64,
    /// The epoch in which a topic was deleted last.
    deleted: u64,
}

/// A change that has been checked and has not happened yet.
#[must_use = "a plan does nothing until its records are synced and applied"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// To be appended to `__meta` as one batch. Empty where there is nothing to do.
    pub records: Vec<Record>,
    /// The topic as it will be; `None` when it goes, or when the change is of no topic.
    pub topic: Option<Topic>,
}

impl Plan {
    /// Whether anything will change.
    #[must_use]
    pub fn changes(&self) -> bool {
        !self.records.is_empty()
    }
}

/// What has to be done to the logs after a record was applied. Doing it twice is harmless. Settings become those of the
/// log by `GroupConfig::from(&settings)`; what the log does not know (largest batch, timestamps) the front looks up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// See to it that the group is here if it is to be, and as what it is to be: with these settings if it is made.
    Create(Home, GroupId, TopicSettings),
    /// Give the group these settings.
    Alter(Home, GroupId, TopicSettings),
    /// Drop the group and its records, if it is there.
    Drop(Home, GroupId),
    /// The quota of somebody is now this one.
    Quota(Whose, Quota),
    /// The nodes are others, or elsewhere.
    Nodes,
}

/// All topics, settings, quotas, users, ACLs and free numbers of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    topics: BTreeMap<String, Topic>,
    /// Names of topics by their ids.
    names: BTreeMap<u64, String>,
    groups: BTreeMap<GroupId, (String, u32)>,
    quotas: BTreeMap<Whose, Quota>,
    users: BTreeMap<String, BTreeMap<Mechanism, Credential>>,
    acls: Acls,
    nodes: BTreeMap<u64, Node>,
    /// The replicas that the catalog's own group began with; none while it is alone.
    meta_first: Vec<Replica>,
    ids: Ids,
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new()
    }
}

impl Catalog {
    /// A cluster without topics but `__meta`.
    #[must_use]
    pub fn new() -> Self {
        let meta = Topic {
            topic_id: 1,
            partitions: vec![Partition { group: META_GROUP, home: Home(0), replicas: None }],
            ..Topic::new(META, true, Self::meta_settings())
        };
        Self {
            groups: BTreeMap::from([(META_GROUP, (META.to_owned(), 0))]),
            names: BTreeMap::from([(meta.topic_id, META.to_owned())]),
            topics: BTreeMap::from([(META.to_owned(), meta)]),
            quotas: BTreeMap::new(),
            users: BTreeMap::new(),
            acls: Acls::default(),
            nodes: BTreeMap::new(),
            meta_first: Vec::new(),
            ids: Ids { group: FIRST_GROUP, topic: 2, producer: 1, node: FOUNDER + 1, replica: 1, epoch: 0, deleted: 0 },
        }
    }

    /// The settings of `__meta`, with which the node creates [`META_GROUP`] before there is a catalog.
    #[must_use]
    pub fn meta_settings() -> TopicSettings {
        internal_settings()
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The topic with this [`Topic::topic_id`].
    #[must_use]
    pub fn topic_by_id(&self, id: u64) -> Option<&Topic> {
        self.topics.get(self.names.get(&id)?)
    }

    /// All topics by name, internal ones too.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// Topic and partition number of a group.
    #[must_use]
    pub fn partition_of(&self, group: GroupId) -> Option<(&Topic, u32)> {
        let (name, partition) = self.groups.get(&group)?;
        Some((self.topics.get(name)?, *partition))
    }

    /// Partitions of all topics together.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.groups.len()
    }

    /// Grows with every change of topics, over restarts too.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.ids.epoch
    }

    /// Creates what the system needs and does not have: `__consumer_offsets`, with one partition per home.
    pub fn plan_bootstrap(&self, homes: u16) -> Plan {
        if self.topics.contains_key(OFFSETS) {
            return Plan { records: Vec::new(), topic: None };
        }
        let replication = self.replication_default();
        self.planned_topic(Topic::new(OFFSETS, true, internal_settings()), u32::from(homes.max(1)), (homes, replication))
    }

    /// Creates a topic on `homes` journals (1 or more).
    pub fn plan_create(&self, request: &CreateTopic, homes: u16) -> Result<Plan, CatalogError> {
        names::check(&request.name)?;
        if let Some(there) = self.topics.get(&request.name) {
            if request.if_not_exists || there.is_by(request.attempt) {
                return Ok(Plan { records: Vec::new(), topic: Some(there.clone()) });
            }
            return Err(CatalogError::TopicExists { name: request.name.clone() });
        }
        if request.as_of != 0 && request.as_of < self.ids.deleted {
            return Err(CatalogError::Outdated { name: request.name.clone() });
        }
        let settings = TopicSettings::new(pairs(&request.settings))?;
        let partitions = if request.partitions == 0 { PARTITIONS_DEFAULT } else { request.partitions };
        self.check_count(&request.name, partitions, partitions as usize)?;
        let replication = self.check_replication(&request.name, request.replication)?;
        check_insync(&settings, replication)?;
        let topic = Topic { attempt: request.attempt, ..Topic::new(&request.name, false, settings) };
        let mut plan = self.planned_topic(topic, partitions, (homes, replication));
        if request.dry_run {
            plan.records.clear();
        }
        Ok(plan)
    }

    /// Changes the settings of a topic, or grows it.
    pub fn plan_alter(&self, request: &AlterTopic, homes: u16) -> Result<Plan, CatalogError> {
        let mut topic = self.find_own(&request.name)?.clone();
        topic.settings = topic.settings.with(pairs(&request.settings))?;
        let have = topic.partitions.len() as u32;
        let mut ids = self.ids;
        if request.partitions != 0 && request.partitions != have {
            if request.partitions < have {
                let why = format!("it has {have}, and partitions cannot be taken away");
                return Err(CatalogError::BadPartitions { name: topic.name, asked: request.partitions, why });
            }
            let more = request.partitions - have;
            self.check_count(&topic.name, request.partitions, more as usize)?;
            let replication = topic.partitions[0].replicas.as_ref().map_or(1, |r| r.wanted.len());
            topic.partitions.extend(self.new_partitions(&mut ids, more, &topic.partitions, (homes, replication)));
        }
        if request.replication != 0 {
            let replication = self.check_replication(&request.name, request.replication)?;
            self.replicate(&mut ids, &mut topic, replication);
        }
        for placement in &request.placements {
            self.put_on(&mut ids, &mut topic, placement)?;
        }
        if self.topics.get(&topic.name) == Some(&topic) {
            return Ok(Plan { records: Vec::new(), topic: Some(topic) });
        }
        let replicas = topic.partitions.iter().map(|p| p.replicas.as_ref().map_or(1, |replicas| replicas.wanted.len()));
        check_insync(&topic.settings, replicas.min().unwrap_or(1))?;
        ids.epoch += 1;
        Ok(Plan { records: vec![records::topic(&topic), records::ids(ids)], topic: Some(topic) })
    }

    /// Deletes a topic with its records.
    pub fn plan_delete(&self, request: &DeleteTopic) -> Result<Plan, CatalogError> {
        if request.if_exists && !self.topics.contains_key(&request.name) {
            return Ok(Plan { records: Vec::new(), topic: None });
        }
        let topic = self.find_own(&request.name)?;
        if request.topic_id.is_some_and(|meant| meant != topic.topic_id) {
            return Err(CatalogError::Outdated { name: request.name.clone() });
        }
        let epoch = self.ids.epoch + 1;
        let ids = Ids { epoch, deleted: epoch, ..self.ids };
        Ok(Plan { records: vec![records::topic_gone(&topic.name), records::ids(ids)], topic: None })
    }

    /// Reserves `count` producer ids. They may be given out once the records are synced and applied; what a crash
    /// leaves unused is never given.
    pub fn plan_producers(&self, count: u64) -> (Range<u64>, Plan) {
        let first = self.ids.producer;
        let ids = Ids { producer: first + count, ..self.ids };
        (first..ids.producer, Plan { records: vec![records::ids(ids)], topic: None })
    }

    /// Takes over one record of `__meta`. `None` is a tombstone.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Vec<Effect>, BadRecord> {
        match records::read(key, value)? {
            Said::Topic(name, None) if name == META => Err(BadRecord::new(META, key, "the catalog never goes")),
            Said::Topic(name, Some(topic)) => self.put_topic(name, topic).map_err(|why| BadRecord::new(META, key, why)),
            Said::Topic(name, None) => Ok(self.drop_topic(&name)),
            Said::Quota(whose, quota) => {
                let quota = quota.unwrap_or_default();
                self.put_quota(&whose, quota);
                Ok(vec![Effect::Quota(whose, quota)])
            }
            Said::User(user, mechanism, credential) => {
                self.put_credential(user, mechanism, credential);
                Ok(Vec::new())
            }
            Said::Acl(acl, is_there) => {
                if is_there {
                    self.acls.insert(acl);
                } else {
                    self.acls.remove(&acl);
                }
                Ok(Vec::new())
            }
            Said::Ids(ids) => {
                self.ids = ids;
                Ok(Vec::new())
            }
            Said::Node(id, node) => Ok(self.put_node(id, node)),
            Said::MetaFirst(first) => Ok(self.put_meta_first(first)),
        }
    }

    /// What a home's log on a node needs so that it has the groups that it should have: `there` are those it has.
    #[must_use]
    pub fn reconcile(&self, node: u64, home: Home, there: &[GroupId]) -> Vec<Effect> {
        let mut effects = Vec::new();
        let known: BTreeSet<GroupId> = there.iter().copied().collect();
        for topic in self.topics.values() {
            for p in topic.partitions.iter().filter(|p| p.home == home && p.lives_on(node) != Lives::Elsewhere) {
                if !known.contains(&p.group) || p.replicas.is_some() {
                    effects.push(Effect::Create(home, p.group, topic.settings.clone()));
                }
                if known.contains(&p.group) {
                    effects.push(Effect::Alter(home, p.group, topic.settings.clone()));
                }
            }
        }
        effects.extend(known.into_iter().filter(|g| !self.belongs(node, *g, home)).map(|g| Effect::Drop(home, g)));
        effects
    }

    /// Panics if an invariant is broken; run after every batch of records in tests and simulation.
    pub fn check(&self) {
        let mut partitions = 0;
        for (name, topic) in &self.topics {
            assert_eq!(name, &topic.name, "a topic is filed under its own name");
            assert!(!topic.partitions.is_empty(), "{name} has partitions");
            assert_eq!(self.names.get(&topic.topic_id), Some(name), "{name} is found by its id");
            assert!(topic.topic_id < self.ids.topic, "{name}: id {} was never given", topic.topic_id);
            for (number, p) in topic.partitions.iter().enumerate() {
                partitions += 1;
                assert!(p.group.0 < self.ids.group, "{name}-{number}: group {} was never given", p.group);
                let filed = self.groups.get(&p.group).map(|(n, i)| (n.as_str(), *i as usize));
                assert_eq!(filed, Some((name.as_str(), number)), "group {} belongs to one partition", p.group);
            }
        }
        assert_eq!(partitions, self.groups.len(), "no group is left of a topic that is gone");
        assert_eq!(self.names.len(), self.topics.len(), "no id is left of one");
        assert!(self.quotas.values().all(|q| !q.is_unlimited()), "a quota limits something");
        assert!(self.users.values().all(|kept| !kept.is_empty()), "something is kept of every user");
        self.acls.check();
    }

    fn belongs(&self, node: u64, group: GroupId, home: Home) -> bool {
        let at = self.partition_of(group).map(|(topic, n)| &topic.partitions[n as usize]);
        at.is_some_and(|p| p.home == home && p.lives_on(node) != Lives::Elsewhere)
    }

    fn find_own(&self, name: &str) -> Result<&Topic, CatalogError> {
        match self.topics.get(name) {
            None => Err(CatalogError::UnknownTopic { name: names::shorten(name) }),
            Some(topic) if topic.internal => Err(CatalogError::Internal { name: topic.name.clone() }),
            Some(topic) => Ok(topic),
        }
    }

    fn check_count(&self, name: &str, asked: u32, more: usize) -> Result<(), CatalogError> {
        if asked > PARTITIONS_PER_TOPIC_MAX {
            let why = format!("at most {PARTITIONS_PER_TOPIC_MAX} are allowed");
            return Err(CatalogError::BadPartitions { name: name.into(), asked, why });
        }
        if self.groups.len() + more > PARTITIONS_MAX {
            return Err(CatalogError::Full { what: "partitions", there: self.groups.len(), max: PARTITIONS_MAX });
        }
        Ok(())
    }

    fn planned_topic(&self, topic: Topic, partitions: u32, spread: (u16, usize)) -> Plan {
        let mut ids = self.ids;
        let partitions = self.new_partitions(&mut ids, partitions, &[], spread);
        let topic = Topic { topic_id: ids.topic, partitions, ..topic };
        ids.topic += 1;
        ids.epoch += 1;
        Plan { records: vec![records::topic(&topic), records::ids(ids)], topic: Some(topic) }
    }

    /// New partitions over so many homes, with so many replicas each.
    fn new_partitions(&self, ids: &mut Ids, count: u32, own: &[Partition], (homes, replication): (u16, usize)) -> Vec<Partition> {
        let homes = usize::from(homes.max(1));
        let count_of = |partitions: &mut dyn Iterator<Item = &Partition>| {
            let mut counts = vec![0; homes];
            partitions.filter_map(|p| counts.get_mut(usize::from(p.home.0)).map(|n| *n += 1)).for_each(drop);
            counts
        };
        let load = count_of(&mut self.topics.values().flat_map(|t| &t.partitions));
        let own = count_of(&mut own.iter());
        let first = ids.group;
        ids.group += u64::from(count);
        let placed = placement::place(count, &load, &own);
        let replicas = self.new_replicas(ids, count, replication);
        let partition = |((group, home), replicas)| Partition { group: GroupId(group), home, replicas };
        (first..ids.group).zip(placed).zip(replicas).map(partition).collect()
    }

    fn put_topic(&mut self, name: String, topic: Topic) -> Result<Vec<Effect>, String> {
        if name == META {
            return Err("the catalog does not describe its own topic".into());
        }
        if topic.partitions.is_empty() {
            return Err("a topic without partitions".into());
        }
        if topic.partitions.iter().map(|p| p.group).collect::<BTreeSet<_>>().len() != topic.partitions.len() {
            return Err("one group for two partitions".into());
        }
        for (number, p) in topic.partitions.iter().enumerate() {
            match self.groups.get(&p.group) {
                Some((other, n)) if *other != name || *n as usize != number => {
                    return Err(format!("group {} belongs to {other}-{n}", p.group));
                }
                _ => {}
            }
        }
        if let Some(other) = self.names.get(&topic.topic_id).filter(|other| **other != name) {
            return Err(format!("id {} belongs to {other}", topic.topic_id));
        }
        let old = self.topics.remove(&name);
        if let Some(old) = &old {
            self.names.remove(&old.topic_id);
        }
        let survives = |p: &Partition| topic.partitions.iter().any(|is| (is.group, is.home) == (p.group, p.home));
        let mut effects = Vec::new();
        // Replayed over a compacted topic, the record of a deleted topic may be missing between two of the same name.
        for p in old.iter().flat_map(|t| &t.partitions).filter(|p| !survives(p)) {
            self.groups.remove(&p.group);
            effects.push(Effect::Drop(p.home, p.group));
        }
        for (number, p) in topic.partitions.iter().enumerate() {
            let known = self.groups.insert(p.group, (name.clone(), number as u32)).is_some();
            let changed = old.as_ref().is_none_or(|t| t.settings != topic.settings);
            let before = old.as_ref().and_then(|t| t.partitions.get(number));
            if !known || before.is_none_or(|before| before.replicas != p.replicas) {
                effects.push(Effect::Create(p.home, p.group, topic.settings.clone()));
            }
            if known && changed {
                effects.push(Effect::Alter(p.home, p.group, topic.settings.clone()));
            }
        }
        self.names.insert(topic.topic_id, name.clone());
        self.topics.insert(name, topic);
        Ok(effects)
    }

    fn drop_topic(&mut self, name: &str) -> Vec<Effect> {
        let Some(topic) = self.topics.remove(name) else { return Vec::new() };
        self.names.remove(&topic.topic_id);
        for p in &topic.partitions {
            self.groups.remove(&p.group);
        }
        topic.partitions.iter().map(|p| Effect::Drop(p.home, p.group)).collect()
    }
}

/// A batch is acknowledged once a majority has it, never later: more cannot be promised.
fn check_insync(settings: &TopicSettings, replicas: usize) -> Result<(), CatalogError> {
    let majority = replicas / 2 + 1;
    if settings.insync_min <= majority {
        return Ok(());
    }
    let why = format!("a batch is acknowledged once a majority of its {replicas} replicas have it, which is {majority}");
    Err(CatalogError::BadSetting { name: "min.insync.replicas".into(), value: settings.insync_min.to_string(), why })
}

fn internal_settings() -> TopicSettings {
    TopicSettings::new([("cleanup.policy", "compact"), ("retention.ms", "-1"), ("segment.bytes", "16777216")])
        .expect("constants, within their bounds")
}

fn pairs(settings: &[Setting]) -> impl Iterator<Item = (&str, &str)> {
    settings.iter().map(|s| (s.name.as_str(), s.value.as_str()))
}
