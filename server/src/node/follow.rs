//! How a core follows the catalog: what core 0 has written and synced becomes true here, in the logs and in the tables of
//! the hot path.

use super::{
    core::{Core, Place, Route},
    partition::Partition,
};
use crate::{
    catalog::{Catalog, Effect, Topic},
    coordinator::TopicView,
    keyed::{BadRecord, Record},
};
use millpond_log::{GroupConfig, Log, LogError, Lsn};
use millpond_runtime::{Rt, Share};
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
        for (client_id, quota) in catalog.quotas() {
            self.quotas.borrow_mut().set(client_id, quota);
        }
        for (home, log) in &self.logs {
            let effects = catalog.reconcile(*home, &log.groups());
            self.carry_out(effects).await?;
        }
        let topics: Vec<String> = catalog.topics().map(|t| t.name.clone()).collect();
        *self.catalog.borrow_mut() = catalog;
        topics.iter().for_each(|topic| self.refresh(topic));
        self.coordinators_behind.set(true);
        Ok(())
    }

    /// Creates, alters and drops groups of the homes here, and returns when that is synced.
    async fn carry_out(self: &Rc<Self>, effects: Vec<Effect>) -> Result<(), FollowError> {
        let mut waits: BTreeMap<u16, (Log<R>, Lsn)> = BTreeMap::new();
        for effect in effects {
            let home = match &effect {
                Effect::Create(home, ..) | Effect::Alter(home, ..) | Effect::Drop(home, _) => *home,
                Effect::Quota(client_id, quota) => {
                    self.quotas.borrow_mut().set(client_id, *quota);
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

    async fn carry_out_one(&self, log: &Log<R>, effect: Effect) -> Result<Option<Lsn>, FollowError> {
        loop {
            let done = match &effect {
                Effect::Create(_, group, settings) if log.state(*group).is_none() => log.create_group(*group, GroupConfig::from(settings)),
                Effect::Alter(_, group, settings) if log.config(*group).is_some_and(|is| is != GroupConfig::from(settings)) => {
                    log.alter_group(*group, GroupConfig::from(settings))
                }
                Effect::Drop(_, group) if log.state(*group).is_some() => log.drop_group(*group),
                _ => return Ok(None),
            };
            match done {
                // The change is decided: it waits for room as long as it takes.
                Err(LogError::Full { .. } | LogError::DiskFull { .. }) => {
                    self.rt.sleep(std::time::Duration::from_millis(20)).await;
                }
                done => return Ok(Some(done?)),
            }
        }
    }

    /// Makes the tables of the hot path agree with the catalog about one topic.
    fn refresh(&self, name: &str) {
        let catalog = self.catalog.borrow();
        let topic = catalog.topic(name);
        let before = self.routes.borrow_mut().remove(name);
        if let Some(before) = before {
            let kept = |group| topic.is_some_and(|t| t.partitions.iter().any(|p| p.group == group));
            // Groups are never reused, so the first decides for all: a topic is kept, perhaps grown, or gone.
            if before.places.first().is_some_and(|p| !kept(p.group)) {
                for place in &before.places {
                    let gone = self.partitions.borrow_mut().remove(&place.group);
                    if let Some(gone) = gone {
                        gone.wake();
                    }
                }
            }
        }
        if let Some(topic) = topic {
            let route = self.route_to(topic);
            self.routes.borrow_mut().insert(name.to_owned(), Rc::new(route));
        }
    }

    fn route_to(&self, topic: &Topic) -> Route<R> {
        let mut partitions = self.partitions.borrow_mut();
        let places = topic.partitions.iter().map(|p| {
            let here = self.logs.get(&p.home).map(|log| {
                let make = || Rc::new(Partition::new(p.group, log.clone(), &topic.settings));
                let partition = partitions.entry(p.group).or_insert_with(make);
                partition.set(&topic.settings);
                Rc::clone(partition)
            });
            Place { group: p.group, core: self.owner(p.home), here }
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
