//! ApiVersions, 0 to 4: which APIs a server speaks, and in which versions. The first thing that clients ask.
//!
//! ```text
//!   request, 0 to 2:  nothing
//!   request, from 3:  | client software name | client software version | tags |
//!
//!   answer:           | error i16 | array of | key i16 | min i16 | max i16 | tags from 3 | | throttle ms i32 from 1 | tags from 3 |
//!   its tags:         0 supported features, array of | name | min i16 | max i16 | tags |
//!                     1 epoch of the finalized features i64, -1 if unknown
//!                     2 finalized features, array of | name | max i16 | min i16 | tags |
//! ```
//!
//! Flexible from 3 on, except for the header of the answer. Version 4 differs from 3 in that features whose lowest version is 0 are told
//! (KAFKA-17011). Kafka's schemas: ApiVersionsRequest, ApiVersionsResponse.

use super::{
    Api, Reader, StrBytes, WireError, Writer,
    header::Answer,
    versions::{self, API_VERSIONS},
};
use bytes::Bytes;

/// The error of an answer to a version that is not spoken.
pub const UNSUPPORTED_VERSION: i16 = 35;
/// The epoch of finalized features that are not known.
pub const EPOCH_UNKNOWN: i64 = -1;

/// What a client asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiVersionsRequest {
    /// What its library is called, empty below version 3. Kafka wants letters, digits, dots and dashes (KIP-511); that is not checked here.
    pub client_software_name: StrBytes,
    /// The version of its library, empty below version 3.
    pub client_software_version: StrBytes,
}

impl ApiVersionsRequest {
    /// Reads a body.
    pub fn read(body: Bytes, version: i16) -> Result<Self, WireError> {
        API_VERSIONS.check(version)?;
        let mut r = Reader::new(body, API_VERSIONS.is_flexible(version));
        let mut this = Self::default();
        if version >= 3 {
            this.client_software_name = r.string("ClientSoftwareName")?;
            this.client_software_version = r.string("ClientSoftwareVersion")?;
            r.skip_tags("ApiVersionsRequest")?;
        }
        Ok(this)
    }
}

/// A feature of the whole cluster (KIP-584), and its versions: those that a server can do, or those that are agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature<'a> {
    /// Kafka's name of it, as `transaction.version`.
    pub name: &'a str,
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersionsResponse<'a> {
    /// 0, or [`UNSUPPORTED_VERSION`].
    pub error_code: i16,
    /// The APIs that it has handlers for.
    pub apis: &'a [Api],
    /// How long the client is not listened to, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// What it can do.
    pub supported_features: &'a [Feature<'a>],
    /// Which edition of the finalized features it is, or [`EPOCH_UNKNOWN`].
    pub finalized_features_epoch: i64,
    /// What is agreed on.
    pub finalized_features: &'a [Feature<'a>],
}

impl<'a> ApiVersionsResponse<'a> {
    /// An answer with these APIs and nothing else.
    #[must_use]
    pub fn new(apis: &'a [Api]) -> Self {
        Self {
            error_code: 0,
            apis,
            throttle_time_ms: 0,
            supported_features: &[],
            finalized_features_epoch: EPOCH_UNKNOWN,
            finalized_features: &[],
        }
    }

    /// The frame that answers a version which is not spoken: of version 0, which every client reads, with the range to choose from
    /// (KIP-511).
    #[must_use]
    pub fn unsupported(correlation_id: i32) -> Vec<Bytes> {
        let this = Self { error_code: UNSUPPORTED_VERSION, ..Self::new(&[versions::API_VERSIONS]) };
        this.frame(0, correlation_id)
    }
}

fn write_features(w: &mut Writer, features: &[&Feature<'_>], ends: impl Fn(&Feature<'_>) -> [i16; 2]) {
    w.array(features, |w, feature| {
        w.string(feature.name);
        ends(feature).into_iter().for_each(|n| w.i16(n));
        w.no_tags();
    });
}

impl Answer for ApiVersionsResponse<'_> {
    const API: Api = API_VERSIONS;

    fn write(&self, w: &mut Writer, version: i16) {
        w.i16(self.error_code);
        w.array(self.apis, |w, api| {
            w.i16(api.key);
            w.i16(api.advertised_min());
            w.i16(api.max);
            w.no_tags();
        });
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        let supported: Vec<_> = self.supported_features.iter().filter(|feature| version >= 4 || feature.min > 0).collect();
        let finalized: Vec<_> = self.finalized_features.iter().collect();
        w.tags(|tags| {
            tags.put(0, supported, Vec::new(), |w, features| write_features(w, &features, |f| [f.min, f.max]));
            tags.put(1, self.finalized_features_epoch, EPOCH_UNKNOWN, Writer::i64);
            tags.put(2, finalized, Vec::new(), |w, features| write_features(w, &features, |f| [f.max, f.min]));
        });
    }
}

#[cfg(test)]
mod tests;
