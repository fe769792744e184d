//! `millpond quota`: how much clients may send and fetch.

use super::{
    Global,
    fail::{Fail, Result},
    out::Out,
    remote::Remote,
    units::Size,
};
use crate::catalog::Whose;
use clap::{Args, Subcommand};
use millpond_wire::messages::AlterQuota;
use serde_json::json;

/// Limit how fast clients may produce and fetch
#[derive(Subcommand)]
pub(super) enum Quota {
    Set(Set),
    List(List),
}

/// Set or take away the quota of a client id, a user, or a client id of a user
///
/// The first of these holds that says something of what is done: the client id of the user, the user, all other users; the client id,
/// all other client ids.
#[derive(Args)]
pub(super) struct Set {
    /// The client id; without it, all clients of the user together, or the quota of all client ids that have none of their own
    client: Option<String>,
    /// The user whose quota it is
    #[arg(long, value_name = "NAME", conflicts_with = "all_users")]
    user: Option<String>,
    /// The quota of each user that has none of their own
    #[arg(long)]
    all_users: bool,
    /// Bytes per second and core that it may produce; 0 to say nothing of it
    #[arg(long, value_name = "SIZE")]
    produce: Option<Size>,
    /// Bytes per second and core that it may fetch; 0 to say nothing of it
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
        let user = self.user.or(self.all_users.then(String::new));
        let wanted = AlterQuota {
            all_clients: user.is_some() && self.client.is_none(),
            client_id: self.client.unwrap_or_default(),
            user,
            ..AlterQuota::default()
        };
        let there = remote.list_quotas().await?.into_iter().find(|quota| Whose::from(quota) == Whose::from(&wanted));
        let mut quota = there.unwrap_or(wanted);
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
    let named = |name: &str, others: &str| if name.is_empty() { others.to_owned() } else { name.to_owned() };
    let user = quota.user.as_deref().map(|user| named(user, "(all other users)"));
    match (user, quota.all_clients) {
        (None, _) => named(&quota.client_id, "(all others)"),
        (Some(user), true) => format!("user {user}"),
        (Some(user), false) => format!("user {user}, {}", named(&quota.client_id, "(all others)")),
    }
}

fn rate(bytes: u64) -> String {
    if bytes == 0 { "no limit".into() } else { format!("{}/s", Size(bytes)) }
}

fn to_json(quota: &AlterQuota) -> serde_json::Value {
    json!({
        "user": quota.user,
        "client_id": Whose::from(quota).client,
        "produce_bytes_per_s": quota.produce_bytes_per_s,
        "fetch_bytes_per_s": quota.fetch_bytes_per_s,
    })
}
