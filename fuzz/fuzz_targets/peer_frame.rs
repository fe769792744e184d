//! Any bytes as what another node says: greetings and frames, and frames around any messages whose checksum is right.
#![no_main]

use bytes::{BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use millpond_raft::{
    Membership,
    wire::{Greeting, HEAD_BYTES, decode, encode, frame_len},
};

/// What is read is written and read again as the same.
fn look(frame: &Bytes) {
    if let Ok(read) = decode(frame) {
        let again: Bytes = encode(read.life, &read.envelopes).concat().into();
        assert_eq!(again.len(), frame.len());
        assert!(decode(&again).expect("what we encoded") == read);
    }
}

fn around(messages: &[u8], count: u32) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32_le((HEAD_BYTES - 4 + messages.len()) as u32);
    frame.put_u32_le(0);
    frame.put_u32_le(count);
    frame.put_u64_le(7);
    frame.put_slice(messages);
    let crc = crc32fast::hash(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame.freeze()
}

fuzz_target!(|data: &[u8]| {
    let _ = Greeting::decode(data);
    if let Ok(members) = Membership::decode(data) {
        assert!(Membership::decode(&members.encode()).expect("what we encoded") == members);
    }
    if let Ok(Some(len)) = frame_len(data) {
        look(&Bytes::copy_from_slice(&data[..len.min(data.len())]));
    }
    let Some((count, messages)) = data.split_first() else { return };
    look(&around(messages, u32::from(*count % 4)));
});
