use super::*;
use proptest::prelude::*;

const LIFE: u64 = 0x0123_4567_89ab_cdef;

fn gather(pieces: &[Bytes]) -> Bytes {
    pieces.concat().into()
}

fn some(group: u64, index: u64, payloads: &[usize], context: &[u8]) -> Envelope {
    let mut m = Message { from: 3, to: 4, term: 9, log_term: 8, index, commit: 5, commit_term: 7, ..Message::default() };
    (m.reject, m.reject_hint, m.priority) = (true, 77, -3);
    m.set_msg_type(MessageType::MsgAppend);
    m.context = Bytes::copy_from_slice(context);
    for (n, len) in payloads.iter().enumerate() {
        let mut entry = Entry { term: 9, index: index + 1 + n as u64, data: vec![n as u8; *len].into(), ..Entry::default() };
        entry.set_entry_type(if n % 3 == 2 { EntryType::EntryConfChangeV2 } else { EntryType::EntryNormal });
        m.entries.push(entry);
    }
    Envelope { group: GroupId(group), said: Said::Raft(m) }
}

fn of(envelope: &Envelope) -> &Message {
    let Said::Raft(message) = &envelope.said else { panic!("what Raft says was expected: {envelope:?}") };
    message
}

fn change(envelope: &mut Envelope) -> &mut Message {
    let Said::Raft(message) = &mut envelope.said else { panic!("what Raft says was expected") };
    message
}

#[test]
fn large_payloads_are_not_copied() {
    let envelope = some(1, 0, &[100_000], b"");
    let pieces = encode(LIFE, std::slice::from_ref(&envelope));
    assert!(pieces.iter().any(|piece| piece.as_ptr() == of(&envelope).entries[0].data.as_ptr()));
    let frame = gather(&pieces);
    let back = decode(&frame).expect("a frame");
    let data = of(&back.envelopes[0]).entries[0].data.as_ptr();
    assert!(frame.as_ptr_range().contains(&data), "a slice of the frame");
    // A frame is not kept for a small part of it.
    let frame = gather(&encode(LIFE, &[envelope, some(2, 0, &[5_000], b"")]));
    let back = decode(&frame).expect("a frame");
    let is_slice = |n: usize| frame.as_ptr_range().contains(&of(&back.envelopes[n]).entries[0].data.as_ptr());
    assert!(is_slice(0) && !is_slice(1));
}

#[test]
fn every_changed_byte_is_noticed() {
    let frame = gather(&encode(LIFE, &[some(1, 3, &[10, 0], b"ctx"), some(2, 0, &[], b""), offer(7, 8, 1), piece(1, 9, 4), ask(3)]));
    for at in 0..frame.len() {
        let mut changed = frame.to_vec();
        changed[at] ^= 1;
        assert!(decode(&changed.into()).is_err(), "byte {at}");
    }
    for cut in 0..frame.len() {
        assert!(decode(&frame.slice(..cut)).is_err(), "{cut} bytes");
    }
}

#[test]
fn what_a_node_says_to_itself_is_refused() {
    for own in [MessageType::MsgHup, MessageType::MsgPropose, MessageType::MsgSnapStatus, MessageType::MsgCheckQuorum] {
        let mut envelope = some(1, 0, &[], b"");
        change(&mut envelope).set_msg_type(own);
        assert!(matches!(decode(&gather(&encode(LIFE, &[envelope]))), Err(WireError::Shape(_))), "{own:?}");
    }
}

#[test]
fn entries_follow_each_other() {
    let mut gap = some(1, 4, &[1, 1], b"");
    change(&mut gap).entries[1].index = 9;
    assert!(decode(&gather(&encode(LIFE, &[gap]))).is_err());
    let mut behind = some(1, 4, &[1, 1], b"");
    change(&mut behind).index = 7;
    assert!(decode(&gather(&encode(LIFE, &[behind]))).is_err());
}

#[test]
fn only_appends_have_entries_and_reads_are_known_by_one() {
    let of = |kind, payloads: &[usize]| {
        let mut envelope = some(1, 4, payloads, b"");
        change(&mut envelope).set_msg_type(kind);
        decode(&gather(&encode(LIFE, &[envelope])))
    };
    assert!(of(MessageType::MsgHeartbeat, &[]).is_ok() && of(MessageType::MsgHeartbeat, &[1]).is_err());
    assert!(of(MessageType::MsgReadIndex, &[8]).is_ok() && of(MessageType::MsgReadIndexResp, &[8]).is_ok());
    assert!(of(MessageType::MsgReadIndex, &[]).is_err(), "Raft would look at the first");
    assert!(of(MessageType::MsgReadIndex, &[8, 8]).is_err() && of(MessageType::MsgReadIndex, &[65]).is_err());
}

fn offer(index: u64, log_term: u64, number: u64) -> Envelope {
    let mut m = Message { from: 3, to: 4, term: 9, ..Message::default() };
    m.set_msg_type(MessageType::MsgSnapshot);
    m.mut_snapshot().data = number.to_le_bytes().to_vec().into();
    let metadata = m.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = (index, log_term);
    Envelope { group: GroupId(1), said: Said::Raft(m) }
}

fn piece(position: u64, len: u64, data: usize) -> Envelope {
    let data = Bytes::from(vec![7; data]);
    Envelope { group: GroupId(6), said: Said::Piece(SnapshotPiece { from: 1, to: 2, number: 0xabcd, file: 3, position, len, data }) }
}

fn ask(bytes: u32) -> Envelope {
    Envelope { group: GroupId(6), said: Said::Ask(SnapshotAsk { from: 2, to: 1, number: 0xabcd, file: 3, position: 1 << 40, bytes }) }
}

#[test]
fn snapshots_are_offered_asked_for_and_sent() {
    let end = |done| Envelope { group: GroupId(6), said: Said::End(SnapshotEnd { from: 2, to: 1, number: 0xabcd, done, damaged: !done }) };
    let all = vec![
        offer(70, 8, 0xfeed),
        ask(4096),
        ask(0),
        piece(8192, 16_384, 8_192),
        piece(0, 100, 100),
        piece(5, 5, 0),
        end(true),
        end(false),
    ];
    let pieces = encode(LIFE, &all);
    let Said::Piece(large) = &all[3].said else { unreachable!("it is one") };
    assert!(pieces.iter().any(|piece| piece.as_ptr() == large.data.as_ptr()), "a large piece is not copied");
    let frame = gather(&pieces);
    assert_eq!(frame.len(), HEAD_BYTES + all.iter().map(Envelope::frame_bytes).sum::<usize>());
    assert_eq!(decode(&frame), Ok(Frame { life: LIFE, envelopes: all }));
}

#[test]
fn snapshots_that_cannot_be_are_refused() {
    let refused = |envelope: Envelope| decode(&gather(&encode(LIFE, &[envelope]))).is_err();
    assert!(refused(offer(0, 8, 1)) && refused(offer(1, 0, 1)) && refused(offer(u64::MAX, 8, 1)), "of no entry");
    assert!(refused(offer(1, 10, 1)), "of a term that is to come");
    assert!(refused(ask(PIECE_BYTES_MAX as u32 + 1)) && !refused(ask(PIECE_BYTES_MAX as u32)));
    assert!(refused(piece(0, 99, 100)) && refused(piece(u64::MAX, u64::MAX, 1)), "past the end of its file");
    assert!(refused(piece(0, 1 << 30, PIECE_BYTES_MAX + 1)));
    let mut with_entries = offer(70, 8, 1);
    change(&mut with_entries).entries.push(Entry::default());
    assert!(refused(with_entries));
    // The length of the data is not believed.
    let mut frame = gather(&encode(LIFE, &[piece(0, 100, 100)])).to_vec();
    frame[HEAD_BYTES + 84] = 99;
    assert!(decode(&around(&frame[HEAD_BYTES..], 1)).is_err());
    frame[HEAD_BYTES + 84] = 101;
    assert!(decode(&around(&frame[HEAD_BYTES..], 1)).is_err());
}

/// A frame around these bytes whose checksum is right.
fn around(messages: &[u8], count: u32) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32_le((HEAD_BYTES - 4 + messages.len()) as u32);
    frame.put_u32_le(0);
    frame.put_u32_le(count);
    frame.put_u64_le(LIFE);
    frame.put_slice(messages);
    let crc = crc32fast::hash(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame.freeze()
}

proptest! {
    #[test]
    fn frames_come_back(
        messages in proptest::collection::vec(
            (any::<u64>(), 0..1_000_000_u64, proptest::collection::vec(0..3000_usize, 0..6), proptest::collection::vec(any::<u8>(), 0..40)),
            0..8,
        )
    ) {
        let all: Vec<Envelope> = messages.iter().map(|(g, i, p, c)| some(*g, *i, p, c)).collect();
        let frame = gather(&encode(LIFE, &all));
        prop_assert_eq!(frame_len(&frame), Ok(Some(frame.len())));
        prop_assert_eq!(frame.len(), HEAD_BYTES + all.iter().map(Envelope::frame_bytes).sum::<usize>());
        prop_assert_eq!(decode(&frame), Ok(Frame { life: LIFE, envelopes: all }));
    }

    #[test]
    fn junk_is_refused(junk in proptest::collection::vec(any::<u8>(), 0..400), count in 0..4_u32, message in 0..36_u8) {
        let mut junk = junk;
        if junk.len() > 84 {
            junk[80] = message;
            junk[82..84].copy_from_slice(&[0, 0]);
        }
        if let Ok(read) = decode(&around(&junk, count)) {
            prop_assert_eq!(decode(&gather(&encode(read.life, &read.envelopes))), Ok(read));
        }
        let _ = Greeting::decode(&junk);
    }
}
