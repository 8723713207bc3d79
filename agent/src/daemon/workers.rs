//! This host's workers: switches, rollbacks and probes, each a task that answers with a report.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use muster_core::host::{Boot, Found, Job as JobTrace, ProbeRun};
use muster_core::node::{Goods, HostOrder, HostReport, Job};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::activation::{self, Backend, Outcome, Switched, Task, Trace};
use crate::probe::health_checks::HealthChecks;
use crate::probe::{ProbeSpec, Runners};

/// Reports that wait for the loop; workers wait when it is full.
const REPORTS_MAX: usize = 256;
/// The exit code of a switch whose release cannot be judged: its health checks cannot be read.
const NO_HEALTH: i32 = -1;

/// What a worker has to say.
#[derive(Debug)]
pub(super) enum Said {
    /// For the node.
    Report(HostReport),
    /// The probes of a release are known: start them under this number.
    Probes(u64, Vec<ProbeSpec>),
}

/// The workers of one host.
#[derive(Debug)]
pub(super) struct Workers {
    backend: Backend,
    default_checks: std::path::PathBuf,
    boot_id: String,
    said: mpsc::Sender<Said>,
    runners: Runners,
    runs: mpsc::Receiver<crate::probe::ProbeRun>,
    /// The number that the node gave to the runners' own start.
    generation: u64,
    /// What is fetched ahead, each in a task that ends with this.
    ahead: BTreeMap<Goods, Fetching>,
}

/// A task that fetches; dropped, it ends.
#[derive(Debug)]
struct Fetching(AbortHandle);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Workers {
    pub(super) fn new(
        backend: Backend,
        default_checks: std::path::PathBuf,
        boot_id: String,
    ) -> (Self, mpsc::Receiver<Said>) {
        let (said, reports) = mpsc::channel(REPORTS_MAX);
        let (sender, runs) = mpsc::channel(REPORTS_MAX);
        let runners = Runners::new(sender);
        let ahead = BTreeMap::new();
        (Self { backend, default_checks, boot_id, said, runners, runs, generation: 0, ahead }, reports)
    }

    /// Stops all probes and forgets who waits for what: the reports that follow answer orders that are given from now on.
    ///
    /// Switches go on, and are found again as after a restart.
    pub(super) fn begin_again(&mut self) -> mpsc::Receiver<Said> {
        self.runners.stop();
        let (workers, reports) =
            Self::new(self.backend.clone(), self.default_checks.clone(), self.boot_id.clone());
        *self = workers;
        reports
    }

    /// The next result of a probe.
    pub(super) async fn probe_ran(&mut self) -> HostReport {
        loop {
            let Some(run) = self.runs.recv().await else { std::future::pending().await };
            if run.generation == self.runners.generation() {
                let run = ProbeRun {
                    probe_name: run.probe,
                    mode: run.mode,
                    status: run.status,
                    failure_reason: run.failure_reason,
                    sub_results: None,
                };
                return HostReport::ProbeRan { generation: self.generation, run };
            }
        }
    }

    /// Starts the probes that a release declares.
    pub(super) fn run_probes(&mut self, generation: u64, specs: &[ProbeSpec]) {
        if generation == self.generation {
            self.runners.start(specs);
        }
    }

    /// Carries out an order; its answer comes later.
    pub(super) fn obey(&mut self, order: HostOrder) {
        let backend = self.backend.clone();
        let checks = self.default_checks.clone();
        match order {
            HostOrder::Switch(job) => {
                self.spawn(async move { switched(&backend, &checks, job).await });
            }
            HostOrder::RollBack(job) => self.spawn(async move { rolled_back(&backend, &checks, job).await }),
            HostOrder::Await { job, rollback } => self.spawn(async move {
                let switched = backend.wait(&translate(&job, rollback)).await;
                report(&backend, &checks, job, rollback, switched)
            }),
            HostOrder::Inspect { job, rollback, boot_id } => {
                let (same_boot, boot) =
                    (boot_id.is_none_or(|boot_id| boot_id == self.boot_id), self.boot_id.clone());
                self.spawn(async move { vec![inspected(&backend, &job, rollback, same_boot, &boot).await] });
            }
            HostOrder::StartProbes { generation } => {
                self.runners.stop();
                self.generation = generation;
                self.spawn(async move {
                    // Probes begin once the result of a switch is stored.
                    backend.settle().await;
                    declared(&backend, &checks, generation)
                });
            }
            HostOrder::StopProbes => self.runners.stop(),
            HostOrder::Observe => self.spawn(async move {
                vec![running(&backend), Said::Report(HostReport::Running(backend.current()))]
            }),
            HostOrder::Fetch(goods) => self.fetch(goods),
        }
    }

    /// Fetches these ahead, goes on with those of them that are under way, and ends all others.
    fn fetch(&mut self, goods: Vec<Goods>) {
        self.backend.keep_ahead(&goods);
        let mut before = std::mem::take(&mut self.ahead);
        for goods in goods {
            let task = before.remove(&goods).unwrap_or_else(|| {
                let (backend, said, goods) = (self.backend.clone(), self.said.clone(), goods.clone());
                let task = tokio::spawn(async move {
                    let (words, mut heard) = mpsc::unbounded_channel();
                    let mut tell = move |fetch| drop(words.send(fetch));
                    let closure = goods.closure.clone();
                    let work = async move { backend.prefetch(&goods, &mut tell).await };
                    let pass_on = async move {
                        while let Some(fetch) = heard.recv().await {
                            let report = HostReport::Fetching { closure: closure.clone(), fetch };
                            if said.send(Said::Report(report)).await.is_err() {
                                return;
                            }
                        }
                    };
                    tokio::join!(work, pass_on);
                });
                Fetching(task.abort_handle())
            });
            self.ahead.insert(goods, task);
        }
    }

    fn spawn(&self, work: impl Future<Output = Vec<Said>> + Send + 'static) {
        let said = self.said.clone();
        tokio::spawn(async move {
            for word in work.await {
                // The loop is gone only when the agent stops; the next start asks what became of the job.
                if said.send(word).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn translate(job: &Job, rollback: bool) -> activation::Job {
    activation::Job {
        rollout: job.rollout.clone(),
        task: if rollback { Task::RollBack } else { Task::Switch },
        target: job.target.clone(),
        previous: job.previous.clone(),
        log_index: job.log_index,
    }
}

/// What is told beside what runs.
fn running(backend: &Backend) -> Said {
    Said::Report(HostReport::RebootPending(backend.reboot_is_pending()))
}

async fn switched(backend: &Backend, checks: &Path, job: Job) -> Vec<Said> {
    if let Err(reason) = backend.accepts(&job.target) {
        let outcome = Outcome { exit_code: NO_HEALTH, stderr_tail: reason, observed: backend.current() };
        return report(backend, checks, job, false, Switched::Ended(outcome));
    }
    let switched = backend.switch(translate(&job, false), job.contents, job.timeout).await;
    report(backend, checks, job, false, switched)
}

async fn rolled_back(backend: &Backend, checks: &Path, job: Job) -> Vec<Said> {
    let timeout = job.timeout.max(Duration::from_secs(1));
    let switched = backend.switch(translate(&job, true), None, timeout).await;
    report(backend, checks, job, true, switched)
}

/// A release whose health cannot be known has not been switched to.
fn report(backend: &Backend, checks: &Path, job: Job, rollback: bool, switched: Switched) -> Vec<Said> {
    let rollout = job.rollout;
    let Outcome { mut exit_code, mut stderr_tail, observed } = match switched {
        Switched::Ended(outcome) => outcome,
        Switched::Deferred { component } => {
            return vec![Said::Report(HostReport::SwitchDeferred { rollout, component }), running(backend)];
        }
    };
    if rollback {
        if exit_code != 0 {
            tracing::error!(%rollout, exit_code, "the rollback did not end well: {}", stderr_tail.trim());
        }
        return vec![
            Said::Report(HostReport::RollbackEnded { rollout, exit_code, observed }),
            running(backend),
        ];
    }
    if exit_code == 0
        && let Err(error) = health_checks(backend, checks)
    {
        exit_code = NO_HEALTH;
        stderr_tail = error;
    }
    let ended = HostReport::SwitchEnded { rollout, exit_code, stderr_tail, observed };
    vec![Said::Report(ended), running(backend)]
}

async fn inspected(backend: &Backend, job: &Job, rollback: bool, same_boot: bool, boot_id: &str) -> Said {
    let translated = translate(job, rollback);
    let boot = if same_boot {
        Boot::Same
    } else if !rollback && backend.is_looping(&translated, boot_id) {
        Boot::Looping
    } else {
        Boot::Other
    };
    let found = Found {
        boot,
        job: match backend.trace(&translated).await {
            Trace::None => JobTrace::None,
            Trace::Running => JobTrace::Running,
            Trace::Deferred { component } => JobTrace::Deferred { component },
            Trace::Ended(outcome) => {
                JobTrace::Ended { exit_code: outcome.exit_code, stderr_tail: outcome.stderr_tail }
            }
        },
        observed: backend.current(),
    };
    Said::Report(HostReport::Inspected { rollout: job.rollout.clone(), found })
}

fn declared(backend: &Backend, checks: &Path, generation: u64) -> Vec<Said> {
    match health_checks(backend, checks) {
        Ok(specs) => {
            let probes = specs.iter().map(ProbeSpec::declared).collect();
            let declared = HostReport::ProbesDeclared { generation, probes: Ok(probes) };
            vec![Said::Report(declared), Said::Probes(generation, specs)]
        }
        Err(error) => vec![Said::Report(HostReport::ProbesDeclared { generation, probes: Err(error) })],
    }
}

/// The checks of the release that runs, else those of the host's own configuration.
fn health_checks(backend: &Backend, default: &Path) -> Result<Vec<ProbeSpec>, String> {
    let of_release = backend.current().and_then(|closure| backend.health_checks(&closure));
    let path = of_release.filter(|path| path.exists()).unwrap_or_else(|| default.to_owned());
    HealthChecks::load(&path).map_err(|error| error.to_string())
}
