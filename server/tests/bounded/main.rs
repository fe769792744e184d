//! Bounded: whatever clients and disks do to a real server, its memory stays within its budget, others are served,
//! errors say what is wrong, and nothing acknowledged is lost.
//!
//! Each test starts a server of its own with a small `--memory`, fills its caches, treats it badly, has an honest client write
//! and read meanwhile, and then asks the system for the largest memory that the process ever had. The bound is the
//! budget and what the process takes before it serves anybody (its program, its rings, its threads' stacks), which is
//! measured after the start; nothing else.
//!
//! [`node`] the server · [`wire`] a client that does as it is told, and crowds of them · [`honest`] the client that must be served ·
//! and one module per way to be bad.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes, in real time")]

mod bombs;
mod disk;
mod frames;
mod honest;
mod idle;
mod kafka;
mod node;
mod slow;
mod waits;
mod wire;
