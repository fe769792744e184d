//! Groups of which nobody asks anything: they say nothing, and miss their leader all the same.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use millpond_batch::Header;
use millpond_raft::{
    Driver, RaftConfig, Status,
    wire::{Envelope, Said, encode},
};
use millpond_runtime::{
    CoreId, GroupId, NodeId, Rt,
    sim::{FaultPlan, Sim, SimConfig, SimRt},
};
use raft::eraftpb::{Message, MessageType};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};
use support::{NODES, Setup, batch, id};

const GROUPS: u64 = 3_000;

type Drivers = Rc<RefCell<BTreeMap<NodeId, Driver<SimRt>>>>;

fn groups() -> impl Iterator<Item = GroupId> {
    (1..=GROUPS).map(GroupId)
}

struct Cluster {
    sim: Sim,
    drivers: Drivers,
}

impl Cluster {
    /// All groups rest.
    fn at_rest(seed: u64) -> Self {
        let this = Self { sim: Sim::new(SimConfig { seed, faults: FaultPlan::none() }), drivers: Rc::default() };
        NODES.iter().for_each(|node| this.boot(*node));
        this.within(Duration::from_secs(20), "all groups rest", |all| all.iter().all(|status| status.quiet));
        this
    }

    fn boot(&self, me: NodeId) {
        let raft = RaftConfig { prompt_below: 1, ..RaftConfig::default() };
        let (setup, drivers) = (Setup { groups: GROUPS, raft, ..Setup::default() }, Rc::clone(&self.drivers));
        setup.boot(&self.sim, me, move |_, driver| drop(drivers.borrow_mut().insert(me, driver)));
    }

    fn down(&self, node: NodeId) {
        self.sim.crash(node);
        self.drivers.borrow_mut().remove(&node);
    }

    fn stands(&self) -> Vec<Status> {
        let drivers = self.drivers.borrow();
        drivers.values().flat_map(|driver| groups().filter_map(|group| driver.status(group))).collect()
    }

    fn within(&self, how_long: Duration, what: &str, holds: impl Fn(&[Status]) -> bool) {
        let step = Duration::from_millis(100);
        for _ in 0..how_long.as_millis() / step.as_millis() {
            self.sim.run_for(step).unwrap();
            let all = self.stands();
            if all.len() as u64 == GROUPS * self.drivers.borrow().len() as u64 && holds(&all) {
                return;
            }
        }
        panic!("not within {how_long:?}: {what}");
    }

    fn messages(&self) -> u64 {
        self.drivers.borrow().values().map(|driver| driver.counters().messages).sum()
    }

    fn leads(&self, node: NodeId) -> Vec<GroupId> {
        let driver = self.drivers.borrow()[&node].clone();
        groups().filter(|group| driver.status(*group).is_some_and(|status| status.leads)).collect()
    }

    /// The node that leads most groups.
    fn busiest(&self) -> NodeId {
        *NODES.iter().max_by_key(|node| self.leads(**node).len()).unwrap()
    }

    /// Every group takes a record at its leader.
    fn writes(&self) {
        let nodes: Vec<NodeId> = self.drivers.borrow().keys().copied().collect();
        let mut written = 0;
        for node in nodes {
            let (driver, led) = (self.drivers.borrow()[&node].clone(), self.leads(node));
            written += led.len() as u64;
            let write = async move {
                for group in led {
                    let batch = batch(b"value");
                    let header = Header::parse(&batch).unwrap();
                    driver.propose(group, batch, &header).unwrap().committed().await.unwrap();
                }
            };
            self.sim.block_on(node, |_| write).unwrap();
        }
        assert_eq!(written, GROUPS, "each group has one leader");
    }
}

/// A leader among the nodes that are up, in every group.
fn all_led(all: &[Status]) -> bool {
    all.iter().filter(|status| status.leads).count() as u64 == GROUPS && all.iter().all(|status| status.leader.is_some())
}

#[test]
fn groups_that_rest_say_nothing_and_wake_for_a_write() {
    let cluster = Cluster::at_rest(1);
    let before = cluster.messages();
    cluster.sim.run_for(Duration::from_secs(60)).unwrap();
    assert_eq!(cluster.messages(), before);
    assert!(cluster.stands().iter().all(|status| status.quiet));
    cluster.writes();
    assert!(cluster.messages() >= before + 2 * GROUPS);
    cluster.within(Duration::from_secs(5), "they rest again", |all| all.iter().all(|status| status.quiet));
}

/// Where each of many groups is written to now and then: an entry to two followers, their answers, and word to both that it is committed and that the group
/// rests. Nothing else: neither heartbeats nor their answers.
#[test]
fn an_entry_that_comes_alone_costs_six_messages() {
    let cluster = Cluster::at_rest(1);
    let before = cluster.messages();
    cluster.writes();
    cluster.sim.run_for(Duration::from_millis(100)).unwrap();
    let all = cluster.stands();
    assert!(all.iter().all(|status| status.quiet), "a group rests once its followers know that its entry is committed");
    let applied = |node: NodeId| {
        let driver = cluster.drivers.borrow()[&node].clone();
        groups().map(|group| driver.status(group).unwrap().applied).collect::<Vec<_>>()
    };
    assert!(NODES.iter().all(|node| applied(*node) == applied(NODES[0])), "all have applied it");
    let messages = cluster.messages() - before;
    assert!((6 * GROUPS..=6 * GROUPS + GROUPS / 10).contains(&messages), "{messages} messages for {GROUPS} entries");
}

/// Whoever goes on writing has followers told by the next entry; heartbeats beside it leave now and then.
#[test]
fn a_group_that_is_written_to_all_the_time_hardly_beats() {
    let cluster = Cluster::at_rest(10);
    let node = cluster.busiest();
    let (driver, group) = (cluster.drivers.borrow()[&node].clone(), cluster.leads(node)[0]);
    let write = |driver: Driver<SimRt>| async move {
        let rt = driver.rt().clone();
        let (began, mut entries) = (rt.mono(), 0);
        while rt.mono() - began < 10_000_000_000 {
            let batch = batch(b"value");
            let header = Header::parse(&batch).unwrap();
            let first = driver.propose(group, batch, &header).unwrap();
            rt.sleep(Duration::from_millis(1)).await;
            first.committed().await.unwrap();
            entries += 1;
        }
        entries
    };
    let before = cluster.messages();
    let entries: u64 = cluster.sim.block_on(node, |_| write(driver)).unwrap();
    let messages = cluster.messages() - before;
    assert!(entries > 1_000, "{entries} entries");
    assert!(messages < entries * 5, "{messages} messages for {entries} entries: 4 for each, and hardly any more");
}

#[test]
fn groups_that_rest_miss_a_leader_whose_node_is_gone() {
    let cluster = Cluster::at_rest(2);
    let node = cluster.busiest();
    assert!(!cluster.leads(node).is_empty());
    cluster.down(node);
    cluster.within(Duration::from_secs(4), "others lead", all_led);
    cluster.writes();
}

#[test]
fn groups_that_rest_miss_a_leader_that_has_started_again_at_once() {
    let cluster = Cluster::at_rest(3);
    let node = cluster.busiest();
    cluster.down(node);
    cluster.sim.restart(node);
    cluster.boot(node);
    cluster.within(Duration::from_secs(4), "all groups are led again", all_led);
    let woken: u64 = cluster.drivers.borrow().values().map(|driver| driver.counters().woken).sum();
    assert!(woken > 0, "the other nodes saw that it is another life");
    cluster.writes();
}

#[test]
fn groups_that_rest_miss_a_leader_whose_core_is_stuck() {
    let cluster = Cluster::at_rest(4);
    let node = cluster.busiest();
    let led = cluster.leads(node);
    cluster.sim.node(node).pause(CoreId(0), Duration::from_secs(5));
    cluster.sim.run_for(Duration::from_secs(4)).unwrap();
    let others: Vec<GroupId> = NODES.into_iter().filter(|other| *other != node).flat_map(|other| cluster.leads(other)).collect();
    assert!(led.iter().all(|group| others.contains(group)), "somebody else leads each of its groups");
    cluster.within(Duration::from_secs(5), "the one that was stuck follows", all_led);
    cluster.writes();
}

/// A replica breaks, say, or is closed, on a node that lives on.
#[test]
fn a_group_that_rests_misses_a_leader_that_takes_no_part_any_more() {
    let cluster = Cluster::at_rest(8);
    let node = cluster.busiest();
    let (driver, group) = (cluster.drivers.borrow()[&node].clone(), cluster.leads(node)[0]);
    driver.close(group);
    cluster.sim.run_for(Duration::from_secs(4)).unwrap();
    let others: Vec<GroupId> = NODES.into_iter().flat_map(|node| cluster.leads(node)).collect();
    assert!(
        others.contains(&group),
        "nobody leads group {group}: its leader's node lives, and what tells of the leader's end is not heard"
    );
    cluster.writes();
}

/// That a replica goes on a node says nothing of the others there.
#[test]
fn groups_that_rest_keep_their_leaders_where_the_replica_of_another_goes() {
    let cluster = Cluster::at_rest(12);
    let node = cluster.busiest();
    let (driver, led) = (cluster.drivers.borrow()[&node].clone(), cluster.leads(node));
    let terms = || led.iter().skip(1).map(|group| driver.status(*group).unwrap().term).collect::<Vec<_>>();
    let before = terms();
    let follows = groups().find(|group| !led.contains(group)).unwrap();
    for gone in [follows, led[0]] {
        driver.close(gone);
        cluster.sim.run_for(Duration::from_secs(4)).unwrap();
        let leads = cluster.leads(node);
        let lost = led.iter().skip(1).filter(|group| !leads.contains(group)).count();
        assert_eq!(lost, 0, "once the replica of group {gone:?} had gone, so many of {} groups lost their leader", led.len());
        assert!(terms() == before, "and none held an election");
    }
}

#[test]
fn leadership_of_a_group_that_rests_is_handed_over() {
    let cluster = Cluster::at_rest(5);
    let from = cluster.busiest();
    let to = *NODES.iter().find(|node| **node != from).unwrap();
    let (driver, led) = (cluster.drivers.borrow()[&from].clone(), cluster.leads(from));
    let before = cluster.leads(to).len();
    led.iter().for_each(|group| assert!(driver.transfer(*group, id(*group, to)), "{group:?}"));
    cluster.sim.run_for(Duration::from_millis(300)).unwrap();
    assert_eq!((cluster.leads(from).len(), cluster.leads(to).len()), (0, before + led.len()), "within an election's time");
    cluster.writes();
}

#[test]
fn nobody_rests_for_what_was_said_in_another_life() {
    let cluster = Cluster::at_rest(6);
    let leader = cluster.busiest();
    let follower = *NODES.iter().find(|node| **node != leader).unwrap();
    let group = cluster.leads(leader)[0];
    let driver = cluster.drivers.borrow()[&follower].clone();
    let status = driver.status(group).unwrap();
    let says = |life: u64, said_in: u64| {
        let (from, to, term, commit) = (id(group, leader), id(group, follower), status.term.0, status.applied.0);
        let mut message = Message { from, to, term, commit, index: said_in, ..Message::default() };
        message.set_msg_type(MessageType::MsgBeat);
        let frame = encode(life, &[Envelope { group, said: Said::Raft(message) }]).concat().into();
        driver.receive(leader, &frame).unwrap();
        driver.status(group).unwrap().quiet
    };
    assert!(!says(8, 7), "the leader may have broken since");
    assert!(says(8, 8));
}

/// What was committed may be forgotten at a start, until a leader says it again; but not what was to be kept.
#[test]
fn a_commit_that_is_kept_is_known_after_a_start() {
    let c = Cluster::at_rest(11);
    c.writes();
    c.within(Duration::from_secs(20), "all groups rest", |all| all.iter().all(|status| status.quiet));
    let node = NODES[0];
    let driver = c.drivers.borrow()[&node].clone();
    let before: BTreeMap<GroupId, u64> = groups().map(|group| (group, driver.status(group).unwrap().applied.0)).collect();
    let keep = |group: &GroupId| group.0.is_multiple_of(2);
    let kept = driver.clone();
    c.sim
        .block_on(node, |_| async move {
            for group in groups().filter(|group| group.0.is_multiple_of(2)) {
                kept.keep_commit(group).await.unwrap();
            }
        })
        .unwrap();
    drop(driver);
    NODES.iter().for_each(|node| c.down(*node));
    // Nobody else is there to say it.
    c.sim.restart(node);
    c.boot(node);
    c.within(Duration::from_secs(20), "it has started", |all| all.len() as u64 == GROUPS);
    let driver = c.drivers.borrow()[&node].clone();
    let found = |group: GroupId| driver.status(group).unwrap().applied.0;
    assert!(groups().filter(keep).all(|group| found(group) == before[&group]), "what was kept is known");
    assert!(groups().any(|group| found(group) < before[&group]), "else it may be forgotten, or this test shows nothing");
}
