//! One member of a classic group.

use super::asked::{DescribedMember, Join, Joined, JoinedMember, Protocol, Refused, Synced};
use bytes::Bytes;
use tokio::sync::oneshot::Sender;

/// Where the answer goes to somebody who waits for it.
pub(super) type Waiting<T> = Option<Sender<Result<T, Refused>>>;

/// What a member takes beside its bytes, in bytes.
const MEMBER_BYTES: usize = 1_024;
/// What a way of sharing out takes beside its bytes.
const PROTOCOL_BYTES: usize = 128;

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Member {
    pub(super) instance: Option<String>,
    pub(super) client_id: String,
    pub(super) host: String,
    pub(super) session_timeout_ms: u32,
    pub(super) rebalance_timeout_ms: u32,
    pub(super) protocols: Vec<Protocol>,
    /// Its part in the generation that lasts.
    pub(super) assignment: Bytes,
    /// Silent until then, it is removed. Nothing for one that was read back, until the clock is looked at.
    pub(super) deadline_ms: Option<u64>,
    /// It wants to be in the next generation, and waits for that.
    pub(super) joining: Waiting<Joined>,
    /// It waits for its part.
    pub(super) syncing: Waiting<Synced>,
    /// It has asked for its part in this generation.
    pub(super) has_synced: bool,
}

impl Member {
    pub(super) fn new(join: &Join) -> Self {
        Self {
            instance: join.instance.clone(),
            client_id: join.client_id.clone(),
            host: join.host.clone(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            deadline_ms: None,
            joining: None,
            syncing: None,
            has_synced: false,
        }
    }

    /// It may be another process by now.
    pub(super) fn update(&mut self, join: &Join) {
        self.client_id.clone_from(&join.client_id);
        self.host.clone_from(&join.host);
        self.session_timeout_ms = join.session_timeout_ms;
        self.rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.protocols.clone_from(&join.protocols);
    }

    /// It has shown that it lives.
    pub(super) fn alive(&mut self, now_ms: u64) {
        self.deadline_ms = Some(now_ms.saturating_add(u64::from(self.session_timeout_ms)));
    }

    /// Whether it was silent for too long. Whoever waits for an answer is silent for that.
    pub(super) fn is_overdue(&mut self, now_ms: u64) -> bool {
        if self.joining.is_some() || self.syncing.is_some() {
            self.alive(now_ms);
            return false;
        }
        if self.deadline_ms.is_none() {
            self.alive(now_ms);
        }
        self.deadline_ms.is_some_and(|deadline| deadline <= now_ms)
    }

    pub(super) fn can(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|p| p.name == protocol)
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|p| p.name == protocol).map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// As the leader sees it.
    pub(super) fn joined(&self, id: &str, protocol: &str) -> JoinedMember {
        JoinedMember { member: id.to_owned(), instance: self.instance.clone(), metadata: self.metadata(protocol) }
    }

    /// As people see it.
    pub(super) fn described(&self, id: &str, protocol: &str) -> DescribedMember {
        DescribedMember {
            member: id.to_owned(),
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            host: self.host.clone(),
            metadata: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let protocols: usize = self.protocols.iter().map(|p| PROTOCOL_BYTES + p.name.len() + p.metadata.len()).sum();
        MEMBER_BYTES + protocols + self.assignment.len()
    }

    /// Answers both of its requests, if it waits for any, that it is refused.
    pub(super) fn refuse(&mut self, refused: &Refused) {
        answer(&mut self.joining, Err(refused.clone()));
        answer(&mut self.syncing, Err(refused.clone()));
    }
}

/// Answers whoever waits. If nobody listens any more, that is no matter: the member asks again, or falls silent.
pub(super) fn answer<T>(waiting: &mut Waiting<T>, with: Result<T, Refused>) {
    if let Some(waiting) = waiting.take() {
        let _nobody_listens = waiting.send(with);
    }
}
