//! Why the coordinator refuses a request.

use millpond_wire::messages::{Code, Failure};

/// A refused request. Nothing took effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The group does not know this member: it was expired, or the coordinator was restarted.
    #[error("group {group} does not know member {member}")]
    UnknownMember {
        /// Consumer group.
        group: String,
        /// Member.
        member: String,
    },
    /// The member's epoch is not one that the group gave it lately.
    #[error("member {member} of group {group} has epoch {has}, and {said} came")]
    FencedMember {
        /// Consumer group.
        group: String,
        /// Member.
        member: String,
        /// Its epoch.
        has: i64,
        /// The epoch in the request.
        said: i64,
    },
    /// A newer commit of the same member came first.
    #[error("a newer position of {topic}-{partition} was committed by this member meanwhile")]
    Overtaken {
        /// Its topic.
        topic: String,
        /// Its partition.
        partition: u32,
    },
    /// The position belongs to a partition that somebody else may own by now.
    #[error("{topic}-{partition} is not, or no longer, assigned to member {member}")]
    NotAssigned {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// Member.
        member: String,
    },
    /// There is no such topic or partition to commit for.
    #[error("there is no partition {topic}-{partition}")]
    UnknownPartition {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
    },
    /// No such group.
    #[error("there is no consumer group {group}")]
    UnknownGroup {
        /// Its name.
        group: String,
    },
    /// What was asked for is only possible while nobody consumes.
    #[error("group {group} has {members} members")]
    NotEmpty {
        /// Consumer group.
        group: String,
        /// How many.
        members: usize,
    },
    /// The group's members are of another sort: Kafka's.
    #[error("group {group} has members of one of Kafka's sorts")]
    OtherSort {
        /// Consumer group.
        group: String,
    },
    /// A field is not as it must be.
    #[error("{what} must be {must}, and is {is}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// The rule.
        must: String,
        /// What came.
        is: String,
    },
    /// The coordinator holds as much as it may.
    #[error("there are {max} {what}, and no more are kept")]
    Full {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

impl Refused {
    /// For programs.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownMember { .. } => Code::UnknownMember,
            Self::FencedMember { .. } | Self::NotAssigned { .. } | Self::Overtaken { .. } => Code::FencedMember,
            Self::UnknownPartition { .. } => Code::UnknownTopic,
            Self::UnknownGroup { .. } => Code::UnknownGroup,
            Self::NotEmpty { .. } | Self::OtherSort { .. } => Code::GroupNotEmpty,
            Self::Invalid { .. } => Code::InvalidArgument,
            Self::Full { .. } => Code::Overloaded,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::UnknownMember { .. } | Self::FencedMember { .. } => "stop reading what was assigned, and join again with epoch 0",
            Self::Overtaken { .. } => "the newer position is kept; nothing needs doing",
            Self::NotAssigned { .. } => "the new owner reads from the last position that was kept; nothing needs doing",
            Self::UnknownPartition { .. } => "fetch metadata; the topic may have been deleted",
            Self::UnknownGroup { .. } => "list the groups; a group exists while it has members or positions",
            Self::NotEmpty { .. } => "stop its consumers first",
            Self::OtherSort { .. } => "stop those first, or use another group",
            Self::Invalid { .. } => "correct the request",
            Self::Full { .. } => "delete groups that are no longer needed",
        }
    }

    /// As a client sees it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let retry_after_ms = if matches!(self, Self::Full { .. }) { 1_000 } else { 0 };
        Failure::new(self.code(), self.to_string(), self.advice()).retry_after(retry_after_ms)
    }
}
