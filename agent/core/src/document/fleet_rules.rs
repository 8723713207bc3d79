//! The rules between the parts of a fleet document.

use std::collections::{BTreeMap, BTreeSet};

use super::count::distinct;
use super::fleet::{
    COORDINATORS_MAX, COORDINATORS_UNNAMED_MAX, EdgeRule, Fleet, FleetError, Thresholds, Tolerate,
};
use crate::id::{ChannelId, HostId};

/// The most addresses of a host, and the longest one in bytes.
const ADDRESSES_MAX: usize = 16;
const ADDRESS_BYTES_MAX: usize = 512;

/// Checks every rule, in the order of the document's keys.
pub(super) fn check(fleet: &Fleet) -> Result<(), FleetError> {
    operators(fleet)?;
    hosts(fleet)?;
    channels_and_policies(fleet)?;
    coordinators(fleet)?;
    waves(fleet)?;
    edges(fleet)?;
    channel_edges(fleet)?;
    budgets(fleet)
}

fn operators(fleet: &Fleet) -> Result<(), FleetError> {
    let operators = fleet.operator_keys().map_err(FleetError::OperatorKeyTwice)?.len();
    if operators == 0 {
        return Err(FleetError::Nothing("operator"));
    }
    let Thresholds { fleet: of_fleet, channel_ref, command } = fleet.thresholds;
    for (which, found) in [("fleet", of_fleet), ("channelRef", channel_ref), ("command", command)] {
        if !(1..=operators).contains(&found) {
            return Err(FleetError::Threshold { which, found, operators });
        }
    }
    Ok(())
}

fn hosts(fleet: &Fleet) -> Result<(), FleetError> {
    if fleet.hosts.is_empty() {
        return Err(FleetError::Nothing("host"));
    }
    distinct(fleet.hosts.iter().map(|(id, host)| (id, host.key))).map_err(FleetError::HostKeyTwice)?;
    for (id, host) in &fleet.hosts {
        fleet.require_channel(&host.channel, &format!("host {id}"))?;
        let longest = host.addresses.iter().map(String::len).max().unwrap_or(0);
        for (found, most) in [(host.addresses.len(), ADDRESSES_MAX), (longest, ADDRESS_BYTES_MAX)] {
            if found > most {
                return Err(FleetError::TooLong { place: format!("addresses of host {id}"), found, most });
            }
        }
    }
    Ok(())
}

fn channels_and_policies(fleet: &Fleet) -> Result<(), FleetError> {
    for (id, channel) in &fleet.channels {
        if !fleet.policies.contains_key(&channel.policy) {
            return Err(FleetError::UnknownPolicy { channel: id.clone(), policy: channel.policy.clone() });
        }
    }
    for (name, policy) in &fleet.policies {
        if policy.waves.is_empty() {
            return Err(FleetError::Nothing("wave in each policy"));
        }
        for (wave, number) in policy.waves.iter().zip(1..) {
            wave.selector.check(fleet, &format!("wave {number} of policy {name}"))?;
        }
    }
    Ok(())
}

fn coordinators(fleet: &Fleet) -> Result<(), FleetError> {
    match &fleet.coordinators.selector {
        Some(selector) => selector.check(fleet, "coordinators")?,
        None if fleet.hosts.len() > COORDINATORS_UNNAMED_MAX => {
            return Err(FleetError::CoordinatorsUnnamed { hosts: fleet.hosts.len() });
        }
        None => {}
    }
    let found = fleet.electorate().members.len();
    if !(1..=COORDINATORS_MAX).contains(&found) {
        return Err(FleetError::Coordinators { found });
    }
    if fleet.coordinators.tolerate == Tolerate::Lies && found < 4 {
        return Err(FleetError::TooFewForLies { found });
    }
    if fleet.replaces.is_some() && fleet.coordinators.founders.is_some() {
        return Err(FleetError::FoundersInRecovery);
    }
    Ok(())
}

fn waves(fleet: &Fleet) -> Result<(), FleetError> {
    for (id, host) in &fleet.hosts {
        if fleet.wave_of(id).is_none() {
            let Some(channel) = fleet.channels.get(&host.channel) else { continue };
            return Err(FleetError::NoWave {
                host: id.clone(),
                channel: host.channel.clone(),
                policy: channel.policy.clone(),
            });
        }
    }
    Ok(())
}

fn edges(fleet: &Fleet) -> Result<(), FleetError> {
    let mut resolved = Vec::new();
    for (edge, number) in fleet.edges.iter().zip(1..) {
        let EdgeRule { gates, gated, .. } = edge;
        gates.check(fleet, &format!("gates of edge {number}"))?;
        gated.check(fleet, &format!("gated of edge {number}"))?;
        resolved.push((gates.resolve(fleet), gated.resolve(fleet)));
    }
    if let Some(cycle) = cycle(&resolved) {
        return Err(FleetError::EdgeCycle(cycle));
    }
    for ((gates, gated), number) in resolved.iter().zip(1..) {
        gated_after_gates(fleet, number, gates, gated)?;
    }
    Ok(())
}

/// Edges hold within a rollout, thus between hosts of one channel.
fn gated_after_gates(
    fleet: &Fleet,
    edge: usize,
    gates: &BTreeSet<HostId>,
    gated: &BTreeSet<HostId>,
) -> Result<(), FleetError> {
    let mut last_gates: BTreeMap<&ChannelId, (usize, &HostId)> = BTreeMap::new();
    for host in gates {
        let (Some(channel), Some(wave)) =
            (fleet.hosts.get(host).map(|host| &host.channel), fleet.wave_of(host))
        else {
            continue;
        };
        let last = last_gates.entry(channel).or_insert((wave, host));
        if wave > last.0 {
            *last = (wave, host);
        }
    }
    for host in gated {
        let Some(channel) = fleet.hosts.get(host).map(|host| &host.channel) else { continue };
        let (Some(&(gate_wave, gate)), Some(gated_wave)) = (last_gates.get(channel), fleet.wave_of(host))
        else {
            continue;
        };
        if gated_wave < gate_wave {
            return Err(FleetError::GatedBeforeGate {
                edge,
                channel: channel.clone(),
                gate: gate.clone(),
                gate_wave,
                gated: host.clone(),
                gated_wave,
            });
        }
    }
    Ok(())
}

fn channel_edges(fleet: &Fleet) -> Result<(), FleetError> {
    let mut resolved = Vec::new();
    for (edge, number) in fleet.channel_edges.iter().zip(1..) {
        for channel in [&edge.gates, &edge.gated] {
            fleet.require_channel(channel, &format!("channel edge {number}"))?;
        }
        resolved.push((BTreeSet::from([edge.gates.clone()]), BTreeSet::from([edge.gated.clone()])));
    }
    cycle(&resolved).map_or(Ok(()), |cycle| Err(FleetError::ChannelEdgeCycle(cycle)))
}

fn budgets(fleet: &Fleet) -> Result<(), FleetError> {
    for (budget, number) in fleet.budgets.iter().zip(1..) {
        budget.selector.check(fleet, &format!("budget {number}"))?;
        if budget.max_in_flight.is_none() && budget.max_in_flight_pct.is_none() {
            return Err(FleetError::NoLimit(number));
        }
        let limits = [
            ("maxInFlight", budget.max_in_flight, usize::MAX),
            ("maxInFlightPct", budget.max_in_flight_pct, 100),
        ];
        for (key, limit, most) in limits {
            let Some(found) = limit else { continue };
            if !(1..=most).contains(&found) {
                return Err(FleetError::OutOfRange {
                    place: format!("{key} of budget {number}"),
                    found: u64::try_from(found).unwrap_or(u64::MAX),
                    least: 1,
                    most: u64::try_from(most).unwrap_or(u64::MAX),
                });
            }
        }
    }
    Ok(())
}

/// A cycle of edges from each of a first set to each of a second, if there is one.
///
/// Edges are nodes of their own here, so that two large sets cost their sum and not their product.
fn cycle<T: Ord + Clone>(edges: &[(BTreeSet<T>, BTreeSet<T>)]) -> Option<Vec<T>> {
    let mut gates_of: BTreeMap<&T, Vec<usize>> = BTreeMap::new();
    let mut waits: BTreeMap<&T, usize> = BTreeMap::new();
    let mut edge_waits: Vec<usize> = Vec::new();
    for (at, (gates, gated)) in edges.iter().enumerate() {
        edge_waits.push(gates.len());
        for node in gates {
            gates_of.entry(node).or_default().push(at);
            waits.entry(node).or_default();
        }
        // An edge without gates holds nobody.
        for node in gated.iter().filter(|_| !gates.is_empty()) {
            *waits.entry(node).or_default() += 1;
        }
    }
    let mut free: Vec<&T> = waits.iter().filter(|(_, count)| **count == 0).map(|(node, _)| *node).collect();
    while let Some(node) = free.pop() {
        waits.remove(node);
        for &edge in gates_of.get(node).into_iter().flatten() {
            edge_waits[edge] -= 1;
            if edge_waits[edge] > 0 {
                continue;
            }
            for gated in &edges[edge].1 {
                if let Some(count) = waits.get_mut(gated) {
                    *count -= 1;
                    if *count == 0 {
                        free.push(gated);
                    }
                }
            }
        }
    }
    walk_back(edges, &waits)
}

/// Whoever is left waits for someone who is left: walking from gated to gate comes back to where it was.
fn walk_back<T: Ord + Clone>(
    edges: &[(BTreeSet<T>, BTreeSet<T>)],
    left: &BTreeMap<&T, usize>,
) -> Option<Vec<T>> {
    let mut node = *left.keys().next()?;
    let mut seen: Vec<&T> = Vec::new();
    loop {
        if let Some(start) = seen.iter().position(|other| *other == node) {
            let mut path: Vec<T> = seen[start..].iter().rev().map(|node| (*node).clone()).collect();
            path.extend(path.first().cloned());
            return Some(path);
        }
        seen.push(node);
        let gates = edges.iter().filter(|(_, gated)| gated.contains(node)).flat_map(|(gates, _)| gates);
        node = gates.into_iter().find(|gate| left.contains_key(gate))?;
    }
}
