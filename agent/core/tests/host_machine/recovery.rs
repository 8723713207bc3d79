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

#[test]
fn a_restarted_host_does_what_the_table_of_boot_says() {
    use Boot::{Other, Same};
    let started = after_events([ack(7), samples()[2].0.clone()]);
    let in_state = record_in;
    let fails = |code| Some(code);
    let cases: Vec<(&str, Record, Found, Result<Recovery, Option<i32>>)> = vec![
        ("pending", in_state(HostState::Pending), found(Other, Job::None, None), Ok(Recovery::Nothing)),
        ("owed", in_state(HostState::Activating), found(Same, Job::None, Some("v1")), Ok(Recovery::Fire)),
        ("owed", in_state(HostState::Activating), found(Other, Job::None, Some("v1")), Ok(Recovery::Fire)),
        ("never began", started.clone(), found(Same, Job::None, Some("v1")), Ok(Recovery::Fire)),
        ("running", started.clone(), found(Same, Job::Running, Some("v1")), Ok(Recovery::Wait)),
        ("on target", started.clone(), found(Same, ended(0), Some("v2")), Err(None)),
        ("on target after a reboot", started.clone(), found(Other, Job::None, Some("v2")), Err(None)),
        ("failed", started.clone(), found(Same, ended(4), Some("v1")), Err(fails(4))),
        ("failed on target", started.clone(), found(Same, ended(4), Some("v2")), Err(fails(4))),
        ("back", started.clone(), found(Other, Job::None, Some("v1")), Err(fails(NO_EXIT_CODE))),
        ("third", started.clone(), found(Same, ended(0), Some("v3")), Err(fails(THIRD_CLOSURE_EXIT_CODE))),
        ("third", started.clone(), found(Other, Job::None, Some("v3")), Err(fails(THIRD_CLOSURE_EXIT_CODE))),
        ("nobody knows", started, found(Same, ended(0), None), Err(fails(0))),
        ("deferred", in_state(HostState::Deferred), found(Same, Job::None, Some("v1")), Ok(Recovery::Wait)),
        ("deferred, booted", in_state(HostState::Deferred), found(Other, Job::None, Some("v2")), Err(None)),
        (
            "deferred, booted elsewhere",
            in_state(HostState::Deferred),
            found(Other, Job::None, Some("v1")),
            Err(fails(NO_EXIT_CODE)),
        ),
        (
            "soaking",
            in_state(HostState::Soaking),
            found(Same, Job::None, Some("v2")),
            Ok(Recovery::ResetProbes { soak_again: false }),
        ),
        (
            "soaking, rebooted",
            in_state(HostState::Soaking),
            found(Other, Job::None, None),
            Ok(Recovery::ResetProbes { soak_again: true }),
        ),
        (
            "rollback",
            in_state(HostState::Failed),
            found(Other, Job::None, Some("v2")),
            Ok(Recovery::FireRollback { closure: closure("v1") }),
        ),
        (
            "rollback known to have failed",
            after_events([ack(7), activation_failed(1), rolled_back("v1", 1)]),
            found(Other, Job::None, Some("v2")),
            Ok(Recovery::Nothing),
        ),
        (
            "converged",
            in_state(HostState::Converged),
            found(Other, Job::None, Some("v1")),
            Ok(Recovery::Nothing),
        ),
        (
            "reverted",
            in_state(HostState::Reverted),
            found(Other, Job::None, Some("v2")),
            Ok(Recovery::Nothing),
        ),
    ];
    let policy = policy(HealthPolicy::RollbackAndHalt);
    for (name, record, found, wanted) in cases {
        let got = recover(&record, &policy, &found, at(300));
        match (wanted, got) {
            (Ok(wanted), got) => assert_eq!(got, wanted, "{name}"),
            (Err(None), Recovery::Emit(kind @ HostEventKind::ActivationCompleted { .. })) => {
                try_apply(&record, kind, HealthPolicy::Halt).unwrap();
            }
            (Err(Some(code)), Recovery::Emit(HostEventKind::ActivationFailed { exit_code, .. })) => {
                assert_eq!(exit_code, code, "{name}");
            }
            (Err(_), got) => panic!("{name}: {got:?}"),
        }
    }
    let left = recover(&healthy(), &policy, &found(Same, Job::None, Some("v1")), at(300));
    let Recovery::Emit(HostEventKind::Failed { failing_probes, .. }) = left else { panic!("{left:?}") };
    assert!(failing_probes.is_empty());
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
