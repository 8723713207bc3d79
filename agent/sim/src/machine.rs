//! A stand-in for one machine: what it runs, and how its switches and probes go.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::host::{Boot, Found, Job as JobTrace, ProbeRun};
use muster_core::id::{Closure, ProbeName};
use muster_core::node::{HostOrder, HostReport, Job};
use muster_core::wire::{DeclaredProbe, ProbeMode, ProbeStatus};

/// How long a switch or a rollback takes.
const SWITCH: Duration = Duration::from_millis(500);
/// Between two runs of the probe.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Which releases are bad.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Releases whose probe fails.
    pub unhealthy: BTreeSet<Closure>,
    /// Releases whose switch fails.
    pub unswitchable: BTreeSet<Closure>,
}

/// One machine; it survives its agent.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) running: Option<Closure>,
    /// Every activation that was begun: what a test counts.
    pub(crate) activations: Vec<Closure>,
    ended: Vec<(Job, bool, i32)>,
    probing: Option<u64>,
}

impl Machine {
    pub(crate) fn new(running: Option<Closure>) -> Self {
        Self { running, activations: Vec::new(), ended: Vec::new(), probing: None }
    }

    /// Carries out an order; what the agent is told, and after how long.
    pub(crate) fn obey(&mut self, order: HostOrder, health: &Health) -> Option<(Duration, HostReport)> {
        match order {
            HostOrder::Switch(job) => Some((SWITCH, self.switch(job, false, health))),
            HostOrder::RollBack(job) => Some((SWITCH, self.switch(job, true, health))),
            HostOrder::Await { job, rollback } => {
                let ended = self.ended.iter().find(|(of, back, _)| *of == job && *back == rollback);
                let exit_code = ended.map_or(-1, |(.., exit_code)| *exit_code);
                Some((Duration::ZERO, self.report(&job, rollback, exit_code)))
            }
            HostOrder::Inspect { job, rollback, .. } => {
                let ended = self.ended.iter().find(|(of, back, _)| *of == job && *back == rollback);
                let found = Found {
                    boot: Boot::Same,
                    job: ended.map_or(JobTrace::None, |(.., exit_code)| JobTrace::Ended {
                        exit_code: *exit_code,
                        stderr_tail: String::new(),
                    }),
                    observed: self.running.clone(),
                };
                Some((Duration::ZERO, HostReport::Inspected { rollout: job.rollout, found }))
            }
            HostOrder::StartProbes { generation } => {
                self.probing = Some(generation);
                let probe = DeclaredProbe {
                    probe_name: probe_name(),
                    kind: "exec".to_owned(),
                    mode: ProbeMode::Enforce,
                };
                Some((Duration::ZERO, HostReport::ProbesDeclared { generation, probes: Ok(vec![probe]) }))
            }
            HostOrder::StopProbes => {
                self.probing = None;
                None
            }
            HostOrder::Observe => Some((Duration::ZERO, HostReport::Running(self.running.clone()))),
        }
    }

    /// Runs the probe of this start once, if it has not been stopped since; says when it runs again.
    pub(crate) fn probe(&self, generation: u64, health: &Health) -> Option<(Duration, HostReport)> {
        let fails = self.running.as_ref().is_some_and(|running| health.unhealthy.contains(running));
        let run = ProbeRun {
            probe_name: probe_name(),
            mode: ProbeMode::Enforce,
            status: if fails { ProbeStatus::Fail } else { ProbeStatus::Pass },
            failure_reason: fails.then(|| "the release is bad".to_owned()),
            sub_results: None,
        };
        (self.probing == Some(generation))
            .then_some((PROBE_INTERVAL, HostReport::ProbeRan { generation, run }))
    }

    /// The agent is gone; what it had started goes on, its probes do not.
    pub(crate) fn agent_died(&mut self) {
        self.probing = None;
    }

    fn switch(&mut self, job: Job, rollback: bool, health: &Health) -> HostReport {
        self.activations.push(job.target.clone());
        let fails = !rollback && health.unswitchable.contains(&job.target);
        let exit_code = if fails { 1 } else { 0 };
        if !fails {
            self.running = Some(job.target.clone());
        }
        self.ended.push((job.clone(), rollback, exit_code));
        self.report(&job, rollback, exit_code)
    }

    fn report(&self, job: &Job, rollback: bool, exit_code: i32) -> HostReport {
        let (rollout, observed) = (job.rollout.clone(), self.running.clone());
        if rollback {
            HostReport::RollbackEnded { rollout, exit_code, observed }
        } else {
            HostReport::SwitchEnded { rollout, exit_code, stderr_tail: String::new(), observed }
        }
    }
}

fn probe_name() -> ProbeName {
    "works".parse().unwrap_or_else(|error| panic!("a probe's name: {error}"))
}
