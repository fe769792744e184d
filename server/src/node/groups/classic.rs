//! Classic groups of Kafka's next to their coordinator: whoever joins or asks for a part waits here, and no longer than the group does.

use super::{Core, Held, ROOM_WAIT, await_room, not_owner};
use crate::{
    coordinator::{
        Coordinator,
        classic::{Begun, Described, Join, Joined, Leaver, Refused, Speaker, Sync, Synced},
    },
    node::partition::Partition,
};
use millpond_runtime::Rt;
use millpond_wire::messages::{CommitOffsetsReply, DescribeGroup, DescribeGroupReply, Failure, Position, TopicPartitions};
use std::{collections::BTreeSet, rc::Rc, time::Duration};

/// How long one waits before it looks whether this node still leads, and whether it is to stop.
const LOOK: Duration = Duration::from_millis(500);

/// What is answered, or why it is not; the failure is one of the node.
pub(super) type Answered<T> = Result<Result<T, Refused>, Failure>;

impl<R: Rt> Core<R> {
    /// A member joins the next generation of its group: answered when that begins.
    pub async fn join_group(self: &Rc<Self>, join: Join) -> Answered<Joined> {
        let new_id = self.new_member_id(join.instance.as_deref().unwrap_or(&join.client_id));
        let (group, name) = (join.group.clone(), join.group.clone());
        self.with_group(&group, move |core, held, partition| async move {
            let begin = |c: &mut Coordinator, now_ms| c.join(now_ms, join, new_id);
            core.begin_in_group(&held, partition, &name, begin).await
        })
        .await
    }

    /// A member asks for its part: answered when the leader has shared out, and that is synced.
    pub async fn sync_group(self: &Rc<Self>, sync: Sync) -> Answered<Synced> {
        let group = sync.speaker.group.clone();
        self.with_group(&group, move |core, held, partition| async move {
            core.begin_in_group(&held, partition, &sync.speaker.group, |c, now_ms| c.sync(now_ms, &sync)).await
        })
        .await
    }

    /// A member's sign of life.
    pub async fn beat_group(self: &Rc<Self>, speaker: Speaker) -> Answered<()> {
        let group = speaker.group.clone();
        self.with_group(&group, move |core, held, _| async move { Ok(held.coordinator.borrow_mut().beat_classic(core.now_ms(), &speaker)) })
            .await
    }

    /// Members leave, each answered for itself.
    pub async fn leave_group(self: &Rc<Self>, group: String, who: Vec<Leaver>) -> Answered<Vec<Result<(), Refused>>> {
        let name = group.clone();
        self.with_group(&name, move |core, held, partition| async move {
            let left = held.coordinator.borrow_mut().leave_classic(core.now_ms(), &group, &who);
            let here = core.offsets(partition)?;
            core.settle_changed(&here, &held).await?;
            Ok(left)
        })
        .await
    }

    /// Keeps positions of a member, or from outside: synced before the answer.
    pub async fn commit_group(self: &Rc<Self>, speaker: Speaker, positions: Vec<Position>) -> Answered<CommitOffsetsReply> {
        let group = speaker.group.clone();
        self.with_group(&group, move |core, held, partition| async move {
            let here = core.offsets(partition)?;
            await_room(&core.rt, &here.log, ROOM_WAIT).await;
            let commit = held.coordinator.borrow_mut().commit_classic(&speaker, positions);
            match commit {
                Ok(commit) => core.keep(&here, &held, commit).await.map(Ok),
                Err(refused) => Ok(Err(refused)),
            }
        })
        .await
    }

    /// Forgets positions of a group; the topics whose positions stay, since a member subscribes to them.
    pub async fn delete_offsets(self: &Rc<Self>, group: String, parts: Vec<TopicPartitions>) -> Result<BTreeSet<String>, Failure> {
        let name = group.clone();
        self.with_group(&name, move |core, held, partition| async move {
            let here = core.offsets(partition)?;
            await_room(&core.rt, &here.log, ROOM_WAIT).await;
            core.settle(&here, &held).await?;
            let (tombstones, stay) = held.coordinator.borrow().delete_offsets(&group, &parts).map_err(|e| e.failure())?;
            for some in tombstones.chunks(super::RECORDS_PER_BATCH) {
                core.put(&here, &held, some.to_vec())?;
            }
            core.settle(&here, &held).await?;
            Ok(stay)
        })
        .await
    }

    /// A classic group with members, or what is told of one of another sort, without where its partitions begin and end.
    pub async fn described_group(self: &Rc<Self>, group: String) -> Result<Result<Described, DescribeGroupReply>, Failure> {
        let name = group.clone();
        self.with_group(&name, move |_, held, _| async move {
            let coordinator = held.coordinator.borrow();
            if let Some(classic) = coordinator.described(&group) {
                return Ok(Ok(classic));
            }
            coordinator.describe(&DescribeGroup { group }).map(Err).map_err(|e| e.failure())
        })
        .await
    }

    /// Begins something in a group, and waits for what comes of it.
    async fn begin_in_group<T>(
        self: &Rc<Self>,
        held: &Held,
        partition: u32,
        group: &str,
        begin: impl FnOnce(&mut Coordinator, u64) -> Result<Begun<T>, Refused>,
    ) -> Answered<T> {
        let here = self.offsets(partition)?;
        await_room(&self.rt, &here.log, ROOM_WAIT).await;
        let begun = begin(&mut held.coordinator.borrow_mut(), self.now_ms());
        let Begun { records, answer } = match begun {
            Ok(begun) => begun,
            Err(refused) => return Ok(Err(refused)),
        };
        if !records.is_empty() {
            if let Err(failure) = self.put(&here, held, records) {
                held.coordinator.borrow_mut().unwritten(self.now_ms(), group);
                return Err(failure);
            }
            self.settle(&here, held).await?;
        }
        self.await_group(&here, held, group, answer).await
    }

    async fn await_group<T>(
        &self,
        here: &Partition<R>,
        held: &Held,
        group: &str,
        answer: tokio::sync::oneshot::Receiver<Result<T, Refused>>,
    ) -> Answered<T> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let now_ms = self.now_ms();
            let due_ms = held.coordinator.borrow().due_ms(group).map_or(u64::MAX, |due| due.saturating_sub(now_ms));
            let nap = LOOK.min(Duration::from_millis(due_ms));
            let answered = async { Some(answer.as_mut().await) };
            let woke = async {
                self.rt.sleep(nap).await;
                None
            };
            match futures_lite::future::or(answered, woke).await {
                Some(Ok(answer)) => return Ok(answer),
                // The group was dropped with its coordinator.
                Some(Err(_)) => return Err(not_owner(None)),
                None => {}
            }
            if self.stopping.get() || here.serves() != Ok(held.term) {
                return Err(not_owner(None));
            }
            // Whoever has shared out may have gone away while that was written.
            self.apply_until(held, here.state()?.high_watermark);
            for gone in held.coordinator.borrow_mut().tick(self.now_ms(), group) {
                tracing::info!(consumer_group = gone.group, member = gone.member, "a member did not come into the next generation");
            }
        }
    }

    /// Deletes what is written of groups without members; nobody waits for it.
    pub(super) fn forget_groups(&self, partition: u32, held: &Held) {
        let Ok(here) = self.offsets(partition) else { return };
        let tombstones = held.coordinator.borrow_mut().take_over(super::RECORDS_PER_BATCH);
        if let Err(failure) = self.put(&here, held, tombstones) {
            tracing::debug!(partition, failure = failure.message, "groups without members stay written for now");
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.rt.mono() / 1_000_000
    }

    /// An id that nobody ever had: chance says so.
    pub(super) fn new_member_id(&self, name: &str) -> String {
        const NAME_BYTES_MAX: usize = 128;
        let name = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
        let (high, low) = (self.rt.rand(), self.rt.rand());
        let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
        format!("{name}-{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
    }
}
