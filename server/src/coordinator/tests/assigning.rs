//! The assignor alone: balanced, sticky, and no more movement than needed.

use super::*;
use assignor::{Subscriber, assign};
use proptest::prelude::*;

struct Person {
    topics: BTreeSet<Arc<str>>,
    had: BTreeSet<Part>,
}

fn run(counts: &BTreeMap<Arc<str>, u32>, people: &[Person]) -> Vec<BTreeSet<Part>> {
    let members: Vec<_> = people.iter().map(|p| Subscriber { topics: &p.topics, had: &p.had, holds: &p.had }).collect();
    let out = assign(counts, &members);
    assert_eq!(out, assign(counts, &members), "the same arguments, the same answer");
    out
}

/// Every partition that somebody wants has exactly one owner, who wants it.
fn check_complete(counts: &BTreeMap<Arc<str>, u32>, people: &[Person], out: &[BTreeSet<Part>]) {
    let mut seen = BTreeSet::new();
    for (person, parts) in people.iter().zip(out) {
        for part in parts {
            assert!(seen.insert(part.clone()), "{part} twice");
            assert!(person.topics.contains(&part.topic) && part.partition < counts[&part.topic]);
        }
    }
    let wanted: BTreeSet<&Arc<str>> = people.iter().flat_map(|p| &p.topics).collect();
    let all: u32 = wanted.iter().filter_map(|t| counts.get(*t)).sum();
    assert_eq!(seen.len(), all as usize);
}

/// No chain of moves makes the greater of two loads smaller: whoever can be reached from a member has at least as much,
/// less one. Found by brute force over the members, not by classes.
fn check_balanced(people: &[Person], out: &[BTreeSet<Part>]) {
    for start in 0..people.len() {
        let mut reached = BTreeSet::from([start]);
        let mut todo = vec![start];
        while let Some(m) = todo.pop() {
            for part in &out[m] {
                for (other, person) in people.iter().enumerate() {
                    if person.topics.contains(&part.topic) && reached.insert(other) {
                        todo.push(other);
                    }
                }
            }
        }
        for other in reached {
            assert!(out[start].len() <= out[other].len() + 1, "{start} has {} and {other} {}", out[start].len(), out[other].len());
        }
    }
}

fn moved(people: &[Person], out: &[BTreeSet<Part>]) -> usize {
    people.iter().zip(out).map(|(p, now)| p.had.difference(now).count()).sum()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it is about real time")]
fn large_groups_take_no_time() {
    let counts: BTreeMap<Arc<str>, u32> = (0..100).map(|i| (Arc::from(format!("t{i:03}")), 100)).collect();
    let topics: BTreeSet<Arc<str>> = counts.keys().cloned().collect();
    let person = |had| Person { topics: topics.clone(), had };
    let mut people = vec![person(BTreeSet::new())];
    for size in [1usize, 2, 100, 500] {
        while people.len() < size {
            people.push(person(BTreeSet::new()));
        }
        let begun = std::time::Instant::now();
        let out = run(&counts, &people);
        check_complete(&counts, &people, &out);
        assert!(out.iter().all(|o| o.len().abs_diff(10_000 / size) <= 1));
        assert!(begun.elapsed().as_secs() < 5, "{size} members: {:?}", begun.elapsed());
        for (person, had) in people.iter_mut().zip(out) {
            person.had = had;
        }
    }
}

proptest! {
    /// With equal subscriptions: loads differ by at most one, and exactly as many partitions move as must.
    #[test]
    fn equal_subscriptions(
        sizes in prop::collection::vec(0..30u32, 1..5),
        owners in prop::collection::vec(0..12usize, 150),
        members in 1..12usize,
    ) {
        let counts: BTreeMap<Arc<str>, u32> = sizes.iter().enumerate().map(|(i, n)| (Arc::from(format!("t{i}")), *n)).collect();
        let topics: BTreeSet<Arc<str>> = counts.keys().cloned().collect();
        let mut people: Vec<Person> = (0..members).map(|_| Person { topics: topics.clone(), had: BTreeSet::new() }).collect();
        let parts = counts.iter().flat_map(|(t, n)| (0..*n).map(|p| Part { topic: Arc::clone(t), partition: p }));
        for (part, owner) in parts.zip(&owners) {
            // Some owners are gone: their partitions are free.
            if let Some(person) = people.get_mut(*owner) {
                person.had.insert(part);
            }
        }
        let out = run(&counts, &people);
        check_complete(&counts, &people, &out);
        let loads: Vec<usize> = out.iter().map(BTreeSet::len).collect();
        prop_assert!(loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0) <= 1);

        let all: usize = loads.iter().sum();
        let (share, extra) = (all / members, all % members);
        let mut had: Vec<usize> = people.iter().map(|p| p.had.len()).collect();
        had.sort_unstable_by(|a, b| b.cmp(a));
        let must: usize = had.iter().enumerate().map(|(i, n)| n.saturating_sub(share + usize::from(i < extra))).sum();
        prop_assert_eq!(moved(&people, &out), must);
    }

    /// With any subscriptions: complete, balanced, and a balanced assignment is left alone.
    #[test]
    fn any_subscriptions(
        sizes in prop::collection::vec(0..12u32, 1..6),
        wants in prop::collection::vec(0..64u8, 1..9),
        owners in prop::collection::vec(0..12usize, 72),
    ) {
        let counts: BTreeMap<Arc<str>, u32> = sizes.iter().enumerate().map(|(i, n)| (Arc::from(format!("t{i}")), *n)).collect();
        let mut people: Vec<Person> = wants.iter().map(|bits| Person {
            topics: (0..6).filter(|t| bits >> t & 1 == 1).map(|t| Arc::from(format!("t{t}"))).collect(),
            had: BTreeSet::new(),
        }).collect();
        let parts = counts.iter().flat_map(|(t, n)| (0..*n).map(|p| Part { topic: Arc::clone(t), partition: p }));
        for (part, owner) in parts.zip(&owners) {
            if let Some(person) = people.get_mut(*owner) {
                person.had.insert(part);
            }
        }
        let out = run(&counts, &people);
        check_complete(&counts, &people, &out);
        check_balanced(&people, &out);
        for (person, now) in people.iter_mut().zip(&out) {
            person.had.clone_from(now);
        }
        prop_assert_eq!(run(&counts, &people), out);
    }
}
