//! GetTelemetrySubscriptions (KIP-714): a client learns the id of its instance (`clientInstanceId()`), and that nobody wants its metrics, so it never pushes any.

use super::{super::Front, answered, decoded};
use crate::kafka::wire::{Request, WireError};
use bytes::Bytes;
use kafka_protocol::messages::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};
use millpond_runtime::Rt;
use uuid::{Builder, Uuid};

/// How often a client asks again whether its metrics are wanted, as Kafka's default is, in ms.
const ASK_AGAIN_MS: i32 = 5 * 60 * 1000;
/// Most bytes of metrics at a time; clients want to know even if there are none.
const BYTES_MAX: i32 = 1024 * 1024;

/// Which metrics of a client are wanted: none.
pub(super) fn subscriptions<R: Rt>(front: &Front<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: GetTelemetrySubscriptionsRequest = decoded(request)?;
    // Whoever has none yet asks for one.
    let id = if asked.client_instance_id == Uuid::nil() { new_id(&front.core.rt) } else { asked.client_instance_id };
    let response = GetTelemetrySubscriptionsResponse::default().with_client_instance_id(id).with_push_interval_ms(ASK_AGAIN_MS);
    answered(request, &response.with_telemetry_max_bytes(BYTES_MAX).with_delta_temporality(true))
}

fn new_id<R: Rt>(rt: &R) -> Uuid {
    let random = (u128::from(rt.rand()) << 64) | u128::from(rt.rand());
    Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
}
