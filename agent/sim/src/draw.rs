//! Fleets drawn from a seed: how many hosts, who coordinates, channels, policies, budgets and edges.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::random::Random;

/// The names of the channels that a fleet may have.
const CHANNELS: [&str; 2] = ["stable", "edge"];
/// The most coordinators.
const COORDINATORS_MAX: u64 = 7;
/// The most coordinators after a recovery.
const COORDINATORS_AFTER_MAX: u64 = 5;

/// What a fleet document says, before it is signed; operators change it while a run goes on.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) hosts: Vec<HostDraft>,
    /// Those of them that coordinate, by number.
    pub(crate) coordinators: Vec<usize>,
    tolerates_lies: bool,
    pub(crate) channels: Vec<ChannelDraft>,
    budgets: Vec<Value>,
    edges: Vec<(usize, usize)>,
    channel_edge: bool,
    /// Hosts that are lost for good.
    lost: BTreeSet<usize>,
}

/// One host.
#[derive(Debug, Clone)]
pub(crate) struct HostDraft {
    pub(crate) channel: usize,
    pub(crate) enrolled: bool,
    wave: u64,
    group: u64,
}

/// One channel with its policy.
#[derive(Debug, Clone)]
pub(crate) struct ChannelDraft {
    pub(crate) name: &'static str,
    waves: Vec<WaveDraft>,
    max_failures: u64,
    halts: bool,
    sustained: u64,
    dispatch_timeout: u64,
    activation_timeout: u64,
    lost_after: u64,
    freshness_minutes: u64,
    /// When its only window opens, in minutes after the hour at which virtual time begins, and for how many.
    window: Option<(u64, u64)>,
    deferred_advances: bool,
}

#[derive(Debug, Clone)]
struct WaveDraft {
    soak: u64,
    manual: bool,
}

/// How large the fleet is to be, where that is not left to the seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// How many hosts.
    pub hosts: Option<usize>,
    /// How many coordinators.
    pub coordinators: Option<usize>,
    /// Whether the coordinators tolerate lies.
    pub lies: bool,
}

impl Draft {
    pub(crate) fn draw(random: &mut Random, size: Size) -> Self {
        let drawn = match random.below(100) {
            0..45 => random.between(1, 4),
            45..87 => random.between(3, 8),
            87..98 => random.between(8, 14),
            _ => random.between(15, 30),
        };
        let hosts =
            size.hosts.unwrap_or(usize::try_from(drawn).unwrap_or(1)).max(size.coordinators.unwrap_or(1));
        let most = COORDINATORS_MAX.min(hosts as u64);
        let coordinators = match random.below(100) {
            0..20 => 1,
            20..35 => 2,
            35..75 => 3,
            _ => random.between(4, 7),
        };
        let least = if size.lies { 4 } else { 1 };
        let coordinators = size.coordinators.unwrap_or(usize::try_from(coordinators.min(most)).unwrap_or(1));
        let hosts = hosts.max(least);
        let coordinators = coordinators.max(least);
        let channels = if hosts > 3 && random.percent(30) { 2 } else { 1 };
        let channels: Vec<ChannelDraft> =
            CHANNELS.iter().take(channels).map(|name| ChannelDraft::draw(name, random)).collect();
        let mut draft = Self {
            hosts: Vec::new(),
            coordinators: (0..coordinators).collect(),
            tolerates_lies: size.lies || (coordinators >= 4 && random.percent(30)),
            budgets: Vec::new(),
            edges: Vec::new(),
            channel_edge: channels.len() > 1 && random.percent(50),
            lost: BTreeSet::new(),
            channels,
        };
        for _ in 0..hosts {
            let channel = random.index(draft.channels.len());
            let waves = draft.channels[channel].waves.len() as u64;
            let (wave, group) = (random.below(waves), random.below(3));
            draft.hosts.push(HostDraft { channel, enrolled: true, wave, group });
        }
        draft.draw_budgets(random);
        draft.draw_edge(random);
        draft
    }

    pub(crate) fn draw_budgets(&mut self, random: &mut Random) {
        self.budgets.clear();
        for _ in 0..random.below(4) {
            let group = format!("g{}", random.below(3));
            let selector =
                if random.percent(40) { json!({ "all": true }) } else { json!({ "tags": [group] }) };
            let mut budget = json!({ "selector": selector });
            let how = random.below(3);
            if how != 1 {
                budget["maxInFlight"] = json!(random.between(1, 3));
            }
            if how != 0 {
                budget["maxInFlightPct"] = json!(random.between(10, 60));
            }
            self.budgets.push(budget);
        }
    }

    /// One host that goes before another of the same channel and no earlier wave.
    fn draw_edge(&mut self, random: &mut Random) {
        if self.hosts.len() < 2 || !random.percent(30) {
            return;
        }
        let (a, b) = (random.index(self.hosts.len()), random.index(self.hosts.len()));
        let (first, then) = (&self.hosts[a], &self.hosts[b]);
        if a != b && first.channel == then.channel && first.wave <= then.wave {
            self.edges.push((a, b));
        }
    }

    /// Other limits; the hosts stay.
    pub(crate) fn change_limits(&mut self, random: &mut Random) {
        self.draw_budgets(random);
        for channel in &mut self.channels {
            channel.max_failures = random.below(3);
            for wave in &mut channel.waves {
                wave.soak = soak(random);
            }
        }
    }

    /// Takes a host that does not coordinate out of the fleet, or back into it.
    pub(crate) fn toggle(&mut self, random: &mut Random) -> Option<usize> {
        let others = 0..self.hosts.len();
        let others: Vec<usize> =
            others.filter(|host| !self.coordinators.contains(host) && !self.lost.contains(host)).collect();
        let host = *random.pick(&others)?;
        if self.edges.iter().any(|(a, b)| *a == host || *b == host) {
            return None;
        }
        self.hosts[host].enrolled = !self.hosts[host].enrolled;
        Some(host)
    }

    /// Leaves hosts out that are lost for good, and has some of these coordinate from now on; false if there are none.
    pub(crate) fn recover(
        &mut self,
        lost: BTreeSet<usize>,
        mut able: Vec<usize>,
        random: &mut Random,
    ) -> bool {
        able.retain(|host| self.hosts[*host].enrolled && !lost.contains(host));
        let most = COORDINATORS_AFTER_MAX.min(able.len() as u64);
        for host in &lost {
            self.hosts[*host].enrolled = false;
        }
        self.edges.retain(|(a, b)| !lost.contains(a) && !lost.contains(b));
        self.lost = lost;
        self.coordinators.clear();
        for _ in 0..random.between(1, most.max(1)).min(most) {
            self.coordinators.push(able.swap_remove(random.index(able.len())));
        }
        self.coordinators.sort_unstable();
        self.tolerates_lies = self.coordinators.len() >= 4 && random.percent(30);
        !self.coordinators.is_empty()
    }

    /// Adds the second channel, if there is only one and a host that could go there.
    pub(crate) fn have_two_channels(&mut self, random: &mut Random) {
        if self.hosts.len() > 1 && self.channels.len() < CHANNELS.len() {
            self.channels.extend(CHANNELS.iter().skip(1).map(|name| ChannelDraft::draw(name, random)));
        }
    }

    /// Moves a host to the other channel.
    pub(crate) fn switch_channel(&mut self, random: &mut Random) -> Option<usize> {
        let host = random.index(self.hosts.len());
        if self.channels.len() < 2 || self.edges.iter().any(|(a, b)| *a == host || *b == host) {
            return None;
        }
        let channel = 1 - self.hosts[host].channel;
        let waves = self.channels[channel].waves.len() as u64;
        self.hosts[host].channel = channel;
        self.hosts[host].wave = random.below(waves);
        Some(host)
    }

    /// The fleet document, but for who signs it and when.
    pub(crate) fn document(&self, fleet: &Fleet) -> Value {
        let mut hosts = serde_json::Map::new();
        for (number, (name, host)) in fleet.names().iter().zip(&self.hosts).enumerate() {
            if !host.enrolled {
                continue;
            }
            let mut tags = vec![format!("w{}", host.wave), format!("g{}", host.group)];
            if self.coordinators.contains(&number) {
                tags.push("coordinator".to_owned());
            }
            let channel = self.channels[host.channel].name;
            hosts.insert(name.to_string(), fleet.host_entry(name, channel, &tags));
        }
        let name = |host: &usize| fleet.names()[*host].to_string();
        let edges: Vec<Value> = self
            .edges
            .iter()
            .map(|(a, b)| {
                json!({ "gates": { "hosts": [name(a)] }, "gated": { "hosts": [name(b)] }, "reason": "order" })
            })
            .collect();
        let tolerate = if self.tolerates_lies { "lies" } else { "crash" };
        let mut document = json!({
            "coordinators": { "selector": { "tags": ["coordinator"] }, "tolerate": tolerate },
            "tags": { "w0": {}, "w1": {}, "w2": {}, "g0": {}, "g1": {}, "g2": {} },
            "hosts": hosts,
            "channels": {}, "rolloutPolicies": {},
            "disruptionBudgets": self.budgets, "edges": edges,
        });
        for channel in &self.channels {
            document["channels"][channel.name] = json!({
                "rolloutPolicy": channel.name, "freshnessWindowMinutes": channel.freshness_minutes,
            });
            if let Some((start, minutes)) = channel.window {
                let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
                let start = format!("14:{start:02}");
                document["channels"][channel.name]["windows"] =
                    json!([{ "days": days, "start": start, "lengthMinutes": minutes }]);
            }
            document["rolloutPolicies"][channel.name] = channel.policy();
        }
        if self.channel_edge {
            document["channelEdges"] =
                json!([{ "gates": "edge", "gated": "stable", "reason": "canaries first" }]);
        }
        document
    }
}

impl ChannelDraft {
    fn draw(name: &'static str, random: &mut Random) -> Self {
        let waves = random.between(1, 3);
        Self {
            name,
            waves: (0..waves).map(|_| WaveDraft { soak: soak(random), manual: random.percent(8) }).collect(),
            max_failures: if random.percent(60) { 0 } else { random.between(1, 2) },
            halts: random.percent(25),
            sustained: random.between(2, 20),
            dispatch_timeout: random.between(15, 120),
            activation_timeout: random.between(20, 60),
            lost_after: random.between(150, 400),
            freshness_minutes: if random.percent(8) { random.between(2, 12) } else { 1440 },
            window: random.percent(8).then(|| (random.between(10, 20), random.between(3, 9))),
            deferred_advances: random.percent(25),
        }
    }

    fn policy(&self) -> Value {
        let last = self.waves.len() - 1;
        let waves: Vec<Value> = self
            .waves
            .iter()
            .enumerate()
            .map(|(number, wave)| {
                let selector = if number == last {
                    json!({ "all": true })
                } else {
                    json!({ "tags": [format!("w{number}")] })
                };
                let promotion = if wave.manual { "manual" } else { "auto" };
                json!({ "selector": selector, "soakSeconds": wave.soak, "promotion": promotion })
            })
            .collect();
        json!({
            "waves": waves,
            "healthGate": { "maxFailures": self.max_failures },
            "onHealthFailure": if self.halts { "halt" } else { "rollback-and-halt" },
            "sustainedFailureSeconds": self.sustained,
            "dispatchTimeoutSeconds": self.dispatch_timeout,
            "activationTimeoutSeconds": self.activation_timeout,
            "lostAfterSeconds": self.lost_after,
            "fetchTimeoutSeconds": self.lost_after / 2,
            "deferredTimeoutHours": 1,
            "deferred": if self.deferred_advances { "advance" } else { "hold" },
        })
    }
}

fn soak(random: &mut Random) -> u64 {
    match random.below(10) {
        0..3 => 0,
        3..7 => random.between(1, 10),
        _ => random.between(10, 60),
    }
}
