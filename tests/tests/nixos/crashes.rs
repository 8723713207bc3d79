//! The power goes, or the agent does, in the middle of a switch.

use muster_tests::machine::{Site, System, can_run_machines};
use serde_json::json;

use super::{assert_settled_on, only_said};

/// What a host says once, and only once, on the way to a healthy end.
const GOOD_STEPS: [&str; 4] = ["DispatchAck", "ActivationStarted", "ActivationCompleted", "Converged"];

#[test]
fn a_host_whose_power_goes_while_it_soaks_soaks_on() {
    if !can_run_machines() {
        return;
    }
    let waves = json!([{ "selector": { "all": true }, "soakSeconds": 5 }]);
    let site = Site::of(1).policy("waves", waves).launch(&[System::new("v1")]);
    let (machine, rollout) = (&site.machines[0], site.roll_out("r1", "v1"));
    site.wait("the soak begins", || (site.times_said(machine, "ActivationCompleted") == 1).then_some(()));
    machine.lose_power();
    machine.wait_until_up();
    assert_eq!(site.times_said(machine, "Converged"), 0);
    site.wait_for_rollout(machine, &rollout, "Terminal");
    assert_settled_on(&site, machine, "v1");
    assert_eq!(machine.times("began", "switch", site.path("v1")), 1);
    GOOD_STEPS.iter().for_each(|step| drop(only_said(&site, machine, step)));
}

#[test]
fn a_switch_that_the_power_cut_and_the_boot_completed_goes_on() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(1).launch(&[System::new("v1").that_waits_halfway()]);
    let (machine, rollout) = (&site.machines[0], site.roll_out("r1", "v1"));
    site.wait("the switch is halfway", || {
        (machine.times("waits", "switch", site.path("v1")) == 1).then_some(())
    });
    assert_eq!((machine.current(), machine.boot_default()), (site.path("v0").into(), site.path("v1").into()));
    machine.lose_power();
    machine.wait_until_up();
    site.wait_for_rollout(machine, &rollout, "Terminal");
    assert_settled_on(&site, machine, "v1");
    GOOD_STEPS.iter().for_each(|step| drop(only_said(&site, machine, step)));
}

#[test]
fn a_switch_that_the_power_cut_before_the_boot_loader_was_set_is_rolled_back() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(1).launch(&[System::new("v1").that_waits_first()]);
    let (machine, rollout) = (&site.machines[0], site.roll_out("r1", "v1"));
    site.wait("the switch begins", || (machine.times("waits", "switch", site.path("v1")) == 1).then_some(()));
    assert_eq!((machine.profile(), machine.boot_default()), (site.path("v1").into(), site.path("v0").into()));
    machine.lose_power();
    machine.wait_until_up();
    site.wait_for_rollout(machine, &rollout, "Reverted");
    assert_settled_on(&site, machine, "v0");
    only_said(&site, machine, "ActivationFailed");
    assert_eq!(machine.times("began", "switch", site.path("v1")), 1);
}

#[test]
fn an_agent_that_its_own_switch_restarts_finds_the_switch_again() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(1).launch(&[System::new("v1").that_restarts("muster.service")]);
    let (machine, rollout) = (&site.machines[0], site.roll_out("r1", "v1"));
    site.wait_for_rollout(machine, &rollout, "Terminal");
    assert_settled_on(&site, machine, "v1");
    assert_eq!(machine.times("began", "switch", site.path("v1")), 1);
    assert_eq!(machine.times("ended", "switch", site.path("v1")), 1);
    GOOD_STEPS.iter().for_each(|step| drop(only_said(&site, machine, step)));
    let starts = machine.run(["journalctl", "-u", "muster.service", "-o", "cat", "-g", "^Started"]).ok();
    assert_eq!(starts.lines().count(), 2, "{starts}");
}
