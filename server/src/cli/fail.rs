//! How a command ends when it does not end well: what to print, and the exit code.

use millpond_client::Code;
use serde_json::json;
use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

/// What the exit codes mean, for `--help` and the man page.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed: the message says why and what to do
  2   the command line is not understood
  69  no server can be reached
  70  internal: a bug, or a server that stopped itself to keep data safe";

/// The classes of exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Refused or gone wrong.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No server there.
    Unreachable = 69,
    /// Our own fault.
    Internal = 70,
    /// Whoever read our output has gone: nothing is wrong, nothing is said.
    Quiet = 0,
}

/// A failed command.
#[derive(Debug)]
pub(super) struct Fail {
    pub(super) exit: Exit,
    pub(super) message: String,
    /// What to do about it; may be empty.
    pub(super) advice: String,
    /// The server's code, where it was the server that refused.
    pub(super) code: Option<Code>,
}

/// Shorthand for commands.
pub(super) type Result<T = (), E = Fail> = std::result::Result<T, E>;

impl Fail {
    pub(super) fn new(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), advice: advice.into(), code: None }
    }

    pub(super) fn usage(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(message, advice) }
    }

    /// An io error, with what we were doing: "read flights.ndjson". A closed pipe is no failure.
    pub(super) fn io(doing: impl fmt::Display, source: &io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Quiet, ..Self::new("", "") };
        }
        let advice = match source.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied => "check who may read and write it",
            io::ErrorKind::AddrInUse => "another process listens there: stop it, or choose another address",
            io::ErrorKind::StorageFull => "make room on the disk",
            _ => "",
        };
        Self::new(format!("cannot {doing}: {source}"), advice)
    }

    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }

    /// Says it on stderr: two lines for people, or one JSON object.
    pub(super) fn report(&self, json: bool) {
        if self.exit == Exit::Quiet {
            return;
        }
        let mut stderr = io::stderr().lock();
        // There is nobody left to tell if stderr is gone too.
        let _ = if json {
            let code = self.code.map(|c| format!("{c:?}"));
            let body = json!({ "error": self.message, "advice": self.advice, "code": code, "exit": self.exit as u8 });
            writeln!(stderr, "{body}")
        } else if self.advice.is_empty() {
            writeln!(stderr, "error: {}", self.message)
        } else {
            writeln!(stderr, "error: {}\n  try: {}", self.message, self.advice)
        };
    }
}
