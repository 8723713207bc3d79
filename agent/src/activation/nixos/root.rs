//! What a switch of a NixOS system needs root for: four orders, each a few programs with arguments that were checked.
//!
//! The agent gives an [`Order`] to whatever carries it out: a [`Machine`] in its own process, if the agent is root, or a
//! client of the privileged helper, which does on the other side of a socket what the machine does here. Nothing goes
//! through a shell, and no text of an order becomes an argument that was not parsed into a [`Closure`], a [`RolloutId`] or
//! a number first.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use muster_core::id::{Closure, RolloutId};
use serde::{Deserialize, Serialize};

use super::machine::{Machine, ProgramFailed};
use super::unit::UnitTrace;

/// How long a program may take that sets the profile or asks the store.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(120);
/// How long systemd may take to stop a unit: longer than it waits before it kills.
const STOP_TIME_MAX: Duration = Duration::from_secs(150);
/// The bounds of how long a switch may take, in seconds.
const SWITCH_SECS: std::ops::RangeInclusive<u64> = 1..=86_400;
/// Programs that act say nothing on stdout that matters; this much is taken for talk.
const TALK_BYTES_MAX: usize = 64 * 1024;

/// The dispatch that an order follows; both together name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispatch {
    /// The rollout.
    pub rollout: RolloutId,
    /// The index of its entry in the log.
    pub log_index: u64,
}

/// Something that only root can do. Each can be done twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Sets the profile and starts the unit that switches the running system.
    Switch {
        /// For this dispatch.
        dispatch: Dispatch,
        /// The system.
        to: Closure,
        /// How long the switch may take, in seconds.
        timeout_secs: u64,
    },
    /// Sets the profile and starts the unit that makes the system the next boot's, and leaves the running one alone.
    Boot {
        /// For this dispatch.
        dispatch: Dispatch,
        /// The system.
        to: Closure,
        /// How long it may take, in seconds.
        timeout_secs: u64,
    },
    /// Ends what the dispatch still runs, sets the profile back and starts the unit that goes back.
    RollBack {
        /// Of this dispatch.
        dispatch: Dispatch,
        /// The system that ran before.
        to: Closure,
        /// How long it may take, in seconds.
        timeout_secs: u64,
        /// Whether the running system is switched; if not, only the next boot's is set.
        live: bool,
    },
    /// Lets go of a unit whose result is stored.
    Reset(Unit),
}

/// One transient unit; its name is found again by whoever knows the dispatch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Which way it goes.
    pub road: Road,
    /// For which dispatch.
    pub dispatch: Dispatch,
}

/// Which way a unit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Road {
    /// To the target, now.
    Switch,
    /// To the target, at the next boot.
    Boot,
    /// Back.
    RollBack,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The order names no system.
    #[error("{0} is not a store path, which the NixOS backend needs")]
    NotAStorePath(Closure),
    /// The order gives a switch no time, or too much.
    #[error("a switch of {secs} s is not within {} to {} s", SWITCH_SECS.start(), SWITCH_SECS.end())]
    Timeout {
        /// The time, in seconds.
        secs: u64,
    },
    /// The store does not hold the whole of the system.
    #[error("{closure} is not in the store: {source}")]
    NotInStore {
        /// The system.
        closure: Closure,
        /// What Nix says.
        source: ProgramFailed,
    },
    /// The store path is no system.
    #[error("{0} brings no bin/switch-to-configuration: it is not a NixOS system")]
    NotASystem(Closure),
    /// Nix did not set the profile, but said nothing of it.
    #[error("the profile {profile} is at {}, not at {wanted}", .found.as_ref().map_or("no store path", Closure::as_str))]
    Profile {
        /// The profile.
        profile: String,
        /// Where it is.
        found: Option<Closure>,
        /// Where it should be.
        wanted: Closure,
    },
    /// A program failed.
    #[error(transparent)]
    Program(#[from] ProgramFailed),
    /// Whoever was to carry the order out did not: it refused, or could not be reached.
    #[error("{0}")]
    NotDone(String),
}

/// What carries orders out as root.
pub trait Root: fmt::Debug + Send + Sync {
    /// Carries out an order. A switch goes on after this returns; [`Machine::trace`] tells what became of it.
    fn carry_out<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), RootError>>;

    /// The end of what a unit said, which only root and few others may read; nothing where that cannot be told.
    fn said<'a>(&'a self, unit: &'a Unit) -> BoxFuture<'a, String>;
}

impl Root for Machine {
    fn carry_out<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), RootError>> {
        Box::pin(self.obey(order))
    }

    fn said<'a>(&'a self, unit: &'a Unit) -> BoxFuture<'a, String> {
        Box::pin(Self::said(self, unit))
    }
}

impl Unit {
    /// The unit's name in systemd: at most 237 bytes, where systemd allows 255.
    ///
    /// A rollout's `@` would make it an instance of a template, so a colon stands for it.
    pub fn name(&self) -> String {
        let Dispatch { rollout, log_index } = &self.dispatch;
        let road = match self.road {
            Road::Switch => "switch",
            Road::Boot => "boot",
            Road::RollBack => "rollback",
        };
        format!("muster-{road}-{}:{}-{log_index}.service", rollout.channel(), rollout.target_ref())
    }
}

impl Dispatch {
    /// The unit that goes this way for the dispatch.
    pub fn unit(&self, road: Road) -> Unit {
        Unit { road, dispatch: self.clone() }
    }
}

/// What is common to the orders that start a unit.
struct Start<'a> {
    unit: Unit,
    to: &'a Closure,
    action: &'static str,
    timeout_secs: u64,
    description: &'static str,
}

impl Machine {
    async fn obey(&self, order: &Order) -> Result<(), RootError> {
        match order {
            Order::Switch { dispatch, to, timeout_secs } => {
                let unit = dispatch.unit(Road::Switch);
                let description = "Switches to the system that a rollout brings";
                self.start(Start { unit, to, action: "switch", timeout_secs: *timeout_secs, description })
                    .await
            }
            Order::Boot { dispatch, to, timeout_secs } => {
                let unit = dispatch.unit(Road::Boot);
                let description = "Makes the system that a rollout brings the next boot's";
                self.start(Start { unit, to, action: "boot", timeout_secs: *timeout_secs, description }).await
            }
            Order::RollBack { dispatch, to, timeout_secs, live } => {
                check(to, *timeout_secs)?;
                let machine = self.with_programs_of(to);
                for road in [Road::Switch, Road::Boot] {
                    let unit = dispatch.unit(road);
                    if machine.trace(&unit).await? == UnitTrace::Running {
                        machine.stop(&unit).await?;
                    }
                }
                let unit = dispatch.unit(Road::RollBack);
                let action = if *live { "switch" } else { "boot" };
                let description = "Goes back to the system that ran before a rollout";
                machine.start(Start { unit, to, action, timeout_secs: *timeout_secs, description }).await
            }
            Order::Reset(unit) => match self.trace(unit).await? {
                UnitTrace::Absent => Ok(()),
                // A result that nobody can have stored yet.
                UnitTrace::Running => Err(RootError::NotDone(format!("{} still runs", unit.name()))),
                UnitTrace::Ended { .. } => self.stop(unit).await,
            },
        }
    }

    /// Sets the profile and starts the unit, unless it runs already.
    async fn start(&self, start: Start<'_>) -> Result<(), RootError> {
        let Start { unit, to, action, timeout_secs, description } = start;
        check(to, timeout_secs)?;
        let (trace, checked) = tokio::join!(self.trace(&unit), self.check_system(to));
        match trace? {
            UnitTrace::Running => return Ok(()),
            UnitTrace::Ended { .. } => {
                checked?;
                self.stop(&unit).await?;
            }
            UnitTrace::Absent => checked?,
        }
        self.set_profile(to).await?;
        let switcher = self.real(format!("{to}/bin/switch-to-configuration"));
        let (name, timeout) =
            (format!("--unit={}", unit.name()), format!("--property=TimeoutStartSec={timeout_secs}"));
        let description = format!("--description={description}");
        let switcher = switcher.to_string_lossy();
        let args = [
            "--no-block",
            "--no-ask-password",
            "--quiet",
            &name,
            &description,
            // With --collect, or without RemainAfterExit, an agent that was away would never learn how it ended.
            "--property=Type=oneshot",
            "--property=RemainAfterExit=yes",
            &timeout,
            "--setenv=NIXOS_INSTALL_BOOTLOADER=0",
            "--",
            &switcher,
            action,
        ];
        self.act(&self.programs.systemd_run, &args).await
    }

    async fn check_system(&self, to: &Closure) -> Result<(), RootError> {
        match self.act(&self.programs.nix_store, &["--check-validity", "--", to.as_str()]).await {
            Err(RootError::Program(source)) => {
                return Err(RootError::NotInStore { closure: to.clone(), source });
            }
            checked => checked?,
        }
        if self.exists(format!("{to}/bin/switch-to-configuration")) {
            return Ok(());
        }
        Err(RootError::NotASystem(to.clone()))
    }

    async fn set_profile(&self, to: &Closure) -> Result<(), RootError> {
        let profile = self.profile.to_string_lossy();
        self.act(&self.programs.nix_env, &["--profile", &profile, "--set", "--", to.as_str()]).await?;
        let found = self.profile();
        if found.as_ref() == Some(to) {
            return Ok(());
        }
        Err(RootError::Profile { profile: profile.into_owned(), found, wanted: to.clone() })
    }

    /// Ends a unit and lets go of it; one that is gone already is let go of.
    async fn stop(&self, unit: &Unit) -> Result<(), RootError> {
        let name = unit.name();
        let stopped = self.act(&self.programs.systemctl, &["stop", "--quiet", "--", &name]).await;
        // A unit that failed stays until it is reset, and one that did not is gone once it is stopped.
        let reset = self.act(&self.programs.systemctl, &["reset-failed", "--quiet", "--", &name]).await;
        match self.trace(unit).await? {
            UnitTrace::Absent => Ok(()),
            UnitTrace::Running | UnitTrace::Ended { .. } => stopped.and(reset),
        }
    }

    async fn act(&self, program: &Path, args: &[&str]) -> Result<(), RootError> {
        let timeout = if args.first() == Some(&"stop") { STOP_TIME_MAX } else { PROGRAM_TIME_MAX };
        self.run(program, args, timeout, TALK_BYTES_MAX).await?;
        Ok(())
    }
}

fn check(to: &Closure, timeout_secs: u64) -> Result<(), RootError> {
    if to.directory_release().is_some() {
        return Err(RootError::NotAStorePath(to.clone()));
    }
    if SWITCH_SECS.contains(&timeout_secs) { Ok(()) } else { Err(RootError::Timeout { secs: timeout_secs }) }
}

#[cfg(test)]
mod tests;
