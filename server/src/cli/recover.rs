//! `millpond node recover`: making do with what one disk has, where the majority of a group is lost for good.

use super::{
    fail::{Fail, Result},
    out::Out,
    serve::run::machine_memory,
};
use crate::{
    boot::recover::Left,
    node::{NodeConfig, config::Security},
    serve,
};
use clap::Args;
use millpond_log::LogConfig;
use millpond_raft::RaftConfig;
use serde_json::json;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// Have partitions lead alone whose other replicas are lost for good: DATA THAT WAS ACKNOWLEDGED MAY BE LOST
///
/// The node must not run. Without --unclean nothing is changed: it shows what this disk has of each partition. With it, each partition that is named becomes
/// a group of this one replica, with all that it has; what only the lost replicas had is gone, and they must never come back.
#[derive(Args)]
#[command(after_help = "\
The last resort, where more than half of the replicas of a partition are on disks that are lost. First stop this node, look, and choose: of several nodes that are \
left the one whose replicas end last. Where the catalog (__meta) has lost its majority, too, it is the first to be recovered; --all does everything on this disk. \
Then start the node, take the lost ones out (`millpond node decommission ID ID`), and let others join.

  millpond node recover --data /var/lib/millpond
  millpond node recover --data /var/lib/millpond --all --unclean
  millpond node recover --data /var/lib/millpond --partition orders/3 --unclean")]
pub(super) struct Recover {
    /// The node's data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// This partition, as TOPIC/N; several are possible
    #[arg(long, short = 'p', value_name = "TOPIC/N", value_parser = partition, conflicts_with = "all")]
    partition: Vec<(String, u32)>,
    /// All of which this disk has a replica
    #[arg(long)]
    all: bool,
    /// Do it, and lose what only the lost replicas had
    #[arg(long)]
    unclean: bool,
}

fn partition(text: &str) -> std::result::Result<(String, u32), String> {
    let parts = text.rsplit_once('/').and_then(|(topic, number)| Some((topic.to_owned(), number.parse().ok()?)));
    parts.ok_or_else(|| "a partition is written as TOPIC/N, such as orders/3".into())
}

impl Recover {
    pub(super) async fn run(self, out: &mut Out) -> Result {
        if self.unclean && !self.all && self.partition.is_empty() {
            return Err(Fail::usage("which partitions are to be recovered?", "name them with --partition TOPIC/N, or give --all"));
        }
        if !self.data.is_dir() {
            return Err(Fail::new(format!("{} is no directory", self.data.display()), "give the data directory of a node"));
        }
        let (all, named, act) = (self.all, self.partition.clone(), self.unclean);
        let chosen = move |topic: &str, number: u32| act && (all || named.iter().any(|(t, n)| t == topic && *n == number));
        let config = config(self.data.clone());
        let left = tokio::task::spawn_blocking(move || serve::recover(config, chosen));
        let left = left.await.map_err(|e| Fail::new(format!("the recovery ended: {e}"), "report this as a bug"))?;
        let left = left.map_err(|failed| Fail::new(format!("{}: {}", failed.doing, failed.why), failed.advice))?;
        for (topic, number) in &self.partition {
            if !left.iter().any(|l| l.topic == *topic && l.partition == *number) {
                let message = format!("there is no replica of {topic}/{number} on this disk");
                return Err(Fail::new(message, "see what there is without --partition"));
            }
        }
        tell(&left, self.unclean, out)
    }
}

/// What opening its logs needs.
fn config(data: PathBuf) -> NodeConfig {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    NodeConfig {
        data,
        listen: nowhere,
        advertise: String::new(),
        log: LogConfig::default(),
        raft: RaftConfig::default(),
        ip: nowhere.ip(),
        tls: false,
        authenticate: false,
        strangers: crate::security::Strangers::new(&[0; 32]),
        rack: String::new(),
        join: Vec::new(),
        replace: None,
        // As much as the node itself takes if nobody says: what is not committed is kept in memory.
        memory_bytes: usize::try_from(machine_memory() / 4).unwrap_or(usize::MAX),
        partitions_default: 1,
        connections_max: 1,
        security: Security::default(),
    }
}

fn tell(left: &[Left], acted: bool, out: &mut Out) -> Result {
    if out.json {
        let one = |l: &Left| {
            json!({
                "topic": l.topic, "partition": l.partition, "voters": l.voters, "end": l.end, "committed": l.committed,
                "newest_ms": l.newest_ms, "recovered": l.recovered,
            })
        };
        return out.value(&json!({ "unclean": acted, "replicas": left.iter().map(one).collect::<Vec<_>>() }));
    }
    let newest = |ms: Option<i64>| match ms.and_then(|ms| u64::try_from(ms).ok()) {
        Some(ms) => humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms)).to_string(),
        None => String::new(),
    };
    let row = |l: &Left| {
        let state = if l.recovered { "alone now" } else { "" };
        let (voters, end, committed) = (l.voters.to_string(), l.end.to_string(), l.committed.to_string());
        vec![l.topic.clone(), l.partition.to_string(), voters, end, committed, newest(l.newest_ms), state.to_owned()]
    };
    out.table(&["TOPIC", "PARTITION", "VOTERS", "END", "COMMITTED HERE", "NEWEST RECORD", ""], &left.iter().map(row).collect::<Vec<_>>())?;
    out.line("")?;
    let recovered = left.iter().filter(|l| l.recovered).count();
    if acted {
        return out.line(format!(
            "{recovered} replica(s) are the only ones of their groups now. The lost ones must never come back: take their nodes out \
             (`millpond node decommission ID`) once this node serves"
        ));
    }
    out.line(
        "nothing was changed. With --unclean a partition goes on with what is listed here: records behind its END, younger than its NEWEST RECORD, \
         are lost if only the lost replicas have them",
    )
}
