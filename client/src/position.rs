//! Where to begin, or to end, reading a partition.

use crate::{admin::OffsetSpec, client::Client, error::Result, fetch::Isolation};

/// A place in a partition. Where a time is meant, it is the first record at or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record still there.
    Earliest,
    /// After the last committed record, as of now; before the first transaction that is open, where these are not read.
    Latest,
    /// This offset.
    Offset(u64),
    /// The first record whose timestamp is this or later, in milliseconds since 1970; the end if there is none.
    Time(i64),
}

impl Position {
    fn spec(self) -> Result<OffsetSpec, u64> {
        match self {
            Self::Earliest => Ok(OffsetSpec::Earliest),
            Self::Latest => Ok(OffsetSpec::Latest),
            Self::Time(ms) => Ok(OffsetSpec::Time(ms)),
            Self::Offset(offset) => Err(offset),
        }
    }
}

/// The offsets that positions stand for now, in the same order.
pub(crate) async fn resolve(client: &Client, isolation: Isolation, topic: &str, positions: &[(u32, Position)]) -> Result<Vec<u64>> {
    let mut offsets = vec![0; positions.len()];
    let (mut asked, mut places) = (Vec::new(), Vec::new());
    for (n, (partition, position)) in positions.iter().enumerate() {
        match position.spec() {
            Ok(spec) => {
                asked.push((*partition, spec));
                places.push(n);
            }
            Err(offset) => offsets[n] = offset,
        }
    }
    if !asked.is_empty() {
        let found = client.admin().list_offsets_by(isolation, topic, &asked).await?;
        places.into_iter().zip(found).for_each(|(n, found)| offsets[n] = found.offset);
    }
    Ok(offsets)
}
