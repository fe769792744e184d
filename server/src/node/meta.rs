//! Changes of the catalog. They happen on core 0, one after the other: planned, appended to `__meta` as one batch, synced, and
//! only then applied on every core; the answer comes after all have. A crash in between is made good at the next start.

use super::{await_room, core::Core, follow::FollowError, produce::ROOM_WAIT};
use crate::{
    catalog::{CatalogError, Home, META_GROUP, Plan, Topic},
    keyed::Record,
    node::failure_of,
};
use millpond_batch::{Builder, Compression, Header, builder::NO_HEADERS};
use millpond_log::{Appended, Log, Lsn};
use millpond_runtime::{CoreId, GroupId, Rt};
use millpond_wire::messages::{AlterQuota, AlterTopic, Code, CreateTopic, DeleteTopic, Failure, InitProducerReply};
use std::rc::Rc;

/// Producer ids reserved at a time: what a crash leaves unused is lost, and there are 2^63.
const PRODUCER_IDS: u64 = 1_000;

/// A change of the catalog.
#[derive(Clone, Debug)]
pub enum Change {
    /// Create a topic.
    Create(CreateTopic),
    /// Alter a topic.
    Alter(AlterTopic),
    /// Delete a topic.
    Delete(DeleteTopic),
    /// Set a quota.
    Quota(AlterQuota),
}

impl Change {
    /// The topic that it is about.
    fn topic(&self) -> Option<&str> {
        match self {
            Self::Create(c) => Some(&c.name),
            Self::Alter(c) => Some(&c.name),
            Self::Delete(c) => Some(&c.name),
            Self::Quota(_) => None,
        }
    }
}

fn internal(what: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Internal, what.to_string(), "see the server's log")
}

/// Appends `records` to a group of the system as one batch, and gives the place to wait for.
pub(super) async fn append_records<R: Rt>(rt: &R, log: &Log<R>, group: GroupId, records: &[Record]) -> Result<Lsn, Failure> {
    await_room(rt, log, ROOM_WAIT).await;
    append_records_now(rt, log, group, records)
}

/// The same without waiting: refused where there is no room.
pub(super) fn append_records_now<R: Rt>(rt: &R, log: &Log<R>, group: GroupId, records: &[Record]) -> Result<Lsn, Failure> {
    let now_ms = rt.wall_ms();
    let mut builder = Builder::new(Compression::None, 1024);
    for record in records {
        builder.append(now_ms, Some(&record.key), record.value.as_deref(), NO_HEADERS);
    }
    let batch = builder.build(None).map_err(internal)?;
    let header = Header::parse(&batch).map_err(internal)?;
    match log.append(group, batch, &header, now_ms).map_err(|e| failure_of(&e))? {
        Appended::New { lsn, .. } | Appended::Duplicate { lsn, .. } => Ok(lsn),
    }
}

impl<R: Rt> Core<R> {
    /// Makes a change, from any core. The topic as it is now, if the change is of one and it still exists; and whether anything
    /// changed.
    pub async fn change(self: &Rc<Self>, change: Change) -> Result<(Option<Topic>, bool), Failure> {
        self.at(CoreId(0), move |core| async move { core.change_here(change).await }).await?
    }

    async fn change_here(self: &Rc<Self>, change: Change) -> Result<(Option<Topic>, bool), Failure> {
        let _turn = self.meta_turn.lock().await;
        let plan = self.plan(&change).map_err(|e| e.failure())?;
        let changes = plan.changes();
        if matches!(&change, Change::Create(c) if c.dry_run) {
            return Ok((plan.topic, changes));
        }
        let topic = plan.topic.clone();
        let touched = change.topic().map(str::to_owned);
        self.commit_plan(plan, touched.into_iter().collect()).await?;
        Ok((topic, changes))
    }

    fn plan(&self, change: &Change) -> Result<Plan, CatalogError> {
        let catalog = self.catalog.borrow();
        match change {
            Change::Create(c) => {
                let mut c = c.clone();
                if c.partitions == 0 {
                    c.partitions = self.config.partitions_default;
                }
                catalog.plan_create(&c, self.homes())
            }
            Change::Alter(c) => catalog.plan_alter(c, self.homes()),
            Change::Delete(c) => catalog.plan_delete(c),
            Change::Quota(c) => catalog.plan_quota(c),
        }
    }

    /// Writes a plan and has all cores follow. The caller has the turn.
    pub async fn commit_plan(self: &Rc<Self>, plan: Plan, topics: Vec<String>) -> Result<(), Failure> {
        if !plan.changes() {
            return Ok(());
        }
        let log = self.logs.get(&Home(0)).ok_or_else(|| internal("home 0 does not live on core 0"))?;
        let lsn = append_records(&self.rt, log, META_GROUP, &plan.records).await?;
        log.synced(lsn).await.map_err(|e| failure_of(&e))?;
        for core in self.core_ids() {
            let (records, topics) = (plan.records.clone(), topics.clone());
            self.at(core, move |core| async move {
                if let Err(error) = core.follow(&records, &topics).await {
                    core.refuse_to_go_on(&error);
                }
            })
            .await?;
        }
        Ok(())
    }

    /// A core that cannot follow the catalog must not serve.
    fn refuse_to_go_on(&self, error: &FollowError) {
        self.rt.halt(&format!("core {} cannot follow the catalog: {error}", self.id()));
    }

    /// A fresh producer id, from any core.
    pub async fn init_producer(self: &Rc<Self>) -> Result<InitProducerReply, Failure> {
        self.at(CoreId(0), |core| async move { core.init_producer_here().await }).await?
    }

    async fn init_producer_here(self: &Rc<Self>) -> Result<InitProducerReply, Failure> {
        loop {
            if let Some(producer_id) = self.producer_ids.borrow_mut().next() {
                return Ok(InitProducerReply { producer_id, epoch: 0 });
            }
            let _turn = self.meta_turn.lock().await;
            if !self.producer_ids.borrow().is_empty() {
                continue;
            }
            let (ids, plan) = self.catalog.borrow().plan_producers(PRODUCER_IDS);
            self.commit_plan(plan, Vec::new()).await?;
            *self.producer_ids.borrow_mut() = ids;
        }
    }
}
