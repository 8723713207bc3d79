//! The one test binary: the rules of the house, and fleets of real processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fleets;
mod house;
