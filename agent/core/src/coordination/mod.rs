//! Who decides when, and how everybody can check it.

pub mod log;
