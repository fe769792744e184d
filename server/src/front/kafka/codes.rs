//! Our failures as Kafka's error codes (`org.apache.kafka.common.protocol.Errors`): those that a client of today retries are ones after which it may.

use crate::coordinator::classic::Refused;
use millpond_wire::messages::{Code, Failure, TransactionRefusal as Refusal};

pub(super) const NONE: i16 = 0;
pub(super) const OFFSET_OUT_OF_RANGE: i16 = 1;
pub(super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub(super) const OFFSET_METADATA_TOO_LARGE: i16 = 12;
pub(super) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
pub(super) const INVALID_REQUIRED_ACKS: i16 = 21;
pub(super) const INVALID_TOPIC: i16 = 17;
pub(super) const INVALID_PARTITIONS: i16 = 37;
pub(super) const INVALID_REPLICATION_FACTOR: i16 = 38;
pub(super) const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
pub(super) const INVALID_CONFIG: i16 = 40;
pub(super) const INVALID_REQUEST: i16 = 42;
pub(super) const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
pub(super) const ILLEGAL_SASL_STATE: i16 = 34;
pub(super) const SASL_AUTHENTICATION_FAILED: i16 = 58;
pub(super) const UNSTABLE_OFFSET_COMMIT: i16 = 88;
pub(super) const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
pub(super) const INVALID_TXN_STATE: i16 = 48;
pub(super) const TRANSACTION_COORDINATOR_FENCED: i16 = 52;
pub(super) const NOT_ENOUGH_REPLICAS: i16 = 19;
pub(super) const GROUP_ID_NOT_FOUND: i16 = 69;
pub(super) const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
pub(super) const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
pub(super) const MEMBER_ID_REQUIRED: i16 = 79;
pub(super) const PREFERRED_LEADER_NOT_AVAILABLE: i16 = 80;
pub(super) const ELIGIBLE_LEADERS_NOT_AVAILABLE: i16 = 83;
pub(super) const ELECTION_NOT_NEEDED: i16 = 84;
pub(super) const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
pub(super) const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
pub(super) const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
pub(super) const GROUP_AUTHORIZATION_FAILED: i16 = 30;
pub(super) const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
pub(super) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
pub(super) const OPERATION_NOT_ATTEMPTED: i16 = 55;
pub(super) const RESOURCE_NOT_FOUND: i16 = 91;
pub(super) const UNKNOWN_TOPIC_ID: i16 = 100;
pub(super) const DUPLICATE_RESOURCE: i16 = 92;
pub(super) const UNACCEPTABLE_CREDENTIAL: i16 = 93;

const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_SERVER_ERROR: i16 = -1;
const CORRUPT_MESSAGE: i16 = 2;
pub(super) const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const REQUEST_TIMED_OUT: i16 = 7;
const RECORD_LIST_TOO_LARGE: i16 = 10;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const NOT_COORDINATOR: i16 = 16;
pub(super) const ILLEGAL_GENERATION: i16 = 22;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const REBALANCE_IN_PROGRESS: i16 = 27;
const UNSUPPORTED_VERSION: i16 = 35;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const NOT_CONTROLLER: i16 = 41;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
pub(super) const INVALID_PRODUCER_EPOCH: i16 = 47;
const KAFKA_STORAGE_ERROR: i16 = 56;
const UNKNOWN_PRODUCER_ID: i16 = 59;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_MAX_SIZE_REACHED: i16 = 81;
const FENCED_INSTANCE_ID: i16 = 82;
const INVALID_RECORD: i16 = 87;
const FENCED_MEMBER_EPOCH: i16 = 110;
const UNRELEASED_INSTANCE_ID: i16 = 111;
const UNSUPPORTED_ASSIGNOR: i16 = 112;
pub(super) const STALE_MEMBER_EPOCH: i16 = 113;
const INVALID_REGULAR_EXPRESSION: i16 = 128;

/// Whether it says that the client does not know who leads, or in which epoch.
pub(super) fn is_of_a_leader(code: i16) -> bool {
    [NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH].contains(&code)
}

/// What a client is told of a failure.
pub(super) fn of(failure: &Failure) -> i16 {
    match failure.code() {
        Code::Ok => NONE,
        Code::Internal => UNKNOWN_SERVER_ERROR,
        Code::BadBatch => INVALID_RECORD,
        Code::TooLarge => RECORD_LIST_TOO_LARGE,
        Code::UnknownTopic => UNKNOWN_TOPIC_OR_PARTITION,
        Code::TopicExists => TOPIC_ALREADY_EXISTS,
        // Whoever leads may be new: a client asks who that is, and comes again.
        Code::NotOwner | Code::Unavailable => NOT_LEADER_OR_FOLLOWER,
        Code::OffsetOutOfRange => OFFSET_OUT_OF_RANGE,
        Code::OutOfOrderSequence => OUT_OF_ORDER_SEQUENCE_NUMBER,
        Code::ProducerFenced => INVALID_PRODUCER_EPOCH,
        Code::UnknownProducer => UNKNOWN_PRODUCER_ID,
        Code::UnknownMember => UNKNOWN_MEMBER_ID,
        Code::FencedMember => FENCED_MEMBER_EPOCH,
        Code::UnknownGroup => GROUP_ID_NOT_FOUND,
        Code::GroupNotEmpty => NON_EMPTY_GROUP,
        Code::Overloaded | Code::DiskFull => KAFKA_STORAGE_ERROR,
        Code::MaybeDone => REQUEST_TIMED_OUT,
        Code::Corrupt => CORRUPT_MESSAGE,
        Code::UnsupportedVersion => UNSUPPORTED_VERSION,
        Code::BadRequest | Code::InvalidArgument => INVALID_REQUEST,
        Code::Outdated => COORDINATOR_LOAD_IN_PROGRESS,
        Code::LeaderFenced => FENCED_LEADER_EPOCH,
        Code::LeaderUnknown => UNKNOWN_LEADER_EPOCH,
        Code::Forbidden => CLUSTER_AUTHORIZATION_FAILED,
        Code::Unauthenticated => SASL_AUTHENTICATION_FAILED,
    }
}

/// What a client is told of a failure by whoever looks after groups, or should.
pub(super) fn of_coordinator(failure: &Failure) -> i16 {
    match failure.code() {
        Code::NotOwner => NOT_COORDINATOR,
        // It asks anew who the coordinator is, and comes again, with what may have taken effect, too: Java's groups of KIP-848 end at REQUEST_TIMED_OUT, which Kafka's
        // coordinators turn into this as well (CoordinatorOperationExceptionHelper).
        Code::Unavailable | Code::Overloaded | Code::DiskFull | Code::Outdated | Code::MaybeDone => COORDINATOR_NOT_AVAILABLE,
        _ => of(failure),
    }
}

/// What a client is told of a failure by whoever changes the catalog, or should.
pub(super) fn of_controller(failure: &Failure) -> i16 {
    match failure.code() {
        // It asks anew who the controller is, and comes again.
        Code::NotOwner | Code::Unavailable => NOT_CONTROLLER,
        _ => of(failure),
    }
}

/// What a producer is told of a transaction; `knows_fenced` if its version has a code for having been taken the place of.
pub(super) fn of_refusal(refusal: Refusal, knows_fenced: bool) -> i16 {
    match refusal {
        Refusal::Fenced if !knows_fenced => INVALID_PRODUCER_EPOCH,
        refusal => refusal as i16,
    }
}

/// What a member of one of Kafka's groups is told.
pub(super) fn of_refused(refused: &Refused) -> i16 {
    match refused {
        Refused::GroupName => INVALID_GROUP_ID,
        Refused::UnknownMember { .. } => UNKNOWN_MEMBER_ID,
        Refused::Generation { .. } => ILLEGAL_GENERATION,
        Refused::Rebalance => REBALANCE_IN_PROGRESS,
        Refused::Fenced { .. } => FENCED_INSTANCE_ID,
        Refused::Inconsistent { .. } => INCONSISTENT_GROUP_PROTOCOL,
        Refused::NameGiven { .. } => MEMBER_ID_REQUIRED,
        Refused::SessionTimeout { .. } => INVALID_SESSION_TIMEOUT,
        Refused::TooLong { .. } | Refused::Invalid { .. } => INVALID_REQUEST,
        Refused::FencedEpoch { .. } => FENCED_MEMBER_EPOCH,
        Refused::StaleEpoch { .. } => STALE_MEMBER_EPOCH,
        Refused::Unreleased { .. } => UNRELEASED_INSTANCE_ID,
        Refused::Assignor { .. } => UNSUPPORTED_ASSIGNOR,
        Refused::Pattern { .. } => INVALID_REGULAR_EXPRESSION,
        Refused::Full { .. } => GROUP_MAX_SIZE_REACHED,
    }
}

/// What is told of it beside its code, for people.
pub(super) fn text(failure: &Failure) -> crate::kafka::wire::StrBytes {
    crate::kafka::wire::StrBytes::from_string(format!("{}: {}", failure.message, failure.advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes by itself is told so that members and producers come again: by no code at which some client ends.
    #[test]
    fn what_passes_is_asked_of_a_coordinator_again() {
        for code in [Code::NotOwner, Code::Unavailable, Code::Overloaded, Code::DiskFull, Code::Outdated, Code::MaybeDone] {
            let told = of_coordinator(&Failure::new(code, "it passes", "come again"));
            assert!(
                [NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE, COORDINATOR_LOAD_IN_PROGRESS].contains(&told),
                "{code:?} is told as {told}"
            );
        }
    }
}
