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
    core.lags.push(LagSnapshot { group: "g".into(), topic: "t".into(), partition: 4, records: 9 });
    core
}

#[test]
fn a_snapshot_renders_as_openmetrics() {
    let text = render("1.2.3", vec![CoreSnapshot::new(0), busy_core()]);
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
        r#"millpond_group_lag_records{group="g",topic="t",partition="4"} 9"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn every_family_is_described_once_and_every_line_belongs_to_one() {
    let text = render("1", vec![busy_core(), CoreSnapshot::new(2)]);
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
    assert!(seen.len() > 25, "{seen:?}");
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
