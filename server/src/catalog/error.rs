//! Why a change of the catalog is refused.

use super::settings::SPECS;
use millpond_wire::messages::{Code, Failure};

/// A refused change. Nothing took effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The name breaks the rules.
    #[error("`{name}` cannot be the name of a topic: {why}")]
    BadName {
        /// The name, shortened.
        name: String,
        /// The rule.
        why: String,
    },
    /// No such setting.
    #[error("there is no setting `{name}`")]
    UnknownSetting {
        /// What was asked for, shortened.
        name: String,
    },
    /// The setting cannot have this value.
    #[error("setting {name} cannot be `{value}`: {why}")]
    BadSetting {
        /// The setting.
        name: String,
        /// The value, shortened.
        value: String,
        /// What it may be.
        why: String,
    },
    /// The number of partitions is not possible.
    #[error("topic {name} cannot have {asked} partitions: {why}")]
    BadPartitions {
        /// The topic.
        name: String,
        /// How many were asked for.
        asked: u32,
        /// Why not.
        why: String,
    },
    /// A topic of the name exists.
    #[error("topic {name} exists")]
    TopicExists {
        /// Its name.
        name: String,
    },
    /// No topic has the name.
    #[error("there is no topic {name}")]
    UnknownTopic {
        /// The name, shortened.
        name: String,
    },
    /// The topics are not what the request goes by.
    #[error("what is known of topic {name} has changed since it was looked up")]
    Outdated {
        /// Its name.
        name: String,
    },
    /// The topic belongs to the system.
    #[error("topic {name} is kept by the system itself")]
    Internal {
        /// Its name.
        name: String,
    },
    /// The cluster holds as much as it may.
    #[error("there are {there} {what}, and at most {max} are allowed")]
    Full {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        there: usize,
        /// How many there may be.
        max: usize,
    },
    /// The number of replicas is not possible.
    #[error("topic {name} cannot have {asked} replicas: there are {nodes} nodes to have them")]
    BadReplication {
        /// The topic.
        name: String,
        /// How many were asked for.
        asked: u32,
        /// How many nodes there are.
        nodes: usize,
    },
    /// The replicas of a partition cannot be where they are asked for.
    #[error("partition {partition} of topic {name} cannot be on nodes {nodes:?}: {why}")]
    BadPlacement {
        /// The topic.
        name: String,
        /// The partition.
        partition: u32,
        /// Where it was asked for.
        nodes: Vec<u64>,
        /// Why not.
        why: String,
    },
    /// No node has the id.
    #[error("there is no node {node}")]
    UnknownNode {
        /// Its id.
        node: u64,
    },
    /// A node that was taken out of the cluster comes back.
    #[error("node {node} is no part of this cluster any more")]
    TakenOut {
        /// Its id.
        node: u64,
    },
    /// A node comes back with a disk as it was before.
    #[error("the disk of node {node} is older than what its cluster knows of it (it has come to {age}, and was at {known} already)")]
    OldDisk {
        /// Its id.
        node: u64,
        /// How far the disk has come.
        age: u64,
        /// How far it had come.
        known: u64,
    },
    /// The node has replicas.
    #[error("node {node} has {replicas} replicas")]
    NodeInUse {
        /// Its id.
        node: u64,
        /// How many.
        replicas: usize,
    },
    /// An ACL cannot be kept.
    #[error("an ACL cannot be kept: {why}")]
    BadAcl {
        /// Why not.
        why: &'static str,
    },
    /// A user cannot be so.
    #[error("user {name} cannot be kept: {why}")]
    BadUser {
        /// Its name, shortened.
        name: String,
        /// Why not.
        why: String,
    },
    /// There is no such user, or nothing is kept of him for a mechanism.
    #[error("there is no user {name} with a password for {mechanism}")]
    UnknownUser {
        /// Its name, shortened.
        name: String,
        /// The mechanism.
        mechanism: &'static str,
    },
    /// The client id of a quota is too long.
    #[error("a client id has at most {max} bytes, this one has {len}")]
    BadClientId {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
}

impl CatalogError {
    /// For programs.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::TopicExists { .. } => Code::TopicExists,
            Self::UnknownTopic { .. } => Code::UnknownTopic,
            Self::Outdated { .. } => Code::Outdated,
            Self::BadName { .. }
            | Self::UnknownSetting { .. }
            | Self::BadSetting { .. }
            | Self::BadPartitions { .. }
            | Self::Internal { .. }
            | Self::Full { .. }
            | Self::BadReplication { .. }
            | Self::BadPlacement { .. }
            | Self::UnknownNode { .. }
            | Self::TakenOut { .. }
            | Self::OldDisk { .. }
            | Self::NodeInUse { .. }
            | Self::BadAcl { .. }
            | Self::BadUser { .. }
            | Self::UnknownUser { .. }
            | Self::BadClientId { .. } => Code::InvalidArgument,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::BadName { .. } => "choose another name".into(),
            Self::UnknownSetting { .. } => {
                let names: Vec<&str> = SPECS.iter().map(|s| s.name).collect();
                format!("the settings are: {}", names.join(", "))
            }
            Self::BadSetting { name, .. } => match SPECS.iter().find(|s| s.name == name) {
                Some(spec) => format!("{}: {}. The default is {}", spec.name, spec.help, spec.default),
                None => "correct the value".into(),
            },
            Self::BadPartitions { .. } => "ask for another number".into(),
            Self::TopicExists { .. } => "use it, alter it, choose another name, or ask with if_not_exists".into(),
            Self::UnknownTopic { .. } => "list the topics, or create it".into(),
            Self::Outdated { .. } => "look it up again, and ask anew".into(),
            Self::Internal { .. } => "leave it alone".into(),
            Self::Full { .. } => "delete what is no longer needed".into(),
            Self::BadReplication { .. } => "ask for fewer, or add nodes (millpond serve --join)".into(),
            Self::BadPlacement { .. } => "ask for nodes that are in, each once".into(),
            Self::UnknownNode { .. } => "list the nodes (millpond cluster status)".into(),
            Self::TakenOut { .. } => "start it with an empty data directory to join anew".into(),
            Self::OldDisk { node, .. } => format!(
                "what it has forgotten others may count on: start it with an empty data directory to join anew, and take out node {node} (millpond node decommission {node})"
            ),
            Self::NodeInUse { .. } => "wait until they have moved (millpond node decommission)".into(),
            Self::BadAcl { .. } | Self::BadUser { .. } => "correct that".into(),
            Self::UnknownUser { .. } => "list the users (millpond user list)".into(),
            Self::BadClientId { .. } => "shorten it".into(),
        }
    }

    /// As a client sees it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        Failure::new(self.code(), self.to_string(), self.advice())
    }
}
