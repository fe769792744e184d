use super::*;

fn busy_core() -> CoreSnapshot {
    let mut core = CoreSnapshot::new(1);
    core.bytes_in = 42;
    core.utilisation = 0.25;
    core.count_request(Kind::Produce, 30_000);
    core.count_request(Kind::Produce, 9_000_000_000);
    core.count_request(Kind::FetchOffsets, 10_000);
    core.count_error(Code::OffsetOutOfRange);
    core.journal.sync_latency[1] = 3;
    core.journal.sync_latency_sum_us = 35;
    core.queues.push(QueueSnapshot { name: "mesh", depth: 3, depth_max: 64 });
    core.topics.push(TopicSnapshot { topic: "a\"b".into(), partitions: 2, bytes: 10, end_offsets: 7 });
    core.cluster.learning = true;
    core.cluster.census = millpond_raft::Census { replicas: 9, resting: 6, leaderless: 2, broken: 1 };
    core.cluster.known = 21;
    (core.cluster.led, core.cluster.under_replicated) = (4, 3);
    core.cluster.counters = millpond_raft::Counters { elections: 11, messages: 12, snapshot_bytes: 13, ..Default::default() };
    core.cluster.peers.push(PeerSnapshot { node: 7, heard: true, connections: 2, waiting_messages: 5, waiting_bytes: 600 });
    core.cluster.topics.push(LedSnapshot { topic: "t".into(), led: 4, under_replicated: 3, lag_entries_max: 70 });
    core.lags.push(LagSnapshot { group: "g".into(), topic: "t".into(), partition: 4, records: 9 });
    core
}

#[test]
fn a_snapshot_renders_as_openmetrics() {
    let text = render("1.2.3", true, vec![CoreSnapshot::new(0), busy_core()]);
    for line in [
        "# TYPE millpond_received_bytes counter",
        r#"millpond_build{version="1.2.3"} 1"#,
        r#"millpond_received_bytes_total{core="0"} 0"#,
        r#"millpond_received_bytes_total{core="1"} 42"#,
        r#"millpond_core_utilisation{core="1"} 0.25"#,
        r#"millpond_request_seconds_bucket{le="0.00005",core="1",kind="produce"} 1"#,
        r#"millpond_request_seconds_bucket{le="5.0",core="1",kind="produce"} 1"#,
        r#"millpond_request_seconds_bucket{le="+Inf",core="1",kind="produce"} 2"#,
        r#"millpond_request_seconds_count{core="1",kind="fetch_offsets"} 1"#,
        r#"millpond_request_seconds_bucket{le="0.00001",core="1",kind="fetch_offsets"} 1"#,
        r#"millpond_errors_total{core="1",code="offset_out_of_range"} 1"#,
        r#"millpond_journal_sync_seconds_sum{core="1"} 0.000035"#,
        r#"millpond_journal_sync_seconds_bucket{le="0.000025",core="1"} 0"#,
        r#"millpond_journal_sync_seconds_bucket{le="0.00005",core="1"} 3"#,
        r#"millpond_queue_depth{core="1",queue="mesh"} 3"#,
        r#"millpond_queue_limit{core="1",queue="mesh"} 64"#,
        r#"millpond_topic_bytes{core="1",topic="a\"b"} 10"#,
        r#"millpond_ready 1"#,
        r#"millpond_learning{core="0"} 0"#,
        r#"millpond_learning{core="1"} 1"#,
        r#"millpond_catalog_partitions{core="1"} 21"#,
        r#"millpond_partitions_led{core="1"} 4"#,
        r#"millpond_partitions_under_replicated{core="1"} 3"#,
        r#"millpond_replicas{core="1"} 9"#,
        r#"millpond_replicas_resting{core="1"} 6"#,
        r#"millpond_replicas_leaderless{core="1"} 2"#,
        r#"millpond_replicas_broken{core="1"} 1"#,
        r#"millpond_elections_total{core="1"} 11"#,
        r#"millpond_replica_messages_total{core="1"} 12"#,
        r#"millpond_snapshot_sent_bytes_total{core="1"} 13"#,
        r#"millpond_peer_heard{core="1",peer="7"} 1"#,
        r#"millpond_peer_connections{core="1",peer="7"} 2"#,
        r#"millpond_peer_queue_messages{core="1",peer="7"} 5"#,
        r#"millpond_peer_queue_bytes{core="1",peer="7"} 600"#,
        r#"millpond_topic_partitions_led{core="1",topic="t"} 4"#,
        r#"millpond_topic_partitions_under_replicated{core="1",topic="t"} 3"#,
        r#"millpond_topic_replica_lag_entries{core="1",topic="t"} 70"#,
        r#"millpond_group_lag_records{group="g",topic="t",partition="4"} 9"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn every_family_is_described_once_and_every_line_belongs_to_one() {
    let text = render("1", false, vec![busy_core(), CoreSnapshot::new(2)]);
    let mut family = "";
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().filter(|l| *l != "# EOF") {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            family = described.split(' ').next().unwrap_or_default();
            assert!(seen.insert(family), "{family} is described twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} stands under {family}");
        }
    }
    assert!(text.lines().any(|l| l == "millpond_ready 0"));
    assert!(seen.len() > 60, "{seen:?}");
}

#[test]
fn latencies_fall_into_the_right_bucket() {
    let mut latency = Latency::default();
    latency.observe(0);
    latency.observe(BOUNDS_NS[0]);
    latency.observe(BOUNDS_NS[0] + 1);
    latency.observe(u64::MAX);
    latency.add(60_000, 5);
    let counts: Vec<u64> = latency.buckets().map(|(_, n)| n).collect();
    assert_eq!((counts[0], counts[1], counts[3], counts[18]), (2, 1, 5, 1));
    assert_eq!(latency.count(), 9);
    assert_eq!(latency.sum_ns(), u64::MAX, "a sum that does not fit stays at the end");
}

/// A kind or a code behind the last that is counted would end the node.
#[test]
fn every_kind_and_every_code_has_its_place() {
    let mut snapshot = CoreSnapshot::new(0);
    let kinds: Vec<Kind> = (0..1_000).filter_map(|n| Kind::try_from(n).ok()).collect();
    let codes: Vec<Code> = (0..1_000).filter_map(|n| Code::try_from(n).ok()).collect();
    kinds.iter().for_each(|kind| snapshot.count_request(*kind, 1));
    codes.iter().for_each(|code| snapshot.count_error(*code));
    assert!(kinds.len() > 20 && codes.len() > 20);
    assert_eq!(snapshot.errors.0.iter().sum::<u64>(), codes.len() as u64);
}
