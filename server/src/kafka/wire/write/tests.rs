use super::*;
use crate::kafka::wire::Reader;

#[test]
fn default_values_leave_no_tagged_field() {
    let mut w = Writer::new(true);
    w.tags(|tags| {
        tags.put(0, 7, 7, Writer::i32);
        tags.put(1, "x", "", Writer::string);
        tags.put(4, -1, -1, Writer::i64);
    });
    assert_eq!(w.finish().concat(), [1, 1, 2, 2, b'x']);
    let mut legacy = Writer::new(false);
    legacy.tags(|tags| tags.put(0, 1, 0, Writer::i32));
    legacy.no_tags();
    assert!(legacy.is_empty());
}

#[test]
#[should_panic(expected = "they go by their numbers")]
fn tagged_fields_out_of_order_are_our_own_fault() {
    Writer::new(true).tags(|tags| {
        tags.put(1, 1, 0, Writer::i32);
        tags.put(0, 1, 0, Writer::i32);
    });
}

#[test]
fn large_records_are_pieces_of_their_own() {
    let (small, large) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; 5000]));
    let mut w = Writer::frame(true);
    w.records(Some(&[small.clone(), large.clone(), large.clone(), small.clone()]));
    w.records(None);
    w.records(Some(&[]));
    let bytes = w.len();
    let pieces = w.finish_frame();
    assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [4 + 2 + 100, 5000, 5000, 100 + 2]);
    assert_eq!(pieces[1].as_ptr(), large.as_ptr(), "it was copied");
    let all = Bytes::from(pieces.concat());
    assert_eq!(all.len(), bytes);
    assert_eq!(all[..4], (bytes as i32 - 4).to_be_bytes());
    let mut r = Reader::new(all.slice(4..), true);
    assert_eq!(r.nullable_bytes("records").expect("sound"), Some(Bytes::from([&small[..], &large, &large, &small].concat())));
    assert_eq!(r.nullable_bytes("records").expect("sound"), None);
    assert_eq!(r.nullable_bytes("records").expect("sound"), Some(Bytes::new()));
    assert_eq!(r.left(), 0, "all was read");
}

#[test]
fn records_may_be_the_first_and_the_last() {
    let large = Bytes::from(vec![2; 5000]);
    let mut w = Writer::frame(false);
    w.records(Some(std::slice::from_ref(&large)));
    assert_eq!(w.finish_frame().len(), 2);
    assert_eq!(Writer::new(true).finish(), [Bytes::new()]);
    assert_eq!(Writer::frame(true).finish_frame(), [Bytes::from_static(&[0; 4])]);
}

#[test]
fn a_legacy_string_is_cut_where_a_character_ends() {
    let text = format!("x{}", "é".repeat(20_000));
    let mut w = Writer::new(false);
    w.string(&text);
    let mut r = Reader::new(Bytes::from(w.finish().concat()), false);
    let cut = r.string("text").expect("sound");
    assert_eq!(cut.len(), LEGACY_STRING_BYTES_MAX);
    assert!(text.starts_with(&*cut));
    let mut w = Writer::new(true);
    w.string(&text);
    assert_eq!(w.len(), 3 + text.len());
}
