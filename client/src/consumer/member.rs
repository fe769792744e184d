//! A member of a consumer group: it tells the server what it owns, learns what it should own, and makes the one the other.
//!
//! ```text
//!   heartbeat -> should own -> give up what it should not: stop, commit, heartbeat at once
//!                           -> take what it should: positions from the group, or where to start, then fetch
//! ```
//!
//! A partition is given up before anybody else gets it; who has it next finds the position that was committed. A member that the server has
//! forgotten, or fenced, stops reading everything at once and joins again under its old id.

use super::{Rebalance, Shared, TopicPartition};
use crate::{
    client::Repeat,
    error::{Error, Result},
    fetch::Handle,
    position::resolve,
};
use millpond_wire::messages::{Code, FetchOffsets, FetchOffsetsReply, Kind, TopicPartitions};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Wait after a heartbeat that failed for good, before the next.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Whether the server does not know this member, or not by this epoch.
pub(super) fn is_forgotten(error: &Error) -> bool {
    matches!(error.code(), Some(Code::UnknownMember | Code::FencedMember | Code::UnknownGroup))
}

pub(super) async fn run(shared: Arc<Shared>) {
    let mut commit_at = shared.settings.auto_commit.map(|every| Instant::now() + every);
    loop {
        let epoch = shared.lock().epoch;
        let wait = match shared.beat(epoch).await {
            Ok(reply) => {
                shared.lock().epoch = reply.member_epoch;
                let gave_up = shared.reconcile(&reply.assigned).await;
                if gave_up { Duration::ZERO } else { Duration::from_millis(u64::from(reply.heartbeat_ms.clamp(10, 60_000))) }
            }
            Err(error) if is_forgotten(&error) => {
                shared.lose_all();
                // A fresh join that is refused again and again must not be a storm.
                if epoch == 0 { FAILED_PAUSE } else { Duration::ZERO }
            }
            Err(error) => {
                // It has been tried for as long as a call may take: others may have been given everything.
                shared.lose_all();
                shared.fetcher.tell(error);
                FAILED_PAUSE
            }
        };
        let next = Instant::now() + wait;
        if let (Some(at), Some(every)) = (commit_at, shared.settings.auto_commit)
            && at <= Instant::now()
        {
            commit_at = Some(Instant::now() + every);
            let (_, owned) = shared.holdings();
            shared.commit_processed(&owned).await;
        }
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = shared.wake.notified() => {}
        }
    }
}

impl Shared {
    fn tell_listener(&self, change: Rebalance<'_>) {
        if let Some(listener) = &self.settings.listener {
            listener(change);
        }
    }

    /// Commits what was processed; the reader is told if that fails.
    async fn commit_processed(&self, handles: &[Arc<Handle>]) {
        // Heartbeats must go on: a commit that takes too long is repeated with the next one.
        // Only this task ends a membership.
        let committing = self.commit(self.membership(), handles, Handle::processed);
        match timeout(self.settings.session_timeout / 3, committing).await {
            Ok(Ok(())) => {}
            // The next heartbeat tells so, too, and everything is read again from what was committed before.
            Ok(Err(error)) if is_forgotten(&error) => {}
            Ok(Err(error)) => self.fetcher.tell(error),
            Err(_) => tracing::warn!(group = self.settings.group, "a commit took too long and is repeated later"),
        }
    }

    /// Gives up and takes partitions. True if any was given up: the server wants to know at once.
    async fn reconcile(&self, assigned: &[TopicPartitions]) -> bool {
        let mut wanted: BTreeSet<TopicPartition> = BTreeSet::new();
        for topic in assigned {
            let name: Arc<str> = topic.topic.as_str().into();
            wanted.extend(topic.partitions.iter().map(|p| (Arc::clone(&name), *p)));
        }
        let given_up: Vec<(TopicPartition, Arc<Handle>)> = {
            let mut state = self.lock();
            state.owned.extract_if(.., |part, _| !wanted.contains(part)).collect()
        };
        if !given_up.is_empty() {
            let (parts, handles): (Vec<_>, Vec<_>) = given_up.into_iter().unzip();
            handles.iter().for_each(|h| self.fetcher.remove(h));
            if self.commits_by_itself() {
                self.commit_processed(&handles).await;
            }
            self.tell_listener(Rebalance::Revoked(&parts));
            // What it should take is taken after the next heartbeat, which has no time to lose.
            return true;
        }
        let new: Vec<TopicPartition> = {
            let state = self.lock();
            wanted.into_iter().filter(|part| !state.owned.contains_key(part)).collect()
        };
        if new.is_empty() {
            return false;
        }
        match timeout(self.settings.session_timeout / 3, self.take(&new)).await {
            Ok(Ok(())) => self.tell_listener(Rebalance::Assigned(&new)),
            // They are still assigned: the next heartbeat leads here again.
            Ok(Err(error)) => self.fetcher.tell(error),
            Err(_) => tracing::warn!(group = self.settings.group, "positions were not told in time and are asked for again"),
        }
        false
    }

    /// Begins to read partitions where the group has left off.
    async fn take(&self, new: &[TopicPartition]) -> Result<()> {
        // A commit of an earlier membership may still be on its way: the group has left off where it leads to, or it comes to nothing.
        let _none = self.committing.lock().await;
        let mut topics: BTreeMap<&Arc<str>, Vec<u32>> = BTreeMap::new();
        new.iter().for_each(|(topic, partition)| topics.entry(topic).or_default().push(*partition));
        let committed = self.committed(&topics).await?;
        let mut added = Vec::new();
        for (topic, partitions) in topics {
            let mut meta = self.client.topic(topic).await?;
            if partitions.iter().any(|p| *p as usize >= meta.owners.len()) {
                meta = self.client.refresh_topic(topic).await?;
            }
            let fresh: Vec<u32> = partitions.iter().copied().filter(|p| !committed.contains_key(&(topic.to_string(), *p))).collect();
            let starts = self.starts(topic, &fresh).await?;
            for partition in partitions {
                let Some(owner) = meta.owners.get(partition as usize) else { return Err(super::no_partition(topic, partition)) };
                let kept = committed.get(&(topic.to_string(), partition)).copied();
                let Some(offset) = kept.or_else(|| starts.get(&partition).copied()) else { continue };
                let handle = Handle::new(Arc::clone(topic), partition, offset);
                handle.committed.store(kept.unwrap_or(u64::MAX), Ordering::Release);
                added.push((handle, Arc::clone(owner), offset, None));
            }
        }
        let mut state = self.lock();
        for (handle, ..) in &added {
            state.owned.insert((Arc::clone(&handle.topic), handle.partition), Arc::clone(handle));
        }
        drop(state);
        self.fetcher.add(added);
        Ok(())
    }

    async fn committed(&self, topics: &BTreeMap<&Arc<str>, Vec<u32>>) -> Result<HashMap<(String, u32), u64>> {
        let group = self.settings.group.clone().unwrap_or_default();
        let doing = format!("fetching positions of group {group}");
        let asked = topics.iter().map(|(t, partitions)| TopicPartitions { topic: t.to_string(), partitions: partitions.clone() });
        let request = FetchOffsets { group, partitions: asked.collect() };
        let reply: FetchOffsetsReply = self.client.ask(&doing, Kind::FetchOffsets, &request, Repeat::Freely).await?;
        Ok(reply.positions.into_iter().map(|p| ((p.topic, p.partition), p.offset)).collect())
    }

    /// Where to begin in partitions without a committed position.
    async fn starts(&self, topic: &Arc<str>, fresh: &[u32]) -> Result<HashMap<u32, u64>> {
        let Some(first) = fresh.first() else { return Ok(HashMap::new()) };
        let Some(start) = self.settings.start else {
            let why = "nothing was committed".to_owned();
            return Err(Error::NoPosition { topic: topic.to_string(), partition: *first, why });
        };
        let asked: Vec<_> = fresh.iter().map(|p| (*p, start)).collect();
        Ok(fresh.iter().copied().zip(resolve(&self.client, self.settings.limits.isolation, topic, &asked).await?).collect())
    }

    /// The server has given everything to others, or may have.
    fn lose_all(&self) {
        let lost = {
            let mut state = self.lock();
            state.epoch = 0;
            std::mem::take(&mut state.owned)
        };
        lost.values().for_each(|h| self.fetcher.remove(h));
        // From here on nothing of them is handed out.
        self.memberships.fetch_add(1, Ordering::AcqRel);
        if lost.is_empty() {
            return;
        }
        let parts: Vec<TopicPartition> = lost.into_keys().collect();
        self.tell_listener(Rebalance::Lost(&parts));
    }
}
