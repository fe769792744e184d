use super::*;
use kafka_protocol::messages::ApiKey;

#[test]
fn rows_go_by_their_keys_and_are_what_kafka_has() {
    assert!(ALL.is_sorted_by_key(|api| api.key));
    for row in ALL {
        let theirs = ApiKey::try_from(row.key).expect("a key of Kafka's");
        let range = theirs.valid_versions();
        // The bytes that follow the first version of this one have no header.
        let oldest = if *row == SASL_HANDSHAKE { 1 } else { range.min };
        assert!(oldest == row.min && row.max <= range.max, "{}: {} to {}, Kafka has {range}", row.name, row.min, row.max);
        assert_eq!(format!("{theirs:?}"), row.name);
        for version in row.min..=row.max {
            assert_eq!(row.request_header(version), theirs.request_header_version(version), "{} {version}", row.name);
            assert_eq!(row.response_header(version), theirs.response_header_version(version), "{} {version}", row.name);
        }
        assert_eq!(api(row.key), Ok(row));
        assert!(row.check(row.min).is_ok() && row.check(row.max).is_ok());
        assert!(row.check(row.min - 1).is_err() && row.check(row.max + 1).is_err());
    }
}

#[test]
fn two_say_that_they_take_versions_that_they_refuse() {
    assert_eq!([PRODUCE.advertised_min(), SASL_HANDSHAKE.advertised_min()], [0, 0]);
    assert!(PRODUCE.check(2).is_err() && SASL_HANDSHAKE.check(0).is_err());
    let others = ALL.iter().filter(|api| ![PRODUCE, SASL_HANDSHAKE].contains(api));
    others.for_each(|api| assert_eq!(api.advertised_min(), api.min, "{}", api.name));
}
