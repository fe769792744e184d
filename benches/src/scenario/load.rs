//! The scenarios of one load: produce, consume, from end to end, replay, and produce beside a replay.

use super::bench::Bench;
use crate::{
    args::{AcksArg, Codec, LoadArgs, PaceArgs, Payload, Rate, WorkArgs},
    batches::Shape,
    load::{
        Both, Plan,
        consume::Consume,
        produce::{Pace, Produce},
    },
    results::{Results, Run},
    system::{Acks, Reading, Topic, native::Native},
    units::{show_bytes, show_count},
};
use anyhow::{Result, bail, ensure};
use std::time::{Duration, Instant};

/// How much of a core's attention a replay asks for.
const REPLAY: Reading = Reading::Once { background: true };
/// Loading is done with so many requests under way per connection.
const LOAD_IN_FLIGHT: usize = 8;
/// In open loop without a rate: of what a closed loop reaches.
const MIXED_SHARE: f64 = 0.3;

/// Everything that was on, for the report.
pub(super) fn on(work: &WorkArgs, shape: &Shape, pace: &Pace) -> Vec<(String, String)> {
    let acks = match work.acks {
        AcksArg::All => "all: every replica has synced (fdatasync) before the ack",
        AcksArg::Leader => "leader: in memory, not synced",
    };
    let payload = match work.payload {
        Payload::Realistic => "JSON events",
        Payload::Incompressible => "random bytes",
        Payload::Compressible => "one line again and again",
    };
    let loop_of = match pace {
        Pace::Closed { in_flight } => format!("closed loop, {in_flight} in flight per connection"),
        Pace::Open { per_s, arrivals } => format!("open loop, {} batches/s, {arrivals:?} arrivals", show_count(*per_s)).to_lowercase(),
    };
    let codec = if work.compression == Codec::None { "none".into() } else { format!("{:?}", work.compression).to_lowercase() };
    let row = |name: &str, value: String| (name.to_owned(), value);
    vec![
        row("acks", acks.into()),
        row("replicas", "1".into()),
        row("load", loop_of),
        row("connections", work.connections.to_string()),
        row("topics × partitions", format!("{} × {}", work.topics, work.partitions)),
        row("batch", format!("{} records of {} B ({})", shape.records, shape.value_bytes, payload)),
        row("keys", if shape.keys == 0 { "none".into() } else { format!("{} {:?}", shape.keys, shape.distribution).to_lowercase() }),
        row("producer's compression", codec),
        row("idempotent", work.idempotent.to_string()),
    ]
}

/// Producers as the command line has them.
pub(super) fn producers(bench: &Bench, work: &WorkArgs, topics: &[Topic], pace: Pace) -> Result<Produce<Native>> {
    let produce = Produce {
        system: bench.system.clone(),
        topics: topics.to_vec(),
        shape: Shape::of(work)?,
        connections: work.connections,
        pace,
        acks: match work.acks {
            AcksArg::All => Acks::Synced,
            AcksArg::Leader => Acks::Leader,
        },
        idempotent: work.idempotent,
        correct_omission: None,
        stamp_since: None,
        bytes_all: None,
    };
    produce.check()?;
    Ok(produce)
}

/// Consumers as the command line has them.
pub(super) fn consumers(bench: &Bench, work: &WorkArgs, topics: &[Topic], reading: Reading) -> Consume<Native> {
    let all = topics.iter().map(|topic| topic.partitions).sum();
    Consume {
        system: bench.system.clone(),
        topics: topics.to_vec(),
        connections: work.connections.min(all),
        reading,
        fetch_bytes: usize::try_from(work.fetch_bytes).unwrap_or(usize::MAX),
        verify: work.verify,
        stamps: None,
    }
}

/// One run of producers.
pub(super) fn produce_run(bench: &Bench, name: &str, work: &WorkArgs, topics: &[Topic], pace: Pace, plan: &Plan) -> Result<Run> {
    run_producers(bench, name, work, producers(bench, work, topics, pace)?, plan)
}

fn run_producers(bench: &Bench, name: &str, work: &WorkArgs, produce: Produce<Native>, plan: &Plan) -> Result<Run> {
    let mut run = bench.measure(name, &produce, plan)?;
    run.on = on(work, &produce.shape, &produce.pace);
    run.offered_per_s = offered(&produce.pace);
    Ok(run)
}

fn offered(pace: &Pace) -> Option<f64> {
    if let Pace::Open { per_s, .. } = pace { Some(*per_s) } else { None }
}

/// Fills topics with so many bytes, as fast as it goes.
pub(super) fn load(bench: &Bench, work: &WorkArgs, topics: &[Topic], bytes: u64) -> Result<Run> {
    let mut produce = producers(bench, work, topics, Pace::Closed { in_flight: LOAD_IN_FLIGHT })?;
    produce.bytes_all = Some(bytes);
    let name = format!("load {}", show_bytes(bytes));
    let mut run = bench.measure(&name, &produce, &bench.plan(Duration::ZERO, Duration::from_secs(1)))?;
    ensure!(run.refused == 0, "the server refused {} batches while {} were loaded", run.refused, show_bytes(bytes));
    run.on = on(work, &produce.shape, &produce.pace);
    Ok(run)
}

/// The steps that the command line asks for: their names and paces. `of_max` measures what a closed loop reaches.
fn steps(pace: &PaceArgs, in_flight: usize, mut of_max: impl FnMut() -> Result<f64>) -> Result<Vec<(String, Pace)>> {
    if pace.rate.is_empty() {
        return Ok(vec![("closed loop".into(), Pace::Closed { in_flight })]);
    }
    let mut max = None;
    let mut out = Vec::new();
    for rate in &pace.rate {
        let per_s = match rate {
            Rate::PerSecond(per_s) => *per_s,
            Rate::OfMax(share) => {
                let max = match max {
                    Some(max) => max,
                    None => *max.insert(of_max()?),
                };
                share * max
            }
        };
        out.push((format!("{}/s", show_count(per_s)), Pace::Open { per_s, arrivals: pace.arrivals }));
    }
    Ok(out)
}

pub(super) fn produce(mut bench: Bench, args: &LoadArgs) -> Result<Results> {
    let topics = bench.topics(args.work.topics, args.work.partitions)?;
    let plan = bench.plan(args.pace.warm_up, args.pace.duration);
    let mut runs = Vec::new();
    let closed = Pace::Closed { in_flight: args.work.in_flight };
    let steps = steps(&args.pace, args.work.in_flight, || {
        let run = produce_run(&bench, "produce, closed loop", &args.work, &topics, closed, &plan)?;
        let max = run.requests_per_s();
        runs.push(run);
        Ok(max)
    })?;
    for (name, pace) in steps {
        let mut produce = producers(&bench, &args.work, &topics, pace)?;
        produce.correct_omission = args.pace.correct_omission;
        runs.push(run_producers(&bench, &format!("produce, {name}"), &args.work, produce, &plan)?);
    }
    finish(bench, args, &topics, runs)
}

pub(super) fn consume(mut bench: Bench, args: &LoadArgs) -> Result<Results> {
    let topics = bench.topics(args.work.topics, args.work.partitions)?;
    let loaded = load(&bench, &args.work, &topics, args.work.load_bytes)?;
    let consume = consumers(&bench, &args.work, &topics, Reading::Again { background: false });
    let mut run = bench.measure("consume", &consume, &bench.plan(args.pace.warm_up, args.pace.duration))?;
    run.on = reading_on(&args.work, consume.connections, "from the start to the end, again and again");
    finish(bench, args, &topics, vec![loaded, run])
}

/// What is on where is read.
pub(super) fn reading_on(work: &WorkArgs, connections: usize, what: &str) -> Vec<(String, String)> {
    let row = |name: &str, value: String| (name.to_owned(), value);
    vec![
        row("reading", what.into()),
        row("connections", connections.to_string()),
        row("fetch", show_bytes(work.fetch_bytes)),
        row("checksums checked by the reader", work.verify.to_string()),
    ]
}

pub(super) fn end_to_end(mut bench: Bench, args: &LoadArgs) -> Result<Results> {
    let topics = bench.topics(args.work.topics, args.work.partitions)?;
    let plan = bench.plan(args.pace.warm_up, args.pace.duration);
    let mut runs = Vec::new();
    let closed = Pace::Closed { in_flight: args.work.in_flight };
    let steps = steps(&args.pace, args.work.in_flight, || {
        let run = produce_run(&bench, "produce, closed loop", &args.work, &topics, closed, &plan)?;
        let max = run.requests_per_s();
        runs.push(run);
        Ok(max)
    })?;
    for (name, pace) in steps {
        let since = Instant::now();
        let mut produce = producers(&bench, &args.work, &topics, pace)?;
        ensure!(produce.shape.takes_stamps(), "times from end to end need values of 8 bytes at least, and no compression by the producer");
        produce.stamp_since = Some(since);
        let mut follow = consumers(&bench, &args.work, &topics, Reading::Follow);
        follow.stamps = Some((produce.shape.clone(), since));
        let both = Both { producers: produce, followers: follow };
        let mut run = bench.measure(&format!("end to end, {name}"), &both, &plan)?;
        run.on = on(&args.work, &both.producers.shape, &both.producers.pace);
        run.on.push(("followers".into(), both.followers.connections.to_string()));
        run.offered_per_s = offered(&both.producers.pace);
        runs.push(run);
    }
    finish(bench, args, &topics, runs)
}

pub(super) fn replay(mut bench: Bench, args: &LoadArgs) -> Result<Results> {
    let topics = bench.topics(args.work.topics, args.work.partitions)?;
    let loaded = load(&bench, &args.work, &topics, args.work.load_bytes)?;
    let cold = bench.restart(false)?;
    let (run, _) = replay_run(&bench, &args.work, &topics, if cold { "replay, cold" } else { "replay" })?;
    ensure!(run.totals.records == loaded.totals.records, "{} records were loaded, {} came back", loaded.totals.records, run.totals.records);
    finish(bench, args, &topics, vec![loaded, run])
}

/// Reads everything once.
pub(super) fn replay_run(bench: &Bench, work: &WorkArgs, topics: &[Topic], name: &str) -> Result<(Run, usize)> {
    let consume = consumers(bench, work, topics, REPLAY);
    let mut run = bench.measure(name, &consume, &bench.plan(Duration::ZERO, Duration::from_secs(1)))?;
    run.on = reading_on(work, consume.connections, "everything once, as a replay");
    Ok((run, consume.connections))
}

pub(super) fn mixed(mut bench: Bench, args: &LoadArgs) -> Result<Results> {
    let live = bench.topics(args.work.topics, args.work.partitions)?;
    let old = bench.topics(1, args.work.partitions)?;
    let mut runs = vec![load(&bench, &args.work, &old, args.work.load_bytes)?];
    bench.restart(false)?;
    let plan = bench.plan(args.pace.warm_up, args.pace.duration);
    let closed = Pace::Closed { in_flight: args.work.in_flight };
    let pace = match args.pace.rate[..] {
        [Rate::PerSecond(per_s)] => Pace::Open { per_s, arrivals: args.pace.arrivals },
        [_, _, ..] => bail!("a mixed run takes one rate"),
        [] | [Rate::OfMax(_)] => {
            let share = if let [Rate::OfMax(share)] = args.pace.rate[..] { share } else { MIXED_SHARE };
            let run = produce_run(&bench, "produce, closed loop", &args.work, &live, closed, &plan)?;
            let per_s = share * run.requests_per_s();
            runs.push(run);
            Pace::Open { per_s, arrivals: args.pace.arrivals }
        }
    };
    runs.push(produce_run(&bench, "produce alone", &args.work, &live, pace, &plan)?);
    let (with, replay) = beside_replay(&bench, &args.work, (&live, &old), pace, &plan)?;
    runs.extend([with, replay]);
    let all: Vec<Topic> = live.into_iter().chain(old).collect();
    finish(bench, args, &all, runs)
}

/// Producers with a replay at full speed beside them, from threads that give way to the producers' own.
pub(super) fn beside_replay(
    bench: &Bench,
    work: &WorkArgs,
    (live, old): (&[Topic], &[Topic]),
    pace: Pace,
    plan: &Plan,
) -> Result<(Run, Run)> {
    let mut consume = consumers(bench, work, old, Reading::Again { background: true });
    consume.connections = consume.connections.min(4);
    let longer =
        Plan { warm_up: Duration::ZERO, duration: plan.warm_up + plan.duration + Duration::from_secs(1), humble: true, ..plan.clone() };
    std::thread::scope(|scope| {
        let replay = scope.spawn(|| bench.measure("replay beside produce", &consume, &longer));
        let run = produce_run(bench, "produce beside a replay", work, live, pace, plan);
        let mut replay = replay.join().unwrap_or_else(|_| bail!("the thread of the replay panicked"))?;
        replay.on = reading_on(work, consume.connections, "everything again and again, as a replay");
        Ok((run?, replay))
    })
}

fn finish(mut bench: Bench, args: &LoadArgs, topics: &[Topic], runs: Vec<Run>) -> Result<Results> {
    if !args.work.keep {
        bench.drop_topics(topics)?;
    }
    bench.results.runs = runs;
    bench.finish()
}
