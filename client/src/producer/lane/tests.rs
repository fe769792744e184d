use super::*;
use crate::producer::IN_FLIGHT_MAX;

const RULES: Rules = Rules {
    in_flight_max: IN_FLIGHT_MAX,
    linger: Some(Duration::ZERO),
    delivery_timeout: Duration::from_secs(3600),
    batch_bytes: 64,
    compression: Compression::None,
    producer_id: Some(7),
};

fn lost() -> Outcome {
    let error =
        Error::Lost { doing: "sending".into(), endpoint: "there:1".into(), why: "the connection ended".into(), effect: Effect::Unknown };
    Outcome::Again { error, wait: Duration::ZERO }
}

/// A partition that remembers as many batches of a producer as a server does, by their numbers.
#[derive(Default)]
struct Server {
    last: u64,
}

impl Server {
    /// Whether it takes a batch, or has it; false if one before it is missing.
    fn takes(&mut self, number: u64) -> bool {
        assert!(
            number + IN_FLIGHT_MAX as u64 > self.last,
            "batch {number} comes again, and the server remembers those behind {}",
            self.last - 5
        );
        let follows = number <= self.last + 1;
        self.last = self.last.max(if follows { number } else { 0 });
        follows
    }
}

/// Whatever answers are lost, and however often: a batch that is sent again is one that the server remembers.
#[test]
fn what_is_sent_again_is_still_remembered() {
    for seed in 1..=300_u64 {
        let (mut lane, mut server, mut now) = (Lane::new("t".into(), 0, "there:1".into(), 0), Server::default(), Instant::now());
        let mut chance = seed;
        let mut draw = |of: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) % of
        };
        for _ in 0..300 {
            now += Duration::from_millis(10);
            let mut prepaid = 1 << 20;
            let put = |builder: &mut Builder| builder.append(0, None, Some(&[0; 40]), &[] as &[(&[u8], Option<&[u8]>)]);
            assert!(matches!(lane.append(&RULES, RULES.batch_bytes, || now, 60, &mut prepaid, put), Appended::Done { .. }));
            while let Next::Send(batch) = lane.next(&RULES, now, true) {
                lane.sent(batch);
                lane.check(&RULES);
            }
            // A connection ends, with or without what was sent last; or the oldest is answered.
            let all = draw(4) == 0;
            let arrive = draw(lane.in_flight.len() as u64 + 1) as usize;
            let out: Vec<u64> = lane.in_flight.iter().map(|flight| flight.number).collect();
            for (at, number) in out.into_iter().enumerate().take(if all { usize::MAX } else { 1 }) {
                let took = (!all || at < arrive).then(|| server.takes(number));
                let outcome = match took {
                    Some(true) if !all || draw(3) == 0 => Outcome::Acked(Acked { base_offset: Some(number), append_time_ms: None }),
                    Some(false) => Outcome::Gap(Error::Invalid("a gap".into())),
                    _ => lost(),
                };
                let _ = lane.settle(&RULES, now, number, outcome, |_| Duration::ZERO);
                lane.check(&RULES);
            }
        }
        assert!(server.last > 20, "hardly anything was sent: {}", server.last);
    }
}
