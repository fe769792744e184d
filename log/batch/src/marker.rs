//! Markers: the batch that ends a transaction in a partition (KIP-98, "Control Messages").
//!
//! ```text
//!   a control batch of one record, not compressed, without a sequence
//!   key    | version i16 = 0 | type i16 (0 aborted, 1 committed) |
//!   value  | version i16 = 0 | coordinator epoch i32 |
//! ```
//!
//! What Kafka calls the coordinator's epoch, by which late markers are known, is here the number of the producer's transaction.

use crate::{Builder, Compression, HEADER_BYTES, Header, Producer, builder::NO_HEADERS, header::CONTROL, header::seal, records};
use bytes::{Bytes, BytesMut};

/// What ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whether what it ends took effect.
    pub commit: bool,
    /// Which transaction of its producer it was: at least 1, and larger than that of any before.
    pub number: i32,
}

impl Marker {
    /// The batch, with base offset 0.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn batch(self, producer_id: i64, producer_epoch: i16, now_ms: i64) -> std::io::Result<BytesMut> {
        let mut key = [0; 4];
        key[2..].copy_from_slice(&i16::from(self.commit).to_be_bytes());
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.number.to_be_bytes());
        let mut builder = Builder::new(Compression::None, HEADER_BYTES + 32);
        builder.set_transactional();
        builder.append(now_ms, Some(&key), Some(&value), NO_HEADERS);
        let mut batch = builder.build(Some(Producer { id: producer_id, epoch: producer_epoch, base_sequence: -1 }))?;
        let attributes = u16::from_be_bytes([batch[21], batch[22]]) | CONTROL;
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        seal(&mut batch);
        Ok(batch)
    }

    /// What a batch ends, whose header was parsed; `None` if it is no marker.
    #[must_use]
    pub fn of(batch: &Bytes, header: &Header) -> Option<Self> {
        if !header.is_control() || !header.is_transactional() || header.producer_id < 0 {
            return None;
        }
        let record = records(batch, crate::DecompressLimits::default()).ok()?.next()?.ok()?;
        let (key, value) = (record.key?, record.value?);
        let ([0, 0, 0, kind @ (0 | 1)], [0, 0, number @ ..]) = (&key[..], &value[..]) else { return None };
        let number = i32::from_be_bytes(number.try_into().ok()?);
        (number > 0).then_some(Self { commit: *kind == 1, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_comes_back_and_nothing_else_is_one() {
        for marker in [Marker { commit: true, number: 1 }, Marker { commit: false, number: i32::MAX }] {
            let batch = marker.batch(7, 3, 1_700_000_000_000).expect("built").freeze();
            let header = crate::check(&batch).expect("sound");
            assert!(header.is_control() && header.is_transactional() && header.is_idempotent());
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence, header.count), (7, 3, -1, 1));
            assert_eq!(Marker::of(&batch, &header), Some(marker));
            for at in HEADER_BYTES..batch.len() {
                let mut other = BytesMut::from(&batch[..]);
                other[at] ^= 0xff;
                // It may be another one, and nothing panics.
                let _ = Marker::of(&other.freeze(), &header);
            }
        }
        let mut data = Builder::new(Compression::None, 100);
        data.append(1, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 1]), NO_HEADERS);
        let data = data.build(Some(Producer { id: 7, epoch: 3, base_sequence: 0 })).expect("built").freeze();
        assert_eq!(Marker::of(&data, &crate::check(&data).expect("sound")), None);
    }
}
