//! The fleet document: hosts, channels, policies, budgets, edges, coordinators, operators.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use muster_signing::{OperatorKey, PublicKey};

use super::count::{ListedTwice, distinct};
use super::fleet_form::FleetForm;
use super::json;
use super::plan::{self, Budget, Policy};
use super::refusal::Refusal;
use super::selector::Selector;
use super::window::{Window, WindowError};
use super::{fleet_form, fleet_rules};
use crate::id::{ChannelId, FleetName, HostId, OperatorName, PolicyName, Tag};
use crate::wire::DocumentKind;

/// The most coordinators that a fleet may have.
pub const COORDINATORS_MAX: usize = 7;

/// Up to this many hosts, all of them coordinate where no selector says who does.
pub const COORDINATORS_UNNAMED_MAX: usize = 5;

/// A valid fleet document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fleet {
    /// The fleet's name.
    pub name: FleetName,
    /// Orders the fleet documents.
    pub serial: u64,
    /// When it was signed.
    pub signed_at: DateTime<Utc>,
    /// Past this it counts no more.
    pub expires_at: Option<DateTime<Utc>>,
    /// Who signs documents; each key once.
    pub operators: BTreeMap<OperatorName, OperatorKey>,
    /// How many operators have to sign.
    pub thresholds: Thresholds,
    /// Who coordinates.
    pub coordinators: Coordinators,
    /// The hosts; each key once.
    pub hosts: BTreeMap<HostId, Host>,
    /// The channels.
    pub channels: BTreeMap<ChannelId, Channel>,
    /// The rollout policies.
    pub policies: BTreeMap<PolicyName, RolloutPolicy>,
    /// The tags that are declared, with their descriptions.
    pub tags: BTreeMap<Tag, Option<String>>,
    /// Hosts that wait for hosts.
    pub edges: Vec<EdgeRule>,
    /// Channels that wait for channels.
    pub channel_edges: Vec<ChannelEdgeRule>,
    /// How many hosts may be in flight at once.
    pub budgets: Vec<BudgetRule>,
    /// Of a recovery document: the serial of the fleet document that it replaces.
    pub replaces: Option<u64>,
    pub(super) resolved_budgets: Vec<Budget>,
}

/// How many distinct operator keys have to sign each kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// For fleet documents.
    pub fleet: usize,
    /// For channel refs.
    pub channel_ref: usize,
    /// For commands.
    pub command: usize,
}

/// Who coordinates, and what they withstand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinators {
    /// Which hosts; absent: all of a small fleet.
    pub selector: Option<Selector>,
    /// What they withstand.
    pub tolerate: Tolerate,
    /// The keys of the voters with whom the log began, if they were others than these.
    pub founders: Option<BTreeSet<PublicKey>>,
}

/// What the coordinators withstand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tolerate {
    /// Some are down.
    Crash,
    /// Some are down or lie.
    Lies,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its key.
    pub key: PublicKey,
    /// Its platform, as Nix names it.
    pub system: Option<String>,
    /// Its tags.
    pub tags: BTreeSet<Tag>,
    /// The channel that it follows.
    pub channel: ChannelId,
    /// Where it can be reached, as multiaddresses.
    pub addresses: Vec<String>,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The policy of its rollouts.
    pub policy: PolicyName,
    /// How long after its signature a ref may still dispatch, in minutes.
    pub freshness_window_minutes: u64,
    /// When dispatches may be made; empty: always.
    pub windows: Vec<Window>,
    /// What it is for.
    pub description: Option<String>,
}

/// A rollout policy with its waves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutPolicy {
    /// Limits and reactions.
    pub policy: Policy,
    /// The waves, in order; at least one.
    pub waves: Vec<WaveRule>,
}

/// A wave of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveRule {
    /// Which hosts, less those of earlier waves.
    pub selector: Selector,
    /// How long each soaks after its activation, in seconds.
    pub soak_secs: u64,
    /// Whether a person opens the next wave.
    pub manual_promotion: bool,
}

/// Hosts that wait for hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeRule {
    /// The hosts that go first.
    pub gates: Selector,
    /// The hosts that wait.
    pub gated: Selector,
    /// The operator's reason.
    pub reason: String,
}

/// A channel that waits for a channel.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelEdgeRule {
    /// The channel that goes first.
    pub gates: ChannelId,
    /// The channel that waits.
    pub gated: ChannelId,
    /// The operator's reason.
    #[serde(default)]
    pub reason: String,
}

/// A disruption budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRule {
    /// Its hosts.
    pub selector: Selector,
    /// How many of them may be in flight at once.
    pub max_in_flight: Option<usize>,
    /// What share of them may be in flight at once, in percent.
    pub max_in_flight_pct: Option<usize>,
}

impl BudgetRule {
    /// How many of `hosts` hosts may be in flight at once: a share rounds down, to at least 1, and the smaller
    /// limit holds.
    pub fn limit(&self, hosts: usize) -> usize {
        let share = self.max_in_flight_pct.map(|pct| (hosts.saturating_mul(pct) / 100).max(1));
        let limits = self.max_in_flight.into_iter().chain(share);
        limits.min().unwrap_or(1)
    }
}

/// The coordinators of a fleet document and how many of them have to agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Electorate {
    /// Their keys.
    pub members: BTreeMap<PublicKey, HostId>,
    /// How many distinct keys certify a decision.
    pub quorum: usize,
    /// How many of them may lie in any way (f).
    pub faults: usize,
}

impl Electorate {
    fn new(members: BTreeMap<PublicKey, HostId>, tolerate: Tolerate) -> Self {
        let n = members.len();
        let faults = match tolerate {
            Tolerate::Crash => 0,
            Tolerate::Lies => n.saturating_sub(1) / 3,
        };
        let quorum = match tolerate {
            Tolerate::Crash => n / 2 + 1,
            Tolerate::Lies => (n + faults + 1).div_ceil(2),
        };
        Self { members, quorum, faults }
    }
}

impl Fleet {
    /// Reads and validates a fleet document; its signatures are not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let form: FleetForm = json::read_kind(bytes, DocumentKind::Fleet)?;
        Ok(Self::from_form(form)?)
    }

    pub(super) fn from_form(form: FleetForm) -> Result<Self, FleetError> {
        let mut fleet = fleet_form::convert(form)?;
        fleet_rules::check(&fleet)?;
        fleet.resolved_budgets = plan::budgets(&fleet);
        Ok(fleet)
    }

    /// The coordinators and their quorum.
    pub fn electorate(&self) -> Electorate {
        let coordinates = |id: &HostId, host: &Host| match &self.coordinators.selector {
            Some(selector) => selector.selects(id, host),
            None => true,
        };
        let members = self.hosts.iter().filter(|(id, host)| coordinates(id, host));
        let members = members.map(|(id, host)| (host.key, id.clone())).collect();
        Electorate::new(members, self.coordinators.tolerate)
    }

    /// The keys of the voters with whom the log began.
    pub fn founders(&self) -> BTreeSet<PublicKey> {
        match &self.coordinators.founders {
            Some(founders) => founders.clone(),
            None => self.electorate().members.into_keys().collect(),
        }
    }

    /// The host with a key.
    pub fn host_of_key(&self, key: &PublicKey) -> Option<&HostId> {
        self.hosts.iter().find(|(_, host)| host.key == *key).map(|(id, _)| id)
    }

    /// A host's key.
    pub fn key_of_host(&self, host: &HostId) -> Option<&PublicKey> {
        self.hosts.get(host).map(|host| &host.key)
    }

    /// The policy of a channel's rollouts.
    pub fn policy_of(&self, channel: &ChannelId) -> Option<&RolloutPolicy> {
        self.policies.get(&self.channels.get(channel)?.policy)
    }

    /// The wave of its channel's policy that a host is in, from 0: the first that selects it.
    pub fn wave_of(&self, id: &HostId) -> Option<usize> {
        let host = self.hosts.get(id)?;
        self.policy_of(&host.channel)?.waves.iter().position(|wave| wave.selector.selects(id, host))
    }

    /// The disruption budgets with their hosts; those that select nobody are left out.
    pub fn resolved_budgets(&self) -> &[Budget] {
        &self.resolved_budgets
    }

    /// Whether a tag is declared, or some host has it.
    pub fn knows_tag(&self, tag: &Tag) -> bool {
        self.tags.contains_key(tag) || self.hosts.values().any(|host| host.tags.contains(tag))
    }

    /// Whether it names the same operators and thresholds.
    pub fn same_operators(&self, other: &Self) -> bool {
        self.operators == other.operators && self.thresholds == other.thresholds
    }

    pub(super) fn require_channel(&self, channel: &ChannelId, place: &str) -> Result<(), FleetError> {
        if self.channels.contains_key(channel) {
            Ok(())
        } else {
            Err(FleetError::UnknownChannel { place: place.to_owned(), channel: channel.clone() })
        }
    }

    pub(super) fn operator_keys(&self) -> Result<BTreeSet<&[u8; 32]>, ListedTwice<OperatorName>> {
        distinct(self.operators.iter().map(|(name, key)| (name, key.bytes())))
    }
}

/// The rule of fleet documents that one breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// A fleet of nothing.
    #[error("a fleet has at least one {0}")]
    Nothing(&'static str),
    /// A threshold that nobody or anybody meets.
    #[error("thresholds.{which} is {found}, it has to be 1 to {operators}, the number of operators")]
    Threshold {
        /// Of which documents.
        which: &'static str,
        /// What it is.
        found: usize,
        /// How many distinct operator keys there are.
        operators: usize,
    },
    /// One person would count as two.
    #[error("the operators {} and {} have one key", .0.first, .0.second)]
    OperatorKeyTwice(ListedTwice<OperatorName>),
    /// One host would count as two.
    #[error("the hosts {} and {} have one key", .0.first, .0.second)]
    HostKeyTwice(ListedTwice<HostId>),
    /// A channel that is not declared.
    #[error("{place} names channel {channel}, which is not declared")]
    UnknownChannel {
        /// Where.
        place: String,
        /// The channel.
        channel: ChannelId,
    },
    /// A policy that is not declared.
    #[error("channel {channel} has the rollout policy {policy}, which is not declared")]
    UnknownPolicy {
        /// The channel.
        channel: ChannelId,
        /// The policy.
        policy: PolicyName,
    },
    /// A tag that no host has and that is not declared.
    #[error("{place} names tag {tag}, which no host has and `tags` does not declare")]
    UnknownTag {
        /// Where.
        place: String,
        /// The tag.
        tag: Tag,
    },
    /// A host that is not declared.
    #[error("{place} names host {host}, which is not declared")]
    UnknownHost {
        /// Where.
        place: String,
        /// The host.
        host: HostId,
    },
    /// A selector with an empty list.
    #[error("{place}: a selector's {key:?} lists at least one")]
    EmptySelector {
        /// Where.
        place: String,
        /// The selector's key.
        key: &'static str,
    },
    /// A number outside of what makes sense.
    #[error("{place} is {found}, it has to be {least} to {most}")]
    OutOfRange {
        /// Where.
        place: String,
        /// What it is.
        found: u64,
        /// The least that it may be.
        least: u64,
        /// The most that it may be.
        most: u64,
    },
    /// A text or list that is too long.
    #[error("{place} has {found} entries or bytes, at most {most} are allowed")]
    TooLong {
        /// Where.
        place: String,
        /// Its length.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// A wave says how long it soaks in two ways, or in none.
    #[error("wave {wave} of policy {policy} needs either soakMinutes or soakSeconds")]
    Soak {
        /// The policy.
        policy: PolicyName,
        /// The wave, from 1.
        wave: usize,
    },
    /// A window that makes no sense.
    #[error("channel {channel}: {error}")]
    Window {
        /// The channel.
        channel: ChannelId,
        /// What is wrong.
        error: WindowError,
    },
    /// A host that no rollout would ever reach.
    #[error("host {host}: no wave of policy {policy} of its channel {channel} selects it")]
    NoWave {
        /// The host.
        host: HostId,
        /// Its channel.
        channel: ChannelId,
        /// The channel's policy.
        policy: PolicyName,
    },
    /// Hosts that would wait for themselves.
    #[error("edges form a cycle: {}", path(.0))]
    EdgeCycle(Vec<HostId>),
    /// Channels that would wait for themselves.
    #[error("channelEdges form a cycle: {}", path(.0))]
    ChannelEdgeCycle(Vec<ChannelId>),
    /// A host whose wave comes before that of a host it waits for.
    #[error(
        "edge {edge} makes {gated} (wave {}) wait for {gate} (wave {}) on channel {channel}: a gated host cannot be in an earlier wave than its gate",
        .gated_wave + 1,
        .gate_wave + 1
    )]
    GatedBeforeGate {
        /// The edge, from 1.
        edge: usize,
        /// The channel of both.
        channel: ChannelId,
        /// The host that goes first.
        gate: HostId,
        /// Its wave, from 0.
        gate_wave: usize,
        /// The host that waits.
        gated: HostId,
        /// Its wave, from 0.
        gated_wave: usize,
    },
    /// A budget without a limit.
    #[error("budget {0} needs maxInFlight or maxInFlightPct")]
    NoLimit(usize),
    /// Too few or too many coordinators.
    #[error("{found} hosts are coordinators, there have to be 1 to {COORDINATORS_MAX}")]
    Coordinators {
        /// How many the selector names.
        found: usize,
    },
    /// A large fleet that does not say who coordinates.
    #[error(
        "a fleet of more than {COORDINATORS_UNNAMED_MAX} hosts has to say who coordinates, this one has {hosts}: set coordinators.selector"
    )]
    CoordinatorsUnnamed {
        /// How many hosts there are.
        hosts: usize,
    },
    /// Too few coordinators to withstand one that lies.
    #[error("coordinators.tolerate \"lies\" needs at least 4 coordinators, there are {found}")]
    TooFewForLies {
        /// How many there are.
        found: usize,
    },
    /// Too few or too many founders.
    #[error("coordinators.founders names {found} keys, there have to be 1 to {COORDINATORS_MAX}, each once")]
    Founders {
        /// How many are named.
        found: usize,
    },
    /// A recovery document names founders.
    #[error(
        "a recovery document starts a new log with its own coordinators: leave coordinators.founders out"
    )]
    FoundersInRecovery,
    /// `recovery` and `replaces` belong together.
    #[error("recovery and replaces go together: a recovery document names the serial that it replaces")]
    Recovery,
}

fn path<T: std::fmt::Display>(ids: &[T]) -> String {
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    names.join(" -> ")
}
