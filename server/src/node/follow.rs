//! How a core follows the catalog: what core 0 has written and synced becomes true here, in the logs and in the tables of
//! the hot path.

use super::{
    core::{Core, Place, Route},
    partition::Partition,
};
use crate::{
    catalog::{Catalog, Effect, Home, Lives, META_GROUP, Topic, TopicSettings},
    coordinator::TopicView,
    keyed::{BadRecord, Record},
};
use millpond_log::{GroupConfig, Log, LogError, Lsn};
use millpond_raft::Membership;
use millpond_runtime::{GroupId, NodeId, Rt, Share};
use std::{collections::BTreeMap, rc::Rc, sync::Arc};

/// What can keep a core from following the catalog. The node halts: it would serve something else than it promised.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl<R: Rt> Core<R> {
    /// Takes over records of `__meta` that are synced, and does to the logs here what they say. `topics` are those that the records
    /// are about.
    pub async fn follow(self: &Rc<Self>, records: &[Record], topics: &[String]) -> Result<(), FollowError> {
        let mut effects = Vec::new();
        {
            let mut catalog = self.catalog.borrow_mut();
            for record in records {
                effects.extend(catalog.apply(&record.key, record.value.as_deref())?);
            }
        }
        self.carry_out(effects).await?;
        for topic in topics {
            self.refresh(topic);
        }
        if !topics.is_empty() {
            self.coordinators_behind.set(true);
        }
        Ok(())
    }

    /// Takes over the whole catalog and makes the logs here agree with it.
    pub async fn install(self: &Rc<Self>, catalog: Catalog) -> Result<(), FollowError> {
        self.quotas.borrow_mut().set_all(catalog.quotas());
        let mut effects = Vec::new();
        for (home, log) in &self.logs {
            effects.extend(catalog.reconcile(self.identity.node_id, *home, &log.groups()));
        }
        if self.is_member() {
            // What is committed may not be known yet, and with it whose groups these are: see `Core::drop_strangers`.
            effects.retain(|effect| !matches!(effect, Effect::Drop(..)));
        }
        let mut topics: Vec<String> = catalog.topics().map(|t| t.name.clone()).collect();
        topics.extend(self.catalog.borrow().topics().map(|t| t.name.clone()));
        *self.catalog.borrow_mut() = catalog;
        self.carry_out(effects).await?;
        self.find_nodes();
        topics.iter().for_each(|topic| self.refresh(topic));
        self.coordinators_behind.set(true);
        Ok(())
    }

    /// Whether this node is, or will be, one of several: its catalog is a replica.
    #[must_use]
    pub fn is_member(&self) -> bool {
        !self.is_founder() || self.logs.get(&Home(0)).is_some_and(|log| log.is_replica(META_GROUP))
    }

    /// Drops groups that do not belong here. To be called once the catalog here is known to be what it is elsewhere.
    pub async fn drop_strangers(self: &Rc<Self>) -> Result<(), FollowError> {
        let mut effects = Vec::new();
        for (home, log) in &self.logs {
            effects.extend(self.catalog.borrow().reconcile(self.identity.node_id, *home, &log.groups()));
        }
        effects.retain(|effect| matches!(effect, Effect::Drop(_, group) if *group != META_GROUP));
        self.carry_out(effects).await
    }

    /// Creates, alters and drops groups of the homes here, and returns when that is synced.
    async fn carry_out(self: &Rc<Self>, effects: Vec<Effect>) -> Result<(), FollowError> {
        let mut waits: BTreeMap<u16, (Log<R>, Lsn)> = BTreeMap::new();
        for effect in effects {
            let home = match &effect {
                Effect::Create(home, ..) | Effect::Alter(home, ..) | Effect::Drop(home, _) => *home,
                Effect::Quota(whose, quota) => {
                    self.quotas.borrow_mut().set(whose, *quota);
                    continue;
                }
                Effect::Nodes => {
                    self.find_nodes();
                    continue;
                }
            };
            let Some(log) = self.logs.get(&home) else { continue };
            let lsn = self.carry_out_one(log, effect).await?;
            if let Some(lsn) = lsn {
                waits.insert(home.0, (log.clone(), lsn));
            }
        }
        for (log, lsn) in waits.into_values() {
            log.synced(lsn).await?;
        }
        Ok(())
    }

    pub(super) async fn carry_out_one(&self, log: &Log<R>, effect: Effect) -> Result<Option<Lsn>, FollowError> {
        loop {
            let done = match &effect {
                Effect::Create(home, group, settings) => {
                    self.look_again(*group);
                    self.begin(log, *home, *group, settings).await
                }
                Effect::Alter(_, group, settings) if log.config(*group).is_some_and(|is| is != GroupConfig::from(settings)) => {
                    log.alter_group(*group, GroupConfig::from(settings)).map(Some)
                }
                Effect::Drop(home, group) if log.state(*group).is_some() => self.end(log, *home, *group).map(Some),
                _ => return Ok(None),
            };
            match done {
                // The change is decided: it waits for room as long as it takes.
                Err(LogError::Full { .. } | LogError::DiskFull { .. } | LogError::Dropping { .. }) => {
                    self.rt.sleep(std::time::Duration::from_millis(20)).await;
                }
                done => return Ok(done?),
            }
        }
    }

    /// Sees to it that a group is here as the catalog has it: alone, as a replica, or not at all.
    async fn begin(&self, log: &Log<R>, home: Home, group: GroupId, settings: &TopicSettings) -> Result<Option<Lsn>, LogError> {
        let me = self.identity.node_id;
        let found = self.catalog.borrow().partition_of(group).map(|(topic, n)| topic.partitions[n as usize].clone());
        let (Some(partition), Some(driver)) = (found, self.drivers.get(&home)) else { return Ok(None) };
        let config = GroupConfig::from(settings);
        let there = log.state(group).is_some();
        match (partition.lives_on(me), &partition.replicas) {
            // A new node reads how the catalog came about before it was known to it.
            (Lives::Elsewhere, _) if there && group != META_GROUP => self.end(log, home, group).map(Some),
            (Lives::Alone, _) if !there => log.create_group(group, config).map(Some),
            (Lives::Replica(id), Some(replicas)) => {
                let first = replicas.first.iter().map(|r| (r.id, NodeId(r.node))).collect();
                let members = Membership::first(id, first);
                tracing::debug!(group = group.0, replica = id, home = home.0, new = !there, "a replica here");
                if !there {
                    driver.create(group, config, &members)?;
                } else if !log.is_replica(group) {
                    driver.adopt(group, &members).await?;
                } else if group != META_GROUP && driver.kept(group).is_some_and(|old| old < id) {
                    // It was to be made anew, or went and comes again, and this node did not come to it.
                    driver.retire(group, format!("replica {id} is to have its place"));
                } else if driver.status(group).is_none() && driver.broken(group).is_none() {
                    driver.open(group).map_err(|e| LogError::Replica { group, what: e.to_string() })?;
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// A group is here no longer.
    fn end(&self, log: &Log<R>, home: Home, group: GroupId) -> Result<Lsn, LogError> {
        tracing::debug!(group = group.0, home = home.0, "a group is here no longer");
        if let Some(driver) = self.drivers.get(&home) {
            driver.close(group);
        }
        log.drop_group(group)
    }

    /// Makes the tables of the hot path agree with the catalog about one topic.
    pub(super) fn refresh(&self, name: &str) {
        let catalog = self.catalog.borrow();
        let topic = catalog.topic(name);
        let before = self.routes.borrow_mut().remove(name);
        let route = topic.map(|topic| self.route_to(topic));
        for place in before.iter().flat_map(|before| &before.places).filter(|place| place.here.is_some()) {
            let kept = route.as_ref().is_some_and(|r| r.places.iter().any(|p| p.group == place.group && p.here.is_some()));
            let gone = if kept { None } else { self.partitions.borrow_mut().remove(&place.group) };
            if let Some(gone) = gone {
                gone.wake();
            }
        }
        if let Some(route) = route {
            self.routes.borrow_mut().insert(name.to_owned(), Rc::new(route));
        }
    }

    fn route_to(&self, topic: &Topic) -> Route<R> {
        let mut partitions = self.partitions.borrow_mut();
        let places = topic.partitions.iter().map(|p| {
            let known = |log: &Log<R>| p.group == META_GROUP && log.state(META_GROUP).is_some();
            let lives = p.lives_on(self.identity.node_id) != Lives::Elsewhere || self.logs.get(&p.home).is_some_and(known);
            let here = self.logs.get(&p.home).filter(|_| lives).zip(self.drivers.get(&p.home)).map(|(log, driver)| {
                let make = || Rc::new(Partition::new(p.group, log.clone(), driver.clone(), &topic.settings));
                let partition = partitions.entry(p.group).or_insert_with(make);
                partition.set(&topic.settings);
                Rc::clone(partition)
            });
            Place { group: p.group, core: self.owner(p.home), lives, here }
        });
        Route { internal: topic.internal, places: places.collect() }
    }

    /// Tells the coordinators here of changes of the catalog, if there were any since.
    pub(super) fn tell_coordinators(self: &Rc<Self>) {
        if !self.coordinators_behind.replace(false) {
            return;
        }
        let views: BTreeMap<Arc<str>, TopicView> = self
            .catalog
            .borrow()
            .topics()
            .filter(|t| !t.internal)
            .map(|t| (Arc::from(t.name.as_str()), TopicView { topic_id: t.topic_id, partitions: t.partitions.len() as u32 }))
            .collect();
        let seats: Vec<_> = self.coordinators.borrow().iter().map(|(n, c)| (*n, Rc::clone(c))).collect();
        for (partition, seat) in seats {
            let tombstones = seat.coordinator.borrow_mut().set_topics(views.clone());
            if !tombstones.is_empty() {
                let core = Rc::clone(self);
                self.rt.spawn("forget positions", Share::Background, async move { core.forget_positions(partition, tombstones).await });
            }
        }
    }
}
