//! What an agent finds when it starts: nothing at all, or a switch that it had begun, or had been about to begin.

use std::fs;

use muster_core::host::BOOTS_MAX;
use muster_tests::machine::{Machine, Site, System, can_run_machines};
use serde_json::json;

use super::{assert_settled_on, only_said};

/// Has the helper wait before it takes an order, as a busy machine may have it wait.
const BUSY_HELPER: &str =
    "[Service]\nExecStartPre=/bin/sh -c 'until [ -e /run/gate ]; do sleep 0.05; done'\n";
/// What the probe of a soaking release leaves behind.
const PROBED: &str = "/run/muster/probed";

fn kill_agent(machine: &Machine) {
    machine.run(["systemctl", "kill", "--signal", "KILL", "muster.service"]).ok();
}

/// One switch, told of once, and well.
fn assert_switched_once(site: &Site, machine: &Machine, system: &str) {
    assert_settled_on(site, machine, system);
    for word in ["began", "ended"] {
        assert_eq!(machine.times(word, "switch", site.path(system)), 1, "{word}");
    }
    for step in ["DispatchAck", "ActivationStarted", "ActivationCompleted", "Converged"] {
        only_said(site, machine, step);
    }
}

#[test]
fn a_host_that_is_installed_anew_learns_the_fleet_and_takes_the_next_release() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(3).launch(&[System::new("v1"), System::new("v2")]);
    let (machine, first) = (&site.machines[2], site.roll_out("r1", "v1"));
    site.machines.iter().for_each(|machine| site.wait_for_rollout(machine, &first, "Terminal"));
    site.wait_for_system(machine, "v1");
    machine.cut_power();
    for folder in ["/var/lib/muster", "/var/lib/muster-activate"] {
        fs::remove_dir_all(machine.disk(folder)).unwrap();
    }
    machine.power_on();
    machine.wait_until_up();
    let next = site.roll_out("r2", "v2");
    site.wait_for_system(machine, "v2");
    site.machines.iter().for_each(|machine| site.wait_for_rollout(machine, &next, "Terminal"));
    site.wait("the new agent says so", || (site.times_said(machine, "Converged") >= 1).then_some(()));
    assert_settled_on(&site, machine, "v2");
    assert_eq!(machine.times("began", "switch", site.path("v1")), 1);
    assert_eq!(machine.times("began", "switch", site.path("v2")), 1);
}

#[test]
fn an_agent_that_is_killed_before_its_switch_began_begins_it_once() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(1).launch(&[System::new("v1")]);
    let machine = &site.machines[0];
    let busy = machine.path("/etc/systemd/system/muster-activate@.service.d");
    fs::create_dir_all(&busy).unwrap();
    fs::write(busy.join("busy.conf"), BUSY_HELPER).unwrap();
    machine.run(["systemctl", "daemon-reload"]).ok();
    let rollout = site.roll_out("r1", "v1");
    let helpers = || {
        let words = ["systemctl", "list-units", "--plain", "--no-legend", "muster-activate@*.service"];
        machine.run(words).ok().lines().count()
    };
    site.wait("the helper is called", || (helpers() == 1).then_some(()));
    kill_agent(machine);
    // Both lives of the agent have asked for it by now, and nobody can take the first one's word back.
    site.wait("the helper is called again", || (helpers() == 2).then_some(()));
    assert_eq!(machine.switches(), [""; 0]);
    machine.open_gate();
    site.wait_for_rollout(machine, &rollout, "Terminal");
    assert_switched_once(&site, machine, "v1");
}

#[test]
fn an_agent_that_is_killed_during_its_switch_waits_for_its_end() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(1).launch(&[System::new("v1").that_waits_halfway()]);
    let (machine, rollout) = (&site.machines[0], site.roll_out("r1", "v1"));
    site.wait("the switch is halfway", || {
        (machine.times("waits", "switch", site.path("v1")) == 1).then_some(())
    });
    kill_agent(machine);
    machine.wait_until_up();
    assert_eq!(site.times_said(machine, "ActivationCompleted"), 0);
    machine.open_gate();
    site.wait_for_rollout(machine, &rollout, "Terminal");
    assert_switched_once(&site, machine, "v1");
}

#[test]
fn an_agent_that_was_away_when_its_switch_ended_reads_how_it_ended() {
    if !can_run_machines() {
        return;
    }
    for (system, end, settled) in [
        (System::new("v1").that_waits_halfway(), "Terminal", "v1"),
        (System::new("v1").that_waits_halfway().whose_switch_exits(4), "Reverted", "v0"),
    ] {
        let site = Site::of(1).launch(&[system]);
        let (machine, rollout) = (&site.machines[0], site.roll_out("r1", "v1"));
        site.wait("the switch is halfway", || {
            (machine.times("waits", "switch", site.path("v1")) == 1).then_some(())
        });
        machine.run(["systemctl", "stop", "muster.service"]).ok();
        machine.open_gate();
        site.wait("the switch ends", || {
            (machine.times("ended", "switch", site.path("v1")) == 1).then_some(())
        });
        machine.run(["systemctl", "start", "muster.service"]).ok();
        site.wait_for_rollout(machine, &rollout, end);
        assert_settled_on(&site, machine, settled);
        assert_eq!(machine.times("began", "switch", site.path("v1")), 1);
    }
}

#[test]
fn a_machine_that_is_booted_again_and_again_while_it_soaks_goes_back() {
    if !can_run_machines() {
        return;
    }
    let waves = json!([{ "selector": { "all": true }, "soakSeconds": 3600 }]);
    // Whether a boot's agent has looked at what it found, and soaks on: in a place that a power cut clears.
    let probe = json!({ "kind": "exec", "mode": "observe", "command": ["/usr/bin/touch", PROBED] });
    let site = Site::of(1).policy("waves", waves).launch(&[System::new("v1").with_check("soaks", probe)]);
    let (machine, rollout) = (&site.machines[0], site.roll_out("r1", "v1"));
    site.wait("the soak begins", || machine.path(PROBED).exists().then_some(()));
    let gives_up = |_: &usize| {
        machine.lose_power();
        machine.wait_until_up();
        site.wait("it soaks on, or has had enough", || {
            let failed = site.times_said(machine, "Failed") == 1;
            (failed || machine.path(PROBED).exists()).then_some(failed)
        })
    };
    assert_eq!((1..=BOOTS_MAX + 1).find(gives_up), Some(BOOTS_MAX + 1));
    site.wait_for_rollout(machine, &rollout, "Reverted");
    assert_settled_on(&site, machine, "v0");
    only_said(&site, machine, "RollbackComplete");
    assert_eq!(machine.times("began", "switch", site.path("v1")), 1);
}
