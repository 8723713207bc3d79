//! What the end-to-end tests are made of: the real program, fleets of it on loopback, and waiting with a deadline.

use std::io::Write as _;

/// Writes a line to the terminal, past the test runner, which hides what a passing test prints.
pub fn note(line: &str) {
    // A closed terminal is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{line}");
}
