//! A host's watch over its own health while it activates and soaks.
//!
//! ```text
//!  Activating:  activation timeout -------------------------------> ActivationFailed
//!  Soaking:     ResetProbeCache -> declared() -> probe_ran()* ----> probe events
//!                 an enforced probe fails for long enough --------> Failed
//!                 soaked, all enforced probes pass -> observe ----> Converged, or Failed if off target
//!                 the clock jumped -> reset: soak and probes start again
//! ```
//!
//! A vigil is never stored: after a restart a new one begins, and the soak with it. It only proposes events; the
//! caller numbers and signs them, stores them and applies them through [`step`](super::step()), which checks again.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::after;
use super::record::{NO_EXIT_CODE, Record};
use super::recover::lost_health;
use super::step::check_enforced_probes;
use crate::document::plan::Policy;
use crate::id::{Closure, ProbeName};
use crate::planted::{Bug, Planted};
use crate::time::{Mono, Now};
use crate::wire::{
    DeclaredProbe, FAILURE_REASON_BYTES_MAX, HostEventKind, HostState, ProbeMode, ProbeStatus, SubResult,
};

/// A result that does not change is said again after so long, in seconds.
pub const PROBE_REPEAT_SECS: u64 = 600;
/// The most that the wall clock may move against the monotonic one during a soak, in seconds.
pub const CLOCK_JUMP_SECS_MAX: u64 = 30;
/// An observation that was asked for and not answered is asked for again after so long, in seconds.
pub const OBSERVE_AGAIN_SECS: u64 = 30;
/// Declared probes that could not be read are asked for again after so long, in seconds.
pub(super) const DECLARE_AGAIN_SECS: u64 = 10;

/// One run of a probe, as its runner saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRun {
    /// The probe.
    pub probe_name: ProbeName,
    /// The mode that it was declared in.
    pub mode: ProbeMode,
    /// How it went.
    pub status: ProbeStatus,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// One result per control of an evidence probe.
    pub sub_results: Option<Vec<SubResult>>,
}

/// What a look at the clocks came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "the events are owed"]
pub struct Vigilance {
    /// The events to apply, in order.
    pub events: Vec<HostEventKind>,
    /// Whether to ask the backend what runs and hand the answer to [`Vigil::observed`].
    pub observe: bool,
    /// Whether to carry out `ResetProbeCache`, since the clock jumped.
    pub reset_probes: bool,
}

/// What decides about a host's own health between its dispatch and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vigil {
    began: Mono,
    seen: Now,
    soak: Option<Now>,
    declared: bool,
    reset: Reset,
    asked: Option<Mono>,
    unreadable: Option<Unreadable>,
    probes: BTreeMap<ProbeName, Watch>,
    planted: Planted,
}

/// Since when nobody can tell which probes the host is to run, and when that was last tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unreadable {
    since: Mono,
    tried: Mono,
}

/// Whether the probes have to be declared anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    None,
    Owed,
    Asked,
}

/// What was seen of one declared probe since the probes were reset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watch {
    mode: ProbeMode,
    status: Option<ProbeStatus>,
    said_at: Option<Mono>,
    failing_since: Option<Mono>,
}

impl Vigil {
    /// Begins the watch: when the switch is fired, when the soak begins, and after every restart.
    pub fn new(now: Now) -> Self {
        Self::with(now, Planted::default())
    }

    /// The same with a bug, or none.
    pub(crate) fn with(now: Now, planted: Planted) -> Self {
        Self {
            planted,
            began: now.mono,
            seen: now,
            soak: None,
            declared: false,
            reset: Reset::None,
            asked: None,
            unreadable: None,
            probes: BTreeMap::new(),
        }
    }

    /// Takes note that the declared probes cannot be read: they are asked for again, and if that lasts for as long as a
    /// failing probe may fail, the host fails. A health that nobody can tell is none.
    pub fn undeclared(&mut self, now: Now) {
        let since = self.unreadable.map_or(now.mono, |unreadable| unreadable.since);
        self.unreadable = Some(Unreadable { since, tried: now.mono });
    }

    /// Takes the set of probes that the host runs from now on; of two with one name the first counts.
    pub fn declared(&mut self, now: Now, probes: Vec<DeclaredProbe>) -> Vec<HostEventKind> {
        let _ = self.clock_jumped(now);
        self.reset = Reset::None;
        self.unreadable = None;
        self.soak.get_or_insert(now);
        self.declared = true;
        self.probes.clear();
        let mut kept = Vec::with_capacity(probes.len());
        for probe in probes {
            if !self.probes.contains_key(&probe.probe_name) {
                let watch = Watch { mode: probe.mode, status: None, said_at: None, failing_since: None };
                self.probes.insert(probe.probe_name.clone(), watch);
                kept.push(probe);
            }
        }
        vec![HostEventKind::ProbeTopologyDeclared { probes: kept, declared_at: now.utc }]
    }

    /// Takes one run of a probe; a run of another set or state than the present one is ignored.
    pub fn probe_ran(&mut self, now: Now, record: &Record, run: ProbeRun) -> Vec<HostEventKind> {
        let ready = record.state == HostState::Soaking && record.declared_probes.is_some() && self.declared;
        if self.clock_jumped(now) || !ready {
            return Vec::new();
        }
        let Some(watch) = self.probes.get_mut(&run.probe_name) else { return Vec::new() };
        if watch.mode != run.mode || run.mode == ProbeMode::Disabled {
            return Vec::new();
        }
        watch.take(now, run)
    }

    /// Looks at the clocks. Called at [`Vigil::wakes_at`] and after every other input of the host's own.
    pub fn tick(&mut self, now: Now, record: &Record, policy: &Policy) -> Vigilance {
        let _ = self.clock_jumped(now);
        match record.state {
            HostState::Activating => self.tick_activating(now, policy),
            HostState::Soaking => self.tick_soaking(now, record, policy),
            HostState::Pending
            | HostState::Deferred
            | HostState::Converged
            | HostState::Failed
            | HostState::Reverted => Vigilance::default(),
        }
    }

    /// Takes what the backend says runs: the end of the soak if that is due, the end of the host's health if it left
    /// its target, and nothing if the backend cannot tell.
    pub fn observed(
        &mut self,
        now: Now,
        record: &Record,
        policy: &Policy,
        running: Option<Closure>,
    ) -> Vec<HostEventKind> {
        let jumped = self.clock_jumped(now);
        let Some(current_closure) = running.filter(|_| record.state == HostState::Soaking) else {
            return Vec::new();
        };
        self.asked = None;
        if current_closure != record.target_closure {
            return vec![lost_health(policy, now.utc)];
        }
        if jumped || !self.is_due(now, record) {
            return Vec::new();
        }
        vec![HostEventKind::Converged { converged_at: now.utc, current_closure }]
    }

    /// Whether the wall clock jumped against the monotonic one; soak and probes then start again.
    ///
    /// Stays true until the probes are declared anew.
    pub fn clock_jumped(&mut self, now: Now) -> bool {
        self.seen = now;
        let limit = Duration::from_secs(CLOCK_JUMP_SECS_MAX);
        if self.soak.is_some_and(|soak| skew(soak, now) > limit) && !self.planted.has(Bug::ClockJumpIgnored) {
            self.soak = Some(now);
            self.declared = false;
            self.asked = None;
            self.probes.clear();
            if self.reset == Reset::None {
                self.reset = Reset::Owed;
            }
        }
        self.reset != Reset::None
    }

    /// When [`Vigil::tick`] has something to look at next.
    pub fn wakes_at(&self, record: &Record, policy: &Policy) -> Option<Mono> {
        match record.state {
            HostState::Activating => Some(plus(self.began, policy.activation_timeout_secs)),
            HostState::Soaking => {
                let soak_end = self.soak_wakes_at(record);
                let failing = self.failing().map(|(_, since)| plus(since, policy.sustained_failure_secs));
                let declare = self.unreadable.map(|unreadable| {
                    let limit = policy.sustained_failure_secs.max(DECLARE_AGAIN_SECS);
                    let fails = plus(unreadable.since, limit);
                    let again = plus(unreadable.tried, DECLARE_AGAIN_SECS);
                    if fails > self.seen.mono { again.min(fails) } else { again }
                });
                failing.chain(soak_end).chain(declare).min()
            }
            HostState::Pending
            | HostState::Deferred
            | HostState::Converged
            | HostState::Failed
            | HostState::Reverted => None,
        }
    }

    fn tick_activating(&self, now: Now, policy: &Policy) -> Vigilance {
        let limit = policy.activation_timeout_secs;
        if now.mono < plus(self.began, limit) {
            return Vigilance::default();
        }
        let failed = HostEventKind::ActivationFailed {
            exit_code: NO_EXIT_CODE,
            stderr_tail: format!("the activation did not end within {limit} s"),
            failed_at: now.utc,
        };
        Vigilance { events: vec![failed], ..Vigilance::default() }
    }

    fn tick_soaking(&mut self, now: Now, record: &Record, policy: &Policy) -> Vigilance {
        self.soak.get_or_insert(now);
        if self.reset == Reset::Owed {
            self.reset = Reset::Asked;
            return Vigilance { reset_probes: true, ..Vigilance::default() };
        }
        if let Some(failed) =
            self.sustained_failure(now, policy).or_else(|| self.unreadable_for_long(now, policy))
        {
            return Vigilance { events: vec![failed], ..Vigilance::default() };
        }
        if let Some(unreadable) = &mut self.unreadable
            && now.mono >= plus(unreadable.tried, DECLARE_AGAIN_SECS)
        {
            unreadable.tried = now.mono;
            return Vigilance { reset_probes: true, ..Vigilance::default() };
        }
        let silent = self.asked.is_none_or(|asked| now.mono >= plus(asked, OBSERVE_AGAIN_SECS));
        let observe = silent && self.is_due(now, record);
        if observe && self.planted.has(Bug::ConvergeUnasked) {
            let current_closure = record.target_closure.clone();
            let events = vec![HostEventKind::Converged { converged_at: now.utc, current_closure }];
            return Vigilance { events, ..Vigilance::default() };
        }
        if observe {
            self.asked = Some(now.mono);
        }
        Vigilance { observe, ..Vigilance::default() }
    }

    fn sustained_failure(&self, now: Now, policy: &Policy) -> Option<HostEventKind> {
        let limit = policy.sustained_failure_secs;
        let failing: Vec<(&ProbeName, Mono)> =
            self.failing().filter(|(_, since)| now.mono >= plus(*since, limit)).collect();
        let first = failing.iter().map(|(_, since)| *since).min()?;
        Some(HostEventKind::Failed {
            failed_at: now.utc,
            sustained_duration_secs: now.mono.since(first).as_secs(),
            failing_probes: failing.into_iter().map(|(name, _)| name.clone()).collect(),
            policy_applied: policy.on_health_failure,
        })
    }

    /// Asked for once more at least before it counts, so that an agent that stood still does not fail by its own sleep.
    fn unreadable_for_long(&self, now: Now, policy: &Policy) -> Option<HostEventKind> {
        let Unreadable { since, tried } = self.unreadable?;
        let asked_again = tried > since && now.mono < plus(tried, DECLARE_AGAIN_SECS);
        let limit = policy.sustained_failure_secs.max(DECLARE_AGAIN_SECS);
        (asked_again && now.mono >= plus(since, limit)).then(|| HostEventKind::Failed {
            failed_at: now.utc,
            sustained_duration_secs: now.mono.since(since).as_secs(),
            failing_probes: Vec::new(),
            policy_applied: policy.on_health_failure,
        })
    }

    fn failing(&self) -> impl Iterator<Item = (&ProbeName, Mono)> {
        let enforced = self.probes.iter().filter(|(_, watch)| watch.mode == ProbeMode::Enforce);
        enforced.filter_map(|(name, watch)| Some((name, watch.failing_since?)))
    }

    /// Soaked on both clocks, and healthy both by what is recorded and by what was seen since the reset.
    fn is_due(&self, now: Now, record: &Record) -> bool {
        let Some((mono, utc)) = self.soak_ends(record) else { return false };
        let soaked = (now.mono >= mono && now.utc >= utc) || self.planted.has(Bug::SoakUnchecked);
        soaked && self.is_healthy(record)
    }

    fn soak_ends(&self, record: &Record) -> Option<(Mono, DateTime<Utc>)> {
        let soak = self.soak?;
        if self.planted.has(Bug::SoakFromDispatch) {
            return Some((soak.mono, after(record.dispatch_acked_at?, record.soak_secs)));
        }
        let utc = record.soak_deadline()?.max(after(soak.utc, record.soak_secs));
        Some((plus(soak.mono, record.soak_secs), utc))
    }

    fn is_healthy(&self, record: &Record) -> bool {
        let seen = self.probes.values().filter(|watch| watch.mode == ProbeMode::Enforce);
        let recorded = record
            .activation_completed_at
            .is_some_and(|completed_at| check_enforced_probes(record, completed_at, self.planted).is_ok());
        if self.planted.has(Bug::SilenceIsHealth) {
            return recorded;
        }
        self.declared && recorded && seen.into_iter().all(|watch| watch.status == Some(ProbeStatus::Pass))
    }

    fn soak_wakes_at(&self, record: &Record) -> Option<Mono> {
        if self.reset == Reset::Owed || self.soak.is_none() {
            return Some(self.seen.mono);
        }
        let (mono, utc) = self.soak_ends(record)?;
        if !self.is_healthy(record) {
            return None;
        }
        let to_go = (utc - self.seen.utc).to_std().unwrap_or_default();
        let due = mono.max(self.seen.mono.after(to_go));
        let due = if self.planted.has(Bug::SoakUnchecked) { self.seen.mono } else { due };
        Some(self.asked.map_or(due, |asked| due.max(plus(asked, OBSERVE_AGAIN_SECS))))
    }
}

impl Watch {
    fn take(&mut self, now: Now, run: ProbeRun) -> Vec<HostEventKind> {
        let ProbeRun { probe_name, mode, status, failure_reason, sub_results } = run;
        let first = self.status.is_none();
        let changed = self.status != Some(status);
        let repeat = self.said_at.is_none_or(|said| now.mono >= plus(said, PROBE_REPEAT_SECS));
        let begins_to_fail = changed && status == ProbeStatus::Fail;
        self.status = Some(status);
        self.failing_since = match status {
            ProbeStatus::Pass => None,
            ProbeStatus::Fail => self.failing_since.or(Some(now.mono)),
        };
        if !changed && !repeat {
            return Vec::new();
        }
        self.said_at = Some(now.mono);
        let mut events = Vec::new();
        if first {
            let probe_name = probe_name.clone();
            events.push(HostEventKind::ProbeObservedFirst { probe_name, mode, observed_at: now.utc });
        }
        events.push(HostEventKind::ProbeResult {
            probe_name: probe_name.clone(),
            mode,
            status,
            observed_at: now.utc,
            failure_reason: failure_reason.filter(|_| status == ProbeStatus::Fail).map(cut),
            sub_results,
        });
        if begins_to_fail {
            events.push(HostEventKind::ProbeFailureFirst { probe_name, mode, first_failed_at: now.utc });
        }
        events
    }
}

fn plus(mono: Mono, secs: u64) -> Mono {
    mono.after(Duration::from_secs(secs))
}

/// By how much the wall clock moved otherwise than the monotonic one since `base`.
fn skew(base: Now, now: Now) -> Duration {
    let by_mono = now.mono.since(base.mono);
    let by_utc = now.utc.signed_duration_since(base.utc);
    by_utc.to_std().map_or_else(
        |_| by_mono.saturating_add((-by_utc).to_std().unwrap_or(Duration::MAX)),
        |by_utc| by_utc.abs_diff(by_mono),
    )
}

fn cut(mut reason: String) -> String {
    let end = (0..=FAILURE_REASON_BYTES_MAX).rev().find(|end| reason.is_char_boundary(*end));
    if reason.len() > FAILURE_REASON_BYTES_MAX {
        reason.truncate(end.unwrap_or_default());
    }
    reason
}

#[cfg(test)]
mod tests;
