use super::*;

/// Six records of three keys in two partitions.
struct Case {
    flights: Vec<Flight>,
    acks: Vec<Ack>,
}

#[derive(Clone)]
struct Copy {
    partition: u32,
    offset: u64,
    time_ms: i64,
    key: String,
    value: String,
    number: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let keys = ["a", "b", "a", "c", "b", "a"];
        let (mut ends, mut flights, mut acks) = ([0, 0], Vec::new(), Vec::new());
        for (n, key) in keys.into_iter().enumerate() {
            let partition = u32::from(key == "b");
            let offset = ends[partition as usize];
            ends[partition as usize] += 1;
            flights.push(Flight { time_ms: n as i64 * 10, key: key.into(), line: format!("line {n}").into() });
            acks.push(Ack { partition, offset });
        }
        Self { flights, acks }
    }

    /// What a log without fault holds.
    fn log(&self) -> Vec<Copy> {
        let copy = |(n, (flight, ack)): (usize, (&Flight, &Ack))| Copy {
            partition: ack.partition,
            offset: ack.offset,
            time_ms: flight.time_ms,
            key: flight.key.to_string(),
            value: flight.line.to_string(),
            number: (n as u64).to_be_bytes().to_vec(),
        };
        self.flights.iter().zip(&self.acks).enumerate().map(copy).collect()
    }

    fn check_from(&self, from: &[u64], log: &[Copy]) -> Differences {
        let seen = log.iter().map(|copy| Seen {
            partition: copy.partition,
            offset: copy.offset,
            time_ms: copy.time_ms,
            key: Some(copy.key.as_bytes()),
            value: Some(copy.value.as_bytes()),
            number: Some(&copy.number),
        });
        Sent { flights: &self.flights, acks: &self.acks, partitions: 2 }.check(from, seen)
    }

    #[track_caller]
    fn finds(&self, log: &[Copy], what: &str) {
        let wrong = self.check_from(&[0, 0], log);
        assert!(wrong.listed.iter().any(|line| line.contains(what)), "`{what}` is not in {:#?}", wrong.listed);
    }
}

#[test]
fn a_log_without_fault_passes_from_anywhere() {
    let case = Case::new();
    assert_eq!(case.check_from(&[0, 0], &case.log()).count, 0);
    let sent = Sent { flights: &case.flights, acks: &case.acks, partitions: 2 };
    let from = sent.offsets_of(25);
    assert_eq!(from, [2, 1]);
    let late: Vec<Copy> = case.log().into_iter().filter(|copy| copy.time_ms >= 25).collect();
    assert_eq!(case.check_from(&from, &late).count, 0);
    // From one too early, and one too late.
    let wrong = case.check_from(&from, &case.log()[2..]);
    assert!(wrong.listed[0].contains("offset 2 was due"), "{:?}", wrong.listed);
    assert_ne!(case.check_from(&from, &late[1..]).count, 0);
    assert_eq!(sent.offsets_of(51), [u64::MAX; 2]);
}

#[test]
fn a_lost_record_is_found_at_either_end_and_between() {
    let case = Case::new();
    for n in 0..6 {
        let mut log = case.log();
        log.remove(n);
        case.finds(&log, &format!("record {n} is lost"));
    }
    // Even if the others close the gap.
    let mut log = case.log();
    log.remove(2);
    log[2].offset = 1;
    log[4].offset = 2;
    case.finds(&log, "record 2 is lost");
    case.finds(&log, "record 3 was acknowledged at 0@2");
    case.finds(&[], "record 5 is lost");
}

#[test]
fn a_duplicate_is_found() {
    let case = Case::new();
    let mut log = case.log();
    let mut again = log[5].clone();
    again.offset = 4;
    log.push(again);
    case.finds(&log, "0@4: record 5 for the second time");
    // Of an offset that was there before.
    let mut log = case.log();
    log.insert(1, log[0].clone());
    case.finds(&log, "0@0: offset 1 was due");
}

#[test]
fn a_swap_is_found() {
    let case = Case::new();
    let mut log = case.log();
    log.swap(0, 2);
    (log[0].offset, log[2].offset) = (0, 1);
    case.finds(&log, "record 0 after record 2");
    case.finds(&log, "of key a after record 2");
}

#[test]
fn wrong_bytes_are_found() {
    let case = Case::new();
    let change = |change: fn(&mut Copy)| {
        let mut log = case.log();
        change(&mut log[3]);
        log
    };
    case.finds(&change(|copy| copy.value.push('x')), "has other bytes");
    case.finds(&change(|copy| copy.key = "b".into()), "another key than c");
    case.finds(&change(|copy| copy.time_ms += 1), "has time 31 instead of 30 ms");
    case.finds(&change(|copy| copy.partition = 1), "was acknowledged at 0@2");
}

#[test]
fn what_was_not_sent_is_found() {
    let case = Case::new();
    for number in [vec![], vec![1, 2, 3], 6_u64.to_be_bytes().to_vec()] {
        let mut log = case.log();
        log.push(Copy { number, offset: 4, ..log[5].clone() });
        case.finds(&log, "0@4: a record that was never sent");
    }
    let mut log = case.log();
    log[0].partition = 7;
    case.finds(&log, "no such partition");
}

#[test]
fn many_differences_are_counted_and_few_are_listed() {
    let case = Case::new();
    let log: Vec<Copy> = std::iter::repeat_with(|| case.log()).take(10).flatten().collect();
    let wrong = case.check_from(&[0, 0], &log);
    assert!(wrong.count > 50 && wrong.listed.len() == LISTED_MAX);
}
