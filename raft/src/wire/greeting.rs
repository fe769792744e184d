//! How a conversation between nodes begins: who speaks to whom, and in which version. The layout of these two never changes.

use super::WireError;
use bytes::{BufMut, Bytes, BytesMut};
use millpond_runtime::{NodeId, codec::Reader};

/// What a greeting begins with: as the length of a frame of any other protocol it would be more than is allowed.
pub const MAGIC: [u8; 4] = *b"MPRG";
/// What a welcome begins with.
const WELCOME_MAGIC: [u8; 4] = *b"MPRW";
/// Bytes of a greeting.
pub const GREETING_BYTES: usize = 60;
/// Bytes of a welcome.
pub const WELCOME_BYTES: usize = 20;

/// Versions of the conversation that a node speaks, so that nodes of two releases can be in one cluster while it is upgraded: all from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The first one that it still speaks.
    pub oldest: u32,
    /// The last one that it knows.
    pub newest: u32,
}

impl Versions {
    /// Those of this program.
    pub const OURS: Self = Self { oldest: 3, newest: 3 };

    /// The newest that both know.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }

    fn checked(oldest: u32, newest: u32) -> Result<Self, WireError> {
        if oldest == 0 || oldest > newest {
            return Err(WireError::Shape(format!("versions from {oldest} to {newest}")));
        }
        Ok(Self { oldest, newest })
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { oldest, newest } = self;
        if oldest == newest { write!(f, "version {oldest}") } else { write!(f, "versions {oldest} to {newest}") }
    }
}

/// Who speaks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Nodes of another cluster have no business here.
    pub cluster: u64,
    /// Who dialled.
    pub from: NodeId,
    /// Whom it wanted.
    pub to: NodeId,
    /// Which of the journal homes there: replicas of a group live in homes of the same number.
    pub home: u32,
    /// How far the disk of the one who dialled has come, which whoever is dialled may know better.
    pub age: u64,
    /// Which start has brought it there.
    pub start: u64,
}

impl Greeting {
    /// As it is sent by a node that speaks these versions.
    #[must_use]
    pub fn encode(&self, versions: Versions) -> Bytes {
        let mut out = BytesMut::with_capacity(GREETING_BYTES);
        out.put_slice(&MAGIC);
        out.put_u32_le(versions.oldest);
        out.put_u32_le(versions.newest);
        for n in [self.cluster, self.from.0, self.to.0] {
            out.put_u64_le(n);
        }
        out.put_u32_le(self.home);
        out.put_u64_le(self.age);
        out.put_u64_le(self.start);
        sealed(out)
    }

    /// Reads what [`Greeting::encode`] has written: [`GREETING_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, Versions), WireError> {
        let mut r = Reader::new(bytes);
        if r.take(4)? != MAGIC {
            return Err(WireError::Stranger("it does not begin as a node of Millpond".into()));
        }
        let (oldest, newest) = (r.u32()?, r.u32()?);
        let this = Self { cluster: r.u64()?, from: NodeId(r.u64()?), to: NodeId(r.u64()?), home: r.u32()?, age: r.u64()?, start: r.u64()? };
        check(bytes, r)?;
        Ok((this, Versions::checked(oldest, newest)?))
    }
}

/// What a greeting is answered with, if whoever greets is welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// What both are to speak; none if there is nothing that both know, and then nothing follows.
    pub version: Option<u32>,
    /// What the one who answers speaks.
    pub versions: Versions,
}

impl Welcome {
    /// To one who speaks these versions, from one who speaks those.
    #[must_use]
    pub fn new(theirs: Versions, ours: Versions) -> Self {
        Self { version: theirs.common(ours), versions: ours }
    }

    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(WELCOME_BYTES);
        out.put_slice(&WELCOME_MAGIC);
        for n in [self.version.unwrap_or(0), self.versions.oldest, self.versions.newest] {
            out.put_u32_le(n);
        }
        sealed(out)
    }

    /// Reads what [`Welcome::encode`] has written: [`WELCOME_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        if r.take(4)? != WELCOME_MAGIC {
            return Err(WireError::Stranger("it does not answer as a node of Millpond".into()));
        }
        let (version, oldest, newest) = (r.u32()?, r.u32()?, r.u32()?);
        check(bytes, r)?;
        Ok(Self { version: Some(version).filter(|version| *version > 0), versions: Versions::checked(oldest, newest)? })
    }

    /// The version to speak, for one who speaks `ours`.
    pub fn agreed(&self, ours: Versions) -> Result<u32, WireError> {
        match self.version {
            Some(version) if (ours.oldest..=ours.newest).contains(&version) => Ok(version),
            Some(version) => Err(WireError::Shape(format!("it wants to speak version {version}, this node was heard to speak {ours}"))),
            None => Err(nothing_in_common(self.versions, ours)),
        }
    }
}

/// Two nodes that cannot understand each other.
pub(crate) fn nothing_in_common(theirs: Versions, ours: Versions) -> WireError {
    let older = if theirs.newest < ours.oldest { "it" } else { "this node" };
    WireError::Stranger(format!("it speaks {theirs}, this node {ours}: upgrade {older} first, release by release"))
}

fn sealed(mut out: BytesMut) -> Bytes {
    out.put_u32_le(crc32fast::hash(&out));
    out.freeze()
}

/// The checksum at the end is that of what lies before it.
fn check(bytes: &[u8], mut r: Reader<'_>) -> Result<(), WireError> {
    let found = crc32fast::hash(&bytes[..r.at()]);
    let expected = r.u32()?;
    if expected == found { Ok(()) } else { Err(WireError::Checksum { expected, found }) }
}

#[cfg(test)]
mod tests;
