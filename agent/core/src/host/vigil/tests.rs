//! Stories of a host's health, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use chrono::TimeDelta;

use super::*;
use crate::host::{HostContext, Local, step};
use crate::wire::{HealthPolicy, HostEvent};

const SOAK_SECS: u64 = 300;

fn policy() -> Policy {
    Policy {
        max_failures: 0,
        on_health_failure: HealthPolicy::RollbackAndHalt,
        sustained_failure_secs: 60,
        dispatch_timeout_secs: 600,
        activation_timeout_secs: 1800,
        deferred_timeout_secs: 600_000,
        lost_after_secs: 3600,
        fetch_timeout_secs: 3600,
        deferred_advances: false,
    }
}

fn closure(name: &str) -> Closure {
    format!("dir:{name}").parse().unwrap()
}

/// What the host was asked to do by a look at the clocks.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    observe: bool,
    reset_probes: bool,
}

/// One host with its clocks, its record and its probes.
struct Story {
    now: Now,
    record: Record,
    vigil: Vigil,
    probes: Vec<DeclaredProbe>,
    runs: Option<Closure>,
    said: Vec<HostEventKind>,
}

impl Story {
    /// A host that was dispatched and switches.
    fn activating(probes: &[(&str, ProbeMode)]) -> Self {
        let now = Now { utc: DateTime::UNIX_EPOCH, mono: Mono(0) };
        let declare = |(name, mode): &(&str, ProbeMode)| DeclaredProbe {
            probe_name: name.parse().unwrap(),
            kind: "exec".into(),
            mode: *mode,
        };
        let record = Record::open(
            "stable@v2".parse().unwrap(),
            "web-01".parse().unwrap(),
            "stable".parse().unwrap(),
            closure("v2"),
            now.utc,
            after(now.utc, SOAK_SECS),
            SOAK_SECS,
            1,
        );
        let probes = probes.iter().map(declare).collect();
        let vigil = Vigil::new(now);
        let mut story = Self { now, record, vigil, probes, runs: Some(closure("v2")), said: Vec::new() };
        story.apply(vec![HostEventKind::DispatchAck {
            current_closure_at_dispatch: Some(closure("v1")),
            received_at: now.utc,
            log_index: 1,
        }]);
        story
    }

    /// A host that has just switched and declared its probes.
    fn soaking(probes: &[(&str, ProbeMode)]) -> Self {
        let mut story = Self::activating(probes);
        story.apply(vec![HostEventKind::ActivationCompleted {
            observed_current_closure: closure("v2"),
            exit_code: 0,
            completed_at: story.now.utc,
        }]);
        story.declare();
        story
    }

    fn apply(&mut self, kinds: Vec<HostEventKind>) {
        for kind in kinds {
            let rollout_id = self.record.rollout_id.clone();
            let event = HostEvent { rollout_id, seq: self.record.last_event_seq + 1, kind: kind.clone() };
            self.record = step::<Local>(&self.record, &HostContext::new(&policy()), &event).unwrap().record;
            self.said.push(kind);
        }
    }

    fn declare(&mut self) {
        let events = self.vigil.declared(self.now, self.probes.clone());
        self.apply(events);
    }

    /// Time passes, and everybody looks at the clock.
    fn pass(&mut self, secs: u64) -> Asked {
        self.now.utc = after(self.now.utc, secs);
        self.now.mono = plus(self.now.mono, secs);
        self.tick()
    }

    fn tick(&mut self) -> Asked {
        let Vigilance { events, observe, reset_probes } = self.vigil.tick(self.now, &self.record, &policy());
        self.apply(events);
        if reset_probes {
            self.declare();
        }
        if observe {
            let events = self.vigil.observed(self.now, &self.record, &policy(), self.runs.clone());
            self.apply(events);
        }
        Asked { observe, reset_probes }
    }

    fn run(&mut self, name: &str, status: ProbeStatus) -> Vec<&'static str> {
        let mode = self.probes.iter().find(|probe| probe.probe_name.as_str() == name).unwrap().mode;
        let run = ProbeRun {
            probe_name: name.parse().unwrap(),
            mode,
            status,
            failure_reason: Some("é".repeat(400)),
            sub_results: None,
        };
        let events = self.vigil.probe_ran(self.now, &self.record, run);
        let names = events.iter().map(HostEventKind::name).collect();
        self.apply(events);
        self.tick();
        names
    }

    fn state(&self) -> HostState {
        self.record.state
    }
}

use ProbeMode::{Disabled, Enforce, Observe};
use ProbeStatus::{Fail, Pass};

#[test]
fn healthy_host_converges_at_the_end_of_its_soak_and_not_before() {
    let mut story = Story::soaking(&[("http", Enforce), ("old", Disabled)]);
    assert_eq!(story.run("http", Pass), ["ProbeObservedFirst", "ProbeResult"]);
    assert_eq!(story.vigil.wakes_at(&story.record, &policy()), Some(plus(Mono(0), SOAK_SECS)));
    story.pass(SOAK_SECS - 1);
    assert_eq!(story.state(), HostState::Soaking);
    assert!(story.pass(1).observe);
    assert_eq!(story.state(), HostState::Converged);
    assert_eq!(story.vigil.wakes_at(&story.record, &policy()), None);
}

#[test]
fn host_without_probes_converges_after_its_soak() {
    let mut story = Story::soaking(&[]);
    story.pass(SOAK_SECS);
    assert_eq!(story.state(), HostState::Converged);
}

#[test]
fn host_whose_probes_cannot_be_read_asks_again_and_then_fails() {
    let mut story = Story::activating(&[]);
    story.apply(vec![HostEventKind::ActivationCompleted {
        observed_current_closure: closure("v2"),
        exit_code: 0,
        completed_at: story.now.utc,
    }]);
    story.vigil.undeclared(story.now);
    story.tick();
    for _ in 0..policy().sustained_failure_secs / DECLARE_AGAIN_SECS {
        let wakes_at = story.vigil.wakes_at(&story.record, &policy());
        assert_eq!(wakes_at, Some(plus(story.now.mono, DECLARE_AGAIN_SECS)));
        story.now.utc = after(story.now.utc, DECLARE_AGAIN_SECS);
        story.now.mono = plus(story.now.mono, DECLARE_AGAIN_SECS);
        let look = story.vigil.tick(story.now, &story.record, &policy());
        assert_eq!((look.reset_probes, look.events), (true, vec![]));
        story.vigil.undeclared(story.now);
    }
    story.tick();
    assert_eq!(story.state(), HostState::Failed);
}

#[test]
fn probes_that_can_be_read_again_heal_the_host() {
    let mut story = Story::activating(&[("http", Enforce)]);
    story.apply(vec![HostEventKind::ActivationCompleted {
        observed_current_closure: closure("v2"),
        exit_code: 0,
        completed_at: story.now.utc,
    }]);
    story.vigil.undeclared(story.now);
    // An agent that stood still for long asks once more before it fails.
    assert!(story.pass(3600).reset_probes);
    story.run("http", Pass);
    story.pass(SOAK_SECS);
    assert_eq!(story.state(), HostState::Converged);
}

#[test]
fn results_are_said_when_they_are_first_or_changed_or_ten_minutes_old() {
    let mut story = Story::soaking(&[("http", Enforce), ("quiet", Enforce)]);
    assert_eq!(story.run("http", Pass), ["ProbeObservedFirst", "ProbeResult"]);
    story.pass(30);
    assert!(story.run("http", Pass).is_empty());
    assert_eq!(story.run("http", Fail), ["ProbeResult", "ProbeFailureFirst"]);
    assert!(story.run("http", Fail).is_empty());
    assert_eq!(story.run("http", Pass), ["ProbeResult"]);
    story.pass(PROBE_REPEAT_SECS);
    assert_eq!(story.run("http", Pass), ["ProbeResult"]);
    assert_eq!(story.run("quiet", Fail), ["ProbeObservedFirst", "ProbeResult", "ProbeFailureFirst"]);
    let reason = story.record.probes.values().find_map(|probe| probe.failure_reason.clone()).unwrap();
    assert_eq!(reason.len(), FAILURE_REASON_BYTES_MAX);
}

#[test]
fn flapping_probe_does_not_fail_the_host_and_holds_it_while_it_fails() {
    let mut story = Story::soaking(&[("http", Enforce)]);
    for _ in 0..5 {
        story.run("http", Fail);
        story.pass(59);
        story.run("http", Pass);
    }
    story.run("http", Fail);
    story.pass(59);
    assert_eq!(story.state(), HostState::Soaking, "past its soak, and failing now");
    story.run("http", Pass);
    assert_eq!(story.state(), HostState::Converged);
}

#[test]
fn sustained_failure_fails_the_host_with_the_signed_policy() {
    let mut story = Story::soaking(&[("http", Enforce), ("tcp", Enforce)]);
    story.run("tcp", Pass);
    story.pass(10);
    story.run("http", Fail);
    assert_eq!(story.vigil.wakes_at(&story.record, &policy()), Some(plus(Mono(0), 70)));
    story.pass(59);
    assert_eq!(story.state(), HostState::Soaking);
    story.pass(1);
    assert_eq!(story.state(), HostState::Failed);
    assert!(story.record.owes_rollback());
    let HostEventKind::Failed { failing_probes, sustained_duration_secs, .. } = story.said.last().unwrap()
    else {
        panic!("{:?}", story.said.last());
    };
    assert_eq!((failing_probes.as_slice(), *sustained_duration_secs), (&["http".parse().unwrap()][..], 60));
}

#[test]
fn observe_probe_never_gates() {
    let mut story = Story::soaking(&[("http", Enforce), ("disk", Observe)]);
    story.run("http", Pass);
    assert_eq!(story.run("disk", Fail), ["ProbeObservedFirst", "ProbeResult", "ProbeFailureFirst"]);
    story.pass(SOAK_SECS);
    assert_eq!(story.state(), HostState::Converged);
}

#[test]
fn silent_probe_never_converges() {
    let mut story = Story::soaking(&[("http", Enforce), ("tcp", Enforce)]);
    story.run("http", Pass);
    for _ in 0..100 {
        assert_eq!(story.pass(SOAK_SECS), Asked { observe: false, reset_probes: false });
    }
    assert_eq!(story.state(), HostState::Soaking);
    assert_eq!(story.vigil.wakes_at(&story.record, &policy()), None);
}

#[test]
fn host_off_its_target_at_the_end_fails_without_naming_a_probe() {
    let mut story = Story::soaking(&[("http", Enforce)]);
    story.run("http", Pass);
    story.runs = Some(closure("v1"));
    story.pass(SOAK_SECS);
    assert_eq!(story.state(), HostState::Failed);
    assert!(
        matches!(story.said.last(), Some(HostEventKind::Failed { failing_probes, .. }) if failing_probes.is_empty())
    );
}

#[test]
fn host_that_cannot_tell_what_it_runs_keeps_soaking_and_asks_again() {
    let mut story = Story::soaking(&[("http", Enforce)]);
    story.run("http", Pass);
    story.runs = None;
    assert!(story.pass(SOAK_SECS).observe);
    assert!(!story.pass(OBSERVE_AGAIN_SECS - 1).observe);
    let wakes_at = story.vigil.wakes_at(&story.record, &policy());
    assert_eq!(wakes_at, Some(plus(Mono(0), SOAK_SECS + OBSERVE_AGAIN_SECS)));
    assert!(story.pass(1).observe);
    assert_eq!(story.state(), HostState::Soaking);
    story.runs = Some(closure("v2"));
    story.pass(OBSERVE_AGAIN_SECS);
    assert_eq!(story.state(), HostState::Converged);
}

#[test]
fn jump_of_the_clock_starts_soak_and_probes_again() {
    for jump in [31, -31, 100_000_000] {
        let mut story = Story::soaking(&[("http", Enforce)]);
        story.run("http", Pass);
        story.pass(SOAK_SECS - 10);
        story.now.utc += TimeDelta::seconds(jump);
        assert!(story.vigil.clock_jumped(story.now));
        assert!(story.tick().reset_probes);
        assert!(story.record.probes.is_empty());
        story.pass(20);
        assert_eq!(story.state(), HostState::Soaking, "jump of {jump} s");
        story.run("http", Pass);
        story.pass(SOAK_SECS - 21);
        assert_eq!(story.state(), HostState::Soaking, "jump of {jump} s");
        story.pass(1);
        assert_eq!(story.state(), HostState::Converged, "jump of {jump} s");
    }
}

#[test]
fn small_corrections_of_the_clock_add_up() {
    let mut story = Story::soaking(&[("http", Enforce)]);
    story.run("http", Pass);
    for _ in 0..2 {
        story.pass(100);
        story.now.utc += TimeDelta::seconds(20);
    }
    assert!(story.tick().reset_probes);
}

#[test]
fn soak_counts_on_both_clocks() {
    let mut story = Story::soaking(&[("http", Enforce)]);
    story.run("http", Pass);
    story.now.utc += TimeDelta::seconds(20);
    story.pass(SOAK_SECS - 10);
    assert_eq!(story.state(), HostState::Soaking, "the wall clock alone is not enough");
    story.now.utc -= TimeDelta::seconds(40);
    story.pass(10);
    assert_eq!(story.state(), HostState::Soaking, "nor is the monotonic one");
    assert_eq!(story.vigil.wakes_at(&story.record, &policy()), Some(plus(story.now.mono, 20)));
    story.pass(20);
    assert_eq!(story.state(), HostState::Converged);
}

#[test]
fn activation_that_does_not_end_fails() {
    let mut story = Story::activating(&[]);
    assert_eq!(story.vigil.wakes_at(&story.record, &policy()), Some(plus(Mono(0), 1800)));
    story.now.utc += TimeDelta::days(1);
    story.pass(1799);
    assert_eq!(story.state(), HostState::Activating, "a jump of the wall clock is no timeout");
    story.pass(1);
    assert_eq!(story.state(), HostState::Failed);
}

#[test]
fn run_of_another_set_or_mode_is_ignored() {
    let mut story = Story::soaking(&[("http", Enforce), ("old", Disabled)]);
    assert!(story.run("old", Pass).is_empty());
    story.probes = vec![DeclaredProbe { mode: Observe, ..story.probes[0].clone() }];
    assert!(story.run("http", Fail).is_empty());
    story.declare();
    assert_eq!(story.run("http", Pass).len(), 2);
    let twice = story.vigil.declared(story.now, vec![story.probes[0].clone(), story.probes[0].clone()]);
    assert!(matches!(&twice[..], [HostEventKind::ProbeTopologyDeclared { probes, .. }] if probes.len() == 1));
}

#[test]
fn restart_begins_the_soak_again() {
    let mut story = Story::soaking(&[("http", Enforce)]);
    story.run("http", Pass);
    story.pass(SOAK_SECS - 1);
    story.vigil = Vigil::new(story.now);
    story.declare();
    story.run("http", Pass);
    story.pass(SOAK_SECS - 1);
    assert_eq!(story.state(), HostState::Soaking);
    story.pass(1);
    assert_eq!(story.state(), HostState::Converged);
}
