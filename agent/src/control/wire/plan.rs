//! What is asked before something is published: `/v1/plan`, `/v1/channels/{channel}`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{BlockedGate, HostState, Quorum, RolloutState};

/// `POST /v1/plan`: what publishing a channel ref would do now. It takes the form of `POST /v1/documents`, with signatures
/// or without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The form's version.
    pub schema: u32,
    /// The fleet.
    pub fleet: String,
    /// The rollout that would open, or go on: `channel@ref`.
    pub rollout: String,
    /// When this was so.
    pub at: DateTime<Utc>,
    /// Whether that rollout is there already, so that the ref only refreshes it.
    pub refreshes: bool,
    /// The open rollouts whose place it would take.
    pub supersedes: Vec<Superseded>,
    /// How many operators have signed the ref.
    pub signed: u32,
    /// How many have to.
    pub needed: u32,
    /// Whether decisions can be made.
    pub quorum: Quorum,
    /// The waves, in order.
    pub waves: Vec<PlannedWave>,
    /// Hosts of the channel that the ref has no target for.
    pub left_out: Vec<String>,
}

/// A rollout whose place would be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// `channel@ref`.
    pub id: String,
    /// Where it stands.
    pub state: RolloutState,
}

/// A wave as it would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWave {
    /// Its place, counted from 0.
    pub wave: u32,
    /// How long its hosts soak, in seconds.
    pub soak_secs: u64,
    /// Whether a person opens the next wave.
    pub manual_promotion: bool,
    /// Its hosts, by name.
    pub hosts: Vec<PlannedHost>,
}

/// A host as it would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedHost {
    /// The host.
    pub host: String,
    /// What it would run.
    pub target: String,
    /// What it says it runs.
    pub current: Option<String>,
    /// Whether that is its target already: its health is proven, and nothing is switched.
    pub on_target: bool,
    /// Whether it has been heard of lately; absent if this agent has not listened for long enough to tell.
    pub online: Option<bool>,
    /// Its state in the rollout, if the ref refreshes one that it is part of.
    pub state: Option<HostState>,
    /// Whether it would be dispatched at once.
    pub first: bool,
    /// Every gate that would hold it back.
    pub gates: Vec<BlockedGate>,
}

/// `GET /v1/channels/{channel}`: what was released on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// The form's version.
    pub schema: u32,
    /// The channel.
    pub channel: String,
    /// Its refs that are held, the newest first.
    pub refs: Vec<Released>,
}

/// A ref of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// What was released.
    pub r#ref: String,
    /// Its serial.
    pub serial: u64,
    /// The serial of the fleet document that it names.
    pub fleet_serial: u64,
    /// When operators signed it.
    pub signed_at: DateTime<Utc>,
    /// Where its rollout stands; absent if none was opened.
    pub state: Option<RolloutState>,
    /// What each host was to run.
    pub targets: BTreeMap<String, String>,
}
