//! One test per rule, on members that the test steps by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod elections;
mod group;
mod groups;
mod hostile;
mod logs;
