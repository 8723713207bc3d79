//! What the end-to-end tests are made of: the real program, fleets of it on loopback, and waiting with a deadline.
//!
//! A [`Fleet`] is a folder with everything that its hosts have in the real world: keys, configurations, releases to
//! switch to, and one `muster agent` process each. Tests do to it what an operator does, through the real command
//! line, and look at it through the control sockets and at what the releases' own programs wrote down. Nothing sleeps
//! for a fixed time: whatever has to come is waited for, and when it does not come every agent's last words are shown.

use std::io::Write as _;

mod agent;
mod binary;
mod browser;
mod cli;
mod control;
mod fleet;
mod keys;
pub mod machine;
mod permit;
mod receiver;
mod release;
pub mod uml;
mod wait;

pub use agent::Agent;
pub use binary::muster_binary;
pub use browser::Browser;
pub use cli::{Following, Muster, Ran};
pub use control::{Answer, Control, request, request_tcp};
pub use fleet::{Builder, Fleet};
pub use keys::{Operator, fresh_key, write_key};
pub use permit::Permit;
pub use receiver::{Posted, Receiver};
pub use release::{Activation, Health, Release, Run};
pub use wait::{poll, wait_for};

/// Writes a line to the terminal, past the test runner, which hides what a passing test prints.
pub fn note(line: &str) {
    // A closed terminal is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether a program that a test would like to have is installed; with `MUSTER_TEST_REQUIRE=all` it must be.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let required = std::env::var("MUSTER_TEST_REQUIRE").is_ok_and(|value| value == "all");
    assert!(found || !required, "{name} is not installed, and MUSTER_TEST_REQUIRE=all wants it");
    if !found {
        note(&format!("skipped what needs {name}: it is not installed"));
    }
    found
}
