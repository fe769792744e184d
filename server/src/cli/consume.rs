//! `millpond consume`: records to standard output, as they come.

use super::{
    Global,
    fail::Result,
    out::Out,
    remote::Remote,
    show::Format,
    source::{Positions, Reading, Source, Transactions},
    units::{POINTS, Point},
};
use clap::Args;
use std::sync::Arc;

/// Print records as they come
#[derive(Args)]
#[command(after_help = "\
Without --group every partition is read, from the end or from where --from says, and nothing is remembered. With --group \
the partitions are shared among all consumers of the group, reading goes on where the group stopped, and positions \
are committed after the records were printed.")]
pub(super) struct Consume {
    /// Topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// Read as a member of this consumer group
    #[arg(long, short = 'g', value_name = "NAME")]
    group: Option<String>,
    /// Begin at the first record; with --group, only where the group has no position
    #[arg(long, conflicts_with = "from")]
    from_beginning: bool,
    /// Where to begin
    #[arg(long, value_name = "POINT", conflicts_with = "group", help = format!("Where to begin: {POINTS}"))]
    from: Option<Point>,
    /// Only this partition
    #[arg(long, short = 'p', value_name = "N", conflicts_with = "group")]
    partition: Vec<u32>,
    /// Stop after so many records
    #[arg(long, short = 'n', value_name = "N")]
    max: Option<u64>,
    /// Stop at what is the end when the command starts
    #[arg(long, short = 'e')]
    until_end: bool,
    #[command(flatten)]
    of: Transactions,
    #[command(flatten)]
    format: Format,
}

impl Consume {
    pub(super) async fn run(self, global: &Global, out: &mut Out) -> Result {
        let remote = Remote::connect(global).await?;
        let begin = self.from.unwrap_or(if self.from_beginning { Point::Earliest } else { Point::Latest });
        let mut source = match &self.group {
            Some(group) => Source::join(&remote, group, &self.topics, self.from_beginning, self.until_end, self.of).await?,
            None if self.until_end => {
                let what = Reading { topics: &self.topics, partitions: &self.partition, from: begin, to: Point::Latest, of: self.of };
                Source::replay(&remote, &what, false).await?
            }
            None => Source::live(&remote, &self.topics, &self.partition, begin, self.of).await?,
        };
        let mut left = self.max.unwrap_or(u64::MAX);
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        let mut text = Vec::new();
        while left > 0 {
            let records = tokio::select! {
                records = source.next(left) => records?,
                _ = &mut interrupted => break,
            };
            let Some(records) = records else { break };
            let mut positions = Positions::new();
            for record in &records {
                text.clear();
                self.format.write(out.json, record, &mut text).expect("memory can be written");
                out.bytes(&text)?;
                positions.insert((Arc::clone(&record.topic), record.partition), record.offset() + 1);
            }
            left = left.saturating_sub(records.len() as u64);
            // Printed first, committed then: whoever reads our output may see a record again, and never misses one.
            out.flush()?;
            if !source.commit(positions).await? {
                out.note("the group has not heard of this member for too long, or was restarted: the last records come again");
            }
        }
        source.close().await
    }
}
