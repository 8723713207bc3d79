//! Plays a ref to its end on a copy of the fleet.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use muster_core::document::Plan;
use muster_core::gate::{self, Blocked};
use muster_core::id::HostId;
use muster_core::node::Node;
use muster_core::view::{Standing, View};
use muster_core::wire::{HostState, RolloutState};
use muster_signing::{SignedDocument, Verified};
use serde_json::json;

use super::stand_in::{StandIn, before};
use super::{End, Forecast, ForecastError, Held, Options, Progress};
use crate::host::true_time;
use crate::world::{Habits, World, micros};

/// How often an agent says that it is there, and a probe runs, unless it is told otherwise.
const EVERY: Duration = Duration::from_secs(30);
/// By then everybody has heard of everybody, and whoever is down counts as offline.
const WARM_UP: Duration = Duration::from_secs(120);
/// Between two looks at how it stands.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two of those that ask for every host.
const LOOKS_PER_SURVEY: u32 = 15;
/// Who moves at all moves within this time: a plan is made every quarter of a minute.
const STILL: Duration = Duration::from_secs(120);
/// A longer wait for a maintenance window is slept through.
const SLEEP_FROM: Duration = Duration::from_secs(3600);
/// What follows once a rollout is over, such as a quarantine, is there by then.
const AFTERMATH: Duration = Duration::from_secs(5);

/// Nobody is under way until a gate opens.
pub(super) struct Wait {
    pub(super) from: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
    pub(super) reason: String,
    /// When the agents stopped and started again, if that was worth it.
    pub(super) slept: Option<DateTime<Utc>>,
}

/// A copy of the fleet at play.
pub(super) struct Play<'o> {
    pub(super) world: World,
    pub(super) plan: Plan,
    pub(super) options: &'o Options,
    /// Virtual time at which the ref is published.
    pub(super) published: u64,
    /// The coordinator that died, and when.
    pub(super) lost: Option<(HostId, DateTime<Utc>)>,
    /// The waves that were promoted, and when.
    pub(super) promoted: Vec<(u32, DateTime<Utc>)>,
    /// The times at which nobody was under way, and a gate told when it opens.
    pub(super) waits: Vec<Wait>,
    pub(super) coordinators: BTreeSet<HostId>,
    pub(super) quorum: usize,
    fleet_document: Verified<SignedDocument>,
    channel_ref: Verified<SignedDocument>,
    done: usize,
}

impl<'o> Play<'o> {
    pub(super) fn new(stand_in: StandIn, options: &'o Options) -> Self {
        let StandIn { fleet, electorate, plan, fleet_document, channel_ref } = stand_in;
        let habits = Habits { heartbeat: EVERY, probe_interval: EVERY, ..Habits::default() };
        let mut world = World::around(options.seed, fleet, habits);
        let coordinators: BTreeSet<HostId> = electorate.members.into_values().collect();
        world.audience = Some(world.hosts.iter().map(|host| coordinators.contains(&host.name)).collect());
        world.keeps_notes = true;
        let published = world.now + micros(WARM_UP);
        let calendar = options.at - true_time(published);
        world.truth.calendar = calendar;
        for host in &mut world.hosts {
            let target = plan.targets.get(&host.name);
            host.clock_off = calendar;
            host.machine.switch = options.activation;
            host.machine.watches = false;
            (host.backend, host.machine.running) = before(target);
            host.machine.sick_on = target.filter(|_| options.fail.contains(&host.name)).cloned();
        }
        Self {
            world,
            plan,
            options,
            published,
            lost: None,
            promoted: Vec::new(),
            waits: Vec::new(),
            coordinators,
            quorum: electorate.quorum,
            fleet_document,
            channel_ref,
            done: 0,
        }
    }

    pub(super) fn run(mut self, tell: &mut dyn FnMut(Progress)) -> Result<Forecast, ForecastError> {
        for host in 0..self.world.hosts.len() {
            if !self.options.offline.contains(&self.world.hosts[host].name) {
                self.world.start_host(host);
            }
        }
        let (fleet_document, channel_ref) = (self.fleet_document.clone(), self.channel_ref.clone());
        self.world.spread(&fleet_document);
        while self.world.now < self.published {
            self.pass(LOOK.min(Duration::from_micros(self.published - self.world.now)))?;
            self.tell(tell);
        }
        self.world.spread(&channel_ref);
        let (end, held) = self.watch(tell)?;
        Ok(self.tell_story(end, held))
    }

    /// Lets virtual time pass.
    fn pass(&mut self, time: Duration) -> Result<(), ForecastError> {
        let end = self.world.now + micros(time);
        while self.world.advance(end) {}
        match &self.world.truth.violation {
            None => Ok(()),
            Some(violation) => Err(ForecastError::Broken(violation.to_string())),
        }
    }

    /// Watches the rollout to its end; with it comes what holds it, if something does.
    fn watch(&mut self, tell: &mut dyn FnMut(Progress)) -> Result<(End, Option<Held>), ForecastError> {
        let limit = self.published + micros(self.options.limit);
        let (mut looks, mut still_since) = (0, None);
        loop {
            self.pass(LOOK)?;
            looks += 1;
            self.tell(tell);
            self.promote();
            if let Some(end) = self.state().and_then(End::of) {
                return Ok((self.aftermath(end, tell)?, None));
            }
            if self.world.now >= limit {
                return Ok((End::Unfinished, None));
            }
            if looks % LOOKS_PER_SURVEY > 0 && self.lost.is_some() == self.options.lose_coordinator {
                continue;
            }
            self.lose_coordinator();
            if self.survey() {
                still_since = None;
                continue;
            }
            let since = *still_since.get_or_insert(self.world.now);
            if self.world.now - since < micros(STILL) {
                continue;
            }
            match self.opens_soonest() {
                Some(blocked) => {
                    self.wait(since, &blocked);
                    still_since = None;
                }
                None => return Ok((End::Held, self.no_quorum())),
            }
        }
    }

    /// After the rollout is over: hosts under way come to their own end.
    fn aftermath(&mut self, end: End, tell: &mut dyn FnMut(Progress)) -> Result<End, ForecastError> {
        let policy = &self.plan.policy;
        let soak = self.plan.waves.iter().map(|wave| wave.soak_secs).max().unwrap_or(0);
        let patience = 2 * policy.activation_timeout_secs + soak + 2 * policy.sustained_failure_secs;
        let until = self.world.now + patience * 1_000_000;
        while self.world.now < until && self.survey() {
            self.pass(LOOK)?;
            self.tell(tell);
        }
        self.pass(AFTERMATH)?;
        Ok(self.state().and_then(End::of).unwrap_or(end))
    }

    /// The node that knows most: the leading coordinator, or one of the others.
    pub(super) fn best(&self) -> Option<(usize, &Node)> {
        let nodes = self.world.hosts.iter().enumerate();
        let up = nodes.filter_map(|(number, host)| Some((number, host.node.as_ref()?)));
        up.max_by_key(|(number, node)| (node.leads(), node.ledger().applied(), std::cmp::Reverse(*number)))
    }

    /// Asks that node's evidence.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&View<'_>, DateTime<Utc>) -> T) -> Option<T> {
        let (number, node) = self.best()?;
        let now = self.world.hosts[number].now(self.world.now);
        Some(node.with_view(now, |view| ask(view, now.utc)))
    }

    fn state(&self) -> Option<RolloutState> {
        let (_, node) = self.best()?;
        Some(node.ledger().rollouts().get(&self.plan.rollout_id)?.state)
    }

    /// Whether any host is under way; counts those that have come to their end.
    fn survey(&mut self) -> bool {
        let plan = &self.plan;
        let counted = self.ask(|view, now| {
            let (mut done, mut moves) = (0, false);
            for host in plan.hosts() {
                match view.standing(plan, host, now) {
                    Standing::Converged => done += 1,
                    Standing::Failed(_) => {
                        done += 1;
                        let record = view.ledger.record(host, &plan.rollout_id);
                        moves |= record.is_some_and(|it| it.record.owes_rollback());
                    }
                    Standing::InFlight(_) => moves = true,
                    Standing::Waiting | Standing::Deferred { .. } => {}
                }
            }
            (done, moves)
        });
        let (done, moves) = counted.unwrap_or_default();
        self.done = done;
        moves
    }

    fn tell(&self, tell: &mut dyn FnMut(Progress)) {
        let elapsed = Duration::from_micros(self.world.now.saturating_sub(self.published));
        tell(Progress { elapsed, done: self.done, hosts: self.plan.targets.len() });
    }

    /// Kills the leader once the first wave is under way, at a moment at which it is not under way itself.
    fn lose_coordinator(&mut self) {
        if !self.options.lose_coordinator || self.lost.is_some() {
            return;
        }
        let Some(leader) = self.world.leader() else { return };
        let plan = &self.plan;
        let first = plan.waves.first().map(|wave| &wave.hosts);
        let due = self.ask(|view, now| {
            let is_under_way = |host: &HostId| {
                matches!(
                    view.standing(plan, host, now),
                    Standing::InFlight(HostState::Activating | HostState::Soaking)
                )
            };
            let begun =
                |host: &HostId| is_under_way(host) || view.standing(plan, host, now) == Standing::Converged;
            first.is_some_and(|hosts| hosts.iter().any(begun)) && !is_under_way(&leader)
        });
        if due == Some(true) {
            self.world.kill(&leader);
            self.lost = Some((leader, self.world.utc()));
        }
    }

    /// Promotes the waves that ask for it, if operators do so at once.
    fn promote(&mut self) {
        let wave = self
            .best()
            .and_then(|(_, node)| Some(node.ledger().rollouts().get(&self.plan.rollout_id)?.current_wave));
        let Some(wave) = wave.filter(|_| self.options.promote) else { return };
        let asks = self.plan.wave(wave).is_some_and(|wave| wave.manual_promotion);
        if asks && !self.promoted.iter().any(|(promoted, _)| *promoted == wave) {
            let at = self.world.utc();
            let what = json!({ "verb": "promote", "rollout": self.plan.rollout_id.as_str(), "wave": wave });
            let command = self.world.fleet.sign_command(at, what);
            self.world.spread(&command);
            self.promoted.push((wave, at));
        }
    }

    /// Of the gates that hold a host and tell when they open, the one that opens first.
    fn opens_soonest(&self) -> Option<Blocked> {
        let plan = &self.plan;
        self.ask(|view, now| {
            let waits = |host: &&HostId| view.standing(plan, host, now) == Standing::Waiting;
            let held = plan.hosts().filter(waits).filter_map(|host| gate::admit(view, plan, host, now).err());
            held.filter(|blocked| blocked.opens_at.is_some()).min_by_key(|blocked| blocked.opens_at)
        })
        .flatten()
    }

    /// Nobody has been under way since then; before a long wait the agents stop, to start again shortly before its end.
    fn wait(&mut self, since: u64, blocked: &Blocked) {
        let Some(until) = blocked.opens_at else { return };
        let ahead = (until - self.world.utc() - to_delta(WARM_UP)).to_std().unwrap_or_default();
        let sleeps = ahead >= SLEEP_FROM;
        if sleeps {
            self.world.sleep(ahead);
        }
        if self.waits.last().is_none_or(|last| last.until != until) {
            let from = true_time(since) + self.world.truth.calendar;
            let slept = sleeps.then(|| self.world.utc());
            self.waits.push(Wait { from, until, reason: blocked.reason.to_string(), slept });
        }
    }

    /// The coordinators, if too few of them are up.
    fn no_quorum(&self) -> Option<Held> {
        let down: Vec<HostId> = self
            .coordinators
            .iter()
            .filter(|host| self.world.node(host.as_str()).is_none())
            .cloned()
            .collect();
        let (of, needed) = (self.coordinators.len(), self.quorum);
        let up = of - down.len();
        (up < needed).then(|| {
            let error = ForecastError::NoQuorum { up, of, needed, down };
            Held { gate: None, reason: error.to_string() }
        })
    }
}

fn to_delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use muster_signing::{SigningKey, sha256};

    use super::*;

    const HOSTS: u8 = 9;

    fn documents() -> (String, String) {
        let key = |name: &str| SigningKey::from_seed(sha256(name.as_bytes()).0).public().to_openssh();
        let mut hosts = json!({});
        let mut targets = json!({});
        for n in 1..=HOSTS {
            let (name, tag) = (format!("h{n}"), if n <= 3 { "coordinator" } else { "web" });
            hosts[&name] = json!({ "key": key(&name), "channel": "stable", "tags": [tag] });
            targets[&name] = json!("dir:v2");
        }
        let fleet = json!({
            "kind": "muster/fleet/1", "fleet": "home", "serial": 1, "signedAt": "2025-03-01T10:00:00Z",
            "operators": { "alice": key("alice") },
            "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
            "coordinators": { "selector": { "tags": ["coordinator"] } },
            "hosts": hosts,
            "channels": { "stable": { "rolloutPolicy": "careful", "freshnessWindowMinutes": 60 } },
            "rolloutPolicies": { "careful": { "healthGate": { "maxFailures": 1 }, "waves": [
                { "selector": { "hosts": ["h4", "h5"] }, "soakSeconds": 60 },
                { "selector": { "all": true }, "soakSeconds": 5 } ] } },
            "disruptionBudgets": [{ "selector": { "all": true }, "maxInFlight": 3 }],
        });
        let fleet = fleet.to_string();
        let channel_ref = json!({
            "kind": "muster/channel-ref/1", "fleet": "home", "channel": "stable", "ref": "v2", "serial": 1,
            "signedAt": "2025-03-01T10:00:00Z", "fleetSerial": 1,
            "fleetHash": sha256(fleet.as_bytes()).to_string(), "targets": targets,
        });
        (fleet, channel_ref.to_string())
    }

    /// A host's end, and when it came in whole seconds.
    type Ended = (HostId, Option<HostState>, Option<i64>);

    fn ends(fail: &[&str], audience: bool) -> (End, Vec<Ended>) {
        let (fleet, channel_ref) = documents();
        let options = Options {
            at: "2025-03-01T10:10:00Z".parse().unwrap(),
            seed: 4,
            activation: Duration::from_millis(10_500),
            fail: fail.iter().map(|host| host.parse().unwrap()).collect(),
            offline: ["h9".parse().unwrap()].into(),
            lose_coordinator: false,
            promote: false,
            limit: Duration::from_secs(36_000),
        };
        let stand_in = StandIn::make(fleet.as_bytes(), channel_ref.as_bytes(), &options).unwrap();
        let mut play = Play::new(stand_in, &options);
        if !audience {
            play.world.audience = None;
            play.world.wake();
            play.world.kill(&"h9".parse().unwrap());
        }
        let forecast = play.run(&mut |_| ()).unwrap();
        let ended = |at: DateTime<Utc>| (at - options.at).num_seconds();
        let hosts = forecast.hosts.iter();
        let ends = hosts.map(|host| (host.host.clone(), host.state, host.ended_at().map(ended))).collect();
        (forecast.end, ends)
    }

    #[test]
    fn hosts_that_are_told_everything_do_nothing_else() {
        for fail in [&[][..], &["h5"], &["h4", "h5"], &["h7"]] {
            assert_eq!(ends(fail, true), ends(fail, false), "{fail:?}");
        }
    }
}
