//! Kafka's protocol against a real server: a real client (Debian's kcat, with librdkafka 2.0.2, which takes small mistakes amiss), and bytes that no client sends.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes, in real time")]

mod crowd;
mod doubt;
mod epochs;
mod ids;
mod java;
mod kcat;
mod late;
#[path = "../cluster/member.rs"]
#[expect(dead_code, reason = "these nodes are killed, and not asked anything")]
mod member;
#[path = "../native/node.rs"]
mod node;
mod outlive;
mod python;
mod racks;
mod raw;
mod rights;
mod secure;
mod sessions;

use crowd::Sort;
use kafka_protocol::{
    messages::{MetadataRequest, TopicName, metadata_request::MetadataRequestTopic},
    protocol::StrBytes,
};
use kcat::{Kcat, listed};
use millpond_client::{Client, NewTopic, ProducerRecord};
use node::Node;
use raw::Raw;
use std::time::{Duration, Instant};

async fn client(node: &Node) -> Client {
    Client::builder().bootstrap(&node.address()).client_id("tests").connect().await.expect("it serves")
}

/// Waits until each of the nodes has a replica of everything.
async fn whole(client: &Client) {
    let end = Instant::now() + Duration::from_secs(60);
    while client.admin().describe_cluster().await.is_ok_and(|is| is.nodes.iter().any(|n| n.replicas < is.partitions)) {
        assert!(Instant::now() < end, "the cluster is not whole in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Three nodes that have what belongs to a cluster of three, their addresses, and a client.
async fn three() -> (Vec<Node>, Vec<String>, Client) {
    let mut nodes = vec![Node::start()];
    while nodes.len() < 3 {
        let next = Node::join(&nodes[0]);
        nodes.push(next);
    }
    let servers = nodes.iter().map(Node::address).collect();
    let client = client(&nodes[0]).await;
    whole(&client).await;
    (nodes, servers, client)
}

/// What one protocol has written the other reads: keys, nulls, headers (one twice), timestamps and offsets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_clients_and_native_ones_read_what_the_other_wrote() {
    let node = Node::start();
    let kcat = Kcat::new(&node.address());
    let client = client(&node).await;
    client.admin().create_topic(NewTopic::new("both").partitions(1)).await.expect("created");
    kcat.produce(&["-t", "both", "-K:", "-Z", "-H", "trace=7", "-H", "trace=8"], "one:first\ntwo:\n");
    let producer = client.producer().build().await.expect("built");
    let record = ProducerRecord::to("both").key(b"three").value(b"third").timestamp_ms(1_700_000_000_123).header("from", b"here");
    producer.send(record).await.expect("sent").await.expect("delivered");

    let mut replay = client.replay("both").records().await.expect("begun");
    let mut seen = Vec::new();
    while let Some(record) = replay.next().await {
        let record = record.expect("read");
        let headers: Vec<String> = record.headers().map(|h| format!("{}={}", text(Some(h.key)), text(h.value))).collect();
        seen.push(format!("{} {} {} {}", record.offset(), text(record.key()), text(record.value()), headers.join(",")));
    }
    assert_eq!(seen, ["0 one first trace=7,trace=8", "1 two null trace=7,trace=8", "2 three third from=here"]);

    let read = kcat.consume(&["-t", "both", "-Z", "-f", "%o %k %s %h\n"]);
    assert_eq!(read, "0 one first trace=7,trace=8\n1 two NULL trace=7,trace=8\n2 three third from=here\n");
    assert_eq!(kcat.consume(&["-t", "both", "-o", "2", "-f", "%o %T\n"]), "2 1700000000123\n");
    assert_eq!(kcat.query("both:0:1700000000123"), "both [0] offset 0\n", "the first record that is not older");
}

fn text(bytes: Option<impl AsRef<[u8]>>) -> String {
    bytes.map_or_else(|| "null".into(), |bytes| String::from_utf8_lossy(bytes.as_ref()).into_owned())
}

/// Every compression, every level of acknowledgement, an idempotent producer, more records than go into one batch; and after a SIGKILL all is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kcat_was_acknowledged_is_there_after_a_kill() {
    let mut node = Node::start();
    let kcat = Kcat::new(&node.address());
    let numbers: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    let settings: [&[&str]; 7] = [
        &["-X", "acks=all"],
        &["-X", "acks=1"],
        &["-X", "enable.idempotence=true"],
        &["-z", "gzip"],
        &["-z", "snappy"],
        &["-z", "lz4"],
        &["-z", "zstd"],
    ];
    for (n, setting) in settings.iter().enumerate() {
        kcat.produce(&[&["-t", &format!("topic-{n}")], *setting].concat(), &numbers);
    }
    node.kill();
    node.serve();
    for n in 0..settings.len() {
        let read = kcat.consume(&["-t", &format!("topic-{n}")]);
        assert!(read == numbers, "topic {n}: {} lines of {}", read.lines().count(), numbers.lines().count());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_when_they_are_asked_for_and_listed_with_their_partitions() {
    let node = Node::start();
    let kcat = Kcat::new(&node.address());
    let client = client(&node).await;
    client.admin().create_topic(NewTopic::new("wide").partitions(12)).await.expect("created");
    kcat.produce(&["-t", "made"], "x\n");
    let topics = listed(&kcat.list());
    assert_eq!(topics.get("wide"), Some(&12));
    assert_eq!(topics.get("made"), Some(&1));
    // Records without a key go anywhere, those of one key to one partition.
    kcat.produce(&["-t", "wide", "-K:"], &(0..600).map(|n| format!("key-{}:{n}\n", n % 60)).collect::<String>());
    let read = kcat.consume(&["-t", "wide", "-f", "%p %k\n"]);
    let mut places: Vec<&str> = read.lines().collect();
    assert_eq!(places.len(), 600);
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 60, "each key in one partition");
}

/// Groups as librdkafka has them, by both of its ways of moving partitions: eager, and cooperative.
#[test]
fn groups_of_librdkafka_share_out_go_on_and_are_administered() {
    let node = Node::start();
    for strategy in ["range", "cooperative-sticky"] {
        python::run("confluent.py", &[&node.address(), strategy]);
    }
}

/// Groups as Kafka's own client has them, with members by name, too.
#[test]
fn groups_of_the_java_client_share_out_go_on_and_are_administered() {
    let node = Node::start();
    for assignor in ["RangeAssignor", "CooperativeStickyAssignor"] {
        java::CLIENT.run("Groups", &[&node.address(), assignor]);
    }
}

/// Groups whose partitions the server shares out (KIP-848), as librdkafka has them: in both of the ways that there are, with topics by a pattern, and over a SIGKILL.
#[test]
fn groups_of_librdkafka_by_kip_848_go_on_after_a_kill() {
    let mut node = Node::start();
    for assignor in ["uniform", "range"] {
        python::run_with("confluent.py", &[&node.address(), assignor, "consumer"], |_| {
            node.kill();
            node.serve();
        });
    }
}

/// The same as Kafka's own client has them, with members by name and their epochs.
#[test]
fn groups_of_the_java_client_by_kip_848_go_on_after_a_kill() {
    let mut node = Node::start();
    for assignor in ["uniform", "range"] {
        java::CLIENT.run_with("Groups", &[&node.address(), assignor, "consumer"], |_| {
            node.kill();
            node.serve();
        });
    }
}

/// Transactions as Kafka's own client has them, by the second protocol (KIP-890): what is read of them, fencing, positions, timeouts, and what is told of them.
#[test]
fn transactions_of_the_java_client() {
    let node = Node::start();
    java::CLIENT.run("Transactions", &[&node.address(), "java", "1"]);
}

/// By the first protocol, as librdkafka, kafka-python and aiokafka have them.
#[test]
fn transactions_of_librdkafka_kafka_python_and_aiokafka() {
    let node = Node::start();
    for program in ["transactions.py", "kafka_python_transactions.py", "aiokafka_transactions.py"] {
        python::run(program, &[&node.address(), program.split('_').next().unwrap_or("tag")]);
    }
}

/// As a client that is late with everything has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_late_in_transactions_changes_nothing() {
    let node = Node::start();
    for topic in ["late", "given-up", "torn"] {
        client(&node).await.admin().create_topic(NewTopic::new(topic).partitions(1)).await.expect("created");
    }
    tokio::task::spawn_blocking(move || {
        late::what_is_late_is_no_part_of_the_next_transaction(&node.address(), "late");
        late::what_was_given_up_is_told_once(&node.address(), "given-up");
        late::nobody_tears_a_transaction(&node.address(), "torn");
    })
    .await
    .expect("it ends");
}

/// Our own clients read committed records alone, unless they are told otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_clients_read_what_transactions_of_kafka_have_committed() {
    let node = Node::start();
    let client = client(&node).await;
    client.admin().create_topic(NewTopic::new("committed").partitions(1)).await.expect("created");
    late::native_clients_read_what_was_committed(&node.address(), &client, "committed").await;
}

/// Whether all is to be run (`make kafka-compat`), or what there is time for each day.
fn is_whole() -> bool {
    std::env::var("KAFKA_COMPAT").is_ok_and(|what| what == "all")
}

/// Kafka Streams counts words exactly once, though the server is killed in the middle.
#[test]
fn kafka_streams_counts_exactly_once_over_a_kill() {
    let mut node = Node::start();
    let dir = tempfile::tempdir().expect("a directory");
    for n in 0..if is_whole() { 5 } else { 1 } {
        let at = dir.path().join(n.to_string()).display().to_string();
        java::STREAMS.run_with("WordCount", &[&node.address(), &format!("words-{n}"), &at, "1"], |_| {
            node.kill();
            node.serve();
        });
    }
}

/// Three nodes, of which one is killed while records are consumed, changed and produced in transactions: each is in the result once, and in order. Then every
/// client's transactions on all three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_outlive_a_node() {
    let (mut nodes, servers, admin) = three().await;
    let servers = servers.join(",");
    // Twice as many records, and again after each node, if all is to be run.
    let (times, records) = if is_whole() { (3, "3000") } else { (1, "1500") };
    for n in 0..times * nodes.len() {
        let victim = &mut nodes[n % 3];
        python::run_with("exactly_once.py", &[&servers, &format!("once-{n}"), records], |_| victim.kill());
        victim.serve();
        whole(&admin).await;
    }
    java::CLIENT.run("Transactions", &[&servers, "java", "3"]);
    for program in ["transactions.py", "kafka_python_transactions.py", "aiokafka_transactions.py"] {
        python::run(program, &[&servers, program.split('_').next().unwrap_or("tag"), "3"]);
    }
}

/// kcat, librdkafka of today, and Java with groups of both sorts, on three nodes that are killed one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_outlive_nodes() {
    let (mut nodes, servers, client) = three().await;
    outlive::all_clients(&mut nodes, &servers.join(","), &client, is_whole()).await;
}

#[test]
fn topics_are_administered_by_the_java_client() {
    let node = Node::start();
    java::CLIENT.run("Administration", &[&node.address(), "1"]);
}

#[test]
fn groups_of_kafka_python_and_aiokafka_share_out_and_go_on() {
    let node = Node::start();
    python::run("kafka_python.py", &[&node.address()]);
    python::run("aiokafka_group.py", &[&node.address()]);
}

/// Kafka Connect keeps all that it knows in topics, which are compacted, and shares its work out by a protocol of its own: a second worker goes on where the
/// first one has ended, after the server was killed.
#[test]
fn kafka_connect_copies_files_and_goes_on() {
    let mut node = Node::start();
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path().display().to_string();
    java::TOOLS.run("Connect", &[&node.address(), &at, "0", "1000"]);
    node.kill();
    node.serve();
    java::TOOLS.run("Connect", &[&node.address(), &at, "1000", "2000"]);
}

/// Three nodes, of which the one that looks after a group is killed, once for each sort of group: records go on, nobody shares out anew, and nothing is lost or read
/// twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_outlives_the_node_that_looks_after_it() {
    let (mut nodes, servers, _) = three().await;
    for sort in ["classic", "consumer"] {
        python::run_with("failover.py", &[&servers.join(","), sort], |said| {
            let coordinator: usize = said.parse().expect("the number of a node");
            nodes[coordinator - 1].kill();
        });
        nodes.iter_mut().filter(|node| node.child.is_none()).for_each(Node::serve);
    }
    // Any node may be asked for what only one of them can do.
    for node in &nodes {
        java::CLIENT.run("Administration", &[&node.address(), "3"]);
    }
    java::TOOLS.run("Tools", &[&servers.join(","), "3"]);
}

/// Which epochs a node that is alone has, and where they end; others than its own are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_of_leaders_are_told_and_checked() {
    let node = Node::start();
    client(&node).await.admin().create_topic(NewTopic::new("alone").partitions(1)).await.expect("created");
    tokio::task::spawn_blocking(move || epochs::of_a_node_that_is_alone(&node.address(), "alone")).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_which_a_dying_node_says_nothing_is_made_by_the_next_one() {
    let (nodes, servers, _) = three().await;
    doubt::a_leader_that_dies_leaves_no_doubt(nodes, &servers);
}

/// Three nodes, of which the leader is killed: all say who leads and in which epoch, whether they have a replica or not, a later one has a later epoch, and what was written
/// under each is known. Clients read on, and those that go on from positions of an epoch before ask where that has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_of_leaders_grow_over_a_failover_and_clients_read_on() {
    let (mut nodes, servers, admin) = three().await;
    for (topic, replicas) in [("everywhere", 3), ("somewhere", 1)] {
        admin.admin().create_topic(NewTopic::new(topic).partitions(1).replication(replicas)).await.expect("created");
    }
    for topic in ["everywhere", "somewhere", "__consumer_offsets"] {
        let all: Vec<(i32, i32)> = servers.iter().map(|server| epochs::At::new(server, topic).leader()).collect();
        assert!(all.iter().all(|told| *told == all[0] && told.1 > 0), "{topic}: {all:?}");
    }
    admin.admin().delete_topic("somewhere", false).await.expect("deleted");
    let before = epochs::At::new(&servers[0], "everywhere").leader();
    epochs::At::new(&servers[before.0 as usize - 1], "everywhere").produce(5);
    nodes[before.0 as usize - 1].kill();
    let rest: Vec<&String> = servers.iter().enumerate().filter(|(n, _)| *n as i32 + 1 != before.0).map(|(_, server)| server).collect();
    let told: Vec<(i32, i32)> = rest.iter().map(|server| epochs::At::new(server, "everywhere").leader_after(before)).collect();
    assert_eq!(told[0], told[1]);
    let (now, mut at) = (told[0], epochs::At::new(&servers[told[0].0 as usize - 1], "everywhere"));
    at.produce(3);
    let ((_, old), (_, new)) = (before, now);
    assert_eq!(at.fetch(0, new, -1), (epochs::NONE, (-1, -1), [vec![old; 5], vec![new; 3]].concat()));
    assert_eq!((at.fetch(0, old, -1).0, at.fetch(0, new + 1, -1).0), (epochs::FENCED_LEADER_EPOCH, epochs::NOT_LEADER_OR_FOLLOWER));
    assert_eq!((at.list(-1, new), at.list(-2, new)), ((epochs::NONE, new, 8), (epochs::NONE, old, 0)));
    assert_eq!((at.end_of(old, new), at.end_of(new, new)), ((epochs::NONE, old, 5), (epochs::NONE, new, 8)));
    assert_eq!(at.end_of(new + 1, new), (epochs::NONE, -1, -1));
    assert!(matches!(at.end_of(old - 1, new), (epochs::NONE, epoch, 0) if epoch < old), "it has no records of earlier ones");
    assert_eq!(at.end_of(new - 1, new), (epochs::NONE, old, 5), "the newest up to it");
    assert_eq!(at.fetch(6, new, old), (epochs::NONE, (old, 5), vec![]), "no record of that epoch was there");
    assert_eq!(at.fetch(5, new, old), (epochs::NONE, (-1, -1), vec![new; 3]));
    assert_eq!(at.now, (-1, -1), "nothing of that where all is well");
    let other = rest.iter().find(|server| ***server != servers[now.0 as usize - 1]).expect("there are two");
    let mut follower = epochs::At::new(other, "everywhere");
    assert_eq!(follower.end_of(old, new).0, epochs::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(follower.fetch(0, new, -1).0, epochs::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(follower.now, now, "it says who leads instead");
    ids::who_leads_is_told(other, "everywhere", now, &servers[now.0 as usize - 1]);
    // A node that comes back hears of it, and so it is after a restart of all.
    nodes[before.0 as usize - 1].serve();
    whole(&admin).await;
    let again = epochs::At::new(&servers[before.0 as usize - 1], "everywhere").leader();
    assert!(again.1 >= new, "{again:?} after {now:?}");
    nodes.iter_mut().for_each(Node::kill);
    let started: Vec<_> = nodes.iter_mut().map(Node::launch).collect();
    started.iter().for_each(|said| drop(said.recv_timeout(Duration::from_secs(60)).expect("it starts")));
    let admin = client(&nodes[0]).await;
    whole(&admin).await;
    let told = epochs::At::new(&servers[0], "everywhere").leader_after((-1, new));
    assert!(told.1 > new);
    // Whoever should lead may be about to.
    let ends = [old, new].map(|epoch| {
        let mut asked = servers.iter().cycle().take(3 * 1_000).map(|server| epochs::At::new(server, "everywhere").end_of(epoch, -1));
        asked.find(|told| told.0 == epochs::NONE).expect("somebody leads")
    });
    assert_eq!(ends, [(epochs::NONE, old, 5), (epochs::NONE, new, 8)], "a start has found the same");
    for client in ["java", "librdkafka"] {
        let mut gone = 0;
        let mut kill = |said: &str| {
            gone = said.parse::<usize>().expect("the number of a node") - 1;
            nodes[gone].kill();
        };
        match client {
            "java" => java::CLIENT.run_with("Epochs", &[&servers.join(",")], &mut kill),
            _ => python::run_with("epochs.py", &[&servers.join(",")], &mut kill),
        }
        nodes[gone].serve();
        whole(&admin).await;
    }
}

/// A client that knows a topic by its id does not take one that was made anew for it, whatever their names are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_anew_has_another_id() {
    let node = Node::start();
    let admin = client(&node).await;
    let make = async || admin.admin().create_topic(NewTopic::new("again").partitions(1)).await.expect("created");
    make().await;
    tokio::task::block_in_place(|| {
        ids::one_made_anew_is_another(&node.address(), "again", || {
            tokio::runtime::Handle::current().block_on(async {
                admin.admin().delete_topic("again", false).await.expect("deleted");
                make().await;
            });
        });
    });
}

/// Sessions of fetches as a client of no library has them: what has not changed is not told, and who has none is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_fetches_say_what_has_changed() {
    let node = Node::start();
    client(&node).await.admin().create_topic(NewTopic::new("kept").partitions(3)).await.expect("created");
    tokio::task::spawn_blocking(move || sessions::what_has_changed_is_told(&node.address(), "kept")).await.expect("it ends");
}

/// Kafka's own client reads 200 partitions in a session: its requests are small, and it reads on after the node has lost the session with the connection.
#[test]
fn the_java_client_reads_in_a_session() {
    let mut node = Node::start();
    java::CLIENT.run_with("Sessions", &[&node.address()], |_| {
        node.kill();
        node.serve();
    });
}

/// Kafka's own command line tools, on a node that is alone.
#[test]
fn kafkas_command_line_tools_work() {
    let node = Node::start();
    java::TOOLS.run("Tools", &[&node.address(), "1"]);
}

/// Members come and go by the hundred: no partition has two readers at any time, none is without one in the end, and whoever stays goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_members_by_kip_848_reads_everything_once_whoever_dies() {
    const PARTITIONS: u32 = 200;
    let node = Node::start();
    client(&node).await.admin().create_topic(NewTopic::new("wide").partitions(PARTITIONS)).await.expect("created");
    let mut raw = Raw::connect(&node.address());
    let named = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str("wide"))));
    let told = raw.call(12, &MetadataRequest::default().with_topics(Some(vec![named]))).expect("an answer");
    let topic_id = told.topics[0].topic_id;
    assert!(!topic_id.is_nil());
    // The other way round, it is found by its id, and one of another id is not.
    let by_id = |id| MetadataRequestTopic::default().with_topic_id(id).with_name(None);
    let strange = TryFrom::try_from(vec![7; 16]).expect("sixteen bytes");
    let told = raw.call(12, &MetadataRequest::default().with_topics(Some(vec![by_id(topic_id), by_id(strange)]))).expect("an answer");
    assert_eq!(told.topics[0].name.as_ref().map(|name| name.as_str()), Some("wide"));
    assert_eq!(told.topics[0].partitions.len(), PARTITIONS as usize);
    assert_eq!((told.topics[1].error_code, &told.topics[1].name), (100, &None));
    tokio::task::spawn_blocking(move || crowd::run(&node, "wide", PARTITIONS, Sort::Consumer(topic_id.into_bytes())))
        .await
        .expect("it ends");
}

/// The same for classic groups that share out cooperatively.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_classic_members_reads_everything_once_whoever_dies() {
    let node = Node::start();
    tokio::task::spawn_blocking(move || crowd::run(&node, "wide", 200, Sort::Classic)).await.expect("it ends");
}

/// A group of Debian's kcat goes on after the node was killed, and our own client sees what it has come to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_kcat_goes_on_after_a_kill() {
    let mut node = Node::start();
    let kcat = Kcat::new(&node.address());
    kcat.produce(&["-t", "numbers"], &(0..100).map(|n| format!("{n}\n")).collect::<String>());
    let first = kcat.group("cats", &["numbers"]);
    assert_eq!(first.lines().count(), 100);
    node.kill();
    node.serve();
    kcat.produce(&["-t", "numbers"], "100\n101\n");
    assert_eq!(kcat.group("cats", &["numbers"]), "100\n101\n");
    let described = client(&node).await.admin().describe_group("cats").await.expect("it has positions");
    assert_eq!(described.positions.iter().filter_map(|at| at.position.as_ref()).map(|p| p.offset).sum::<u64>(), 102);
}

/// Answers come in the order of the requests, a byte at a time is enough, and what is not to be acknowledged is not answered.
#[test]
fn requests_are_answered_in_their_order_however_they_arrive() {
    let node = Node::start();
    let mut raw = Raw::connect(&node.address());
    let mut all = Vec::new();
    for number in 0..20 {
        all.extend(if number % 3 == 0 { raw::metadata(number) } else { raw::api_versions(number, 3) });
    }
    for byte in &all {
        raw.send(&[*byte]);
    }
    for number in 0..20 {
        assert_eq!(raw.receive().expect("an answer").0, number);
    }
    // What follows a body is ignored, as by Kafka: librdkafka 2.16 sends three bytes behind a request for all topics.
    raw.send(&raw::request(20, 3, 4, &[0, 0, 0, 0, 1, 9, 9, 9]));
    assert_eq!(raw.receive().expect("an answer").0, 20);
    // A version that nobody knows is answered in version 0, with what there is (KIP-511).
    raw.send(&raw::api_versions(77, 99));
    let (number, body) = raw.receive().expect("an answer");
    assert_eq!((number, &body[..2]), (77, &[0, 35][..]));
}

/// Whatever comes, the connection ends with it and others are served.
#[test]
fn bytes_that_are_no_requests_end_their_connection_only() {
    let node = Node::start();
    let mut beside = Raw::connect(&node.address());
    let hello = raw::api_versions(1, 3);
    let frames: Vec<(&str, Vec<u8>)> = vec![
        ("no length", [&[0, 0, 0, 0][..], &hello[4..]].concat()),
        ("a negative length", [&[0xff, 0xff, 0xff, 0xff][..], &hello[4..]].concat()),
        ("a length of 2 GiB", [&[0x7f, 0xff, 0xff, 0xff][..], &hello[4..]].concat()),
        ("an API that is not known", raw::request(1, 254, 0, &[])),
        ("an API that is not answered", raw::request(1, 17, 0, &[])),
        ("a version that is not answered", raw::request(1, 3, 99, &[])),
        ("a body that is cut", raw::request(1, 3, 4, &[0, 0, 0, 9])),
        ("as many topics as there are numbers", raw::request(1, 3, 4, &[0x7f, 0xff, 0xff, 0xff])),
        ("as many topics to list offsets of", raw::request(1, 2, 1, &[0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff])),
        ("as many topics to create", raw::request(1, 19, 2, &[0x7f, 0xff, 0xff, 0xff])),
        ("as many partitions to produce to", raw::request(1, 0, 3, &[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0x7f, 0xff, 0xff, 0xff])),
    ];
    for (what, bytes) in frames {
        let mut raw = Raw::connect(&node.address());
        raw.send(&hello);
        assert_eq!(raw.receive().map(|(number, _)| number), Some(1), "{what}");
        raw.send(&bytes);
        assert!(raw.receive().is_none(), "{what}: the connection goes on");
        beside.send(&raw::api_versions(5, 3));
        assert_eq!(beside.receive().map(|(number, _)| number), Some(5), "{what}: others are served");
    }
    // Half a request and silence keep nobody, and a client that goes away says nothing.
    let began = Instant::now();
    let silent: Vec<Raw> = (0..200)
        .map(|n| {
            let mut raw = Raw::connect(&node.address());
            raw.send(&hello[..1 + n % (hello.len() - 1)]);
            raw
        })
        .collect();
    beside.send(&raw::metadata(6));
    assert_eq!(beside.receive().map(|(number, _)| number), Some(6));
    drop(silent);
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// Java, librdkafka of today and of Debian, kafka-python, aiokafka and our own client, on three nodes.
#[test]
fn clients_of_all_sorts_speak_tls() {
    secure::all_clients_speak_tls();
}

/// Java, on three nodes with ACLs.
#[test]
fn users_have_the_rights_that_acls_give_them() {
    secure::users_have_rights();
}

/// Java, librdkafka of Debian and the command.
#[test]
fn certificates_say_who_clients_are() {
    secure::certificates_say_who_clients_are();
}

/// The same clients of Kafka, by SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN.
#[test]
fn clients_of_all_sorts_show_who_they_are() {
    secure::clients_show_who_they_are();
}
