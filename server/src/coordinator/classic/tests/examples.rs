use super::*;

/// Members of a group that shares out, the leader first.
fn stable(seat: &mut Seat, clients: &[&str]) -> Vec<Joined> {
    stable_of(seat, clients.iter().map(|client| join(client)).collect())
}

fn stable_of(seat: &mut Seat, joins: Vec<Join>) -> Vec<Joined> {
    let waiting: Vec<_> = joins.iter().map(|join| later(seat.join(join))).collect();
    seat.wait(FIRST_WAIT_MS);
    seat.wait(FIRST_WAIT_MS);
    let mut joined: Vec<Joined> = waiting.into_iter().map(|answer| then(answer).expect("joined")).collect();
    joined.sort_by_key(|one| one.leader != one.member);
    share_out(seat, &joined);
    joined
}

/// Everybody gets their own id for their part.
fn share_out(seat: &mut Seat, joined: &[Joined]) {
    let others: Vec<_> = joined[1..].iter().map(|one| later(seat.sync(&sync(one, &[])))).collect();
    let parts: Vec<String> = joined[0].members.iter().map(|m| m.member.clone()).collect();
    assert_eq!(now(seat.sync(&sync(&joined[0], &parts))).expect("synced").assignment, joined[0].member);
    for (answer, one) in others.into_iter().zip(&joined[1..]) {
        assert_eq!(then(answer).expect("synced").assignment, one.member);
    }
}

fn sync(joined: &Joined, parts: &[String]) -> Sync {
    let assignments = parts.iter().map(|id| (id.clone(), Bytes::from(id.clone()))).collect();
    Sync { speaker: speaker(joined), protocol_type: Some("consumer".into()), protocol: Some(joined.protocol.clone()), assignments }
}

fn again(joined: &Joined, client: &str) -> Join {
    Join { member: joined.member.clone(), ..join(client) }
}

fn by_name(client: &str, name: &str) -> Join {
    Join { instance: Some(name.into()), ..join(client) }
}

fn at(topic: &str, partition: u32, offset: u64) -> Vec<Position> {
    vec![Position { topic: topic.into(), partition, offset, metadata: String::new(), leader_epoch: None }]
}

#[test]
fn the_first_generation_waits_for_whoever_comes_soon_and_one_of_them_shares_out() {
    let mut seat = Seat::new();
    let a = later(seat.join(&join("a")));
    seat.wait(FIRST_WAIT_MS - 1);
    let b = later(seat.join(&join("b")));
    seat.wait(1);
    seat.wait(FIRST_WAIT_MS);
    let (a, b) = (then(a).expect("joined"), then(b).expect("joined"));
    assert_eq!((a.generation, b.generation), (1, 1));
    assert_eq!((&a.leader, &b.leader), (&a.member, &a.member), "who came first leads");
    assert_eq!((a.members.len(), b.members.len()), (2, 0), "only the leader is told who is there");
    share_out(&mut seat, &[a, b]);
    assert_eq!(seat.coordinator.described("g").map(|g| g.state), Some("stable"));
}

#[test]
fn a_new_member_makes_a_new_generation_and_waits_until_all_others_have_joined_it() {
    let mut seat = Seat::new();
    let old = stable(&mut seat, &["a", "b"]);
    let c = later(seat.join(&join("c")));
    for one in &old {
        assert_eq!(seat.coordinator.beat_classic(seat.now_ms, &speaker(one)), Err(Refused::Rebalance));
        assert_eq!(now(seat.sync(&sync(one, &[]))), Err(Refused::Rebalance));
    }
    let a = later(seat.join(&again(&old[0], "a")));
    let b = seat.join(&again(&old[1], "b"));
    let all = [then(a), now(b), then(c)].map(|joined| joined.expect("joined"));
    assert!(all.iter().all(|one| one.generation == 2 && one.leader == old[0].member));
    share_out(&mut seat, &all);
    // Who missed it is told so.
    let said = Refused::Generation { is: 2, said: 1 };
    assert_eq!(seat.coordinator.beat_classic(seat.now_ms, &speaker(&old[0])), Err(said));
}

#[test]
fn who_does_not_join_in_time_is_gone_and_positions_are_kept_for_the_newest_generation_only() {
    let mut seat = Seat::new();
    let old = stable(&mut seat, &["a", "b"]);
    let commit = seat.coordinator.commit_classic(&speaker(&old[1]), at("t", 1, 5)).expect("it is a member");
    seat.keep(commit.records);
    let c = later(seat.join(&join("c")));
    // Before it joins the next one a member tells how far it has come.
    assert!(seat.coordinator.commit_classic(&speaker(&old[0]), at("t", 0, 7)).is_ok());
    let a = later(seat.join(&again(&old[0], "a")));
    // Its session ends sooner than the time to join.
    for _ in 0..10 {
        seat.wait(1_000);
    }
    let (a, c) = (then(a).expect("joined"), then(c).expect("joined"));
    let gone = Err(Refused::UnknownMember { member: old[1].member.clone() });
    assert_eq!(seat.coordinator.commit_classic(&speaker(&old[1]), at("t", 1, 6)), gone);
    assert_eq!(seat.coordinator.commit_classic(&speaker(&a), at("t", 1, 6)), Err(Refused::Rebalance), "nobody has a part yet");
    share_out(&mut seat, &[a.clone(), c]);
    let commit = seat.coordinator.commit_classic(&speaker(&a), at("t", 1, 6)).expect("it is a member");
    assert_eq!((commit.records.len(), commit.reply.failures.len()), (1, 0));
    let outside = Speaker { group: "g".into(), generation: -1, ..Speaker::default() };
    assert!(seat.coordinator.commit_classic(&outside, at("t", 1, 0)).is_err(), "nobody else, while there are members");
}

#[test]
fn members_that_fall_silent_or_leave_are_gone_and_the_last_one_ends_the_group() {
    let mut seat = Seat::new();
    let old = stable(&mut seat, &["a", "b"]);
    for _ in 0..9 {
        seat.wait(1_000);
        assert_eq!(seat.coordinator.beat_classic(seat.now_ms, &speaker(&old[0])), Ok(()));
    }
    seat.wait(1_001);
    assert_eq!(seat.coordinator.beat_classic(seat.now_ms, &speaker(&old[0])), Err(Refused::Rebalance), "b was silent");
    let a = now(seat.join(&again(&old[0], "a"))).expect("it is alone");
    assert_eq!((a.generation, a.members.len()), (2, 1));
    let leave = |member: &str| [Leaver { member: member.into(), instance: None }];
    let unknown = vec![Err(Refused::UnknownMember { member: "b".into() })];
    assert_eq!(seat.coordinator.leave_classic(seat.now_ms, "g", &leave("b")), Ok(unknown));
    assert_eq!(seat.coordinator.leave_classic(seat.now_ms, "g", &leave(&a.member)), Ok(vec![Ok(())]));
    assert_eq!(seat.coordinator.described("g"), None);
    seat.wait(1);
    assert!(seat.log.last().is_some_and(|record| record.value.is_none()), "what was written of it is deleted");
    seat.moves();
    assert_eq!(seat.coordinator.described("g"), None);
}

#[test]
fn what_is_written_of_a_group_goes_though_another_one_was_begun_under_its_name() {
    let mut seat = Seat::new();
    let one = stable(&mut seat, &["a"]).remove(0);
    let gone = [Leaver { member: one.member, instance: None }];
    assert_eq!(seat.coordinator.leave_classic(seat.now_ms, "g", &gone), Ok(vec![Ok(())]));
    let waiting = later(seat.join(&join("b")));
    seat.wait(1);
    assert!(seat.log.last().is_some_and(|record| record.value.is_some()), "the name is in use");
    let member = seat.coordinator.described("g").expect("b is in it").members.remove(0).member;
    assert_eq!(seat.coordinator.leave_classic(seat.now_ms, "g", &[Leaver { member, instance: None }]), Ok(vec![Ok(())]));
    assert!(then(waiting).is_err());
    seat.wait(1);
    assert!(seat.log.last().is_some_and(|record| record.value.is_none()), "nobody is in it, and nothing is left of it");
}

#[test]
fn members_are_told_their_ids_first_if_they_know_that_and_whoever_never_comes_is_not_waited_for_long() {
    let mut seat = Seat::new();
    let asked = Join { named_first: true, ..join("a") };
    let Err(Refused::NameGiven { member }) = now(seat.join(&asked)) else { panic!("it is told its id") };
    let Err(Refused::NameGiven { member: other }) = now(seat.join(&Join { named_first: true, ..join("b") })) else {
        panic!("it is told its id")
    };
    let a = later(seat.join(&Join { member: member.clone(), ..asked }));
    seat.wait(FIRST_WAIT_MS);
    assert_eq!(then(a).expect("joined").member, member);
    seat.wait(10_000);
    assert!(matches!(seat.join(&Join { member: other, ..join("b") }), Err(Refused::UnknownMember { .. })));
}

#[test]
fn a_member_that_is_there_again_under_its_name_takes_its_place_without_a_new_generation() {
    let mut seat = Seat::new();
    let old = stable_of(&mut seat, vec![by_name("a", "one"), by_name("b", "two")]);
    let (leader, follower) = if old[0].member.starts_with('a') { ("one", "two") } else { ("two", "one") };
    let back = now(seat.join(&by_name("x", follower))).expect("it is back");
    assert_eq!((back.generation, &back.leader, back.skip_assignment), (1, &old[0].member, false));
    let part = now(seat.sync(&sync(&back, &[]))).expect("synced").assignment;
    assert_eq!(part, old[1].member, "it has the part of the one before");
    // The one before is told that it is not the one.
    let before = Speaker { instance: Some(follower.into()), ..speaker(&old[1]) };
    assert_eq!(seat.coordinator.beat_classic(seat.now_ms, &before), Err(Refused::Fenced { instance: follower.into() }));
    // A leader need not share out again; if it would not know that, somebody else leads for all that it knows.
    let led = now(seat.join(&by_name("y", leader))).expect("it is back");
    assert_eq!((led.generation, &led.leader, led.skip_assignment, led.members.len()), (1, &led.member, true, 2));
    let led = now(seat.join(&Join { may_skip: false, ..by_name("z", leader) })).expect("it is back");
    assert_ne!(led.leader, led.member);
    assert!(led.members.is_empty());
    // It is written, so that another node knows it, too.
    seat.moves();
    assert_eq!(seat.coordinator.beat_classic(seat.now_ms, &Speaker { instance: Some(leader.into()), ..speaker(&led) }), Ok(()));
    // It may be sent away by its name.
    let leave = [Leaver { member: String::new(), instance: Some(leader.into()) }];
    assert_eq!(seat.coordinator.leave_classic(seat.now_ms, "g", &leave), Ok(vec![Ok(())]));
}

#[test]
fn a_generation_outlives_its_coordinator() {
    let mut seat = Seat::new();
    let old = stable(&mut seat, &["a", "b"]);
    seat.moves();
    for one in &old {
        assert_eq!(seat.coordinator.beat_classic(seat.now_ms, &speaker(one)), Ok(()));
        assert_eq!(now(seat.sync(&sync(one, &[]))).expect("synced").assignment, one.member);
    }
    assert!(seat.coordinator.commit_classic(&speaker(&old[0]), at("t", 0, 1)).is_ok());
    // Nobody knows yet since when they are silent.
    seat.wait(9_999);
    assert_eq!(seat.coordinator.beat_classic(seat.now_ms, &speaker(&old[0])), Ok(()));
    seat.wait(9_999);
    seat.wait(2);
    assert_eq!(seat.coordinator.beat_classic(seat.now_ms, &speaker(&old[0])), Err(Refused::Rebalance));
}

#[test]
fn a_leader_that_never_shares_out_is_gone_in_time() {
    let mut seat = Seat::new();
    let (a, b) = (later(seat.join(&join("a"))), later(seat.join(&join("b"))));
    seat.wait(FIRST_WAIT_MS);
    seat.wait(FIRST_WAIT_MS);
    let (a, b) = (then(a).expect("joined"), then(b).expect("joined"));
    let waiting = later(seat.sync(&sync(&b, &[])));
    for _ in 0..30 {
        seat.wait(1_000);
        let _ = seat.coordinator.beat_classic(seat.now_ms, &speaker(&a));
    }
    assert_eq!(then(waiting), Err(Refused::Rebalance));
    let b = now(seat.join(&again(&b, "b"))).expect("it is alone");
    assert_eq!((b.generation, &b.leader), (2, &b.member));
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    let mut seat = Seat::new();
    let a = later(seat.join(&join("a")));
    seat.wait(FIRST_WAIT_MS);
    let a = then(a).expect("joined");
    assert_eq!(now(seat.join(&again(&a, "a"))).expect("still there"), a);
    share_out(&mut seat, std::slice::from_ref(&a));
    assert_eq!(now(seat.sync(&sync(&a, &[]))).expect("synced").assignment, a.member);
}

#[test]
fn ways_of_sharing_out_are_those_of_all_and_the_one_that_most_prefer_is_taken() {
    let mut seat = Seat::new();
    let can = |client: &str, names: &[&str]| Join { protocols: names.iter().map(|name| protocol(name, "m")).collect(), ..join(client) };
    let joins = vec![can("a", &["range", "sticky"]), can("b", &["sticky", "range"]), can("c", &["sticky", "other", "range"])];
    let all = stable_of(&mut seat, joins);
    assert!(all.iter().all(|one| one.protocol == "sticky"));
    let other = Refused::Inconsistent { is: "consumer".into() };
    assert_eq!(now(seat.join(&can("d", &["other"]))), Err(other.clone()));
    assert_eq!(now(seat.join(&Join { protocol_type: "connect".into(), ..join("d") })), Err(other));
    assert_eq!(seat.coordinator.described("g").map(|g| g.state), Some("stable"), "whoever is refused disturbs nobody");
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let mut seat = Seat::new();
    let refused = |seat: &mut Seat, join: Join| seat.join(&join).map(drop).expect_err("refused");
    assert_eq!(refused(&mut seat, Join { group: String::new(), ..join("a") }), Refused::GroupName);
    assert_eq!(refused(&mut seat, Join { session_timeout_ms: 10, ..join("a") }), Refused::SessionTimeout { is: 10 });
    assert!(matches!(refused(&mut seat, Join { client_id: "x".repeat(300), ..join("a") }), Refused::TooLong { .. }));
    assert!(matches!(refused(&mut seat, Join { member: "m".into(), ..join("a") }), Refused::UnknownMember { .. }));
    for n in 0..crate::coordinator::MEMBERS_PER_GROUP_MAX {
        later(seat.join(&join(&n.to_string())));
    }
    assert!(matches!(refused(&mut seat, join("one more")), Refused::Full { .. }));
    // A group that never was leaves nothing behind that would have to be deleted.
    let mut seat = Seat::new();
    assert!(matches!(now(seat.join(&Join { protocols: Vec::new(), ..join("a") })), Err(Refused::Inconsistent { .. })));
    assert_eq!((seat.coordinator.described("g"), seat.coordinator.take_over(9)), (None, Vec::new()));
    // What is shared out must fit into a record.
    let mut seat = Seat::new();
    let a = later(seat.join(&join("a")));
    seat.wait(FIRST_WAIT_MS);
    let a = then(a).expect("joined");
    let huge = Sync { assignments: vec![(a.member.clone(), vec![7; GROUP_RECORD_BYTES_MAX].into())], ..sync(&a, &[]) };
    assert!(matches!(seat.sync(&huge), Err(Refused::TooLong { .. })));
    seat.coordinator.check();
}
