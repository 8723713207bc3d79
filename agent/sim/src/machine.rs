//! A stand-in for one machine: what it runs, and how its switches and probes go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_core::host::{Boot, Found, Job as JobTrace, ProbeRun};
use muster_core::id::{Closure, ProbeName, RolloutId};
use muster_core::node::{Fetch, Goods, HostOrder, HostReport, Job};
use muster_core::wire::{DeclaredProbe, ProbeMode, ProbeStatus};

use crate::fault::{Fault, Faults};
use crate::random::Random;

/// How long a switch or a rollback takes when nothing is wrong.
const SWITCH: Duration = Duration::from_millis(500);
/// How long a backend takes to answer a question.
const ANSWER: Duration = Duration::from_millis(2);
/// The exit code of a switch that was killed since it took too long.
const KILLED: i32 = -1;
/// What a switch names as the reason why it waits for a boot.
const COMPONENT: &str = "kernel";

/// Which releases are bad.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Releases whose probe fails.
    pub unhealthy: BTreeSet<Closure>,
    /// Releases whose switch fails.
    pub unswitchable: BTreeSet<Closure>,
    /// Releases that a running machine cannot switch to; they wait for its next boot.
    pub deferred: BTreeSet<Closure>,
    /// Releases whose probe begins to fail so long after the switch.
    pub fails_after: BTreeMap<Closure, Duration>,
}

/// What a machine draws from: chance, the faults of the run, and which releases are bad.
#[derive(Debug)]
pub(crate) struct Weather<'a> {
    pub(crate) now: u64,
    pub(crate) random: &'a mut Random,
    pub(crate) faults: &'a mut Faults,
    pub(crate) health: &'a Health,
}

/// What comes of an order, each after so long.
#[derive(Debug)]
pub(crate) enum Told {
    /// The agent hears of it.
    Report(Duration, HostReport),
    /// The job of that number ends, whoever still listens.
    Ends(Duration, u64),
    /// A probe of that start runs next.
    Probe(Duration, u64),
    /// Something befalls the machine, if it is still in the state for it.
    Befalls(Duration, Fault),
}

/// Names a job: rollout, log index of its dispatch, whether it goes back.
pub(crate) type JobName = (RolloutId, u64, bool);

#[derive(Debug, Clone)]
struct Running {
    number: u64,
    name: JobName,
    exit_code: i32,
    /// What runs afterwards; none: nothing changes.
    then: Option<Closure>,
    /// What runs after the next boot, if the job leaves what runs now alone.
    defers: Option<Closure>,
}

/// One machine; it survives its agent.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) running: Option<Closure>,
    /// Since when it runs that.
    pub(crate) since: u64,
    pub(crate) booted: u64,
    pub(crate) boot: u64,
    /// Every activation that was begun: what a test counts.
    pub(crate) activations: Vec<Closure>,
    /// Whether it was switched by something else than its agent.
    pub(crate) tampered: bool,
    /// When it was last asked what it runs, and what it said.
    pub(crate) said: Option<(u64, Option<Closure>)>,
    /// The last result of each probe since the last switch or boot.
    pub(crate) results: BTreeMap<ProbeName, (u64, bool)>,
    /// When each probe last passed since the last switch or boot.
    pub(crate) passed: BTreeMap<ProbeName, u64>,
    pub(crate) probe_interval: Duration,
    /// How long a switch or a rollback takes when nothing is wrong.
    pub(crate) switch: Duration,
    /// A release whose probe fails on this machine.
    pub(crate) sick_on: Option<Closure>,
    /// Whether a second probe is declared, one that is only watched.
    pub(crate) watches: bool,
    pub(crate) blind_until: u64,
    pub(crate) silent_until: u64,
    job: Option<Running>,
    jobs: u64,
    ended: BTreeMap<JobName, i32>,
    deferred: BTreeSet<JobName>,
    /// What a switch has set for the next boot.
    pub(crate) next_boot: Option<Closure>,
    /// From when on what it was told to fetch can be had; none: never.
    there: BTreeMap<Closure, Option<u64>>,
    probing: Option<u64>,
}

impl Machine {
    pub(crate) fn new(running: Option<Closure>) -> Self {
        Self {
            running,
            since: 0,
            booted: 0,
            boot: 1,
            activations: Vec::new(),
            tampered: false,
            said: None,
            results: BTreeMap::new(),
            passed: BTreeMap::new(),
            probe_interval: Duration::from_secs(1),
            switch: SWITCH,
            sick_on: None,
            watches: true,
            blind_until: 0,
            silent_until: 0,
            job: None,
            jobs: 0,
            ended: BTreeMap::new(),
            deferred: BTreeSet::new(),
            next_boot: None,
            there: BTreeMap::new(),
            probing: None,
        }
    }

    /// The boot id that an agent would read.
    pub(crate) fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    /// Whether a switch or a rollback is under way.
    pub(crate) fn is_switching(&self) -> bool {
        self.job.is_some()
    }

    /// The job that this order would newly begin.
    pub(crate) fn begins(&self, order: &HostOrder) -> Option<(JobName, Closure)> {
        let (job, rollback) = match order {
            HostOrder::Switch(job) => (job, false),
            HostOrder::RollBack(job) => (job, true),
            HostOrder::Inspect { .. }
            | HostOrder::Await { .. }
            | HostOrder::StartProbes { .. }
            | HostOrder::StopProbes
            | HostOrder::Observe
            | HostOrder::Fetch(_) => return None,
        };
        let name = (job.rollout.clone(), job.log_index, rollback);
        let begins = self.job.as_ref().is_none_or(|running| running.name != name);
        begins.then(|| (name, job.target.clone()))
    }

    /// Carries out an order.
    pub(crate) fn obey(&mut self, order: HostOrder, weather: &mut Weather<'_>) -> Vec<Told> {
        match order {
            HostOrder::Switch(job) => self.begin(&job, false, weather),
            HostOrder::RollBack(job) => self.begin(&job, true, weather),
            HostOrder::Await { job, rollback } => {
                let name = (job.rollout.clone(), job.log_index, rollback);
                if self.job.as_ref().is_some_and(|running| running.name == name) {
                    return Vec::new();
                }
                if self.deferred.contains(&name) {
                    return vec![Told::Report(ANSWER, deferred(&name))];
                }
                let exit_code = self.ended.get(&name).copied().unwrap_or(KILLED);
                vec![Told::Report(ANSWER, self.report(&name, exit_code, weather.now))]
            }
            HostOrder::Inspect { job, rollback, boot_id } => {
                let name = (job.rollout.clone(), job.log_index, rollback);
                let runs = self.job.as_ref().is_some_and(|running| running.name == name);
                let ended = self
                    .ended
                    .get(&name)
                    .map(|exit_code| JobTrace::Ended { exit_code: *exit_code, stderr_tail: String::new() });
                let ended = match self.deferred.contains(&name) {
                    true => Some(JobTrace::Deferred { component: COMPONENT.to_owned() }),
                    false => ended,
                };
                let found = Found {
                    boot: if boot_id == Some(self.boot_id()) { Boot::Same } else { Boot::Other },
                    job: if runs { JobTrace::Running } else { ended.unwrap_or(JobTrace::None) },
                    observed: self.observe(weather.now),
                };
                vec![Told::Report(ANSWER, HostReport::Inspected { rollout: job.rollout, found })]
            }
            HostOrder::StartProbes { generation } => {
                self.probing = Some(generation);
                self.results.clear();
                if weather.faults.strikes(weather.random, Fault::ProbesUnreadable, 80) {
                    let probes = Err("the file is not there".to_owned());
                    return vec![Told::Report(ANSWER, HostReport::ProbesDeclared { generation, probes })];
                }
                let report = HostReport::ProbesDeclared { generation, probes: Ok(declared(self.watches)) };
                vec![Told::Report(ANSWER, report), Told::Probe(ANSWER * 2, generation)]
            }
            HostOrder::StopProbes => {
                self.probing = None;
                Vec::new()
            }
            HostOrder::Observe => {
                let observed = self.observe(weather.now);
                self.said = Some((weather.now, observed.clone()));
                vec![Told::Report(ANSWER, HostReport::Running(observed))]
            }
            HostOrder::Fetch(goods) => goods.into_iter().map(|goods| self.fetch(goods, weather)).collect(),
        }
    }

    /// Simulated releases are there from the start, but for what a fault keeps away.
    fn fetch(&mut self, Goods { closure, .. }: Goods, weather: &mut Weather<'_>) -> Told {
        let (now, random, faults) = (weather.now, &mut *weather.random, &mut *weather.faults);
        let there = *self.there.entry(closure.clone()).or_insert_with(|| {
            if faults.strikes(random, Fault::FetchNever, 250) {
                return None;
            }
            let late = faults.strikes(random, Fault::FetchLate, 400);
            Some(if late { now + random.between(1, 300) * 1_000_000 } else { now })
        });
        let (wait, fetch) = match there {
            Some(at) => (Duration::from_micros(at.saturating_sub(now)), Fetch::Done),
            None => (Duration::ZERO, Fetch::Fails("nobody has it".to_owned())),
        };
        Told::Report(ANSWER + wait, HostReport::Fetching { closure, fetch })
    }

    /// Whether a closure had come to it by then, or was activated on it before.
    pub(crate) fn holds(&self, closure: &Closure, at: u64) -> bool {
        let came = self.there.get(closure).copied().flatten();
        came.is_some_and(|came| came <= at)
            || self.running.as_ref() == Some(closure)
            || self.activations.contains(closure)
    }

    /// Runs the probes of this start once, if they have not been stopped since.
    pub(crate) fn probe(&mut self, generation: u64, weather: &mut Weather<'_>) -> Vec<Told> {
        if self.probing != Some(generation) {
            return Vec::new();
        }
        let mut told = vec![Told::Probe(self.probe_interval, generation)];
        if weather.now < self.silent_until {
            return told;
        }
        let flaps = weather.faults.strikes(weather.random, Fault::ProbesFlap, 120);
        let fails = flaps || self.is_sick(weather);
        for (probe_name, mode, fails) in [
            (works(), ProbeMode::Enforce, fails),
            (watches(), ProbeMode::Observe, fails || weather.now.is_multiple_of(3)),
        ] {
            if mode == ProbeMode::Observe && !self.watches {
                continue;
            }
            self.results.insert(probe_name.clone(), (weather.now, !fails));
            if !fails {
                self.passed.insert(probe_name.clone(), weather.now);
            }
            let run = ProbeRun {
                probe_name,
                mode,
                status: if fails { ProbeStatus::Fail } else { ProbeStatus::Pass },
                failure_reason: fails.then(|| "the release is bad".to_owned()),
                sub_results: None,
            };
            told.push(Told::Report(ANSWER, HostReport::ProbeRan { generation, run }));
        }
        told
    }

    fn is_sick(&self, weather: &Weather<'_>) -> bool {
        let Some(running) = &self.running else { return true };
        let since = Duration::from_micros(weather.now.saturating_sub(self.since));
        self.sick_on.as_ref() == Some(running)
            || weather.health.unhealthy.contains(running)
            || weather.health.fails_after.get(running).is_some_and(|after| since >= *after)
    }

    /// A job ends; what its agent is told, if there is one. None: the job was killed before.
    pub(crate) fn end(&mut self, number: u64, now: u64) -> Option<HostReport> {
        let job = self.job.take_if(|job| job.number == number)?;
        if let Some(next) = job.defers {
            self.next_boot = Some(next);
            self.deferred.insert(job.name.clone());
            return Some(deferred(&job.name));
        }
        if let Some(then) = job.then {
            self.run(then, now);
            self.next_boot = None;
        }
        self.ended.insert(job.name.clone(), job.exit_code);
        Some(self.report(&job.name, job.exit_code, now))
    }

    /// Somebody switches it by hand.
    pub(crate) fn switch_by_hand(&mut self, to: Closure, now: u64) {
        self.run(to, now);
        self.next_boot = None;
        self.tampered = true;
    }

    /// Goes down and comes up again: what ran is cut off, and its traces are gone. What it came up on, if a switch had
    /// set that.
    pub(crate) fn reboot(&mut self, now: u64, random: &mut Random, faults: &mut Faults) -> Option<Closure> {
        if let Some(Running { then, defers, .. }) = self.job.take()
            && random.percent(50)
        {
            if let Some(then) = then {
                self.run(then, now);
                self.next_boot = None;
            }
            self.next_boot = defers.or(self.next_boot.take());
        }
        let next = self.next_boot.take().filter(|_| !faults.strikes(random, Fault::DeferredBootOld, 700));
        if let Some(next) = &next {
            self.run(next.clone(), now);
        }
        self.boot += 1;
        self.booted = now;
        self.ended.clear();
        self.deferred.clear();
        self.results.clear();
        self.passed.clear();
        self.probing = None;
        next
    }

    /// The agent is gone; what it had started goes on, its probes do not.
    pub(crate) fn agent_died(&mut self) {
        self.probing = None;
    }

    fn run(&mut self, closure: Closure, now: u64) {
        self.running = Some(closure);
        self.since = now;
        self.results.clear();
        self.passed.clear();
    }

    fn observe(&self, now: u64) -> Option<Closure> {
        self.running.clone().filter(|_| now >= self.blind_until)
    }

    fn begin(&mut self, job: &Job, rollback: bool, weather: &mut Weather<'_>) -> Vec<Told> {
        let name = (job.rollout.clone(), job.log_index, rollback);
        if self.job.as_ref().is_some_and(|running| running.name == name) {
            return Vec::new();
        }
        if !rollback {
            self.activations.push(job.target.clone());
        }
        self.jobs += 1;
        self.ended.remove(&name);
        self.deferred.remove(&name);
        let mut defers = None;
        let (mut took, mut exit_code, mut then) = (self.switch, 0, Some(job.target.clone()));
        let (random, faults) = (&mut *weather.random, &mut *weather.faults);
        let other = || "dir:other".parse::<Closure>().ok();
        if rollback {
            if faults.strikes(random, Fault::RollbackFails, 500) {
                (exit_code, then) = (1, None);
            } else if faults.strikes(random, Fault::RollbackLies, 500) {
                then = None;
            }
        } else if weather.health.unswitchable.contains(&job.target)
            || faults.strikes(random, Fault::SwitchFails, 110)
        {
            (exit_code, then) = (1, None);
        } else if weather.health.deferred.contains(&job.target)
            || faults.strikes(random, Fault::Deferral, 250)
            || waits_for_boot(random, faults)
        {
            defers = then.take();
        } else if faults.strikes(random, Fault::SwitchHalf, 130) {
            exit_code = 4;
        } else if faults.strikes(random, Fault::SwitchLies, 130) {
            then = None;
        } else if faults.strikes(random, Fault::SwitchThird, 170) {
            then = other();
            self.tampered = true;
        } else if faults.strikes(random, Fault::SwitchHangs, 170) {
            (took, exit_code, then) = (job.timeout + SWITCH, KILLED, None);
        }
        if self.switch > job.timeout {
            (took, exit_code, then) = (job.timeout, KILLED, None);
        }
        if took == SWITCH && faults.strikes(random, Fault::SwitchSlow, 300) {
            took = Duration::from_millis(random.between(1_000, 20_000)).min(job.timeout);
        }
        let mut told = vec![Told::Ends(took, self.jobs)];
        let mut befalls = |fault, rate, after| {
            told.extend(faults.looms(random, fault, rate).then_some(Told::Befalls(after, fault)));
        };
        befalls(Fault::RebootInSwitch, 150, took / 2);
        befalls(Fault::HandSwitched, 200, took + Duration::from_millis(700));
        if defers.is_some() {
            befalls(Fault::DeferredReboot, 900, took * 8);
            befalls(Fault::DeferredBootOld, 600, took * 10);
        }
        self.job = Some(Running { number: self.jobs, name, exit_code, then, defers });
        told
    }

    fn report(&self, (rollout, _, rollback): &JobName, exit_code: i32, now: u64) -> HostReport {
        let (rollout, observed) = (rollout.clone(), self.observe(now));
        if *rollback {
            HostReport::RollbackEnded { rollout, exit_code, observed }
        } else {
            HostReport::SwitchEnded { rollout, exit_code, stderr_tail: String::new(), observed }
        }
    }
}

/// Whether a switch waits for the next boot, so that what befalls machines that wait can befall this one.
fn waits_for_boot(random: &mut Random, faults: &mut Faults) -> bool {
    let waits = [(Fault::DeferredReboot, 120), (Fault::DeferredBootOld, 250), (Fault::NeverRebooted, 180)]
        .into_iter()
        .any(|(fault, rate)| faults.looms(random, fault, rate));
    if waits {
        faults.hit(Fault::Deferral);
    }
    waits
}

fn deferred((rollout, ..): &JobName) -> HostReport {
    HostReport::SwitchDeferred { rollout: rollout.clone(), component: COMPONENT.to_owned() }
}

fn declared(watched: bool) -> Vec<DeclaredProbe> {
    let probe = |probe_name, mode| DeclaredProbe { probe_name, kind: "exec".to_owned(), mode };
    let second = watched.then(|| probe(watches(), ProbeMode::Observe));
    [probe(works(), ProbeMode::Enforce)].into_iter().chain(second).collect()
}

/// The probe that gates.
pub(crate) fn works() -> ProbeName {
    "works".parse().unwrap_or_else(|error| panic!("a probe's name: {error}"))
}

fn watches() -> ProbeName {
    "watches".parse().unwrap_or_else(|error| panic!("a probe's name: {error}"))
}
