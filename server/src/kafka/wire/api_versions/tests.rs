use super::*;
use crate::kafka::wire::testing::{as_they_read, nearly, text, theirs, whole, with_a_tag};
use kafka_protocol::messages;
use proptest::prelude::*;

const VERSIONS: std::ops::RangeInclusive<i16> = API_VERSIONS.min..=API_VERSIONS.max;

proptest! {
    #[test]
    fn requests_of_theirs_are_read(version in VERSIONS, name in text(), number in text()) {
        let mut request = messages::ApiVersionsRequest::default();
        if version >= 3 {
            request = request.with_client_software_name(name).with_client_software_version(number);
        }
        let body = theirs(&request, version);
        let read = ApiVersionsRequest::read(body.clone(), version).expect("sound");
        prop_assert_eq!(&read.client_software_name, &request.client_software_name);
        prop_assert_eq!(&read.client_software_version, &request.client_software_version);
        if version >= 3 {
            prop_assert_eq!(ApiVersionsRequest::read(with_a_tag(&body), version), Ok(read));
        }
        nearly(&body, |body| ApiVersionsRequest::read(body, version));
    }

    #[test]
    fn answers_are_read_by_them(
        version in VERSIONS, error_code: i16, throttle_time_ms: i32, count in 0..=versions::ALL.len(),
        features in proptest::collection::vec((".{0,20}", 0..3_i16, any::<i16>()), 0..4), epoch in -1..3_i64,
    ) {
        let ours: Vec<_> = features.iter().map(|(name, min, max)| Feature { name, min: *min, max: *max }).collect();
        let answer = ApiVersionsResponse {
            error_code, throttle_time_ms, apis: &versions::ALL[..count],
            supported_features: &ours, finalized_features_epoch: epoch, finalized_features: &ours,
        };
        let read: messages::ApiVersionsResponse = as_they_read(&answer, version);
        prop_assert_eq!(read.error_code, error_code);
        prop_assert_eq!(read.throttle_time_ms, if version >= 1 { throttle_time_ms } else { 0 });
        let apis: Vec<_> = read.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        prop_assert_eq!(apis, versions::ALL[..count].iter().map(|api| (api.key, api.advertised_min(), api.max)).collect::<Vec<_>>());
        let told = |least: i16| {
            let told = ours.iter().filter(|f| version >= 3 && f.min >= least);
            told.map(|f| (f.name.into(), f.min, f.max)).collect::<Vec<_>>()
        };
        let supported: Vec<_> = read.supported_features.iter().map(|f| (f.name.to_string(), f.min_version, f.max_version)).collect();
        prop_assert_eq!(supported, told(if version >= 4 { 0 } else { 1 }));
        let levels = read.finalized_features.iter().map(|f| (f.name.to_string(), f.min_version_level, f.max_version_level));
        let finalized: Vec<_> = levels.collect();
        prop_assert_eq!(finalized, told(0));
        prop_assert_eq!(read.finalized_features_epoch, if version >= 3 { epoch } else { -1 });
        prop_assert!(read.unknown_tagged_fields.is_empty() && !read.zk_migration_ready);
    }
}

#[test]
fn an_answer_of_version_3_has_no_tagged_fields_with_default_values() {
    let answer = ApiVersionsResponse::new(&[versions::PRODUCE, versions::API_VERSIONS]);
    let golden = [
        &[0, 0, 0, 26][..], // the frame's length
        &[0, 0, 0, 5],      // correlation id; a header of version 0 has no tagged fields
        &[0, 0],            // error
        &[3],               // two APIs
        &[0, 0, 0, 0, 0, 13, 0],
        &[0, 18, 0, 0, 0, 4, 0],
        &[0, 0, 0, 0], // throttle
        &[0],          // no tagged fields
    ];
    assert_eq!(answer.frame(3, 5).concat(), golden.concat());
    assert_eq!(answer.frame(4, 5).concat(), golden.concat());
    // A feature that version 3 does not tell leaves no tagged field either.
    let quiet = ApiVersionsResponse { supported_features: &[Feature { name: "kraft.version", min: 0, max: 1 }], ..answer };
    assert_eq!(quiet.frame(3, 5).concat(), golden.concat());
}

#[test]
fn features_are_tagged_fields() {
    let finalized = [Feature { name: "f", min: 1, max: 2 }];
    let answer = ApiVersionsResponse { finalized_features_epoch: 7, finalized_features: &finalized, ..ApiVersionsResponse::new(&[]) };
    let body = whole(Bytes::from(answer.frame(4, 0).concat())).slice(4..);
    let golden = [&[0, 0, 1, 0, 0, 0, 0][..], &[2], &[1, 8, 0, 0, 0, 0, 0, 0, 0, 7], &[2, 8, 2, 2, b'f', 0, 2, 0, 1, 0]];
    assert_eq!(body, golden.concat());
}

#[test]
fn whoever_asks_in_a_version_of_the_future_is_told_the_range() {
    let refused = ApiVersionsRequest::read(Bytes::new(), 5);
    assert_eq!(refused, Err(WireError::Version { name: "ApiVersions", version: 5, min: 0, max: 4 }));
    let golden = [&[0, 0, 0, 16][..], &[0, 0, 0, 9], &[0, 35], &[0, 0, 0, 1], &[0, 18, 0, 0, 0, 4]];
    assert_eq!(ApiVersionsResponse::unsupported(9).concat(), golden.concat());
}
