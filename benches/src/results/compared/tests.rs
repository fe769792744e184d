use super::*;

fn row(unit: Unit, ours: &[f64], theirs: &[f64], wanted: Option<f64>) -> Row {
    let figures = vec![Figure { turns: ours.to_vec(), wanted: None }, Figure { turns: theirs.to_vec(), wanted }];
    Row { name: "a figure".into(), unit, figures }
}

#[test]
fn a_ratio_is_above_one_where_we_are_ahead_whichever_way_is_better() {
    let ratio = |unit| row(unit, &[10.0], &[2.0], None).ratio(1).map(|ratio| ratio.median);
    assert_eq!(ratio(Unit::BytesPerS), Some(5.0));
    assert_eq!(ratio(Unit::RecordsPerS), Some(5.0));
    assert_eq!(ratio(Unit::Ns), Some(0.2));
    assert_eq!(ratio(Unit::Bytes), Some(0.2));
}

#[test]
fn ratios_are_those_of_rounds_and_their_median_is_judged() {
    let row = row(Unit::BytesPerS, &[10.0, 40.0, 90.0], &[2.0, 2.0, 90.0], Some(5.0));
    let ratio = row.ratio(1).expect("there are turns");
    assert_eq!((ratio.median, ratio.low, ratio.high), (5.0, 1.0, 20.0));
    assert_eq!(row.is_met(1), Some(true));
    assert_eq!(row.verdict(1), "≥ 5.00: met");
}

#[test]
fn a_bound_is_met_when_it_is_reached_but_ahead_is_more_than_as_good() {
    assert_eq!(row(Unit::Ns, &[1.0], &[10.0], Some(10.0)).is_met(1), Some(true));
    assert_eq!(row(Unit::Ns, &[1.0], &[9.9], Some(10.0)).is_met(1), Some(false));
    assert_eq!(row(Unit::Ns, &[1.0], &[1.0], Some(1.0)).verdict(1), "> 1.00: missed");
    assert_eq!(row(Unit::Ns, &[1.0], &[1.1], Some(1.0)).verdict(1), "> 1.00: met");
    assert_eq!(row(Unit::Ns, &[1.0], &[1.1], None).verdict(1), "");
    assert_eq!(row(Unit::Ns, &[], &[], Some(1.0)).is_met(1), None, "nothing was measured");
}

#[test]
fn the_table_has_each_rival_beside_us_and_counts_what_is_met() {
    let side = |name: &str| Side { name: name.into(), on: Vec::new() };
    let rows = vec![row(Unit::Bytes, &[1024.0, 2048.0], &[8192.0, 8192.0], Some(4.0)), row(Unit::S, &[2.0], &[1.0], Some(1.0))];
    let compared = Compared { on: Vec::new(), systems: vec![side("ours"), side("theirs")], rows, remarks: Vec::new() };
    let table = compared.table();
    assert_eq!(table[0], ["figure", "ours", "theirs", "ratio", "wanted"]);
    assert_eq!(table[1], ["a figure", "1.50 KiB (1.00 KiB to 2.00 KiB)", "8.00 KiB", "6.00 (4.00 to 8.00)", "≥ 4.00: met"]);
    assert_eq!(table[2], ["a figure", "2.00 s", "1.00 s", "0.50", "> 1.00: missed"]);
    assert_eq!(compared.met(), (1, 2));
}
