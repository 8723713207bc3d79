//! Core's words as the control socket says them.

use muster_core::host;
use muster_core::wire::{HostEvent, HostEventKind, RolloutEvent};

/// How many lines of what a failed switch said are shown.
const LINES_SHOWN: usize = 3;

/// What a host reported, in a few words.
pub(in crate::daemon) fn event(event: &HostEvent) -> String {
    match &event.kind {
        HostEventKind::DispatchAck { current_closure_at_dispatch, .. } => match current_closure_at_dispatch {
            Some(closure) => format!("will activate; runs {closure}"),
            None => "will activate".to_owned(),
        },
        HostEventKind::DispatchRejected { reason, .. } => format!("refuses: {}", reason.name()),
        HostEventKind::ActivationStarted { switch_method, .. } => format!("switches ({switch_method})"),
        HostEventKind::ActivationCompleted { observed_current_closure, .. } => {
            format!("runs {observed_current_closure}")
        }
        HostEventKind::ActivationFailed { exit_code, stderr_tail, .. } => {
            let last = last_lines(stderr_tail);
            match *exit_code {
                host::THIRD_CLOSURE_EXIT_CODE => format!("runs something else than asked: {last}"),
                code => format!("exit code {code}: {last}"),
            }
        }
        HostEventKind::ActivationDeferred { component, .. } => format!("waits for a reboot: {component}"),
        HostEventKind::ProbeTopologyDeclared { probes, .. } => {
            let names: Vec<&str> = probes.iter().map(|probe| probe.probe_name.as_str()).collect();
            if names.is_empty() { "no probes".to_owned() } else { format!("probes: {}", names.join(", ")) }
        }
        HostEventKind::ProbeObservedFirst { probe_name, .. } => {
            format!("{probe_name} ran for the first time")
        }
        HostEventKind::ProbeResult { probe_name, status, failure_reason, .. } => {
            let how = match status {
                muster_core::wire::ProbeStatus::Pass => "passes",
                muster_core::wire::ProbeStatus::Fail => "fails",
            };
            match failure_reason {
                Some(reason) => format!("{probe_name} {how}: {reason}"),
                None => format!("{probe_name} {how}"),
            }
        }
        HostEventKind::ProbeFailureFirst { probe_name, .. } => format!("{probe_name} began to fail"),
        HostEventKind::Failed { failing_probes, sustained_duration_secs, .. } => {
            let names: Vec<&str> = failing_probes.iter().map(muster_core::id::ProbeName::as_str).collect();
            if names.is_empty() {
                "left its target".to_owned()
            } else {
                format!("{} failed for {sustained_duration_secs} s", names.join(", "))
            }
        }
        HostEventKind::RollbackComplete { reverted_to_closure, exit_code, .. } => match exit_code {
            0 => format!("went back to {reverted_to_closure}"),
            code => format!("could not go back (exit code {code}); runs {reverted_to_closure}"),
        },
        HostEventKind::Converged { current_closure, .. } => format!("runs {current_closure}, healthy"),
    }
}

/// The end of what a program said, on one line: what it complained of, and what is known of its end.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("; ")
}

/// What the log says of a rollout, in a few words.
pub(super) fn rollout_event(event: &RolloutEvent) -> String {
    match event {
        RolloutEvent::RolloutOpened { target_ref, .. } => format!("opened for {target_ref}"),
        RolloutEvent::HostJoined { host_id, wave, .. } => {
            format!("{host_id} dispatched in wave {}", wave + 1)
        }
        RolloutEvent::HostStateChanged { host_id, from, to, .. } => {
            format!("{host_id}: {} to {}", from.name(), to.name())
        }
        RolloutEvent::WaveAdvanced { from_wave, to_wave, .. } if from_wave == to_wave => {
            format!("wave {} is done, the last", from_wave + 1)
        }
        RolloutEvent::WaveAdvanced { from_wave, to_wave, .. } => {
            format!("wave {} is done, wave {} begins", from_wave + 1, to_wave + 1)
        }
        RolloutEvent::RolloutTerminal { .. } => "every host is done".to_owned(),
        RolloutEvent::SuccessorOpened { successor_rollout_id, .. } => {
            format!("superseded by {successor_rollout_id}")
        }
        RolloutEvent::RetentionExpired { .. } => "may be pruned".to_owned(),
        RolloutEvent::OperatorClearance { operator, reason, .. } => {
            format!("cleared by {operator}: {reason}")
        }
        RolloutEvent::RolloutCancelled { operator, reason, .. } => {
            format!("cancelled by {operator}: {reason}")
        }
    }
}
