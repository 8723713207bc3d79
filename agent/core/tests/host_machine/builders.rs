//! Records in every state, and one legal event of every kind.

use chrono::{DateTime, TimeDelta, Utc};
use muster_core::document::plan::Policy;
use muster_core::host::{HostContext, Local, Record, StepError, step};
use muster_core::id::{Closure, ProbeName, RolloutId};
use muster_core::wire::{
    DeclaredProbe, HealthPolicy, HostEvent, HostEventKind, HostState, ProbeMode, ProbeStatus, RejectReason,
};

pub(crate) const SOAK_SECS: u64 = 60;

pub(crate) fn at(secs: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(secs)
}

pub(crate) fn closure(name: &str) -> Closure {
    format!("dir:{name}").parse().unwrap()
}

pub(crate) fn probe(name: &str) -> ProbeName {
    name.parse().unwrap()
}

pub(crate) fn rollout() -> RolloutId {
    "stable@v2".parse().unwrap()
}

pub(crate) fn policy(on_health_failure: HealthPolicy) -> Policy {
    Policy {
        max_failures: 0,
        on_health_failure,
        sustained_failure_secs: 60,
        dispatch_timeout_secs: 600,
        activation_timeout_secs: 1800,
        deferred_timeout_secs: 600_000,
        lost_after_secs: 3600,
        fetch_timeout_secs: 3600,
        deferred_advances: false,
    }
}

pub(crate) fn pending() -> Record {
    let host = "web-01".parse().unwrap();
    Record::open(rollout(), host, rollout().channel(), closure("v2"), at(0), at(60), SOAK_SECS, 7)
}

pub(crate) fn ack(log_index: u64) -> HostEventKind {
    HostEventKind::DispatchAck {
        current_closure_at_dispatch: Some(closure("v1")),
        received_at: at(1),
        log_index,
    }
}

pub(crate) fn completed() -> HostEventKind {
    HostEventKind::ActivationCompleted {
        observed_current_closure: closure("v2"),
        exit_code: 0,
        completed_at: at(10),
    }
}

pub(crate) fn deferred() -> HostEventKind {
    HostEventKind::ActivationDeferred { component: "dbus".into(), deferred_at: at(5) }
}

pub(crate) fn activation_failed(exit_code: i32) -> HostEventKind {
    HostEventKind::ActivationFailed { exit_code, stderr_tail: "no".into(), failed_at: at(9) }
}

pub(crate) fn declared() -> HostEventKind {
    let declare = |name, mode| DeclaredProbe { probe_name: probe(name), kind: "http".into(), mode };
    HostEventKind::ProbeTopologyDeclared {
        probes: vec![
            declare("http", ProbeMode::Enforce),
            declare("disk", ProbeMode::Observe),
            declare("old", ProbeMode::Disabled),
        ],
        declared_at: at(11),
    }
}

pub(crate) fn result(name: &str, mode: ProbeMode, status: ProbeStatus, secs: i64) -> HostEventKind {
    HostEventKind::ProbeResult {
        probe_name: probe(name),
        mode,
        status,
        observed_at: at(secs),
        failure_reason: Some("why".into()),
        sub_results: None,
    }
}

pub(crate) fn failure_first(name: &str, mode: ProbeMode, secs: i64) -> HostEventKind {
    HostEventKind::ProbeFailureFirst { probe_name: probe(name), mode, first_failed_at: at(secs) }
}

pub(crate) fn health_failed(policy_applied: HealthPolicy) -> HostEventKind {
    HostEventKind::Failed {
        failed_at: at(90),
        sustained_duration_secs: 60,
        failing_probes: vec![probe("http")],
        policy_applied,
    }
}

pub(crate) fn rolled_back(to: &str, exit_code: i32) -> HostEventKind {
    HostEventKind::RollbackComplete { reverted_to_closure: closure(to), exit_code, completed_at: at(99) }
}

pub(crate) fn converged(secs: i64, current: &str) -> HostEventKind {
    HostEventKind::Converged { converged_at: at(secs), current_closure: closure(current) }
}

/// One legal event of each kind, with the time that it names.
pub(crate) fn samples() -> [(HostEventKind, DateTime<Utc>); 13] {
    use ProbeMode::Enforce;
    let rejected =
        HostEventKind::DispatchRejected { reason: RejectReason::Busy, rejected_at: at(1), log_index: 7 };
    let started = HostEventKind::ActivationStarted {
        started_at: at(2),
        switch_method: "live".into(),
        boot_id: "boot-1".into(),
    };
    let first =
        HostEventKind::ProbeObservedFirst { probe_name: probe("http"), mode: Enforce, observed_at: at(12) };
    [
        (ack(7), at(1)),
        (rejected, at(1)),
        (started, at(2)),
        (completed(), at(10)),
        (activation_failed(1), at(9)),
        (deferred(), at(5)),
        (declared(), at(11)),
        (first, at(12)),
        (result("http", Enforce, ProbeStatus::Fail, 30), at(30)),
        (failure_first("http", Enforce, 30), at(30)),
        (health_failed(HealthPolicy::RollbackAndHalt), at(90)),
        (rolled_back("v1", 0), at(99)),
        (converged(70, "v2"), at(70)),
    ]
}

pub(crate) fn event(record: &Record, kind: HostEventKind) -> HostEvent {
    HostEvent { rollout_id: record.rollout_id.clone(), seq: record.last_event_seq + 1, kind }
}

pub(crate) fn try_apply(
    record: &Record,
    kind: HostEventKind,
    on_failure: HealthPolicy,
) -> Result<Record, StepError> {
    let policy = policy(on_failure);
    let context = HostContext::new(&policy);
    step::<Local>(record, &context, &event(record, kind)).map(|step| step.record)
}

pub(crate) fn refusal(record: &Record, kind: HostEventKind) -> StepError {
    try_apply(record, kind, HealthPolicy::RollbackAndHalt).unwrap_err()
}

pub(crate) fn after_events(kinds: impl IntoIterator<Item = HostEventKind>) -> Record {
    kinds
        .into_iter()
        .fold(pending(), |record, kind| try_apply(&record, kind, HealthPolicy::RollbackAndHalt).unwrap())
}

pub(crate) fn healthy() -> Record {
    let pass = result("http", ProbeMode::Enforce, ProbeStatus::Pass, 20);
    after_events([ack(7), completed(), declared(), pass])
}

pub(crate) fn record_in(state: HostState) -> Record {
    let record = match state {
        HostState::Pending => pending(),
        HostState::Activating => after_events([ack(7)]),
        HostState::Deferred => after_events([ack(7), deferred()]),
        HostState::Soaking => healthy(),
        HostState::Failed => after_events([ack(7), activation_failed(1)]),
        HostState::Converged => {
            try_apply(&healthy(), converged(70, "v2"), HealthPolicy::RollbackAndHalt).unwrap()
        }
        HostState::Reverted => after_events([ack(7), activation_failed(1), rolled_back("v1", 0)]),
    };
    assert_eq!(record.state, state);
    record
}

/// What each event leads to from each state, in the order of `HostState::ALL`; a dot is a refusal.
pub(crate) const TABLE: [(&str, &str); 13] = [
    ("DispatchAck", "A......"),
    ("DispatchRejected", "P......"),
    ("ActivationStarted", ".A....."),
    ("ActivationCompleted", ".SS...."),
    ("ActivationFailed", ".FF...."),
    ("ActivationDeferred", ".D....."),
    ("ProbeTopologyDeclared", "...S..."),
    ("ProbeObservedFirst", "...S..."),
    ("ProbeResult", "...S..."),
    ("ProbeFailureFirst", "...S..."),
    ("Failed", "...F..."),
    ("RollbackComplete", ".....R."),
    ("Converged", "...C..."),
];

pub(crate) fn target(state: HostState, kind: &HostEventKind) -> Option<HostState> {
    let row = TABLE.iter().find(|(name, _)| *name == kind.name()).unwrap().1;
    let place = HostState::ALL.iter().position(|it| *it == state).unwrap();
    let letter = &row[place..=place];
    HostState::ALL.into_iter().find(|state| state.name().starts_with(letter))
}
