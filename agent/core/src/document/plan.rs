//! A rollout's plan: a pure function of its channel ref and the fleet document that the ref names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use muster_signing::Digest;

use super::channel_ref::{ChannelRefDocument, ChannelRefError};
use super::fleet::{Fleet, RolloutPolicy};
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

impl fmt::Display for RefOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.fleet_serial, self.serial)
    }
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

/// Why two documents make no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The ref names another fleet document.
    #[error("the ref names fleet document {named}, not {given}")]
    OtherFleetDocument {
        /// The one that it names.
        named: Digest,
        /// The one given.
        given: Digest,
    },
    /// The ref breaks a rule.
    #[error(transparent)]
    ChannelRef(#[from] ChannelRefError),
    /// The ref's channel has no policy.
    #[error("channel {0} has no rollout policy")]
    NoPolicy(ChannelId),
    /// No wave selects a target.
    #[error("no wave of channel {channel} selects {host}")]
    NoWave {
        /// The channel.
        channel: ChannelId,
        /// The host.
        host: HostId,
    },
}

/// Works out what a rollout will do; a pure function, so that everybody computes the same.
pub fn resolve(
    fleet: &Fleet,
    fleet_hash: Digest,
    channel_ref: &ChannelRefDocument,
    ref_hash: Digest,
) -> Result<Plan, PlanError> {
    if channel_ref.fleet_hash != fleet_hash {
        return Err(PlanError::OtherFleetDocument { named: channel_ref.fleet_hash, given: fleet_hash });
    }
    channel_ref.check(fleet)?;
    let id = &channel_ref.channel;
    let no_policy = || PlanError::NoPolicy(id.clone());
    let channel = fleet.channels.get(id).ok_or_else(no_policy)?;
    let rules = fleet.policies.get(&channel.policy).ok_or_else(no_policy)?;
    Ok(Plan {
        fleet: fleet.name.clone(),
        rollout_id: channel_ref.rollout_id(),
        channel: id.clone(),
        target_ref: channel_ref.target_ref.clone(),
        order: channel_ref.order(),
        ref_hash,
        fleet_hash,
        signed_at: channel_ref.signed_at,
        expires_at: channel_ref.expires_at,
        freshness_window_minutes: channel.freshness_window_minutes,
        windows: channel.windows.clone(),
        waves: waves(fleet, rules, channel_ref)?,
        targets: channel_ref.targets.clone(),
        edges: edges(fleet, &channel_ref.targets),
        waits_for: waits_for(fleet, id),
        budgets: fleet.resolved_budgets().to_vec(),
        policy: rules.policy.clone(),
        urgent: channel_ref.urgent,
    })
}

/// A fleet document's disruption budgets with their hosts resolved; those that select nobody are left out.
pub(super) fn budgets(fleet: &Fleet) -> Vec<Budget> {
    let budgets = fleet.budgets.iter().enumerate().map(|(index, rule)| {
        let hosts = rule.selector.resolve(fleet);
        Budget { index, limit: rule.limit(hosts.len()), hosts }
    });
    budgets.filter(|budget| !budget.hosts.is_empty()).collect()
}

fn waves(
    fleet: &Fleet,
    rules: &RolloutPolicy,
    channel_ref: &ChannelRefDocument,
) -> Result<Vec<Wave>, PlanError> {
    let mut waves: Vec<Wave> = rules
        .waves
        .iter()
        .map(|rule| Wave {
            hosts: BTreeSet::new(),
            soak_secs: rule.soak_secs,
            manual_promotion: rule.manual_promotion,
        })
        .collect();
    for host in channel_ref.targets.keys() {
        let wave = fleet.wave_of(host).and_then(|wave| waves.get_mut(wave));
        let no_wave = || PlanError::NoWave { channel: channel_ref.channel.clone(), host: host.clone() };
        wave.ok_or_else(no_wave)?.hosts.insert(host.clone());
    }
    waves.retain(|wave| !wave.hosts.is_empty());
    Ok(waves)
}

fn edges(fleet: &Fleet, targets: &BTreeMap<HostId, Closure>) -> Vec<HostEdge> {
    let with_target = |hosts: BTreeSet<HostId>| -> BTreeSet<HostId> {
        hosts.into_iter().filter(|host| targets.contains_key(host)).collect()
    };
    let edges = fleet.edges.iter().map(|rule| HostEdge {
        gates: with_target(rule.gates.resolve(fleet)),
        gated: with_target(rule.gated.resolve(fleet)),
        reason: rule.reason.clone(),
    });
    edges.filter(|edge| !edge.gates.is_empty() && !edge.gated.is_empty()).collect()
}

fn waits_for(fleet: &Fleet, channel: &ChannelId) -> Vec<ChannelEdge> {
    let edges = fleet.channel_edges.iter().filter(|edge| edge.gated == *channel);
    edges.map(|edge| ChannelEdge { gates: edge.gates.clone(), reason: edge.reason.clone() }).collect()
}
