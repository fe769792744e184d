//! `millpond replay`: a stretch of a topic's history, as fast as it can be read or at a rate, to standard output, a file
//! or another topic.

use super::{
    Global,
    fail::{Fail, Result},
    out::Out,
    pace::Pace,
    progress::Progress,
    remote::{Outgoing, Producer, Producing, Remote},
    show::Format,
    source::{Reading, Source, Transactions},
    units::{POINTS, Point, Rate},
};
use bytes::Bytes;
use clap::Args;
use millpond_client::ConsumerRecord;
use serde_json::json;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    time::Duration,
};

/// Read a stretch of history again, to stdout, a file or another topic
#[derive(Args)]
#[command(after_help = "\
Records of a partition come in their order; partitions come in any order to each other, or, with --merge, by time.

  millpond replay flights --from 2013-06-01 --to 2013-07-01 --output june.ndjson
  millpond replay orders --from 15m --into orders-again --rate 1000/s")]
pub(super) struct Replay {
    /// The topic
    topic: String,
    /// Where to begin
    #[arg(long, value_name = "POINT", default_value = "earliest", help = format!("Where to begin: {POINTS}"))]
    from: Point,
    /// Where to stop, not included; `latest` is the end when the command starts
    #[arg(long, value_name = "POINT", default_value = "latest")]
    to: Point,
    /// Only these partitions
    #[arg(long, short = 'p', value_name = "N", value_delimiter = ',')]
    partition: Vec<u32>,
    /// In order of time over all partitions
    #[arg(long)]
    merge: bool,
    /// No faster than this: records (`1000/s`) or bytes (`5MB/s`) a second
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Where this client stands: read from replicas there, and not from leaders elsewhere
    #[arg(long, value_name = "NAME", env = "MILLPOND_RACK", hide_env_values = true, default_value = "")]
    rack: String,
    /// Write into this topic, keys, headers and timestamps kept, instead of printing
    #[arg(long, value_name = "TOPIC", conflicts_with = "output")]
    into: Option<String>,
    /// Write into this file instead of printing
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    of: Transactions,
    #[command(flatten)]
    format: Format,
}

impl Replay {
    pub(super) async fn run(self, global: &Global, out: &mut Out) -> Result {
        let remote = Remote::connect_from(global, &self.rack).await?;
        let topics = std::slice::from_ref(&self.topic);
        let reading = Reading { topics, partitions: &self.partition, from: self.from, to: self.to, of: self.of };
        let mut source = Source::replay(&remote, &reading, self.merge).await?;
        let mut target = self.target(&remote).await?;
        let mut progress = Progress::new(out, Some(source.total()));
        let mut pace = self.rate.map(Pace::new);
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let records = tokio::select! {
                records = source.next(u64::MAX) => records?,
                _ = &mut interrupted => break,
            };
            let Some(records) = records else { break };
            for record in &records {
                let bytes = target.put(&self, record, out).await?;
                progress.add(1, bytes);
                let wait = pace.as_mut().map_or(Duration::ZERO, |p| p.wait(progress.elapsed(), 1, bytes));
                if wait > Duration::from_millis(1) {
                    target.flush(out)?;
                    tokio::time::sleep(wait).await;
                }
            }
            progress.at(source.passed());
        }
        target.finish(out).await?;
        progress.finish();
        self.summary(out, &progress)
    }

    async fn target(&self, remote: &Remote) -> Result<Target> {
        if self.into.is_some() {
            return Ok(Target::Topic(Box::new(remote.producer(&Producing::default()).await?)));
        }
        let Some(path) = &self.output else { return Ok(Target::Out(Vec::new())) };
        let file = File::create(path).map_err(|e| Fail::io(format_args!("write {}", path.display()), &e))?;
        Ok(Target::File(BufWriter::with_capacity(1 << 20, file), path.clone()))
    }

    fn summary(&self, out: &mut Out, progress: &Progress) -> Result {
        // Standard output may hold the records; then the summary goes beside them.
        if out.json && (self.into.is_some() || self.output.is_some()) {
            return out.value(&json!({
                "topic": self.topic,
                "records": progress.records,
                "bytes": progress.bytes,
                "seconds": progress.elapsed().as_secs_f64(),
                "records_per_s": progress.records_per_s(),
                "bytes_per_s": progress.bytes_per_s(),
            }));
        }
        out.note(progress.summary());
        Ok(())
    }
}

/// Where the records go.
enum Target {
    Out(Vec<u8>),
    File(BufWriter<File>, PathBuf),
    Topic(Box<Producer>),
}

impl Target {
    /// Passes one record on; returns the bytes of its key and value.
    async fn put(&mut self, args: &Replay, record: &ConsumerRecord, out: &mut Out) -> Result<u64> {
        let bytes = record.key().map_or(0, Bytes::len) + record.value().map_or(0, Bytes::len);
        match self {
            Self::Out(text) => {
                text.clear();
                args.format.write(out.json, record, text).expect("memory can be written");
                out.bytes(text)?;
            }
            Self::File(file, path) => {
                args.format.write(out.json, record, file).map_err(|e| Fail::io(format_args!("write {}", path.display()), &e))?
            }
            Self::Topic(producer) => {
                let again = Outgoing {
                    topic: args.into.as_deref().unwrap_or(&args.topic),
                    partition: None,
                    time_ms: Some(record.timestamp_ms()),
                    key: record.key().cloned(),
                    value: record.value().cloned(),
                    headers: record.headers().map(|h| (String::from_utf8_lossy(&h.key).into_owned(), h.value)).collect(),
                };
                producer.send(again).await?;
            }
        }
        Ok(bytes as u64)
    }

    fn flush(&mut self, out: &mut Out) -> Result {
        match self {
            Self::Out(_) => out.flush(),
            Self::File(file, path) => file.flush().map_err(|e| Fail::io(format_args!("write {}", path.display()), &e)),
            Self::Topic(_) => Ok(()),
        }
    }

    async fn finish(mut self, out: &mut Out) -> Result {
        self.flush(out)?;
        match self {
            Self::Topic(producer) => producer.finish().await,
            Self::Out(_) | Self::File(..) => Ok(()),
        }
    }
}
