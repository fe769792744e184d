//! Who may do what, on a node that heeds ACLs: without one nothing, for any API that is advertised; with one what it lets, and nothing that another one forbids.

use crate::{client, ids, node::Node, raw::Raw};
use bytes::Bytes;
use kafka_protocol::{
    messages::{
        add_partitions_to_txn_request as ap, alter_client_quotas_request as aq, alter_configs_request as ac,
        alter_user_scram_credentials_request as au, create_acls_request as ca, create_partitions_request as cp,
        create_topics_request as ct, delete_acls_request as da, delete_records_request as dr, describe_configs_request as dc,
        describe_producers_request as dpr, describe_topic_partitions_request as tp, elect_leaders_request as el, fetch_request as f,
        incremental_alter_configs_request as iac, leave_group_request as lg, list_offsets_request as lo, metadata_request as md,
        offset_commit_request as oc, offset_delete_request as od, offset_fetch_request as of, offset_for_leader_epoch_request as le,
        produce_request as p, txn_offset_commit_request as to, write_txn_markers_request as wm, *,
    },
    protocol::StrBytes,
};
use millpond_batch::{Builder, Compression, builder::NO_HEADERS};
use millpond_client::{Code, NewTopic, ProducerRecord};

const TOPIC: i16 = 29;
const GROUP: i16 = 30;
const CLUSTER: i16 = 31;
const TRANSACTIONAL_ID: i16 = 53;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

fn id(name: &str) -> TransactionalId {
    TransactionalId(text(name))
}

/// One record.
fn batch() -> Bytes {
    let mut builder = Builder::new(Compression::None, 100);
    builder.append(1_700_000_000_000, None, Some(b"a record"), NO_HEADERS);
    builder.build(None).expect("built").freeze()
}

/// An ACL for whoever has not said who he is: of a topic (2), a group (3), the cluster (4) or a transactional id (5).
fn acl(resource: i8, name: &str, prefixed: bool, operation: i8, allow: bool) -> ca::AclCreation {
    let acl = ca::AclCreation::default().with_resource_type(resource).with_resource_name(text(name));
    let acl = acl.with_resource_pattern_type(3 + i8::from(prefixed)).with_principal(text("User:ANONYMOUS")).with_host(text("127.0.0.1"));
    acl.with_operation(operation).with_permission_type(2 + i8::from(allow))
}

/// A node with some topics and ACLs, that heeds them from its second start on.
async fn node(topics: &[&str], acls: Vec<ca::AclCreation>) -> Node {
    let mut node = Node::start();
    let admin = client(&node).await.admin();
    for name in topics {
        admin.create_topic(NewTopic::new(*name).partitions(1)).await.expect("created");
    }
    let told = Raw::connect(&node.address()).call(3, &CreateAclsRequest::default().with_creations(acls)).expect("an answer");
    assert!(told.results.iter().all(|result| result.error_code == 0), "{told:?}");
    node.kill();
    node.more = vec!["--authorize".into()];
    node.serve();
    node
}

/// What an API tells a client that may not do anything: the code of each of its parts. Nothing is told of what is left out.
fn told(raw: &mut Raw, key: i16) -> Vec<i16> {
    match key {
        0..=3 | 21 | 23 | 61 | 75 => of_topics(raw, key),
        8..=16 | 42 | 47 | 68 | 69 => of_groups(raw, key),
        22 | 24..=28 | 65 | 66 => of_transactions(raw, key),
        _ => of_the_cluster(raw, key),
    }
}

fn of_topics(raw: &mut Raw, key: i16) -> Vec<i16> {
    match key {
        0 => {
            let data = p::PartitionProduceData::default().with_records(Some(batch()));
            let data = p::TopicProduceData::default().with_name(topic("t")).with_partition_data(vec![data]);
            let asked = ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![data]);
            let told = raw.call(9, &asked).expect("an answer");
            let told = told.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code).collect::<Vec<_>>();
            let of_an_id = raw.call(9, &asked.with_transactional_id(Some(id("tx")))).expect("an answer");
            assert_eq!(of_an_id.responses[0].partition_responses[0].error_code, TRANSACTIONAL_ID);
            told
        }
        1 => {
            let some = f::FetchTopic::default().with_topic(topic("t")).with_partitions(vec![f::FetchPartition::default()]);
            let asked = FetchRequest::default().with_max_wait_ms(20_000).with_min_bytes(1).with_max_bytes(1_000).with_topics(vec![some]);
            let told = raw.call(12, &asked).expect("an answer at once");
            told.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        2 => {
            let some = lo::ListOffsetsTopic::default().with_name(topic("t")).with_partitions(vec![lo::ListOffsetsPartition::default()]);
            let told = raw.call(5, &ListOffsetsRequest::default().with_topics(vec![some])).expect("an answer");
            told.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        3 => {
            let all = raw.call(9, &MetadataRequest::default().with_topics(None)).expect("an answer");
            assert!(all.topics.is_empty() && all.brokers.len() == 1, "{all:?}");
            let one = |name| md::MetadataRequestTopic::default().with_name(Some(topic(name)));
            let asked = MetadataRequest::default().with_topics(Some(vec![one("t"), one("new")])).with_allow_auto_topic_creation(true);
            raw.call(9, &asked).expect("an answer").topics.iter().map(|t| t.error_code).collect()
        }
        21 => {
            let some = dr::DeleteRecordsTopic::default().with_name(topic("t"));
            let some = some.with_partitions(vec![dr::DeleteRecordsPartition::default().with_offset(-1)]);
            let told = raw.call(2, &DeleteRecordsRequest::default().with_topics(vec![some])).expect("an answer");
            told.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        23 => {
            let some = le::OffsetForLeaderTopic::default().with_topic(topic("t"));
            let some = some.with_partitions(vec![le::OffsetForLeaderPartition::default()]);
            let told = raw.call(4, &OffsetForLeaderEpochRequest::default().with_topics(vec![some])).expect("an answer");
            told.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        61 => {
            let some = dpr::TopicRequest::default().with_name(topic("t")).with_partition_indexes(vec![0]);
            let told = raw.call(0, &DescribeProducersRequest::default().with_topics(vec![some])).expect("an answer");
            told.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        _ => {
            let all = raw.call(0, &DescribeTopicPartitionsRequest::default().with_response_partition_limit(9)).expect("an answer");
            assert!(all.topics.is_empty(), "{all:?}");
            let asked = DescribeTopicPartitionsRequest::default().with_response_partition_limit(9);
            let asked = asked.with_topics(vec![tp::TopicRequest::default().with_name(topic("t"))]);
            raw.call(0, &asked).expect("an answer").topics.iter().map(|t| t.error_code).collect()
        }
    }
}

fn of_groups(raw: &mut Raw, key: i16) -> Vec<i16> {
    match key {
        8 => {
            let some = oc::OffsetCommitRequestTopic::default().with_name(topic("t"));
            let some = some.with_partitions(vec![oc::OffsetCommitRequestPartition::default()]);
            let asked =
                OffsetCommitRequest::default().with_group_id(group("g")).with_generation_id_or_member_epoch(-1).with_topics(vec![some]);
            let told = raw.call(8, &asked).expect("an answer");
            told.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        9 => {
            let one = of::OffsetFetchRequestGroup::default().with_group_id(group("g")).with_topics(None);
            let told = raw.call(8, &OffsetFetchRequest::default().with_groups(vec![one])).expect("an answer");
            told.groups.iter().map(|g| g.error_code).collect()
        }
        10 => {
            let ask = |kind| FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![text("g")]);
            let of_transactions = raw.call(4, &ask(1)).expect("an answer");
            assert_eq!(of_transactions.coordinators[0].error_code, TRANSACTIONAL_ID);
            raw.call(4, &ask(0)).expect("an answer").coordinators.iter().map(|c| c.error_code).collect()
        }
        11 => {
            let asked =
                JoinGroupRequest::default().with_group_id(group("g")).with_session_timeout_ms(6_000).with_protocol_type(text("consumer"));
            vec![raw.call(5, &asked).expect("an answer").error_code]
        }
        12 => vec![raw.call(4, &HeartbeatRequest::default().with_group_id(group("g"))).expect("an answer").error_code],
        13 => {
            let asked = LeaveGroupRequest::default().with_group_id(group("g")).with_members(vec![lg::MemberIdentity::default()]);
            vec![raw.call(4, &asked).expect("an answer").error_code]
        }
        14 => vec![raw.call(4, &SyncGroupRequest::default().with_group_id(group("g"))).expect("an answer").error_code],
        15 => {
            let told = raw.call(5, &DescribeGroupsRequest::default().with_groups(vec![group("g")])).expect("an answer");
            told.groups.iter().map(|g| g.error_code).collect()
        }
        16 => raw.call(4, &ListGroupsRequest::default()).expect("an answer").groups.iter().map(|_| 0).collect(),
        42 => {
            let told = raw.call(2, &DeleteGroupsRequest::default().with_groups_names(vec![group("g")])).expect("an answer");
            told.results.iter().map(|g| g.error_code).collect()
        }
        47 => {
            let some = od::OffsetDeleteRequestTopic::default().with_name(topic("t"));
            let asked = OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(vec![some]);
            vec![raw.call(0, &asked).expect("an answer").error_code]
        }
        68 => {
            let asked = ConsumerGroupHeartbeatRequest::default().with_group_id(group("g")).with_member_id(text("m"));
            let asked = asked.with_rebalance_timeout_ms(1_000).with_subscribed_topic_names(Some(vec![topic("t")]));
            vec![raw.call(0, &asked.with_topic_partitions(Some(Vec::new()))).expect("an answer").error_code]
        }
        _ => {
            let told = raw.call(0, &ConsumerGroupDescribeRequest::default().with_group_ids(vec![group("g")])).expect("an answer");
            told.groups.iter().map(|g| g.error_code).collect()
        }
    }
}

fn of_transactions(raw: &mut Raw, key: i16) -> Vec<i16> {
    match key {
        22 => {
            let ask = |id| InitProducerIdRequest::default().with_transactional_id(id).with_transaction_timeout_ms(60_000);
            [None, Some(id("tx"))].map(|id| raw.call(4, &ask(id)).expect("an answer").error_code).to_vec()
        }
        24 => {
            let some = ap::AddPartitionsToTxnTopic::default().with_name(topic("t")).with_partitions(vec![0]);
            let asked = AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(id("tx"));
            let told = raw.call(3, &asked.with_v3_and_below_topics(vec![some])).expect("an answer");
            told.results_by_topic_v3_and_below[0].results_by_partition.iter().map(|p| p.partition_error_code).collect()
        }
        25 => {
            let asked = AddOffsetsToTxnRequest::default().with_transactional_id(id("tx")).with_group_id(group("g"));
            vec![raw.call(3, &asked).expect("an answer").error_code]
        }
        26 => vec![raw.call(3, &EndTxnRequest::default().with_transactional_id(id("tx"))).expect("an answer").error_code],
        27 => {
            let some = wm::WritableTxnMarkerTopic::default().with_name(topic("t")).with_partition_indexes(vec![0]);
            let marker = wm::WritableTxnMarker::default().with_producer_id(ProducerId(7)).with_topics(vec![some]);
            let told = raw.call(1, &WriteTxnMarkersRequest::default().with_markers(vec![marker])).expect("an answer");
            told.markers.iter().flat_map(|m| &m.topics).flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        28 => {
            let some = to::TxnOffsetCommitRequestTopic::default().with_name(topic("t"));
            let some = some.with_partitions(vec![to::TxnOffsetCommitRequestPartition::default()]);
            let asked = TxnOffsetCommitRequest::default().with_transactional_id(id("tx")).with_group_id(group("g")).with_topics(vec![some]);
            let told = raw.call(3, &asked).expect("an answer");
            told.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        65 => {
            let told = raw.call(0, &DescribeTransactionsRequest::default().with_transactional_ids(vec![id("tx")])).expect("an answer");
            told.transaction_states.iter().map(|t| t.error_code).collect()
        }
        _ => raw.call(0, &ListTransactionsRequest::default()).expect("an answer").transaction_states.iter().map(|_| 0).collect(),
    }
}

fn of_the_cluster(raw: &mut Raw, key: i16) -> Vec<i16> {
    match key {
        // Whoever connects may ask what is spoken here, show who he is, and learn where the brokers are, as Metadata tells them.
        17 | 18 | 36 | 60 | 71 => Vec::new(),
        19 => {
            let one = ct::CreatableTopic::default().with_name(topic("new")).with_num_partitions(1).with_replication_factor(1);
            raw.call(5, &CreateTopicsRequest::default().with_topics(vec![one]))
                .expect("an answer")
                .topics
                .iter()
                .map(|t| t.error_code)
                .collect()
        }
        20 => {
            let told = raw.call(4, &DeleteTopicsRequest::default().with_topic_names(vec![topic("t")])).expect("an answer");
            told.responses.iter().map(|t| t.error_code).collect()
        }
        29 => {
            let asked = DescribeAclsRequest::default().with_resource_type_filter(1).with_pattern_type_filter(1);
            vec![raw.call(3, &asked.with_operation(1).with_permission_type(1)).expect("an answer").error_code]
        }
        30 => {
            let told = raw.call(3, &CreateAclsRequest::default().with_creations(vec![acl(2, "t", false, 3, true)])).expect("an answer");
            told.results.iter().map(|result| result.error_code).collect()
        }
        31 => {
            let filter = da::DeleteAclsFilter::default().with_resource_type_filter(1).with_pattern_type_filter(1);
            let filter = filter.with_operation(1).with_permission_type(1);
            let told = raw.call(3, &DeleteAclsRequest::default().with_filters(vec![filter])).expect("an answer");
            told.filter_results.iter().map(|result| result.error_code).collect()
        }
        32 => {
            let one = |kind, name| dc::DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
            let told = raw.call(4, &DescribeConfigsRequest::default().with_resources(vec![one(2, "t"), one(4, "1")])).expect("an answer");
            told.results.iter().map(|r| r.error_code).collect()
        }
        33 => {
            let one = |kind, name| ac::AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
            let told = raw.call(2, &AlterConfigsRequest::default().with_resources(vec![one(2, "t"), one(4, "1")])).expect("an answer");
            told.responses.iter().map(|r| r.error_code).collect()
        }
        44 => {
            let one = |kind, name| iac::AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
            let asked = IncrementalAlterConfigsRequest::default().with_resources(vec![one(2, "t"), one(4, "1")]);
            raw.call(1, &asked).expect("an answer").responses.iter().map(|r| r.error_code).collect()
        }
        35 => vec![raw.call(3, &DescribeLogDirsRequest::default().with_topics(None)).expect("an answer").error_code],
        37 => {
            let one = cp::CreatePartitionsTopic::default().with_name(topic("t")).with_count(2);
            let told = raw.call(2, &CreatePartitionsRequest::default().with_topics(vec![one])).expect("an answer");
            told.results.iter().map(|r| r.error_code).collect()
        }
        43 => {
            let some = el::TopicPartitions::default().with_topic(topic("t")).with_partitions(vec![0]);
            let told = raw.call(2, &ElectLeadersRequest::default().with_topic_partitions(Some(vec![some]))).expect("an answer");
            let each = told.replica_election_results.iter().flat_map(|t| &t.partition_result).map(|p| p.error_code);
            each.chain([told.error_code]).collect()
        }
        45 => vec![raw.call(0, &AlterPartitionReassignmentsRequest::default()).expect("an answer").error_code],
        46 => vec![raw.call(0, &ListPartitionReassignmentsRequest::default().with_topics(None)).expect("an answer").error_code],
        48 => vec![raw.call(1, &DescribeClientQuotasRequest::default()).expect("an answer").error_code],
        49 => {
            let entity = aq::EntityData::default().with_entity_type(text("client-id")).with_entity_name(Some(text("c")));
            let entry = aq::EntryData::default().with_entity(vec![entity]);
            let told = raw.call(1, &AlterClientQuotasRequest::default().with_entries(vec![entry])).expect("an answer");
            told.entries.iter().map(|e| e.error_code).collect()
        }
        50 => vec![raw.call(0, &DescribeUserScramCredentialsRequest::default().with_users(None)).expect("an answer").error_code],
        51 => {
            let kept = au::ScramCredentialUpsertion::default().with_name(text("u")).with_mechanism(1).with_iterations(4_096);
            let kept = kept.with_salt(Bytes::from_static(b"salt")).with_salted_password(Bytes::from_static(&[7; 32]));
            let told = raw.call(0, &AlterUserScramCredentialsRequest::default().with_upsertions(vec![kept])).expect("an answer");
            told.results.iter().map(|r| r.error_code).collect()
        }
        74 => vec![raw.call(1, &ListConfigResourcesRequest::default()).expect("an answer").error_code],
        key => panic!("API {key} is advertised, and nobody has written here what it needs"),
    }
}

/// What is expected of [`told`].
fn refusal(key: i16) -> &'static [i16] {
    match key {
        0..=2 | 19..=21 | 23 | 37 | 61 | 75 => &[TOPIC],
        // The second one is not made.
        3 => &[TOPIC, TOPIC],
        8..=15 | 42 | 47 | 68 | 69 => &[GROUP],
        22 => &[CLUSTER, TRANSACTIONAL_ID],
        24..=26 | 28 | 65 => &[TRANSACTIONAL_ID],
        27 | 29..=31 | 35 | 45 | 46 | 48..=51 | 74 => &[CLUSTER],
        32 | 33 | 44 => &[TOPIC, CLUSTER],
        43 => &[CLUSTER, CLUSTER],
        // There is nothing that may be seen, or nothing that is needed.
        _ => &[],
    }
}

/// Every API that is advertised, whatever comes to be one, on a node without any ACL; and our own requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_acl_nothing_may_be_done_by_any_api() {
    let node = node(&["t"], Vec::new()).await;
    let mut raw = Raw::connect(&node.address());
    let asked = ApiVersionsRequest::default().with_client_software_name(text("tests")).with_client_software_version(text("1"));
    let advertised = raw.call(3, &asked).expect("an answer").api_keys;
    assert!(advertised.len() > 40, "{advertised:?}");
    for api in advertised {
        assert_eq!(told(&mut raw, api.api_key), refusal(api.api_key), "API {}", api.api_key);
    }
    let client = client(&node).await;
    let admin = client.admin();
    let refused = [
        admin.create_topic(NewTopic::new("new")).await.map(drop).expect_err("it may not be made"),
        admin.list_quotas().await.map(drop).expect_err("they may not be seen"),
        admin.list_users().await.map(drop).expect_err("they may not be seen"),
        admin.delete_group("g").await.expect_err("it may not be deleted"),
        admin.positions("g").await.map(drop).expect_err("they may not be seen"),
        admin.describe_cluster().await.map(drop).expect_err("it may not be seen"),
        admin.rebalance(true).await.map(drop).expect_err("it may not be done"),
    ];
    for error in refused {
        assert_eq!(error.code(), Some(Code::Forbidden), "{error}");
    }
    assert!(admin.list_topics(false).await.expect("nothing is told").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_forbidden_by_its_id_too() {
    const DESCRIBE: i8 = 8;
    let node = node(&["seen"], vec![acl(2, "seen", false, DESCRIBE, true)]).await;
    ids::one_that_is_forbidden(&node.address(), "seen");
}

/// What ACLs let is done, by both protocols, and what one of them forbids is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acls_let_and_forbid() {
    let acls = vec![
        acl(2, "in-", true, 4, true),
        acl(2, "in-secret", false, 2, false),
        acl(2, "out", false, 3, true),
        acl(3, "g", false, 3, true),
        acl(5, "tx", false, 4, true),
    ];
    let node = node(&["in-one", "in-secret", "out"], acls).await;
    let mut raw = Raw::connect(&node.address());
    let all = raw.call(9, &MetadataRequest::default().with_topics(None)).expect("an answer");
    let names: Vec<&str> = all.topics.iter().filter_map(|t| t.name.as_ref().map(|name| name.as_str())).collect();
    assert_eq!(names, ["in-one", "out"], "who may write or read may look");
    let data = |name| {
        let data = p::PartitionProduceData::default().with_records(Some(batch()));
        p::TopicProduceData::default().with_name(topic(name)).with_partition_data(vec![data])
    };
    let asked = ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000);
    let told = raw.call(9, &asked.with_topic_data(vec![data("in-secret"), data("in-one"), data("out")])).expect("an answer");
    let codes: Vec<i16> = told.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code).collect();
    assert_eq!(codes, [TOPIC, 0, TOPIC]);
    let part = |name| f::FetchTopic::default().with_topic(topic(name)).with_partitions(vec![f::FetchPartition::default()]);
    let asked = FetchRequest::default().with_max_bytes(1_000).with_topics(vec![part("in-one"), part("out"), part("in-secret")]);
    let told = raw.call(12, &asked).expect("an answer");
    let codes: Vec<i16> = told.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    assert_eq!(codes, [TOPIC, 0, TOPIC]);
    // A transaction may write where its producer may, and all of it or nothing comes into it.
    let asked = InitProducerIdRequest::default().with_transactional_id(Some(id("tx"))).with_transaction_timeout_ms(60_000);
    let begun = raw.call(4, &asked).expect("an answer");
    assert_eq!(begun.error_code, 0);
    let mut add = |names: &[&str]| {
        let some = |name: &&str| ap::AddPartitionsToTxnTopic::default().with_name(topic(name)).with_partitions(vec![0]);
        let asked = AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(id("tx"));
        let asked = asked.with_v3_and_below_producer_id(begun.producer_id).with_v3_and_below_producer_epoch(begun.producer_epoch);
        let told = raw.call(3, &asked.with_v3_and_below_topics(names.iter().map(some).collect())).expect("an answer");
        let each = told.results_by_topic_v3_and_below.iter().flat_map(|t| &t.results_by_partition);
        each.map(|p| p.partition_error_code).collect::<Vec<_>>()
    };
    const NOT_ATTEMPTED: i16 = 55;
    assert_eq!(add(&["in-one", "out"]), [NOT_ATTEMPTED, TOPIC]);
    assert_eq!(add(&["in-one"]), [0]);
    // Our own protocol goes by the same ACLs.
    let client = client(&node).await;
    let producer = client.producer().build().await.expect("an id may be had");
    producer.send(ProducerRecord::to("in-one").value(b"another")).await.expect("sent").await.expect("it may be written");
    let listed: Vec<String> = client.admin().list_topics(false).await.expect("listed").into_iter().map(|t| t.name).collect();
    assert_eq!(listed, ["in-one", "out"]);
    let refused = client.admin().delete_topic("in-one", false).await.expect_err("it may not be deleted");
    assert_eq!(refused.code(), Some(Code::Forbidden), "{refused}");
    assert!(client.admin().positions("g").await.expect("they may be seen").is_empty());
}
