//! `millpond user`: who may log in. What is kept of a password is derived here; the password itself goes nowhere.

use super::{
    Global,
    fail::{Fail, Result},
    out::Out,
    password,
    remote::Remote,
};
use crate::security::{Credential, ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, Mechanism};
use clap::{Args, Subcommand, ValueEnum};
use millpond_wire::messages::{AlterUser, UserCredential, UserInfo};
use serde_json::json;
use std::{num::NonZeroU32, path::PathBuf};

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
        let password = password::read(self.password_file.as_deref(), "--password-file", "Password: ")?;
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
        let user = AlterUser { name: self.name.clone(), keep: keep.collect(), ..AlterUser::default() };
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
        remote.alter_user(AlterUser { name: user.name, forget, ..AlterUser::default() }).await?;
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
