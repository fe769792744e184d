use super::*;
use crate::kafka::wire::Writer;
use proptest::prelude::*;

const MAX: usize = 1 << 20;

proptest! {
    #[test]
    fn any_cut_of_the_stream_gives_the_same_frames(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 1..8),
        cuts in proptest::collection::vec(1..50_usize, 1..200),
    ) {
        let mut stream = Vec::new();
        for body in &bodies {
            let mut w = Writer::frame(false);
            w.raw().extend_from_slice(body);
            w.finish_frame().iter().for_each(|piece| stream.extend_from_slice(piece));
        }
        let (mut rest, mut buf, mut got) = (&stream[..], BytesMut::new(), Vec::new());
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let n = (*cuts.next().expect("endless")).min(rest.len());
            buf.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            while let Some(frame) = take(&mut buf, MAX).expect("a sound stream") {
                got.push(frame);
            }
        }
        prop_assert!(buf.is_empty());
        prop_assert_eq!(got, bodies);
    }
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    for n in [0, -1, -2, i32::MIN] {
        assert_eq!(length(n.to_be_bytes(), MAX), Err(WireError::FrameLength(n)));
    }
    assert_eq!(length(1_i32.to_be_bytes(), MAX), Ok(1));
    assert_eq!(length((MAX as i32).to_be_bytes(), MAX), Ok(MAX));
    assert_eq!(length((MAX as i32 + 1).to_be_bytes(), MAX), Err(WireError::FrameTooLarge { claimed: MAX + 1, limit: MAX }));
    assert_eq!(
        length(i32::MAX.to_be_bytes(), usize::MAX),
        Err(WireError::FrameTooLarge { claimed: i32::MAX as usize, limit: FRAME_BYTES_MAX })
    );
    for other in [*b"GET ", *b"POST", [0x16, 3, 1, 0], *b"MPRG"] {
        assert!(matches!(length(other, usize::MAX), Err(WireError::FrameTooLarge { .. })), "{other:?}");
    }
}

#[test]
fn a_claim_of_megabytes_takes_no_memory() {
    let mut buf = BytesMut::from(&(FRAME_BYTES_MAX as i32).to_be_bytes()[..]);
    assert_eq!(take(&mut buf, FRAME_BYTES_MAX), Ok(None));
    assert!(buf.capacity() < 4 << 20, "{} bytes reserved", buf.capacity());
}
