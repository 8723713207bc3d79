//! A rollout's plan: a pure function of its channel ref and the fleet document that the ref names.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use muster_signing::Digest;

use super::window::Window;
use crate::id::{ChannelId, ChannelRef, Closure, FleetName, HostId, RolloutId};
use crate::wire::HealthPolicy;

/// What a rollout will do, as the operators signed it; the same on every node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The fleet.
    pub fleet: FleetName,
    /// The rollout.
    pub rollout_id: RolloutId,
    /// Its channel.
    pub channel: ChannelId,
    /// Its ref.
    pub target_ref: ChannelRef,
    /// Orders the refs of a channel.
    pub order: RefOrder,
    /// SHA-256 of the channel ref's bytes.
    pub ref_hash: Digest,
    /// SHA-256 of the fleet document's bytes.
    pub fleet_hash: Digest,
    /// When the operators signed the ref.
    pub signed_at: DateTime<Utc>,
    /// Past this the ref counts no more.
    pub expires_at: Option<DateTime<Utc>>,
    /// How long after `signed_at` a dispatch may still be made, in minutes.
    pub freshness_window_minutes: u64,
    /// When dispatches may be made; empty: always.
    pub windows: Vec<Window>,
    /// The waves that have a target, in order.
    pub waves: Vec<Wave>,
    /// What each host is to run; exactly the hosts of the waves.
    pub targets: BTreeMap<HostId, Closure>,
    /// Hosts that wait for other hosts.
    pub edges: Vec<HostEdge>,
    /// The channels that this one waits for, with the operator's reason.
    pub waits_for: Vec<ChannelEdge>,
    /// How many hosts may be in flight at once.
    pub budgets: Vec<Budget>,
    /// Limits and reactions.
    pub policy: Policy,
    /// Opens the `wave` and `promotion` gates for closures that already converged on the host.
    pub urgent: bool,
}

/// The order of a channel's refs: a newer fleet document undoes whatever a stolen key did to the serials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefOrder {
    /// The serial of the fleet document that the ref names.
    pub fleet_serial: u64,
    /// The ref's own serial.
    pub serial: u64,
}

/// Hosts that are dispatched together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// Its hosts; never empty.
    pub hosts: BTreeSet<HostId>,
    /// How long each soaks after its activation, in seconds.
    pub soak_secs: u64,
    /// Whether a person opens the next wave.
    pub manual_promotion: bool,
}

/// What `gated` waits for: each host of `gates` first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEdge {
    /// The hosts that go first.
    pub gates: BTreeSet<HostId>,
    /// The hosts that wait.
    pub gated: BTreeSet<HostId>,
    /// The operator's reason.
    pub reason: String,
}

/// A channel that goes before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelEdge {
    /// The channel that goes first.
    pub gates: ChannelId,
    /// The operator's reason.
    pub reason: String,
}

/// A disruption budget with its hosts resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget {
    /// Its place in the fleet document, from 0.
    pub index: usize,
    /// Its hosts, of every channel.
    pub hosts: BTreeSet<HostId>,
    /// How many of them may be in flight at once; at least 1.
    pub limit: usize,
}

/// A rollout policy: limits and reactions, in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How many hosts may fail before the rollout does.
    pub max_failures: usize,
    /// What a host does when its health fails.
    pub on_health_failure: HealthPolicy,
    /// How long an enforced probe fails without a pass before its host does.
    pub sustained_failure_secs: u64,
    /// How long after its entry a dispatch may be acknowledged.
    pub dispatch_timeout_secs: u64,
    /// How long an activation may take.
    pub activation_timeout_secs: u64,
    /// How long a host may wait for its reboot.
    pub deferred_timeout_secs: u64,
    /// How long a host in flight may be silent before it counts as failed.
    pub lost_after_secs: u64,
    /// How long a host may take to hold its target.
    pub fetch_timeout_secs: u64,
    /// Whether Deferred hosts count as done although nobody of their wave has converged.
    pub deferred_advances: bool,
}

impl Plan {
    /// The wave that a host is in, from 0.
    pub fn wave_of(&self, host: &HostId) -> Option<u32> {
        let at = self.waves.iter().position(|wave| wave.hosts.contains(host))?;
        u32::try_from(at).ok()
    }

    /// A wave by its number.
    pub fn wave(&self, wave: u32) -> Option<&Wave> {
        self.waves.get(usize::try_from(wave).ok()?)
    }

    /// Every host that has a target.
    pub fn hosts(&self) -> impl Iterator<Item = &HostId> {
        self.targets.keys()
    }

    /// The budgets that a host belongs to.
    pub fn budgets_of<'a>(&'a self, host: &'a HostId) -> impl Iterator<Item = &'a Budget> {
        self.budgets.iter().filter(|budget| budget.hosts.contains(host))
    }
}
