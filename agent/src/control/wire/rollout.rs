//! Rollouts: `/v1/rollouts`, `/v1/rollouts/{id}`.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

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
    /// Whether hosts are still to be dispatched in it.
    pub fn is_open(self) -> bool {
        match self {
            Self::Opening | Self::Active | Self::Converging | Self::Unknown => true,
            Self::Terminal | Self::Reverted | Self::Failed | Self::Superseded | Self::Pruned => false,
        }
    }
}

impl fmt::Display for RolloutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Opening => "Opening",
            Self::Active => "Active",
            Self::Converging => "Converging",
            Self::Terminal => "Terminal",
            Self::Reverted => "Reverted",
            Self::Failed => "Failed",
            Self::Superseded => "Superseded",
            Self::Pruned => "Pruned",
            Self::Unknown => "Unknown",
        })
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

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "Pending",
            Self::Activating => "Activating",
            Self::Deferred => "Deferred",
            Self::Soaking => "Soaking",
            Self::Converged => "Converged",
            Self::Failed => "Failed",
            Self::Reverted => "Reverted",
            Self::Unknown => "Unknown",
        })
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

/// `GET /v1/rollouts/{id}`: all about one rollout.
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
