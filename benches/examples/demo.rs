//! The demonstration by itself, as `millpond demo` runs it: builds without the server, for work on either.
//!
//! ```text
//! cargo run --release -p millpond-bench --example demo -- --program target/release/millpond
//! ```

use clap::Parser;
use millpond_bench::{Common, DemoArgs};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    demo: DemoArgs,
    /// Results as JSON
    #[arg(long)]
    json: bool,
    /// No progress
    #[arg(long)]
    quiet: bool,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    millpond_bench::demo(&cli.demo, &Common { servers: Vec::new(), json: cli.json, quiet: cli.quiet })
}
