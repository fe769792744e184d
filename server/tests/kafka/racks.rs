//! Clients that say where they stand read there (KIP-392).

use crate::{client, node::Node, python, raw::Raw, whole};
use kafka_protocol::{
    messages::{
        BrokerId, FetchRequest, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
    },
    protocol::StrBytes,
};
use millpond_client::{NewTopic, ProducerRecord};

const VERSION: i16 = 11;
const PARTITIONS: u32 = 6;

/// What a broker answers a client of a rack: the broker that it names instead, and bytes of records.
fn fetch(server: &str, rack: &'static str, partition: u32) -> (i16, i32, usize) {
    let wanted = FetchPartition::default().with_partition(partition as i32).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str("near"))).with_partitions(vec![wanted]);
    let request = FetchRequest::default().with_replica_id(BrokerId(-1)).with_max_wait_ms(100).with_min_bytes(1).with_max_bytes(1 << 20);
    let request = request.with_session_epoch(-1).with_topics(vec![topic]).with_rack_id(StrBytes::from_static_str(rack));
    let answer = Raw::connect(server).call(VERSION, &request).expect("an answer");
    let found = &answer.responses[0].partitions[0];
    (found.error_code, found.preferred_read_replica.0, found.records.as_ref().map_or(0, bytes::Bytes::len))
}

/// Leaders elsewhere name the replica in the client's rack, and give others their records; it answers, but only who stands there. Once it is gone, leaders
/// answer, and a client at work reads on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_read_in_their_own_rack_and_go_on_when_that_is_gone() {
    const NOT_LEADER: i16 = 6;
    let mut nodes = vec![Node::standing("a", None)];
    for rack in ["b", "c"] {
        let seed = nodes[0].address();
        nodes.push(Node::standing(rack, Some(seed)));
    }
    let servers: Vec<String> = nodes.iter().map(Node::address).collect();
    let client = client(&nodes[0]).await;
    whole(&client).await;
    client.admin().create_topic(NewTopic::new("near").partitions(PARTITIONS).replication(3)).await.expect("created");
    let producer = client.producer().build().await.expect("built");
    for n in 0..6_000 {
        let text = n.to_string();
        producer.send(ProducerRecord::to("near").key(text.as_bytes()).value(text.as_bytes())).await.expect("sent");
    }
    producer.close().await.expect("delivered");
    whole(&client).await;

    let is = client.metadata(&["near"]).await.expect("told");
    let leads = |p: u32| is.endpoints[is.topics[0].partitions[p as usize].endpoint as usize].node_id;
    let elsewhere: Vec<u32> = (0..PARTITIONS).filter(|p| leads(*p) != 3).collect();
    assert!(elsewhere.len() >= 2, "three nodes lead six partitions");
    for p in elsewhere {
        let leader = &servers[leads(p) as usize - 1];
        assert_eq!(fetch(leader, "c", p), (0, 3, 0), "the leader names the replica in the rack");
        assert!(matches!(fetch(leader, "", p), (0, -1, 1..)) && matches!(fetch(leader, "z", p), (0, -1, 1..)));
        assert!(matches!(fetch(&servers[2], "c", p), (0, -1, 1..)), "it answers who stands there");
        assert_eq!(fetch(&servers[2], "", p).0, NOT_LEADER, "and nobody else");
    }
    python::run_with("rack.py", &[&servers.join(","), "c", "6000"], |_| nodes[2].kill());
}
