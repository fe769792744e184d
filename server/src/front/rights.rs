//! Who may do what, where the node heeds it (`--authorize`): one question, asked by every handler before it does or tells anything.
//!
//! What an API of Kafka needs is in [`super::kafka::rights`]; what a request of our own needs is [`check`] here. A node that asks for another one's client
//! has asked the same beforehand, so what nodes ask of each other is not looked at again.

use super::{Front, conn::Conn};
use crate::security::acl::{CLUSTER, Operation, ResourceType};
use bytes::Bytes;
use millpond_runtime::{Rt, rt::Shown};
use millpond_wire::messages::{
    AlterTopic, Code, CommitOffsets, CreateTopic, DeleteGroup, DeleteRecords, DeleteTopic, DescribeGroup, Failure, Fetch, FetchOffsets,
    GroupHeartbeat, Kind, ListOffsets,
};
use prost::Message;
use std::collections::BTreeSet;

impl<R: Rt> Front<R> {
    /// Whether whoever is connected may do something to a resource.
    pub(super) fn may(&self, conn: &Conn<R>, operation: Operation, resource: ResourceType, name: &str) -> bool {
        self.decide(conn, |principal, host| self.core.catalog.borrow().acls().allows(principal, host, operation, resource, name))
    }

    /// The same for the cluster.
    pub(super) fn may_cluster(&self, conn: &Conn<R>, operation: Operation) -> bool {
        self.may(conn, operation, ResourceType::Cluster, CLUSTER)
    }

    /// Whether there may be a resource of this type that it may be done to.
    pub(super) fn may_some(&self, conn: &Conn<R>, operation: Operation, resource: ResourceType) -> bool {
        self.decide(conn, |principal, host| self.core.catalog.borrow().acls().allows_some(principal, host, operation, resource))
    }

    /// Whether it may have an id to write with: it may write to some topic (KIP-679).
    pub(super) fn may_write_somewhere(&self, conn: &Conn<R>) -> bool {
        self.may_cluster(conn, Operation::IdempotentWrite) || self.may_some(conn, Operation::Write, ResourceType::Topic)
    }

    /// Whether it may make this topic.
    pub(super) fn may_create(&self, conn: &Conn<R>, topic: &str) -> bool {
        self.may_cluster(conn, Operation::Create) || self.may(conn, Operation::Create, ResourceType::Topic, topic)
    }

    fn decide(&self, conn: &Conn<R>, allows: impl FnOnce(&str, &str) -> bool) -> bool {
        let security = &self.core.config.security;
        if !security.authorize || is_node(conn) {
            return true;
        }
        let principal = conn.principal.borrow();
        let host = || conn.peer.ip().to_canonical().to_string();
        security.super_users.iter().any(|user| **user == **principal) || allows(&principal, &host())
    }

    /// Those of some topics to which it may not be done; looked up once each.
    pub(super) fn denied<'a>(&self, conn: &Conn<R>, operation: Operation, topics: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        if !self.core.config.security.authorize {
            return BTreeSet::new();
        }
        let topics: BTreeSet<&str> = topics.collect();
        topics.into_iter().filter(|topic| !self.may(conn, operation, ResourceType::Topic, topic)).map(ToOwned::to_owned).collect()
    }

    /// Takes out of a request what may not be done, and gives it.
    pub(super) fn withhold<T>(
        &self,
        conn: &Conn<R>,
        (operation, resource): (Operation, ResourceType),
        items: &mut Vec<T>,
        name: impl Fn(&T) -> &str,
    ) -> Vec<T> {
        if !self.core.config.security.authorize {
            return Vec::new();
        }
        let (may, denied) = std::mem::take(items).into_iter().partition(|item| self.may(conn, operation, resource, name(item)));
        *items = may;
        denied
    }
}

/// Whether it is one of the nodes that speaks, or somebody with the certificate of one.
fn is_node<R: Rt>(conn: &Conn<R>) -> bool {
    conn.from_node.get() != 0 || conn.shown.get() == Shown::Node
}

fn forbidden(operation: Operation, resource: ResourceType, name: &str) -> Failure {
    let name: String = name.chars().take(250).collect();
    let message = format!("this client may not do `{}` to {} `{name}`", operation.name(), resource.name());
    Failure::new(Code::Forbidden, message, "have an ACL added that lets it (kafka-acls.sh), or ask as another user")
}

/// Whether a request of our own protocol may be carried out, as a whole. What has many answers, as lists do, leaves out what may not be seen. The compiler sees to it that
/// whoever adds a kind says what it needs.
pub(super) fn check<R: Rt>(front: &Front<R>, conn: &Conn<R>, kind: Kind, meta: &Bytes) -> Result<(), Failure> {
    use Operation::{Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read};
    use ResourceType::{Cluster, Group, Topic};
    if !front.core.config.security.authorize || is_node(conn) {
        return Ok(());
    }
    let needs = |operation: Operation, resource: ResourceType, name: &str| {
        if front.may(conn, operation, resource, name) { Ok(()) } else { Err(forbidden(operation, resource, name)) }
    };
    let cluster = |operation| needs(operation, Cluster, CLUSTER);
    match kind {
        // The first two leave out what may not be seen, or say so. Batches come by another way: `check_produce`.
        Kind::Metadata | Kind::ListGroups | Kind::Hello | Kind::Login | Kind::Ping | Kind::Unknown | Kind::Produce => Ok(()),
        Kind::CreateTopic => {
            let CreateTopic { name, .. } = read(meta)?;
            if front.may_create(conn, &name) { Ok(()) } else { Err(forbidden(Create, Topic, &name)) }
        }
        Kind::AlterTopic => {
            let AlterTopic { name, settings, partitions, replication, placements } = read(meta)?;
            if !settings.is_empty() {
                needs(AlterConfigs, Topic, &name)?;
            }
            let elsewhere = replication != 0 || !placements.is_empty();
            if elsewhere {
                cluster(Alter)?;
            }
            if partitions != 0 || (settings.is_empty() && !elsewhere) { needs(Alter, Topic, &name) } else { Ok(()) }
        }
        Kind::DeleteTopic => read(meta).and_then(|DeleteTopic { name, .. }| needs(Delete, Topic, &name)),
        Kind::Fetch => {
            let Fetch { partitions, .. } = read(meta)?;
            each(partitions.iter().map(|p| &*p.topic), |topic| needs(Read, Topic, topic))
        }
        Kind::ListOffsets => {
            let ListOffsets { partitions, .. } = read(meta)?;
            each(partitions.iter().map(|p| &*p.topic), |topic| needs(Describe, Topic, topic))
        }
        Kind::DeleteRecords => read(meta).and_then(|DeleteRecords { topic, .. }| needs(Delete, Topic, &topic)),
        Kind::InitProducer if front.may_write_somewhere(conn) => Ok(()),
        Kind::InitProducer => cluster(IdempotentWrite),
        Kind::GroupHeartbeat => {
            let GroupHeartbeat { group, .. } = read(meta)?;
            needs(Read, Group, &group)
        }
        Kind::CommitOffsets => {
            let CommitOffsets { group, positions, .. } = read(meta)?;
            needs(Read, Group, &group)?;
            each(positions.iter().map(|p| &*p.topic), |topic| needs(Read, Topic, topic))
        }
        Kind::FetchOffsets => {
            let FetchOffsets { group, partitions } = read(meta)?;
            needs(Describe, Group, &group)?;
            each(partitions.iter().map(|p| &*p.topic), |topic| needs(Describe, Topic, topic))
        }
        Kind::DescribeGroup => read(meta).and_then(|DescribeGroup { group, .. }| needs(Describe, Group, &group)),
        Kind::DeleteGroup => read(meta).and_then(|DeleteGroup { group, .. }| needs(Delete, Group, &group)),
        Kind::AlterQuota => cluster(AlterConfigs),
        Kind::ListQuotas => cluster(DescribeConfigs),
        Kind::AlterUser | Kind::AlterAcls | Kind::AlterNode | Kind::Rebalance => cluster(Alter),
        Kind::ListUsers | Kind::DescribeCluster | Kind::NodeReport => cluster(Describe),
        Kind::Join
        | Kind::Moved
        | Kind::Leads
        | Kind::Starts
        | Kind::JoinTransaction
        | Kind::EndTransaction
        | Kind::DisownTransaction
        | Kind::WhoLeads => cluster(ClusterAction),
    }
}

/// Each of them once.
fn each<'a>(topics: impl Iterator<Item = &'a str>, needs: impl Fn(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    topics.collect::<BTreeSet<_>>().into_iter().try_for_each(needs)
}

fn read<M: Message + Default>(meta: &Bytes) -> Result<M, Failure> {
    M::decode(meta.clone())
        .map_err(|error| Failure::new(Code::BadRequest, format!("the message does not parse: {error}"), "update the client"))
}

/// Whether all of these topics may be written to.
pub(super) fn check_produce<'a, R: Rt>(front: &Front<R>, conn: &Conn<R>, topics: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let denied = front.denied(conn, Operation::Write, topics);
    denied.first().map_or(Ok(()), |topic| Err(forbidden(Operation::Write, ResourceType::Topic, topic)))
}

/// What is told of a topic that may not be seen.
pub(super) fn hidden(topic: &str) -> Failure {
    forbidden(Operation::Describe, ResourceType::Topic, topic)
}
