use super::*;
use crate::{compare::driver::Said, machine::usage::Cpu};

fn measured() -> Measured {
    let times = Times { count: 9, p50_ns: 1_000, p99_ns: 2_000, p999_ns: 3_000 };
    let said = Said {
        client: "a client".into(),
        on: Vec::new(),
        seconds: 2.0,
        records: 500_000,
        failed: 0,
        missing: 0,
        error: String::new(),
        ack: times,
        end_to_end: Some(times),
    };
    let cpu = |user_s| Cpu { user_s, system_s: 1.0 };
    Measured { said, system_cpu: cpu(2.0), driver_cpu: cpu(0.5), rss_bytes: 4096 }
}

fn value(values: &[Value], name: &str) -> f64 {
    values.iter().find(|value| value.name == name).unwrap_or_else(|| panic!("no {name} in {values:?}")).value
}

#[test]
fn throughput_is_in_bytes_and_cpu_for_a_million_records() {
    let values = flood("java", 1024, &measured());
    assert_eq!(value(&values, "java: throughput"), 256e6);
    assert_eq!(value(&values, "java: server CPU per million records"), 6.0);
    assert_eq!(value(&values, "java: client CPU per million records"), 3.0);
    assert_eq!(value(&values, "java: ack at full load, p99"), 2_000.0);
}

#[test]
fn at_a_rate_both_ways_are_judged_by_their_p99() {
    let values = pace("java", &measured());
    let judged: Vec<&str> = values.iter().filter(|value| value.bound != Kind::None).map(|value| value.name.as_str()).collect();
    assert_eq!(judged, ["java: ack at the rate, p99", "java: end to end at the rate, p99"]);
    assert_eq!(value(&values, "java: reached at the rate"), 250_000.0);
}

#[test]
fn rows_have_the_turns_of_each_system_and_its_bounds() {
    let turn = |value| vec![Value::new("throughput", Unit::BytesPerS, value, Kind::Throughput)];
    let rounds = [vec![turn(1.0), turn(2.0)], vec![turn(3.0), turn(4.0)]];
    let bounds = [Bounds::default(), Bounds { throughput: Some(5.0), ..Bounds::default() }];
    let rows = rows(&rounds, &bounds);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].figures[0], Figure { turns: vec![1.0, 3.0], wanted: None });
    assert_eq!(rows[0].figures[1], Figure { turns: vec![2.0, 4.0], wanted: Some(5.0) });
}

#[test]
fn a_system_that_does_not_take_the_rate_is_told() {
    let figure = |value| Figure { turns: vec![value], wanted: None };
    let row = |unit| Row { name: "java: reached".into(), unit, figures: vec![figure(499.0), figure(101.0), figure(717.0)] };
    let systems: Vec<Side> = ["we", "they", "others"].map(|name| Side { name: name.into(), on: Vec::new() }).into();
    let remarks = remarks(&[row(Unit::RecordsPerS), row(Unit::Ns)], &systems, 500);
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert_eq!(remarks[0], "they took 101/s where 500 were sent (java: reached): its latencies are those of a queue");
}
