use super::{
    fields::{Fields, Found},
    input::{Input, LINE_BYTES_MAX},
    pace::Pace,
    progress::thousands,
    units::{Point, Rate, Size, time},
    *,
};
use std::{
    io::{self, Write},
    time::Duration,
};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn sizes_as_people_type_them() {
    for (text, bytes) in
        [("0", 0), ("4096", 4096), ("64k", 65_536), ("1.5GiB", 3 << 29), ("10MB", 10_000_000), ("2 kB", 2000), ("7b", 7), ("1T", 1 << 40)]
    {
        assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
    }
    for bad in ["", "k", "-1", "1x", "1.2.3", "99999999999T", "nan", "inf"] {
        bad.parse::<Size>().expect_err(bad);
    }
    assert_eq!(Size(1536).to_string(), "1.5 KiB");
    assert_eq!(Size(3).to_string(), "3 B");
}

#[test]
fn rates_count_bytes_or_records() {
    assert_eq!("1000/s".parse(), Ok(Rate::Records(1000.0)));
    assert_eq!("0.5".parse(), Ok(Rate::Records(0.5)));
    assert_eq!("5MB/s".parse(), Ok(Rate::Bytes(5e6)));
    for bad in ["0", "0MB/s", "fast", "", "/s"] {
        bad.parse::<Rate>().expect_err(bad);
    }
}

#[test]
fn points_in_a_log() {
    for (text, point) in [
        ("earliest", Point::Earliest),
        ("latest", Point::Latest),
        ("1200", Point::Offset(1200)),
        ("@1500", Point::Time(1500)),
        ("@-1", Point::Time(-1)),
        ("1970-01-02", Point::Time(86_400_000)),
        ("1970-01-01T00:00:01", Point::Time(1000)),
        ("1970-01-01 00:00:01.5", Point::Time(1500)),
        ("1970-01-01T01:00:00+01:00", Point::Time(0)),
        ("1970-01-01T00:00:01Z", Point::Time(1000)),
    ] {
        assert_eq!(text.parse(), Ok(point), "{text}");
    }
    let now = jiff::Timestamp::now().as_millisecond();
    for (text, back) in [("15m", 900_000), ("2d", 172_800_000), ("1h 30m ago", 5_400_000)] {
        let Ok(Point::Time(at)) = text.parse() else { panic!("{text} is a time") };
        assert!((at + back - now).abs() < 60_000, "{text}: {at}");
    }
    for bad in ["", "soon", "@", "2026-13-01", "99999999999999999999", "-5"] {
        bad.parse::<Point>().expect_err(bad);
    }
    assert_eq!(time("2013-01-01T05:15:00Z").map(units::show_time).as_deref(), Some("2013-01-01T05:15:00.000Z"));
}

fn look(key: Option<&str>, time: Option<&str>, line: &str) -> Result<Found, String> {
    Fields { key: key.map(Into::into), time: time.map(Into::into) }.find(line.as_bytes())
}

#[test]
fn keys_and_times_are_found_in_json() {
    let line = r#"{"a":{"key":1},"key":"x\ny","n":17,"t":"1970-01-01T00:00:01Z","ms":5,"no":null}"#;
    let found = |key: &str, time: &str| look(Some(key), Some(time), line).expect("there");
    assert_eq!(found("key", "t"), Found { key: Some(b"x\ny".to_vec()), time_ms: Some(1000) });
    assert_eq!(found("n", "ms"), Found { key: Some(b"17".to_vec()), time_ms: Some(5) });
    assert_eq!(found("a", "ms").key.as_deref(), Some(&br#"{"key":1}"#[..]));
    assert_eq!(found("no", "ms").key, None);
    assert_eq!(found("t", "t").key.as_deref(), Some(&b"1970-01-01T00:00:01Z"[..]), "one field for both");
    assert!(look(Some("zz"), None, line).expect_err("missing").contains("no field `zz`"));
    assert!(look(None, Some("key"), line).expect_err("no time").contains("is no time"));
    for bad in ["", "[]", "7", "{\"key\":1", "{\"key\":1} x"] {
        look(Some("key"), None, bad).expect_err(bad);
    }
}

async fn lines(bytes: &[u8]) -> io::Result<Vec<String>> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    let mut input = Input::open(Some(file.path()))?;
    let mut all = Vec::new();
    while let Some(piece) = input.next().await? {
        all.extend(piece.lines().map(|l| String::from_utf8_lossy(l).into_owned()));
    }
    assert_eq!(input.bytes_total, Some(bytes.len() as u64));
    assert_eq!(input.bytes_read(), bytes.len() as u64);
    Ok(all)
}

#[tokio::test]
async fn lines_are_read_as_they_are() {
    assert_eq!(lines(b"").await.expect("read"), [""; 0]);
    assert_eq!(lines(b"a\n\nb\r\nc").await.expect("read"), ["a", "", "b", "c"]);
    assert_eq!(lines(b"\r\n \r").await.expect("read"), ["", " \r"]);
    let many: Vec<String> = (0..100_000).map(|i| format!("line {i}")).collect();
    let text = many.join("\n");
    assert_eq!(lines(text.as_bytes()).await.expect("read"), many);
    let packed = zstd::encode_all(text.as_bytes(), 1).expect("packed");
    assert_eq!(lines(&packed).await.expect("read"), many, "zstd is recognised");
    lines(&packed[..packed.len() / 2]).await.expect_err("half a file is no file");
}

#[tokio::test]
async fn a_line_without_end_is_refused() {
    let packed = zstd::encode_all(&vec![b'x'; LINE_BYTES_MAX + 1][..], 1).expect("packed");
    let error = lines(&packed).await.expect_err("too long");
    assert!(error.to_string().contains("line 1 is longer"), "{error}");
}

#[test]
fn thousands_are_set_apart() {
    for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(thousands(n), text);
    }
}

#[test]
fn a_rate_is_kept_and_a_stall_is_not_made_up_for() {
    let ms = Duration::from_millis;
    let mut pace = Pace::new(Rate::Records(100.0));
    assert_eq!(pace.wait(ms(0), 1, 1_000_000), ms(10));
    assert_eq!(pace.wait(ms(10), 9, 0), ms(90));
    assert_eq!(pace.wait(ms(500), 10, 0), ms(0), "late: nothing to wait for");
    assert_eq!(pace.wait(ms(60_000), 100, 0), ms(0));
    let mut burst = 0;
    while pace.wait(ms(60_000), 1, 0).is_zero() {
        burst += 1;
    }
    assert!(burst <= 100, "{burst} records at once after a stall");
    let mut pace = Pace::new(Rate::Bytes(1e6));
    assert_eq!(pace.wait(ms(0), 1, 500_000), ms(500));
}
