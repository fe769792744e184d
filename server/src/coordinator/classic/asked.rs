//! What members of a classic group ask, what they are answered, and why they, and members of Kafka's newer sort, are refused.

use bytes::Bytes;

/// One way in which a group may share partitions out, as its members name it, and what a member says of itself for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Such as `range` or `cooperative-sticky`.
    pub name: String,
    /// For the leader of the group to read: what the member subscribes to, and more. Nobody else looks into it.
    pub metadata: Bytes,
}

/// A member wants to be in the next generation (JoinGroup).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The group.
    pub group: String,
    /// Who it was called before; empty for one that is new.
    pub member: String,
    /// The name under which it comes back after a restart (KIP-345).
    pub instance: Option<String>,
    /// What kind of group this is: `consumer`, `connect`.
    pub protocol_type: String,
    /// What it could do, the dearest first.
    pub protocols: Vec<Protocol>,
    /// Silent for this long, it is removed, in ms.
    pub session_timeout_ms: u32,
    /// Within this time it joins each new generation, and hands out or fetches its part, in ms.
    pub rebalance_timeout_ms: u32,
    /// What it calls itself.
    pub client_id: String,
    /// Where it connects from, for people.
    pub host: String,
    /// It knows that a new member is told its name first, and joins by that (KIP-394).
    pub named_first: bool,
    /// As a leader that came back it can be told not to share out (KIP-814).
    pub may_skip: bool,
}

/// A generation has begun, and the member is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub generation: i32,
    /// What kind of group it is.
    pub protocol_type: String,
    /// The way of sharing out that all can do.
    pub protocol: String,
    /// Who shares out.
    pub leader: String,
    /// Who is told this.
    pub member: String,
    /// The leader need not share out: all go on with what they have.
    pub skip_assignment: bool,
    /// Everybody, for the leader alone.
    pub members: Vec<JoinedMember>,
}

/// A member, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member: String,
    /// The name under which it comes back.
    pub instance: Option<String>,
    /// What it says of itself.
    pub metadata: Bytes,
}

/// Who speaks, in whatever comes after joining.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Speaker {
    /// The group.
    pub group: String,
    /// The id that it was given.
    pub member: String,
    /// The name under which it comes back.
    pub instance: Option<String>,
    /// The generation that it is in; -1 if in none.
    pub generation: i32,
}

/// A member asks for its part, and the leader hands out those of all (SyncGroup).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sync {
    /// Who it is.
    pub speaker: Speaker,
    /// What kind of group it takes this for, if it says so.
    pub protocol_type: Option<String>,
    /// By which way of sharing out, if it says so.
    pub protocol: Option<String>,
    /// By member, from the leader.
    pub assignments: Vec<(String, Bytes)>,
}

/// A member's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// What kind of group it is.
    pub protocol_type: String,
    /// How was shared out.
    pub protocol: String,
    /// As the leader wrote it.
    pub assignment: Bytes,
}

/// Who leaves: by its id, by the name under which it would come back, or by both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaver {
    /// Its id; empty if whoever asks does not know it.
    pub member: String,
    /// Its name.
    pub instance: Option<String>,
}

/// A group, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// `empty`, `preparing-rebalance`, `completing-rebalance` or `stable`.
    pub state: &'static str,
    /// The newest generation.
    pub generation: i32,
    /// What kind of group it is.
    pub protocol_type: String,
    /// How it shares out; empty between two generations.
    pub protocol: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member: String,
    /// The name under which it comes back.
    pub instance: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// What it says of itself, for the way of sharing out that was chosen.
    pub metadata: Bytes,
    /// Its part, as the leader wrote it.
    pub assignment: Bytes,
}

/// Why a member is refused. Nothing took effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A group has a name.
    #[error("a group's name has 1 to {} bytes", super::super::NAME_BYTES_MAX)]
    GroupName,
    /// The group does not know this member: it was silent for too long, or left, or never was there.
    #[error("the group does not know member {member}: join again, as a new member")]
    UnknownMember {
        /// Its id.
        member: String,
    },
    /// A generation is over, or was never there.
    #[error("the group is in generation {is}, and {said} was said: join again")]
    Generation {
        /// The newest one.
        is: i32,
        /// What was said.
        said: i32,
    },
    /// A new generation is being made.
    #[error("a new generation of the group is being made: join it")]
    Rebalance,
    /// The name belongs to another member by now.
    #[error("another member has come under the name {instance}")]
    Fenced {
        /// The name under which one comes back.
        instance: String,
    },
    /// The member's ways of sharing out are not those of the others, or it takes the group for another kind.
    #[error("the group is of kind {is:?}, or its members have no way of sharing out in common with this one")]
    Inconsistent {
        /// What kind of group it is.
        is: String,
    },
    /// The member shall join again by this name.
    #[error("join again as member {member}")]
    NameGiven {
        /// The name.
        member: String,
    },
    /// A timeout out of bounds.
    #[error("a session lasts from {} to {} ms, and {is} was asked for", super::super::SESSION_MS_MIN, super::super::SESSION_MS_MAX)]
    SessionTimeout {
        /// What was asked for, in ms.
        is: u32,
    },
    /// A field is too long.
    #[error("{what} has more than {max} bytes")]
    TooLong {
        /// The field.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A member of the newer sort speaks by an epoch that it does not have.
    #[error("the member is in epoch {is}, and {said} was said: give up all partitions and join again")]
    FencedEpoch {
        /// Its epoch.
        is: i32,
        /// What was said.
        said: i32,
    },
    /// A member of the newer sort keeps or asks for positions by an epoch that is over, or not there yet.
    #[error("the member is in epoch {is}, and {said} was said: try again after the next heartbeat")]
    StaleEpoch {
        /// Its epoch.
        is: i32,
        /// What was said.
        said: i32,
    },
    /// The name belongs to a member that is there.
    #[error("the member of the name {instance} has not left")]
    Unreleased {
        /// The name under which one comes back.
        instance: String,
    },
    /// The coordinator does not share out in this way.
    #[error("partitions are shared out as uniform or range, and {said} was asked for")]
    Assignor {
        /// What was asked for.
        said: String,
    },
    /// A pattern of topics that cannot be read.
    #[error("the pattern of topics cannot be read: {why}")]
    Pattern {
        /// Where and why.
        why: String,
    },
    /// A field is not as it must be.
    #[error("{what}")]
    Invalid {
        /// The rule.
        what: &'static str,
    },
    /// The group, or the coordinator, holds as many as it may.
    #[error("there are {max} {what}, and no more are kept")]
    Full {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}
