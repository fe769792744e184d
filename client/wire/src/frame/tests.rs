use super::*;
use crate::messages::{Hello, Ping};
use proptest::prelude::*;

const DECODER: Decoder = Decoder { frame_bytes_max: 1 << 20 };

fn stream(names: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, (name, payload)) in names.iter().enumerate() {
        let hello = Hello { client_id: name.clone(), ..Hello::default() };
        out.extend_from_slice(&encode(Kind::Hello, Flags::REPLY, n as u64, &hello, payload.len()));
        out.extend_from_slice(payload);
    }
    out
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_gives_the_same_frames(
        names in proptest::collection::vec((".{0,20}", proptest::collection::vec(any::<u8>(), 0..200)), 1..8),
        cuts in proptest::collection::vec(1..50_usize, 1..200),
    ) {
        let bytes = stream(&names);
        let (mut rest, mut buf, mut got) = (&bytes[..], BytesMut::new(), Vec::new());
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let n = (*cuts.next().expect("endless")).min(rest.len());
            buf.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            while let Some(frame) = DECODER.decode(&mut buf).expect("a sound stream") {
                got.push(frame);
            }
        }
        prop_assert!(buf.is_empty());
        prop_assert_eq!(got.len(), names.len());
        for (n, (frame, (name, payload))) in got.iter().zip(&names).enumerate() {
            prop_assert_eq!(frame.correlation, n as u64);
            prop_assert!(frame.flags.is_reply() && !frame.flags.is_failure());
            prop_assert_eq!(&frame.message::<Hello>().expect("a message").client_id, name);
            prop_assert_eq!(&frame.payload[..], &payload[..]);
        }
    }

    #[test]
    fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..100), len in 0..200_u32) {
        let mut buf = BytesMut::from(&junk[..]);
        while let Ok(Some(frame)) = DECODER.decode(&mut buf) {
            let _ = frame.message::<Hello>();
        }
        let mut buf = BytesMut::from(&len.to_le_bytes()[..]);
        buf.extend_from_slice(&junk);
        let _ = DECODER.decode(&mut buf);
    }
}

#[test]
fn a_claim_of_gigabytes_takes_no_memory() {
    let mut buf = BytesMut::new();
    buf.put_u32_le(2 << 30);
    assert_eq!(DECODER.decode(&mut buf), Err(FrameError::TooLarge { claimed: 2 << 30, limit: 1 << 20 }));
    let large = Decoder { frame_bytes_max: 32 << 20 };
    let mut buf = BytesMut::from(&encode(Kind::Produce, Flags::REQUEST, 1, &Ping {}, 30 << 20)[..]);
    assert_eq!(large.decode(&mut buf), Ok(None));
    assert!(buf.capacity() < 4 << 20, "{} bytes reserved", buf.capacity());
}

#[test]
fn odd_heads_are_refused() {
    let sound = encode(Kind::Ping, Flags::REQUEST, 7, &Ping {}, 0);
    let with = |at: usize, byte: u8| {
        let mut bytes = BytesMut::from(&sound[..]);
        bytes[at] = byte;
        DECODER.decode(&mut bytes)
    };
    assert!(matches!(DECODER.decode(&mut BytesMut::from(&sound[..])), Ok(Some(_))));
    assert_eq!(with(4, 0), Err(FrameError::Kind(0)));
    assert_eq!(with(5, 9), Err(FrameError::Kind((9 << 8) + 19)));
    assert_eq!(with(6, 4), Err(FrameError::Flags(4)));
    assert_eq!(with(0, 15), Err(FrameError::Lengths { len: 15, meta_len: 0 }));
    assert_eq!(with(16, 1), Err(FrameError::Lengths { len: 16, meta_len: 1 }));
}
