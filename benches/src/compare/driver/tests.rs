use super::*;

/// As the client in Java prints it.
const FIGURES: &str = r#"{"client":"kafka-clients 4.1.1","on":[["acks","-1"],["linger.ms","5"]],"seconds":3.000000,"records":600,"failed":0,"missing":0,"error":"","ack":{"count":600,"p50_ns":167641,"p99_ns":470286,"p999_ns":499122,"max_ns":499122},"end_to_end":null}"#;

fn said() -> Said {
    match Line::parse(FIGURES).expect("well-formed") {
        Line::Figures(said) => *said,
        other => panic!("{other:?}"),
    }
}

#[test]
fn marks_figures_and_remarks_are_told_apart() {
    assert_eq!(Line::parse("measuring\n").expect("a mark"), Line::Begin);
    assert_eq!(Line::parse("measured").expect("a mark"), Line::End);
    assert_eq!(Line::parse("SLF4J: no binding").expect("a remark"), Line::Remark);
    assert!(Line::parse("{\"client\":").is_err(), "figures that are cut off");
}

#[test]
fn figures_of_a_client_are_read() {
    let said = said();
    assert_eq!((said.records, said.ack.p99_ns, said.end_to_end), (600, 470_286, None));
    assert_eq!(said.on[1], ("linger.ms".to_owned(), "5".to_owned()));
    said.check("java").expect("all is well");
    let way = r#""end_to_end":{"count":9,"p50_ns":1,"p99_ns":2,"p999_ns":3,"max_ns":4}"#;
    let Line::Figures(said) = Line::parse(&FIGURES.replace(r#""end_to_end":null"#, way)).expect("well-formed") else {
        panic!("no figures")
    };
    assert_eq!(said.end_to_end, Some(Times { count: 9, p50_ns: 1, p99_ns: 2, p999_ns: 3 }));
}

#[test]
fn a_record_that_failed_or_was_not_seen_fails_the_comparison() {
    let failed = Said { failed: 2, error: "no room".into(), ..said() };
    assert_eq!(failed.check("java").expect_err("it failed").to_string(), "2 records of java failed, the last with: no room");
    assert!(Said { missing: 1, ..said() }.check("java").is_err());
    assert!(Said { records: 0, ..said() }.check("java").is_err());
}

#[test]
fn a_client_is_asked_for_its_defaults_unless_something_is_wanted() {
    let load = Load {
        topic: Topic { name: "t".into(), partitions: 3 },
        rate: None,
        linger: None,
        record_bytes: 10,
        values: "values".into(),
        warm_up: Duration::from_secs(1),
        duration: Duration::from_millis(2500),
        cpus: Vec::new(),
    };
    assert_eq!(load.args(), ["topic=t", "partitions=3", "rate=0", "record-size=10", "warm-up-ms=1000", "measure-ms=2500"]);
    let paced = Load { rate: Some(500), linger: Some(Duration::ZERO), ..load };
    assert!(paced.args().contains(&"rate=500".to_owned()) && paced.args().contains(&"linger-ms=0".to_owned()));
}
