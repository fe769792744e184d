use super::*;
use crate::{
    config::GroupConfig,
    entry::{Entry, EntryKind},
};
use bytes::Bytes;
use millpond_runtime::Term;
use proptest::prelude::*;

const PAYLOAD: usize = 50;

fn push(groups: &mut Groups, id: u64, file: u64) {
    let cost = PAYLOAD + crate::tail::ENTRY_OVERHEAD_BYTES;
    let _ = groups.push(GroupId(id), cost, |g| {
        let (index, base) = (g.last_index.next(), g.end_offset);
        g.last_index = index;
        g.end_offset = base.plus(1);
        let payload = Bytes::from(vec![0; PAYLOAD]);
        let entry = Entry { index, term: Term(1), kind: EntryKind::Batch, base_offset: base, payload };
        g.tail.push(TailEntry { entry, next_offset: base.plus(1), max_timestamp: 0, file_seq: file });
    });
}

fn sync(groups: &mut Groups, id: u64, settle_bytes: usize) {
    if let Some((index, end)) = groups.get(GroupId(id)).map(|g| (g.last_index, g.end_offset)) {
        groups.synced(&Touched { group: GroupId(id), index, end, life: 0 }, settle_bytes);
    }
}

#[test]
fn a_file_is_needed_by_the_group_that_holds_it_back() {
    let mut groups = Groups::default();
    groups.insert(Group::new(GroupId(1), GroupConfig::default()));
    groups.insert(Group::new(GroupId(2), GroupConfig::default()));
    push(&mut groups, 1, 1);
    push(&mut groups, 2, 1);
    push(&mut groups, 1, 2);
    assert_eq!(groups.needed_file(), Some(1));
    groups.release(GroupId(1), Index(1), Offset(0));
    assert_eq!(groups.by_need().collect::<Vec<_>>(), [(1, GroupId(2)), (2, GroupId(1))]);
    groups.remove(GroupId(2));
    assert_eq!(groups.needed_file(), Some(1), "until the drop is synced, a crash would bring the group back");
    groups.forget(GroupId(2));
    assert_eq!(groups.needed_file(), Some(2));
}

#[test]
fn a_group_is_ready_once_and_again_when_it_has_more() {
    let mut groups = Groups::default();
    groups.insert(Group::new(GroupId(1), GroupConfig::default()));
    push(&mut groups, 1, 1);
    sync(&mut groups, 1, 300);
    assert!(!groups.has_ready(), "too little");
    push(&mut groups, 1, 1);
    sync(&mut groups, 1, 300);
    sync(&mut groups, 1, 300);
    assert_eq!((groups.next_ready(), groups.next_ready()), (Some(GroupId(1)), None));
    sync(&mut groups, 1, 300);
    assert_eq!(groups.next_ready(), Some(GroupId(1)));
}

#[test]
fn the_largest_are_those_with_the_most_that_can_be_settled() {
    let mut groups = Groups::default();
    let sizes = [(1, 1), (2, 4), (3, 2), (4, 6), (5, 9)];
    for (id, entries) in sizes {
        groups.insert(Group::new(GroupId(id), GroupConfig::default()));
        (0..entries).for_each(|_| push(&mut groups, id, 1));
        if id != 4 {
            sync(&mut groups, id, 1 << 30);
        }
    }
    groups.insert(Group::new(GroupId(6), GroupConfig::default()));
    let largest = |groups: &Groups, n| groups.largest(n).iter().map(|group| group.0).collect::<Vec<_>>();
    assert_eq!(largest(&groups, 3), [5, 2, 3], "what is not synced cannot be settled");
    assert_eq!(largest(&groups, 10), [5, 2, 3, 1]);
    assert_eq!(largest(&groups, 0), [0_u64; 0]);
    // Settled, and not noted yet: it takes memory, and settling it again would bring little.
    groups.get_mut(GroupId(5)).expect("it is there").settled.index = Index(8);
    assert_eq!(largest(&groups, 10), [2, 3, 1]);
    groups.release(GroupId(5), Index(8), Offset(0));
    assert_eq!(largest(&groups, 10), [2, 3, 1, 5]);
}

#[test]
fn only_synced_entries_are_settled() {
    let mut groups = Groups::default();
    groups.insert(Group::new(GroupId(1), GroupConfig::default()));
    push(&mut groups, 1, 1);
    sync(&mut groups, 1, 1);
    push(&mut groups, 1, 1);
    let indexes: Vec<u64> = groups.settleable(GroupId(1), Index(u64::MAX), 10_000).iter().map(|e| e.entry.index.0).collect();
    assert_eq!(indexes, [1]);
}

#[derive(Clone, Debug)]
enum Op {
    Push(u64),
    Sync(u64),
    Release(u64, u64),
    Trim(u64, u64),
    Evict(usize),
    Remove(u64),
    Roll,
}

fn op() -> impl Strategy<Value = Op> {
    let id = 1u64..4;
    prop_oneof![
        4 => id.clone().prop_map(Op::Push),
        2 => id.clone().prop_map(Op::Sync),
        2 => (id.clone(), 0u64..20).prop_map(|(g, i)| Op::Release(g, i)),
        1 => (id.clone(), 0u64..20).prop_map(|(g, o)| Op::Trim(g, o)),
        1 => (0usize..2000).prop_map(Op::Evict),
        1 => id.prop_map(Op::Remove),
        1 => Just(Op::Roll),
    ]
}

proptest! {
    #[test]
    fn accounts_stay_right(ops in proptest::collection::vec(op(), 0..80)) {
        let mut groups = Groups::default();
        let mut file = 1;
        for op in ops {
            match op {
                Op::Push(id) => {
                    if groups.get(GroupId(id)).is_none() {
                        groups.forget(GroupId(id));
                        groups.insert(Group::new(GroupId(id), GroupConfig::default()));
                    }
                    push(&mut groups, id, file);
                }
                Op::Sync(id) => sync(&mut groups, id, 500),
                Op::Release(id, index) => {
                    let last = groups.get(GroupId(id)).map_or(0, |g| g.last_index.0);
                    groups.release(GroupId(id), Index(index.min(last)), Offset(0));
                }
                Op::Trim(id, start) => groups.trim(GroupId(id), Offset(start)),
                Op::Evict(bytes) => {
                    groups.evict_to(bytes);
                    prop_assert!(groups.cached_bytes() <= bytes);
                }
                Op::Remove(id) => {
                    groups.remove(GroupId(id));
                    groups.forget(GroupId(id));
                }
                Op::Roll => file += 1,
            }
            groups.check();
        }
    }
}

#[test]
fn what_is_gone_holds_its_file_until_that_is_known() {
    let mut groups = Groups::default();
    let replica = Some(Box::new(crate::replica::Replica::new(Bytes::new())));
    groups.insert(Group { replica, ..Group::new(GroupId(1), GroupConfig::default()) });
    let cost = PAYLOAD + crate::tail::ENTRY_OVERHEAD_BYTES;
    for file in [3, 4] {
        groups.push(GroupId(1), cost, |g| g.push(Term(1), Bytes::from(vec![0; PAYLOAD]), None, file, 0));
    }
    let gone = groups.get(GroupId(1)).and_then(|g| g.replica.as_ref()?.truncation(Index(0))).expect("nothing is committed");
    let file = groups.get(GroupId(1)).and_then(|g| g.tail.needed_file());
    groups.truncate(GroupId(1), &gone, file.expect("nothing is settled"));
    groups.check();
    assert_eq!((file, groups.needed_file(), groups.unsettled_bytes()), (Some(3), Some(3), 0), "a crash now would bring them back");
    groups.let_go(3);
    assert_eq!(groups.needed_file(), None);
}

#[test]
fn groups_that_grow_alike_are_not_settled_at_once() {
    let bytes: usize = 4 << 20;
    let of = |node, id, settled| enough(node, GroupId(id), Index(settled), bytes);
    let all: Vec<usize> = (0..16).flat_map(|id| [0, 1000, 2000].map(|settled| of(1, id, settled))).collect();
    assert!(all.iter().all(|one| (bytes / 2..=bytes).contains(one)), "{all:?}");
    for eighth in 4..8 {
        let within = all.iter().filter(|one| (bytes / 8 * eighth..bytes / 8 * (eighth + 1)).contains(*one)).count();
        assert!(within >= all.len() / 8, "{within} of {} lie in eighth {eighth}: {all:?}", all.len());
    }
    let near = |id: u64, (a, b): (u64, u64)| of(a, id, 0).abs_diff(of(b, id, 0)) < bytes / 32;
    let together = (0..100).flat_map(|id| [(1, 2), (2, 3), (1, 3)].map(|pair| near(id, pair))).filter(|near| *near).count();
    assert!(together < 60, "replicas of one group are settled at once, {together} pairs of 300");
}
