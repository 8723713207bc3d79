//! Systems come from a signed cache over http, and go into effect in waves; one that is bad goes back from its canary.

use muster_tests::machine::{Plan, Site, System, can_run_machines};
use serde_json::json;

use super::{assert_settled_on, only_said};

/// Three machines, the last of which is the canary.
fn three() -> Plan {
    let waves = json!([
        { "selector": { "tags": ["node-3"] }, "soakSeconds": 2 },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ]);
    Site::of(3).policy("waves", waves)
}

/// After a rollout that failed on the canary: it is back on the first system, where the others have been all the time.
fn assert_only_the_canary_tried(site: &Site, system: &str) {
    for (index, machine) in site.machines.iter().enumerate() {
        assert_settled_on(site, machine, "v0");
        let tries = usize::from(index == 2);
        assert_eq!(machine.times("began", "switch", site.path(system)), tries, "{}", machine.name);
    }
    let canary = &site.machines[2];
    assert_eq!(canary.times("ended", "switch", site.path("v0")), 1, "it was switched back");
}

#[test]
fn three_hosts_roll_out_from_a_signed_cache() {
    if !can_run_machines() {
        return;
    }
    let site = three().launch(&[System::new("v1")]);
    let rollout = site.roll_out("r1", "v1");
    for machine in &site.machines {
        site.wait_for_rollout(machine, &rollout, "Terminal");
    }
    for machine in &site.machines {
        site.wait_for_system(machine, "v1");
        assert_settled_on(&site, machine, "v1");
        assert_eq!(machine.times("began", "switch", site.path("v1")), 1, "{}", machine.name);
        assert_eq!(machine.run(["systemctl", "is-active", "demo.service"]).ok().trim(), "active");
        let units = machine.run(["systemctl", "list-units", "--all", "--plain", "muster-switch*"]).ok();
        assert!(!units.contains(".service"), "{} keeps what is over: {units}", machine.name);
    }
    assert_eq!(site.asked().iter().filter(|path| path.starts_with("/nar/")).count(), 3, "{:?}", site.asked());
}

#[test]
fn a_switch_that_leaves_failed_units_is_rolled_back() {
    if !can_run_machines() {
        return;
    }
    let site = three().launch(&[System::new("v1").whose_switch_exits(4)]);
    let rollout = site.roll_out("r1", "v1");
    site.wait_for_rollout(&site.machines[2], &rollout, "Reverted");
    assert_only_the_canary_tried(&site, "v1");
    let said = only_said(&site, &site.machines[2], "ActivationFailed");
    assert!(said.contains('4') && said.contains("units of it failed"), "{said}");
    // The agent may not read the journal; its helper tells it what the switch said, and whoever asks hears it.
    let complaint = "warning: the following units failed: demo.service";
    assert!(said.contains(complaint), "{said}");
    let explained = site.muster(&site.machines[0], ["explain", "node-3"]).run().ok();
    assert!(explained.contains(complaint), "{explained}");
}

#[test]
fn a_system_whose_service_is_not_healthy_is_rolled_back() {
    if !can_run_machines() {
        return;
    }
    let site = three().launch(&[System::new("v1").with_broken_service(), System::new("v2")]);
    let rollout = site.roll_out("r1", "v1");
    site.wait_for_rollout(&site.machines[2], &rollout, "Reverted");
    assert_only_the_canary_tried(&site, "v1");
    let said = only_said(&site, &site.machines[2], "Failed");
    assert!(said.contains("demo"), "{said}");

    let better = site.roll_out("r2", "v2");
    site.wait_for_rollout(&site.machines[0], &better, "Terminal");
    site.machines.iter().for_each(|machine| site.wait_for_system(machine, "v2"));
}
