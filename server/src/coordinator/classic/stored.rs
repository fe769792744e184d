//! A classic group as it is written into `__consumer_offsets`, so that its members go on when another node looks after it.

use super::{asked::Protocol, member::Member};
use bytes::Bytes;
use prost::Message;

/// A generation whose members have their parts.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct StoredGroup {
    #[prost(int32, tag = "1")]
    pub(super) generation: i32,
    #[prost(string, tag = "2")]
    pub(super) protocol_type: String,
    #[prost(string, tag = "3")]
    pub(super) protocol: String,
    #[prost(string, tag = "4")]
    pub(super) leader: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) members: Vec<StoredMember>,
}

/// One of its members.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct StoredMember {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, optional, tag = "2")]
    instance: Option<String>,
    #[prost(string, tag = "3")]
    client_id: String,
    #[prost(string, tag = "4")]
    host: String,
    #[prost(uint32, tag = "5")]
    session_timeout_ms: u32,
    #[prost(uint32, tag = "6")]
    rebalance_timeout_ms: u32,
    /// The way of sharing out that was chosen, and what the member says of itself for it.
    #[prost(string, tag = "7")]
    protocol: String,
    #[prost(bytes = "bytes", tag = "8")]
    metadata: Bytes,
    #[prost(bytes = "bytes", tag = "9")]
    pub(super) assignment: Bytes,
}

impl StoredMember {
    pub(super) fn new(id: &str, member: &Member, protocol: &str, assignment: Bytes) -> Self {
        Self {
            id: id.to_owned(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            host: member.host.clone(),
            session_timeout_ms: member.session_timeout_ms,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            protocol: protocol.to_owned(),
            metadata: member.metadata(protocol),
            assignment,
        }
    }

    /// The member, with its id.
    pub(super) fn read_back(self) -> (String, Member) {
        let member = Member {
            instance: self.instance,
            client_id: self.client_id,
            host: self.host,
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocols: vec![Protocol { name: self.protocol, metadata: self.metadata }],
            assignment: self.assignment,
            deadline_ms: None,
            joining: None,
            syncing: None,
            has_synced: true,
        };
        (self.id, member)
    }
}
