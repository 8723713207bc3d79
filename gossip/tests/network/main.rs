//! Whole nodes over loopback, each with its store in memory; what happens is awaited, never slept for.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one kind of event")]

mod admission;
mod connections;
mod host;
mod mesh;
mod pull;
mod store;
mod versions;
