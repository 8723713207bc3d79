//! Hooks: what a program or a web server is to be called for, in which order, and for how long it is tried.
//!
//! An [`Occurrence`] follows from something that was learnt for good, a host's signed event or a certified decision, so
//! every host comes to the same one under the same id; only of its own quorum a host speaks for itself. A [`Line`] is
//! the queue of one hook: what it wants goes in, one at a time is due, and what was tried too often is put aside. It is
//! written to the store before and after each try, so that a crash repeats a call and loses none.

mod line;
mod occurrence;
mod watch;

#[cfg(test)]
mod tests;

pub use line::{Attempt, DEAD_MAX, Dead, Due, Failing, Line, PENDING_MAX, Policy};
pub use occurrence::{Event, Occurrence, REASON_BYTES_MAX, Records, UnknownEvent, of_decision, of_envelope};
pub use watch::{QuorumWatch, quorum_changed};
