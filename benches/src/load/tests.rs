use super::{
    consume::Consume,
    pace::{Due, Gaps, hand_out},
    produce::{Pace, Produce},
    *,
};
use crate::{
    args::Arrivals,
    batches::Shape,
    measure::Latency,
    mock::Mock,
    system::{Acks, Reading, System, Topic, native::Native},
};

const MS: Duration = Duration::from_millis(1);

fn plan(duration: Duration) -> Plan {
    Plan { warm_up: 20 * MS, duration, cpus: vec![], humble: false }
}

fn produce(mock: &Mock, connections: usize, pace: Pace) -> Produce<Native> {
    let system = Native::new(std::slice::from_ref(&mock.address));
    let topic = Topic { name: "t".into(), partitions: 3 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(system.create(&topic)).expect("the mock takes it");
    Produce {
        system,
        topics: vec![topic],
        shape: Shape { records: 4, ..Shape::single(1000) },
        connections,
        pace,
        acks: Acks::Synced,
        idempotent: true,
        correct_omission: None,
        stamp_since: None,
        bytes_all: None,
    }
}

fn stored(mock: &Mock) -> u64 {
    mock.state().topics["t"].iter().map(|p| p.end()).sum()
}

#[test]
fn a_closed_loop_counts_what_it_sent() {
    let mock = Mock::start();
    let work = produce(&mock, 5, Pace::Closed { in_flight: 3 });
    let measured = run(&work, &Plan { cpus: vec![], ..plan(200 * MS) }, |_| ()).expect("it runs");
    let totals = measured.requests.totals();
    assert!(totals.requests > 50, "{totals:?}");
    assert_eq!(totals.records, 4 * totals.requests);
    assert!(totals.bytes > 4000 * totals.requests);
    // What was sent in the warm-up is stored too, but not counted.
    assert!(stored(&mock) >= totals.records);
    assert_eq!(measured.refused, 0);
    assert!(mock.state().topics["t"].iter().all(|p| !p.batches.is_empty()), "every partition got some");
}

#[test]
fn a_number_of_bytes_is_sent_and_read_back_to_the_last_record() {
    let mock = Mock::start();
    let mut work = produce(&mock, 4, Pace::Closed { in_flight: 8 });
    work.bytes_all = Some(2_000_000);
    let sent = run(&work, &Plan { warm_up: Duration::ZERO, ..plan(MS) }, |_| ()).expect("it runs").requests.totals();
    assert_eq!(sent.records, stored(&mock));
    assert!((2_000_000..2_000_000 + 4 * 8 * 5_000).contains(&sent.bytes), "{sent:?}");
    let read = Consume {
        system: work.system,
        topics: work.topics,
        connections: 2,
        reading: Reading::Once { background: true },
        fetch_bytes: 100_000,
        verify: true,
        stamps: None,
    };
    let read = run(&read, &Plan { warm_up: Duration::ZERO, ..plan(MS) }, |_| ()).expect("it runs").requests.totals();
    assert_eq!((read.records, read.bytes), (sent.records, sent.bytes));
}

#[test]
fn reading_again_and_again_fills_the_window() {
    let mock = Mock::start();
    let mut work = produce(&mock, 1, Pace::Closed { in_flight: 8 });
    work.bytes_all = Some(100_000);
    run(&work, &plan(MS), |_| ()).expect("it runs");
    let read = Consume {
        system: work.system,
        topics: work.topics,
        connections: 1,
        reading: Reading::Again { background: false },
        fetch_bytes: 50_000,
        verify: false,
        stamps: None,
    };
    let read = run(&read, &plan(200 * MS), |_| ()).expect("it runs").requests.totals();
    assert!(read.bytes > 300_000, "more than it holds: {read:?}");
}

#[test]
fn an_open_loop_keeps_its_rate_and_a_stall_counts_for_all_that_were_to_be_sent_in_it() {
    let mock = Mock::start();
    let work = produce(&mock, 1, Pace::Open { per_s: 1000.0, arrivals: Arrivals::Even });
    // One answer takes 200 ms. A closed loop of one would see one slow request; here all those due meanwhile are late.
    mock.state().stalls = vec![200 * MS];
    let measured = run(&work, &Plan { warm_up: Duration::ZERO, ..plan(600 * MS) }, |_| ()).expect("it runs");
    let sent = measured.requests.latency().len();
    assert!((590..=600).contains(&sent), "{sent} were to be sent in the window");
    let late = measured.requests.latency().count_between(50_000_000, u64::MAX);
    assert!(late >= 140, "{late} of about 150 took more than 50 ms");
    assert!(Latency::of(measured.requests.latency()).max_ns >= 190_000_000);
    assert_eq!(stored(&mock), 4 * 599, "all that was due was sent");
}

#[test]
fn a_follower_sees_every_batch_that_was_to_be_sent_in_the_window() {
    let mock = Mock::start();
    let mut work = produce(&mock, 2, Pace::Open { per_s: 500.0, arrivals: Arrivals::Poisson });
    let since = Instant::now();
    work.stamp_since = Some(since);
    let follow = Consume {
        system: work.system.clone(),
        topics: work.topics.clone(),
        connections: 2,
        reading: Reading::Follow,
        fetch_bytes: 1 << 20,
        verify: true,
        stamps: Some((work.shape.clone(), since)),
    };
    let both = run(&Both { producers: work, followers: follow }, &plan(300 * MS), |_| ()).expect("both run");
    assert!(both.requests.latency().len() > 50);
    assert_eq!(both.end_to_end.len(), both.requests.latency().len());
    assert!(both.end_to_end.max() < 1_000_000_000);
}

#[test]
fn what_the_server_has_no_room_for_is_counted_apart() {
    let mock = Mock::start();
    let mut work = produce(&mock, 1, Pace::Closed { in_flight: 1 });
    work.idempotent = false;
    mock.state().overloaded = 7;
    let measured = run(&work, &Plan { warm_up: Duration::ZERO, ..plan(100 * MS) }, |_| ()).expect("it runs");
    assert_eq!(measured.refused, 7);
    // The last one may have been answered after the window.
    assert!((0..=4).contains(&(stored(&mock) - measured.requests.totals().records)));
}

#[test]
fn a_connection_that_does_not_open_is_the_error() {
    let mock = Mock::start();
    let mut work = produce(&mock, 3, Pace::Closed { in_flight: 1 });
    work.topics = vec![Topic { name: "missing".into(), partitions: 1 }];
    let error = run(&work, &plan(MS), |_| ()).err().expect("it has no topic");
    assert!(format!("{error:#}").contains("no such topic"), "{error:#}");
}

#[test]
fn arrivals_at_random_come_as_often_as_even_ones() {
    for arrivals in [Arrivals::Even, Arrivals::Poisson] {
        let mut gaps = Gaps::new(1000.0, arrivals, 7);
        let sum: f64 = (0..20_000).map(|_| gaps.next_ns()).sum();
        assert!((19.0e9..21.0e9).contains(&sum), "{arrivals:?}: {sum}");
    }
}

#[test]
fn moments_go_round_the_connections_and_none_is_handed_out_early() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let begin = Instant::now();
        let window = Window { begin, from: begin, to: begin + 20 * MS };
        let due: Vec<Rc<Due>> = (0..3).map(|_| Rc::default()).collect();
        let late = Rc::new(std::cell::RefCell::new(crate::measure::latencies()));
        hand_out(Gaps::new(1000.0, Arrivals::Even, 1), window, due.clone(), Rc::clone(&late)).await.expect("a timer");
        assert_eq!(late.borrow().len(), 19);
        let moments: Vec<Vec<Instant>> = due.iter().map(|due| std::iter::from_fn(|| due.pop()).collect()).collect();
        assert_eq!(moments.iter().map(Vec::len).collect::<Vec<_>>(), [7, 6, 6]);
        assert_eq!(moments[1][0], begin + 2 * MS);
        assert!(due.iter().all(|due| due.is_over()));
    });
}
