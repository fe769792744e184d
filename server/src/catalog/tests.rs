use super::*;
use millpond_log::GroupConfig;
use millpond_wire::messages::{AlterQuota, Placement};
use proptest::prelude::*;

fn create(name: &str, partitions: u32, settings: &[(&str, &str)]) -> CreateTopic {
    CreateTopic { name: name.into(), partitions, settings: wire(settings), ..Default::default() }
}

fn alter(name: &str, partitions: u32, settings: &[(&str, &str)]) -> AlterTopic {
    AlterTopic { name: name.into(), partitions, settings: wire(settings), ..AlterTopic::default() }
}

fn delete(name: &str) -> DeleteTopic {
    DeleteTopic { name: name.into(), ..Default::default() }
}

fn wire(settings: &[(&str, &str)]) -> Vec<Setting> {
    settings.iter().map(|(n, v)| Setting { name: (*n).into(), value: (*v).into(), is_default: false }).collect()
}

fn apply(catalog: &mut Catalog, plan: &Plan) -> Vec<Effect> {
    let mut effects = Vec::new();
    for r in &plan.records {
        effects.extend(catalog.apply(&r.key, r.value.as_deref()).expect("we read what we wrote"));
    }
    catalog.check();
    effects
}

fn made(name: &str, partitions: u32, settings: &[(&str, &str)]) -> Catalog {
    let mut catalog = Catalog::new();
    let plan = catalog.plan_create(&create(name, partitions, settings), 2).expect("valid");
    apply(&mut catalog, &plan);
    catalog
}

#[test]
fn defaults_are_valid() {
    let all = TopicSettings::default();
    for spec in settings::SPECS {
        let spelled = all.with([(spec.name, spec.default)]).expect("a default is within its own bounds");
        assert_eq!(spelled.to_wire().iter().find(|s| s.name == spec.name).map(|s| s.value.as_str()), Some(spec.default));
    }
    assert!(all.delete && !all.compact && all.retention_bytes.is_none() && all.retention_ms == Some(604_800_000));
    assert_eq!(GroupConfig::from(&all), GroupConfig::default(), "the log and the catalog agree");
    assert!(settings::SPECS.is_sorted_by_key(|s| s.name), "listed by name");
}

#[test]
fn promises_of_kafka_that_hold_anyway_are_taken_and_no_others() {
    let kept = [
        ("min.insync.replicas", "2"),
        ("unclean.leader.election.enable", "false"),
        ("compression.type", "producer"),
        ("flush.messages", "9223372036854775807"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("preallocate", "true"),
    ];
    let settings = TopicSettings::new(kept).expect("all of them hold");
    assert_eq!(settings.overrides().count(), kept.len(), "and told as they were asked for");
    for (name, value) in [
        ("unclean.leader.election.enable", "true"),
        ("compression.type", "gzip"),
        ("remote.storage.enable", "true"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("min.insync.replicas", "0"),
        ("max.compaction.lag.ms", "1000"),
    ] {
        TopicSettings::new([(name, value)]).expect_err("it would not hold");
    }
    // A majority of three is two, of one is one.
    let mut catalog = cluster(3);
    let insync = |topic: &str, replication: u32, n: &str| CreateTopic { replication, ..create(topic, 1, &[("min.insync.replicas", n)]) };
    let plan = catalog.plan_create(&insync("two", 3, "2"), 1).expect("a majority");
    apply(&mut catalog, &plan);
    for (replication, n) in [(1, "2"), (3, "3"), (2, "3")] {
        assert!(
            matches!(catalog.plan_create(&insync("t", replication, n), 1), Err(CatalogError::BadSetting { .. })),
            "{n} of {replication}"
        );
    }
    assert!(catalog.plan_alter(&AlterTopic { replication: 1, ..alter("two", 0, &[]) }, 1).is_err(), "one is not two");
    assert!(catalog.plan_alter(&alter("two", 0, &[("min.insync.replicas", "3")]), 1).is_err());
    assert!(catalog.plan_alter(&AlterTopic { replication: 1, ..alter("two", 0, &[("min.insync.replicas", "1")]) }, 1).is_ok());
}

#[test]
fn creating_gives_groups_of_their_own_on_all_homes() {
    let mut catalog = Catalog::new();
    let plan = catalog.plan_create(&create("a", 4, &[]), 2).expect("valid");
    assert!(catalog.topic("a").is_none(), "a plan changes nothing");
    let effects = apply(&mut catalog, &plan);
    assert_eq!(effects.len(), 4);
    let topic = catalog.topic("a").expect("created");
    // Home 0 has the catalog itself, so the first partition goes to the other one.
    assert_eq!(topic.partitions.iter().map(|p| p.home.0).collect::<Vec<_>>(), [1, 0, 1, 0]);
    assert_eq!(topic.partitions.iter().map(|p| p.group.0).collect::<Vec<_>>(), [16, 17, 18, 19]);
    assert_eq!(catalog.partition_of(GroupId(18)).map(|(t, n)| (t.name.as_str(), n)), Some(("a", 2)));
    assert_eq!(catalog.epoch(), 1);
}

#[test]
fn names_follow_kafkas_rules() {
    for good in ["a", "a.b_c-D9", "...", &"x".repeat(249)] {
        names::check(good).expect("allowed");
    }
    for (bad, says) in
        [("", "empty"), (".", "`..`"), ("..", "`..`"), ("a b", "' '"), ("a/b", "'/'"), ("ä", "'ä'"), (&"x".repeat(250), "250 bytes")]
    {
        let error = names::check(bad).expect_err("refused");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn settings_are_checked_and_errors_say_what_is_possible() {
    let refuse = |name: &str, value: &str| TopicSettings::new([(name, value)]).expect_err("refused");
    let unknown = refuse("retention", "1");
    assert!(unknown.advice().contains("retention.ms") && unknown.advice().contains("cleanup.policy"));
    assert!(refuse("retention.ms", "soon").to_string().contains("whole number"));
    assert!(refuse("retention.ms", "-2").to_string().contains("from -1"));
    assert!(refuse("cleanup.policy", "delete,rot").to_string().contains("delete, compact"));
    assert!(refuse("message.timestamp.type", "Never").to_string().contains("LogAppendTime"));
    assert!(refuse("segment.bytes", "1").to_string().contains("from 1048576"));
    let wide = TopicSettings::new([("segment.bytes", "1048576"), ("max.message.bytes", "2000000")]);
    assert!(wide.expect_err("a batch must fit into a segment").to_string().contains("segment.bytes is 1048576"));
    let both = TopicSettings::new([("cleanup.policy", " compact , delete ")]).expect("valid");
    assert!(both.compact && both.delete);
    assert_eq!(both.overrides().collect::<Vec<_>>(), [("cleanup.policy", "delete,compact")]);
    assert_eq!(TopicSettings::new([("retention.ms", "-1")]).expect("valid").retention_ms, None);
}

#[test]
fn creating_twice_is_refused_or_fine_as_asked() {
    let catalog = made("a", 1, &[]);
    assert_eq!(catalog.plan_create(&create("a", 1, &[]), 2), Err(CatalogError::TopicExists { name: "a".into() }));
    let again = CreateTopic { if_not_exists: true, ..create("a", 3, &[]) };
    let plan = catalog.plan_create(&again, 2).expect("fine");
    assert!(!plan.changes());
    assert_eq!(plan.topic.map(|t| t.partitions.len()), Some(1));
    let dry = CreateTopic { dry_run: true, ..create("b", 3, &[]) };
    let plan = catalog.plan_create(&dry, 2).expect("fine");
    assert!(!plan.changes() && plan.topic.is_some());
}

/// Whoever repeats an attempt is given what that has made, over a restart, too; nobody else is.
#[test]
fn an_attempt_makes_one_topic() {
    let mut catalog = Catalog::new();
    let attempt = |attempt| CreateTopic { attempt, ..create("a", 2, &[]) };
    let plan = catalog.plan_create(&attempt(7), 2).expect("valid");
    apply(&mut catalog, &plan);
    let again = catalog.plan_create(&attempt(7), 2).expect("it was this one");
    assert_eq!((again.changes(), again.topic), (false, plan.topic));
    for other in [0, 8] {
        assert_eq!(catalog.plan_create(&attempt(other), 2), Err(CatalogError::TopicExists { name: "a".into() }));
    }
    let plan = catalog.plan_alter(&alter("a", 3, &[]), 2).expect("valid");
    apply(&mut catalog, &plan);
    assert!(catalog.plan_create(&attempt(7), 2).is_ok(), "it is the same topic");
    let plan = catalog.plan_create(&CreateTopic { name: "b".into(), ..attempt(0) }, 2).expect("valid");
    apply(&mut catalog, &plan);
    let nobodys = CreateTopic { name: "b".into(), ..attempt(0) };
    assert!(catalog.plan_create(&nobodys, 2).is_err(), "0 is no attempt");
}

/// A request that is late on its way neither brings back what was deleted meanwhile nor deletes what was created meanwhile.
#[test]
fn what_goes_by_how_it_was_is_refused() {
    let mut catalog = made("a", 1, &[]);
    let (first, as_of) = (catalog.topic("a").expect("there").topic_id, catalog.epoch());
    let late = CreateTopic { if_not_exists: true, as_of, ..create("a", 1, &[]) };
    let late_delete = DeleteTopic { topic_id: Some(first), ..delete("a") };
    assert!(!catalog.plan_create(&late, 2).expect("it is there").changes());
    let plan = catalog.plan_delete(&late_delete).expect("it is the one");
    apply(&mut catalog, &plan);
    let outdated = Err(CatalogError::Outdated { name: "a".into() });
    assert_eq!(catalog.plan_create(&late, 2), outdated);
    let anew = CreateTopic { as_of: catalog.epoch(), ..create("a", 1, &[]) };
    let plan = catalog.plan_create(&anew, 2).expect("nothing was deleted since");
    apply(&mut catalog, &plan);
    assert_eq!(catalog.plan_delete(&late_delete), outdated);
    assert_eq!(catalog.plan_delete(&DeleteTopic { topic_id: Some(0), ..delete("a") }), outdated, "whoever asked knew of none");
    assert!(catalog.plan_delete(&delete("a")).expect("any").changes());
}

#[test]
fn altering_grows_and_sets_and_never_shrinks() {
    let mut catalog = made("a", 2, &[("retention.ms", "1000")]);
    let before = catalog.topic("a").expect("there").clone();
    let plan = catalog.plan_alter(&alter("a", 5, &[("retention.ms", ""), ("segment.ms", "5000")]), 2).expect("valid");
    let effects = apply(&mut catalog, &plan);
    let after = catalog.topic("a").expect("there");
    assert_eq!(after.partitions[..2], before.partitions[..], "what is there stays where it is");
    assert_eq!(after.partitions.len(), 5);
    assert_eq!(after.settings.overrides().collect::<Vec<_>>(), [("segment.ms", "5000")]);
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::Alter(..))).count(), 2);
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::Create(..))).count(), 3);
    assert!(!catalog.plan_alter(&alter("a", 5, &[("segment.ms", "5000")]), 2).expect("valid").changes());
    assert!(matches!(catalog.plan_alter(&alter("a", 4, &[]), 2), Err(CatalogError::BadPartitions { .. })));
    assert!(matches!(catalog.plan_alter(&alter("b", 4, &[]), 2), Err(CatalogError::UnknownTopic { .. })));
    assert!(matches!(catalog.plan_alter(&alter(META, 4, &[]), 2), Err(CatalogError::Internal { .. })));
    assert!(matches!(catalog.plan_delete(&delete(META)), Err(CatalogError::Internal { .. })));
}

#[test]
fn numbers_are_never_given_twice() {
    let mut catalog = made("a", 2, &[]);
    let old = catalog.topic("a").expect("there").clone();
    let plan = catalog.plan_delete(&delete("a")).expect("there");
    assert_eq!(apply(&mut catalog, &plan), [Effect::Drop(Home(1), GroupId(16)), Effect::Drop(Home(0), GroupId(17))]);
    let plan = catalog.plan_create(&create("a", 2, &[]), 2).expect("valid");
    apply(&mut catalog, &plan);
    let new = catalog.topic("a").expect("there");
    assert!(new.topic_id > old.topic_id);
    assert!(new.partitions.iter().all(|p| !old.partitions.contains(p)));
    let (ids, plan) = catalog.plan_producers(1000);
    assert_eq!(ids, 1..1001);
    apply(&mut catalog, &plan);
    assert_eq!(catalog.plan_producers(1).0, 1001..1002);
}

#[test]
fn a_restart_makes_good_what_a_crash_left_undone() {
    let mut catalog = made("a", 2, &[]);
    let plan = catalog.plan_bootstrap(2);
    apply(&mut catalog, &plan);
    assert!(!catalog.plan_bootstrap(2).changes());
    // Home 1 should have 16 (a-0) and 18 (offsets-0); it lost the creation of 18 and the drop of 99.
    let effects = catalog.reconcile(FOUNDER, Home(1), &[GroupId(16), GroupId(99)]);
    let short: Vec<_> = effects
        .iter()
        .map(|e| match e {
            Effect::Create(_, g, _) => ("create", g.0),
            Effect::Alter(_, g, _) => ("alter", g.0),
            Effect::Drop(_, g) => ("drop", g.0),
            Effect::Quota(..) | Effect::Nodes => ("other", 0),
        })
        .collect();
    assert_eq!(short, [("create", 18), ("alter", 16), ("drop", 99)]);
    assert!(catalog.reconcile(FOUNDER, Home(0), &[META_GROUP, GroupId(17), GroupId(19)]).iter().all(|e| !matches!(e, Effect::Drop(..))));
}

fn node(port: u16) -> Node {
    Node {
        host: "localhost".into(),
        ip: [127, 0, 0, 1].into(),
        port,
        ports: vec![port + 1],
        homes: 1,
        rack: String::new(),
        meta: 0,
        state: NodeState::In,
        replaced_by: None,
        age: Age::default(),
    }
}

fn cluster(nodes: u64) -> Catalog {
    let mut catalog = Catalog::new();
    let plan = catalog.plan_bootstrap(1);
    apply(&mut catalog, &plan);
    for id in 1..=nodes {
        let (given, plan) = catalog.plan_node((id == 1).then_some(1), node(7000 + 10 * id as u16)).expect("taken in");
        apply(&mut catalog, &plan);
        assert_eq!(given, id);
    }
    catalog
}

fn wanted(catalog: &Catalog, topic: &str) -> Vec<Vec<u64>> {
    let of = |p: &Partition| p.replicas.as_ref().expect("it has replicas").wanted.iter().map(|r| r.node).collect();
    catalog.topic(topic).expect("created").partitions.iter().map(of).collect()
}

#[test]
fn a_broken_replica_gets_a_successor_on_its_node_where_the_others_are_a_majority() {
    let mut catalog = cluster(3);
    for (name, replication) in [("t", 3), ("two", 2)] {
        let topic = CreateTopic { replication, ..create(name, 2, &[]) };
        let plan = catalog.plan_create(&topic, 1).expect("valid");
        apply(&mut catalog, &plan);
    }
    let partition = |catalog: &Catalog, topic: &str| catalog.topic(topic).expect("created").partitions[1].clone();
    let replicas = |catalog: &Catalog, topic: &str| *partition(catalog, topic).replicas.expect("it has some");
    let (group, before) = (partition(&catalog, "t").group, replicas(&catalog, "t"));
    let old = before.wanted[1];
    let plan = catalog.plan_renew(&[(group, old), (META_GROUP, Replica { id: 1, node: 1 }), (GroupId(999), old)]);
    apply(&mut catalog, &plan);
    let after = replicas(&catalog, "t");
    let new = after.wanted[1];
    assert!(new.node == old.node && new.id > old.id, "{after:?}");
    assert!(before.wanted.iter().zip(&after.wanted).all(|(b, a)| b == a || *b == old) && after.now == before.now, "{after:?}");
    assert_eq!(partition(&catalog, "t").lives_on(old.node), Lives::Replica(new.id), "the new one is to be there");
    // Told again, and late: nothing is left to do.
    assert!(!catalog.plan_renew(&[(group, old)]).changes());
    // Once it is done the successor may break as well.
    let plan = catalog.plan_moved(&[(group, after.wanted.clone())]);
    apply(&mut catalog, &plan);
    assert!(replicas(&catalog, "t").is_settled() && catalog.plan_renew(&[(group, new)]).changes());
    // The other one of two is no majority: it could not take in anybody.
    let lone = (partition(&catalog, "two").group, replicas(&catalog, "two").wanted[0]);
    assert!(!catalog.plan_renew(&[lone]).changes());
}

#[test]
fn a_lost_node_is_replaced_one_for_one_and_goes_when_it_has_nothing() {
    let mut catalog = cluster(3);
    let plan = catalog.plan_create(&create("t", 6, &[]), 1).expect("valid");
    apply(&mut catalog, &plan);
    let before = wanted(&catalog, "t");
    let (new, plan) = catalog.plan_replacement(2, node(7777)).expect("it is known");
    apply(&mut catalog, &plan);
    assert_eq!(new, 4);
    let expected: Vec<Vec<u64>> = before.iter().map(|all| all.iter().map(|n| if *n == 2 { 4 } else { *n }).collect()).collect();
    assert_eq!(wanted(&catalog, "t"), expected, "in the same places");
    assert_eq!(catalog.node(2).map(|n| (n.state, n.replaced_by)), Some((NodeState::Leaving, Some(4))));
    // The answer was lost, and it asks again; another one is another.
    let (again, plan) = catalog.plan_replacement(2, node(7777)).expect("it is known");
    assert!(again == 4 && !plan.changes());
    assert_eq!(catalog.plan_replacement(2, node(8888)).expect("it is known").0, 5);
    assert!(matches!(catalog.plan_replacement(9, node(8888)), Err(CatalogError::UnknownNode { node: 9 })));
    // Its replicas are still there, as far as was told.
    assert!(!catalog.plan_heal().changes() || catalog.plan_node_gone(2).is_err());
    for _ in 0..100 {
        let groups: Vec<_> = catalog.topics().filter(|t| t.name != META).flat_map(|t| &t.partitions).cloned().collect();
        let done = groups.into_iter().filter_map(|p| Some((p.group, p.replicas?.wanted.clone()))).collect::<Vec<_>>();
        let plan = catalog.plan_moved(&done);
        apply(&mut catalog, &plan);
        let plan = catalog.plan_heal();
        if !plan.changes() {
            break;
        }
        apply(&mut catalog, &plan);
    }
    assert_eq!(catalog.nodes().map(|(id, _)| id).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(wanted(&catalog, "t"), expected);
}

/// What is wanted changes before it was reached: whoever was wanted may be a voter by then, and keeps its log until what there is was told. And it is planned
/// anew though it was not reached, since the node that it waits for may be lost.
#[test]
fn a_plan_that_is_overtaken_takes_no_log_away() {
    let mut catalog = cluster(5);
    let three = CreateTopic { replication: 3, ..create("t", 1, &[]) };
    let plan = catalog.plan_create(&three, 1).expect("valid");
    apply(&mut catalog, &plan);
    let replicas = |catalog: &Catalog| catalog.topic("t").expect("created").partitions[0].replicas.clone().expect("it has some");
    let first = replicas(&catalog);
    let mut seen = first.now.clone();
    for _ in 0..2 {
        assert!(!catalog.wants_in_vain());
        let node = replicas(&catalog).wanted.last().expect("three").node;
        let plan = catalog.plan_node_state(node, NodeState::Leaving).expect("known");
        apply(&mut catalog, &plan);
        assert!(catalog.wants_in_vain());
        while catalog.wants_in_vain() {
            let plan = catalog.plan_heal();
            assert!(plan.changes());
            apply(&mut catalog, &plan);
        }
        let is = replicas(&catalog);
        assert!(!is.is_settled() && is.wanted.iter().all(|r| r.node != node));
        seen.extend(is.wanted.iter().filter(|r| !seen.contains(r)).copied().collect::<Vec<_>>());
        for replica in &seen {
            assert_eq!(is.on(replica.node), Some(*replica), "it keeps its log: {is:?}");
        }
    }
    let group = catalog.topic("t").expect("created").partitions[0].group;
    let plan = catalog.plan_moved(&[(group, replicas(&catalog).wanted)]);
    apply(&mut catalog, &plan);
    assert!(replicas(&catalog).is_settled());
}

/// A node that has a replica cannot have another one of the same group before that is gone, and it goes only once those that are wanted are there.
#[test]
fn spreading_over_new_nodes_wants_no_second_replica_where_there_is_one() {
    for partitions in 1..40 {
        let mut catalog = cluster(3);
        let plan = catalog.plan_create(&create("t", partitions, &[]), 1).expect("valid");
        apply(&mut catalog, &plan);
        for port in [7777, 8888] {
            let (_, plan) = catalog.plan_node(None, node(port)).expect("taken in");
            apply(&mut catalog, &plan);
        }
        for _ in 0..3 {
            let (plan, _) = catalog.plan_rebalance();
            apply(&mut catalog, &plan);
            for p in &catalog.topic("t").expect("created").partitions {
                let replicas = p.replicas.as_ref().expect("it has replicas");
                let mut nodes: Vec<u64> = replicas.wanted.iter().map(|r| r.node).collect();
                nodes.sort_unstable();
                nodes.dedup();
                assert_eq!(nodes.len(), 3, "{replicas:?}");
                let second = |r: &&Replica| replicas.now.iter().any(|now| now.node == r.node && now.id != r.id);
                assert_eq!(replicas.wanted.iter().find(second), None, "{replicas:?}");
            }
        }
    }
}

#[test]
fn replicas_are_put_where_they_are_asked_for_and_stay_where_they_are_if_not() {
    let mut catalog = cluster(4);
    let two = CreateTopic { replication: 2, ..create("t", 2, &[]) };
    let plan = catalog.plan_create(&two, 1).expect("valid");
    apply(&mut catalog, &plan);
    let before = wanted(&catalog, "t");
    let put = |partition: u32, nodes: &[u64]| AlterTopic {
        placements: vec![Placement { partition, nodes: nodes.to_vec() }],
        ..alter("t", 0, &[])
    };
    let free: Vec<u64> = (1..=4).filter(|node| !before[1].contains(node)).collect();
    let to = [free[0], before[1][0], free[1]];
    let plan = catalog.plan_alter(&put(1, &to), 1).expect("valid");
    apply(&mut catalog, &plan);
    assert_eq!(wanted(&catalog, "t"), [before[0].clone(), to.to_vec()]);
    let replicas = |catalog: &Catalog| catalog.topic("t").expect("created").partitions[1].replicas.clone().expect("it has some");
    let is = replicas(&catalog);
    assert!(!is.is_settled() && is.wanted[1] == is.now[0], "who stays is the same replica: {is:?}");
    // Asked again, nothing changes; given up, whoever is on the way keeps its log until what there is was told.
    assert!(!catalog.plan_alter(&put(1, &to), 1).expect("valid").changes());
    let plan = catalog.plan_alter(&put(1, &[]), 1).expect("valid");
    apply(&mut catalog, &plan);
    assert_eq!(wanted(&catalog, "t"), before);
    assert!(is.wanted.iter().all(|replica| replicas(&catalog).on(replica.node) == Some(*replica)));
    for (partition, nodes) in [(2, &[1][..]), (0, &[9]), (0, &[1, 1])] {
        assert!(matches!(catalog.plan_alter(&put(partition, nodes), 1), Err(CatalogError::BadPlacement { .. })), "{nodes:?}");
    }
    let plan = catalog.plan_node_state(free[0], NodeState::Leaving).expect("known");
    apply(&mut catalog, &plan);
    assert!(catalog.plan_alter(&put(0, &[free[0]]), 1).is_err(), "it is about to leave");
}

#[test]
fn a_node_that_is_to_stay_is_not_replaced_any_more() {
    let mut catalog = cluster(3);
    let (_, plan) = catalog.plan_replacement(2, node(7777)).expect("it is known");
    apply(&mut catalog, &plan);
    let plan = catalog.plan_node_state(2, NodeState::In).expect("it is known");
    apply(&mut catalog, &plan);
    assert_eq!(catalog.node(2).map(|n| (n.state, n.replaced_by)), Some((NodeState::In, None)));
}

#[test]
fn foreign_records_are_refused_never_guessed() {
    let mut catalog = made("a", 1, &[]);
    let before = catalog.clone();
    for (key, value) in [
        ("topic/b", Some(r#"{"v":2}"#)),
        ("topic/b", Some("no json")),
        ("topic/b", Some(r#"{"v":1,"topic_id":9,"internal":false,"partitions":[],"settings":{}}"#)),
        ("topic/b", Some(r#"{"v":1,"topic_id":9,"internal":false,"partitions":[[16,0]],"settings":{}}"#)),
        ("topic/b", Some(r#"{"v":1,"topic_id":9,"internal":false,"partitions":[[77,0],[77,0]],"settings":{}}"#)),
        ("topic/b", Some(r#"{"v":1,"topic_id":9,"internal":false,"partitions":[[77,0]],"settings":{"x":"1"}}"#)),
        ("topic/b c", Some(r#"{"v":1,"topic_id":9,"internal":false,"partitions":[[77,0]],"settings":{}}"#)),
        ("topic/__meta", None),
        ("ids", None),
        ("nonsense", None),
    ] {
        catalog.apply(key.as_bytes(), value.map(str::as_bytes)).expect_err(key);
        assert_eq!(catalog, before);
    }
}

#[test]
fn placement_is_even_and_fills_the_emptiest() {
    let of = |homes: Vec<Home>| homes.iter().map(|h| h.0).collect::<Vec<_>>();
    assert_eq!(of(placement::place(4, &[9, 0, 0], &[0, 0, 0])), [1, 2, 0, 1]);
    assert_eq!(of(placement::place(2, &[0, 0], &[3, 1])), [1, 1]);
}

#[derive(Clone, Debug)]
enum Step {
    Create(u8, u32),
    Alter(u8, u32, u64),
    Delete(u8),
    Quota(u8, u64),
    Producers(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..6u8, 0..5u32).prop_map(|(t, n)| Step::Create(t, n)),
        2 => (0..6u8, 0..9u32, 0..4u64).prop_map(|(t, n, ms)| Step::Alter(t, n, ms)),
        2 => (0..6u8).prop_map(Step::Delete),
        1 => (0..3u8, 0..3u64).prop_map(|(c, q)| Step::Quota(c, q)),
        1 => (1..9u64).prop_map(Step::Producers),
    ];
    prop::collection::vec(step, 0..40)
}

fn plan(catalog: &Catalog, step: &Step) -> Result<Plan, CatalogError> {
    match step {
        Step::Create(t, n) => catalog.plan_create(&create(&format!("t{t}"), *n, &[]), 3),
        Step::Alter(t, n, ms) => {
            let ms = if *ms == 0 { String::new() } else { ms.to_string() };
            catalog.plan_alter(&alter(&format!("t{t}"), *n, &[("retention.ms", &ms)]), 3)
        }
        Step::Delete(t) => catalog.plan_delete(&delete(&format!("t{t}"))),
        Step::Quota(c, q) => {
            catalog.plan_quota(&AlterQuota { client_id: format!("c{c}"), produce_bytes_per_s: *q, ..AlterQuota::default() })
        }
        Step::Producers(n) => Ok(catalog.plan_producers(*n).1),
    }
}

fn replay<'a>(records: impl Iterator<Item = &'a Record>) -> Catalog {
    let mut catalog = Catalog::new();
    for r in records {
        catalog.apply(&r.key, r.value.as_deref()).expect("we read what we wrote");
    }
    catalog.check();
    catalog
}

proptest! {
    /// Replaying gives the same catalog, with and without compaction, and the effects tell the homes the same story.
    #[test]
    fn replay_equals_state(steps in steps()) {
        let mut catalog = Catalog::new();
        let mut written = Vec::new();
        let mut groups = std::collections::BTreeMap::new();
        for step in &steps {
            let Ok(plan) = plan(&catalog, step) else { continue };
            for effect in apply(&mut catalog, &plan) {
                match effect {
                    Effect::Create(home, group, settings) => { groups.insert((home, group), settings); }
                    Effect::Alter(home, group, settings) => {
                        prop_assert!(groups.insert((home, group), settings).is_some(), "altered before it was made");
                    }
                    Effect::Drop(home, group) => { prop_assert!(groups.remove(&(home, group)).is_some()); }
                    Effect::Quota(..) | Effect::Nodes => {}
                }
            }
            written.extend(plan.records);
        }
        prop_assert_eq!(&replay(written.iter()), &catalog);

        let last: BTreeMap<&[u8], usize> = written.iter().enumerate().map(|(i, r)| (&r.key[..], i)).collect();
        let compacted = written.iter().enumerate().filter(|(i, r)| last[&r.key[..]] == *i && r.value.is_some());
        prop_assert_eq!(&replay(compacted.map(|(_, r)| r)), &catalog);

        for home in (0..3).map(Home) {
            let there: Vec<GroupId> = groups.keys().filter(|(h, _)| *h == home).map(|(_, g)| *g).collect();
            for effect in catalog.reconcile(FOUNDER, home, &there) {
                match effect {
                    Effect::Alter(home, group, settings) => prop_assert_eq!(&groups[&(home, group)], &settings),
                    Effect::Create(_, group, _) => prop_assert_eq!(group, META_GROUP),
                    other => prop_assert!(false, "nothing is left undone: {:?}", other),
                }
            }
        }
    }
}
