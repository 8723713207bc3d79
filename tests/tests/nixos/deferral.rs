//! A system with another message bus is not switched to live: it waits for the next boot.

use std::fs;
use std::os::unix::fs::symlink;

use muster_tests::machine::{Machine, Site, System, can_run_machines};

use super::{assert_settled_on, only_said};

/// A machine that waits for its reboot into `v1`, and the rollout that sent it there.
fn deferred() -> (Site, String) {
    let site = Site::of(1).launch(&[System::new("v1").with_dbus("broker")]);
    let rollout = site.roll_out("r1", "v1");
    let machine = &site.machines[0];
    site.wait("the switch is deferred", || {
        (site.times_said(machine, "ActivationDeferred") == 1).then_some(())
    });
    assert!(only_said(&site, machine, "ActivationDeferred").contains("dbus"));
    assert_eq!(machine.current(), site.path("v0"));
    assert_eq!((machine.profile(), machine.boot_default()), (site.path("v1").into(), site.path("v1").into()));
    assert_eq!(machine.times("began", "switch", site.path("v1")), 0);
    (site, rollout)
}

fn reboot(machine: &Machine) {
    machine.reboot();
    machine.wait_until_up();
}

#[test]
fn a_deferred_switch_is_completed_by_the_reboot() {
    if !can_run_machines() {
        return;
    }
    let (site, rollout) = deferred();
    let machine = &site.machines[0];
    reboot(machine);
    site.wait_for_rollout(machine, &rollout, "Terminal");
    assert_settled_on(&site, machine, "v1");
    for name in ["ActivationDeferred", "ActivationCompleted", "Converged"] {
        only_said(&site, machine, name);
    }
}

#[test]
fn a_reboot_that_comes_up_on_the_old_system_is_failed_with_the_reason() {
    if !can_run_machines() {
        return;
    }
    let (site, rollout) = deferred();
    let machine = &site.machines[0];
    // Somebody at the boot loader's menu, or a boot loader that gave up on the new system.
    let default = machine.path("/boot/default");
    fs::remove_file(&default).unwrap();
    symlink(site.path("v0"), default).unwrap();
    reboot(machine);
    site.wait_for_rollout(machine, &rollout, "Reverted");
    assert_settled_on(&site, machine, "v0");
    let said = only_said(&site, machine, "ActivationFailed");
    assert!(said.contains("does not run the target"), "{said}");
    only_said(&site, machine, "RollbackComplete");
}
