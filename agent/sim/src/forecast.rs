//! What would become of a channel ref if it were published: the shipped nodes play it in virtual time.
//!
//! The fleet that plays is a faithful copy of the one in the fleet document: the same hosts, tags, channels, policies,
//! waves, budgets, edges and coordinators. Only the keys are others, made of the seed, since nobody but the hosts has
//! theirs; the two documents are signed anew with them. Every host is up and runs something else than its target, all
//! know the fleet document, and nothing else is rolled out. A switch takes as long as it is told to, never waits for a
//! reboot, and the health check passes, unless the question is what happens when it does not.

mod play;
mod stand_in;
mod story;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use muster_core::document::Refusal;
use muster_core::document::plan::PlanError;
use muster_core::gate::{Blocked, Gate};
use muster_core::id::{Closure, FleetName, HostId, RolloutId};
use muster_core::rollout::Excuse;
use muster_core::wire::{HostState, RolloutState};
use serde::Serialize;

use play::Play;
use stand_in::StandIn;

/// What is asked of a forecast, beside the two documents.
#[derive(Debug, Clone)]
pub struct Options {
    /// When the ref is published.
    pub at: DateTime<Utc>,
    /// What everything is drawn from that is left to chance, such as who leads the coordinators.
    pub seed: u64,
    /// How long a switch takes.
    pub activation: Duration,
    /// Hosts whose health check fails once they run their target.
    pub fail: BTreeSet<HostId>,
    /// Hosts that are down all the time.
    pub offline: BTreeSet<HostId>,
    /// Whether the leading coordinator dies once the first wave has begun and it is not under way itself, and stays down.
    pub lose_coordinator: bool,
    /// Whether operators promote each wave that asks for it, at once.
    pub promote: bool,
    /// Virtual time after which it is given up.
    pub limit: Duration,
}

/// How far a forecast is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Virtual time since the ref was published.
    pub elapsed: Duration,
    /// Hosts that have come to their end.
    pub done: usize,
    /// Hosts that have a target.
    pub hosts: usize,
}

/// What would become of a channel ref.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// The fleet.
    pub fleet: FleetName,
    /// The rollout.
    pub rollout: RolloutId,
    /// When the ref is published.
    pub published_at: DateTime<Utc>,
    /// How it ends.
    pub end: End,
    /// When the last thing happens.
    pub ends_at: DateTime<Utc>,
    /// The coordinators that are up at first.
    pub coordinators: BTreeSet<HostId>,
    /// How many coordinators there are.
    pub coordinators_total: usize,
    /// How many of them have to agree.
    pub quorum: usize,
    /// The waves that have a target, in order.
    pub waves: Vec<WaveForecast>,
    /// The hosts that have a target, in the order of their waves.
    pub hosts: Vec<HostForecast>,
    /// What happens, in order.
    pub happenings: Vec<Happening>,
}

/// How a rollout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Every host is on its target, or excused.
    Terminal,
    /// Too many hosts failed, and went back.
    Reverted,
    /// Too many hosts failed.
    Failed,
    /// It does not move, and nothing but a person can change that.
    Held,
    /// It goes on for longer than was looked ahead.
    Unfinished,
}

/// One wave.
#[derive(Debug, Clone, Serialize)]
pub struct WaveForecast {
    /// Its number, from 0.
    pub wave: u32,
    /// How long each host soaks, in seconds.
    pub soak_secs: u64,
    /// How many hosts it has.
    pub hosts: usize,
    /// How many of them converge.
    pub converged: usize,
    /// How many of them fail.
    pub failed: usize,
    /// The most of them that are under way at once.
    pub at_once: usize,
    /// When the first of them is dispatched.
    pub began_at: Option<DateTime<Utc>>,
    /// When the last of them comes to its end.
    pub ended_at: Option<DateTime<Utc>>,
}

/// One host.
#[derive(Debug, Clone, Serialize)]
pub struct HostForecast {
    /// The host.
    pub host: HostId,
    /// Its wave, from 0.
    pub wave: u32,
    /// What it is to run.
    pub target: Closure,
    /// Where it ends; none: it is never dispatched.
    pub state: Option<HostState>,
    /// When it is dispatched.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// When it runs its target.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it has converged.
    pub converged_at: Option<DateTime<Utc>>,
    /// When it fails.
    pub failed_at: Option<DateTime<Utc>>,
    /// When it is back on what ran before.
    pub reverted_at: Option<DateTime<Utc>>,
    /// Why the rollout goes on without it.
    pub excused: Option<Excuse>,
    /// What holds it back at the end.
    pub held_by: Option<Held>,
}

/// What holds a host back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The gate; none: the coordinators.
    pub gate: Option<Gate>,
    /// Why, in its own words.
    pub reason: String,
}

/// Something that happens.
#[derive(Debug, Clone, Serialize)]
pub struct Happening {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The ref is handed to the fleet.
    Published,
    /// A coordinator leads the others.
    Leads {
        /// Which.
        host: HostId,
    },
    /// The leading coordinator dies.
    CoordinatorLost {
        /// Which.
        host: HostId,
    },
    /// A host is told to switch.
    Dispatched {
        /// Which.
        host: HostId,
        /// Its wave, from 0.
        wave: u32,
    },
    /// A host runs its target, and soaks.
    Activated {
        /// Which.
        host: HostId,
        /// Its wave, from 0.
        wave: u32,
    },
    /// A host has soaked, and is healthy.
    Converged {
        /// Which.
        host: HostId,
        /// Its wave, from 0.
        wave: u32,
    },
    /// A host fails.
    Failed {
        /// Which.
        host: HostId,
        /// Its wave, from 0.
        wave: u32,
        /// Why.
        because: String,
    },
    /// A host is back on what ran before.
    Reverted {
        /// Which.
        host: HostId,
        /// Its wave, from 0.
        wave: u32,
    },
    /// A wave is done, and the next one begins.
    WaveDone {
        /// The wave, from 0.
        wave: u32,
    },
    /// An operator promotes the next wave.
    Promoted {
        /// The wave that was waited at, from 0.
        wave: u32,
    },
    /// Nobody is under way until a gate opens.
    Waits {
        /// Why, in the gate's words.
        reason: String,
        /// Until when.
        until: DateTime<Utc>,
    },
    /// A closure is barred from the channel.
    Quarantined {
        /// Which.
        closure: Closure,
        /// The host on which it failed.
        host: HostId,
    },
    /// The rollout moves.
    Rollout {
        /// Where it stands now.
        state: RolloutState,
    },
}

/// Why there is no forecast.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    /// The fleet document breaks a rule.
    #[error("{0}")]
    Fleet(#[source] Refusal),
    /// The ref breaks a rule.
    #[error("{0}")]
    Ref(#[source] Refusal),
    /// The ref does not fit the fleet document.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A host is asked about that the fleet does not have.
    #[error("the fleet has no host {host}: it has {}", story::names(.known))]
    UnknownHost {
        /// The host.
        host: HostId,
        /// The hosts that there are.
        known: Vec<HostId>,
    },
    /// A host is to fail that the ref leaves alone.
    #[error("{host} cannot fail in {rollout}: the ref has targets for {}", story::names(.known))]
    NoTarget {
        /// The host.
        host: HostId,
        /// The rollout.
        rollout: RolloutId,
        /// The hosts that have a target.
        known: Vec<HostId>,
    },
    /// Too few coordinators are up.
    #[error(
        "nothing would move: {up} of {of} coordinators are up, {needed} have to agree; down: {}",
        story::names(.down)
    )]
    NoQuorum {
        /// How many are up.
        up: usize,
        /// How many there are.
        of: usize,
        /// How many have to agree.
        needed: usize,
        /// Those that are down.
        down: Vec<HostId>,
    },
    /// The nodes broke a rule of their own.
    #[error("this is a bug of muster, and worth a report with both documents and the seed: {0}")]
    Broken(String),
}

impl Forecast {
    /// Plays a channel ref on a copy of the fleet; `tell` hears now and then how far it is.
    ///
    /// # Errors
    ///
    /// If a document breaks a rule, or the options do not fit the documents.
    pub fn of(
        fleet: &[u8],
        channel_ref: &[u8],
        options: &Options,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Self, ForecastError> {
        Play::new(StandIn::make(fleet, channel_ref, options)?, options).run(tell)
    }
}

impl End {
    /// The end of a rollout in that state; none while it is open.
    fn of(state: RolloutState) -> Option<Self> {
        match state {
            RolloutState::Opening | RolloutState::Active | RolloutState::Converging => None,
            RolloutState::Terminal | RolloutState::Pruned => Some(Self::Terminal),
            RolloutState::Reverted => Some(Self::Reverted),
            RolloutState::Failed | RolloutState::Superseded => Some(Self::Failed),
        }
    }
}

impl From<&Blocked> for Held {
    fn from(blocked: &Blocked) -> Self {
        Self { gate: Some(blocked.gate), reason: blocked.reason.to_string() }
    }
}
