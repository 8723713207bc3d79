//! Whole nodes over loopback.
