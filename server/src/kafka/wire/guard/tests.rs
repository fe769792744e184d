use super::*;
use crate::kafka::wire::{
    Element, Writer, api_versions, fetch, metadata, produce,
    schema::SCHEMAS,
    testing::{nearly, theirs, whole},
    versions,
};
use bytes::BytesMut;
use kafka_protocol::{
    messages::{self, *},
    protocol::{Message, Request, StrBytes},
};
use proptest::prelude::*;

/// A request as kafka-protocol has it.
#[derive(Clone, Copy)]
struct Case {
    key: i16,
    versions: (i16, i16),
    header: fn(i16) -> i16,
    /// The default request, if a version can say it.
    default: fn(i16) -> Option<Bytes>,
    /// Checks and decodes a body, and encodes what came out.
    again: fn(i16, Bytes) -> Result<Bytes, WireError>,
}

fn case<T: Request + Default>() -> Case {
    Case {
        key: T::KEY,
        versions: (<T as Message>::VERSIONS.min, <T as Message>::VERSIONS.max),
        header: T::header_version,
        default: |version| {
            let mut out = BytesMut::new();
            T::default().encode(&mut out, version).ok().map(|()| out.freeze())
        },
        again: |version, mut body| decode_guarded::<T>(T::KEY, version, &mut body).map(|request| theirs(&request, version)),
    }
}

macro_rules! cases {
    ($($request:ident)*) => { vec![$(case::<$request>()),*] };
}

fn cases() -> Vec<Case> {
    cases! {
        ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetFetchRequest FindCoordinatorRequest
        JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest DescribeGroupsRequest ListGroupsRequest SaslHandshakeRequest
        ApiVersionsRequest CreateTopicsRequest DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest
        AddPartitionsToTxnRequest AddOffsetsToTxnRequest EndTxnRequest WriteTxnMarkersRequest TxnOffsetCommitRequest DescribeAclsRequest
        CreateAclsRequest DeleteAclsRequest DescribeConfigsRequest AlterConfigsRequest AlterReplicaLogDirsRequest DescribeLogDirsRequest
        SaslAuthenticateRequest CreatePartitionsRequest DeleteGroupsRequest ElectLeadersRequest IncrementalAlterConfigsRequest
        AlterPartitionReassignmentsRequest ListPartitionReassignmentsRequest OffsetDeleteRequest DescribeClientQuotasRequest
        AlterClientQuotasRequest DescribeUserScramCredentialsRequest AlterUserScramCredentialsRequest UpdateFeaturesRequest
        DescribeClusterRequest DescribeProducersRequest DescribeTransactionsRequest ListTransactionsRequest
        ConsumerGroupHeartbeatRequest ConsumerGroupDescribeRequest GetTelemetrySubscriptionsRequest ListConfigResourcesRequest DescribeTopicPartitionsRequest
    }
}

/// Each request in each of its versions.
fn all() -> impl Iterator<Item = (Case, &'static Schema, i16)> {
    cases().into_iter().flat_map(|case| {
        let schema = SCHEMAS.iter().find(|schema| schema.key == case.key).expect("a schema");
        (schema.min..=schema.max).map(move |version| (case, schema, version))
    })
}

/// Fills bodies by their schema: the opposite of the walk.
struct Filler {
    version: i16,
    seed: u64,
    fill: Fill,
    elements: usize,
}

/// How much a body has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// As little as can be: nothing in arrays, nothing in strings, null where it may be.
    Least,
    /// Something or other.
    Some,
    /// Elements in every array, all tagged fields, and nothing is null.
    Full,
}

impl Filler {
    fn body(schema: &Schema, version: i16, seed: u64) -> (Bytes, usize) {
        let fill = if seed == 0 { Fill::Full } else { Fill::Some };
        let mut this = Self { version, seed: seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15), fill, elements: 0 };
        let mut w = Writer::new(version >= schema.flexible);
        this.fields(&mut w, schema.fields);
        (Bytes::from(w.finish().concat()), this.elements)
    }

    /// Bytes of the shortest value.
    fn least(kind: &Kind, version: i16, flexible: bool) -> usize {
        let mut this = Self { version, seed: 1, fill: Fill::Least, elements: 0 };
        let mut w = Writer::new(flexible);
        this.value(&mut w, kind, false);
        w.len()
    }

    /// Less than `n`.
    fn some(&mut self, n: u64) -> usize {
        if self.fill == Fill::Least { 0 } else { self.below(n) as usize }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % n
    }

    fn fields(&mut self, w: &mut Writer, fields: &[Field]) {
        let (version, flexible) = (self.version, w.is_flexible());
        fields.iter().filter(|f| f.is_in(version) && f.tag.is_none()).for_each(|field| self.field(w, field));
        let mut known: Vec<_> = fields.iter().filter_map(|f| Some((f.tag.filter(|_| f.is_in(version))?, f))).collect();
        known.sort_by_key(|(tag, _)| *tag);
        w.tags(|tags| {
            for (tag, field) in known {
                // The first body says all; null is the default of those that may be null.
                if self.fill == Fill::Full {
                    self.elements += 1;
                    tags.put(tag, true, false, |w, _| self.value(w, &field.kind, false));
                }
            }
            if self.fill != Fill::Least && self.below(4) == 0 {
                self.elements += 1;
                tags.put(1000, true, false, |w, _| w.raw().extend_from_slice(b"unknown"));
            }
        });
        assert!(flexible || fields.iter().all(|f| f.tag.is_none() || !f.is_in(version)), "tagged fields in a version without them");
    }

    fn field(&mut self, w: &mut Writer, field: &Field) {
        let may_be_null = field.may_be_null(self.version);
        let null = match self.fill {
            Fill::Least => may_be_null,
            Fill::Some => may_be_null && self.below(3) == 0,
            Fill::Full => false,
        };
        if may_be_null && matches!(field.kind, Kind::Struct(_)) {
            w.i8(if null { -1 } else { 1 });
            if null {
                return;
            }
        }
        self.value(w, &field.kind, null);
    }

    fn value(&mut self, w: &mut Writer, kind: &Kind, null: bool) {
        match kind {
            // A flag that is not 0 comes back as 1.
            Kind::Fixed(1) => w.i8(1),
            Kind::Fixed(bytes) => (0..*bytes).for_each(|_| w.i8(1 + self.below(100) as i8)),
            Kind::Text => {
                let text = &"abcdefghé"[..self.some(9)];
                w.nullable_string(Some(text).filter(|_| !null));
            }
            Kind::Bytes => {
                let bytes = vec![7; self.some(200)];
                w.nullable_bytes(Some(&bytes[..]).filter(|_| !null));
            }
            Kind::Struct(fields) => self.fields(w, fields),
            Kind::Array(_) if null => w.nullable_count(None),
            Kind::Array(of) => {
                let count = if self.fill == Fill::Full { 2 } else { self.some(4) };
                w.count(count);
                self.elements += count;
                (0..count).for_each(|_| self.value(w, of, false));
            }
        }
    }
}

#[test]
fn schemas_have_the_numbers_that_the_decoders_have() {
    assert!(SCHEMAS.is_sorted_by_key(|schema| schema.key));
    assert_eq!(SCHEMAS.len(), cases().len());
    for (case, schema, version) in all() {
        assert_eq!((schema.min, schema.max), case.versions, "{}", schema.name);
        assert_eq!(if version >= schema.flexible { 2 } else { 1 }, (case.header)(version), "{} {version}", schema.name);
    }
    for api in versions::ALL {
        let (schema, _) = Schema::of(api.key, api.max).expect("a schema for each row");
        // The bytes that follow the first version of this one have no header, so it is not spoken.
        let min = if *api == versions::SASL_HANDSHAKE { 1 } else { schema.min };
        assert_eq!((schema.name, min, schema.flexible), (api.name, api.min, api.flexible));
    }
}

#[test]
fn elements_take_bytes_and_structures_do_not_lie_deep() {
    fn depth(kind: &Kind, version: i16, flexible: bool) -> usize {
        match kind {
            Kind::Fixed(_) | Kind::Text | Kind::Bytes => 0,
            Kind::Struct(fields) => {
                1 + fields.iter().filter(|f| f.is_in(version)).map(|f| depth(&f.kind, version, flexible)).max().unwrap_or(0)
            }
            Kind::Array(of) => {
                // Were it less, counts that cannot be would pass; were it more, sound ones would not.
                assert_eq!(of.least_bytes(version, flexible), Filler::least(of, version, flexible));
                assert!(of.least_bytes(version, flexible) > 0);
                1 + depth(of, version, flexible)
            }
        }
    }
    for (_, schema, version) in all() {
        let deepest = schema.fields.iter().filter(|f| f.is_in(version)).map(|f| depth(&f.kind, version, version >= schema.flexible)).max();
        assert!(deepest.unwrap_or(0) <= 6, "{} {version}: {deepest:?}", schema.name);
    }
}

#[test]
fn elements_that_are_read_by_hand_take_as_many_bytes() {
    fn array_of(fields: &'static [Field], name: &str) -> &'static Kind {
        match fields.iter().find(|field| field.name == name).map(|field| &field.kind) {
            Some(Kind::Array(of)) => of,
            other => panic!("{name} is {other:?}"),
        }
    }
    fn within(kind: &'static Kind, name: &str) -> &'static Kind {
        match kind {
            Kind::Struct(fields) => array_of(fields, name),
            other => panic!("{name} is in {other:?}"),
        }
    }
    fn same<T: Element>(api: Api, of: &Kind) {
        for version in api.min..=api.max {
            assert_eq!(T::least_bytes(version), of.least_bytes(version, api.is_flexible(version)), "{} {version}: {of:?}", api.name);
        }
    }
    let fields = |api: Api| Schema::of(api.key, api.max).expect("a schema").0.fields;
    let topics = array_of(fields(versions::PRODUCE), "TopicData");
    same::<produce::ProduceTopic>(versions::PRODUCE, topics);
    same::<produce::ProducePartition>(versions::PRODUCE, within(topics, "PartitionData"));
    let topics = array_of(fields(versions::FETCH), "Topics");
    same::<fetch::FetchTopic>(versions::FETCH, topics);
    same::<fetch::FetchPartition>(versions::FETCH, within(topics, "Partitions"));
    same::<metadata::MetadataRequestTopic>(versions::METADATA, array_of(fields(versions::METADATA), "Topics"));
    let sessions = Api { min: 7, ..versions::FETCH };
    same::<fetch::ForgottenTopic>(sessions, array_of(fields(sessions), "ForgottenTopicsData"));
}

#[test]
fn default_requests_pass_to_their_last_byte() {
    let mut mute = Vec::new();
    for (case, schema, version) in all() {
        let Some(body) = (case.default)(version) else {
            mute.push((schema.name, version));
            continue;
        };
        check(schema.key, version, &body).unwrap_or_else(|e| panic!("{} {version}: {e}", schema.name));
        assert_eq!((case.again)(version, body.clone()).as_ref(), Ok(&body), "{} {version}", schema.name);
        for n in 0..body.len() {
            assert!(check(schema.key, version, &body.slice(..n)).is_err(), "{} {version}: {n} of {} bytes", schema.name, body.len());
        }
    }
    assert_eq!(mute, [], "versions that cannot say the default request");
}

#[test]
fn filled_requests_pass_to_their_last_byte_and_come_back() {
    for (case, schema, version) in all() {
        for seed in 0..40 {
            let (body, elements) = Filler::body(schema, version, seed);
            let found = check(schema.key, version, &body).unwrap_or_else(|e| panic!("{} {version}, seed {seed}: {e}", schema.name));
            assert_eq!(found, elements, "{} {version}, seed {seed}", schema.name);
            let again = (case.again)(version, body.clone()).unwrap_or_else(|e| panic!("{} {version}, seed {seed}: {e}", schema.name));
            assert_eq!(again, body, "{} {version}, seed {seed}", schema.name);
            for n in 0..body.len() {
                assert!(check(schema.key, version, &body.slice(..n)).is_err(), "{} {version}: {n} of {} bytes", schema.name, body.len());
            }
        }
    }
}

/// What we decode by hand, in the versions that we do.
fn by_hand(key: i16, version: i16, body: Bytes) -> Option<Result<(), WireError>> {
    versions::api(key).ok().filter(|api| api.check(version).is_ok())?;
    match key {
        0 => Some(produce::ProduceRequest::read(body, version).map(drop)),
        1 => Some(fetch::FetchRequest::read(body, version).map(drop)),
        3 => Some(metadata::MetadataRequest::read(body, version).map(drop)),
        18 => Some(api_versions::ApiVersionsRequest::read(body, version).map(drop)),
        _ => None,
    }
}

/// What passes is decoded, except for what a decoder alone refuses: so both walk the same way, and the decoder meets no count that was not
/// checked.
#[test]
fn what_is_nearly_a_request_is_refused_before_it_is_decoded() {
    for (case, schema, version) in all() {
        let (body, _) = Filler::body(schema, version, 0);
        nearly(&body, |body| {
            let by_hand = by_hand(schema.key, version, body.clone());
            let elements = check(schema.key, version, &body);
            assert!(elements.clone().unwrap_or(0) <= body.len(), "{elements:?} elements of {} bytes", body.len());
            let again = (case.again)(version, body);
            match &again {
                Ok(_) => assert!(elements.is_ok()),
                // The decoder refuses tagged fields that only a newer version has.
                Err(WireError::Decode { why, .. }) if why.starts_with("Tag ") => return elements.map(drop),
                Err(WireError::Decode { why, .. }) if why.contains("utf-8") => {}
                Err(other) => assert_eq!(elements.as_ref(), Err(other), "{} {version}: passed, and was refused then", schema.name),
            }
            if let Some(by_hand) = by_hand {
                assert_eq!(by_hand.is_ok(), again.is_ok(), "{} {version}: {by_hand:?}, {again:?}", schema.name);
            }
            elements.map(drop)
        });
    }
}

proptest! {
    #[test]
    fn junk_is_refused_or_read(junk in proptest::collection::vec(any::<u8>(), 0..60)) {
        for (case, schema, version) in all() {
            let body = Bytes::from(junk.clone());
            if check(schema.key, version, &body).is_ok() {
                let again = (case.again)(version, body);
                prop_assert!(matches!(again, Ok(_) | Err(WireError::Decode { .. })), "{} {}: {:?}", schema.name, version, again);
            }
        }
    }
}

#[test]
fn four_bytes_do_not_end_the_process() {
    let mut huge = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    let refused = decode_guarded::<messages::MetadataRequest>(3, 4, &mut huge).expect_err("the topics are not there");
    assert!(matches!(refused, WireError::Count { what: "Topics", count: 0x7fff_ffff, .. }), "{refused}");
}

#[test]
fn elements_are_bounded_in_all_arrays_together() {
    let groups = |n: usize| {
        let names = (0..n).map(|_| GroupId(StrBytes::new())).collect();
        theirs(&messages::DeleteGroupsRequest::default().with_groups_names(names), 2)
    };
    assert_eq!(check(42, 2, &groups(ELEMENTS_MAX)), Ok(ELEMENTS_MAX));
    assert_eq!(check(42, 2, &groups(ELEMENTS_MAX + 1)), Err(WireError::Elements { what: "GroupsNames", limit: ELEMENTS_MAX }));
    // Tagged fields that nobody knows are kept by the decoder, and counted.
    let mut w = Writer::new(true);
    w.uvarint(1);
    w.uvarint(ELEMENTS_MAX as u32 + 1);
    (0..=ELEMENTS_MAX as u32).for_each(|tag| {
        w.uvarint(tag);
        w.uvarint(0);
    });
    let tags = Bytes::from(w.finish().concat());
    assert_eq!(check(42, 2, &tags), Err(WireError::Elements { what: "DeleteGroups", limit: ELEMENTS_MAX }));
}

#[test]
fn nulls_are_where_they_may_be() {
    // DescribeTopicPartitions: no topics, a limit, then whether there is a cursor.
    let cursor = |presence: u8| check(75, 0, &Bytes::from(vec![1, 0, 0, 0, 9, presence, 0]));
    assert_eq!(cursor(0xff), Ok(0));
    assert_eq!(cursor(0), Err(WireError::Presence { what: "Cursor", at: 5, found: 0 }));
    assert_eq!(cursor(1), Err(WireError::Null { what: "TopicName" }));
    assert_eq!(check(3, 0, &Bytes::from_static(&[0xff; 4])), Err(WireError::Null { what: "Topics" }));
    assert_eq!(check(42, 2, &Bytes::from_static(&[2, 0, 0])), Err(WireError::Null { what: "GroupsNames" }));
}

#[test]
fn a_known_tagged_field_is_as_long_as_it_says() {
    // Fetch 12 of nothing, with a cluster id of one letter that says it takes three bytes.
    let head = Filler::body(Schema::of(1, 12).expect("a schema").0, 12, 3).0;
    assert!(check(1, 12, &head).is_ok());
    let mut body = vec![0; 4 * 6 + 1];
    body.extend_from_slice(&[1, 1, 1, 1, 0, 3, 2, b'c', 0]);
    assert_eq!(check(1, 12, &Bytes::from(body.clone())), Err(WireError::Tag { what: "Fetch", tag: 0, left: 1 }));
    let at = body.len() - 4;
    body[at] = 2;
    body.pop();
    assert_eq!(check(1, 12, &Bytes::from(body)), Ok(1));
}

#[test]
fn what_is_not_known_is_said() {
    assert_eq!(check(9999, 0, &Bytes::new()), Err(WireError::Api { key: 9999 }));
    let version = WireError::Version { name: "Heartbeat", version: 5, min: 0, max: 4 };
    assert_eq!(check(12, 5, &Bytes::new()), Err(version));
    assert!(check(12, -1, &Bytes::new()).is_err());
}

#[test]
fn answers_that_they_encode_are_framed() {
    let beat = messages::HeartbeatResponse::default().with_error_code(27);
    for version in versions::HEARTBEAT.min..=versions::HEARTBEAT.max {
        let pieces = answer(&versions::HEARTBEAT, version, 9, &beat).expect("a version of it");
        let frame = whole(Bytes::from(pieces.concat()));
        let header = versions::HEARTBEAT.response_header(version) as usize;
        assert_eq!(frame[..4], 9_i32.to_be_bytes());
        assert_eq!(frame.slice(4 + header..), theirs(&beat, version));
    }
    assert!(matches!(answer(&versions::HEARTBEAT, 5, 9, &beat), Err(WireError::Encode { name: "Heartbeat", version: 5, .. })));
}

/// What [`ELEMENTS_MAX`] is reckoned with.
#[test]
fn decoded_elements_are_small() {
    macro_rules! at_most {
        ($bytes:literal: $($of:ident::$element:ident)*) => {
            $(assert!(size_of::<messages::$of::$element>() <= $bytes, stringify!($element));)*
        };
    }
    at_most! { 128:
        create_topics_request::CreatableTopic offset_fetch_request::OffsetFetchRequestGroup create_acls_request::AclCreation
        delete_acls_request::DeleteAclsFilter leave_group_request::MemberIdentity
        alter_user_scram_credentials_request::ScramCredentialUpsertion add_partitions_to_txn_request::AddPartitionsToTxnTransaction
    }
}
