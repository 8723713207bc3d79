//! A release that brings another program of the agent itself: the one that rolls it out is the one that is replaced.

use std::fs;

use muster_tests::machine::{Machine, Site, System, can_run_machines};
use serde_json::json;

use super::{assert_settled_on, only_said};

/// What the module's own units run.
const FIRST: &str = "/opt/muster/bin/muster";
/// What the next version's store path is called, after its hash.
const NEXT: &str = "-muster-next/bin/muster";

/// The program that a machine's agent runs.
fn program(machine: &Machine) -> String {
    let pid = machine.run(["systemctl", "show", "--value", "-p", "MainPID", "muster.service"]).ok();
    let link = fs::read_link(machine.path(&format!("/proc/{}/exe", pid.trim())));
    link.unwrap_or_default().to_string_lossy().into_owned()
}

/// How often a machine's agent was started.
fn starts(machine: &Machine) -> usize {
    let lines = machine.run(["journalctl", "-u", "muster.service", "-o", "cat", "-g", "^Started"]).ok();
    lines.lines().count()
}

fn wait_for_program(site: &Site, machine: &Machine, end: &str) {
    site.wait(&format!("the agent of {} is {end}", machine.name), || {
        program(machine).ends_with(end).then_some(())
    });
    machine.wait_until_up();
}

#[test]
fn a_release_upgrades_the_agent_and_the_next_one_brings_the_first_program_back() {
    if !can_run_machines() {
        return;
    }
    let waves = json!([
        { "selector": { "tags": ["node-3"] }, "soakSeconds": 1 },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ]);
    let site = Site::of(3).policy("waves", waves).launch(&[System::new("v1").with_agent("next")]);
    site.machines.iter().for_each(|machine| assert_eq!(program(machine), FIRST, "{}", machine.name));
    for (turn, (system, end)) in [("v1", NEXT), ("v0", FIRST)].into_iter().enumerate() {
        let rollout = site.roll_out(&format!("to-{system}"), system);
        for machine in &site.machines {
            site.wait_for_system(machine, system);
            wait_for_program(&site, machine, end);
            site.wait_for_rollout(machine, &rollout, "Terminal");
        }
        for machine in &site.machines {
            assert_settled_on(&site, machine, system);
            for word in ["began", "ended"] {
                assert_eq!(machine.times(word, "switch", site.path(system)), 1, "{} {word}", machine.name);
            }
            for step in ["DispatchAck", "ActivationStarted", "ActivationCompleted", "Converged"] {
                assert_eq!(site.times_said(machine, step), turn + 1, "{} {step}", machine.name);
            }
            assert_eq!(starts(machine), turn + 2, "{} is renewed once a release", machine.name);
        }
    }
}

#[test]
fn an_agent_that_was_upgraded_by_a_release_that_fails_goes_back_with_it() {
    if !can_run_machines() {
        return;
    }
    let bad = System::new("v1").with_agent("next").with_broken_service().that_restarts("muster.service");
    let site = Site::of(1).launch(&[bad]);
    let (machine, rollout) = (&site.machines[0], site.roll_out("r1", "v1"));
    // The next version is started by the very switch, sees it to its end, and finds that its own release is not healthy.
    site.wait_for_rollout(machine, &rollout, "Reverted");
    wait_for_program(&site, machine, FIRST);
    assert_settled_on(&site, machine, "v0");
    for step in ["ActivationStarted", "Failed", "RollbackComplete"] {
        only_said(&site, machine, step);
    }
    assert_eq!(machine.times("began", "switch", site.path("v1")), 1);
    assert_eq!(machine.times("began", "switch", site.path("v0")), 1);
    assert_eq!(starts(machine), 3);
    let ran = machine.run(["journalctl", "-u", "muster.service", "-o", "json", "--output-fields=_EXE"]).ok();
    assert!(ran.contains(NEXT), "the next version ran: {ran}");
}
