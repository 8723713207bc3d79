//! Rollouts: `/v1/rollouts`, `/v1/rollouts/{id}`.

use std::fmt;

use chrono::{DateTime, Utc};
use muster_core::wire as core;
use serde::{Deserialize, Serialize};

/// What a state is called that a newer agent knows.
const UNKNOWN: &str = "Unknown";

/// The state of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutState {
    /// Accepted; nobody is dispatched yet.
    Opening,
    /// A wave is under way.
    Active,
    /// Every wave is done; what is left is to close.
    Converging,
    /// Every host is on its target or excused.
    Terminal,
    /// Too many hosts failed, and went back.
    Reverted,
    /// Too many hosts failed, or an operator cancelled it.
    Failed,
    /// A newer ref took its place.
    Superseded,
    /// Old enough to be forgotten.
    Pruned,
    /// A state that a newer agent knows.
    #[serde(other)]
    Unknown,
}

impl RolloutState {
    /// The state as the core knows it; none for one that a newer agent knows.
    fn known(self) -> Option<core::RolloutState> {
        Some(match self {
            Self::Opening => core::RolloutState::Opening,
            Self::Active => core::RolloutState::Active,
            Self::Converging => core::RolloutState::Converging,
            Self::Terminal => core::RolloutState::Terminal,
            Self::Reverted => core::RolloutState::Reverted,
            Self::Failed => core::RolloutState::Failed,
            Self::Superseded => core::RolloutState::Superseded,
            Self::Pruned => core::RolloutState::Pruned,
            Self::Unknown => return None,
        })
    }

    /// Whether hosts are still to be dispatched in it.
    pub fn is_open(self) -> bool {
        self.known().is_none_or(core::RolloutState::is_open)
    }
}

impl From<core::RolloutState> for RolloutState {
    fn from(state: core::RolloutState) -> Self {
        match state {
            core::RolloutState::Opening => Self::Opening,
            core::RolloutState::Active => Self::Active,
            core::RolloutState::Converging => Self::Converging,
            core::RolloutState::Terminal => Self::Terminal,
            core::RolloutState::Reverted => Self::Reverted,
            core::RolloutState::Failed => Self::Failed,
            core::RolloutState::Superseded => Self::Superseded,
            core::RolloutState::Pruned => Self::Pruned,
        }
    }
}

impl fmt::Display for RolloutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.known().map_or(UNKNOWN, core::RolloutState::name))
    }
}

/// The state of a host in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostState {
    /// Not dispatched, or dispatched and not acknowledged.
    Pending,
    /// The switch is owed or under way.
    Activating,
    /// The target is set for the next boot.
    Deferred,
    /// On the target, being probed.
    Soaking,
    /// Soaked and healthy on the target.
    Converged,
    /// The switch or the health failed.
    Failed,
    /// Back on what ran before.
    Reverted,
    /// A state that a newer agent knows.
    #[serde(other)]
    Unknown,
}

impl HostState {
    /// The state as the core knows it; none for one that a newer agent knows.
    fn known(self) -> Option<core::HostState> {
        Some(match self {
            Self::Pending => core::HostState::Pending,
            Self::Activating => core::HostState::Activating,
            Self::Deferred => core::HostState::Deferred,
            Self::Soaking => core::HostState::Soaking,
            Self::Converged => core::HostState::Converged,
            Self::Failed => core::HostState::Failed,
            Self::Reverted => core::HostState::Reverted,
            Self::Unknown => return None,
        })
    }
}

impl From<core::HostState> for HostState {
    fn from(state: core::HostState) -> Self {
        match state {
            core::HostState::Pending => Self::Pending,
            core::HostState::Activating => Self::Activating,
            core::HostState::Deferred => Self::Deferred,
            core::HostState::Soaking => Self::Soaking,
            core::HostState::Converged => Self::Converged,
            core::HostState::Failed => Self::Failed,
            core::HostState::Reverted => Self::Reverted,
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.known().map_or(UNKNOWN, core::HostState::name))
    }
}

/// `GET /v1/rollouts`: the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollouts {
    /// The form's version.
    pub schema: u32,
    /// The rollouts that are still remembered.
    pub rollouts: Vec<Rollout>,
}

/// One rollout in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// `channel@ref`.
    pub id: String,
    /// The channel.
    pub channel: String,
    /// What is rolled out.
    pub r#ref: String,
    /// Its state.
    pub state: RolloutState,
    /// The wave under way, counted from 0.
    pub wave: u32,
    /// How many waves it has.
    pub waves: u32,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How many hosts it is for.
    pub hosts_total: u32,
    /// How many of them have converged.
    pub hosts_converged: u32,
    /// How many of them failed or went back.
    pub hosts_failed: u32,
}

/// `GET /v1/rollouts/{id}`: all about one rollout; with `?timeline=0` without what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutShow {
    /// The form's version.
    pub schema: u32,
    /// The rollout in a line.
    pub rollout: Rollout,
    /// Its waves in their order.
    pub waves: Vec<Wave>,
    /// Its hosts, by wave and name.
    pub hosts: Vec<RolloutHost>,
    /// What happened, oldest first.
    pub timeline: Vec<Moment>,
}

/// A wave of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Its place, counted from 0.
    pub wave: u32,
    /// How long its hosts soak, in seconds.
    pub soak_secs: u64,
    /// Whether a person opens the next wave.
    #[serde(default)]
    pub manual_promotion: bool,
    /// Whether a person did.
    #[serde(default)]
    pub promoted: bool,
    /// Its hosts.
    pub hosts: Vec<String>,
}

/// A host of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutHost {
    /// The host.
    pub host: String,
    /// Its wave, counted from 0.
    pub wave: u32,
    /// Its state; absent before it is dispatched.
    pub state: Option<HostState>,
    /// Why nobody waits for it any more.
    pub excused: Option<String>,
    /// The closure that it is to run.
    pub target: String,
    /// When the coordinators decided that it is its turn.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// When it took the dispatch.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// When the switch was done.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it had soaked and was healthy.
    pub converged_at: Option<DateTime<Utc>>,
    /// When the switch or the health failed.
    pub failed_at: Option<DateTime<Utc>>,
    /// When it was back on what ran before.
    pub reverted_at: Option<DateTime<Utc>>,
}

/// One line of a rollout's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: DateTime<Utc>,
    /// What happened.
    pub what: String,
    /// Because of what, or of whom.
    pub cause: Option<String>,
    /// The host that it is about.
    #[serde(default)]
    pub host: Option<String>,
    /// Whose signatures under it hold: operators, coordinators, or the host itself.
    #[serde(default)]
    pub signers: Vec<String>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn every_state_is_called_what_the_core_calls_it_also_in_json() {
        for state in core::RolloutState::ALL {
            let shown = RolloutState::from(state);
            assert_eq!(shown.known(), Some(state));
            assert_eq!(serde_json::to_value(shown).unwrap(), state.name());
        }
        for state in core::HostState::ALL {
            let shown = HostState::from(state);
            assert_eq!(shown.known(), Some(state));
            assert_eq!(serde_json::to_value(shown).unwrap(), state.name());
        }
    }
}
