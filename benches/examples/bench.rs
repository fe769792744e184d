//! The harness by itself, as `millpond bench` runs it: builds without the server, for work on either.
//!
//! ```text
//! cargo run --release -p millpond-bench --example bench -- suite --program target/release/millpond
//! ```

use clap::Parser;
use millpond_bench::{BenchArgs, Common};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bench: BenchArgs,
    /// Where a server listens, if none is started
    #[arg(long, global = true, default_value = "127.0.0.1:7400", value_delimiter = ',')]
    server: Vec<String>,
    /// Results as JSON
    #[arg(long, global = true)]
    json: bool,
    /// No progress
    #[arg(long, global = true)]
    quiet: bool,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    millpond_bench::run(&cli.bench, &Common { servers: cli.server, json: cli.json, quiet: cli.quiet })
}
