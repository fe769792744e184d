//! Any bytes as a stream of the native protocol, in pieces of any size.
#![no_main]

use bytes::{BufMut, BytesMut};
use libfuzzer_sys::fuzz_target;
use millpond_wire::{
    frame::{Decoder, Flags, Frame, FrameError, HEAD_BYTES, encode},
    messages::{self as m, Kind},
};
use prost::Message;

const LIMIT: usize = 4 << 20;
const DECODER: Decoder = Decoder { frame_bytes_max: LIMIT };
/// Kinds of frames, with the unknown one.
const KINDS: u16 = Kind::WhoLeads as u16 + 1;

/// The frames of a stream that comes in pieces as long as `cut` says, and why it ended. No more memory than the claim of a
/// length earns: what has arrived, and 1 MiB ahead of it.
fn frames(stream: &[u8], cut: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut buf, mut got) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(cut.max(1)) {
        buf.extend_from_slice(piece);
        loop {
            match DECODER.decode(&mut buf) {
                Ok(Some(frame)) => got.push(frame),
                Ok(None) => break,
                Err(error) => return (got, Some(error)),
            }
        }
        // What grows is doubled.
        assert!(buf.capacity() <= 2 * (stream.len() + (1 << 20)) + 64, "{} bytes of memory for {}", buf.capacity(), stream.len());
    }
    (got, None)
}

/// A message that is read is written and read again as the same.
fn round_trip<M: Message + Default + PartialEq>(frame: &Frame) {
    let Ok(message) = frame.message::<M>() else { return };
    let bytes = encode(frame.kind, frame.flags, frame.correlation, &message, frame.payload.len());
    let mut again = BytesMut::from(&bytes[..]);
    again.put_slice(&frame.payload);
    let read = DECODER.decode(&mut again);
    // The same message may be longer than it came: nothing keeps a stranger from shorter varints than ours, or from leaving fields out.
    if let Ok(Some(read)) = read {
        assert_eq!((read.kind, read.flags, read.correlation, &read.payload), (frame.kind, frame.flags, frame.correlation, &frame.payload));
        assert!(read.message::<M>().expect("what we encoded") == message);
    } else {
        assert!(bytes.len() - HEAD_BYTES + frame.payload.len() > LIMIT - HEAD_BYTES, "a frame of ours is refused");
    }
}

fn look(frame: &Frame) {
    if frame.flags == Flags::FAILURE {
        return round_trip::<m::Failure>(frame);
    }
    macro_rules! kinds {
        ($($kind:ident: $request:ident $reply:ident,)*) => {
            match frame.kind {
                Kind::Unknown => unreachable!("the decoder refuses it"),
                $(Kind::$kind if frame.flags.is_reply() => round_trip::<m::$reply>(frame),
                Kind::$kind => round_trip::<m::$request>(frame),)*
            }
        };
    }
    kinds! {
        Hello: Hello Welcome,
        Metadata: Metadata MetadataReply,
        CreateTopic: CreateTopic TopicReply,
        AlterTopic: AlterTopic TopicReply,
        DeleteTopic: DeleteTopic Done,
        Produce: Produce ProduceReply,
        Fetch: Fetch FetchReply,
        ListOffsets: ListOffsets ListOffsetsReply,
        DeleteRecords: DeleteRecords DeleteRecordsReply,
        InitProducer: InitProducer InitProducerReply,
        GroupHeartbeat: GroupHeartbeat GroupHeartbeatReply,
        CommitOffsets: CommitOffsets CommitOffsetsReply,
        FetchOffsets: FetchOffsets FetchOffsetsReply,
        ListGroups: ListGroups ListGroupsReply,
        DescribeGroup: DescribeGroup DescribeGroupReply,
        DeleteGroup: DeleteGroup Done,
        AlterQuota: AlterQuota Done,
        ListQuotas: ListQuotas ListQuotasReply,
        Ping: Ping Done,
        Join: JoinCluster JoinReply,
        DescribeCluster: DescribeCluster DescribeClusterReply,
        Moved: Moved Done,
        AlterNode: AlterNode Done,
        NodeReport: NodeReport NodeReportReply,
        Leads: Leads Done,
        Rebalance: Rebalance RebalanceReply,
        Starts: Starts Starts,
        JoinTransaction: JoinTransaction JoinTransactionReply,
        EndTransaction: EndTransaction EndTransactionReply,
        AlterUser: AlterUser Done,
        ListUsers: ListUsers ListUsersReply,
        DisownTransaction: DisownTransaction DisownTransactionReply,
        WhoLeads: Leads Leads,
        Login: Login LoginReply,
        AlterAcls: AlterAcls Done,
    }
}

/// A frame around a message of any bytes: chance does not find the lengths.
fn framed(data: &[u8]) -> Vec<u8> {
    let [kind, flags, rest @ ..] = data else { return Vec::new() };
    assert!(Kind::try_from(i32::from(KINDS)).is_err(), "there is a kind that no frame here has");
    let payload = rest.first().map_or(0, |n| usize::from(*n) % (rest.len() + 1));
    let mut out = Vec::new();
    out.put_u32_le((HEAD_BYTES - 4 + rest.len()) as u32);
    out.put_u16_le(u16::from(*kind) % KINDS);
    out.put_u16_le([0, 1, 3, 2][usize::from(flags % 4)]);
    out.put_u64_le(7);
    out.put_u32_le((rest.len() - payload) as u32);
    out.put_slice(rest);
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, stream)) = data.split_first() else { return };
    for stream in [stream.to_vec(), [framed(stream), framed(stream)].concat()] {
        let whole = frames(&stream, stream.len());
        assert_eq!(frames(&stream, usize::from(*cut)), whole, "it depends on how the bytes come");
        whole.0.iter().for_each(look);
    }
});
