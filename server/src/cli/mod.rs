//! The `millpond` command.
//!
//! One file per command, each with its arguments (clap) and its `run`. What they share: [`units`] sizes, rates and points in
//! a log as people type them · `fail` exit codes and messages · `out` standard output · `input` lines from files · `fields`
//! keys and times out of JSON · `progress` what people watch meanwhile.
//!
//! Results go to standard output, as text or, with `--json`, one JSON value a line; everything else goes to stderr.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the command is an application: it lives in tokio, with files and a clock of its own"
)]

mod bench;
mod certificate;
mod cluster;
mod consume;
mod dev_cluster;
mod doctor;
mod fail;
mod fields;
mod group;
mod input;
mod inspect;
mod node;
mod out;
mod pace;
mod password;
mod produce;
mod progress;
mod quota;
mod recover;
mod remote;
mod replay;
mod serve;
mod shell;
mod show;
mod source;
#[cfg(test)]
mod tests;
mod topic;
pub mod units;
mod user;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use fail::{EXIT_CODES, Fail, Result};
use millpond_bench::{BenchArgs, DemoArgs};
use out::Out;
use std::process::ExitCode;

/// Where a server listens if nobody says otherwise.
const SERVER: &str = "127.0.0.1:7400";

#[derive(Parser)]
#[command(
    name = "millpond",
    version,
    about = "A log of records that is kept safely and can be replayed",
    long_about = "A log of records that is kept safely and can be replayed.\n\n\
        Start a server with `millpond serve`; then, in another terminal:\n\n  \
        millpond topic create events\n  \
        echo hello | millpond produce events\n  \
        millpond consume events --from-beginning",
    after_help = EXIT_CODES,
    arg_required_else_help = true,
    max_term_width = 110
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args, Clone)]
#[command(next_help_heading = "Common options")]
struct Global {
    /// Any core of any node, as HOST:PORT; several with commas
    #[arg(long, short = 's', global = true, env = "MILLPOND_SERVER", hide_env_values = true, default_value = SERVER, value_name = "HOST:PORT", value_delimiter = ',')]
    server: Vec<String>,
    /// Connect by TLS: a PEM file with the authority that has signed the server's certificate
    #[arg(long, global = true, env = "MILLPOND_TLS_CA", hide_env_values = true, value_name = "FILE")]
    tls_ca: Option<std::path::PathBuf>,
    /// With --tls-ca, a certificate to show and its key, both PEM: that of a client, or of a node, who may do everything
    #[arg(long, global = true, env = "MILLPOND_TLS_IDENTITY", hide_env_values = true, value_name = "CERT,KEY", requires = "tls_ca")]
    tls_identity: Option<remote::Identity>,
    /// Log in as this user, by SCRAM; the password is that of MILLPOND_PASSWORD, or of --login-password-file, or is asked for
    #[arg(long, short = 'u', global = true, env = "MILLPOND_USERNAME", hide_env_values = true, value_name = "NAME")]
    username: Option<String>,
    /// With --username, a file whose first line is the password
    #[arg(long, global = true, env = "MILLPOND_PASSWORD_FILE", hide_env_values = true, value_name = "FILE", requires = "username")]
    login_password_file: Option<std::path::PathBuf>,
    /// Print results as JSON, one value a line; errors too
    #[arg(long, global = true)]
    json: bool,
    /// No progress, no summaries
    #[arg(long, short = 'q', global = true)]
    quiet: bool,
    /// Names this application, for quotas and metrics
    #[arg(long, global = true, env = "MILLPOND_CLIENT_ID", hide_env_values = true, default_value = "millpond-cli", value_name = "NAME")]
    client_id: String,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    #[command(subcommand)]
    Topic(topic::Topic),
    Produce(produce::Produce),
    Consume(consume::Consume),
    Replay(replay::Replay),
    #[command(subcommand)]
    Group(group::Group),
    #[command(subcommand)]
    Quota(quota::Quota),
    #[command(subcommand)]
    User(user::User),
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    #[command(subcommand)]
    Node(node::Node),
    DevCluster(dev_cluster::DevCluster),
    #[command(subcommand)]
    Certificate(certificate::Certificate),
    Doctor(doctor::Doctor),
    Inspect(inspect::Inspect),
    Bench(BenchArgs),
    Demo(DemoArgs),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(e) => return refused(&e),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(e) => return refused(&e),
    };
    let json = cli.global.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fail) => {
            fail.report(json);
            fail.code()
        }
    }
}

fn run(cli: Cli) -> Result {
    let global = cli.global;
    let mut out = Out::new(global.json, global.quiet);
    match cli.command {
        Command::Topic(args) => wait(args.run(&global, &mut out))?,
        Command::Group(args) => wait(args.run(&global, &mut out))?,
        Command::Quota(args) => wait(args.run(&global, &mut out))?,
        Command::User(args) => wait(args.run(&global, &mut out))?,
        Command::Cluster(args) => wait(args.run(&global, &mut out))?,
        Command::Node(args) => wait(args.run(&global, &mut out))?,
        Command::DevCluster(args) => wait(args.run(&mut out))?,
        Command::Serve(args) => {
            let settings = args.settings()?;
            wait(settings.run(&mut out))?;
        }
        Command::Produce(args) => wait(args.run(&global, &mut out))?,
        Command::Consume(args) => wait(args.run(&global, &mut out))?,
        Command::Replay(args) => wait(args.run(&global, &mut out))?,
        Command::Certificate(args) => args.run(&mut out)?,
        Command::Doctor(args) => args.run(&mut out)?,
        Command::Inspect(args) => args.run(&mut out)?,
        Command::Bench(args) => bench::bench(&args, &global)?,
        Command::Demo(args) => bench::demo(&args, &global)?,
        Command::Completions(args) => args.run(&mut out)?,
        Command::Man(args) => args.run(&mut out)?,
    }
    out.flush()
}

/// Runs a command that talks to a server.
fn wait(command: impl Future<Output = Result>) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Fail::io("start the command", &e))?;
    let done = runtime.block_on(command);
    // A thread that waits for standard input would keep us here.
    runtime.shutdown_background();
    done
}

/// Help and versions go to standard output and are no failure; the rest is a mistake in the command line.
fn refused(error: &clap::Error) -> ExitCode {
    // Whoever asked may have gone: `millpond --help | head`.
    let _ = error.print();
    ExitCode::from(error.exit_code() as u8)
}
