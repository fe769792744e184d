//! Members of a consumer group of our own: each moves on the positions of what it is given, from where the group has left off. Nobody's position goes back, whichever
//! member, coordinator or link fails meanwhile.

use crate::{
    ask::Trouble,
    book::{SHARED, TOPIC},
    clients::Client,
};
use millpond_runtime::Rt;
use millpond_wire::messages::{
    Code, CommitOffsets, CommitOffsetsReply, GroupHeartbeat, GroupHeartbeatReply, Kind, Position, TopicPartitions,
};
use std::collections::{BTreeMap, BTreeSet};

/// Members of the group, at any time.
pub(crate) const MEMBERS: usize = 3;
/// A member that is silent for so long is taken for dead, in ms.
const SESSION_MS: u32 = 3_000;

pub(crate) struct Member {
    client: Client,
    id: String,
    /// 0 if it is none.
    epoch: i64,
    /// Its partitions, and the position of each.
    owned: BTreeMap<u32, u64>,
    commits: u64,
}

impl Member {
    pub(crate) fn new(client: Client, number: usize) -> Self {
        Self { client, id: format!("member-{number}"), epoch: 0, owned: BTreeMap::new(), commits: 0 }
    }

    /// Stays in the group, or comes back, all through the run; from time to time it leaves.
    pub(crate) async fn run(mut self) {
        loop {
            self.client.pause(300).await;
            if self.epoch != 0 && self.client.rt.rand().is_multiple_of(40) {
                self.leave().await;
                continue;
            }
            match self.beat(self.epoch).await {
                Ok(reply) => self.reconcile(reply).await,
                Err(trouble) => self.fail(trouble).await,
            }
            for partition in self.owned.keys().copied().collect::<Vec<_>>() {
                if self.client.rt.rand().is_multiple_of(2) {
                    self.move_on(partition).await;
                }
            }
        }
    }

    async fn beat(&self, member_epoch: i64) -> Result<GroupHeartbeatReply, Trouble> {
        let owned = vec![TopicPartitions { topic: TOPIC.into(), partitions: self.owned.keys().copied().collect() }];
        let beat = GroupHeartbeat {
            group: SHARED.into(),
            member_id: self.id.clone(),
            member_epoch,
            topics: vec![TOPIC.into()],
            owned,
            session_timeout_ms: SESSION_MS,
            ..GroupHeartbeat::default()
        };
        self.client.ask(Kind::GroupHeartbeat, &beat, &[]).await.map(|(reply, _)| reply)
    }

    async fn leave(&mut self) {
        // Whether that was heard or not: it is silent from here on, until it joins again.
        let left = self.beat(-1).await;
        self.forget();
        match left {
            Ok(_) => self.client.book.mark("members left"),
            Err(trouble) => self.fail(trouble).await,
        }
    }

    /// Gives up what it should not have, and takes what it should.
    async fn reconcile(&mut self, reply: GroupHeartbeatReply) {
        if self.epoch == 0 {
            self.client.book.mark("members joined");
        }
        self.epoch = reply.member_epoch;
        let wanted: BTreeSet<u32> = reply.assigned.iter().flat_map(|of| of.partitions.iter().copied()).collect();
        self.owned.retain(|partition, _| wanted.contains(partition));
        for partition in wanted {
            if !self.owned.contains_key(&partition)
                && let Some(position) = self.client.shared_position(partition).await
            {
                self.owned.insert(partition, position);
            }
        }
    }

    fn forget(&mut self) {
        self.epoch = 0;
        self.owned.clear();
    }

    /// It may have been taken for dead: then it begins anew.
    async fn fail(&mut self, trouble: Trouble) {
        match &trouble {
            Trouble::Refused(failure) if [Code::UnknownMember, Code::FencedMember].contains(&failure.code()) => {
                self.client.book.mark("members that were forgotten, or fenced");
                self.forget();
            }
            _ => self.client.again(trouble).await,
        }
    }

    /// Commits the next position, each time until it is told that that is kept, or that it is no member any more.
    async fn move_on(&mut self, partition: u32) {
        self.commits += 1;
        while let Some(position) = self.owned.get(&partition).copied() {
            let next = position + 1;
            self.client.book.shared.borrow_mut()[partition as usize].sends(next);
            let request = CommitOffsets {
                group: SHARED.into(),
                member_id: self.id.clone(),
                member_epoch: self.epoch,
                positions: vec![Position { topic: TOPIC.into(), partition, offset: next, ..Position::default() }],
                sequence: self.commits,
                ..CommitOffsets::default()
            };
            let asked: Result<(CommitOffsetsReply, _), _> = self.client.ask(Kind::CommitOffsets, &request, &[]).await;
            let failed = asked.map(|(reply, _)| reply.failures.into_iter().next().and_then(|failed| failed.failure));
            match failed {
                Ok(None) => {
                    self.client.book.mark("positions committed by members");
                    self.client.book.shared.borrow_mut()[partition as usize].keeps(next);
                    self.owned.insert(partition, next);
                    return;
                }
                Ok(Some(failure)) => {
                    let trouble = self.client.refuse(failure);
                    self.fail(trouble).await;
                }
                Err(trouble) => self.fail(trouble).await,
            }
        }
    }
}
