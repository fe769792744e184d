//! Batches as another client makes them: kafka-python 3.0.12, one per codec, with the three records of [`rows`].

use super::*;

const BATCHES: [(Compression, &str); 5] = [
    (
        Compression::None,
        "00000000000000000000013100000000024296423e0000000000020000018bcfe568000000018bcfe568fa00000000000010920007000000\
     5a00000003ce03000000046b30a4037265706561742072657065617420726570656174207265706561742072657065617420726570656174\
     2072657065617420726570656174207265706561742072657065617420726570656174207265706561742072657065617420726570656174\
     2072657065617420726570656174207265706561742072657065617420726570656174207265706561742072657065617420726570656174\
     2072657065617420726570656174207265706561742072657065617420726570656174207265706561742072657065617420726570656174\
     20040a74726163650400ff026e011a00f40302010c7365636f6e640010001304046b300100",
    ),
    (
        Compression::Gzip,
        "00000000000000000000007c00000000026d43fd870001000000020000018bcfe568000000018bcfe568fa00000000000010920007000000\
     5a000000031f8b0800fc75046b02ff3bc7ccc0c0c0926db084b928b52035b1446118512c5c254589c9a92c0cff99f218a518be303331f214\
     a726e7e7a530083008b3007dcdc80000ee47f5de00010000",
    ),
    (
        Compression::Snappy,
        "00000000000000000000008900000000021262084b0002000000020000018bcfe568000000018bcfe568fa00000000000010920007000000\
     5a0000000382534e4150505900000000010000000100000044800240ce03000000046b30a40372657065617420fe0700fe0700fe07001d07\
     8c040a74726163650400ff026e011a00f40302010c7365636f6e640010001304046b300100",
    ),
    (
        Compression::Lz4,
        "0000000000000000000000840000000002ab4f61f60003000000020000018bcfe568000000018bcfe568fa00000000000010920007000000\
     5a0000000304224d1868400001000000000000af3c000000ff02ce03000000046b30a403726570656174200700b8f015040a747261636504\
     00ff026e011a00f40302010c7365636f6e640010001304046b30010000000000",
    ),
    (
        Compression::Zstd,
        "00000000000000000000007800000000020f04ec8a0004000000020000018bcfe568000000018bcfe568fa00000000000010920007000000\
     5a0000000328b52ffd600000ed01005403ce03000000046b30a40372657065617420040a74726163650400ff026e011a00f40302010c7365\
     636f6e640010001304046b300100010091a2ca12",
    ),
];

fn rows() -> Vec<Row> {
    let key = || Some(b"k0".to_vec());
    let headers = vec![(b"trace".to_vec(), Some(vec![0, 0xff])), (b"n".to_vec(), None)];
    vec![
        (1_700_000_000_000, key(), Some(b"repeat ".repeat(30)), headers),
        (1_700_000_000_250, None, Some(b"second".to_vec()), Vec::new()),
        (1_699_999_999_990, key(), None, Vec::new()),
    ]
}

fn bytes_of(hex: &str) -> BytesMut {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits");
    hex.as_bytes().chunks(2).map(digits).collect()
}

#[test]
fn what_others_make_is_read() {
    for (codec, hex) in BATCHES {
        let batch = bytes_of(hex);
        let header = check(&batch).expect("a sound batch");
        assert_eq!(header.compression(), Ok(codec));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence, header.count), (4242, 7, 90, 3));
        assert_eq!((header.base_timestamp, header.max_timestamp, header.last_offset_delta), (1_700_000_000_000, 1_700_000_000_250, 2));
        let expected: Vec<_> = rows().into_iter().enumerate().map(|(n, row)| (n as u64, row)).collect();
        assert_eq!(rows_of(&batch.freeze()), expected, "{codec}");
    }
}

/// Byte for byte where no codec has a choice, but for the leader's epoch, which that client leaves at 0.
#[test]
fn what_we_make_is_what_others_make() {
    let mut ours = build(Compression::None, &rows(), Some(Producer { id: 4242, epoch: 7, base_sequence: 90 }));
    stamp(&mut ours, 0, 0);
    assert_eq!(ours, bytes_of(BATCHES[0].1));
}

/// Every bit of every byte that the CRC covers, and of the fields that frame it.
#[test]
fn every_flipped_bit_is_found() {
    for (codec, hex) in BATCHES {
        let mut batch = bytes_of(hex);
        for at in (8..12).chain(16..batch.len()) {
            for bit in 0..8 {
                batch[at] ^= 1_u8 << bit;
                assert!(check(&batch).is_err(), "{codec}: byte {at} bit {bit}");
                batch[at] ^= 1_u8 << bit;
            }
        }
        check(&batch).expect("whole again");
    }
}
