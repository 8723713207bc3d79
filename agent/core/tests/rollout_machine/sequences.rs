//! What holds over any sequence of events, legal or not.

use std::collections::BTreeSet;

use muster_core::rollout::{Effect, Record, StepContext, step};
use muster_core::wire::{Cause, HostState, RolloutEvent, RolloutState};
use proptest::prelude::*;

use crate::builders::*;

/// An event without what depends on the record that it meets.
#[derive(Debug, Clone)]
enum Draft {
    Joined(&'static str),
    Moved { name: &'static str, stale: bool, to: HostState, cause: Cause },
    Advanced { from: u32, to: u32 },
    Other(usize),
}

fn any_draft() -> impl Strategy<Value = Draft> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    let to = prop::sample::select(vec![
        HostState::Soaking,
        HostState::Converged,
        HostState::Converged,
        HostState::Converged,
        HostState::Deferred,
        HostState::Failed,
        HostState::Reverted,
    ]);
    let cause =
        prop_oneof![4 => (1..9u64).prop_map(reported), 1 => Just(Cause::Lost), 1 => Just(Cause::NotFetched)];
    let moved = (name.clone(), prop::bool::weighted(0.1), to, cause)
        .prop_map(|(name, stale, to, cause)| Draft::Moved { name, stale, to, cause });
    prop_oneof![
        4 => name.prop_map(Draft::Joined),
        6 => moved,
        3 => (0..3u32, 0..3u32).prop_map(|(from, to)| Draft::Advanced { from, to }),
        3 => (0..12usize).prop_map(Draft::Other),
    ]
}

fn event(draft: &Draft, record: Option<&Record>, secs: i64) -> RolloutEvent {
    match draft {
        Draft::Joined(name) => joined(name, secs),
        Draft::Moved { name, stale, to, cause } => {
            let known = record.and_then(|record| record.hosts.get(&host(name)));
            let known = known.map_or(HostState::Pending, |entry| entry.state);
            moved(name, if *stale { HostState::Activating } else { known }, *to, *cause, secs)
        }
        Draft::Advanced { from, to } => advanced(*from, *to, secs),
        Draft::Other(0) => opened(secs),
        Draft::Other(1) => superseded_by("stable@v3", secs),
        Draft::Other(2) => expired(secs),
        Draft::Other(3) => cleared(secs),
        Draft::Other(4) => cancelled(secs),
        Draft::Other(_) => terminal(secs),
    }
}

/// The moves of the table.
fn may_move(from: RolloutState, to: RolloutState) -> bool {
    use RolloutState as S;
    let targets: &[S] = match from {
        S::Opening => &[S::Active, S::Converging, S::Terminal, S::Failed, S::Superseded],
        S::Active => &[S::Converging, S::Terminal, S::Reverted, S::Failed, S::Superseded],
        S::Converging => &[S::Active, S::Terminal, S::Reverted, S::Failed, S::Superseded],
        S::Terminal => &[S::Superseded, S::Pruned],
        S::Reverted => &[S::Active, S::Superseded, S::Pruned],
        S::Failed => &[S::Active, S::Reverted, S::Superseded, S::Pruned],
        S::Superseded => &[S::Pruned],
        S::Pruned => &[],
    };
    targets.contains(&to)
}

proptest! {
    #[test]
    fn whatever_is_claimed_the_rollout_moves_along_the_table(
        drafts in prop::collection::vec(any_draft(), 0..60),
        max_failures in 0..3usize,
    ) {
        let plan = plan(max_failures);
        let (first, mut quarantined) = (play(&plan, [opened(0)]).0, BTreeSet::new());
        let mut record = first;
        for (index, draft) in (2..).zip(&drafts) {
            let secs = i64::try_from(index).unwrap() * 300;
            let event = event(draft, Some(&record), secs);
            let Ok(stepped) = step(&plan, Some(&record), &event, index, &StepContext::default()) else { continue };
            let again = step(&plan, Some(&record), &event, index, &StepContext::default()).unwrap();
            prop_assert_eq!(&again, &stepped, "one event has one meaning");
            let next = stepped.record;
            prop_assert!(next.state == record.state || may_move(record.state, next.state));
            prop_assert!(next.current_wave >= record.current_wave);
            if next.state == RolloutState::Terminal && record.state != RolloutState::Terminal {
                let waited_for = plan.hosts().find(|host| {
                    let entry = next.hosts.get(*host);
                    !entry.is_some_and(|entry| entry.state == HostState::Converged || entry.excused.is_some())
                });
                prop_assert_eq!(waited_for, None);
            }
            if next.state.is_open() {
                prop_assert!(next.failures() <= max_failures);
            }
            for effect in &stepped.effects {
                match effect {
                    Effect::QueueDispatch(dispatch) => {
                        let before = record.hosts.get(&dispatch.host);
                        prop_assert!(before.is_none_or(|entry| entry.is_dispatchable(at(secs))));
                        prop_assert_eq!(&dispatch.target_closure, &plan.targets[&dispatch.host]);
                    }
                    Effect::InsertQuarantineFromRollout { closure, .. } => {
                        prop_assert!(quarantined.insert(closure.clone()), "each closure once");
                    }
                    Effect::RecordRolloutTransition { from, to, .. } => {
                        prop_assert_eq!((*from, *to), (Some(record.state), next.state));
                    }
                    Effect::UpdateCurrentWave { wave, .. } => prop_assert!(*wave > record.current_wave),
                    Effect::SchedulePruning { .. } | Effect::OpenRolloutRecord { .. } => {}
                }
            }
            record = next;
        }
        let bytes = serde_json::to_vec(&record).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Record>(&bytes).unwrap(), record);
    }
}
