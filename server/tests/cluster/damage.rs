//! Disks that change what they were given: a bit in the segments of one node costs nobody anything, and is made good by the others' copies.

use crate::{client, cluster, everywhere, exactly, node::Node, numbers, topic, until, whole};
use millpond_client::{Client, NewTopic, Producer, ProducerRecord, messages::NodeChange};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Segments of a data directory that hold something, of groups that clients have made.
fn segments(data: &Path) -> Vec<PathBuf> {
    let below = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("read").path()).collect::<Vec<_>>();
    let is_of_client = |dir: &Path| dir.file_name().and_then(|name| name.to_str()?.split('.').next()?.parse::<u64>().ok()) > Some(15);
    let groups = below(data).into_iter().flat_map(|home| below(&home.join("groups"))).filter(|dir| is_of_client(dir));
    groups.flat_map(|group| below(&group)).filter(|file| file.extension().is_some_and(|e| e == "seg")).collect()
}

/// Changes a bit of each, so far from its front or, if that is less than 0, from its end.
fn spoil(files: &[PathBuf], at: i64) {
    for path in files {
        let file = File::options().read(true).write(true).open(path).expect("there");
        let len = file.metadata().expect("known").len();
        let at = if at < 0 { len.saturating_sub(at.unsigned_abs()) } else { at as u64 };
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[byte[0] ^ 4], at).expect("written");
        file.sync_all().expect("synced");
    }
}

/// Records that take some room.
async fn fill(producer: &Producer, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let value = format!("{n:0400}");
        producer.send(ProducerRecord::to("t").key(n.to_string().as_bytes()).value(value.as_bytes())).await.expect("handed over");
    }
    producer.flush().await.expect("delivered");
}

/// Waits until this node has said it.
async fn says(node: &Node, what: &str) {
    until(what, || async { if node.said().contains(what) { Ok(()) } else { Err(node.said()) } }).await;
}

/// Waits until all nodes name the same leaders: also one whose replicas led, and were made anew under leaders that they did not know.
async fn agree(nodes: &[Node]) {
    until("all name the same leaders", || async {
        let mut named = Vec::new();
        for node in nodes {
            named.push(topic(&client(std::slice::from_ref(node)).await, "t").await.1);
        }
        if named.windows(2).all(|pair| pair[0] == pair[1]) { Ok(()) } else { Err(format!("{named:?}")) }
    })
    .await;
}

/// Has one node lead all, so that whatever is read comes from its disk.
async fn read_from(client: &Client, node: u64, count: u64) {
    for other in (1..=3).filter(|other| *other != node) {
        client.admin().alter_node(other, NodeChange::Drain).await.expect("known");
    }
    until("it leads all", || async {
        let leaders = topic(client, "t").await.1;
        if leaders.iter().all(|leader| *leader == node) { Ok(()) } else { Err(format!("{leaders:?}")) }
    })
    .await;
    exactly(numbers(client, "t").await, count);
    for other in (1..=3).filter(|other| *other != node) {
        client.admin().alter_node(other, NodeChange::Return).await.expect("known");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_replicas_are_made_anew_from_the_others() {
    let mut nodes = cluster(3);
    let client = client(&nodes).await;
    client.admin().create_topic(NewTopic::new("t").partitions(2).set("segment.bytes", "1048576")).await.expect("created");
    everywhere(&client, 3).await;
    let producer = client.producer().build().await.expect("built");
    let count = 60_000;
    fill(&producer, 0..count).await;
    until("all have segments", || async {
        let all: Vec<usize> = nodes.iter().map(|node| segments(&node.data()).len()).collect();
        if all.iter().all(|n| *n > 2) { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;

    // Found by a start: where segments end they say what is in them.
    nodes[1].kill();
    spoil(&segments(&nodes[1].data()), -8);
    nodes[1].serve();
    says(&nodes[1], "is dropped, and made anew").await;
    fill(&producer, count..count + 1_000).await;
    everywhere(&client, 3).await;
    read_from(&client, 2, count + 1_000).await;

    // Found by a read, which is answered by another node then. Nothing of it is in memory after a start.
    nodes[0].stop();
    nodes[0].serve();
    whole(&client, 3).await;
    for other in [2, 3] {
        client.admin().alter_node(other, NodeChange::Drain).await.expect("known");
    }
    until("it leads all", || async {
        let leaders = topic(&client, "t").await.1;
        if leaders == [1, 1] { Ok(()) } else { Err(format!("{leaders:?}")) }
    })
    .await;
    for other in [2, 3] {
        client.admin().alter_node(other, NodeChange::Return).await.expect("known");
    }
    spoil(&segments(&nodes[0].data()), 20_000);
    exactly(numbers(&client, "t").await, count + 1_000);
    says(&nodes[0], "is dropped, and made anew").await;
    fill(&producer, count + 1_000..count + 2_000).await;
    producer.close().await.expect("delivered");
    everywhere(&client, 3).await;
    agree(&nodes).await;
    read_from(&client, 1, count + 2_000).await;
    // None of them had to be started again for it.
    assert!(nodes.iter_mut().all(|node| node.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))));
}
