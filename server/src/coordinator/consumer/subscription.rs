//! Which topics a member wants: those that it names, and those whose whole names its pattern matches.

use super::{group::Topics, member::Member};
use crate::coordinator::pattern;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Patterns, each read once.
#[derive(Default)]
pub(super) struct Patterns(BTreeMap<String, BTreeSet<Arc<str>>>);

/// The topics that a member wants now.
pub(super) fn resolve(member: &Member, topics: &Topics) -> BTreeSet<Arc<str>> {
    resolve_with(member, topics, &mut Patterns::default())
}

/// The same for many members.
pub(super) fn resolve_with(member: &Member, topics: &Topics, patterns: &mut Patterns) -> BTreeSet<Arc<str>> {
    let mut wanted: BTreeSet<Arc<str>> = member.names.iter().filter(|name| topics.contains_key(*name)).cloned().collect();
    if let Some(regex) = &member.regex {
        let Patterns(known) = patterns;
        let matching = || {
            // It was checked when it came; what cannot be read any more matches nothing.
            pattern::whole(regex).map(|regex| topics.keys().filter(|name| regex.is_match(name)).cloned().collect()).unwrap_or_default()
        };
        wanted.extend(known.entry(regex.clone()).or_insert_with(matching).iter().cloned());
    }
    wanted
}
