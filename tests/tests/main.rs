//! The one test binary: the rules of the house, fleets of real processes, and machines with their own systemd and Nix.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fleets;
mod house;
mod nixos;
