//! Which topics a member wants: those that it names, and those whose whole names its pattern matches.

use super::{group::Topics, member::Member};
use crate::coordinator::classic::Refused;
use regex::{Regex, RegexBuilder};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Longest pattern, in bytes.
pub(super) const REGEX_BYTES_MAX: usize = 1_024;
/// What a pattern may take in memory while it is looked at, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Patterns, each read once.
#[derive(Default)]
pub(super) struct Patterns(BTreeMap<String, BTreeSet<Arc<str>>>);

/// Refuses what is no pattern.
pub(super) fn check(pattern: &str) -> Result<(), Refused> {
    compile(pattern).map(drop).map_err(|error| Refused::Pattern { why: error.to_string() })
}

/// The topics that a member wants now.
pub(super) fn resolve(member: &Member, topics: &Topics) -> BTreeSet<Arc<str>> {
    resolve_with(member, topics, &mut Patterns::default())
}

/// The same for many members.
pub(super) fn resolve_with(member: &Member, topics: &Topics, patterns: &mut Patterns) -> BTreeSet<Arc<str>> {
    let mut wanted: BTreeSet<Arc<str>> = member.names.iter().filter(|name| topics.contains_key(*name)).cloned().collect();
    if let Some(pattern) = &member.regex {
        let Patterns(known) = patterns;
        let matching = || {
            // It was checked when it came; what cannot be read any more matches nothing.
            compile(pattern).map(|regex| topics.keys().filter(|name| regex.is_match(name)).cloned().collect()).unwrap_or_default()
        };
        wanted.extend(known.entry(pattern.clone()).or_insert_with(matching).iter().cloned());
    }
    wanted
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(COMPILED_BYTES_MAX).build()
}
