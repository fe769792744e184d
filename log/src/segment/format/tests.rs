use super::*;
use proptest::prelude::*;

fn header() -> impl Strategy<Value = SegmentHeader> {
    (any::<[u64; 3]>(), any::<u32>(), any::<i64>()).prop_map(|(n, generation, created_ms)| SegmentHeader {
        group: GroupId(n[0]),
        generation,
        base_index: Index(n[1]),
        base_offset: Offset(n[2]),
        created_ms,
    })
}

fn block() -> impl Strategy<Value = BlockHeader> {
    (any::<[u64; 5]>(), 0..RAW_BYTES_MAX as u32, any::<u32>(), any::<i64>(), any::<bool>()).prop_map(
        |(n, raw_len, count, max_timestamp, zipped)| BlockHeader {
            codec: if zipped { Codec::Zstd } else { Codec::Raw },
            raw_len,
            stored_len: 0,
            count,
            term: Term(n[0]),
            first_index: Index(n[1].min(n[2])),
            last_index: Index(n[1].max(n[2])),
            first_offset: Offset(n[3].min(n[4])),
            next_offset: Offset(n[3].max(n[4])),
            max_timestamp,
        },
    )
}

fn index() -> impl Strategy<Value = Vec<BlockIndex>> {
    proptest::collection::vec((any::<u64>(), block()).prop_map(|(position, header)| BlockIndex::of(position, &header)), 0..200)
}

proptest! {
    #[test]
    fn a_name_comes_back(base in any::<u64>(), generation in any::<u32>()) {
        let name = SegmentName { base_offset: Offset(base), generation };
        prop_assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
    }

    #[test]
    fn a_header_comes_back_and_a_flipped_bit_is_seen(header in header(), bit in 0..HEADER_USED * 8) {
        let mut bytes = header.encode();
        prop_assert_eq!(bytes.len() as u64, HEADER_BYTES);
        prop_assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
    }

    #[test]
    fn a_block_comes_back_and_a_flipped_bit_is_seen(
        header in block(),
        data in proptest::collection::vec(any::<u8>(), 0..300),
        group in any::<u64>(),
        position in any::<u64>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let header = BlockHeader { stored_len: data.len() as u32, ..header };
        let mut bytes = vec![0; BLOCK_HEADER_BYTES];
        bytes.extend_from_slice(&data);
        header.put(GroupId(group), position, &mut bytes);
        prop_assert_eq!(bytes.len(), header.len());
        prop_assert_eq!(check_block(GroupId(group), position, &bytes), Ok((header, &data[..])));
        prop_assert!(check_block(GroupId(group), position ^ 4096, &bytes).is_err(), "misdirected");
        prop_assert!(check_block(GroupId(group ^ 1), position, &bytes).is_err(), "another group's");
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(check_block(GroupId(group), position, &bytes).is_err());
    }

    #[test]
    fn a_footer_comes_back_and_a_flipped_bit_is_seen(
        index in index(),
        blocks in 1..1000_u64,
        n in any::<[u64; 2]>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let footer = blocks * BLOCK_BYTES as u64;
        let mut bytes = encode_footer(&index, footer, Offset(n[0]), Index(n[1]));
        let file_len = footer + bytes.len() as u64;
        let tail = decode_tail(&bytes[bytes.len() - BLOCK_BYTES..], file_len).expect("what we encoded");
        prop_assert_eq!((tail.footer, tail.next_offset, tail.last_index), (footer, Offset(n[0]), Index(n[1])));
        prop_assert_eq!(tail.max_timestamp, index.iter().map(|b| b.max_timestamp).max().unwrap_or(i64::MIN));
        prop_assert_eq!(decode_footer(&tail, &bytes), Ok(index));
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let read = decode_tail(&bytes[bytes.len() - BLOCK_BYTES..], file_len).and_then(|tail| decode_footer(&tail, &bytes));
        prop_assert!(read.is_err());
    }
}
