//! A topic of a request that may say it by its id (KIP-516), and what is known of it here.

use super::{super::Front, codes, metadata::topic_number};
use crate::kafka::wire::{StrBytes, TopicId, TopicKey};
use millpond_runtime::Rt;
use std::collections::BTreeSet;

/// A topic as a request says it, and its name; nothing if no topic that is known here has this id.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) key: TopicKey,
    name: Option<StrBytes>,
}

impl Named {
    pub(super) fn look_up<R: Rt>(front: &Front<R>, key: TopicKey) -> Self {
        let name = match &key {
            TopicKey::Name(name) => Some(StrBytes::clone(name)),
            TopicKey::Id(id) => name_now(front, *id, |name| StrBytes::from_string(name.to_owned())),
        };
        Self { key, name }
    }

    /// Its name, if it is known.
    pub(super) fn known(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its name; that of no topic, if it is not known.
    pub(super) fn name(&self) -> &str {
        self.known().unwrap_or_default()
    }

    /// Why nothing may be done with it, given the names that are denied.
    pub(super) fn refusal(&self, denied: &BTreeSet<String>) -> Option<i16> {
        match self.known() {
            None => Some(codes::UNKNOWN_TOPIC_ID),
            Some(name) => denied.contains(name).then_some(codes::TOPIC_AUTHORIZATION_FAILED),
        }
    }

    /// Whether it is what it was when its name was looked up: another one may have come in its place since.
    pub(super) fn is_still<R: Rt>(&self, front: &Front<R>) -> bool {
        match &self.key {
            TopicKey::Name(_) => true,
            TopicKey::Id(id) => name_now(front, *id, |name| self.known() == Some(name)).unwrap_or(self.name.is_none()),
        }
    }

    /// The same, but for the request that it came in, which it does not hold.
    pub(super) fn kept(&self) -> Self {
        Self { key: self.key.kept(), name: self.known().map(|name| StrBytes::from_string(name.to_owned())) }
    }
}

/// What `with` makes of the name of the topic with an id.
fn name_now<R: Rt, T>(front: &Front<R>, id: TopicId, with: impl FnOnce(&str) -> T) -> Option<T> {
    let catalog = front.core.catalog.borrow();
    topic_number(front, id).and_then(|number| catalog.topic_by_id(number)).map(|topic| with(&topic.name))
}
