//! `longshore` as its users run it: processes, files and requests.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod bad_input;
mod changes;
mod crashes;
mod failures;
mod first_command;
mod harness;
mod pull;
mod remote;
mod second_router;
mod verify;
