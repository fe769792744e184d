//! Heartbeats of our own clients: members come, stay and go. What becomes of partitions by that is for `group` to say.

use super::{
    Coordinator, LEAVE, NAME_BYTES_MAX, Part, Refused, SESSION_MS_DEFAULT, SESSION_MS_MAX, SESSION_MS_MIN, TOPICS_PER_MEMBER_MAX, at_most,
    check_name,
    group::{self, Beat},
    to_wire,
};
use millpond_wire::messages::{GroupHeartbeat, GroupHeartbeatReply};
use std::sync::Arc;

impl Coordinator {
    /// Takes a member's sign of life. `host` is where it connects from, for people.
    pub fn heartbeat(&mut self, now_ms: u64, host: &str, request: &GroupHeartbeat) -> Result<GroupHeartbeatReply, Refused> {
        check_name("the group", &request.group)?;
        check_name("the member id", &request.member_id)?;
        if request.member_epoch == LEAVE {
            return Ok(self.leave(request));
        }
        let beat = self.beat(host, request)?;
        if self.classic.contains_key(&request.group) || self.consumer.contains_key(&request.group) {
            return Err(Refused::OtherSort { group: request.group.clone() });
        }
        let known = self.groups.get(&request.group);
        if known.is_none_or(|g| !g.members.contains_key(&*request.member_id)) {
            if request.member_epoch != 0 {
                return Err(group::unknown(&request.group, &request.member_id));
            }
            self.check_room(known.map(|group| group.members.len()))?;
        }
        if self.bytes_max.is_some() && known.is_none_or(|g| g.would_grow(&beat)) && self.bytes_left() == 0 {
            return Err(self.full_of_bytes().into());
        }
        let mut next_epoch = self.epochs_given + 1;
        let group = self.groups.entry(request.group.clone()).or_default();
        let id = group.beat(now_ms, beat, &self.counts, &mut next_epoch)?;
        self.epochs_given = next_epoch - 1;
        let member = &group.members[&id];
        Ok(GroupHeartbeatReply {
            member_epoch: member.epoch,
            assigned: to_wire(&member.assigned),
            heartbeat_ms: group.heartbeat_ms(member) as u32,
        })
    }

    fn leave(&mut self, request: &GroupHeartbeat) -> GroupHeartbeatReply {
        // Leaving twice, or after having been expired, is fine: the answer to the first may have been lost.
        if let Some(group) = self.groups.get_mut(&request.group) {
            group.remove(&request.member_id, &self.counts);
            if group.members.is_empty() {
                self.groups.remove(&request.group);
            }
        }
        GroupHeartbeatReply { member_epoch: LEAVE, assigned: Vec::new(), heartbeat_ms: 0 }
    }

    fn beat<'a>(&self, host: &'a str, request: &'a GroupHeartbeat) -> Result<Beat<'a>, Refused> {
        at_most("topics of a member", request.topics.len(), TOPICS_PER_MEMBER_MAX)?;
        at_most("bytes of a client id", request.client_id.len(), NAME_BYTES_MAX)?;
        let timeout = if request.session_timeout_ms == 0 { SESSION_MS_DEFAULT } else { request.session_timeout_ms };
        if !(SESSION_MS_MIN..=SESSION_MS_MAX).contains(&timeout) {
            let must = format!("from {SESSION_MS_MIN} to {SESSION_MS_MAX}");
            return Err(Refused::Invalid { what: "session_timeout_ms", must, is: timeout.to_string() });
        }
        if request.member_epoch < 0 {
            let must = "0, -1 or an epoch that was given".into();
            return Err(Refused::Invalid { what: "member_epoch", must, is: request.member_epoch.to_string() });
        }
        for topic in &request.topics {
            check_name("a topic", topic)?;
        }
        let part = |topic: &Arc<str>, partition: &u32| Part { topic: Arc::clone(topic), partition: *partition };
        let owned = request.owned.iter().flat_map(|t| {
            let topic = self.interned(&t.topic);
            t.partitions.iter().map(move |p| part(&topic, p))
        });
        Ok(Beat {
            group: &request.group,
            member: &request.member_id,
            epoch: request.member_epoch,
            topics: request.topics.iter().map(|t| self.interned(t)).collect(),
            owned: owned.collect(),
            timeout_ms: u64::from(timeout),
            client_id: &request.client_id,
            host,
        })
    }
}
