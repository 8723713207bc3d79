//! Documents as operators write them: golden files, every rule broken once, and what is accepted after what.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "documents/accepting.rs"]
mod accepting;
#[path = "documents/fleet_rules.rs"]
mod fleet_rules;
#[path = "documents/golden.rs"]
mod golden;
#[path = "documents/kit.rs"]
mod kit;
#[path = "documents/other_rules.rs"]
mod other_rules;
#[path = "documents/plans.rs"]
mod plans;
#[path = "documents/properties.rs"]
mod properties;
