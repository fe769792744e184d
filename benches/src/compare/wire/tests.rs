use super::*;

/// What a broker that knows of itself, and of a topic whose partitions have these leaders, says to Metadata 1.
fn metadata(leaders: &[i32]) -> Vec<u8> {
    let mut body = Body::default();
    body.count(1).int(1).text("127.0.0.1").int(9092).short(-1);
    body.int(1).count(1).short(0).text("events").byte(0).count(i32::try_from(leaders.len()).expect("few"));
    for (n, leader) in leaders.iter().enumerate() {
        body.short(0).int(i32::try_from(n).expect("few")).int(*leader).count(1).int(1).count(1).int(1);
    }
    body.0
}

#[test]
fn a_request_has_its_length_its_header_and_its_body() {
    let frame = frame(3, 1, &[7, 8]);
    assert_eq!(frame.len(), 4 + 2 + 2 + 4 + 2 + CLIENT.len() + 2);
    assert_eq!(frame[..12], [0, 0, 0, 26, 0, 3, 0, 1, 0, 0, 0, 1]);
    assert_eq!(&frame[14..28], CLIENT.as_bytes());
    assert_eq!(frame[28..], [7, 8]);
}

#[test]
fn leaders_are_counted() {
    assert_eq!(Answer(&metadata(&[1, 1, 1])).led().expect("well-formed"), 3);
    assert_eq!(Answer(&metadata(&[1, -1])).led().expect("well-formed"), 1);
    assert_eq!(Answer(&metadata(&[])).brokers().expect("well-formed"), 1);
}

#[test]
fn an_answer_that_ends_early_is_an_error_wherever_it_ends() {
    let whole = metadata(&[1, 2]);
    for len in 0..whole.len() {
        assert!(Answer(&whole[..len]).led().is_err(), "after {len} bytes");
    }
}

#[test]
fn the_error_of_a_batch_is_found() {
    let mut body = Body::default();
    body.count(1).text("events").count(1).int(0).short(6);
    assert_eq!(Answer(&body.0).produced().expect("well-formed"), 6);
}
