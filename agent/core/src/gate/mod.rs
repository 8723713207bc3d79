//! The gates: may this host be dispatched now, and if not, why.
//!
//! Each gate is one pure function in a file of its own. The planner, the approval of every coordinator,
//! `muster explain`, `muster plan` and the simulator ask the very same ones.

mod budget;
mod busy;
mod channel_edges;
mod enforce_probes;
mod fetched;
mod freshness;
mod host_edges;
mod online;
mod paused;
mod promotion;
mod quarantine;
mod signatures;
mod wave;
mod way_out;
mod window;

use std::fmt;

use chrono::{DateTime, Utc};
use muster_signing::Digest;
use serde::{Deserialize, Serialize};

use crate::document::{Plan, Scope};
use crate::id::{ChannelId, HostId, ProbeName, RolloutId};
use crate::view::View;
use crate::wire::{DecisionId, HostState};

pub use wave::{WaveState, wave_state};
use way_out::{ends, list};

/// The gates, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// An operator's pause.
    Paused,
    /// The operators' signatures on the ref.
    Signatures,
    /// A quarantine of the closure.
    Quarantine,
    /// The age of the ref.
    Freshness,
    /// The channel's maintenance windows.
    Window,
    /// Channels that go first.
    ChannelEdges,
    /// The waves before.
    Wave,
    /// A person's promotion.
    Promotion,
    /// Hosts that go first.
    HostEdges,
    /// Disruption budgets.
    Budget,
    /// Probes of earlier waves.
    EnforceProbes,
    /// Whether the host holds its target already.
    Fetched,
    /// Whether the host can be reached.
    Online,
    /// Another rollout of the host.
    Busy,
}

type Admit = fn(&View<'_>, &Plan, &HostId, DateTime<Utc>) -> Result<(), Blocked>;

/// Every gate, in the order in which they are asked.
pub const GATES: [(Gate, Admit); 14] = [
    (Gate::Paused, paused::admit),
    (Gate::Signatures, signatures::admit),
    (Gate::Quarantine, quarantine::admit),
    (Gate::Freshness, freshness::admit),
    (Gate::Window, window::admit),
    (Gate::ChannelEdges, channel_edges::admit),
    (Gate::Wave, wave::admit),
    (Gate::Promotion, promotion::admit),
    (Gate::HostEdges, host_edges::admit),
    (Gate::Budget, budget::admit),
    (Gate::EnforceProbes, enforce_probes::admit),
    (Gate::Fetched, fetched::admit),
    (Gate::Online, online::admit),
    (Gate::Busy, busy::admit),
];

impl Gate {
    /// The gate's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Signatures => "signatures",
            Self::Quarantine => "quarantine",
            Self::Freshness => "freshness",
            Self::Window => "window",
            Self::ChannelEdges => "channel_edges",
            Self::Wave => "wave",
            Self::Promotion => "promotion",
            Self::HostEdges => "host_edges",
            Self::Budget => "budget",
            Self::EnforceProbes => "enforce_probes",
            Self::Fetched => "fetched",
            Self::Online => "online",
            Self::Busy => "busy",
        }
    }
}

/// A gate that holds a host back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Which gate.
    pub gate: Gate,
    /// Why, with whom or what it waits for.
    pub reason: Reason,
    /// The earliest time at which it can open, if that is known.
    pub opens_at: Option<DateTime<Utc>>,
}

impl Blocked {
    fn by(gate: Gate, reason: Reason) -> Self {
        Self { gate, reason, opens_at: None }
    }

    fn until(gate: Gate, reason: Reason, opens_at: Option<DateTime<Utc>>) -> Self {
        Self { gate, reason, opens_at }
    }

    /// Whether this is evidence against the dispatch, rather than evidence that is not here yet.
    pub fn is_against(&self) -> bool {
        match self.reason {
            Reason::Paused { .. }
            | Reason::Unsigned { .. }
            | Reason::FleetExpired { .. }
            | Reason::OffChannel { .. }
            | Reason::Quarantined { .. }
            | Reason::Suspect { .. }
            | Reason::Stale { .. }
            | Reason::Expired { .. }
            | Reason::TooManyFailures { .. } => true,
            Reason::WindowClosed
            | Reason::ChannelFirst { .. }
            | Reason::WaveNotDone { .. }
            | Reason::WaveUnreachable { .. }
            | Reason::NoConvergence { .. }
            | Reason::NotInPlan
            | Reason::NeedsPromotion { .. }
            | Reason::HostFirst { .. }
            | Reason::BudgetFull { .. }
            | Reason::ProbeFails { .. }
            | Reason::NotFetched { .. }
            | Reason::NeverFetched { .. }
            | Reason::Offline
            | Reason::Forked
            | Reason::NotHeardYet
            | Reason::InFlight { .. } => false,
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.gate.name(), self.reason)
    }
}

/// Why a gate holds a host back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// An operator's pause covers it.
    #[error("{scope} is paused by an operator: {reason}")]
    Paused {
        /// What it covers.
        scope: Scope,
        /// The operator's reason.
        reason: String,
        /// The pause.
        command: Digest,
    },
    /// Too few of the present operators signed the ref.
    #[error("the present operators do not sign this ref by their threshold; sign it anew")]
    Unsigned {
        /// The ref.
        rollout: RolloutId,
    },
    /// The newest fleet document has expired.
    #[error("the newest fleet document expired at {at}; sign a newer one")]
    FleetExpired {
        /// When.
        at: DateTime<Utc>,
    },
    /// The newest fleet document does not have the host on this channel.
    #[error("the newest fleet document does not have the host on channel {channel}")]
    OffChannel {
        /// The rollout's channel.
        channel: ChannelId,
    },
    /// A certified quarantine.
    #[error(
        "the closure is quarantined on {channel}: it failed on {host}; release a mended one, or clear it"
    )]
    Quarantined {
        /// The channel.
        channel: ChannelId,
        /// The host on which it failed.
        host: HostId,
        /// The decision, by which an operator can lift it.
        decision: DecisionId,
    },
    /// This node holds evidence that the closure is bad, not certified yet.
    #[error("{host} went back from this closure in {rollout}")]
    Suspect {
        /// The host.
        host: HostId,
        /// The rollout.
        rollout: RolloutId,
    },
    /// The ref is older than the channel's freshness window.
    #[error("the ref was signed more than {minutes} minutes ago; refresh it by signing it anew")]
    Stale {
        /// The window.
        minutes: u64,
    },
    /// The ref has expired.
    #[error("the ref expired at {at}")]
    Expired {
        /// When.
        at: DateTime<Utc>,
    },
    /// No maintenance window is open.
    #[error("no maintenance window is open")]
    WindowClosed,
    /// Another channel goes first.
    #[error("channel {channel} goes first ({reason}): {rollout} is {state}")]
    ChannelFirst {
        /// The channel.
        channel: ChannelId,
        /// Its rollout.
        rollout: RolloutId,
        /// That rollout's state.
        state: &'static str,
        /// The operator's reason.
        reason: String,
    },
    /// An earlier wave is not done.
    #[error("wave {wave} is not done: waits for {}", list(hosts))]
    WaveNotDone {
        /// The wave, from 1 as people count.
        wave: u32,
        /// The hosts that it waits for.
        hosts: Vec<HostId>,
    },
    /// An earlier wave had nobody who could be reached: an empty canary proves nothing.
    #[error("no host of wave {wave} can be reached: {}", list(hosts))]
    WaveUnreachable {
        /// The wave, from 1 as people count.
        wave: u32,
        /// Its hosts.
        hosts: Vec<HostId>,
    },
    /// Nobody of an earlier wave has converged.
    #[error("no host of wave {wave} has converged")]
    NoConvergence {
        /// The wave, from 1 as people count.
        wave: u32,
    },
    /// More hosts failed than the policy allows.
    #[error("{failed} {} failed, {allowed} may", if *failed == 1 { "host" } else { "hosts" })]
    TooManyFailures {
        /// How many failed.
        failed: usize,
        /// How many may.
        allowed: usize,
    },
    /// The ref has no target for the host, or no wave selects it.
    #[error("the ref has no target for the host")]
    NotInPlan,
    /// A person has to open the next wave.
    #[error("wave {wave} waits for an operator's promotion")]
    NeedsPromotion {
        /// The wave, from 1 as people count.
        wave: u32,
    },
    /// Another host goes first.
    #[error("{host} goes first ({reason})")]
    HostFirst {
        /// The host.
        host: HostId,
        /// The operator's reason.
        reason: String,
    },
    /// A disruption budget is full.
    #[error("budget {budget} is full: {} of {limit} in flight ({})", in_flight.len(), list(in_flight))]
    BudgetFull {
        /// The budget's place in the fleet document, from 1 as people count.
        budget: usize,
        /// Its limit.
        limit: usize,
        /// Who holds its slots.
        in_flight: Vec<HostId>,
    },
    /// A host of an earlier wave has an enforced probe failing now.
    #[error("{host} of an earlier wave fails its probe {probe}")]
    ProbeFails {
        /// The host.
        host: HostId,
        /// The probe.
        probe: ProbeName,
    },
    /// The host does not hold its target yet.
    #[error("the host has not fetched its target yet{}", ends(*counts_as_failed_at))]
    NotFetched {
        /// When it counts as failed, if nothing changes; unknown while its turn has not come or it cannot be reached.
        counts_as_failed_at: Option<DateTime<Utc>>,
    },
    /// The host did not come to hold its target in the policy's time, and counts as failed.
    #[error("the host counts as failed: it has not fetched its target within {secs} s")]
    NeverFetched {
        /// The policy's time.
        secs: u64,
    },
    /// The host cannot be reached.
    #[error("the host has not been heard of for three heartbeats; it is dispatched when it returns")]
    Offline,
    /// The host signed two histories.
    #[error("the host signed two histories; give it another key, or take it out of the fleet")]
    Forked,
    /// This node has only just begun to listen.
    #[error("this agent has not heard of the host since it started")]
    NotHeardYet,
    /// The host is under way in another rollout.
    #[error("the host is {} in {rollout}", state.name())]
    InFlight {
        /// The other rollout.
        rollout: RolloutId,
        /// What it is there.
        state: HostState,
    },
}

/// Asks every gate in order; the first that holds the host back answers.
pub fn admit(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    GATES.iter().try_for_each(|(_, gate)| gate(view, plan, host, now))
}

/// Every gate that holds the host back, in order.
pub fn all_blocked(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Vec<Blocked> {
    GATES.iter().filter_map(|(_, gate)| gate(view, plan, host, now).err()).collect()
}
