use super::*;

#[test]
fn sizes_counts_and_spans_are_read_as_people_write_them() {
    assert_eq!(bytes("4096"), Ok(4096));
    assert_eq!(bytes("16KiB"), Ok(16384));
    assert_eq!(bytes("1.5 MiB"), Ok(1_572_864));
    assert_eq!(bytes("2GB"), Ok(2_000_000_000));
    assert_eq!(count("10k"), Ok(10_000.0));
    assert_eq!(count("1.5M"), Ok(1_500_000.0));
    assert_eq!(positive("64"), Ok(64));
    assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
    for wrong in ["", "x", "-1", "1XB", "1e400", "NaN", "inf"] {
        assert!(bytes(wrong).is_err(), "{wrong}");
        assert!(count(wrong).is_err(), "{wrong}");
        assert!(positive(wrong).is_err(), "{wrong}");
        assert!(duration(wrong).is_err(), "{wrong}");
    }
    assert!(positive("0").is_err());
    assert!(positive("1.5").is_err());
}

#[test]
fn numbers_are_shown_with_the_unit_that_reads_best() {
    assert_eq!(show_ns(850.0), "850 ns");
    assert_eq!(show_ns(68_300.0), "68.3 µs");
    assert_eq!(show_ns(1_250_000.0), "1.25 ms");
    assert_eq!(show_ns(2.5e9), "2.50 s");
    assert_eq!(show_rate(715e6), "715 MB/s");
    assert_eq!(show_rate(1.8e9), "1.80 GB/s");
    assert_eq!(show_bytes(16384), "16.0 KiB");
    assert_eq!(show_count(31_000.0), "31,000");
    assert_eq!(show_count(999.0), "999");
    assert_eq!(show_count(12_345_678.0), "12.3 M");
}
