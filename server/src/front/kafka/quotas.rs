//! How much clients may send and fetch: DescribeClientQuotas and AlterClientQuotas (KIP-546).
//!
//! Quotas are those of `millpond quota`: of a client id, or of all that have none of their own. They count per core, as Kafka's count per broker. Users
//! and addresses have none, and there is none for the time that requests take.

use super::{
    super::{Front, conn::Conn, requests::look_elsewhere},
    answered, codes, decoded,
    groups::text,
    topics::{CHANGE_MAX, change},
};
use crate::{
    catalog::Quota,
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
use millpond_wire::messages::{AlterQuota, Done, Failure, Kind};
use std::rc::Rc;

/// What has quotas here.
const CLIENT_ID: &str = "client-id";
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
    let found = catalog.quotas().filter(|(client, _)| is_asked(&asked.components, asked.strict, client));
    let entries = found.map(|(client, quota)| {
        let name = (!client.is_empty()).then(|| text(client));
        let entity = EntityData::default().with_entity_type(text(CLIENT_ID)).with_entity_name(name);
        EntryData::default().with_entity(vec![entity]).with_values(values(quota))
    });
    answered(request, &DescribeClientQuotasResponse::default().with_entries(Some(entries.collect())))
}

/// Whether a client id, empty for the default, is among what is asked for. Each part of what is asked must be there; strictly, nothing else.
fn is_asked(components: &[ComponentData], strict: bool, client: &str) -> bool {
    const EXACT: i8 = 0;
    const DEFAULT: i8 = 1;
    let fits = |component: &ComponentData| {
        &*component.entity_type == CLIENT_ID
            && match component.match_type {
                EXACT => !client.is_empty() && component._match.as_deref() == Some(client),
                DEFAULT => client.is_empty(),
                _ => true,
            }
    };
    components.iter().all(fits) && !(strict && components.is_empty())
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
    let [entity] = &entry.entity[..] else { return Err(refuse("a quota is of one client id, or of all that have none of their own")) };
    if &*entity.entity_type != CLIENT_ID || entity.entity_name.as_deref() == Some("") {
        return Err(refuse("only client ids have quotas"));
    }
    let client_id = entity.entity_name.as_deref().unwrap_or_default().to_owned();
    let there = front.core.catalog.borrow().quotas().find(|(client, _)| *client == client_id).map(|(_, quota)| quota);
    let quota = entry.ops.iter().try_fold(there.unwrap_or_default(), with).map_err(refuse)?;
    if dry_run {
        return Ok(());
    }
    let Quota { produce_bytes_per_s, fetch_bytes_per_s } = quota;
    let wanted = AlterQuota { client_id, produce_bytes_per_s, fetch_bytes_per_s };
    let alter = (|| Change::Quota(wanted.clone()), |_| Done {});
    let done: Result<Done, Failure> = change(front, Kind::AlterQuota, &wanted, alter, CHANGE_MAX).await;
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

    fn component(kind: &str, match_type: i8, name: Option<&str>) -> ComponentData {
        ComponentData::default().with_entity_type(text(kind)).with_match_type(match_type).with_match(name.map(text))
    }

    #[test]
    fn quotas_are_found_by_what_is_asked_of_them() {
        let exact = [component(CLIENT_ID, 0, Some("one"))];
        assert!(is_asked(&exact, true, "one") && !is_asked(&exact, false, "two") && !is_asked(&exact, false, ""));
        let default = [component(CLIENT_ID, 1, None)];
        assert!(is_asked(&default, true, "") && !is_asked(&default, false, "one"));
        let any = [component(CLIENT_ID, 2, None)];
        assert!(is_asked(&any, true, "") && is_asked(&any, true, "one"));
        assert!(is_asked(&[], false, "one") && !is_asked(&[], true, "one"), "nothing but nothing is asked for");
        assert!(!is_asked(&[component("user", 2, None)], false, "one"));
        let both = [component(CLIENT_ID, 2, None), component("user", 2, None)];
        assert!(!is_asked(&both, false, "one"));
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
