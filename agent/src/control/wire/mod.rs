//! What the control socket says: one struct per route, as it stands in JSON.
//!
//! Every body is an object with `"schema": 1`. Keys are snake_case, times are RFC 3339 in UTC, and what is absent is
//! `null`. A program that reads this ignores keys that it does not know: a newer agent may say more.

mod fleet;
mod hook;
mod plan;
mod record;
mod rollout;

#[cfg(test)]
pub(crate) mod fixtures;

pub use fleet::{
    ChannelStatus, FleetDocument, HostStatus, Id, Peer, Peers, Quorum, Status, StoreInfo, StoreTable,
    StoreVerified,
};
pub use hook::{DeadCall, HookDone, HookStatus};
pub use plan::{Channel, Plan, PlannedHost, PlannedWave, Released, Superseded};
pub use record::{
    BlockedGate, CommandEffect, DecisionId, DocumentInfo, DocumentReceipt, Event, EventKind, Events, Explain,
    LastReport, Quarantine, Quarantines, SignedDocument,
};
pub use rollout::{HostState, Moment, Rollout, RolloutHost, RolloutShow, RolloutState, Rollouts, Wave};

/// The version of every body's form.
pub const SCHEMA: u32 = 1;
