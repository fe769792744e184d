//! Whether a new replica has enough of its group's log to vote.
//!
//! It must lack few entries, and none that was applied two looks ago: entries may be large, and a short log has few. Whoever votes with half of the log missing
//! holds up every commit that needs its vote until it has the rest (Ongaro's thesis, 4.2.1, which counts rounds of catching up for the same end).

use millpond_runtime::{GroupId, Index};
use std::collections::{BTreeMap, VecDeque};

/// So many entries may be missing.
const ENTRIES: u64 = 1_000;
/// This look, and those before it up to the one whose entries it must have: a round trip between regions may take that long.
const LOOKS: usize = 3;

/// Up to where the logs of groups that change were applied, at the last looks at them.
#[derive(Default)]
pub(super) struct Near(BTreeMap<GroupId, VecDeque<Index>>);

impl Near {
    /// A look at a group whose log is applied up to there: the entry that a replica must have to vote.
    pub(super) fn look(&mut self, group: GroupId, applied: Index) -> Index {
        let looks = self.0.entry(group).or_default();
        looks.push_back(applied);
        if looks.len() > LOOKS {
            looks.pop_front();
        }
        let of_then = looks.front().copied().unwrap_or(applied);
        of_then.max(Index((applied.0 + 1).saturating_sub(ENTRIES))).max(Index(1))
    }

    /// Forgets groups that nobody looks at any more.
    pub(super) fn keep(&mut self, kept: impl Fn(GroupId) -> bool) {
        self.0.retain(|group, _| kept(*group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(7);

    #[test]
    fn who_has_nothing_of_a_short_log_is_not_near() {
        let mut near = Near::default();
        for _ in 0..100 {
            assert_eq!(near.look(GROUP, Index(400)), Index(400), "nothing is written: all of it is to be had");
        }
        assert_eq!(Near::default().look(GROUP, Index(0)), Index(1), "an empty log has a leader's entry first");
    }

    #[test]
    fn what_was_there_two_looks_ago_is_enough_but_for_too_many_entries() {
        let mut near = Near::default();
        let looks: Vec<u64> = (0..30).map(|look| near.look(GROUP, Index(100 + 50 * look)).0).collect();
        assert_eq!(looks[..3], [100; 3]);
        assert_eq!((looks[3], looks[29]), (150, 100 + 50 * 27));
        let fast: Vec<u64> = (0..3).map(|look| near.look(GROUP, Index(10_000 * (look + 1))).0).collect();
        assert_eq!(fast, [9_001, 19_001, 29_001]);
        near.keep(|group| group != GROUP);
        assert_eq!(near.look(GROUP, Index(60_000)), Index(60_000));
    }
}
