//! The host reducer.
