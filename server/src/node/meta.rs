//! Changes of the catalog. They happen on core 0 of the node that leads the meta group (or is alone), one after the other: planned, appended to `__meta` as one
//! batch, and applied once that lasts; the answer comes after all cores of that node have. Every node follows `__meta`, record by record, and so does this one. A
//! crash in between is made good at the next start.

use super::{
    await_room,
    core::Core,
    follow::FollowError,
    mesh::Lost,
    not_owner,
    partition::{Partition, Pending},
    produce::ROOM_WAIT,
};
use crate::{
    boot::load,
    catalog::{Catalog, CatalogError, Home, META, META_GROUP, Node, NodeState, Plan, Replica, Topic},
    keyed::Record,
};
use millpond_batch::{Builder, Compression, Header, builder::NO_HEADERS};
use millpond_log::LogError;
use millpond_runtime::{CoreId, GroupId, Offset, Rt, Share, Term};
use millpond_wire::messages::{
    AlterAcls, AlterQuota, AlterTopic, AlterUser, Code, CreateTopic, DeleteTopic, Failure, InitProducerReply, RebalanceReply,
};
use std::{rc::Rc, time::Duration};
use tokio::sync::Notify;

/// Producer ids reserved at a time: what a crash leaves unused is lost, and there are 2^63.
const PRODUCER_IDS: u64 = 1_000;

/// After the log had no room to note how far the catalog is committed it is tried again this much later.
const KEEP_AGAIN: Duration = Duration::from_millis(20);

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
    /// Change what is kept of a user.
    User(AlterUser),
    /// Add and take away ACLs.
    Acls(AlterAcls),
    /// A node joins, or is elsewhere: its id, if it has one.
    Node(Option<u64>, Node),
    /// A node joins in the place of another one, which is lost.
    Replace(u64, Node),
    /// What a node is to do.
    NodeState(u64, NodeState),
    /// A node is gone.
    NodeGone(u64),
    /// Groups have these replicas now.
    Moved(Vec<(GroupId, Vec<Replica>)>),
    /// These replicas take no part any more, and are to be made anew.
    Renew(Vec<(GroupId, Replica)>),
    /// The catalog is to want what it should.
    Heal,
    /// Replicas and leaders are to be spread evenly; or only said where they would go.
    Rebalance(bool),
}

/// What a change has come to.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// The topic as it is now, if the change is of one and it still exists.
    pub topic: Option<Topic>,
    /// Whether anything changed.
    pub changed: bool,
    /// The node that the change is of, or 0.
    pub node: u64,
    /// What moves.
    pub moves: Option<RebalanceReply>,
}

fn internal(what: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Internal, what.to_string(), "see the server's log")
}

/// Appends `records` to a partition of the system as one batch, and gives what to wait for. Refused where there is no room.
pub(super) fn append_records<R: Rt>(rt: &R, partition: &Partition<R>, records: &[Record]) -> Result<Pending, Failure> {
    let now_ms = rt.wall_ms();
    let mut builder = Builder::new(Compression::None, 1024);
    for record in records {
        builder.append(now_ms, Some(&record.key), record.value.as_deref(), NO_HEADERS);
    }
    let batch = builder.build(None).map_err(internal)?;
    let header = Header::parse(&batch).map_err(internal)?;
    partition.append(batch, header, now_ms)
}

impl<R: Rt> Core<R> {
    /// Makes a change, from any core. Refused where another node leads the meta group.
    pub async fn change(self: &Rc<Self>, change: Change) -> Result<Changed, Failure> {
        self.at(CoreId(0), move |core| async move { core.change_here(change).await }).await?
    }

    async fn change_here(self: &Rc<Self>, change: Change) -> Result<Changed, Failure> {
        let _turn = self.meta_turn.lock().await;
        let term = self.know_all().await?;
        let mut done = Changed::default();
        let planned = self.plan(&change, &mut done).map_err(|e| e.failure());
        let dry = matches!(&change, Change::Create(CreateTopic { dry_run: true, .. }) | Change::Rebalance(true));
        if dry || !planned.as_ref().is_ok_and(Plan::changes) {
            // Nothing is written that would show whether another node leads the meta group, and knows better.
            self.meta()?.confirm_in(term).await?;
        }
        let plan = planned?;
        (done.topic, done.changed) = (plan.topic.clone(), plan.changes());
        if let (Change::Create(asked), Some(topic)) = (&change, &plan.topic) {
            // It was made by the same request before, whose answer was not heard.
            done.changed |= topic.is_by(asked.attempt) && !asked.dry_run;
        }
        if !dry {
            self.commit_plan(plan, term).await?;
        }
        Ok(done)
    }

    /// Whether changes can be planned here, and in which term: this node leads the meta group, and its catalog is what that has come to.
    pub async fn know_all(self: &Rc<Self>) -> Result<Term, Failure> {
        let meta = self.meta()?;
        let term = meta.serves()?;
        let end = meta.state()?.high_watermark;
        self.followed(end).await?;
        Ok(term)
    }

    fn meta(&self) -> Result<Rc<Partition<R>>, Failure> {
        self.partition(META_GROUP).ok_or_else(|| internal("the catalog does not live on core 0"))
    }

    fn plan(&self, change: &Change, done: &mut Changed) -> Result<Plan, CatalogError> {
        let catalog = self.catalog.borrow();
        let homes = catalog.homes(self.homes());
        match change {
            Change::Create(c) => {
                let mut c = c.clone();
                if c.partitions == 0 {
                    c.partitions = self.config.partitions_default;
                }
                catalog.plan_create(&c, homes)
            }
            Change::Alter(c) => catalog.plan_alter(c, homes),
            Change::Delete(c) => catalog.plan_delete(c),
            Change::Quota(c) => catalog.plan_quota(c),
            Change::User(c) => catalog.plan_user(c),
            Change::Acls(c) => catalog.plan_acls(c),
            Change::Node(id, at) => catalog.plan_node(*id, at.clone()).map(|(id, plan)| {
                done.node = id;
                plan
            }),
            Change::Replace(lost, at) => catalog.plan_replacement(*lost, at.clone()).map(|(id, plan)| {
                done.node = id;
                plan
            }),
            Change::NodeState(id, state) => catalog.plan_node_state(*id, *state),
            Change::NodeGone(id) => catalog.plan_node_gone(*id),
            Change::Moved(moved) => Ok(catalog.plan_moved(moved)),
            Change::Renew(broken) => Ok(catalog.plan_renew(broken)),
            Change::Heal => Ok(catalog.plan_heal()),
            Change::Rebalance(_) => {
                let (plan, moves) = catalog.plan_rebalance();
                done.moves = Some(moves);
                Ok(plan)
            }
        }
    }

    /// Writes a plan that was made in a term, and returns when all cores here follow it. The caller has the turn.
    pub async fn commit_plan(self: &Rc<Self>, plan: Plan, term: Term) -> Result<(), Failure> {
        if !plan.changes() {
            return Ok(());
        }
        let meta = self.meta()?;
        await_room(&self.rt, &meta.log, ROOM_WAIT).await;
        if meta.serves()? != term {
            // Others may have changed what it was made from.
            return Err(not_owner(None));
        }
        let mut pending = append_records(&self.rt, &meta, &plan.records)?;
        pending.settle(&meta.log).await?;
        self.followed(pending.base_offset.plus(1)).await
    }

    /// Waits until the catalog here has come to what its log has before this offset; on core 0.
    async fn followed(&self, offset: Offset) -> Result<(), Failure> {
        loop {
            let mut followed = std::pin::pin!(self.meta_followed.notified());
            followed.as_mut().enable();
            if self.meta_next.get() >= offset {
                return Ok(());
            }
            if self.stopping.get() {
                return Err(Lost.into());
            }
            followed.await;
        }
    }

    /// Waits until the catalog here has come to all that was acknowledged anywhere before the call; from any core.
    pub async fn catch_up(self: &Rc<Self>) -> Result<(), Failure> {
        self.at(CoreId(0), |core| async move {
            let meta = core.meta()?;
            if meta.is_replica() {
                let driver = core.drivers.get(&crate::catalog::Home(0)).ok_or_else(|| internal("home 0 does not live on core 0"))?;
                let again = |e: millpond_raft::ReadError| Failure::new(Code::Unavailable, e.to_string(), "retry").retry_after(50);
                driver.read_index(META_GROUP).await.map_err(again)?;
            }
            let end = meta.state()?.high_watermark;
            core.followed(end).await
        })
        .await?
    }

    /// The catalog here is what its log has up to this offset: from there on all cores follow it; on core 0.
    pub fn meta_begins(self: &Rc<Self>, end: Offset) {
        self.meta_next.set(end);
        self.follow_meta();
    }

    /// Has all cores here follow the catalog, for as long as the node runs; on core 0.
    fn follow_meta(self: &Rc<Self>) {
        let core = Rc::clone(self);
        self.rt.spawn("follow the catalog", Share::Serve, async move {
            while !core.stopping.get() {
                let waiter = Rc::new(Notify::new());
                let Some(meta) = core.partition(META_GROUP) else { return };
                meta.wait_on(&waiter);
                let end = meta.state().map_or(Offset(0), |state| state.high_watermark);
                if core.cluster.meta_replaced.take() {
                    core.begin_anew(&meta).await;
                } else if core.meta_next.get() < end {
                    core.follow_until(&meta, end).await;
                } else if !core.stopping.get() {
                    waiter.notified().await;
                }
            }
        });
    }

    /// Has a later start find the catalog as far committed as it is now. False if the node stops, or the catalog's replica takes no part any more.
    async fn keep_meta(&self) -> bool {
        let Some((driver, meta)) = self.drivers.get(&Home(0)).zip(self.partition(META_GROUP)) else { return true };
        while meta.log.is_replica(META_GROUP) {
            match driver.keep_commit(META_GROUP).await {
                Ok(()) => return true,
                Err(LogError::Stopped { .. }) => return false,
                Err(_) if self.stopping.get() || driver.broken(META_GROUP).is_some() => return false,
                // The change is decided: it waits for room, or for a replica that begins anew, as long as it takes.
                Err(_) => self.rt.sleep(KEEP_AGAIN).await,
            }
        }
        true
    }

    /// A snapshot took the place of the catalog's log: what was deleted meanwhile left no trace in it, so all of it is read, and what it does not know goes.
    async fn begin_anew(self: &Rc<Self>, meta: &Partition<R>) {
        let mut catalog = Catalog::new();
        let read = load::keyed(&self.rt, &meta.log, META_GROUP, |key, value| catalog.apply(key, value).map(drop)).await;
        let end = match read {
            Ok(end) => end,
            Err(failed) => self.rt.halt(&format!("the catalog cannot be read: {failed}")),
        };
        for core in self.core_ids() {
            let catalog = catalog.clone();
            let begun = self.at(core, move |core| async move {
                let done = async {
                    core.install(catalog).await?;
                    core.drop_strangers().await
                };
                if let Err(error) = done.await {
                    core.refuse_to_go_on(&error);
                }
            });
            if begun.await.is_err() {
                // The node stops.
                return;
            }
        }
        self.meta_next.set(end);
        self.meta_followed.notify_waiters();
    }

    async fn follow_until(self: &Rc<Self>, meta: &Partition<R>, end: Offset) {
        let mut records: Vec<Record> = Vec::new();
        let read = load::keyed_from(&self.rt, &meta.log, META_GROUP, (self.meta_next.get(), end), |key, value| {
            let owned = |bytes: &[u8]| bytes::Bytes::copy_from_slice(bytes);
            records.push(Record { key: owned(key), value: value.map(owned) });
            Ok(())
        });
        if let Err(failed) = read.await {
            self.rt.halt(&format!("the catalog cannot be read: {failed}"));
        }
        let mut topics: Vec<String> = Vec::new();
        for record in &records {
            let key = String::from_utf8_lossy(&record.key);
            match key.strip_prefix("topic/") {
                Some(name) => topics.push(name.to_owned()),
                None if key.starts_with("node/") || key == "meta" => topics.push(META.to_owned()),
                None => {}
            }
        }
        // What is done now may be that logs go: a start must not find a catalog that still has them, and make them anew.
        if !self.keep_meta().await {
            return;
        }
        for core in self.core_ids() {
            let (records, topics) = (records.clone(), topics.clone());
            let followed = self.at(core, move |core| async move {
                if let Err(error) = core.follow(&records, &topics).await {
                    core.refuse_to_go_on(&error);
                }
            });
            if followed.await.is_err() {
                // The node stops.
                return;
            }
        }
        tracing::debug!(epoch = self.catalog.borrow().epoch(), records = records.len(), until = end.0, "the catalog is followed");
        self.meta_next.set(end);
        self.meta_followed.notify_waiters();
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
            let term = self.know_all().await?;
            let (ids, plan) = self.catalog.borrow().plan_producers(PRODUCER_IDS);
            self.commit_plan(plan, term).await?;
            *self.producer_ids.borrow_mut() = ids;
        }
    }
}
