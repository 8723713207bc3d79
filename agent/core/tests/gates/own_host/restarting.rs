//! What a host owes after its agent or its machine starts anew.

use muster_core::host::{Boot, Found, Job as Trace};
use muster_core::ledger::Table;
use muster_core::node::{HostOrder, HostReport, Input};
use muster_core::wire::HostState;

use super::{HOSTS, Own};
use crate::kit::*;

#[test]
fn a_new_incarnation_says_so_first_and_once() {
    let mut own = Own::fresh(Story::new(fleet_of(&HOSTS, all_at_once())));
    own.runs("v0");
    assert!(own.begun.is_empty(), "nobody knows this host yet");
    own.hears_fleet();
    assert_eq!(own.begun.len(), 1);
    assert_eq!(own.begun[0].current_closure, Some(closure("v0")));
    own.restarts();
    own.runs("v0");
    own.step(Input::Tick);
    assert_eq!(own.begun.len(), 1);
}

fn found(job: Trace, runs: &str) -> Found {
    Found { boot: Boot::Same, job, observed: Some(closure(runs)) }
}

#[test]
fn a_restart_in_the_middle_of_a_switch_asks_what_became_of_it() {
    let ended = || Trace::Ended { exit_code: 0, stderr_tail: String::new() };
    let table: [(Trace, &str, HostState, usize); 4] = [
        (Trace::None, "v0", HostState::Activating, 1),
        (Trace::Running, "v0", HostState::Activating, 0),
        (ended(), "v1", HostState::Soaking, 0),
        (Trace::Ended { exit_code: 4, stderr_tail: String::new() }, "v0", HostState::Failed, 0),
    ];
    for (job, runs, state, switches) in table {
        let mut own = Own::new();
        let id = own.release("v1");
        own.dispatched(&id);
        own.restarts();
        assert!(own.orders.iter().any(|it| matches!(it, HostOrder::Inspect { rollback: false, .. })));
        assert_eq!(own.switches(), 0);
        own.step(Input::Host(HostReport::Inspected { rollout: id.clone(), found: found(job.clone(), runs) }));
        assert_eq!((own.state(&id), own.switches()), (Some(state), switches), "{job:?}");
    }
}

#[test]
fn a_rollback_that_was_owed_is_still_owed_after_a_restart() {
    let mut own = Own::new();
    let id = own.release("v1");
    own.dispatched(&id);
    own.switched(&id, 1, "v1");
    assert!(own.orders.iter().any(|order| matches!(order, HostOrder::RollBack(_))));
    own.restarts();
    assert!(
        own.orders.iter().any(|it| matches!(it, HostOrder::Inspect { rollback: true, .. })),
        "{:?}",
        own.orders
    );
    own.step(Input::Host(HostReport::Inspected { rollout: id.clone(), found: found(Trace::None, "v1") }));
    let back = own.orders.iter().find_map(|order| match order {
        HostOrder::RollBack(job) => Some(job.target.clone()),
        _ => None,
    });
    assert_eq!(back, Some(closure("v0")));
}

#[test]
fn a_host_that_waits_for_its_reboot_takes_back_a_release_that_failed_elsewhere() {
    for deferred in [false, true] {
        let mut own = Own::new();
        let id = own.release("v1");
        own.dispatched(&id);
        if deferred {
            let component = "dbus".to_owned();
            own.step(Input::Host(HostReport::SwitchDeferred { rollout: id.clone(), component }));
            assert_eq!(own.state(&id), Some(HostState::Deferred));
        }
        own.story.join(&id, "h3");
        let envelope = own.story.fails("h3", &id);
        let cause = muster_core::wire::Cause::Reported { envelope };
        let derived = own.story.claims(&id, "h3", HostState::Failed, cause);
        for derived in &derived {
            own.certified(&derived.decision);
        }
        // Who activates already finishes by itself.
        let state = if deferred { HostState::Failed } else { HostState::Activating };
        assert_eq!(own.state(&id), Some(state));
        let back = own.orders.iter().any(|order| matches!(order, HostOrder::RollBack(_)));
        assert_eq!(back, deferred);
    }
}

#[test]
fn what_was_not_durable_before_a_crash_is_not_owed_twice_after_it() {
    let mut own = Own::new();
    let id = own.release("v1");
    let before = own.disk.0.clone();
    own.dispatched(&id);
    own.acknowledged();
    own.disk.0 = before;
    own.restarts();
    own.runs("v0");
    own.silent();
    assert!(own.disk.0.keys().filter(|(table, _)| *table == Table::Decisions).count() == 0);
}
