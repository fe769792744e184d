use super::*;
use crate::kafka::wire::{Table, Writer};
use proptest::prelude::*;

fn reader(bytes: &[u8], flexible: bool) -> Reader {
    Reader::new(Bytes::copy_from_slice(bytes), flexible)
}

fn written(flexible: bool, fill: impl FnOnce(&mut Writer)) -> Reader {
    let mut w = Writer::new(flexible);
    fill(&mut w);
    reader(&w.finish().concat(), flexible)
}

proptest! {
    #[test]
    fn numbers_come_back(
        a: i8, b: i16, c: i32, d: i64, e: u16, f: u32, g: u32, h: i32, i: i64,
        yes: bool, id: [u8; 16], x in proptest::num::f64::NORMAL,
    ) {
        let mut r = written(false, |w| {
            w.i8(a); w.i16(b); w.i32(c); w.i64(d); w.u16(e); w.u32(f); w.uvarint(g); w.varint(h); w.varlong(i);
            w.bool(yes); w.topic_id(TopicId(id)); w.f64(x);
        });
        prop_assert_eq!((r.i8("a")?, r.i16("b")?, r.i32("c")?, r.i64("d")?), (a, b, c, d));
        prop_assert_eq!((r.u16("e")?, r.u32("f")?, r.uvarint("g")?, r.varint("h")?, r.varlong("i")?), (e, f, g, h, i));
        prop_assert_eq!((r.bool("yes")?, r.topic_id("id")?, r.f64("x")?), (yes, TopicId(id), x));
        assert_eq!(r.left(), 0, "all was read");
    }

    #[test]
    fn strings_bytes_and_arrays_come_back(
        flexible: bool, text in ".{0,300}", maybe in proptest::option::of(".{0,9}"),
        bytes in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        numbers in proptest::collection::vec(any::<i32>(), 0..200),
    ) {
        let mut r = written(flexible, |w| {
            w.string(&text);
            w.nullable_string(maybe.as_deref());
            w.nullable_bytes(bytes.as_deref());
            w.bytes(text.as_bytes());
            w.array(&numbers, |w, n| w.i32(*n));
            w.nullable_count(None);
            w.no_tags();
        });
        prop_assert_eq!(&*r.string("text")?, &text);
        let found = r.nullable_string("maybe")?;
        prop_assert_eq!(found.as_deref(), maybe.as_deref());
        let found = r.nullable_bytes("bytes")?;
        prop_assert_eq!(found.as_deref(), bytes.as_deref());
        let found = r.bytes("text")?;
        prop_assert_eq!(&found[..], text.as_bytes());
        let table = Table::<i32>::read(&mut r, 0, "numbers")?;
        prop_assert_eq!(table.len(), numbers.len());
        prop_assert_eq!(table.iter().collect::<Vec<_>>(), numbers);
        prop_assert_eq!(r.nullable_count(1, "nothing")?, None);
        r.skip_tags("all")?;
        assert_eq!(r.left(), 0, "all was read");
    }

    #[test]
    fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..40), flexible: bool, what in 0..10) {
        let mut r = reader(&junk, flexible);
        while r.left() > 0 {
            let ok = match what {
                0 => r.nullable_string("junk").is_ok(),
                1 => r.nullable_bytes("junk").is_ok(),
                2 => r.skip_tags("junk").is_ok() && flexible,
                3 => r.varlong("junk").is_ok(),
                4 => r.varint("junk").is_ok(),
                5 => r.nullable_count(3, "junk").is_ok_and(|n| n.unwrap_or(0) * 3 <= junk.len()),
                6 => r.legacy_nullable_string("junk").is_ok(),
                7 => Table::<i32>::read_nullable(&mut r, 0, "junk").is_ok(),
                8 => r.tags("junk", |tag, r| r.i16("junk").map(|_| tag & 1 == 0)).is_ok() && flexible,
                _ => r.f64("junk").is_ok(),
            };
            if !ok {
                break;
            }
        }
    }
}

#[test]
fn varints_of_too_many_bytes_are_refused() {
    let too_long = |bytes: &[u8]| {
        let mut r = reader(bytes, true);
        assert_eq!(r.uvarint("n"), Err(WireError::Varint { what: "n", at: 0 }), "{bytes:?}");
    };
    too_long(&[0xff, 0xff, 0xff, 0xff, 0x10]);
    too_long(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]);
    assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f], true).uvarint("n"), Ok(u32::MAX));
    let mut ten = [0xff; 10];
    assert_eq!(reader(&ten, true).varlong("n"), Err(WireError::Varint { what: "n", at: 0 }));
    ten[9] = 1;
    assert_eq!(reader(&ten, true).varlong("n"), Ok(i64::MIN));
    assert_eq!(reader(&[0x80], true).uvarint("n"), Err(WireError::Short { what: "n", at: 1, wanted: 1, left: 0 }));
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let bad = |length: i32| WireError::Length { what: "x", at: 4, length };
    for n in [-2, i32::MIN] {
        assert_eq!(reader(&n.to_be_bytes(), false).nullable_bytes("x"), Err(bad(n)));
        assert_eq!(reader(&n.to_be_bytes(), false).count(1, "x"), Err(bad(n)));
    }
    assert_eq!(reader(&(-2_i16).to_be_bytes(), false).nullable_string("x"), Err(WireError::Length { what: "x", at: 2, length: -2 }));
    assert_eq!(reader(&[0xff; 4], false).bytes("x"), Err(WireError::Null { what: "x" }));
    assert_eq!(reader(&[0], true).string("x"), Err(WireError::Null { what: "x" }));
    assert_eq!(reader(&[0], true).count(1, "x"), Err(WireError::Null { what: "x" }));
    let huge = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(reader(&huge, false).bytes("x"), Err(WireError::Short { what: "x", at: 4, wanted: i32::MAX as usize, left: 4 }));
    assert_eq!(reader(&huge, false).count(2, "x"), Err(WireError::Count { what: "x", at: 4, count: i32::MAX as usize, least: 2, left: 4 }));
    // Elements that take no bytes would be as many as anyone likes.
    assert!(matches!(reader(&huge, false).count(0, "x"), Err(WireError::Count { least: 1, .. })));
    assert!(matches!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f], true).skip_tags("x"), Err(WireError::Count { .. })));
}

#[test]
fn a_string_is_utf8_and_a_slice() {
    let bytes = Bytes::from_static(b"\x03ab\x02\xff");
    let mut r = Reader::new(bytes.clone(), true);
    let text = r.string("x").expect("a string").into_bytes();
    assert_eq!(text.as_ptr(), bytes[1..].as_ptr(), "it was copied");
    assert_eq!(r.string("x"), Err(WireError::Utf8 { what: "x", at: 5 }));
}

#[test]
fn tagged_fields_are_read_to_their_last_byte_or_skipped() {
    // Tags 0 (two bytes), 5 (none) and 9 (one byte), then one byte of something else.
    let bytes = [3, 0, 2, 1, 2, 5, 0, 9, 1, 7, 42];
    let mut r = reader(&bytes, true);
    let mut seen = Vec::new();
    let count = r.tags("x", |tag, r| {
        seen.push((tag, r.left()));
        if tag == 0 { r.i16("two").map(|_| true) } else { Ok(false) }
    });
    assert_eq!((count, seen), (Ok(3), vec![(0, 2), (5, 0), (9, 1)]));
    assert_eq!(r.i8("after"), Ok(42));
    let short = reader(&bytes, true).tags("x", |_, r| r.i8("one").map(|_| true));
    assert_eq!(short, Err(WireError::Tag { what: "x", tag: 0, left: 1 }));
    let long = reader(&bytes, true).tags("x", |_, r| r.i32("four").map(|_| true));
    assert_eq!(long, Err(WireError::Short { what: "four", at: 3, wanted: 4, left: 2 }));
    assert_eq!(reader(&bytes, false).tags("x", |_, _| Ok(false)), Ok(0));
    assert_eq!(reader(&[1, 0, 3, 0], true).skip_tags("x"), Err(WireError::Short { what: "x", at: 3, wanted: 3, left: 1 }));
}
