//! What holds over any sequence of events, legal or not.

use muster_core::host::{HostContext, Local, Mirror, Record, StepError, step};
use muster_core::wire::{HealthPolicy, HostEvent, HostEventKind, HostState, ProbeMode, ProbeStatus};
use proptest::prelude::*;

use crate::builders::*;

fn any_event() -> impl Strategy<Value = HostEventKind> {
    let mode = prop_oneof![Just(ProbeMode::Enforce), Just(ProbeMode::Observe), Just(ProbeMode::Disabled)];
    let status = prop_oneof![3 => Just(ProbeStatus::Pass), 1 => Just(ProbeStatus::Fail)];
    let runs = prop_oneof![3 => Just("v2"), 1 => Just("v1")];
    let name = prop_oneof![3 => Just("http"), 1 => Just("disk")];
    (0..13usize, mode, status, runs, name, 0..200i64, -2..2i32).prop_map(
        |(kind, mode, status, runs, name, secs, exit_code)| match kind {
            3 => HostEventKind::ActivationCompleted {
                observed_current_closure: closure(runs),
                exit_code: exit_code.max(0),
                completed_at: at(secs),
            },
            4 => activation_failed(exit_code),
            8 => result(name, mode, status, secs),
            9 => failure_first(name, mode, secs),
            11 => rolled_back(runs, exit_code),
            12 => converged(secs, runs),
            other => samples()[other].0.clone(),
        },
    )
}

proptest! {
    #[test]
    fn whatever_comes_the_host_moves_along_the_table_and_both_sides_agree(
        kinds in prop::collection::vec(any_event(), 0..60),
        jumps in prop::collection::vec(prop_oneof![8 => Just(1), 1 => Just(0), 1 => Just(2u64)], 60),
    ) {
        let policy = policy(HealthPolicy::RollbackAndHalt);
        let context = HostContext::new(&policy);
        let (mut local, mut mirror) = (pending(), pending());
        for (kind, jump) in kinds.into_iter().zip(jumps) {
            let event = HostEvent { rollout_id: rollout(), seq: local.last_event_seq + jump, kind };
            let Ok(stepped) = step::<Local>(&local, &context, &event) else {
                if jump == 1 {
                    prop_assert!(step::<Mirror>(&mirror, &context, &event).is_err());
                }
                continue;
            };
            prop_assert!(event.seq > local.last_event_seq);
            let wanted = target(local.state, &event.kind);
            let stayed = local.state == HostState::Failed && stepped.record.state == HostState::Failed;
            prop_assert!(stayed || wanted == Some(stepped.record.state));
            if stepped.record.state == HostState::Converged {
                let completed = local.activation_completed_at.unwrap();
                prop_assert!(stepped.record.converged_at >= local.soak_deadline());
                let passed = local.enforced_probes().all(|name| {
                    let probe = &local.probes[name];
                    probe.status == ProbeStatus::Pass && probe.last_observed_at >= completed
                });
                prop_assert!(passed);
            }
            if jump == 1 {
                mirror = step::<Mirror>(&mirror, &context, &event).unwrap().record;
                prop_assert_eq!(&mirror, &stepped.record);
                local = stepped.record;
            } else {
                let expected = mirror.last_event_seq + 1;
                let gap = StepError::SeqGap { expected, got: event.seq };
                prop_assert_eq!(step::<Mirror>(&mirror, &context, &event).unwrap_err(), gap);
            }
        }
        let bytes = serde_json::to_vec(&local).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Record>(&bytes).unwrap(), local);
    }
}
