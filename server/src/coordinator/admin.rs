//! What operators ask of groups, and do to those without members.

use super::{Coordinator, Part, Refused, classic, consumer, group::Member, key, records, to_wire};
use crate::keyed::Record;
use millpond_wire::messages::{
    DeleteGroup, DescribeGroup, DescribeGroupReply, GroupListing, GroupPosition, ListGroupsReply, MemberInfo, Position, TopicPartitions,
};
use std::{collections::BTreeSet, sync::Arc};

impl Coordinator {
    /// All groups by name: those with members, and those with positions only.
    #[must_use]
    pub fn list(&self) -> ListGroupsReply {
        let kafkas = self.classic.keys().chain(self.consumer.keys());
        let names: BTreeSet<&String> = self.groups.keys().chain(kafkas).chain(self.positions.keys()).collect();
        let listing = |name: &String| {
            let (group, classic) = (self.groups.get(name), self.classic.get(name));
            let consumer = self.consumer.get(name).map_or(0, |g| g.members.len());
            let members = classic.map_or(0, |g| g.members.len()) + group.map_or(0, |g| g.members.len()) + consumer;
            let classic = classic.map(classic::Group::protocol_type).unwrap_or_default().to_owned();
            GroupListing {
                group: name.clone(),
                state: self.state(name).into(),
                members: members as u32,
                classic,
                sort: self.sort(name).into(),
            }
        };
        ListGroupsReply { groups: names.into_iter().map(listing).collect() }
    }

    /// One group. Start and end offsets of the positions are left at 0 for the node to fill in.
    pub fn describe(&self, request: &DescribeGroup) -> Result<DescribeGroupReply, Refused> {
        let group = self.groups.get(&request.group);
        let classic = self.classic.get(&request.group);
        let consumer = self.consumer.get(&request.group);
        if group.is_none() && classic.is_none() && consumer.is_none() && !self.positions.contains_key(&request.group) {
            return Err(Refused::UnknownGroup { group: request.group.clone() });
        }
        let info = |(id, m): (&Arc<str>, &Member)| MemberInfo {
            member_id: id.to_string(),
            client_id: m.client_id.clone(),
            host: m.host.clone(),
            epoch: m.epoch,
            owned: to_wire(&m.may_own),
            assigned: to_wire(&m.assigned),
        };
        let position = |p: Position| GroupPosition { position: Some(p), start_offset: 0, end_offset: 0 };
        let kafkas = classic.iter().flat_map(|g| g.infos()).chain(consumer.iter().flat_map(|g| self.consumer_infos(g)));
        let members = group.iter().flat_map(|g| &g.members).map(info).chain(kafkas);
        Ok(DescribeGroupReply {
            group: request.group.clone(),
            state: self.state(&request.group).into(),
            epoch: group
                .map(|g| g.epoch)
                .or_else(|| classic.map(classic::Group::generation))
                .or_else(|| consumer.map(|g| g.epoch()))
                .unwrap_or(0),
            members: members.collect(),
            classic: classic.map(classic::Group::protocol_type).unwrap_or_default().to_owned(),
            positions: self.current_positions(&request.group).map(position).collect(),
            sort: self.sort(&request.group).into(),
        })
    }

    /// Deletes a group without members: returns tombstones for up to `max` of its positions. To be called again once they are applied, until
    /// the group is not known any more; somebody may join in between.
    pub fn delete(&self, request: &DeleteGroup, max: usize) -> Result<Vec<Record>, Refused> {
        if let Some(group) = self.groups.get(&request.group) {
            return Err(Refused::NotEmpty { group: request.group.clone(), members: group.members.len() });
        }
        if let Some(group) = self.classic.get(&request.group) {
            return Err(Refused::NotEmpty { group: request.group.clone(), members: group.people() });
        }
        if let Some(group) = self.consumer.get(&request.group) {
            return Err(Refused::NotEmpty { group: request.group.clone(), members: group.members.len() });
        }
        let Some(positions) = self.positions.get(&request.group) else {
            return Err(Refused::UnknownGroup { group: request.group.clone() });
        };
        Ok(positions.keys().take(max).map(|part| records::write(&key(&request.group, part), None)).collect())
    }

    /// Forgets some positions of a group: tombstones for those that are kept, and the topics among them whose positions stay, since a member
    /// subscribes to them. Refused if nothing can be known of what the members want.
    pub fn delete_offsets(&self, group: &str, parts: &[TopicPartitions]) -> Result<(Vec<Record>, BTreeSet<String>), Refused> {
        let Some(positions) = self.positions.get(group) else {
            return Err(Refused::UnknownGroup { group: group.to_owned() });
        };
        let wanted: BTreeSet<String> = match (self.groups.get(group), self.classic.get(group)) {
            (Some(group), _) => group.members.values().flat_map(|m| &m.topics).map(ToString::to_string).collect(),
            (_, Some(classic)) => {
                let unclear = || Refused::NotEmpty { group: group.to_owned(), members: classic.people() };
                classic.subscribed().ok_or_else(unclear)?
            }
            (None, None) => self.consumer.get(group).map(consumer::Group::subscribed).unwrap_or_default(),
        };
        let (mut records, mut stay) = (Vec::new(), BTreeSet::new());
        for TopicPartitions { topic, partitions } in parts {
            if wanted.contains(topic) {
                stay.insert(topic.clone());
                continue;
            }
            let part = |partition: &u32| Part { topic: self.interned(topic), partition: *partition };
            let known = partitions.iter().map(part).filter(|part| positions.contains_key(part));
            records.extend(known.map(|part| records::write(&key(group, &part), None)));
        }
        Ok((records, stay))
    }

    /// What a group does, in a word.
    fn state(&self, group: &str) -> &'static str {
        match (self.groups.get(group), self.classic.get(group)) {
            (Some(group), _) => group.state(),
            (_, Some(classic)) => classic.state(),
            (None, None) => self.consumer.get(group).map_or("empty", consumer::Group::state),
        }
    }

    /// Of which sort the members of a group are, in a word.
    fn sort(&self, group: &str) -> &'static str {
        match group {
            _ if self.groups.contains_key(group) => "native",
            _ if self.consumer.contains_key(group) => "consumer",
            _ if self.classic.contains_key(group) => "classic",
            _ => "",
        }
    }
}
