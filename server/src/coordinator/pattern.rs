//! Patterns of names, as Kafka's clients give them: read as Rust's `regex` does, which is nearly the RE2 that Kafka's brokers have, and of bounded size.

use super::classic::Refused;
use regex::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
const BYTES_MAX: usize = 1_024;
/// What a pattern may take in memory while it is looked at, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// What matches whole names alone.
///
/// # Errors
/// [`Refused::TooLong`] and [`Refused::Pattern`].
pub fn whole(pattern: &str) -> Result<Regex, Refused> {
    if pattern.len() > BYTES_MAX {
        return Err(Refused::TooLong { what: "a pattern", max: BYTES_MAX });
    }
    let regex = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(COMPILED_BYTES_MAX).build();
    regex.map_err(|error| Refused::Pattern { why: error.to_string() })
}
