//! What a person wants to know of a fleet document before signing it.

use std::collections::BTreeSet;

use muster_signing::PublicKey;
use serde::{Serialize, Serializer};

use super::fleet::{Fleet, Tolerate};
use crate::id::{ChannelId, FleetName, HostId, PolicyName, Tag};

/// A budget of one host at a time is called tight from this many hosts on.
const TIGHT_FROM_HOSTS: usize = 10;

/// A fleet document with everything resolved, and what looks like a mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetReport {
    /// The fleet.
    pub fleet: FleetName,
    /// The document's serial.
    pub serial: u64,
    /// How many hosts there are.
    pub hosts: usize,
    /// How many operators there are.
    pub operators: usize,
    /// Who coordinates.
    pub electorate: ElectorateReport,
    /// The channels.
    pub channels: Vec<ChannelReport>,
    /// The disruption budgets.
    pub budgets: Vec<BudgetReport>,
    /// The edges between hosts.
    pub edges: Vec<EdgeReport>,
    /// What is valid and yet looks like a mistake.
    pub warnings: Vec<Warning>,
}

/// Who coordinates, and what they withstand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ElectorateReport {
    /// The coordinators.
    pub members: BTreeSet<HostId>,
    /// How many of them certify a decision.
    pub quorum: usize,
    /// How many of them may lie.
    pub faults: usize,
    /// Both in words.
    pub withstands: String,
}

/// A channel with its waves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelReport {
    /// The channel.
    pub channel: ChannelId,
    /// Its policy.
    pub policy: PolicyName,
    /// The channels that go before it.
    pub waits_for: Vec<ChannelId>,
    /// Its waves.
    pub waves: Vec<WaveReport>,
}

/// A wave of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaveReport {
    /// Its number, from 1.
    pub wave: usize,
    /// Whom it selects, in words.
    pub selector: String,
    /// Its hosts.
    pub hosts: BTreeSet<HostId>,
    /// How long each soaks, in seconds.
    pub soak_secs: u64,
    /// Whether a person opens the next wave.
    pub manual_promotion: bool,
}

/// A disruption budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetReport {
    /// Its number, from 1.
    pub budget: usize,
    /// Whom it selects, in words.
    pub selector: String,
    /// Its hosts.
    pub hosts: BTreeSet<HostId>,
    /// How many of them may be in flight at once.
    pub limit: usize,
}

/// Hosts that wait for hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EdgeReport {
    /// Its number, from 1.
    pub edge: usize,
    /// The hosts that go first.
    pub gates: BTreeSet<HostId>,
    /// The hosts that wait.
    pub gated: BTreeSet<HostId>,
    /// The operator's reason.
    pub reason: String,
}

/// What is valid and yet looks like a mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Nobody follows a channel.
    #[error("no host is on channel {0}")]
    EmptyChannel(ChannelId),
    /// A wave without hosts.
    #[error(
        "wave {wave} of policy {policy} selects no host of channel {channel} that an earlier wave leaves"
    )]
    EmptyWave {
        /// The channel.
        channel: ChannelId,
        /// Its policy.
        policy: PolicyName,
        /// The wave, from 1.
        wave: usize,
    },
    /// A rollout would outlast its ref.
    #[error(
        "channel {channel}: its waves soak for {soak_minutes} minutes in all, a ref dispatches for {window_minutes} only; later waves would need a refresh"
    )]
    ShortFreshness {
        /// The channel.
        channel: ChannelId,
        /// All soak times in minutes, rounded up.
        soak_minutes: u64,
        /// The freshness window in minutes.
        window_minutes: u64,
    },
    /// A policy that no channel has.
    #[error("no channel has the policy {0}")]
    UnusedPolicy(PolicyName),
    /// A tag that no host has.
    #[error("no host has the declared tag {0}")]
    UnusedTag(Tag),
    /// A budget without hosts.
    #[error("budget {budget} selects no host ({selector})")]
    EmptyBudget {
        /// The budget, from 1.
        budget: usize,
        /// Its selector.
        selector: String,
    },
    /// A budget that lets one of many go at a time.
    #[error("budget {budget} lets one of {hosts} hosts go at a time")]
    TightBudget {
        /// The budget, from 1.
        budget: usize,
        /// How many hosts it has.
        hosts: usize,
    },
    /// A budget that never holds anybody.
    #[error("budget {budget} allows all of its {hosts} hosts at once")]
    LooseBudget {
        /// The budget, from 1.
        budget: usize,
        /// How many hosts it has.
        hosts: usize,
    },
    /// An edge that never holds anybody.
    #[error("edge {0} holds nobody: no gate and no gated host share a channel")]
    IdleEdge(usize),
    /// One coordinator more than useful.
    #[error("{} coordinators withstand no more failures than {}", .0, .0 - 1)]
    EvenCoordinators(usize),
    /// One machine whose loss stops all rollouts.
    #[error("a single coordinator: while it is down, nothing is dispatched")]
    SingleCoordinator,
    /// Nobody may lose a key.
    #[error(
        "fleet documents need all {0} operators: after the loss of one key only a pinned root can change the fleet"
    )]
    EveryOperator(usize),
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Resolves a fleet document for a person to look at.
pub fn report(fleet: &Fleet) -> FleetReport {
    let electorate = electorate(fleet);
    let channels: Vec<ChannelReport> = fleet.channels.keys().filter_map(|id| channel(fleet, id)).collect();
    let budgets = budgets(fleet);
    let edges = edges(fleet);
    let mut warnings = Vec::new();
    warn_of_electorate(fleet, &electorate, &mut warnings);
    for report in &channels {
        warn_of_channel(fleet, report, &mut warnings);
    }
    let used = |policy: &&PolicyName| fleet.channels.values().any(|channel| channel.policy == **policy);
    let unused = fleet.policies.keys().filter(|policy| !used(policy));
    warnings.extend(unused.cloned().map(Warning::UnusedPolicy));
    let has = |tag: &&Tag| fleet.hosts.values().any(|host| host.tags.contains(*tag));
    warnings.extend(fleet.tags.keys().filter(|tag| !has(tag)).cloned().map(Warning::UnusedTag));
    warnings.extend(budgets.iter().filter_map(warn_of_budget));
    let idle = edges.iter().filter(|edge| !meets(fleet, edge));
    warnings.extend(idle.map(|edge| Warning::IdleEdge(edge.edge)));
    FleetReport {
        fleet: fleet.name.clone(),
        serial: fleet.serial,
        hosts: fleet.hosts.len(),
        operators: fleet.operators.len(),
        electorate,
        channels,
        budgets,
        edges,
        warnings,
    }
}

/// A fleet document that belongs to another log than the one before, which a running fleet cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtherLog {
    /// It does not name with whom the running log began.
    #[error(
        "coordinators.founders has to name those with whom the log of this fleet began: add \"founders\": [{}] to \"coordinators\"{}",
        keys(.founders),
        changes(.added, .removed)
    )]
    Founders {
        /// The founders' keys.
        founders: BTreeSet<PublicKey>,
        /// Coordinators of the new document only.
        added: BTreeSet<HostId>,
        /// Coordinators of the old document only.
        removed: BTreeSet<HostId>,
    },
    /// It withstands something else.
    #[error("coordinators.tolerate cannot change but by a recovery document")]
    Tolerance,
}

/// Refuses a fleet document of another log than the one before: coordinators come and go within one log, so that a
/// document with others than its founders names those.
pub fn same_log(old: &Fleet, new: &Fleet) -> Result<(), OtherLog> {
    if new.replaces.is_some() {
        return Ok(());
    }
    if old.coordinators.tolerate != new.coordinators.tolerate {
        return Err(OtherLog::Tolerance);
    }
    let founders = old.founders();
    if founders == new.founders() {
        return Ok(());
    }
    let (before, after) = (old.electorate().members, new.electorate().members);
    let added = after.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(_, host)| host.clone());
    let removed = before.iter().filter(|(key, _)| !after.contains_key(*key)).map(|(_, host)| host.clone());
    Err(OtherLog::Founders { founders, added: added.collect(), removed: removed.collect() })
}

fn keys(keys: &BTreeSet<PublicKey>) -> String {
    keys.iter().map(|key| format!("\"{}\"", key.to_openssh())).collect::<Vec<_>>().join(", ")
}

fn changes(added: &BTreeSet<HostId>, removed: &BTreeSet<HostId>) -> String {
    if added.is_empty() && removed.is_empty() {
        return String::new();
    }
    format!(" ({} would come, {} would go)", names(added), names(removed))
}

fn names(hosts: &BTreeSet<HostId>) -> String {
    if hosts.is_empty() {
        return "nobody".to_owned();
    }
    hosts.iter().map(HostId::as_str).collect::<Vec<_>>().join(", ")
}

pub(super) fn electorate(fleet: &Fleet) -> ElectorateReport {
    let electorate = fleet.electorate();
    let (n, quorum, faults) = (electorate.members.len(), electorate.quorum, electorate.faults);
    let down = n - quorum;
    let coordinators = |count: usize| match count {
        0 => "none".to_owned(),
        1 => "one".to_owned(),
        _ => count.to_string(),
    };
    let withstands = match fleet.coordinators.tolerate {
        Tolerate::Crash => {
            format!("{quorum} of {n} coordinators have to agree; {} may be down", coordinators(down))
        }
        Tolerate::Lies => format!(
            "{quorum} of {n} coordinators have to agree; {} may be down or lie in any way",
            coordinators(faults)
        ),
    };
    ElectorateReport { members: electorate.members.into_values().collect(), quorum, faults, withstands }
}

fn channel(fleet: &Fleet, id: &ChannelId) -> Option<ChannelReport> {
    let channel = fleet.channels.get(id)?;
    let rules = fleet.policies.get(&channel.policy)?;
    let waves = rules.waves.iter().enumerate().map(|(at, rule)| {
        let hosts = fleet
            .hosts
            .iter()
            .filter(|(host, entry)| entry.channel == *id && fleet.wave_of(host) == Some(at));
        WaveReport {
            wave: at + 1,
            selector: rule.selector.to_string(),
            hosts: hosts.map(|(host, _)| host.clone()).collect(),
            soak_secs: rule.soak_secs,
            manual_promotion: rule.manual_promotion,
        }
    });
    let before = fleet.channel_edges.iter().filter(|edge| edge.gated == *id);
    Some(ChannelReport {
        channel: id.clone(),
        policy: channel.policy.clone(),
        waits_for: before.map(|edge| edge.gates.clone()).collect(),
        waves: waves.collect(),
    })
}

fn budgets(fleet: &Fleet) -> Vec<BudgetReport> {
    let rules = fleet.budgets.iter().enumerate().map(|(at, rule)| {
        let hosts = rule.selector.resolve(fleet);
        let limit = rule.limit(hosts.len());
        BudgetReport { budget: at + 1, selector: rule.selector.to_string(), hosts, limit }
    });
    rules.collect()
}

fn edges(fleet: &Fleet) -> Vec<EdgeReport> {
    let rules = fleet.edges.iter().enumerate().map(|(at, rule)| EdgeReport {
        edge: at + 1,
        gates: rule.gates.resolve(fleet),
        gated: rule.gated.resolve(fleet),
        reason: rule.reason.clone(),
    });
    rules.collect()
}

fn meets(fleet: &Fleet, edge: &EdgeReport) -> bool {
    let channels = |hosts: &BTreeSet<HostId>| -> BTreeSet<&ChannelId> {
        hosts.iter().filter_map(|host| fleet.hosts.get(host)).map(|host| &host.channel).collect()
    };
    !channels(&edge.gates).is_disjoint(&channels(&edge.gated))
}

fn warn_of_electorate(fleet: &Fleet, electorate: &ElectorateReport, warnings: &mut Vec<Warning>) {
    let n = electorate.members.len();
    if n == 1 && fleet.hosts.len() > 1 {
        warnings.push(Warning::SingleCoordinator);
    }
    if n.is_multiple_of(2) && fleet.coordinators.tolerate == Tolerate::Crash {
        warnings.push(Warning::EvenCoordinators(n));
    }
    let operators = fleet.operators.len();
    if operators > 1 && fleet.thresholds.fleet == operators {
        warnings.push(Warning::EveryOperator(operators));
    }
}

fn warn_of_channel(fleet: &Fleet, report: &ChannelReport, warnings: &mut Vec<Warning>) {
    if report.waves.iter().all(|wave| wave.hosts.is_empty()) {
        warnings.push(Warning::EmptyChannel(report.channel.clone()));
        return;
    }
    for wave in report.waves.iter().filter(|wave| wave.hosts.is_empty()) {
        let (channel, policy) = (report.channel.clone(), report.policy.clone());
        warnings.push(Warning::EmptyWave { channel, policy, wave: wave.wave });
    }
    let Some(channel) = fleet.channels.get(&report.channel) else { return };
    // The last wave's soak holds no dispatch back.
    let filled: Vec<u64> =
        report.waves.iter().filter(|wave| !wave.hosts.is_empty()).map(|wave| wave.soak_secs).collect();
    let soak_secs = filled
        .split_last()
        .map_or(0, |(_, before)| before.iter().fold(0, |all: u64, soak| all.saturating_add(*soak)));
    let soak_minutes = soak_secs.div_ceil(60);
    if soak_minutes >= channel.freshness_window_minutes {
        warnings.push(Warning::ShortFreshness {
            channel: report.channel.clone(),
            soak_minutes,
            window_minutes: channel.freshness_window_minutes,
        });
    }
}

fn warn_of_budget(report: &BudgetReport) -> Option<Warning> {
    let (budget, hosts) = (report.budget, report.hosts.len());
    match hosts {
        0 => Some(Warning::EmptyBudget { budget, selector: report.selector.clone() }),
        _ if report.limit >= hosts => Some(Warning::LooseBudget { budget, hosts }),
        TIGHT_FROM_HOSTS.. if report.limit == 1 => Some(Warning::TightBudget { budget, hosts }),
        _ => None,
    }
}
