//! The gates.
