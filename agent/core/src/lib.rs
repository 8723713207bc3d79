//! Everything that decides; no I/O, no clock, no randomness.

pub mod coordination;
pub mod time;
