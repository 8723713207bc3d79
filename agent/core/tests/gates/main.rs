//! What lets a dispatch through and what does not: the gates, the approval of coordinators, the planner, the ledger
//! under them, and a host's own last word.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod approving;
mod budgets;
mod edges;
mod explaining;
mod fetching;
mod history;
mod kit;
mod listening;
mod own_host;
mod planning;
mod previewing;
mod retention;
mod snapshots;
mod verbs;
mod waves;
