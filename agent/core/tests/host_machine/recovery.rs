//! What a host owes after a restart, and after its store was lost.

use muster_core::host::{
    Boot, Found, Job, NO_EXIT_CODE, Record, Recovery, THIRD_CLOSURE_EXIT_CODE, activation_ended, recover,
    step_incarnation,
};
use muster_core::wire::{HealthPolicy, HostEventKind, HostState, IncarnationStarted};

use crate::builders::*;

#[test]
fn a_new_incarnation_fails_what_was_in_flight_and_nothing_else() {
    let event = IncarnationStarted { current_closure: Some(closure("v1")), started_at: at(500) };
    for state in HostState::ALL {
        let before = record_in(state);
        let ended = step_incarnation(&before, &event);
        if before.is_in_flight() {
            assert_eq!((ended.state, ended.failed_at), (HostState::Failed, Some(at(500))));
            assert_eq!(ended.owes(), None);
        } else {
            assert_eq!(ended.state, state);
        }
    }
    let rejected = after_events([samples()[1].0.clone()]);
    assert_eq!(step_incarnation(&rejected, &event).last_event_seq, 0);
}

fn found(boot: Boot, job: Job, observed: Option<&str>) -> Found {
    Found { boot, job, observed: observed.map(closure) }
}

fn ended(exit_code: i32) -> Job {
    Job::Ended { exit_code, stderr_tail: "end".into() }
}

fn recovered(record: &Record, found: &Found) -> Recovery {
    recover(record, &policy(HealthPolicy::RollbackAndHalt), found, at(300))
}

fn started() -> Record {
    after_events([ack(7), samples()[2].0.clone()])
}

#[test]
fn a_restarted_host_does_what_it_still_owes() {
    use Boot::{Other, Same};
    let gave_up = after_events([ack(7), activation_failed(1), rolled_back("v1", 1)]);
    let rollback = Recovery::FireRollback { closure: closure("v1") };
    let reset = |soak_again| Recovery::ResetProbes { soak_again };
    let cases = [
        (record_in(HostState::Pending), found(Other, Job::None, None), Recovery::Nothing),
        (record_in(HostState::Activating), found(Same, Job::None, Some("v1")), Recovery::Fire),
        (record_in(HostState::Activating), found(Other, Job::None, Some("v1")), Recovery::Fire),
        (started(), found(Same, Job::None, Some("v1")), Recovery::Fire),
        (started(), found(Same, Job::Running, Some("v1")), Recovery::Wait),
        (record_in(HostState::Deferred), found(Same, Job::None, Some("v1")), Recovery::Wait),
        (record_in(HostState::Soaking), found(Same, Job::None, Some("v2")), reset(false)),
        (record_in(HostState::Soaking), found(Other, Job::None, None), reset(true)),
        (started(), found(Boot::Looping, Job::Running, Some("v1")), Recovery::Wait),
        (record_in(HostState::Failed), found(Other, Job::None, Some("v2")), rollback),
        (gave_up, found(Other, Job::None, Some("v2")), Recovery::Nothing),
        (record_in(HostState::Converged), found(Other, Job::None, Some("v1")), Recovery::Nothing),
        (record_in(HostState::Reverted), found(Other, Job::None, Some("v2")), Recovery::Nothing),
    ];
    for (record, found, wanted) in cases {
        assert_eq!(recovered(&record, &found), wanted, "{:?} {found:?}", record.state);
    }
}

#[test]
fn a_restarted_host_on_its_target_has_completed() {
    let deferred = record_in(HostState::Deferred);
    let cases = [
        (started(), found(Boot::Same, ended(0), Some("v2"))),
        (started(), found(Boot::Other, Job::None, Some("v2"))),
        (deferred.clone(), found(Boot::Other, Job::None, Some("v2"))),
        (deferred, found(Boot::Same, Job::None, Some("v2"))),
    ];
    for (record, found) in cases {
        let Recovery::Emit(kind) = recovered(&record, &found) else { panic!("{found:?}") };
        let soaking = try_apply(&record, kind, HealthPolicy::Halt).unwrap();
        assert_eq!(soaking.state, HostState::Soaking);
    }
}

#[test]
fn a_restarted_host_off_its_target_has_failed() {
    use Boot::{Other, Same};
    let cases = [
        (started(), found(Same, ended(4), Some("v1")), 4, true),
        (started(), found(Same, ended(4), Some("v2")), 4, true),
        (started(), found(Other, Job::None, Some("v1")), NO_EXIT_CODE, true),
        (started(), found(Same, ended(0), None), 0, true),
        (started(), found(Same, ended(0), Some("v3")), THIRD_CLOSURE_EXIT_CODE, false),
        (started(), found(Other, Job::None, Some("v3")), THIRD_CLOSURE_EXIT_CODE, false),
        (started(), found(Same, ended(THIRD_CLOSURE_EXIT_CODE), Some("v1")), NO_EXIT_CODE, true),
        (record_in(HostState::Deferred), found(Other, Job::None, Some("v1")), NO_EXIT_CODE, true),
    ];
    for (record, found, code, rolls_back) in cases {
        let Recovery::Emit(kind) = recovered(&record, &found) else { panic!("{found:?}") };
        assert!(
            matches!(&kind, HostEventKind::ActivationFailed { exit_code, .. } if *exit_code == code),
            "{kind:?}"
        );
        let failed = try_apply(&record, kind, HealthPolicy::RollbackAndHalt).unwrap();
        assert_eq!(failed.owes_rollback(), rolls_back, "{found:?}");
    }
    for (boot, runs) in [(Same, "v1"), (Boot::Looping, "v2"), (Boot::Looping, "v1")] {
        let left = recovered(&healthy(), &found(boot, Job::None, Some(runs)));
        let Recovery::Emit(HostEventKind::Failed { failing_probes, .. }) = left else { panic!("{left:?}") };
        assert!(failing_probes.is_empty());
    }
}

#[test]
fn the_end_of_long_output_is_kept_at_a_character() {
    let record = record_in(HostState::Activating);
    let long = format!("x{}", "é".repeat(4000));
    let ended = activation_ended(&record, 1, &long, None, at(9));
    let HostEventKind::ActivationFailed { stderr_tail, .. } = ended else { panic!("{ended:?}") };
    assert_eq!(stderr_tail.len(), 4096);
    assert!(long.ends_with(&stderr_tail));
}
