use super::*;

const PROMISE: Promise = Promise { durable: true, once: true };
const T: &str = "t#0/0";

/// A server of one partition that may lie.
#[derive(Default)]
struct Mock {
    ledger: Ledger,
    log: Vec<Id>,
}

impl Mock {
    /// A ledger and a log of `count` acknowledged records, alternately of two producers.
    fn new(count: u32) -> Self {
        let mut mock = Self::default();
        mock.ledger.creating("t");
        mock.ledger.created("t");
        for n in 0..count {
            mock.produce(n % 2);
        }
        mock
    }

    fn produce(&mut self, producer: u32) -> Id {
        let id = self.ledger.sending(T, producer, PROMISE);
        self.ledger.decided(T, id, Fate::Acked(Some(self.log.len() as u64)));
        self.log.push(id);
        id
    }

    /// Reads all, as a reader under load does.
    fn read(&mut self, from: u64) -> Vec<(u64, Id)> {
        let mut reads = Vec::new();
        for (n, id) in self.log.iter().enumerate() {
            let (offset, bytes, key) = (from + n as u64, value(T, *id), key(*id));
            let read = Read { offset, time_ms: time_ms(*id), key: key.as_deref().map(str::as_bytes), value: Some(bytes.as_bytes()) };
            reads.extend(self.ledger.seen(T, &read).map(|id| (offset, id)));
        }
        reads
    }

    /// What the check after a crash finds.
    fn audit(mut self) -> Vec<String> {
        let reads = self.read(0);
        self.ledger.check_lane(T, (0, self.log.len() as u64), &reads);
        self.ledger.wrong.listed
    }
}

#[track_caller]
fn finds(wrong: &[String], what: &str) {
    assert!(wrong.iter().any(|line| line.contains(what)), "`{what}` is not in {wrong:#?}");
}

#[test]
fn a_log_without_fault_passes() {
    assert_eq!(Mock::new(20).audit(), [""; 0]);
    // What was sent and not acknowledged may be there, or not.
    let mut mock = Mock::new(4);
    let id = mock.ledger.sending(T, 0, PROMISE);
    mock.ledger.sending(T, 1, PROMISE);
    mock.log.push(id);
    assert_eq!(mock.audit(), [""; 0]);
}

#[test]
fn a_lost_record_is_found() {
    for n in 0..6 {
        let mut mock = Mock::new(6);
        mock.log.remove(n);
        assert!(!mock.audit().is_empty(), "record {n} of 6 is lost");
    }
    let mut mock = Mock::new(6);
    mock.log.pop();
    finds(&mock.audit(), "t#0/0@5: record 2 of producer 1 was acknowledged there and is lost");
}

#[test]
fn a_duplicate_and_a_swap_are_found() {
    let mut mock = Mock::new(6);
    mock.log.push(mock.log[5]);
    finds(&mock.audit(), "record 2 of producer 1 for the second time in a row");
    let mut mock = Mock::new(6);
    mock.log.push(mock.log[1]);
    finds(&mock.audit(), "t#0/0@6: record 0 of producer 1 after record 2");
    let mut mock = Mock::new(6);
    mock.log.swap(2, 4);
    finds(&mock.audit(), "record 1 of producer 0 after record 2");
}

#[test]
fn what_was_never_sent_or_refused_is_found() {
    let mut mock = Mock::new(2);
    mock.log.push(Id { producer: 0, number: 1 });
    finds(&mock.audit(), "record 1 of producer 0 was never sent");
    let mut mock = Mock::new(2);
    let id = mock.ledger.sending(T, 0, PROMISE);
    mock.ledger.decided(T, id, Fate::Refused);
    mock.log.push(id);
    finds(&mock.audit(), "was refused as having no effect, and is there");
    // Seen first, refused later.
    let mut mock = Mock::new(2);
    let id = mock.ledger.sending(T, 0, PROMISE);
    mock.log.push(id);
    mock.read(0);
    mock.ledger.decided(T, id, Fate::Refused);
    finds(&mock.ledger.wrong.listed, "and a reader had seen it");
}

#[test]
fn wrong_bytes_are_found() {
    let id = Id { producer: 0, number: 1 };
    let whole = value(T, id);
    let at = |value: &str| Read { offset: 2, time_ms: time_ms(id), key: Some(b"key-1"), value: Some(value.as_bytes()) }.check(value);
    assert_eq!(at(&whole), [""; 0]);
    finds(&at(&format!("{whole}x")), "has other bytes");
    finds(&at(&whole.replace("#0", "#1")), "a record of t#1/0");
    finds(&at("anything"), "never sent");
    finds(&Read { time_ms: 0, ..Read { offset: 2, time_ms: 0, key: Some(b"key-1"), value: None } }.check(&whole), "other bytes");
    finds(&Read { offset: 2, time_ms: time_ms(id), key: None, value: None }.check(&whole), "other bytes");
}

impl Read<'_> {
    fn check(&self, value: &str) -> Vec<String> {
        let mut mock = Mock::new(4);
        mock.ledger.seen(T, &Read { value: Some(value.as_bytes()), ..*self });
        mock.ledger.wrong.listed
    }
}

#[test]
fn an_offset_that_changes_under_a_reader_is_found() {
    let mut mock = Mock::default();
    // Nothing was acknowledged: only readers hold the server to it.
    let ids = [0, 1].map(|producer| mock.ledger.sending(T, producer, PROMISE));
    mock.log = ids.to_vec();
    mock.read(0);
    mock.log.swap(0, 1);
    finds(&mock.audit(), "t#0/0@0: record 0 of producer 1, where a reader saw record 0 of producer 0 before");
    let mut mock = Mock::default();
    mock.log = vec![mock.ledger.sending(T, 0, PROMISE)];
    mock.read(0);
    mock.log.clear();
    finds(&mock.audit(), "ends at 0; a reader saw it end at 1 or later");
}

#[test]
fn what_is_trimmed_is_gone_and_nothing_else() {
    for (start, wrong) in [(3, "t#0/0 starts at 3; it was trimmed to 4, or up to 6"), (4, ""), (6, ""), (7, "starts at 7")] {
        let mut mock = Mock::new(10);
        mock.ledger.trimming(T, 4);
        mock.ledger.trimmed(T, 4);
        mock.ledger.trimming(T, 6);
        mock.log.drain(..start as usize);
        let reads = mock.read(start);
        mock.ledger.check_lane(T, (start, 10), &reads);
        match wrong {
            "" => assert_eq!(mock.ledger.wrong.count, 0, "{start}: {:?}", mock.ledger.wrong),
            wrong => finds(&mock.ledger.wrong.listed, wrong),
        }
    }
    let mut mock = Mock::new(3);
    let reads = mock.read(0);
    mock.ledger.check_lane(T, (0, 4), &reads);
    finds(&mock.ledger.wrong.listed, "reading ended at 3, before the end at 4");
}

#[test]
fn weaker_promises_ask_for_less() {
    let audit = |promise, log: &[u32]| {
        let mut mock = Mock::default();
        for n in 0..3 {
            let id = mock.ledger.sending(T, 0, promise);
            mock.ledger.decided(T, id, Fate::Acked(Some(n)));
        }
        mock.log = log.iter().map(|number| Id { producer: 0, number: *number }).collect();
        mock.audit().is_empty()
    };
    let (all, leader) = (Promise { durable: true, once: false }, Promise { durable: false, once: true });
    assert!(audit(all, &[0, 1, 2, 1]) && !audit(all, &[0, 1]));
    assert!(audit(leader, &[0, 2]) && !audit(leader, &[0, 1, 0]));
}

#[test]
fn lost_positions_and_topics_are_found() {
    let mut ledger = Ledger::default();
    ledger.committing("g", T, 5);
    ledger.committed("g", T, 5, Duration::from_secs(3));
    ledger.committing("g", T, 7);
    let check = |ledger: &mut Ledger, found: Option<u64>| {
        ledger.wrong = Wrong::default();
        ledger.check_positions("g", &found.map(|offset| (T.to_owned(), offset)).into_iter().collect());
        ledger.wrong.count
    };
    assert_eq!([None, Some(4), Some(5), Some(7), Some(8)].map(|found| check(&mut ledger, found)), [1, 1, 0, 0, 1]);
    assert_eq!(ledger.acked("g"), BTreeMap::from([(T.to_owned(), 5)]));
    assert_eq!(ledger.acked("other"), BTreeMap::new());
    for (offset, wrong) in [(4, 2), (5, 0), (9, 0)] {
        ledger.wrong = Wrong::default();
        ledger.stands("g", T, offset, 5);
        ledger.told("g", T, Some(offset), 5);
        assert_eq!(ledger.wrong.count, wrong, "{offset}");
    }
    ledger.told("g", T, None, 5);
    finds(&ledger.wrong.listed, "was told as None, and 5 was committed");
    ledger.told("g", T, Some(5), 7);
    finds(&ledger.wrong.listed, "(the commit of 5 took 3.0s)");
    ledger.reads_on(T, 3, 3);
    ledger.reads_on(T, 4, 3);
    finds(&ledger.wrong.listed, "a reader got offset 3, where 4 was due");
    let mut ledger = Ledger::default();
    for topic in ["a", "b", "c"] {
        ledger.creating(topic);
    }
    ledger.created("a");
    ledger.deleted("b");
    ledger.check_topics(&["a".into(), "c".into()]);
    assert_eq!(ledger.wrong.count, 0);
    ledger.check_topics(&["b".into(), "d".into()]);
    assert_eq!(ledger.wrong.count, 3);
    ledger.creating("b");
    assert_eq!(ledger.label("b", 2), "b#1/2");
}
