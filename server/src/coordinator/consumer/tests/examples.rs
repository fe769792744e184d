use super::*;
use proptest::prelude::*;

/// A member that does what it is told at once.
struct Client {
    beat: Beat,
    owned: BTreeSet<Slot>,
    /// What it was ever told to give up.
    gave_up: BTreeSet<Slot>,
}

impl Client {
    fn new(join: Beat) -> Self {
        Self { beat: join, owned: BTreeSet::new(), gave_up: BTreeSet::new() }
    }

    fn says(&mut self, seat: &mut Seat) -> Beaten {
        let beaten = seat.beat(&self.beat).expect("it is a member");
        let changed = beaten.assigned.as_ref().is_some_and(|assigned| *assigned != self.owned);
        if let Some(assigned) = &beaten.assigned {
            self.gave_up.extend(self.owned.difference(assigned));
            self.owned.clone_from(assigned);
        }
        let owned = changed.then(|| self.owned.clone());
        let Beat { group, instance, .. } = self.beat.clone();
        self.beat = Beat { group, instance, member: beaten.member.clone(), epoch: beaten.epoch, owned, ..Beat::default() };
        beaten
    }
}

fn settle(seat: &mut Seat, clients: &mut [&mut Client]) {
    for _ in 0..10 {
        seat.wait(1_000);
        clients.iter_mut().for_each(|client| drop(client.says(seat)));
    }
    assert_eq!(seat.described().state, "stable");
    let all: Vec<Slot> = clients.iter().flat_map(|c| c.owned.iter().copied()).collect();
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "each has one reader");
}

const T: &[(&str, u64, u32)] = &[("t", 7, 12)];

#[test]
fn a_group_grows_and_shrinks_and_whoever_need_not_move_is_not_disturbed() {
    let mut seat = Seat::new(T);
    let mut a = Client::new(join("a", &["t"]));
    assert_eq!(a.says(&mut seat).epoch, 1);
    assert_eq!(a.owned, slots(7, 0..12));
    let mut b = Client::new(join("b", &["t"]));
    // What the other has not given up yet is not free.
    let beaten = b.says(&mut seat);
    assert_eq!((beaten.epoch, beaten.assigned, beaten.heartbeat_ms), (2, Some(BTreeSet::new()), HEARTBEAT_WAITING_MS));
    let told = a.says(&mut seat);
    assert_eq!((told.epoch, told.assigned.map(|a| a.len())), (1, Some(6)), "its epoch moves on once it has given up");
    assert_eq!(b.says(&mut seat).assigned, None);
    assert_eq!((a.says(&mut seat).epoch, b.says(&mut seat).assigned.map(|b| b.len())), (2, Some(6)));
    settle(&mut seat, &mut [&mut a, &mut b]);
    let (had_a, had_b) = (a.owned.clone(), b.owned.clone());
    let mut c = Client::new(join("c", &["t"]));
    c.says(&mut seat);
    settle(&mut seat, &mut [&mut a, &mut b, &mut c]);
    assert!([&a, &b, &c].iter().all(|client| client.owned.len() == 4));
    assert!(a.owned.is_subset(&had_a) && b.owned.is_subset(&had_b), "nothing goes to and fro");
    a.gave_up.clear();
    b.gave_up.clear();
    c.beat = Beat { epoch: LEAVE, ..c.beat };
    c.says(&mut seat);
    settle(&mut seat, &mut [&mut a, &mut b]);
    assert!(a.gave_up.is_empty() && b.gave_up.is_empty(), "only what is free moves");
    assert_eq!(a.owned.len() + b.owned.len(), 12);
}

#[test]
fn members_go_on_with_their_epochs_when_another_node_looks_after_them() {
    let mut seat = Seat::new(T);
    let (mut a, mut b) = (Client::new(join("a", &["t"])), Client::new(join("b", &["t"])));
    settle(&mut seat, &mut [&mut a, &mut b]);
    let before = seat.described();
    seat.moves();
    assert_eq!(seat.described(), before);
    assert_eq!(a.says(&mut seat).assigned, None, "nothing is new");
    assert_eq!(seat.coordinator.commit_classic(&speaker("a", before.epoch), at(0)).map(|commit| commit.records.len()), Ok(1));
    // In the middle of a change, too.
    let mut c = Client::new(join("c", &["t"]));
    c.says(&mut seat);
    a.says(&mut seat);
    let before = seat.described();
    seat.moves();
    assert_eq!(seat.described(), before);
    settle(&mut seat, &mut [&mut a, &mut b, &mut c]);
    assert!([&a, &b, &c].iter().all(|client| client.owned.len() == 4));
    // Topics that have changed meanwhile are seen.
    seat.topics.insert("t".into(), TopicView { topic_id: 7, partitions: 15 });
    seat.moves();
    settle(&mut seat, &mut [&mut a, &mut b, &mut c]);
    assert!([&a, &b, &c].iter().all(|client| client.owned.len() == 5));
}

fn speaker(member: &str, generation: i32) -> crate::coordinator::classic::Speaker {
    crate::coordinator::classic::Speaker { group: "g".into(), member: member.into(), instance: None, generation }
}

fn at(partition: u32) -> Vec<Position> {
    vec![Position { topic: "t".into(), partition, offset: 3, metadata: String::new(), leader_epoch: None }]
}

#[test]
fn positions_are_kept_for_members_by_their_epochs_alone() {
    let mut seat = Seat::new(T);
    let mut a = Client::new(join("a", &["t"]));
    a.says(&mut seat);
    let commit = |seat: &mut Seat, member: &str, epoch| seat.coordinator.commit_classic(&speaker(member, epoch), at(0)).map(drop);
    assert_eq!(commit(&mut seat, "a", 1), Ok(()));
    assert_eq!(commit(&mut seat, "a", 0), Err(Refused::StaleEpoch { is: 1, said: 0 }));
    assert_eq!(commit(&mut seat, "a", 2), Err(Refused::StaleEpoch { is: 1, said: 2 }));
    assert_eq!(commit(&mut seat, "b", 1), Err(unknown("b")));
    assert_eq!(commit(&mut seat, "", -1), Err(unknown("")), "nobody from outside while there are members");
    assert_eq!(seat.coordinator.check_member("g", "a", 1), Ok(()));
    assert_eq!(seat.coordinator.check_member("g", "a", 7), Err(Refused::StaleEpoch { is: 1, said: 7 }));
    assert_eq!(seat.coordinator.check_member("g", "x", 1), Err(unknown("x")));
    assert_eq!(seat.coordinator.check_member("g", "", -1), Ok(()), "anybody may look");
    a.beat.epoch = LEAVE;
    a.says(&mut seat);
    assert_eq!(commit(&mut seat, "", -1), Ok(()));
}

#[test]
fn epochs_that_a_member_does_not_have_are_fenced() {
    let mut seat = Seat::new(T);
    let (mut a, mut b) = (Client::new(join("a", &["t"])), Client::new(join("b", &["t"])));
    settle(&mut seat, &mut [&mut a, &mut b]);
    let epoch = a.beat.epoch;
    let says = |seat: &mut Seat, epoch, owned| seat.beat(&Beat { group: "g".into(), member: "a".into(), epoch, owned, ..Beat::default() });
    let fenced = |said| Err(Refused::FencedEpoch { is: epoch, said });
    assert_eq!(says(&mut seat, epoch + 1, None), fenced(epoch + 1));
    assert_eq!(says(&mut seat, epoch - 1, None), fenced(epoch - 1), "by the one before it says what it owns");
    assert_eq!(says(&mut seat, epoch - 1, Some(slots(7, 0..12))), fenced(epoch - 1), "which is its own");
    let again = says(&mut seat, epoch - 1, Some(a.owned.clone())).expect("the answer was lost");
    assert_eq!((again.epoch, again.assigned), (epoch, Some(a.owned.clone())));
    // Who joins again by its id is told everything again.
    let again = seat.beat(&join("a", &["t"])).expect("it is known");
    assert_eq!((again.epoch, again.assigned), (epoch, Some(a.owned.clone())));
    assert_eq!(seat.beat(&Beat { epoch: 1, ..join("x", &["t"]) }), Err(unknown("x")));
    let named = seat.beat(&join("", &["t"])).expect("it is given an id");
    assert!(named.member.starts_with("born-"));
}

#[test]
fn members_that_are_silent_or_do_not_give_up_are_removed() {
    let mut seat = Seat::new(T);
    let (mut a, mut b) = (Client::new(join("a", &["t"])), Client::new(join("b", &["t"])));
    a.says(&mut seat);
    b.says(&mut seat);
    assert_eq!(seat.wait(SESSION_MS - 1), Vec::<String>::new());
    b.says(&mut seat);
    assert_eq!(seat.wait(1), ["a"], "whoever was silent for so long");
    b.says(&mut seat);
    assert_eq!(b.owned, slots(7, 0..12));
    b.says(&mut seat);
    // Another one comes, and the first says that it lives and nothing else.
    Client::new(join("c", &["t"])).says(&mut seat);
    let says = Beat { owned: None, ..b.beat.clone() };
    for _ in 0..30 {
        seat.beat(&says).expect("it is a member");
        seat.beat(&Beat { group: "g".into(), member: "c".into(), epoch: seat.described().epoch, ..Beat::default() }).expect("it is one");
        assert_eq!(seat.wait(999), Vec::<String>::new());
    }
    assert_eq!(seat.wait(31), ["b"]);
    // A group that is read back gives its members their time.
    seat.moves();
    assert_eq!(seat.wait(SESSION_MS), Vec::<String>::new());
    assert_eq!(seat.wait(SESSION_MS), ["c"]);
    assert_eq!(seat.coordinator.described_consumer("g"), None);
    seat.moves();
    assert_eq!(seat.coordinator.described_consumer("g"), None, "nothing of it is left");
}

#[test]
fn members_by_name_come_back_to_what_they_had() {
    let by_name = |member: &str, name: &str| Beat { instance: Some(name.into()), ..join(member, &["t"]) };
    let mut seat = Seat::new(T);
    let (mut one, mut two) = (Client::new(by_name("a", "one")), Client::new(by_name("b", "two")));
    settle(&mut seat, &mut [&mut one, &mut two]);
    let (epoch, had) = (seat.described().epoch, one.owned.clone());
    assert_eq!(seat.beat(&by_name("c", "one")), Err(Refused::Unreleased { instance: "one".into() }), "it is there");
    one.beat.epoch = AWAY;
    assert_eq!(one.says(&mut seat).epoch, AWAY);
    seat.moves();
    assert_eq!(two.says(&mut seat).assigned, None, "it is waited for");
    let mut again = Client::new(by_name("c", "one"));
    assert_eq!(again.says(&mut seat).epoch, epoch);
    assert_eq!((again.owned.clone(), two.says(&mut seat).assigned, seat.described().epoch), (had, None, epoch), "nobody notices");
    one.beat.epoch = epoch;
    assert_eq!(seat.beat(&one.beat), Err(Refused::Fenced { instance: "one".into() }), "the one before is over");
    let leave = |name: &str| Beat { group: "g".into(), member: "x".into(), instance: Some(name.into()), epoch: LEAVE, ..Beat::default() };
    assert_eq!(seat.beat(&leave("one")), Err(Refused::Fenced { instance: "one".into() }), "another one may not leave for it");
    // Operators send members away by name.
    let who =
        [Leaver { member: String::new(), instance: Some("one".into()) }, Leaver { member: String::new(), instance: Some("no".into()) }];
    let left = seat.coordinator.leave_classic(seat.now_ms, "g", &who).expect("it is there");
    seat.keep();
    assert_eq!(left, [Ok(()), Err(unknown(""))]);
    two.says(&mut seat);
    assert_eq!(two.owned.len(), 12);
}

#[test]
fn topics_come_and_go_and_are_other_ones_under_the_same_name() {
    let mut seat = Seat::new(T);
    let mut a = Client::new(Beat { regex: Some("t.*".into()), names: None, ..join("a", &[]) });
    a.says(&mut seat);
    seat.tell(&[("t", 7, 12), ("t2", 8, 2), ("at", 9, 2)]);
    a.says(&mut seat);
    let both: BTreeSet<Slot> = slots(7, 0..12).union(&slots(8, 0..2)).copied().collect();
    assert_eq!(a.owned, both, "whole names match");
    seat.tell(&[("t", 10, 1), ("at", 9, 2)]);
    settle(&mut seat, &mut [&mut a]);
    assert_eq!(a.owned, slots(10, 0..1));
    a.beat.regex = Some(String::new());
    a.beat.names = Some(vec!["at".into(), "unborn".into()]);
    a.says(&mut seat);
    settle(&mut seat, &mut [&mut a]);
    assert_eq!(a.owned, slots(9, 0..2));
    assert_eq!(seat.coordinator.delete_offsets("g", &[]).map(drop), Err(NativeRefused::UnknownGroup { group: "g".into() }));
}

#[test]
fn ranges_give_the_same_numbers_of_all_topics_to_one_member() {
    let mut seat = Seat::new(&[("t", 7, 5), ("u", 8, 5)]);
    let range = |member: &str| Beat { assignor: Some("range".into()), ..join(member, &["t", "u"]) };
    let (mut a, mut b) = (Client::new(range("a")), Client::new(range("b")));
    settle(&mut seat, &mut [&mut a, &mut b]);
    assert_eq!(a.owned, slots(7, 0..3).union(&slots(8, 0..3)).copied().collect());
    assert_eq!(b.owned, slots(7, 3..5).union(&slots(8, 3..5)).copied().collect());
    assert_eq!(seat.described().assignor, "range");
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let mut seat = Seat::new(T);
    let mut refused = |beat: Beat| seat.beat(&beat).expect_err("refused");
    assert_eq!(refused(Beat { group: String::new(), ..join("a", &["t"]) }), Refused::GroupName);
    assert_eq!(refused(Beat { assignor: Some("best".into()), ..join("a", &["t"]) }), Refused::Assignor { said: "best".into() });
    for invalid in [
        Beat { epoch: -3, ..join("a", &["t"]) },
        Beat { epoch: AWAY, ..join("a", &["t"]) },
        Beat { epoch: 3, ..join("", &["t"]) },
        Beat { rebalance_timeout_ms: None, ..join("a", &["t"]) },
        Beat { names: None, ..join("a", &["t"]) },
        Beat { owned: Some(slots(7, 0..1)), ..join("a", &["t"]) },
        Beat { instance: Some(String::new()), ..join("a", &["t"]) },
        join("a", &[""]),
    ] {
        assert!(matches!(refused(invalid.clone()), Refused::Invalid { .. }), "{invalid:?}");
    }
    assert!(matches!(refused(Beat { regex: Some("a(".into()), ..join("a", &[]) }), Refused::Pattern { .. }));
    assert!(matches!(refused(Beat { regex: Some("(a{9999}){9999}".into()), ..join("a", &[]) }), Refused::Pattern { .. }));
    assert!(matches!(refused(Beat { regex: Some("a".repeat(2_000)), ..join("a", &[]) }), Refused::TooLong { .. }));
    assert!(matches!(refused(join(&"m".repeat(300), &["t"])), Refused::TooLong { .. }));
    assert_eq!(refused(Beat { epoch: LEAVE, ..join("a", &["t"]) }), unknown("a"));
    assert_eq!(seat.coordinator.groups(), 0, "nothing is left of what was refused");
    for n in 0..MEMBERS_PER_GROUP_MAX {
        seat.coordinator.beat_consumer(0, join(&n.to_string(), &[]), String::new()).expect("there is room");
    }
    assert!(matches!(seat.beat(&join("one more", &["t"])), Err(Refused::Full { .. })));
}

#[test]
fn a_group_is_of_one_sort() {
    use millpond_wire::messages::GroupHeartbeat;
    let mut seat = Seat::new(T);
    seat.beat(&join("a", &["t"])).expect("joined");
    let native = GroupHeartbeat { group: "g".into(), member_id: "n".into(), topics: vec!["t".into()], ..GroupHeartbeat::default() };
    assert_eq!(seat.coordinator.heartbeat(0, "host", &native), Err(NativeRefused::OtherSort { group: "g".into() }));
    seat.coordinator.heartbeat(0, "host", &GroupHeartbeat { group: "n".into(), ..native }).expect("joined");
    assert_eq!(seat.beat(&Beat { group: "n".into(), ..join("a", &["t"]) }), Err(Refused::Inconsistent { is: String::new() }));
    let listed: Vec<(String, String, u32)> = seat.coordinator.list().groups.into_iter().map(|g| (g.group, g.sort, g.members)).collect();
    assert_eq!(listed, [("g".into(), "consumer".into(), 1), ("n".into(), "native".into(), 1)]);
    let told = seat.coordinator.describe(&millpond_wire::messages::DescribeGroup { group: "g".into() }).expect("it is there");
    assert_eq!((told.sort.as_str(), told.epoch, told.members[0].owned[0].partitions.len()), ("consumer", 1, 12));
}

proptest! {
    #[test]
    fn partitions_come_back_from_their_runs(all in proptest::collection::btree_set((1_u64..6, 0_u32..40), 0..60)) {
        let all: BTreeSet<Slot> = all.into_iter().map(|(topic_id, partition)| Slot { topic_id, partition }).collect();
        prop_assert_eq!(stored::slots(&stored::runs(all.iter())), Some(all));
    }

    #[test]
    fn runs_from_a_disk_are_checked(runs in proptest::collection::vec(any::<u64>(), 0..12)) {
        let _ = stored::slots(&runs);
    }
}

/// Whoever gives up one thing after the other has as long for each.
#[test]
fn the_time_to_give_up_begins_anew_with_what_is_to_be_given_up() {
    let id: Arc<str> = "m".into();
    let mut owners: member::Owners = slots(7, 0..3).into_iter().map(|slot| (slot, Arc::clone(&id))).collect();
    let mut member = member::Member { assigned: slots(7, 0..3), target: slots(7, 0..2), ..member::Member::default() };
    assert!(member.reconcile(&id, 1, None, &mut owners));
    assert_eq!(member.revoking, slots(7, [2]));
    member.revoke_by_ms = Some(20_000);
    member.target = slots(7, 0..1);
    assert!(!member.reconcile(&id, 2, None, &mut owners), "it has not given up the first yet");
    assert_eq!(member.revoke_by_ms, Some(20_000));
    assert!(member.reconcile(&id, 2, Some(&slots(7, 0..2)), &mut owners));
    assert_eq!((member.revoking, member.revoke_by_ms), (slots(7, [1]), None));
}
