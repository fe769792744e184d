//! Classic consumer groups, as Kafka has had them from 0.9 on: the members agree among themselves on who reads what.
//!
//! Each *generation* begins when all members have joined it (JoinGroup); one of them, the leader, shares the partitions out (SyncGroup), and the coordinator passes on
//! what it wrote without looking into it. Kafka Connect and others share out other things than partitions in the same way. The rules are those of Kafka's
//! `GroupCoordinator`, with members by name (KIP-345), ids that are given first (KIP-394), and cooperative ways of sharing out, which are the members' affair.
//!
//! A generation is written down before anybody has a part of it. So it outlives its coordinator: members go on with the next one without joining anew.
//!
//! Who joins waits for others, and who asks for a part waits for the leader. The answer comes through a channel; the node waits for it, and calls
//! [`Coordinator::tick`] when [`Coordinator::due_ms`] says so.

mod admission;
mod asked;
mod group;
mod member;
mod stored;
#[cfg(test)]
mod tests;

pub use asked::{Described, DescribedMember, Join, Joined, JoinedMember, Leaver, Protocol, Refused, Speaker, Sync, Synced};
pub use group::FIRST_WAIT_MS;

pub(super) use group::Group;
pub(super) use stored::StoredGroup;

use super::{Commit, Coordinator, Expired, GROUPS_MAX, NAME_BYTES_MAX, SESSION_MS_MAX, SESSION_MS_MIN, records};
use crate::keyed::Record;
use group::unknown;
use millpond_wire::messages::{CommitOffsets, Position};
use prost::Message;
use tokio::sync::oneshot::Receiver;

/// Most ways of sharing out that a member may name.
pub const PROTOCOLS_MAX: usize = 100;
/// Longest record of a group, in bytes: it must fit into one batch.
pub const GROUP_RECORD_BYTES_MAX: usize = 768 * 1024;
/// The shortest and the longest time that members may have to join a generation, in ms.
const REBALANCE_MS: (u32, u32) = (1, SESSION_MS_MAX);

/// What was begun: records to be appended as one batch before anything else happens, and to be synced and applied before the answer is waited for.
#[must_use = "a generation lasts only when its records are synced and applied"]
#[derive(Debug)]
pub struct Begun<T> {
    /// At most one.
    pub records: Vec<Record>,
    /// The answer, sooner or later; it never comes if the coordinator is gone.
    pub answer: Receiver<Result<T, Refused>>,
}

impl Coordinator {
    /// A member joins the next generation of its group. One that is new is called `new_id`, which nobody was ever called.
    pub fn join(&mut self, now_ms: u64, mut join: Join, new_id: String) -> Result<Begun<Joined>, Refused> {
        check_group(&join.group)?;
        if !(SESSION_MS_MIN..=SESSION_MS_MAX).contains(&join.session_timeout_ms) {
            return Err(Refused::SessionTimeout { is: join.session_timeout_ms });
        }
        at_most("a member's id", join.member.len(), NAME_BYTES_MAX)?;
        at_most("a member's name", join.instance.as_ref().map_or(0, String::len), NAME_BYTES_MAX)?;
        at_most("a client's id", join.client_id.len(), NAME_BYTES_MAX)?;
        at_most("the kind of a group", join.protocol_type.len(), NAME_BYTES_MAX)?;
        if join.protocols.len() > PROTOCOLS_MAX {
            return Err(Refused::Full { what: "ways of sharing out", max: PROTOCOLS_MAX });
        }
        join.protocols.iter().try_for_each(|p| at_most("the name of a way of sharing out", p.name.len(), NAME_BYTES_MAX))?;
        if self.groups.contains_key(&join.group) || self.consumer.contains_key(&join.group) {
            // Its members are of the other sort: the coordinator shares out among them.
            return Err(Refused::Inconsistent { is: String::new() });
        }
        let known = self.classic.get(&join.group);
        if known.is_none() && !join.member.is_empty() {
            return Err(unknown(&join.member));
        }
        if join.member.is_empty() {
            self.check_room(known.map(Group::people))?;
            if self.bytes_left() == 0 {
                return Err(self.full_of_bytes().into());
            }
        }
        let (min, max) = REBALANCE_MS;
        join.rebalance_timeout_ms = join.rebalance_timeout_ms.clamp(min, max);
        let begun = self.classic.entry(join.group.clone()).or_default().join(now_ms, &join, new_id);
        self.drop_if_over(&join.group);
        Ok(Begun { records: to_record(&join.group, begun.write), answer: begun.answer })
    }

    /// A member asks for its part; the leader shares out.
    pub fn sync(&mut self, now_ms: u64, sync: &Sync) -> Result<Begun<Synced>, Refused> {
        let group = self.classic_group(&sync.speaker)?;
        let begun = group.sync(now_ms, sync);
        if begun.write.as_ref().is_some_and(|group| group.encoded_len() > GROUP_RECORD_BYTES_MAX) {
            group.unwritten(now_ms);
            return Err(Refused::TooLong { what: "what is shared out", max: GROUP_RECORD_BYTES_MAX });
        }
        Ok(Begun { records: to_record(&sync.speaker.group, begun.write), answer: begun.answer })
    }

    /// A sign of life of a member of a classic group.
    pub fn beat_classic(&mut self, now_ms: u64, speaker: &Speaker) -> Result<(), Refused> {
        self.classic_group(speaker)?.beat(now_ms, speaker)
    }

    /// Members leave, or are made to; each is answered for itself.
    pub fn leave_classic(&mut self, now_ms: u64, group: &str, who: &[Leaver]) -> Result<Vec<Result<(), Refused>>, Refused> {
        check_group(group)?;
        if let Some(left) = self.remove_consumers(group, who) {
            return Ok(left);
        }
        let Some(here) = self.classic.get_mut(group) else {
            return Ok(who.iter().map(|one| Err(unknown(&one.member))).collect());
        };
        let left = who.iter().map(|one| here.leave(now_ms, one)).collect();
        self.drop_if_over(group);
        Ok(left)
    }

    /// Checks a commit of a member of one of Kafka's groups, or from outside: then its generation, or epoch, is -1 and it has no name.
    pub fn commit_classic(&mut self, speaker: &Speaker, positions: Vec<Position>) -> Result<Commit, Refused> {
        check_group(&speaker.group)?;
        if let Some(commit) = self.commit_consumer(&speaker.group, &speaker.member, speaker.generation, &positions) {
            return commit;
        }
        match self.classic.get_mut(&speaker.group) {
            Some(group) => group.may_commit(speaker)?,
            None if speaker.generation >= 0 || !speaker.member.is_empty() || self.groups.contains_key(&speaker.group) => {
                return Err(unknown(&speaker.member));
            }
            None if !self.positions.contains_key(&speaker.group) && self.positions.len() >= GROUPS_MAX => {
                return Err(Refused::Full { what: "groups", max: GROUPS_MAX });
            }
            None => {}
        }
        let request = CommitOffsets { group: speaker.group.clone(), positions, ..CommitOffsets::default() };
        Ok(self.commit_by(&request, None))
    }

    /// What was begun for a group could not be written: all its members join again.
    pub fn unwritten(&mut self, now_ms: u64, group: &str) {
        if let Some(group) = self.classic.get_mut(group) {
            group.unwritten(now_ms);
        }
    }

    /// Looks at the clock for one group. Nothing if it is not there.
    pub fn tick(&mut self, now_ms: u64, group: &str) -> Vec<Expired> {
        let gone = self.classic.get_mut(group).map(|here| here.tick(now_ms)).unwrap_or_default();
        self.drop_if_over(group);
        gone.into_iter().map(|member| Expired { group: group.to_owned(), member }).collect()
    }

    /// When [`Coordinator::tick`] has something to do for those who wait in a group, if it ever will.
    #[must_use]
    pub fn due_ms(&self, group: &str) -> Option<u64> {
        self.classic.get(group).and_then(Group::due_ms)
    }

    /// A classic group. Nothing if it has no members.
    #[must_use]
    pub fn described(&self, group: &str) -> Option<Described> {
        self.classic.get(group).map(Group::described)
    }

    /// Tombstones for groups that have no members any more, some of them; to be appended before anything else happens, and not to be waited for: a group that is read
    /// back with members that are gone loses them by their silence.
    pub fn take_over(&mut self, most: usize) -> Vec<Record> {
        // A group that was begun anew under the name may end without a record of its own: then that of the one before goes.
        let over = self.classic_over.extract_if(.., |name| !self.classic.contains_key(name));
        over.take(most).map(|name| records::write_group(&name, None)).collect()
    }

    /// A group was read from the log.
    pub(super) fn apply_group(&mut self, name: String, stored: Option<StoredGroup>) {
        if self.was_told_topics {
            // It was written here: the group is ahead of it.
            if let (Some(group), Some(stored)) = (self.classic.get_mut(&name), stored) {
                group.written(stored);
            }
            return;
        }
        match stored {
            Some(stored) => self.classic.insert(name, Group::read_back(stored)),
            None => self.classic.remove(&name),
        };
    }

    pub(super) fn expire_classic(&mut self, now_ms: u64) -> Vec<Expired> {
        let names: Vec<String> = self.classic.keys().cloned().collect();
        names.iter().flat_map(|name| self.tick(now_ms, name)).collect()
    }

    fn classic_group(&mut self, speaker: &Speaker) -> Result<&mut Group, Refused> {
        check_group(&speaker.group)?;
        self.classic.get_mut(&speaker.group).ok_or_else(|| unknown(&speaker.member))
    }

    fn drop_if_over(&mut self, group: &str) {
        if self.classic.get(group).is_some_and(Group::is_over) && self.classic.remove(group).is_some_and(|gone| gone.is_written()) {
            self.classic_over.insert(group.to_owned());
        }
    }
}

fn to_record(group: &str, write: Option<StoredGroup>) -> Vec<Record> {
    write.map(|stored| records::write_group(group, Some(&stored))).into_iter().collect()
}

fn check_group(name: &str) -> Result<(), Refused> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX { Err(Refused::GroupName) } else { Ok(()) }
}

fn at_most(what: &'static str, is: usize, max: usize) -> Result<(), Refused> {
    if is > max { Err(Refused::TooLong { what, max }) } else { Ok(()) }
}
