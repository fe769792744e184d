//! `millpond user`: who may log in. What is kept of a password is derived here; the password itself goes nowhere.

use super::{
    Global,
    fail::{Fail, Result},
    out::Out,
    remote::Remote,
};
use crate::security::{Credential, ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, PASSWORD_BYTES_MAX};
use clap::{Args, Subcommand, ValueEnum};
use millpond_wire::messages::{AlterUser, UserCredential, UserInfo};
use serde_json::json;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal},
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Look after users that log in with a password
#[derive(Subcommand)]
pub(super) enum User {
    Create(Create),
    Delete(Delete),
    List(List),
}

/// Create a user, or give one another password
///
/// The password is the first line of a file, or of standard input; on a terminal it is asked for. The server is told what is
/// derived from it (SCRAM's keys), and never the password itself.
#[derive(Args)]
pub(super) struct Create {
    /// The user
    name: String,
    /// Read the password from this file; `-` for standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The mechanism that the password is for; repeat it for several [default: all]
    #[arg(long, value_name = "MECHANISM")]
    mechanism: Vec<Named>,
    /// How dear each guess of the password is
    #[arg(long, value_name = "COUNT", default_value_t = ITERATIONS_DEFAULT, value_parser = clap::value_parser!(u32).range(i64::from(ITERATIONS_MIN)..=i64::from(ITERATIONS_MAX)))]
    iterations: u32,
}

/// Delete a user
#[derive(Args)]
pub(super) struct Delete {
    /// The user
    name: String,
}

/// List the users
#[derive(Args)]
pub(super) struct List {}

/// A mechanism, as it is written on the command line.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Named {
    #[value(name = "scram-sha-256")]
    ScramSha256,
    #[value(name = "scram-sha-512")]
    ScramSha512,
}

impl Named {
    fn mechanism(self) -> Mechanism {
        match self {
            Self::ScramSha256 => Mechanism::ScramSha256,
            Self::ScramSha512 => Mechanism::ScramSha512,
        }
    }
}

impl User {
    pub(super) async fn run(self, global: &Global, out: &mut Out) -> Result {
        match self {
            Self::Create(args) => args.run(global, out).await,
            Self::Delete(args) => args.run(global, out).await,
            Self::List(_) => list(&Remote::connect(global).await?, out).await,
        }
    }
}

impl Create {
    async fn run(self, global: &Global, out: &mut Out) -> Result {
        let password = password(self.password_file.as_deref())?;
        let iterations = NonZeroU32::new(self.iterations).ok_or_else(|| Fail::usage("no iterations", "ask for some"))?;
        let mut mechanisms: Vec<Mechanism> = self.mechanism.into_iter().map(Named::mechanism).collect();
        if mechanisms.is_empty() {
            mechanisms = Mechanism::ALL.to_vec();
        }
        mechanisms.sort_unstable();
        mechanisms.dedup();
        let keep = mechanisms.iter().map(|mechanism| {
            let Credential { salt, iterations, stored_key, server_key } = Credential::of_password(*mechanism, &password, iterations);
            UserCredential { mechanism: mechanism.number() as u32, iterations, salt, stored_key, server_key }
        });
        let user = AlterUser { name: self.name.clone(), keep: keep.collect(), forget: Vec::new() };
        Remote::connect(global).await?.alter_user(user).await?;
        let names: Vec<&str> = mechanisms.iter().map(|mechanism| mechanism.name()).collect();
        let text = format!("{} may log in by {}", self.name, names.join(" and "));
        out.either(&json!({ "user": self.name, "mechanisms": names }), text)
    }
}

impl Delete {
    async fn run(self, global: &Global, out: &mut Out) -> Result {
        let remote = Remote::connect(global).await?;
        let there = remote.list_users().await?.into_iter().find(|user| user.name == self.name);
        let Some(user) = there else {
            return Err(Fail::new(format!("there is no user {}", self.name), "list the users (millpond user list)"));
        };
        let forget = user.credentials.iter().map(|kept| kept.mechanism).collect();
        remote.alter_user(AlterUser { name: user.name, keep: Vec::new(), forget }).await?;
        out.either(&json!({ "user": self.name, "deleted": true }), format!("{} is deleted", self.name))
    }
}

async fn list(remote: &Remote, out: &mut Out) -> Result {
    let users = remote.list_users().await?;
    let mechanism = |kept: &UserCredential| {
        let known = i8::try_from(kept.mechanism).ok().and_then(Mechanism::of_number);
        known.map_or_else(|| format!("mechanism {}", kept.mechanism), |mechanism| mechanism.name().to_owned())
    };
    if out.json {
        let credential = |kept: &UserCredential| json!({ "mechanism": mechanism(kept), "iterations": kept.iterations });
        let value =
            |user: &UserInfo| json!({ "user": user.name, "credentials": user.credentials.iter().map(credential).collect::<Vec<_>>() });
        return users.iter().try_for_each(|user| out.value(&value(user)));
    }
    if users.is_empty() {
        out.note("there are no users; create one with `millpond user create NAME`");
        return Ok(());
    }
    let told = |kept: &UserCredential| format!("{} ({} iterations)", mechanism(kept), kept.iterations);
    let row = |user: &UserInfo| vec![user.name.clone(), user.credentials.iter().map(told).collect::<Vec<_>>().join(", ")];
    let rows: Vec<Vec<String>> = users.iter().map(row).collect();
    out.table(&["USER", "MECHANISMS"], &rows)
}

/// The first line of a file, or of standard input.
fn password(file: Option<&Path>) -> Result<Vec<u8>> {
    let line = match file.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let doing = || format!("read the password from {}", path.display());
            let file = File::open(path).map_err(|e| Fail::io(doing(), &e))?;
            first_line(BufReader::new(file)).map_err(|e| Fail::io(doing(), &e))?
        }
        None => {
            let _silent = io::stdin().is_terminal().then(Silent::begin);
            first_line(io::stdin().lock()).map_err(|e| Fail::io("read the password from standard input", &e))?
        }
    };
    if line.is_empty() || line.len() > PASSWORD_BYTES_MAX {
        let message = format!("a password of {} bytes, from 1 to {PASSWORD_BYTES_MAX} are taken", line.len());
        return Err(Fail::new(message, "write it into the first line of --password-file, or of standard input"));
    }
    Ok(line)
}

/// Up to its end, which is not a part of it; of one that is too long no more than shows that.
fn first_line(from: impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(PASSWORD_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silent;

impl Silent {
    fn begin() -> Self {
        eprint!("Password: ");
        Self::stty("-echo");
        Self
    }

    /// Where there is no stty, what is typed is seen: that is no reason to refuse it.
    fn stty(arg: &str) {
        let _ = Command::new("stty").arg(arg).stdin(Stdio::inherit()).stderr(Stdio::null()).status();
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        Self::stty("echo");
        eprintln!();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line() {
        for (text, line) in [("a b\nc", "a b"), ("a\r\n", "a"), ("a", "a"), ("", ""), ("\nx", ""), (" a \n", " a ")] {
            assert_eq!(first_line(text.as_bytes()).expect("memory can be read"), line.as_bytes(), "{text:?}");
        }
        let long = "x".repeat(5_000);
        assert!(first_line(long.as_bytes()).expect("memory can be read").len() > PASSWORD_BYTES_MAX);
    }
}
