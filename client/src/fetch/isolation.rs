//! What of transactions is read, and how records of those that were given up are left out.
//!
//! A server that is asked for committed records tells them up to the first transaction that is open, and with each partition which of the others were given up: whose
//! they were, and where they began. From there on what their producer has written is left out, up to the marker that ended them, as Kafka's clients do. What is told
//! goes for the batches that it came with, and for no others.

use millpond_batch::{Header, Marker};
use millpond_wire::messages::AbortedTransaction;
use std::collections::BTreeSet;

/// What is read of transactions, as Kafka's `isolation.level`. Offsets are those of the log either way: what is left out leaves holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Records that are of no transaction, and those of transactions that took effect. Nothing is read behind the first one that is open, until it ends.
    #[default]
    ReadCommitted,
    /// All records, as they come, whatever becomes of their transactions.
    ReadUncommitted,
}

impl Isolation {
    pub(crate) fn is_committed(self) -> bool {
        self == Self::ReadCommitted
    }
}

/// Transactions that were given up, batch by batch in the order of a partition.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    /// Those whose beginning is not reached yet, the first one last.
    ahead: Vec<AbortedTransaction>,
    /// Producers in the middle of one.
    within: BTreeSet<u64>,
}

impl GivenUp {
    pub(crate) fn new(mut told: Vec<AbortedTransaction>) -> Self {
        told.sort_unstable_by_key(|aborted| std::cmp::Reverse(aborted.first_offset));
        Self { ahead: told, within: BTreeSet::new() }
    }

    /// Whether nobody is told of the records in a batch. Batches come in order, and markers with them.
    pub(crate) fn holds(&mut self, header: &Header) -> bool {
        while let Some(begun) = self.ahead.pop_if(|aborted| aborted.first_offset < header.next_offset()) {
            self.within.insert(begun.producer_id);
        }
        header.is_transactional() && u64::try_from(header.producer_id).is_ok_and(|id| self.within.contains(&id))
    }

    /// A marker of a producer was reached.
    pub(crate) fn end(&mut self, header: &Header, marker: Marker) {
        if let (false, Ok(id)) = (marker.commit, u64::try_from(header.producer_id)) {
            self.within.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_batch::{Builder, Compression, Producer};

    fn stamped(mut batch: bytes::BytesMut, offset: u64) -> Header {
        millpond_batch::stamp(&mut batch, offset, 0);
        Header::parse(&batch).expect("just built")
    }

    fn data(id: i64, offset: u64, transactional: bool) -> Header {
        let mut builder = Builder::new(Compression::None, 100);
        if transactional {
            builder.set_transactional();
        }
        let headers: [(&[u8], Option<&[u8]>); 0] = [];
        builder.append(0, None, Some(b"value"), &headers);
        stamped(builder.build(Some(Producer { id, epoch: 0, base_sequence: 0 })).expect("built"), offset)
    }

    fn end(given_up: &mut GivenUp, id: i64, offset: u64, commit: bool) {
        let marker = Marker { commit, number: 1 };
        let header = stamped(marker.batch(id, 0, 0).expect("built"), offset);
        given_up.holds(&header);
        given_up.end(&header, marker);
    }

    #[test]
    fn what_was_given_up_is_left_out_from_where_it_began_to_its_marker() {
        let told = |producer_id, first_offset| AbortedTransaction { producer_id, first_offset };
        let mut given_up = GivenUp::new(vec![told(1, 3), told(2, 1), told(1, 7)]);
        assert!(!given_up.holds(&data(1, 0, true)), "of a transaction before");
        assert!(given_up.holds(&data(2, 1, true)));
        end(&mut given_up, 1, 2, true);
        assert!(given_up.holds(&data(1, 3, true)) && given_up.holds(&data(2, 4, true)));
        assert!(!given_up.holds(&data(3, 4, true)) && !given_up.holds(&data(-1, 4, false)), "of others");
        end(&mut given_up, 1, 5, false);
        assert!(!given_up.holds(&data(1, 6, false)) && given_up.holds(&data(2, 6, true)));
        assert!(given_up.holds(&data(1, 7, true)));
        end(&mut given_up, 2, 8, false);
        end(&mut given_up, 1, 9, false);
        assert!(!given_up.holds(&data(1, 10, true)) && !given_up.holds(&data(2, 11, true)));
    }
}
