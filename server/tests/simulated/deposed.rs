//! A leader that was stuck while the others chose another one, and is asked before it has heard of that. What it knows is old: it may send whoever asks elsewhere,
//! or have it ask again, but refuse nothing for good, nor say that all is done already.

use crate::{
    ask::{Trouble, ask},
    book::TOPIC,
    clients::{Client, batch},
    nodes::{CLIENTS, Nodes, is_whole},
    schedule::Schedule,
};
use millpond_batch::Producer;
use millpond_runtime::{CoreId, NodeId, Rt, sim::SimRt};
use millpond_wire::messages::{
    Code, CreateTopic, DeleteTopic, DescribeCluster, DescribeClusterReply, DescribeGroup, DescribeGroupReply, Done, Failure, Fetch,
    FetchPartition, FetchReply, FetchedPartition, GroupHeartbeat, GroupHeartbeatReply, Kind, NodeHealth, Produce, ProduceBatch,
    ProduceReply, TopicReply,
};
use std::{net::SocketAddr, rc::Rc, time::Duration};

/// For how long it is stuck: long enough for the others to choose another leader, and to take what they are asked for.
const STUCK: Duration = Duration::from_secs(60);

impl Nodes {
    fn ask_all<T: 'static, F: Future<Output = T> + 'static>(&self, asks: impl FnOnce(Client) -> F + 'static) -> T {
        let (book, at) = (Rc::clone(&self.book), self.book.servers[0]);
        self.sim.block_on(CLIENTS, move |rt| async move { asks(Client::of(&rt, &book, at)).await }).unwrap()
    }

    /// Has a node stuck, and cut off from the others, while these do something; and then ask it.
    fn depose<T: 'static, F: Future<Output = ()> + 'static, A: Future<Output = T> + 'static>(
        &self,
        at: SocketAddr,
        meanwhile: impl FnOnce(Client) -> F + 'static,
        then: impl FnOnce(SimRt) -> A + 'static,
    ) -> T {
        let is_at = |node: &&NodeId| self.sim.node(**node).addr(at.port()) == at;
        let node = *self.schedule.nodes.iter().find(is_at).unwrap();
        for other in self.schedule.nodes.iter().filter(|other| **other != node) {
            self.sim.cut(node, *other);
            self.sim.cut(*other, node);
        }
        self.sim.node(node).pause(CoreId(0), STUCK);
        self.ask_all(move |client| async move {
            let until = client.rt.mono() + STUCK.as_nanos() as u64;
            let rt = client.rt.clone();
            meanwhile(client).await;
            let left = until.checked_sub(rt.mono()).expect("the others were too slow");
            rt.sleep(Duration::from_nanos(left + 1)).await;
            then(rt).await
        })
    }
}

fn cluster(seed: u64) -> Nodes {
    let nodes = (1..=3).map(NodeId).collect();
    let cluster = Nodes::found(&Schedule { nodes, cores: 1, partitions: 1, leases: false, steps: Vec::new(), ..Schedule::draw(seed) });
    let everywhere = |node: &NodeHealth, partitions| node.up && node.replicas == partitions;
    let grown =
        move |health: &DescribeClusterReply| is_whole(health) && health.nodes.iter().all(|node| everywhere(node, health.partitions));
    cluster.wait_for("all nodes have all partitions", grown);
    cluster
}

fn producer(base_sequence: i32) -> Producer {
    Producer { id: 1, epoch: 0, base_sequence }
}

/// Appends a batch; where.
async fn produce(client: &Client, sequence: i32) -> SocketAddr {
    let batch = batch(sequence as u64, Some(producer(sequence)));
    while let Err(trouble) = client.produce(0, &batch).await {
        client.again(trouble).await;
    }
    client.knows().unwrap()
}

/// A cluster after the other, whose old leaders are asked: they are sure of nothing.
fn for_seeds(ask_old_leader: impl Fn(Nodes) -> Vec<Failure>) {
    let said: Vec<Failure> = (0..4).map(cluster).flat_map(ask_old_leader).collect();
    // Either the others do not answer whether it leads, or it has missed them by then.
    let is_uncertain = |failure: &Failure| [Code::Unavailable, Code::NotOwner].contains(&failure.code());
    assert!(said.iter().all(is_uncertain), "{said:?}");
    let believed = said.iter().any(|failure| failure.code() == Code::Unavailable);
    assert!(believed, "none believed that it leads, the test has gone blind: {said:?}");
}

fn refused<T: std::fmt::Debug>(asked: Result<T, Trouble>) -> Failure {
    match asked {
        Err(Trouble::Refused(failure)) => failure,
        other => panic!("an old leader says {other:?}"),
    }
}

#[test]
fn a_batch_that_follows_those_of_another_leader() {
    for_seeds(|nodes| {
        let leader = nodes.ask_all(|client| async move { produce(&client, 0).await });
        let meanwhile = |client: Client| async move {
            for sequence in 1..4 {
                produce(&client, sequence).await;
            }
        };
        let said = nodes.depose(leader, meanwhile, move |rt| async move {
            let batch = batch(4, Some(producer(4)));
            let batches = vec![ProduceBatch { topic: TOPIC.into(), partition: 0, len: batch.len() as u32 }];
            let (reply, _): (ProduceReply, _) = ask(&rt, leader, Kind::Produce, &Produce { batches, acks: 0 }, &batch).await.unwrap();
            reply.results.into_iter().next().unwrap()
        });
        vec![said.failure.expect("a batch with a gap before it is taken")]
    });
}

/// What a node says to a reader that has read up to an offset, and at its end in an epoch that began long after.
async fn fetch(rt: &SimRt, at: SocketAddr, offset: u64, any_replica: bool) -> FetchedPartition {
    let part = FetchPartition { offset, last_epoch: Some(1_000), bytes_max: 1_000, topic: TOPIC.into(), ..FetchPartition::default() };
    let request = Fetch { partitions: vec![part], bytes_max: 1_000, any_replica, ..Fetch::default() };
    let (reply, _): (FetchReply, _) = ask(rt, at, Kind::Fetch, &request, &[]).await.unwrap();
    reply.partitions.into_iter().next().unwrap()
}

#[test]
fn readers_that_have_read_more_at_another_leader() {
    for_seeds(|nodes| {
        let leader = nodes.ask_all(|client| async move { produce(&client, 0).await });
        let meanwhile = |client: Client| async move {
            produce(&client, 1).await;
        };
        let said = nodes.depose(leader, meanwhile, move |rt| async move { fetch(&rt, leader, 2, false).await });
        assert_eq!(said.diverging, None, "what it has not heard of is no other record");
        vec![said.failure.expect("it knows nothing of the next record")]
    });
}

/// Nor does a follower that is behind take what it does not have for another record.
#[test]
fn readers_that_have_read_more_than_a_follower_has() {
    for nodes in (0..4).map(cluster) {
        let leader = nodes.ask_all(|client| async move { produce(&client, 0).await });
        let follower = *nodes.book.servers.iter().find(|at| **at != leader).unwrap();
        let meanwhile = |client: Client| async move {
            produce(&client, 1).await;
        };
        let said = nodes.depose(follower, meanwhile, move |rt| async move { fetch(&rt, follower, 2, true).await });
        assert_eq!((said.diverging, said.failure, said.len), (None, None, 0));
    }
}

fn beat() -> GroupHeartbeat {
    GroupHeartbeat { group: "group".into(), member_id: "member".into(), topics: vec![TOPIC.into()], ..GroupHeartbeat::default() }
}

/// A member joins; where.
async fn join(client: &Client) -> SocketAddr {
    while let Err(trouble) = client.ask::<GroupHeartbeatReply>(Kind::GroupHeartbeat, &beat(), &[]).await {
        client.again(trouble).await;
    }
    client.knows().unwrap()
}

#[test]
fn members_and_groups_that_another_coordinator_has() {
    for_seeds(|nodes| {
        let coordinator = nodes.ask_all(|client| async move { join(&client).await });
        let meanwhile = |client: Client| async move {
            join(&client).await;
        };
        let said = nodes.depose(coordinator, meanwhile, move |rt| async move {
            // At once: it gives up soon.
            let late = GroupHeartbeat { member_epoch: 40, ..beat() };
            let beaten = ask::<GroupHeartbeatReply>(&rt, coordinator, Kind::GroupHeartbeat, &late, &[]);
            let other = DescribeGroup { group: "group".into() };
            let described = ask::<DescribeGroupReply>(&rt, coordinator, Kind::DescribeGroup, &other, &[]);
            futures_lite::future::zip(beaten, described).await
        });
        vec![refused(said.0), refused(said.1)]
    });
}

#[test]
fn topics_that_another_leader_has_made() {
    for_seeds(|nodes| {
        let leader = nodes.ask_all(|client| async move {
            let (health, _) = client.ask::<DescribeClusterReply>(Kind::DescribeCluster, &DescribeCluster {}, &[]).await.unwrap();
            let mut nodes = health.nodes.into_iter().filter_map(|node| node.node);
            let leader = nodes.find(|node| node.node_id == health.meta_leader).unwrap();
            SocketAddr::new(leader.ip.parse().unwrap(), leader.port as u16)
        });
        let meanwhile = |client: Client| async move {
            let request = CreateTopic { name: "late".into(), partitions: 1, attempt: 7, ..CreateTopic::default() };
            while let Err(trouble) = client.ask::<TopicReply>(Kind::CreateTopic, &request, &[]).await {
                client.again(trouble).await;
            }
        };
        // It must not say that there is no such topic, nor, as whoever asks would have it then, that all is done.
        let delete = DeleteTopic { name: "late".into(), if_exists: true, ..DeleteTopic::default() };
        let deleted =
            nodes.depose(leader, meanwhile, move |rt| async move { ask::<Done>(&rt, leader, Kind::DeleteTopic, &delete, &[]).await });
        vec![refused(deleted)]
    });
}
