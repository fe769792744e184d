use super::*;

#[test]
fn the_sample_is_there_in_the_order_of_time() {
    let flights = Source::Sample.load(usize::MAX).expect("part of the program");
    assert_eq!(flights.len(), 16_000);
    assert_eq!((&*flights[0].key, flights[0].time_ms), ("UA1545", 1_357_017_300_000));
    assert!(flights.is_sorted_by_key(|flight| flight.time_ms));
    assert_eq!(Source::Sample.load(10).expect("as before"), flights[..10]);
}

#[test]
fn plain_lines_are_read_too_and_bad_ones_are_named() {
    let line = r#"{"ts":"1970-01-01T00:00:01Z","key":"X1"}"#;
    let flights = read(format!("{line}\n{line}").as_bytes(), 9).expect("two lines");
    assert_eq!(flights, vec![Flight { time_ms: 1000, key: "X1".into(), line: line.into() }; 2]);
    let error = read(format!("{line}\n{{}}\n").as_bytes(), 9).expect_err("no time");
    assert!(format!("{error:#}").starts_with("line 2: "), "{error:#}");
    read(&b""[..], 9).expect_err("none");
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let source = Source::find(Some(Path::new("/there/is/no/such/file")));
    let error = source.load(1).expect_err("missing");
    assert!(format!("{error:#}").contains("/there/is/no/such/file"));
}
