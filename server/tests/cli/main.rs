//! The `millpond` command as a user meets it: help, mistakes, exit codes, pipes, and every command against a real server.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes, in real time")]

mod alone;
mod command;
#[path = "../native/node.rs"]
mod node;
mod served;
