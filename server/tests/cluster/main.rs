//! Several real nodes that make a cluster: processes, their disks, and what happens when some of them go.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes, in real time")]

mod damage;
mod member;
#[path = "../native/node.rs"]
mod node;

use millpond_client::{
    Client, Code, Consumer, NewTopic, OffsetReset, Producer, ProducerRecord,
    messages::{DescribeClusterReply, NodeChange, TopicInfo},
};
use node::Node;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

fn cluster(nodes: usize) -> Vec<Node> {
    let mut all = vec![Node::start()];
    while all.len() < nodes {
        let next = Node::join(&all[0]);
        all.push(next);
    }
    all
}

async fn client(nodes: &[Node]) -> Client {
    let all: Vec<String> = nodes.iter().map(Node::address).collect();
    let builder = Client::builder().bootstrap(&all.join(",")).client_id("tests").request_timeout(Duration::from_secs(10));
    builder.connect().await.expect("one serves")
}

/// Waits until something holds.
async fn until<T, F: Future<Output = Result<T, String>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(why) => assert!(Instant::now() < end, "{what}: not in time: {why}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until all nodes that the cluster knows are up, and all partitions are led and have their replicas.
async fn whole(client: &Client, nodes: usize) -> DescribeClusterReply {
    until("the cluster is whole", || async {
        let is = client.admin().describe_cluster().await.map_err(|e| e.to_string())?;
        let well = is.nodes.len() == nodes && is.nodes.iter().all(|n| n.up) && is.leaderless.is_empty() && is.under_replicated.is_empty();
        if well { Ok(is) } else { Err(format!("{is:?}")) }
    })
    .await
}

/// The same, and every node has a replica of everything.
async fn everywhere(client: &Client, nodes: usize) -> DescribeClusterReply {
    until("every node has a replica of everything", || async {
        let is = whole(client, nodes).await;
        if is.nodes.iter().all(|n| n.replicas == is.partitions) { Ok(is) } else { Err(format!("{is:?}")) }
    })
    .await
}

async fn topic(client: &Client, name: &str) -> (TopicInfo, Vec<u64>) {
    let (topic, endpoints) = client.admin().describe_topic(name).await.expect("it is there");
    let leaders = topic.partitions.iter().map(|p| endpoints[p.endpoint as usize].node_id).collect();
    (topic, leaders)
}

/// The values of all partitions of a topic, as numbers; a partition's offsets have no holes.
async fn numbers(client: &Client, name: &str) -> Vec<u64> {
    let mut replay = client.replay(name).records().await.expect("begun");
    let (mut all, mut next) = (Vec::new(), BTreeMap::<u32, u64>::new());
    while let Some(record) = replay.next().await {
        let record = record.expect("read");
        let next = next.entry(record.partition).or_default();
        assert_eq!(record.offset(), *next, "partition {}", record.partition);
        *next += 1;
        all.push(std::str::from_utf8(record.value().expect("a value")).expect("text").parse().expect("a number"));
    }
    all
}

async fn send(producer: &Producer, name: &str, numbers: impl Iterator<Item = u64>) {
    for n in numbers {
        producer.send(ProducerRecord::to(name).key(n.to_string().as_bytes()).value(n.to_string().as_bytes())).await.expect("handed over");
    }
}

/// Each of these once.
fn exactly(mut found: Vec<u64>, count: u64) {
    found.sort_unstable();
    assert_eq!(found.len() as u64, count, "some are missing or there twice");
    assert!(found.iter().copied().eq(0..count), "others are there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_are_one_to_their_clients() {
    let nodes = cluster(3);
    // Whoever is asked first passes on what it cannot answer.
    let mut all_leaders = BTreeSet::new();
    for (n, node) in nodes.iter().enumerate() {
        let client = client(std::slice::from_ref(node)).await;
        let name = format!("t{n}");
        client.admin().create_topic(NewTopic::new(&name).partitions(4)).await.expect("created");
        let (made, leaders) = topic(&client, &name).await;
        assert!(made.partitions.iter().all(|p| p.replicas.len() == 3), "{made:?}");
        all_leaders.extend(leaders);
        let producer = client.producer().build().await.expect("built");
        send(&producer, &name, 0..2_000).await;
        producer.close().await.expect("delivered");
    }
    assert_eq!(all_leaders.len(), 3, "leaders are spread: {all_leaders:?}");
    let last = client(&nodes[2..]).await;
    for name in ["t0", "t1", "t2"] {
        exactly(numbers(&last, name).await, 2_000);
    }
    // The system's own topics have got their replicas meanwhile.
    assert!(everywhere(&last, 3).await.partitions >= 13);
    // A group's positions are the same wherever they are asked for.
    let first = client(&nodes[..1]).await;
    let mut consumer: Consumer =
        first.consumer().group("g").topics(["t0"]).offset_reset(OffsetReset::Earliest).build().await.expect("built");
    for _ in 0..500 {
        consumer.next().await.expect("not the end").expect("read");
    }
    consumer.commit().await.expect("kept");
    consumer.close().await.expect("left");
    let positions = |client: Client| async move {
        let is = client.admin().describe_group("g").await.expect("it is there");
        is.positions.iter().filter_map(|p| p.position.as_ref()).map(|p| p.offset).sum::<u64>()
    };
    assert_eq!((positions(first).await, positions(last.clone()).await), (500, 500));
    assert_eq!(last.admin().list_groups().await.expect("listed").len(), 1);
    let refused = last.admin().create_topic(NewTopic::new("many").replication(4)).await.expect_err("there are three nodes");
    assert_eq!(refused.code(), Some(Code::InvalidArgument), "{refused}");
}

/// Each node in turn is killed while records pour in: each record is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_nodes_cost_a_pause_and_nothing_else() {
    let mut nodes = cluster(3);
    let client = client(&nodes).await;
    client.admin().create_topic(NewTopic::new("t").partitions(6)).await.expect("created");
    whole(&client, 3).await;
    let producer = client.producer().batch_bytes(2 * 1024).build().await.expect("built");
    let mut sent = 0;
    for turn in 0..6 {
        send(&producer, "t", sent..sent + 3_000).await;
        sent += 3_000;
        nodes[turn % 3].kill();
        send(&producer, "t", sent..sent + 3_000).await;
        sent += 3_000;
        producer.flush().await.expect("two of three are enough");
        nodes[turn % 3].serve();
        whole(&client, 3).await;
    }
    producer.close().await.expect("delivered");
    exactly(numbers(&client, "t").await, sent);
}

/// All nodes at once, as when the power goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_comes_back_as_a_whole() {
    let mut nodes = cluster(3);
    let client = client(&nodes).await;
    client.admin().create_topic(NewTopic::new("t").partitions(3)).await.expect("created");
    let producer = client.producer().build().await.expect("built");
    send(&producer, "t", 0..5_000).await;
    producer.flush().await.expect("delivered");
    nodes.iter_mut().for_each(Node::kill);
    // None of them can wait for the others before it has started.
    std::thread::scope(|all| nodes.iter_mut().for_each(|node| drop(all.spawn(|| node.serve()))));
    whole(&client, 3).await;
    send(&producer, "t", 5_000..6_000).await;
    producer.close().await.expect("delivered");
    exactly(numbers(&client, "t").await, 6_000);
}

/// A node that was alone gets company, leaves, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_grows_into_a_cluster_and_leaves_it() {
    let mut nodes = vec![Node::start()];
    let alone = client(&nodes).await;
    alone.admin().create_topic(NewTopic::new("t").partitions(4)).await.expect("created");
    let producer = alone.producer().build().await.expect("built");
    send(&producer, "t", 0..4_000).await;
    producer.close().await.expect("delivered");
    assert!(topic(&alone, "t").await.0.partitions.iter().all(|p| p.replicas.is_empty()), "there is nobody else");
    for _ in 0..3 {
        let next = Node::join(&nodes[0]);
        nodes.push(next);
    }
    let client = client(&nodes).await;
    let producer = client.producer().build().await.expect("built");
    client.admin().replicate_topic("t", 3).await.expect("there are four nodes");
    send(&producer, "t", 4_000..8_000).await;
    whole(&client, 4).await;
    assert!(topic(&client, "t").await.0.partitions.iter().all(|p| p.replicas.len() == 3));
    // The one that founded the cluster goes, with all that it has.
    client.admin().alter_node(1, NodeChange::Leave).await.expect("there are three others");
    send(&producer, "t", 8_000..12_000).await;
    until("its replicas go elsewhere", || async {
        let is = client.admin().describe_cluster().await.map_err(|e| e.to_string())?;
        let first = is.nodes.iter().find(|n| n.node.as_ref().is_some_and(|n| n.node_id == 1)).ok_or("it is there")?;
        if first.replicas == 0 { Ok(()) } else { Err(format!("{is:?}")) }
    })
    .await;
    client.admin().alter_node(1, NodeChange::Remove).await.expect("it has nothing any more");
    nodes[0].kill();
    let is = whole(&client, 3).await;
    assert!(is.nodes.iter().all(|n| n.replicas == is.partitions), "{is:?}");
    send(&producer, "t", 12_000..13_000).await;
    producer.close().await.expect("delivered");
    exactly(numbers(&client, "t").await, 13_000);
}

/// New replicas get a snapshot where the log begins later than it once did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_is_not_needed_for_new_replicas() {
    let mut nodes = vec![Node::start()];
    let alone = client(&nodes).await;
    alone.admin().create_topic(NewTopic::new("t").partitions(2)).await.expect("created");
    let producer = alone.producer().batch_bytes(4 * 1024).build().await.expect("built");
    send(&producer, "t", 0..20_000).await;
    producer.close().await.expect("delivered");
    for partition in 0..2 {
        alone.admin().delete_records("t", partition, 6_000).await.expect("deleted");
    }
    let read = |client: Client| async move {
        let mut replay = client.replay("t").records().await.expect("begun");
        let mut all = BTreeSet::new();
        while let Some(record) = replay.next().await {
            let record = record.expect("read");
            assert!(all.insert((record.partition, record.offset(), record.value().map(|value| value.to_vec()))));
        }
        all
    };
    let before = read(alone.clone()).await;
    assert!(before.len() < 20_000 && before.iter().all(|(_, offset, _)| *offset >= 6_000));
    for _ in 0..2 {
        let next = Node::join(&nodes[0]);
        nodes.push(next);
    }
    let client = client(&nodes).await;
    client.admin().replicate_topic("t", 3).await.expect("there are three nodes");
    until("every node has a replica of everything", || async {
        let is = whole(&client, 3).await;
        if is.nodes.iter().all(|n| n.replicas == is.partitions) { Ok(()) } else { Err(format!("{is:?}")) }
    })
    .await;
    nodes[0].kill();
    assert!(read(client).await == before, "the others have something else");
}

/// One node after the other is stopped and started while records pour in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_is_not_noticed() {
    let mut nodes = cluster(3);
    let client = client(&nodes).await;
    client.admin().create_topic(NewTopic::new("t").partitions(6)).await.expect("created");
    whole(&client, 3).await;
    let producer = client.producer().build().await.expect("built");
    let mut sent = 0;
    for (n, node) in nodes.iter_mut().enumerate() {
        let id = n as u64 + 1;
        client.admin().alter_node(id, NodeChange::Drain).await.expect("there are two others");
        until("it leads nothing", || async {
            let is = client.admin().describe_cluster().await.map_err(|e| e.to_string())?;
            let leads = is.nodes.iter().find(|n| n.node.as_ref().is_some_and(|n| n.node_id == id)).map(|n| n.leads_with_others);
            if leads == Some(0) { Ok(()) } else { Err(format!("{is:?}")) }
        })
        .await;
        until("everybody knows", || async {
            let leaders = topic(&client, "t").await.1;
            if leaders.contains(&id) { Err(format!("{leaders:?}")) } else { Ok(()) }
        })
        .await;
        send(&producer, "t", sent..sent + 1_000).await;
        node.stop();
        send(&producer, "t", sent + 1_000..sent + 2_000).await;
        producer.flush().await.expect("delivered");
        node.serve();
        sent += 2_000;
        let is = whole(&client, 3).await;
        assert!(is.nodes.iter().all(|n| n.node.as_ref().is_some_and(|n| n.state == "in")), "a start undoes it: {is:?}");
    }
    producer.close().await.expect("delivered");
    exactly(numbers(&client, "t").await, sent);
}

/// A catalog that has come about over time reaches a new node in pieces: before the last of them it is not known there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_a_cluster_with_a_long_history() {
    let mut nodes = cluster(3);
    let client = client(&nodes).await;
    // More than goes into one message.
    for n in 0..80 {
        client.admin().create_topic(NewTopic::new(format!("t{n}")).partitions(200)).await.expect("created");
        client.admin().delete_topic(&format!("t{n}"), false).await.expect("deleted");
    }
    nodes.push(Node::join(&nodes[0]));
    let last = nodes.last().expect("four");
    assert!(!last.said().contains("taken out") && !last.said().contains("does not know what its cluster knows"), "{}", last.said());
    whole(&client, 4).await;
}

/// A node is lost with its disk, and another one takes its place by being started: with its replicas, and in its stead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_is_replaced_by_one_command() {
    let mut nodes = cluster(3);
    let client = client(&nodes).await;
    client.admin().create_topic(NewTopic::new("t").partitions(6)).await.expect("created");
    everywhere(&client, 3).await;
    let producer = client.producer().build().await.expect("built");
    send(&producer, "t", 0..5_000).await;
    let mut new = Node::replacing(&nodes[0], 2);
    new.launch();
    until("one that is up is not replaced", || async {
        let said = new.said();
        if said.contains("node 2 is up") { Ok(()) } else { Err(said) }
    })
    .await;
    nodes[1].kill();
    send(&producer, "t", 5_000..10_000).await;
    producer.flush().await.expect("two of three are enough");
    new.kill();
    new.serve();
    nodes[1] = new;
    send(&producer, "t", 10_000..15_000).await;
    until("the other one is forgotten", || async {
        let is = whole(&client, 3).await;
        let ids: Vec<u64> = is.nodes.iter().filter_map(|n| Some(n.node.as_ref()?.node_id)).collect();
        if ids == [1, 3, 4] { Ok(()) } else { Err(format!("{ids:?}")) }
    })
    .await;
    // It has what the lost one had.
    everywhere(&client, 3).await;
    producer.close().await.expect("delivered");
    exactly(numbers(&client, "t").await, 15_000);
}

/// One that waits to be taken in has not served yet, and stops when it is asked to as any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_for_its_cluster_stops_when_it_is_asked_to() {
    // Nobody listens there: it has been started and has ended.
    let mut gone = Node::start();
    gone.kill();
    let mut node = Node::new(Some(gone.address()), None);
    node.launch();
    until("it waits", || async {
        let said = node.said();
        if said.contains("has not taken us in yet") { Ok(()) } else { Err(said) }
    })
    .await;
    node.stop();
    assert!(!node.said().contains("panicked"), "{}", node.said());
}

/// A disk of another cluster, or a node that was taken out, is not taken in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    let mut nodes = cluster(2);
    let client = client(&nodes).await;
    whole(&client, 2).await;
    client.admin().alter_node(9, NodeChange::Drain).await.expect_err("there is no such node");
    until("both have replicas", || async {
        let is = client.admin().describe_cluster().await.map_err(|e| e.to_string())?;
        if is.nodes.iter().all(|n| n.replicas > 0) { Ok(()) } else { Err(format!("{is:?}")) }
    })
    .await;
    let refused = client.admin().alter_node(2, NodeChange::Remove).await.expect_err("it has replicas");
    assert_eq!(refused.code(), Some(Code::InvalidArgument), "{refused}");
    client.admin().alter_node(2, NodeChange::Leave).await.expect("known");
    until("it has nothing", || async { client.admin().alter_node(2, NodeChange::Remove).await.map_err(|e| e.to_string()) }).await;
    let mut gone = nodes.pop().expect("two");
    gone.kill();
    gone.launch();
    until("it says that it was taken out", || async {
        let said = gone.said();
        if said.contains("taken out of its cluster") { Ok(()) } else { Err(said) }
    })
    .await;
}

/// A disk as it was before a later start is refused, by a node's own log and by its cluster; so is one whose journals are gone. With the disk that the cluster
/// knows the node goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_was_put_back_is_refused() {
    let mut nodes = cluster(3);
    let client = client(&nodes[..1]).await;
    whole(&client, 3).await;
    let node = &mut nodes[2];
    let (data, old, new) = (node.data(), node.data().with_extension("old"), node.data().with_extension("new"));
    node.stop();
    let copied = std::process::Command::new("cp").arg("-r").args([&data, &old]).status();
    assert!(copied.expect("cp is there").success());
    node.serve();
    whole(&client, 3).await;
    node.stop();
    let refused = |node: &mut Node, why: &'static str| {
        node.launch();
        let status = node.child.take().expect("it was started").wait().expect("it ends by itself");
        assert!(!status.success() && node.said().contains(why), "{status}: {}", node.said());
    };
    // Both disks were started once more after the copy was made: they have counted as far, and are not the same.
    std::fs::rename(&data, &new).expect("renamed");
    std::fs::rename(&old, &data).expect("renamed");
    refused(node, "older than what its cluster knows");
    // Its own catalog knows better than the count of its disk.
    std::fs::remove_dir_all(&data).expect("removed");
    std::fs::rename(&new, &data).expect("renamed");
    let age = std::fs::read(data.join("age")).expect("there");
    std::fs::remove_file(data.join("age")).expect("removed");
    refused(node, "older than what its cluster knows");
    std::fs::write(data.join("age"), age).expect("written");
    node.serve();
    whole(&client, 3).await;
    node.stop();
    for home in std::fs::read_dir(&data).expect("there").map(|entry| entry.expect("read").path()).filter(|path| path.is_dir()) {
        std::fs::remove_dir_all(home).expect("removed");
    }
    refused(node, "its journals are gone");
}

/// A client that stands somewhere reads history from the replicas there, and from leaders once these are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_read_from_the_own_rack() {
    let mut nodes = vec![Node::standing("a", None)];
    for rack in ["b", "c"] {
        let seed = nodes[0].address();
        nodes.push(Node::standing(rack, Some(seed)));
    }
    let outside = client(&nodes[..1]).await;
    whole(&outside, 3).await;
    outside.admin().create_topic(NewTopic::new("t").partitions(9).replication(3)).await.expect("created");
    let producer = outside.producer().build().await.expect("built");
    send(&producer, "t", 0..20_000).await;
    producer.close().await.expect("delivered");
    let all: Vec<String> = nodes.iter().map(Node::address).collect();
    let beside = Client::builder().bootstrap(&all.join(",")).rack("c").connect().await.expect("one serves");
    let is = beside.metadata(&["t"]).await.expect("told");
    for partition in &is.topics[0].partitions {
        let leader = is.endpoints[partition.endpoint as usize].node_id;
        let near = partition.near.map(|at| is.endpoints[at as usize].clone());
        assert_eq!(near.as_ref().map(|at| at.node_id), Some(3).filter(|_| leader != 3), "{partition:?}");
        assert!(near.is_none_or(|at| at.core == is.endpoints[partition.endpoint as usize].core), "homes of one number");
    }
    let near = is.topics[0].partitions.iter().filter(|p| p.near.is_some()).count();
    assert!(near > 0, "others lead something");
    exactly(numbers(&beside, "t").await, 20_000);
    let mut replay = beside.replay("t").fetch_bytes(64 << 10).buffer_bytes(128 << 10).records().await.expect("begun");
    let mut found = Vec::new();
    while let Some(record) = replay.next().await {
        let record = record.expect("read");
        found.push(std::str::from_utf8(record.value().expect("a value")).expect("text").parse().expect("a number"));
        if found.len() == 5_000 {
            nodes[2].kill();
        }
    }
    exactly(found, 20_000);
}

/// Two of three disks are lost: nobody leads any more, until the third one is told to make do with what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_disk_has_can_be_recovered() {
    let mut nodes = cluster(3);
    {
        let client = client(&nodes).await;
        whole(&client, 3).await;
        client.admin().create_topic(NewTopic::new("t").partitions(4).replication(3)).await.expect("created");
        let producer = client.producer().build().await.expect("built");
        send(&producer, "t", 0..2_000).await;
        producer.close().await.expect("delivered");
        everywhere(&client, 3).await;
    }
    nodes.iter_mut().for_each(Node::kill);
    let mut left = nodes.pop().expect("three");
    drop(nodes);
    let recover = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_millpond"));
        let out = command.args(["node", "recover", "--json", "--data"]).arg(left.data()).args(args).output().expect("it runs");
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
    };
    let (well, looked) = recover(&[]);
    assert!(well && looked.contains(r#""topic":"t""#) && !looked.contains(r#""recovered":true"#), "{looked}");
    let (well, refused) = recover(&["--unclean"]);
    assert!(!well && refused.contains("which partitions"), "{refused}");
    let (well, refused) = recover(&["--partition", "t/9", "--unclean"]);
    assert!(!well && refused.contains("no replica of t/9"), "{refused}");
    let (well, recovered) = recover(&["--all", "--unclean"]);
    assert!(well && recovered.contains(r#""recovered":true"#) && !recovered.contains(r#""recovered":false"#), "{recovered}");
    left.serve();
    let client = client(std::slice::from_ref(&left)).await;
    until("what it had is there", || async {
        let found = client.replay("t").records().await.map_err(|e| e.to_string());
        drop(found?);
        Ok(())
    })
    .await;
    exactly(numbers(&client, "t").await, 2_000);
    let producer = client.producer().build().await.expect("built");
    send(&producer, "t", 2_000..2_100).await;
    producer.close().await.expect("delivered");
    let more = Node::join(&left);
    // Both at once: replicas would wait for the other one.
    for lost in [1, 2] {
        client.admin().alter_node(lost, NodeChange::Leave).await.expect("known");
    }
    for lost in [1, 2] {
        until("it has nothing", || async { client.admin().alter_node(lost, NodeChange::Remove).await.map_err(|e| e.to_string()) }).await;
    }
    everywhere(&client, 2).await;
    // The new one counts on nobody who is lost.
    client.admin().alter_node(3, NodeChange::Drain).await.expect("known");
    until("the other one leads everything", || async {
        let is = whole(&client, 2).await;
        if is.nodes.iter().any(|n| n.leads == is.partitions) { Ok(()) } else { Err(format!("{is:?}")) }
    })
    .await;
    let producer = client.producer().build().await.expect("built");
    send(&producer, "t", 2_100..2_200).await;
    producer.close().await.expect("delivered");
    exactly(numbers(&client, "t").await, 2_200);
    drop(more);
}
