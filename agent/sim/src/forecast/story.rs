//! What happened in a forecast, read from the records that the nodes themselves keep.

use chrono::{DateTime, Utc};
use muster_core::gate;
use muster_core::host;
use muster_core::id::HostId;
use muster_core::node::{Node, Note};
use muster_core::rollout;
use muster_core::view::Standing;
use muster_core::wire::{Cause, DecisionBody, HostState, ProbeMode, ProbeStatus, RolloutState};

use super::play::{Play, Wait};
use super::{End, Forecast, Happening, Held, HostForecast, WaveForecast, What};

/// The most names in a sentence.
const NAMES_MAX: usize = 12;

/// Names in a sentence.
pub(super) fn names(hosts: &[HostId]) -> String {
    let mut text = hosts.iter().take(NAMES_MAX).map(HostId::as_str).collect::<Vec<_>>().join(", ");
    if hosts.len() > NAMES_MAX {
        text.push_str(&format!(" and {} more", hosts.len() - NAMES_MAX));
    }
    text
}

impl Play<'_> {
    /// Tells the whole of it.
    pub(super) fn tell_story(&self, end: End, held: Option<Held>) -> Forecast {
        let hosts = self.host_forecasts(held.as_ref());
        let mut happenings = self.happenings(&hosts);
        happenings.sort_by_key(|happening| happening.at);
        let published_at = self.options.at;
        let last = happenings.iter().map(|happening| happening.at).max().unwrap_or(published_at);
        let up = |host: &&HostId| !self.options.offline.contains(*host);
        Forecast {
            fleet: self.plan.fleet.clone(),
            rollout: self.plan.rollout_id.clone(),
            published_at,
            end,
            ends_at: if end == End::Unfinished { self.world.utc() } else { last },
            coordinators: self.coordinators.iter().filter(up).cloned().collect(),
            coordinators_total: self.coordinators.len(),
            quorum: self.quorum,
            waves: self.wave_forecasts(&hosts),
            hosts,
            happenings,
        }
    }

    fn host_forecasts(&self, held: Option<&Held>) -> Vec<HostForecast> {
        let Some((_, node)) = self.best() else { return Vec::new() };
        let mut forecasts = Vec::new();
        for (wave, hosts) in (0..).zip(&self.plan.waves) {
            forecasts.extend(hosts.hosts.iter().map(|host| self.host_forecast(node, host, wave, held)));
        }
        forecasts
    }

    fn host_forecast(&self, node: &Node, host: &HostId, wave: u32, held: Option<&Held>) -> HostForecast {
        let rollout = &self.plan.rollout_id;
        let record = node.ledger().record(host, rollout).map(|mirrored| &mirrored.record);
        let entry = node.ledger().rollouts().get(rollout).and_then(|record| record.hosts.get(host));
        let counted = entry.filter(|entry| counts_by_silence(entry));
        let dispatched = record.filter(|record| record.dispatch_acked_at.is_some());
        let plan = &self.plan;
        let held_by = || {
            let blocked = self.ask(|view, now| {
                let waits = view.standing(plan, host, now) == Standing::Waiting;
                gate::admit(view, plan, host, now).err().filter(|_| waits)
            });
            held.cloned().or_else(|| blocked.flatten().as_ref().map(Held::from))
        };
        HostForecast {
            host: host.clone(),
            wave,
            target: self.plan.targets[host].clone(),
            state: counted.map(|entry| entry.state).or(dispatched.map(|record| record.state)),
            dispatched_at: dispatched.map(|record| record.dispatched_at),
            activated_at: record.and_then(|record| record.activation_completed_at),
            converged_at: record.and_then(|record| record.converged_at),
            failed_at: counted
                .map(|entry| entry.since)
                .or(record.and_then(|record| record.failed_at.or(record.activation_failed_at))),
            reverted_at: record.and_then(|record| record.reverted_at),
            excused: entry.and_then(|entry| entry.excused),
            held_by: if dispatched.is_none() && counted.is_none() { held_by() } else { None },
        }
    }

    fn wave_forecasts(&self, hosts: &[HostForecast]) -> Vec<WaveForecast> {
        let waves = (0..).zip(&self.plan.waves);
        let forecast = waves.map(|(wave, of)| {
            let hosts: Vec<&HostForecast> = hosts.iter().filter(|host| host.wave == wave).collect();
            let is = |states: &[HostState]| {
                hosts.iter().filter(|host| host.state.is_some_and(|state| states.contains(&state))).count()
            };
            WaveForecast {
                wave,
                soak_secs: of.soak_secs,
                hosts: hosts.len(),
                converged: is(&[HostState::Converged]),
                failed: is(&[HostState::Failed, HostState::Reverted]),
                at_once: at_once(&hosts),
                began_at: hosts.iter().filter_map(|host| host.dispatched_at).min(),
                ended_at: hosts.iter().filter_map(|host| host.ended_at()).max(),
            }
        });
        forecast.collect()
    }

    fn happenings(&self, hosts: &[HostForecast]) -> Vec<Happening> {
        let mut all = vec![Happening { at: self.options.at, what: What::Published }];
        all.extend(self.elections());
        if let Some((host, at)) = &self.lost {
            all.push(Happening { at: *at, what: What::CoordinatorLost { host: host.clone() } });
        }
        all.extend(
            self.promoted
                .iter()
                .map(|(wave, at)| Happening { at: *at, what: What::Promoted { wave: *wave } }),
        );
        all.extend(self.waits.iter().map(|wait| {
            let what = What::Waits { reason: wait.reason.clone(), until: wait.until };
            Happening { at: wait.from, what }
        }));
        for host in hosts {
            self.of_host(host, &mut all);
        }
        self.decided(hosts, &mut all);
        all
    }

    /// Who leads when the ref is published, and who does later.
    fn elections(&self) -> Vec<Happening> {
        let mut leads = Vec::new();
        for (at, host, note) in &self.world.notes {
            // Who leads anew since all agents were stopped together is no news.
            let woke = |wait: &Wait| wait.slept.is_some_and(|slept| slept <= *at && *at < wait.until);
            if let Note::Leading { leads: true, .. } = note
                && !self.waits.iter().any(woke)
            {
                leads.push((*at, host));
            }
        }
        let (before, later): (Vec<_>, Vec<_>) = leads.into_iter().partition(|(at, _)| *at <= self.options.at);
        let first = before.last().map(|(_, host)| (self.options.at, *host));
        let all = first.into_iter().chain(later);
        all.map(|(at, host)| Happening { at, what: What::Leads { host: host.clone() } }).collect()
    }

    fn of_host(&self, forecast: &HostForecast, all: &mut Vec<Happening>) {
        let (host, wave) = (&forecast.host, forecast.wave);
        let mut push =
            |at: Option<DateTime<Utc>>, what: What| all.extend(at.map(|at| Happening { at, what }));
        push(forecast.dispatched_at, What::Dispatched { host: host.clone(), wave });
        push(forecast.activated_at, What::Activated { host: host.clone(), wave });
        push(forecast.converged_at, What::Converged { host: host.clone(), wave });
        if forecast.failed_at.is_some() {
            let because = self.why_failed(host);
            push(forecast.failed_at, What::Failed { host: host.clone(), wave, because });
        }
        push(forecast.reverted_at, What::Reverted { host: host.clone(), wave });
    }

    fn why_failed(&self, host: &HostId) -> String {
        let Some((_, node)) = self.best() else { return String::new() };
        let rollout = &self.plan.rollout_id;
        let entry = node.ledger().rollouts().get(rollout).and_then(|record| record.hosts.get(host));
        let record = node.ledger().record(host, rollout).map(|mirrored| &mirrored.record);
        match entry.and_then(|entry| entry.cause) {
            Some(Cause::Lost) => "it fell silent under way".to_owned(),
            Some(Cause::Rejected) => match record.and_then(|record| record.rejected.values().last()) {
                Some(reason) => format!("it refused twice: {}", reason.name()),
                None => "it refused twice".to_owned(),
            },
            Some(Cause::Expired) => "two dispatches expired".to_owned(),
            Some(Cause::Overdue) => "it did not end in time".to_owned(),
            Some(Cause::NotFetched) => "it never held its target".to_owned(),
            Some(Cause::Reported { .. } | Cause::Unfounded) | None => {
                record.map(why_reported).unwrap_or_default()
            }
        }
    }

    /// What the coordinators decided about the whole rollout.
    fn decided(&self, hosts: &[HostForecast], all: &mut Vec<Happening>) {
        let rollout = &self.plan.rollout_id;
        let mut wave_now = 0;
        for (_, decision) in self.world.truth.decisions.values() {
            match &decision.body {
                DecisionBody::RolloutTransition { rollout_id, from, to, wave, at }
                    if rollout_id == rollout =>
                {
                    if *wave > wave_now {
                        all.push(Happening { at: *at, what: What::WaveDone { wave: wave_now } });
                        wave_now = *wave;
                    }
                    // It closes at once when its last wave is done.
                    let told = [RolloutState::Terminal, RolloutState::Failed, RolloutState::Reverted];
                    if *from != Some(*to) && told.contains(to) {
                        all.push(Happening { at: *at, what: What::Rollout { state: *to } });
                    }
                }
                DecisionBody::Quarantine { closure, host, rollout_id, .. } if rollout_id == rollout => {
                    let of = hosts.iter().find(|forecast| forecast.host == *host);
                    if let Some(at) = of.and_then(|forecast| forecast.failed_at) {
                        let what = What::Quarantined { closure: closure.clone(), host: host.clone() };
                        all.push(Happening { at, what });
                    }
                }
                DecisionBody::RolloutTransition { .. }
                | DecisionBody::Quarantine { .. }
                | DecisionBody::Dispatch { .. }
                | DecisionBody::Withdrawn { .. }
                | DecisionBody::LogSnapshot { .. } => {}
            }
        }
    }
}

impl HostForecast {
    /// When it has come to its end.
    pub fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.converged_at.or(self.reverted_at).or(self.failed_at)
    }
}

/// Whether the log says of a host what the host never said.
fn counts_by_silence(entry: &rollout::HostEntry) -> bool {
    entry.state == HostState::Failed && !matches!(entry.cause, Some(Cause::Reported { .. }) | None)
}

fn why_reported(record: &host::Record) -> String {
    if record.activation_failed_at.is_some() {
        return "its activation failed".to_owned();
    }
    let fails = record
        .probes
        .values()
        .any(|probe| probe.mode == ProbeMode::Enforce && probe.status == ProbeStatus::Fail);
    if fails { "its health check failed".to_owned() } else { "it left its target".to_owned() }
}

/// The most hosts that are under way at once.
fn at_once(hosts: &[&HostForecast]) -> usize {
    let mut edges: Vec<(DateTime<Utc>, bool)> = Vec::new();
    for host in hosts {
        if let Some(from) = host.dispatched_at {
            edges.push((from, true));
            edges.extend(host.ended_at().map(|until| (until, false)));
        }
    }
    // An end frees its place for a beginning of the same moment.
    edges.sort_unstable();
    let (mut now, mut most) = (0_usize, 0);
    for (_, begins) in edges {
        now = if begins { now + 1 } else { now.saturating_sub(1) };
        most = most.max(now);
    }
    most
}
