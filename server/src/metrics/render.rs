//! Snapshots as OpenMetrics text.

mod cluster;

use super::{CoreSnapshot, JournalSnapshot, Latency};
use millpond_log::stats::SYNC_BUCKETS_US;
use millpond_wire::messages::{Code, Kind};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::fmt;

/// A metric's name, its help, and where its value is.
type Column = (&'static str, &'static str, fn(&CoreSnapshot) -> u64);

/// The media type of what [`render`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The newest snapshot of every core, as OpenMetrics text. `version` is the software's; a node that is not `ready` wants no traffic.
#[must_use]
pub fn render(version: &str, ready: bool, cores: Vec<CoreSnapshot>) -> String {
    let mut registry = Registry::with_prefix("millpond");
    registry.register_collector(Box::new(Cores { version: version.to_owned(), ready, cores }));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing into a string cannot fail");
    out
}

#[derive(Debug)]
struct Cores {
    version: String,
    ready: bool,
    cores: Vec<CoreSnapshot>,
}

/// Labels and value of one line.
type Line<V> = (Vec<(&'static str, String)>, V);

impl Collector for Cores {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let e = &mut encoder;
        let build = vec![(vec![("version", self.version.clone())], 1)];
        family(e, "build", "The software that runs, as labels", MetricType::Gauge, build, gauge)?;
        let help = "1 while the node is ready; /readyz says why it is not";
        gauge(e.encode_descriptor("ready", help, None, MetricType::Gauge)?, u64::from(self.ready))?;
        self.core_counters(e)?;
        self.core_gauges(e)?;
        self.journal(e)?;
        self.requests(e)?;
        self.queues(e)?;
        self.topics(e)?;
        self.replicas(e)?;
        self.peers(e)?;
        self.led(e)
    }
}

impl Cores {
    fn core_counters(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let list: [Column; 11] = [
            ("received_bytes", "Bytes received from clients", |c| c.bytes_in),
            ("sent_bytes", "Bytes sent to clients", |c| c.bytes_out),
            ("records_appended", "Records appended", |c| c.records_in),
            ("records_fetched", "Records sent by fetches", |c| c.records_out),
            ("batches_appended", "Batches appended", |c| c.batches_in),
            ("connections_accepted", "Connections accepted", |c| c.connections_accepted),
            ("logins_refused", "Clients that have not shown who they are, though they tried", |c| c.logins_refused),
            ("connections_refused", "Connections refused or closed for breaking the protocol or a limit", |c| c.connections_refused),
            ("throttled_milliseconds", "Throttling that quotas gave out", |c| c.throttled_ms),
            ("core_busy_nanoseconds", "Time that the core was busy", |c| c.busy_ns),
            ("metrics_left_out", "Topics and lags that are not told one by one, there being too many", |c| c.topics_left_out),
        ];
        list.iter().try_for_each(|(name, help, of)| self.per_core(e, name, help, MetricType::Counter, *of, counter))
    }

    fn core_gauges(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let utilisation = |c: &CoreSnapshot| c.utilisation;
        let help = "Share of the last second that the core was busy, 0 to 1";
        self.per_core(e, "core_utilisation", help, MetricType::Gauge, utilisation, gauge)?;
        let list: [Column; 8] = [
            ("connections", "Connections open now", |c| c.connections),
            ("partitions", "Partitions that the core owns", |c| c.partitions),
            ("memory_bytes", "Memory that the core accounts for", |c| c.memory_bytes),
            ("memory_limit_bytes", "Memory that the core may use", |c| c.memory_bytes_max),
            ("tail_bytes", "Unsettled entries and cache in memory", |c| c.tail_bytes),
            ("segment_bytes", "Bytes in segments", |c| c.segment_bytes),
            ("segments", "Segments", |c| c.segments),
            ("uptime_seconds", "Time since the start", |c| c.up_ns / 1_000_000_000),
        ];
        list.iter().try_for_each(|(name, help, of)| self.per_core(e, name, help, MetricType::Gauge, *of, gauge))
    }

    fn journal(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let list: [Column; 6] = [
            ("journal_syncs", "Flushes that were written and synced", |c| c.journal.syncs),
            ("journal_entries", "Entries written to the journal", |c| c.journal.entries),
            ("journal_bytes", "Bytes written to the journal, padding included", |c| c.journal.bytes),
            ("journal_settled_bytes", "Bytes that went on from the journal into segments", |c| c.journal.settled_bytes),
            ("reads_tail", "Reads answered from memory", |c| c.journal.reads_tail),
            ("reads_segments", "Reads answered from segments", |c| c.journal.reads_segments),
        ];
        for (name, help, of) in list {
            self.per_core(e, name, help, MetricType::Counter, of, counter)?;
        }
        let list: [Column; 6] = [
            ("journal_files", "Journal files that hold something", |c| c.journal.files),
            ("trash_files", "Files that were deleted and go off the disk bit by bit", |c| c.journal.trash_files),
            ("journal_unsynced_bytes", "Appended and not yet synced", |c| c.journal.unsynced_bytes),
            ("disk_free_bytes", "What the fullest file system of the core's homes has left", |c| c.disk_free_bytes),
            ("disk_bytes", "What that file system has in all", |c| c.disk_bytes),
            ("disk_full", "1 while appends are refused because the disk is full", |c| u64::from(c.journal.disk_full)),
        ];
        for (name, help, of) in list {
            self.per_core(e, name, help, MetricType::Gauge, of, gauge)?;
        }
        let help = "From the start of a flush's write to the end of its sync";
        self.per_core(e, "journal_sync_seconds", help, MetricType::Histogram, |c| syncs(&c.journal), histogram)
    }

    fn requests(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let lines = self.cores.iter().flat_map(|c| {
            let kinds = c.requests.0.iter().enumerate().filter(|(_, latency)| latency.count() > 0);
            kinds.map(|(kind, latency)| (with(core(c), "kind", kind_name(kind)), spread(latency)))
        });
        let help = "From a whole request to its whole reply";
        family(e, "request_seconds", help, MetricType::Histogram, lines, histogram)?;
        let lines = self.cores.iter().flat_map(|c| {
            let codes = c.errors.0.iter().enumerate().filter(|(_, n)| **n > 0);
            codes.map(|(code, n)| (with(core(c), "code", code_name(code)), *n))
        });
        family(e, "errors", "Failures answered", MetricType::Counter, lines, counter)
    }

    fn queues(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = || self.cores.iter().flat_map(|c| c.queues.iter().map(move |q| (with(core(c), "queue", q.name.into()), q)));
        let lines = all().map(|(labels, q)| (labels, q.depth));
        family(e, "queue_depth", "What waits in a queue", MetricType::Gauge, lines, gauge)?;
        let lines = all().map(|(labels, q)| (labels, q.depth_max));
        family(e, "queue_limit", "What may wait in a queue", MetricType::Gauge, lines, gauge)
    }

    fn topics(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = || self.cores.iter().flat_map(|c| c.topics.iter().map(move |t| (with(core(c), "topic", t.topic.clone()), t)));
        let lines = all().map(|(labels, t)| (labels, t.partitions));
        family(e, "topic_partitions", "Partitions of a topic on a core", MetricType::Gauge, lines, gauge)?;
        let lines = all().map(|(labels, t)| (labels, t.bytes));
        family(e, "topic_bytes", "Bytes on disk of a topic on a core", MetricType::Gauge, lines, gauge)?;
        let lines = all().map(|(labels, t)| (labels, t.end_offsets));
        family(e, "topic_end_offsets", "Ends of a topic's partitions, added up", MetricType::Gauge, lines, gauge)?;
        let lines = self.cores.iter().flat_map(|c| &c.lags).map(|l| {
            let labels = vec![("group", l.group.clone()), ("topic", l.topic.clone())];
            (with(labels, "partition", l.partition.to_string()), l.records)
        });
        family(e, "group_lag_records", "Records between a group's position and the end", MetricType::Gauge, lines, gauge)
    }

    fn per_core<V>(
        &self,
        e: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        kind: MetricType,
        of: impl Fn(&CoreSnapshot) -> V,
        write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        family(e, name, help, kind, self.cores.iter().map(|c| (core(c), of(c))), write)
    }
}

fn family<V>(
    e: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    lines: impl IntoIterator<Item = Line<V>>,
    write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
) -> fmt::Result {
    let mut metric = e.encode_descriptor(name, help, None, kind)?;
    lines.into_iter().try_for_each(|(labels, value)| write(metric.encode_family(&labels)?, value))
}

fn counter(e: MetricEncoder<'_>, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(e)
}

fn gauge<V>(e: MetricEncoder<'_>, value: V) -> fmt::Result
where
    ConstGauge<V>: EncodeMetric,
{
    ConstGauge::new(value).encode(e)
}

/// Sum in seconds, and upper bound in seconds and count of each bucket.
type Spread = (f64, Vec<(f64, u64)>);

fn histogram(mut e: MetricEncoder<'_>, (sum, buckets): Spread) -> fmt::Result {
    let count = buckets.iter().map(|(_, n)| n).sum();
    e.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

fn spread(latency: &Latency) -> Spread {
    (latency.sum_ns() as f64 / 1e9, latency.buckets().collect())
}

fn syncs(journal: &JournalSnapshot) -> Spread {
    let bounds = SYNC_BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain(std::iter::once(f64::INFINITY));
    (journal.sync_latency_sum_us as f64 / 1e6, bounds.zip(journal.sync_latency).collect())
}

fn core(c: &CoreSnapshot) -> Vec<(&'static str, String)> {
    vec![("core", c.core.to_string())]
}

fn with(mut labels: Vec<(&'static str, String)>, name: &'static str, value: String) -> Vec<(&'static str, String)> {
    labels.push((name, value));
    labels
}

fn kind_name(kind: usize) -> String {
    Kind::try_from(kind as i32).map_or_else(|_| kind.to_string(), |k| snake(&format!("{k:?}")))
}

fn code_name(code: usize) -> String {
    Code::try_from(code as i32).map_or_else(|_| code.to_string(), |c| snake(&format!("{c:?}")))
}

/// `FetchOffsets` as `fetch_offsets`, as metrics are spelled.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
