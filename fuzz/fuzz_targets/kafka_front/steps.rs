//! What an input says.

use millpond::kafka::wire::versions;

/// Where the checksum of a batch lies, from where it covers, and what is of fixed size.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
const BATCH_HEAD_BYTES: usize = 61;
const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;

/// What comes next on one of the connections.
pub struct Step {
    /// Which one.
    pub on: usize,
    /// What.
    pub what: What,
}

/// See [`Step`].
pub enum What {
    /// A request: its API, its version, its body, and whether it comes byte by byte.
    Request(i16, i16, Vec<u8>, bool),
    /// A request that says of itself that it is longer or shorter than it is: by so much, or a length that is no length.
    Lying(i8, i16, i16, Vec<u8>),
    /// Bytes as they are.
    Raw(Vec<u8>),
    /// So many ms pass.
    Pass(u64),
    /// The client goes away.
    Close,
}

struct Input {
    bytes: std::vec::IntoIter<u8>,
}

impl Input {
    fn u8(&mut self) -> Option<u8> {
        self.bytes.next()
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let len = u16::from_le_bytes([self.u8()?, self.u8()?]);
        Some(self.bytes.by_ref().take(usize::from(len)).collect())
    }

    fn request(&mut self) -> Option<(i16, i16, Vec<u8>)> {
        Some((i16::from(self.u8()?), i16::from(self.u8()?), self.bytes()?))
    }

    fn next(&mut self) -> Option<Step> {
        let first = self.u8()?;
        let what = match (first >> 1) & 7 {
            kind @ (0 | 1 | 7) => {
                let (key, version, body) = self.request()?;
                What::Request(key, version, body, kind == 1)
            }
            2 => {
                let (version, acks) = (i16::from(self.u8()?), self.u8()?);
                What::Request(versions::PRODUCE.key, version, produce(version, acks, &mended(self.bytes()?)), false)
            }
            3 => {
                let lie = self.u8()? as i8;
                let (key, version, body) = self.request()?;
                What::Lying(lie, key, version, body)
            }
            4 => What::Raw(self.bytes()?),
            5 => What::Pass(u64::from(self.u8()?) * 50),
            _ => What::Close,
        };
        Some(Step { on: usize::from(first & 1), what })
    }
}

/// The steps of an input.
pub fn steps(data: Vec<u8>) -> impl Iterator<Item = Step> {
    let mut input = Input { bytes: data.into_iter() };
    std::iter::from_fn(move || input.next())
}

/// Chance does not find checksums.
fn mended(mut batch: Vec<u8>) -> Vec<u8> {
    if batch.len() < BATCH_HEAD_BYTES {
        return batch;
    }
    let len = (batch.len() - LENGTH_AT - 4) as u32;
    batch[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&len.to_be_bytes());
    batch[MAGIC_AT] = 2;
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// The body of a request that produces it to the first partition of `t`.
fn produce(version: i16, acks: u8, batch: &[u8]) -> Vec<u8> {
    let flexible = versions::PRODUCE.is_flexible(version);
    let acks = i16::from(acks % 3) - 1;
    let mut body = Vec::new();
    body.extend(if flexible { &[0_u8][..] } else { &[0xff, 0xff] });
    body.extend(acks.to_be_bytes());
    body.extend(1_000_i32.to_be_bytes());
    if flexible {
        body.extend([2, 2, b't', 2, 0, 0, 0, 0]);
        let mut len = batch.len() + 1;
        while len > 0x7f {
            body.push(len as u8 | 0x80);
            len >>= 7;
        }
        body.push(len as u8);
        body.extend(batch);
        body.extend([0, 0, 0]);
    } else {
        body.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0]);
        body.extend((batch.len() as u32).to_be_bytes());
        body.extend(batch);
    }
    body
}

/// The frame of a request, whose number is `number`.
pub fn frame(number: i32, key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(number.to_be_bytes());
    frame.extend([0, 4, b'f', b'u', b'z', b'z']);
    if versions::api(key).is_ok_and(|api| api.request_header(version) >= 2) {
        frame.push(0);
    }
    frame.extend(body);
    let len = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame
}
