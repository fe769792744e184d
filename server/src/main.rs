//! The `millpond` program: everything is in [`millpond::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    millpond::cli::main()
}
