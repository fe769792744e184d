use super::*;

#[test]
fn the_sixteenth_field_counts_flushes() {
    let line = "  100  1  800  5  200  2  1600  9  0  50  60  7  8  9  10  33  4\n";
    let counters = Counters::parse(line).expect("17 fields");
    assert_eq!(counters, Counters { reads: 100, read_bytes: 409_600, writes: 200, written_bytes: 819_200, flushes: 33 });
    assert_eq!(counters.since(Counters::default()), counters);
    assert_eq!(Counters::default().since(counters), Counters::default(), "a counter that was reset is no underflow");
    assert!(Counters::parse("1 2 3 4 5 6 7 8 9 10 11").is_none(), "an old kernel");
}

#[test]
fn a_missing_directory_is_an_error_and_memory_has_no_device() {
    assert!(Device::under(Path::new("/no/such/directory")).is_err());
    assert!(Device::under(Path::new("/proc")).expect("it is there").is_none());
}
