//! A node is asked to change the catalog, has another one do it, and that one dies before it answers.

use crate::{epochs::NONE, ids::name, node::Node, raw::Raw};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, create_topics_request::CreatableTopic,
    metadata_request::MetadataRequestTopic,
};
use std::{
    process::Command,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);
const TIMEOUT_MS: i32 = 30_000;
const UNKNOWN_TOPIC: i16 = 3;

/// The place in `nodes` of the one that leads the catalog, as `server` knows it. Nodes are counted from 1, in the order in which they came.
fn controller(server: &str) -> usize {
    let told = Raw::connect(server).call(12, &MetadataRequest::default().with_topics(Some(Vec::new()))).expect("an answer");
    told.controller_id.0 as usize - 1
}

fn create(server: &str, topic: &'static str) -> i16 {
    let topic = CreatableTopic::default().with_name(name(topic)).with_num_partitions(1).with_replication_factor(3);
    let asked = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    Raw::connect(server).call(7, &asked).expect("an answer").topics[0].error_code
}

fn delete(server: &str, topic: &'static str) -> i16 {
    let asked = DeleteTopicsRequest::default().with_topic_names(vec![name(topic)]).with_timeout_ms(TIMEOUT_MS);
    Raw::connect(server).call(5, &asked).expect("an answer").responses[0].error_code
}

fn is_there(server: &str, topic: &'static str) -> bool {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let asked = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
    Raw::connect(server).call(12, &asked).expect("an answer").topics[0].error_code != UNKNOWN_TOPIC
}

/// Stops a node where it is: it neither ends nor answers.
fn pause(node: &Node) {
    let child = node.child.as_ref().expect("it runs");
    let asked = Command::new("kill").args(["-STOP", &child.id().to_string()]).status();
    assert!(asked.expect("kill is there").success());
}

/// What a node has asked the leader of the catalog for is done in the end, and whoever asked the node is not told of any doubt.
pub(crate) fn a_leader_that_dies_leaves_no_doubt(mut nodes: Vec<Node>, servers: &[String]) {
    assert_eq!(create(&servers[0], "old"), NONE);
    let leader = controller(&servers[0]);
    let other = &servers[(leader + 1) % servers.len()];
    assert!(is_there(other, "old"));
    pause(&nodes[leader]);
    let asked = [("new", create as fn(&str, &'static str) -> i16), ("old", delete)].map(|(topic, ask)| {
        let server = other.clone();
        std::thread::spawn(move || ask(&server, topic))
    });
    // It is passed on to the one that does not answer, and waits there while the others elect another one.
    let end = Instant::now() + PATIENCE;
    while controller(other) == leader {
        assert!(Instant::now() < end, "nobody else comes to lead the catalog");
        std::thread::sleep(Duration::from_millis(20));
    }
    nodes[leader].kill();
    assert_eq!(asked.map(|asked| asked.join().expect("an answer")), [NONE; 2]);
    assert!(is_there(other, "new") && !is_there(other, "old"));
}
