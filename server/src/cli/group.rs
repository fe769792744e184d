//! `millpond group`: list, describe, seek and delete consumer groups.

use super::{
    Global,
    fail::{Fail, Result},
    out::Out,
    progress::thousands,
    remote::Remote,
    units::{POINTS, Point},
};
use clap::{Args, Subcommand};
use millpond_wire::messages::{DescribeGroupReply, GroupPosition, MemberInfo, Position, TopicPartitions};
use serde_json::{Value, json};

/// List, describe, seek and delete consumer groups
#[derive(Subcommand)]
pub(super) enum Group {
    List(List),
    Describe(Describe),
    Seek(Seek),
    Delete(Delete),
}

/// List the consumer groups
#[derive(Args)]
pub(super) struct List {}

/// Show members, positions and lag of groups
#[derive(Args)]
pub(super) struct Describe {
    /// Groups
    #[arg(required = true)]
    names: Vec<String>,
}

/// Move a group's positions; nobody may be consuming meanwhile
#[derive(Args)]
pub(super) struct Seek {
    /// The group; it need not exist
    group: String,
    /// The topic
    topic: String,
    /// Where to
    #[arg(long, value_name = "POINT", help = format!("Where to: {POINTS}"))]
    to: Point,
    /// Only in this partition
    #[arg(long, short = 'p', value_name = "N")]
    partition: Option<u32>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Delete groups with their positions; nobody may be consuming
#[derive(Args)]
pub(super) struct Delete {
    /// Groups
    #[arg(required = true)]
    names: Vec<String>,
}

impl Group {
    pub(super) async fn run(self, global: &Global, out: &mut Out) -> Result {
        let remote = Remote::connect(global).await?;
        match self {
            Self::List(_) => list(&remote, out).await,
            Self::Describe(args) => {
                for name in &args.names {
                    let group = remote.describe_group(name).await?;
                    if out.json { out.value(&to_json(&group))? } else { describe(&group, out)? }
                }
                Ok(())
            }
            Self::Seek(args) => args.run(&remote, out).await,
            Self::Delete(args) => {
                for name in args.names {
                    remote.delete_group(&name).await?;
                    out.either(&json!({ "deleted": name }), format!("{name} deleted"))?;
                }
                Ok(())
            }
        }
    }
}

async fn list(remote: &Remote, out: &mut Out) -> Result {
    let groups = remote.list_groups().await?;
    if out.json {
        let value = |g: &_| {
            let millpond_wire::messages::GroupListing { group, state, members, classic, sort } = g;
            json!({ "group": group, "state": state, "members": members, "classic": classic, "type": sort })
        };
        return groups.iter().try_for_each(|g| out.value(&value(g)));
    }
    if groups.is_empty() {
        out.note("there are no consumer groups; `millpond consume TOPIC --group NAME` makes one");
        return Ok(());
    }
    let rows: Vec<Vec<String>> =
        groups.into_iter().map(|g| vec![g.group, g.state, g.members.to_string(), sort(&g.sort, &g.classic)]).collect();
    out.table(&["GROUP", "STATE", "MEMBERS", "TYPE"], &rows)
}

/// `consumer`, or `classic (connect)`.
fn sort(sort: &str, classic: &str) -> String {
    if classic.is_empty() { sort.to_owned() } else { format!("classic ({classic})") }
}

fn lag(p: &GroupPosition) -> u64 {
    p.end_offset.saturating_sub(p.position.as_ref().map_or(0, |at| at.offset.max(p.start_offset)))
}

fn describe(group: &DescribeGroupReply, out: &mut Out) -> Result {
    let total: u64 = group.positions.iter().map(lag).sum();
    let members = group.members.len();
    let sort = Some(sort(&group.sort, &group.classic)).filter(|sort| !sort.is_empty()).map(|sort| format!(", {sort}")).unwrap_or_default();
    out.line(format!("{}: {}{sort}, {members} member(s), {} records behind", group.group, group.state, thousands(total)))?;
    if !group.members.is_empty() {
        out.line("")?;
        let row = |m: &MemberInfo| vec![m.member_id.clone(), m.client_id.clone(), m.host.clone(), show(&m.owned)];
        let rows: Vec<Vec<String>> = group.members.iter().map(row).collect();
        out.table(&["MEMBER", "CLIENT", "HOST", "READS"], &rows)?;
    }
    if !group.positions.is_empty() {
        out.line("")?;
        let row = |p: &GroupPosition| {
            let at = p.position.clone().unwrap_or_default();
            vec![at.topic, at.partition.to_string(), at.offset.to_string(), p.end_offset.to_string(), lag(p).to_string()]
        };
        let rows: Vec<Vec<String>> = group.positions.iter().map(row).collect();
        out.table(&["TOPIC", "PARTITION", "POSITION", "END", "LAG"], &rows)?;
    }
    Ok(())
}

impl Seek {
    async fn run(self, remote: &Remote, out: &mut Out) -> Result {
        let (topic, _) = remote.describe_topic(&self.topic).await?;
        let mut positions = Vec::new();
        for p in topic.partitions.iter().filter(|p| self.partition.is_none_or(|n| n == p.partition)) {
            let offset = remote.resolve(&self.topic, p.partition, self.to).await?;
            let offset = offset.clamp(p.start_offset, p.end_offset);
            positions.push(Position {
                topic: self.topic.clone(),
                partition: p.partition,
                offset,
                metadata: String::new(),
                leader_epoch: None,
            });
        }
        if positions.is_empty() {
            let last = topic.partitions.len().saturating_sub(1);
            return Err(Fail::new(format!("{} has no such partition", self.topic), format!("one of 0 to {last}")));
        }
        if !self.dry_run {
            remote.commit(&self.group, positions.clone()).await?;
        }
        if out.json {
            let value = |p: &Position| json!({ "topic": p.topic, "partition": p.partition, "offset": p.offset });
            let list: Vec<Value> = positions.iter().map(value).collect();
            return out.value(&json!({ "group": self.group, "positions": list, "changed": !self.dry_run }));
        }
        let rows: Vec<Vec<String>> = positions.into_iter().map(|p| vec![p.topic, p.partition.to_string(), p.offset.to_string()]).collect();
        out.table(&["TOPIC", "PARTITION", "POSITION"], &rows)?;
        if self.dry_run {
            out.note("nothing was changed (--dry-run)");
        }
        Ok(())
    }
}

/// `events 0-3,7`
fn show(owned: &[TopicPartitions]) -> String {
    let topic = |t: &TopicPartitions| {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for p in &t.partitions {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == *p => *last = *p,
                _ => runs.push((*p, *p)),
            }
        }
        let run = |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
        format!("{} {}", t.topic, runs.iter().map(run).collect::<Vec<_>>().join(","))
    };
    owned.iter().map(topic).collect::<Vec<_>>().join("; ")
}

fn to_json(group: &DescribeGroupReply) -> Value {
    let parts =
        |list: &[TopicPartitions]| -> Vec<Value> { list.iter().map(|t| json!({ "topic": t.topic, "partitions": t.partitions })).collect() };
    let member = |m: &MemberInfo| {
        json!({
            "member": m.member_id, "client_id": m.client_id, "host": m.host, "epoch": m.epoch,
            "owned": parts(&m.owned), "assigned": parts(&m.assigned),
        })
    };
    let position = |p: &GroupPosition| {
        let at = p.position.clone().unwrap_or_default();
        json!({
            "topic": at.topic, "partition": at.partition, "offset": at.offset, "metadata": at.metadata,
            "start_offset": p.start_offset, "end_offset": p.end_offset, "lag": lag(p),
        })
    };
    json!({
        "group": group.group,
        "state": group.state,
        "epoch": group.epoch,
        "classic": group.classic,
        "type": group.sort,
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
        "positions": group.positions.iter().map(position).collect::<Vec<_>>(),
    })
}
