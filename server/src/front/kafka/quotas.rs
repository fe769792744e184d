//! How much clients may send and fetch: DescribeClientQuotas and AlterClientQuotas (KIP-546).
//!
//! Quotas are those of `millpond quota`: of client ids, users, and client ids of users, or of all that have none of their own. They count per core, as Kafka's
//! count per broker. Addresses have none, and there is none for the time that requests take.

use super::{
    super::{Front, conn::Conn, requests::look_elsewhere},
    answered, codes, decoded,
    groups::text,
    topics::{CHANGE_MAX, change},
};
use crate::{
    catalog::{Quota, Whose, quotas::to_wire},
    kafka::wire::{Request, StrBytes, WireError},
    node::meta::Change,
    security::acl::Operation,
};
use bytes::Bytes;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
    alter_client_quotas_request::{EntryData as Asked, OpData},
    alter_client_quotas_response::{EntityData as AlteredEntity, EntryData as Altered},
    describe_client_quotas_request::ComponentData,
    describe_client_quotas_response::{EntityData, EntryData, ValueData},
};
use millpond_runtime::Rt;
use millpond_wire::messages::{Done, Failure, Kind};
use std::rc::Rc;

/// What has quotas here.
const CLIENT_ID: &str = "client-id";
const USER: &str = "user";
const PRODUCE: &str = "producer_byte_rate";
const FETCH: &str = "consumer_byte_rate";
/// A quota in an answer, in bytes: as a message and as its bytes.
const QUOTA_BYTES: usize = 1024;

/// What an answer takes, in bytes.
pub(super) fn weigh<R: Rt>(front: &Front<R>) -> usize {
    front.core.catalog.borrow().quotas().count() * QUOTA_BYTES
}

/// Which quotas there are.
pub(super) async fn describe<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DescribeClientQuotasRequest = decoded(request)?;
    if !front.may_cluster(conn, Operation::DescribeConfigs) {
        let refused = DescribeClientQuotasResponse::default().with_error_code(codes::CLUSTER_AUTHORIZATION_FAILED);
        return answered(request, &refused.with_entries(None));
    }
    look_elsewhere(front).await;
    let catalog = front.core.catalog.borrow();
    let found = catalog.quotas().filter(|(whose, _)| is_asked(&asked.components, asked.strict, whose));
    let entries = found.map(|(whose, quota)| {
        let entity = parts(whose).map(|(kind, name)| {
            let name = (!name.is_empty()).then(|| text(name));
            EntityData::default().with_entity_type(text(kind)).with_entity_name(name)
        });
        EntryData::default().with_entity(entity.collect()).with_values(values(quota))
    });
    answered(request, &DescribeClientQuotasResponse::default().with_entries(Some(entries.collect())))
}

/// Of what a quota is, and the name; empty for the default.
fn parts(whose: &Whose) -> impl Iterator<Item = (&'static str, &str)> {
    let user = whose.user.as_deref().map(|user| (USER, user));
    user.into_iter().chain(whose.client.as_deref().map(|client| (CLIENT_ID, client)))
}

/// Whether a quota is among what is asked for. Each part of what is asked must be there; strictly, nothing else.
fn is_asked(components: &[ComponentData], strict: bool, whose: &Whose) -> bool {
    const EXACT: i8 = 0;
    const DEFAULT: i8 = 1;
    let fits = |component: &ComponentData| {
        parts(whose).filter(|(kind, _)| *kind == &*component.entity_type).any(|(_, name)| match component.match_type {
            EXACT => !name.is_empty() && component._match.as_deref() == Some(name),
            DEFAULT => name.is_empty(),
            _ => true,
        })
    };
    components.iter().all(fits) && !(strict && components.len() != parts(whose).count())
}

/// Whose quota is meant.
fn whose(entry: &Asked) -> Result<Whose, &'static str> {
    let mut whose = Whose { user: None, client: None };
    for entity in &entry.entity {
        let kept = match &*entity.entity_type {
            USER => &mut whose.user,
            CLIENT_ID => &mut whose.client,
            _ => return Err("users and client ids have quotas, and nothing else"),
        };
        // No name is the default; an empty one is nobody's.
        if entity.entity_name.as_deref() == Some("") || kept.replace(entity.entity_name.as_deref().unwrap_or_default().to_owned()).is_some()
        {
            return Err("a quota is of one user, one client id, or one of each; their names are not empty");
        }
    }
    if entry.entity.is_empty() { Err("a quota is of a user, a client id, or both") } else { Ok(whose) }
}

fn values(quota: Quota) -> Vec<ValueData> {
    let value = |key: &str, rate: u64| (rate > 0).then(|| ValueData::default().with_key(text(key)).with_value(rate as f64));
    [value(PRODUCE, quota.produce_bytes_per_s), value(FETCH, quota.fetch_bytes_per_s)].into_iter().flatten().collect()
}

/// Sets quotas, one after the other: each is answered for itself.
pub(super) async fn alter<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: AlterClientQuotasRequest = decoded(request)?;
    let may = front.may_cluster(conn, Operation::AlterConfigs);
    look_elsewhere(front).await;
    let mut entries = Vec::with_capacity(asked.entries.len());
    for entry in asked.entries {
        let done = if may {
            alter_one(front, &entry, asked.validate_only).await
        } else {
            Err((codes::CLUSTER_AUTHORIZATION_FAILED, text("quotas may not be altered by this client")))
        };
        let entity =
            entry.entity.into_iter().map(|e| AlteredEntity::default().with_entity_type(e.entity_type).with_entity_name(e.entity_name));
        let altered = Altered::default().with_entity(entity.collect());
        entries.push(match done {
            Ok(()) => altered,
            Err((code, why)) => altered.with_error_code(code).with_error_message(Some(why)),
        });
    }
    answered(request, &AlterClientQuotasResponse::default().with_entries(entries))
}

async fn alter_one<R: Rt>(front: &Rc<Front<R>>, entry: &Asked, dry_run: bool) -> Result<(), (i16, StrBytes)> {
    let refuse = |why: &str| (codes::INVALID_REQUEST, text(why));
    let whose = whose(entry).map_err(refuse)?;
    let there = front.core.catalog.borrow().quota(&whose);
    let quota = entry.ops.iter().try_fold(there, with).map_err(refuse)?;
    if dry_run {
        return Ok(());
    }
    let wanted = to_wire(&whose, quota);
    let alter = (Kind::AlterQuota, |_| wanted.clone());
    let done: Result<Done, Failure> = change(front, alter, (Change::Quota, |_| Done {}), CHANGE_MAX).await;
    done.map(drop).map_err(|failure| (codes::of_controller(&failure), codes::text(&failure)))
}

/// A quota after a change. No rate is less than a byte: nothing could ever be sent.
fn with(quota: Quota, op: &OpData) -> Result<Quota, &'static str> {
    let rate = match op {
        OpData { remove: true, .. } => 0,
        OpData { value, .. } if *value >= 1.0 && value.is_finite() => *value as u64,
        _ => return Err("a rate is a number of bytes per second, at least 1"),
    };
    match &*op.key {
        PRODUCE => Ok(Quota { produce_bytes_per_s: rate, ..quota }),
        FETCH => Ok(Quota { fetch_bytes_per_s: rate, ..quota }),
        _ => Err("the quotas are producer_byte_rate and consumer_byte_rate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::alter_client_quotas_request::EntityData as Entity;

    fn component(kind: &str, match_type: i8, name: Option<&str>) -> ComponentData {
        ComponentData::default().with_entity_type(text(kind)).with_match_type(match_type).with_match(name.map(text))
    }

    #[test]
    fn quotas_are_found_by_what_is_asked_of_them() {
        let [one, two, default] = ["one", "two", ""].map(Whose::client);
        let hers = Whose { user: Some("ann".into()), ..one.clone() };
        let exact = [component(CLIENT_ID, 0, Some("one"))];
        assert!(is_asked(&exact, true, &one) && !is_asked(&exact, false, &two) && !is_asked(&exact, false, &default));
        assert!(is_asked(&exact, false, &hers) && !is_asked(&exact, true, &hers), "strictly, it is of her as well");
        let any_default = [component(CLIENT_ID, 1, None)];
        assert!(is_asked(&any_default, true, &default) && !is_asked(&any_default, false, &one));
        let any = [component(CLIENT_ID, 2, None)];
        assert!(is_asked(&any, true, &default) && is_asked(&any, true, &one));
        assert!(is_asked(&[], false, &one) && !is_asked(&[], true, &one), "nothing but nothing is asked for");
        assert!(!is_asked(&[component(USER, 2, None)], false, &one) && is_asked(&[component(USER, 2, None)], false, &hers));
        let both = [component(CLIENT_ID, 2, None), component(USER, 0, Some("ann"))];
        assert!(!is_asked(&both, false, &one) && is_asked(&both, true, &hers));
        assert!(!is_asked(&[component("ip", 2, None)], false, &hers));
    }

    #[test]
    fn a_quota_is_somebodys() {
        let entity = |kind: &str, name: Option<&str>| Entity::default().with_entity_type(text(kind)).with_entity_name(name.map(text));
        let of = |entity: Vec<Entity>| whose(&Asked::default().with_entity(entity));
        assert_eq!(of(vec![entity(USER, Some("ann"))]), Ok(Whose { user: Some("ann".into()), client: None }));
        assert_eq!(of(vec![entity(CLIENT_ID, None), entity(USER, None)]), Ok(Whose { user: Some("".into()), client: Some("".into()) }));
        let wrong = [vec![], vec![entity("ip", None)], vec![entity(USER, Some(""))], vec![entity(USER, Some("a")), entity(USER, None)]];
        wrong.into_iter().for_each(|entities| assert!(of(entities).is_err()));
    }

    #[test]
    fn a_quota_is_changed_key_by_key() {
        let op = |key: &str, value: f64, remove| OpData::default().with_key(text(key)).with_value(value).with_remove(remove);
        let quota = with(Quota::default(), &op(PRODUCE, 1024.0, false)).expect("a rate");
        assert_eq!(quota, Quota { produce_bytes_per_s: 1024, fetch_bytes_per_s: 0 });
        let both = with(quota, &op(FETCH, 7.9, false)).expect("a rate");
        assert_eq!(with(both, &op(PRODUCE, 0.0, true)), Ok(Quota { produce_bytes_per_s: 0, fetch_bytes_per_s: 7 }));
        for wrong in [op(PRODUCE, 0.0, false), op(PRODUCE, -1.0, false), op(PRODUCE, f64::NAN, false), op(PRODUCE, f64::INFINITY, false)] {
            assert!(with(quota, &wrong).is_err());
        }
        assert!(with(quota, &op("request_percentage", 50.0, false)).is_err());
    }
}
