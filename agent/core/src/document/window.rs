//! Maintenance windows.

/// A maintenance window of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {}
