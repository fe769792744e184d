//! `millpond quota`: how much clients may send and fetch.

use super::{
    Global,
    fail::{Fail, Result},
    out::Out,
    remote::Remote,
    units::Size,
};
use clap::{Args, Subcommand};
use millpond_wire::messages::AlterQuota;
use serde_json::json;

/// Limit how fast clients may produce and fetch
#[derive(Subcommand)]
pub(super) enum Quota {
    Set(Set),
    List(List),
}

/// Set or take away the quota of a client id
#[derive(Args)]
pub(super) struct Set {
    /// The client id; without it, the quota of all clients that have none of their own
    client: Option<String>,
    /// Bytes per second and core that it may produce; 0 for no limit
    #[arg(long, value_name = "SIZE")]
    produce: Option<Size>,
    /// Bytes per second and core that it may fetch; 0 for no limit
    #[arg(long, value_name = "SIZE")]
    fetch: Option<Size>,
}

/// List the quotas
#[derive(Args)]
pub(super) struct List {}

impl Quota {
    pub(super) async fn run(self, global: &Global, out: &mut Out) -> Result {
        match self {
            Self::Set(args) => args.run(global, out).await,
            Self::List(_) => list(&Remote::connect(global).await?, out).await,
        }
    }
}

impl Set {
    async fn run(self, global: &Global, out: &mut Out) -> Result {
        if self.produce.is_none() && self.fetch.is_none() {
            return Err(Fail::usage("nothing is to be changed", "give --produce, --fetch or both"));
        }
        let remote = Remote::connect(global).await?;
        let client_id = self.client.unwrap_or_default();
        let there = remote.list_quotas().await?.into_iter().find(|q| q.client_id == client_id);
        let mut quota = there.unwrap_or_else(|| AlterQuota { client_id, ..AlterQuota::default() });
        quota.produce_bytes_per_s = self.produce.map_or(quota.produce_bytes_per_s, |s| s.0);
        quota.fetch_bytes_per_s = self.fetch.map_or(quota.fetch_bytes_per_s, |s| s.0);
        remote.alter_quota(quota.clone()).await?;
        let text = format!("{}: produce {}, fetch {}", name(&quota), rate(quota.produce_bytes_per_s), rate(quota.fetch_bytes_per_s));
        out.either(&to_json(&quota), text)
    }
}

async fn list(remote: &Remote, out: &mut Out) -> Result {
    let quotas = remote.list_quotas().await?;
    if out.json {
        return quotas.iter().try_for_each(|q| out.value(&to_json(q)));
    }
    if quotas.is_empty() {
        out.note("there are no quotas; set one with `millpond quota set CLIENT --produce 10MiB`");
        return Ok(());
    }
    let row = |q: &AlterQuota| vec![name(q), rate(q.produce_bytes_per_s), rate(q.fetch_bytes_per_s)];
    let rows: Vec<Vec<String>> = quotas.iter().map(row).collect();
    out.table(&["CLIENT", "PRODUCE", "FETCH"], &rows)
}

fn name(quota: &AlterQuota) -> String {
    if quota.client_id.is_empty() { "(all others)".into() } else { quota.client_id.clone() }
}

fn rate(bytes: u64) -> String {
    if bytes == 0 { "no limit".into() } else { format!("{}/s", Size(bytes)) }
}

fn to_json(quota: &AlterQuota) -> serde_json::Value {
    json!({
        "client_id": quota.client_id,
        "produce_bytes_per_s": quota.produce_bytes_per_s,
        "fetch_bytes_per_s": quota.fetch_bytes_per_s,
    })
}
