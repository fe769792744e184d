use super::*;
use clap::{CommandFactory, Parser};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bench: BenchArgs,
}

#[derive(Parser)]
struct Demo {
    #[command(flatten)]
    demo: DemoArgs,
}

#[test]
fn the_command_lines_are_sound() {
    Cli::command().debug_assert();
    Demo::command().debug_assert();
}

#[test]
fn a_rate_is_a_number_or_a_share() {
    assert_eq!("20k".parse(), Ok(Rate::PerSecond(20_000.0)));
    assert_eq!("70%".parse(), Ok(Rate::OfMax(0.7)));
    for wrong in ["0", "0%", "-5", "x", "%", "1000%"] {
        assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
    }
}

#[test]
fn steps_are_separated_by_commas() {
    let cli = Cli::try_parse_from(["bench", "produce", "--rate", "10k,70%", "--connections", "8"]).map_err(|e| e.to_string());
    let Scenario::Produce(load) = cli.expect("a valid command line").bench.scenario else { panic!("asked for produce") };
    assert_eq!(load.pace.rate, [Rate::PerSecond(10_000.0), Rate::OfMax(0.7)]);
    assert_eq!(load.work.connections, 8);
}

#[test]
fn a_comparison_is_asked_for_as_a_command_or_as_a_flag() {
    for line in [["bench", "compare", "kafka"], ["bench", "--compare", "kafka"]] {
        let cli = Cli::try_parse_from(line.iter().chain(&["--rounds", "1"])).map_err(|e| e.to_string());
        let Scenario::Compare(args) = cli.expect("a valid command line").bench.scenario else { panic!("asked for a comparison") };
        assert_eq!((args.rival, args.rounds), (Rival::Kafka, 1));
    }
}
