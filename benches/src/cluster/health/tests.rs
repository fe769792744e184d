use super::*;
use millpond_wire::messages::{NodeHealth, PartitionInfo, ReplicaInfo, TopicInfo};

fn healthy() -> (DescribeClusterReply, MetadataReply) {
    let nodes = vec![NodeHealth { up: true, ..NodeHealth::default() }; 3];
    let replicas = (1..=3).map(|n| ReplicaInfo { id: n, node_id: n }).collect();
    let partition = PartitionInfo { replicas, ..PartitionInfo::default() };
    let topic = TopicInfo { name: "t".into(), partitions: vec![partition], ..TopicInfo::default() };
    let cluster = DescribeClusterReply { meta_leader: 1, nodes, ..DescribeClusterReply::default() };
    (cluster, MetadataReply { topics: vec![topic], ..MetadataReply::default() })
}

#[test]
fn a_cluster_is_whole_when_nothing_is_missing() {
    let (cluster, metadata) = healthy();
    assert_eq!(missing(&cluster, &metadata, 3), None);
    let gone = || vec![TopicPartitions { topic: "t".into(), partitions: vec![0] }];
    let with = |change: &dyn Fn(&mut DescribeClusterReply, &mut MetadataReply)| {
        let (mut cluster, mut metadata) = healthy();
        change(&mut cluster, &mut metadata);
        missing(&cluster, &metadata, 3).expect("something is missing")
    };
    assert_eq!(with(&|c, _| c.nodes[1].up = false), "2 of 3 nodes are up");
    assert_eq!(with(&|c, _| c.meta_leader = 0), "nobody leads the meta group");
    assert_eq!(with(&|c, _| c.leaderless = gone()), "nobody leads t [0]");
    assert_eq!(with(&|c, _| c.under_replicated = gone()), "replicas are missing or behind: t [0]");
    assert_eq!(with(&|_, m| m.topics[0].partitions[0].replicas.truncate(1)), "t has not got all its replicas");
}
