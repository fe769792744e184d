//! Those who do nothing: they cost little memory each, and no time.

use crate::{
    honest::Honest,
    node::{Bytes, Node},
    wire::{Client, Crowd, batch, frame, produce},
};
use millpond_wire::messages::{Fetch, FetchPartition, Kind};
use std::time::{Duration, Instant};

#[test]
fn ten_thousand_connections_and_partitions_take_less_than_a_gibibyte() {
    const TOPICS: u32 = 10;
    const PARTITIONS: u32 = 1_000;
    const CONNECTIONS: usize = 10_000;
    millpond_runtime::sys::raise_open_files().expect("this many connections");
    let node = Node::with(Bytes::mib(832), &[]);
    let mut client = Client::connect(&node.address());
    let one = [batch(b"a partition that holds something")];
    for topic in 0..TOPICS {
        let name = format!("wide-{topic}");
        client.create(&name, PARTITIONS);
        for partition in 0..PARTITIONS {
            client.write(&produce(&name, partition, &one));
            if partition % 100 == 99 {
                (0..100).for_each(|_| assert!(matches!(client.answer(), crate::wire::Answer::Reply(_))));
            }
        }
    }
    let partitions = node.resident();
    let idle = Crowd::connect(&node, CONNECTIONS);
    let mut honest = Honest::new(&node);
    honest.round(&node);
    println!("{partitions} with the partitions, {} with the connections", node.resident());
    assert_eq!(idle.alive(), CONNECTIONS);
    assert!(node.peak() < Bytes::mib(1024), "{}", node.peak());
    node.check_memory();
}

/// One connection says nothing, another waits for records that do not come.
#[test]
fn an_idle_server_takes_less_than_a_hundredth_of_a_core() {
    const WATCHED: Duration = Duration::from_secs(8);
    let node = Node::alone();
    let mut client = Client::connect(&node.address());
    client.create("quiet", 2);
    let mut waits = Client::connect(&node.core(0));
    let at = |partition| FetchPartition { topic: "quiet".into(), partition, offset: 0, bytes_max: 0, ..FetchPartition::default() };
    let fetch = Fetch { partitions: vec![at(0), at(1)], wait_ms_max: 60_000, ..Fetch::default() };
    waits.write(&frame(Kind::Fetch, &fetch, &[]));
    // What was begun at the start and for the topic ends.
    std::thread::sleep(Duration::from_secs(3));
    let (began, before) = (Instant::now(), node.cpu());
    std::thread::sleep(WATCHED);
    let share = (node.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("an idle server takes {:.2} % of a core", share * 100.0);
    assert!(share < 0.01, "{:.2} % of a core", share * 100.0);
}
