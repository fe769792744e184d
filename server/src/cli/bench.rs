//! `millpond bench` and `millpond demo`: the harness, which is a crate of its own.

use super::{
    Global,
    fail::{Fail, Result},
};
use millpond_bench::{BenchArgs, Common, DemoArgs};

fn common(global: &Global) -> Common {
    Common { servers: global.server.clone(), json: global.json, quiet: global.quiet }
}

pub(super) fn bench(args: &BenchArgs, global: &Global) -> Result {
    millpond_bench::run(args, &common(global)).map_err(|e| failed(&e))
}

pub(super) fn demo(args: &DemoArgs, global: &Global) -> Result {
    millpond_bench::demo(args, &common(global)).map_err(|e| failed(&e))
}

/// The whole chain of what went wrong, on one line.
fn failed(error: &anyhow::Error) -> Fail {
    Fail::new(format!("{error:#}"), "")
}
