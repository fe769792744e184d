//! A group's segments against a plain list of records, under random work: appending, rolling, starting anew, losing what was
//! never noted, trimming, compacting, reading at any place in any portions, looking up times.

use super::*;
use crate::segment::compact::{Budget, pick, run_within};
use millpond_batch::Record;

#[derive(Clone, Debug)]
enum Step {
    /// So many batches of so many records, value size, codec.
    Append {
        batches: u8,
        records: u8,
        value: u16,
        codec: u8,
        noted: bool,
    },
    Restart,
    /// To this part of what is there, in 255ths.
    Trim(u8),
    Compact {
        keys_max: u8,
    },
    Read {
        at: u8,
        bytes_max: u32,
    },
    Find {
        at: u8,
        time: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..8_u8, 1..6_u8, 0..6000_u16, 0..5_u8, prop::bool::weighted(0.8))
            .prop_map(|(batches, records, value, codec, noted)| Step::Append { batches, records, value, codec, noted }),
        1 => Just(Step::Restart),
        1 => any::<u8>().prop_map(Step::Trim),
        1 => (1..20_u8).prop_map(|keys_max| Step::Compact { keys_max }),
        3 => (any::<u8>(), prop_oneof![Just(1_u32), 1..100_000_u32]).prop_map(|(at, bytes_max)| Step::Read { at, bytes_max }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(at, time)| Step::Find { at, time }),
    ]
}

const KEYS: u64 = 9;
const NOW_MS: i64 = 50_000;

struct World {
    rt: SimRt,
    group: GroupSegments<SimRt>,
    /// What the segments must hold from `start` on.
    log: Vec<Record>,
    start: u64,
    end: u64,
    /// What the journal would say, and the end of the log by that.
    mark: Option<Mark>,
    last_index: u64,
}

fn group_config() -> GroupConfig {
    GroupConfig { segment_bytes: 20_000, compact: true, delete_retention_ms: 0, ..GroupConfig::default() }
}

impl World {
    async fn new(rt: SimRt) -> Self {
        rt.create_dir_all("/groups".as_ref()).await.expect("create");
        rt.sync_dir("/".as_ref()).await.expect("sync");
        let group = fresh(&rt);
        Self { rt, group, log: Vec::new(), start: 0, end: 0, mark: None, last_index: 0 }
    }

    fn make(&mut self, n: u64, records_each: u8, value: u16, codec: u8) -> Entry {
        const CODECS: [Compression; 5] = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        let mut builder = Builder::new(CODECS[usize::from(codec)], 256);
        for r in 0..u64::from(records_each) {
            let at = n + r;
            // Times go forth and back; every seventh record has no key, every fifth is a tombstone.
            let time = 1_000 + (at as i64 * 7) - (at as i64 % 11) * 20;
            let key = (!at.is_multiple_of(7)).then(|| format!("key {}", at * at % KEYS).into_bytes());
            let value: Vec<u8> = (0..u64::from(value)).map(|i| (i.wrapping_mul(at + 3) >> 3) as u8).collect();
            let value = (!at.is_multiple_of(5) || key.is_none()).then_some(value);
            builder.append(time, key.as_deref(), value.as_deref(), NO_HEADERS);
        }
        let mut bytes = builder.build(None).expect("a batch");
        stamp(&mut bytes, n, 1);
        self.last_index += 1;
        let payload = bytes.freeze();
        self.log.extend(records(&payload, DecompressLimits::default()).expect("a batch").map(|r| r.expect("a record")));
        Entry { index: Index(self.last_index), term: Term(1 + n / 100), kind: EntryKind::Batch, base_offset: Offset(n), payload }
    }

    async fn append(&mut self, batches: u8, each: u8, value: u16, codec: u8, noted: bool) {
        let mut run = Vec::new();
        let before = (self.log.clone(), self.end, self.last_index);
        for _ in 0..batches {
            let entry = self.make(self.end, each, value, codec);
            run.push(entry);
            self.end += u64::from(each);
        }
        let mark = self.group.append(run, Offset(self.end), &group_config(), 1, NOW_MS).await.expect("append");
        if noted {
            self.mark = Some(mark);
        } else {
            // The crash came before the note: nobody may count on it, and a start finds it gone.
            (self.log, self.end, self.last_index) = before;
            self.restart().await;
        }
    }

    async fn restart(&mut self) {
        let handles = Rc::new(Handles::new(self.rt.clone(), trash(&self.rt), 3, 1 << 18));
        let dir = PathBuf::from("/groups/7");
        self.group = GroupSegments::open(handles, dir, GROUP, self.mark, Index(self.last_index), Offset(self.start)).await.expect("opens");
    }

    async fn trim(&mut self, to: u8) {
        // Never past the end: the growing segment stays the journal's mark.
        let to = self.place(to).min(self.end.saturating_sub(1));
        self.start = self.start.max(to);
        self.group.remove_before(Offset(self.start)).await.expect("trim");
        self.log.retain(|r| r.offset >= self.start);
    }

    async fn compact(&mut self, keys_max: u8) {
        let Some(mark) = self.mark else { return };
        let range = pick(&self.group.sealed(), mark.name.base_offset, &group_config(), NOW_MS);
        let budget = Budget { keys_max: usize::from(keys_max) };
        run_within(&self.group, range, &group_config(), 1, NOW_MS, budget).await.expect("compact");
        let after = self.read_all().await;
        // A record that is gone had a key, lay in a sealed segment, and has a later one there; or was a tombstone.
        let sealed_end = mark.name.base_offset.0;
        for gone in self.log.iter().filter(|r| !after.iter().any(|a| a.offset == r.offset)) {
            assert!(gone.offset < sealed_end && gone.key.is_some(), "{gone:?} must stay");
            let later = self.log.iter().any(|r| r.key == gone.key && r.offset > gone.offset && r.offset < sealed_end);
            assert!(later || gone.is_tombstone(), "{gone:?} is the newest of its key");
        }
        assert!(after.iter().all(|a| self.log.contains(a)), "compaction invents nothing and changes nothing");
        self.log = after;
    }

    fn place(&self, part: u8) -> u64 {
        self.start + (self.end - self.start) * u64::from(part) / 255
    }

    async fn read_all(&self) -> Vec<Record> {
        let out = self.group.read(Offset(self.start), ALL).await.expect("read");
        self.of(&out.batches, self.start)
    }

    fn of(&self, batches: &[Bytes], from: u64) -> Vec<Record> {
        let all = batches.iter().flat_map(|b| records(b, DecompressLimits::default()).expect("a batch").map(|r| r.expect("a record")));
        all.filter(|r| r.offset >= from).collect()
    }

    async fn read(&self, at: u8, bytes_max: u32) {
        let from = self.place(at);
        let limits = ReadLimits { bytes_max: bytes_max as usize, end: Offset(self.end) };
        let out = self.group.read(Offset(from), limits).await.expect("read");
        let next = out.next.0;
        let expected: Vec<&Record> = self.log.iter().filter(|r| r.offset >= from && r.offset < next).collect();
        assert_eq!(self.of(&out.batches, from).iter().collect::<Vec<_>>(), expected);
        assert!(next > from || from == self.end, "a read must lead on: {from} of {}", self.end);
        let bytes: usize = out.batches.iter().map(Bytes::len).sum();
        assert!(bytes <= bytes_max as usize || out.batches.len() == 1);
    }

    async fn find(&self, at: u8, time: u8) {
        let (from, ms) = (self.place(at), 900 + i64::from(time) * (self.end as i64 * 7 + 400) / 255);
        let expected = self.log.iter().find(|r| r.offset >= from && r.timestamp >= ms).map(|r| (Offset(r.offset), r.timestamp));
        assert_eq!(self.group.find_time(ms, Offset(from)).await.expect("find"), expected);
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Append { batches, records, value, codec, noted } => self.append(batches, records, value, codec, noted).await,
            Step::Restart => self.restart().await,
            Step::Trim(to) => self.trim(to).await,
            Step::Compact { keys_max } => self.compact(keys_max).await,
            Step::Read { at, bytes_max } => self.read(at, bytes_max).await,
            Step::Find { at, time } => self.find(at, time).await,
        }
        self.check();
    }

    fn check(&self) {
        let sealed = self.group.sealed();
        assert!(sealed.windows(2).all(|w| w[0].next_offset == w[1].name.base_offset), "segments without a hole: {sealed:?}");
        let (open, bytes) = self.group.handles().used();
        assert!(open <= 4 && bytes <= 1 << 20);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn segments_are_a_list_of_records(steps in proptest::collection::vec(step(), 1..40)) {
        on_sim(move |rt| async move {
            let mut world = World::new(rt).await;
            for step in steps {
                world.take(step).await;
            }
            assert_eq!(world.read_all().await, world.log);
            world.restart().await;
            assert_eq!(world.read_all().await, world.log);
        });
    }
}
