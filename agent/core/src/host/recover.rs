//! What a restarted host does about its record: the stored state, beside what is found on the machine.

use chrono::{DateTime, Utc};

use super::record::{NO_EXIT_CODE, Record, THIRD_CLOSURE_EXIT_CODE};
use crate::document::plan::Policy;
use crate::id::Closure;
use crate::wire::{HostEventKind, HostState, STDERR_TAIL_BYTES_MAX};

/// What a restarted agent finds on its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whether the machine still runs the boot of the record's `activation_boot_id`.
    pub boot: Boot,
    /// The trace of the switch.
    pub job: Job,
    /// What the backend says runs now, if it can tell.
    pub observed: Option<Closure>,
}

/// Whether the machine was rebooted since the activation started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Boot {
    /// It was not.
    Same,
    /// It was, or nobody can tell.
    Other,
    /// It was, again and again since the switch: it does not stay up for as long as it is to soak.
    Looping,
}

/// What is left of the unit or job that switches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Nothing.
    None,
    /// It runs.
    Running,
    /// It set the target for the next boot.
    Deferred {
        /// The component that cannot be swapped on a running system.
        component: String,
    },
    /// It is over.
    Ended {
        /// How it ended.
        exit_code: i32,
        /// The end of what it wrote.
        stderr_tail: String,
    },
}

/// What the host does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing is owed.
    Nothing,
    /// Switches to the target.
    Fire,
    /// Goes back to what ran before; it may have been done already.
    FireRollback {
        /// What ran before.
        closure: Closure,
    },
    /// Waits for the switch, or for the reboot.
    Wait,
    /// Applies this event.
    Emit(HostEventKind),
    /// Starts the probes anew, so that nothing seen before the restart counts.
    ResetProbes {
        /// Whether the machine was rebooted, so that the soak must start again; a new vigil starts it again in any case.
        soak_again: bool,
    },
}

/// The table of boot: what is owed for a record, given what is found.
pub fn recover(record: &Record, policy: &Policy, found: &Found, now: DateTime<Utc>) -> Recovery {
    match record.state {
        HostState::Pending | HostState::Converged | HostState::Reverted => Recovery::Nothing,
        HostState::Activating if record.activation_started_at.is_none() => Recovery::Fire,
        HostState::Activating => recover_started(record, found, now),
        HostState::Deferred => recover_deferred(record, found, now),
        HostState::Soaking => match (&found.observed, found.boot) {
            (Some(observed), _) if *observed != record.target_closure => {
                Recovery::Emit(lost_health(policy, now))
            }
            // Each boot begins the soak again, so a machine that is never up for that long would soak for ever.
            (_, Boot::Looping) => Recovery::Emit(lost_health(policy, now)),
            (_, boot) => Recovery::ResetProbes { soak_again: boot == Boot::Other },
        },
        HostState::Failed => match record.rollback_target() {
            Some(closure) if record.rollback_owed => Recovery::FireRollback { closure: closure.clone() },
            Some(_) | None => Recovery::Nothing,
        },
    }
}

fn recover_started(record: &Record, found: &Found, now: DateTime<Utc>) -> Recovery {
    match (&found.job, found.boot) {
        (Job::Running, _) => Recovery::Wait,
        (Job::None, Boot::Same) => Recovery::Fire,
        (Job::Deferred { component }, Boot::Same) => Recovery::Emit(HostEventKind::ActivationDeferred {
            component: component.clone(),
            deferred_at: now,
        }),
        (Job::None | Job::Deferred { .. }, Boot::Other | Boot::Looping) => {
            let on_target = found.observed.as_ref() == Some(&record.target_closure);
            let exit_code = if on_target { 0 } else { NO_EXIT_CODE };
            let said = "the machine was rebooted during the switch";
            Recovery::Emit(activation_ended(record, exit_code, said, found.observed.as_ref(), now))
        }
        (Job::Ended { exit_code, stderr_tail }, _) => {
            Recovery::Emit(activation_ended(record, *exit_code, stderr_tail, found.observed.as_ref(), now))
        }
    }
}

fn recover_deferred(record: &Record, found: &Found, now: DateTime<Utc>) -> Recovery {
    let on_target = found.observed.as_ref() == Some(&record.target_closure);
    match found.boot {
        Boot::Same if !on_target => Recovery::Wait,
        Boot::Same | Boot::Other | Boot::Looping => {
            let exit_code = if on_target { 0 } else { NO_EXIT_CODE };
            let said = "the machine was rebooted and does not run the target";
            Recovery::Emit(activation_ended(record, exit_code, said, found.observed.as_ref(), now))
        }
    }
}

/// The event of a switch that is over: complete only if it worked *and* the target runs.
///
/// If neither the target nor what ran before runs, somebody else switched the host: that fails without a rollback.
pub fn activation_ended(
    record: &Record,
    exit_code: i32,
    stderr: &str,
    observed: Option<&Closure>,
    now: DateTime<Utc>,
) -> HostEventKind {
    let failed = |exit_code| HostEventKind::ActivationFailed {
        exit_code,
        stderr_tail: tail(stderr).to_owned(),
        failed_at: now,
    };
    match observed {
        Some(closure) if *closure == record.target_closure && exit_code == 0 => {
            HostEventKind::ActivationCompleted {
                observed_current_closure: closure.clone(),
                exit_code,
                completed_at: now,
            }
        }
        Some(closure) if *closure == record.target_closure || record.rollback_target() == Some(closure) => {
            failed(fail_code(exit_code))
        }
        Some(_) if record.rollback_target().is_some() => failed(THIRD_CLOSURE_EXIT_CODE),
        Some(_) | None => failed(fail_code(exit_code)),
    }
}

/// A switch that exits with the code of another meaning must not be taken for it.
fn fail_code(exit_code: i32) -> i32 {
    if exit_code == THIRD_CLOSURE_EXIT_CODE { NO_EXIT_CODE } else { exit_code }
}

/// The event of a host that left its target while it soaked, or does not stay up on it.
pub(super) fn lost_health(policy: &Policy, now: DateTime<Utc>) -> HostEventKind {
    HostEventKind::Failed {
        failed_at: now,
        sustained_duration_secs: 0,
        failing_probes: Vec::new(),
        policy_applied: policy.on_health_failure,
    }
}

/// The last [`STDERR_TAIL_BYTES_MAX`] bytes of a text, from the next character on.
fn tail(text: &str) -> &str {
    let first = text.len().saturating_sub(STDERR_TAIL_BYTES_MAX);
    (first..=text.len()).find_map(|start| text.get(start..)).unwrap_or_default()
}
