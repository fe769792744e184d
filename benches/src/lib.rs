//! The bundled harness behind `millpond bench` and `millpond demo`.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the harness stands outside of the server: the clock, threads, files and sockets are its own"
)]

pub mod args;
pub mod batches;
mod chaos;
mod cluster;
mod compare;
mod crash;
mod demo;
mod failover;
mod flights;
pub mod limit;
pub mod load;
pub mod machine;
pub mod measure;
#[cfg(test)]
mod mock;
mod moves;
mod node;
mod process;
pub mod report;
pub mod results;
mod scenario;
pub mod server;
pub mod sys;
pub mod system;
pub mod units;

pub use args::{BenchArgs, Common, DemoArgs};

/// Runs `millpond bench`.
///
/// # Errors
/// What went wrong, for people.
pub fn run(args: &BenchArgs, common: &Common) -> anyhow::Result<()> {
    scenario::run(args, common)
}

/// Runs `millpond demo`. Starts a runtime of its own: not to be called from within one.
///
/// # Errors
/// What went wrong, or which check failed, for people.
pub fn demo(args: &DemoArgs, common: &Common) -> anyhow::Result<()> {
    demo::run(args, common)
}
