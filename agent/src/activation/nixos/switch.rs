//! The ways of a job: forth, now or at the next boot, and back; and what became of one that an earlier life began.

use std::time::{Duration, Instant};

use muster_core::host::{Refused, rollback_refused};
use muster_core::id::Closure;
use muster_signing::Digest;
use tokio::time::sleep;

use super::fetch::FetchError;
use super::root::{Dispatch, Order, Road, RootError, Unit};
use super::unit::UnitTrace;
use super::{Nixos, dispatch};
use crate::activation::switch::bounded;
use crate::activation::{Job, Outcome, Switched, Task, Trace};
use crate::probe::health_checks::HealthChecks;
use crate::text::head;

/// How often systemd is asked what became of a unit before that counts as lost, and how long between two times.
const TRACE_TRIES: u32 = 30;
const TRACE_PAUSE: Duration = Duration::from_secs(1);
/// A switch is not begun in the last such part of its time.
const LATE_PART: u32 = 10;
/// The exit code of a switch that has none.
const NO_EXIT_CODE: i32 = -1;
/// The longest reason that an agent adds to what a switch said, in bytes.
const REASON_BYTES_MAX: usize = 1024;

impl Nixos {
    /// See [`crate::activation::Backend::switch`].
    pub async fn switch(&self, job: Job, contents: Option<Digest>, timeout: Duration) -> Switched {
        let switched = match job.task {
            Task::Switch => self.forth(&job, contents, timeout).await,
            Task::RollBack => self.back(&job, timeout).await,
        };
        switched.unwrap_or_else(|reason| Switched::Ended(self.failed(&reason)))
    }

    async fn forth(
        &self,
        job: &Job,
        contents: Option<Digest>,
        timeout: Duration,
    ) -> Result<Switched, String> {
        let begun = Instant::now();
        let waits_for = self.prepare(job, contents, timeout).await?;
        let dispatch = dispatch(job);
        let given_up = self.given_up.lock().await;
        let left = timeout.saturating_sub(begun.elapsed());
        // The node counts the same time, and must find nothing switched after it has given up.
        if given_up.contains(&dispatch) || left < timeout / LATE_PART {
            return Err("getting the system took all the time that the activation has; nothing was switched"
                .to_owned());
        }
        let (to, timeout_secs) = (job.target.clone(), seconds(left));
        let (order, road) = match waits_for {
            Some(_) => (Order::Boot { dispatch: dispatch.clone(), to, timeout_secs }, Road::Boot),
            None => (Order::Switch { dispatch: dispatch.clone(), to, timeout_secs }, Road::Switch),
        };
        if let Err(error) = self.root.carry_out(&order).await {
            // An earlier life of this agent may have given the order, too, which was carried out meanwhile.
            if !(matches!(error, RootError::NotDone(_)) && self.has_begun(&dispatch, road).await) {
                return Err(error.to_string());
            }
            tracing::warn!(%error, "the switch was begun by an earlier order");
        }
        drop(given_up);
        Ok(self.end_of(&dispatch.unit(road), &job.target).await)
    }

    /// Gets everything into place that the switch and the way back need, and touches nothing that runs. Gives the component
    /// that makes the switch wait for a reboot.
    async fn prepare(
        &self,
        job: &Job,
        contents: Option<Digest>,
        timeout: Duration,
    ) -> Result<Option<String>, String> {
        let Job { target, previous, .. } = job;
        self.accepts(target)?;
        let (machine, roots) = (&self.machine, self.roots());
        let running = self.current();
        // Most often it is here already; what was fetched ahead may have been tampered with since.
        let there = async {
            match machine.is_rooted(target, &roots.ahead(target)) {
                true => machine.check(target, contents).await,
                false => machine.fetch(target, contents, &roots.target(), timeout, None).await,
            }
        };
        let back = async {
            let Some(previous) = previous.as_ref().or(running.as_ref()) else { return Ok(()) };
            // Where a rollback would go must outlive a clean-up of generations.
            self.keep_way_back(previous, timeout).await?;
            let path = roots.back(previous);
            roots.keep_back(previous).map_err(|source| FetchError::Roots { path, source })
        };
        let (there, back) = tokio::join!(there, back);
        there.map_err(|error| error.to_string())?;
        back.map_err(|error| format!("the way back is not there: {error}"))?;
        // A host whose health cannot be known is not healthy, and needs no switch to find that out.
        HealthChecks::load(&self.health_checks(target)).map_err(|error| error.to_string())?;
        match self.current() {
            Some(running) => {
                self.machine.compare(&running, target, &self.defer).map_err(|error| error.to_string())
            }
            None => Ok(None),
        }
    }

    /// Keeps a system in the store that may have to be gone back to.
    pub(super) async fn keep_way_back(&self, to: &Closure, limit: Duration) -> Result<(), FetchError> {
        let root = self.roots().back(to);
        match self.machine.is_rooted(to, &root) {
            true => Ok(()),
            false => self.machine.fetch(to, None, &root, limit, None).await,
        }
    }

    /// Goes back. A machine whose running system was left alone has only its next boot to be set back.
    async fn back(&self, job: &Job, timeout: Duration) -> Result<Switched, String> {
        self.accepts(&job.target)?;
        let dispatch = dispatch(job);
        self.given_up.lock().await.insert(dispatch.clone());
        let live = self.must_be_live(&dispatch, &job.target).await;
        let next_boot = self.machine.profile();
        let boots = self.machine.trace(&dispatch.unit(Road::Boot)).await;
        if !live && next_boot.as_ref() == Some(&job.target) && matches!(boots, Ok(UnitTrace::Absent)) {
            // Whatever failed did so before anything was touched.
            let observed = self.current();
            return Ok(Switched::Ended(Outcome { exit_code: 0, stderr_tail: String::new(), observed }));
        }
        let (to, timeout_secs) = (job.target.clone(), seconds(timeout));
        let order = Order::RollBack { dispatch: dispatch.clone(), to, timeout_secs, live };
        let mut tries = 0;
        while let Err(error) = self.root.carry_out(&order).await {
            tries += 1;
            let begun =
                matches!(error, RootError::NotDone(_)) && self.has_begun(&dispatch, Road::RollBack).await;
            tracing::warn!(%error, tries, begun, "a rollback could not be begun");
            match rollback_refused(tries, begun) {
                Refused::Await => break,
                Refused::TryAgain { after } => sleep(after).await,
                Refused::GiveUp => return Err(error.to_string()),
            }
        }
        Ok(self.end_of(&dispatch.unit(Road::RollBack), &job.target).await)
    }

    /// Whether what a dispatch asks for runs, or has ended.
    async fn has_begun(&self, dispatch: &Dispatch, road: Road) -> bool {
        let trace = self.machine.trace(&dispatch.unit(road)).await;
        matches!(trace, Ok(UnitTrace::Running | UnitTrace::Ended { .. }))
    }

    /// Whether anything of the dispatch touched the running system; what cannot be told counts as touched.
    async fn must_be_live(&self, dispatch: &Dispatch, to: &Closure) -> bool {
        let mut touched = self.current().as_ref() != Some(to);
        for road in [Road::Switch, Road::RollBack] {
            let trace = self.machine.trace(&dispatch.unit(road)).await;
            touched |= !matches!(trace, Ok(UnitTrace::Absent));
        }
        touched
    }

    /// See [`crate::activation::Backend::trace`].
    pub async fn trace(&self, job: &Job) -> Trace {
        let dispatch = dispatch(job);
        for unit in units_of(job).map(|road| dispatch.unit(road)) {
            match self.patient_trace(&unit).await {
                Ok(UnitTrace::Absent) => {}
                Ok(UnitTrace::Running) => return Trace::Running,
                Ok(ended @ UnitTrace::Ended { .. }) => {
                    return match self.judged(&unit, &job.target, ended).await {
                        Switched::Ended(outcome) => Trace::Ended(outcome),
                        Switched::Deferred { component } => Trace::Deferred { component },
                    };
                }
                Err(reason) => return Trace::Ended(self.failed(&reason)),
            }
        }
        Trace::None
    }

    /// See [`crate::activation::Backend::wait`].
    pub async fn wait(&self, job: &Job) -> Switched {
        let dispatch = dispatch(job);
        let roads: Vec<Unit> = units_of(job).map(|road| dispatch.unit(road)).collect();
        for unit in &roads {
            if matches!(self.machine.trace(unit).await, Ok(UnitTrace::Running | UnitTrace::Ended { .. })) {
                return self.end_of(unit, &job.target).await;
            }
        }
        Switched::Ended(self.failed("nothing is known of this switch"))
    }

    async fn patient_trace(&self, unit: &Unit) -> Result<UnitTrace, String> {
        let mut tries = 1;
        loop {
            match self.machine.trace(unit).await {
                Ok(trace) => return Ok(trace),
                Err(error) if tries == TRACE_TRIES => return Err(error.to_string()),
                Err(error) => tracing::warn!(%error, tries, "systemd does not say what became of a switch"),
            }
            tries += 1;
            sleep(TRACE_PAUSE).await;
        }
    }

    async fn end_of(&self, unit: &Unit, target: &Closure) -> Switched {
        match self.machine.wait(unit).await {
            Ok(trace) => self.judged(unit, target, trace).await,
            Err(error) => Switched::Ended(self.failed(&error.to_string())),
        }
    }

    /// How a unit ended. Its exit code alone proves nothing: what runs and what the profile names are looked at, too.
    async fn judged(&self, unit: &Unit, target: &Closure, trace: UnitTrace) -> Switched {
        let UnitTrace::Ended { exit_code, how } = trace else {
            let reason = format!("{} is gone and nobody knows how it ended", unit.name());
            return Switched::Ended(self.failed(&reason));
        };
        self.was_told(unit);
        let (observed, profile) = (self.current(), self.machine.profile());
        let runs = |system: &Option<Closure>| system.as_ref().map_or("no system", Closure::as_str).to_owned();
        let wrong = match unit.road {
            Road::Switch | Road::RollBack if exit_code == 0 && observed.as_ref() != Some(target) => {
                Some(format!("it exited with 0, but /run/current-system is {}", runs(&observed)))
            }
            Road::Boot | Road::RollBack if exit_code == 0 && profile.as_ref() != Some(target) => {
                Some(format!("it exited with 0, but the profile is {}", runs(&profile)))
            }
            Road::Switch | Road::Boot | Road::RollBack => {
                how.or_else(|| meaning(exit_code).map(str::to_owned))
            }
        };
        if unit.road == Road::Boot && exit_code == 0 && wrong.is_none() {
            return Switched::Deferred { component: self.waits_for(target) };
        }
        let mut stderr_tail = self.root.said(unit).await;
        if let Some(wrong) = &wrong {
            stderr_tail.push_str(&format!("\n{}: {}", unit.name(), head(wrong, REASON_BYTES_MAX)));
        }
        let exit_code = if exit_code == 0 && wrong.is_some() { NO_EXIT_CODE } else { exit_code };
        Switched::Ended(Outcome { exit_code, stderr_tail: bounded(&stderr_tail), observed })
    }

    /// The component that made a switch wait, as far as it can still be told.
    fn waits_for(&self, target: &Closure) -> String {
        let running = self.current();
        let found = running.and_then(|running| self.machine.compare(&running, target, &self.defer).ok()?);
        found.unwrap_or_else(|| "system".to_owned())
    }

    fn failed(&self, reason: &str) -> Outcome {
        Outcome { exit_code: NO_EXIT_CODE, stderr_tail: bounded(reason), observed: self.current() }
    }
}

/// The units that a job may have left, the one that says most first.
fn units_of(job: &Job) -> impl Iterator<Item = Road> {
    let roads: &[Road] = match job.task {
        Task::Switch => &[Road::Switch, Road::Boot],
        Task::RollBack => &[Road::RollBack],
    };
    roads.iter().copied()
}

/// What `switch-to-configuration` means by an exit code.
fn meaning(exit_code: i32) -> Option<&'static str> {
    match exit_code {
        2 => Some("the system's activation script failed"),
        3 => Some("systemd could not be told what to restart or reload"),
        4 => Some("the system was switched to, and units of it failed"),
        _ => None,
    }
}

/// Whole seconds, at least one.
fn seconds(timeout: Duration) -> u64 {
    timeout.as_secs().clamp(1, 86_400)
}
