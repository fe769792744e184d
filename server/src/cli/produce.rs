//! `millpond produce`: lines from standard input or a file become records.

use super::{
    Global,
    fail::{Fail, Result},
    fields::{Fields, Found},
    input::Input,
    out::Out,
    progress::Progress,
    remote::{Outgoing, Producer, Producing, Remote},
    units::show_time,
};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use millpond_client::messages::TopicInfo;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Write lines into a topic, each a record
#[derive(Args)]
#[command(after_help = "\
Each line becomes the value of a record, as it is. With --key-field or --time-field lines must be JSON objects, and the \
record's key or timestamp is taken from that field; a time is in ms since 1970 or text such as 2026-01-31T12:00:00Z. \
Records of the same key go to the same partition and keep their order. The command ends when everything was \
acknowledged, which means: synced to disk.

  millpond produce flights --key-field key --time-field ts flights.ndjson.zst")]
pub(super) struct Produce {
    /// The topic
    topic: String,
    /// A file of lines, also compressed with zstd; `-` or nothing for standard input
    file: Option<PathBuf>,
    /// Take the key from this field
    #[arg(long, short = 'k', value_name = "NAME")]
    key_field: Option<String>,
    /// Take the timestamp from this field
    #[arg(long, short = 't', value_name = "NAME")]
    time_field: Option<String>,
    /// Write everything into this partition
    #[arg(long, short = 'p', value_name = "N")]
    partition: Option<u32>,
    /// How batches are compressed
    #[arg(long, short = 'z', value_enum, default_value_t = Compression::Zstd)]
    compression: Compression,
    /// How long a batch may wait to be filled
    #[arg(long, default_value = "5ms", value_name = "TIME", value_parser = humantime::parse_duration)]
    linger: Duration,
    /// Size at which a batch is sent at once
    #[arg(long, default_value = "256KiB", value_name = "SIZE")]
    batch_size: super::units::Size,
    /// Skip lines that are not JSON or lack the field, instead of stopping there
    #[arg(long)]
    skip_bad: bool,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Produce {
    pub(super) async fn run(self, global: &Global, out: &mut Out) -> Result {
        let source = self.file.as_deref();
        let mut input = Input::open(source).map_err(|e| Fail::io(format_args!("read {}", named(source)), &e))?;
        let remote = Remote::connect(global).await?;
        let (topic, _) = remote.describe_topic(&self.topic).await?;
        if let Some(p) = self.partition.filter(|p| *p as usize >= topic.partitions.len()) {
            let last = topic.partitions.len().saturating_sub(1);
            return Err(Fail::usage(format!("{} has no partition {p}", self.topic), format!("one of 0 to {last}")));
        }
        let mut producer =
            remote.producer(&Producing { compression: self.compression, linger: self.linger, batch_bytes: self.batch_size.0 }).await?;
        let mut progress = Progress::new(out, input.bytes_total);
        let mut seen = Seen::default();
        let sent = self.send_all(&mut input, &mut producer, &mut progress, &mut seen).await;
        // What was handed over is waited for in any case, so that the summary tells the truth.
        let acked = producer.finish().await;
        progress.finish();
        let told = self.summary(out, &progress, seen.bad);
        if let Some(warning) = seen.oldest_ms.and_then(|ms| too_old(&topic, ms)) {
            out.note(warning);
        }
        match (sent, acked) {
            (Ok(()), Ok(())) => told,
            (Err(fail), _) | (_, Err(fail)) => Err(fail),
        }
    }

    async fn send_all(&self, input: &mut Input, producer: &mut Producer, progress: &mut Progress, seen: &mut Seen) -> Result {
        let fields = Fields { key: self.key_field.clone(), time: self.time_field.clone() };
        let mut number = 0u64;
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let piece = tokio::select! {
                piece = input.next() => piece,
                _ = &mut interrupted => return Ok(()),
            };
            let Some(piece) = piece.map_err(|e| Fail::io(format_args!("read {}", input.name), &e))? else {
                return Ok(());
            };
            for line in piece.lines() {
                number += 1;
                let found = match fields.is_empty() {
                    true => Found::default(),
                    false => match fields.find(line) {
                        Ok(found) => found,
                        Err(_) if self.skip_bad => {
                            seen.bad += 1;
                            continue;
                        }
                        Err(why) => {
                            let message = format!("line {number} of {}: {why}", input.name);
                            return Err(Fail::new(message, "correct the line, or give --skip-bad to leave such lines out"));
                        }
                    },
                };
                seen.oldest_ms = seen.oldest_ms.into_iter().chain(found.time_ms).min();
                let record = Outgoing {
                    topic: &self.topic,
                    partition: self.partition,
                    time_ms: found.time_ms,
                    key: found.key.map(Bytes::from),
                    value: Some(Bytes::copy_from_slice(line)),
                    headers: Vec::new(),
                };
                producer.send(record).await?;
                progress.add(1, line.len() as u64);
            }
            progress.at(input.bytes_read());
        }
    }

    fn summary(&self, out: &mut Out, progress: &Progress, bad: u64) -> Result {
        if out.json {
            return out.value(&json!({
                "topic": self.topic,
                "records": progress.records,
                "bytes": progress.bytes,
                "skipped": bad,
                "seconds": progress.elapsed().as_secs_f64(),
                "records_per_s": progress.records_per_s(),
                "bytes_per_s": progress.bytes_per_s(),
            }));
        }
        let skipped = if bad > 0 { format!(", {bad} bad lines skipped") } else { String::new() };
        out.note(format!("{}{skipped}", progress.summary()));
        Ok(())
    }
}

/// What was met on the way.
#[derive(Default)]
struct Seen {
    /// Lines that were left out.
    bad: u64,
    oldest_ms: Option<i64>,
}

/// A warning, if the topic deletes records of this time soon.
fn too_old(topic: &TopicInfo, oldest_ms: i64) -> Option<String> {
    let setting = |name| topic.settings.iter().find(|s| s.name == name).map(|s| s.value.as_str());
    let kept_ms = setting("retention.ms")?.parse().ok().filter(|ms| *ms >= 0)?;
    let age_ms = jiff::Timestamp::now().as_millisecond().saturating_sub(oldest_ms);
    let deletes = setting("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    (deletes && age_ms > kept_ms).then(|| {
        format!(
            "note: {} is older than retention.ms={kept_ms} of this topic: such records are deleted soon\n  try: millpond topic alter {} --set retention.ms=-1",
            show_time(oldest_ms),
            topic.name
        )
    })
}

fn named(path: Option<&Path>) -> String {
    path.map_or_else(|| "standard input".into(), |p| p.display().to_string())
}
