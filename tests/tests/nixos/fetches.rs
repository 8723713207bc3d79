//! A system that the cache does not have: the host waits for it, counts as failed in the end, and harms nobody.

use muster_tests::machine::{Plan, Site, System, can_run_machines};
use serde_json::{Value, json};

use super::{assert_settled_on, only_said};

/// How long a host may take for its target; several tries fit into it.
const FETCH_SECONDS: u64 = 12;

/// Three machines, with what a policy has of waves.
fn three(waves: Value) -> Plan {
    Site::of(3).policy("waves", waves).policy("fetchTimeoutSeconds", json!(FETCH_SECONDS))
}

/// Sends the last machine to `v2`, which the cache lacks, and the others to `v1`.
fn roll_out(site: &Site) -> String {
    site.withhold("v2");
    let systems = ["v1", "v1", "v2"].map(|system| site.path(system));
    let targets: Vec<_> = site.machines.iter().zip(systems).collect();
    let rollout = site.publish_ref(&site.machines[0], "r1", &targets);
    site.wait("it is told what node-3 waits for", || {
        let explained = site.machines[0].control().look("/v1/explain/node-3");
        let told =
            explained["gates"][0]["waits_for"].as_str()?.contains("don't know how to build these paths");
        (told && explained["gates"][0]["gate"] == "fetched").then_some(())
    });
    rollout
}

/// What the first machine shows of the last one in a rollout.
fn shown(site: &Site, rollout: &str) -> Value {
    let shown = site.machines[0].control().look(&format!("/v1/rollouts/{rollout}"));
    let hosts = shown["hosts"].as_array().cloned().unwrap_or_default();
    hosts.into_iter().find(|host| host["host"] == "node-3").unwrap_or_default()
}

#[test]
fn a_rollout_whose_canary_cannot_fetch_its_system_in_time_fails_and_goes_no_further() {
    if !can_run_machines() {
        return;
    }
    let waves = json!([
        { "selector": { "tags": ["node-3"] }, "soakSeconds": 0 },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ]);
    let site = three(waves).launch(&[System::new("v1"), System::new("v2")]);
    let rollout = roll_out(&site);
    for machine in &site.machines {
        site.wait_for_rollout(machine, &rollout, "Failed");
        assert_settled_on(&site, machine, "v0");
        assert_eq!(machine.switches(), [""; 0], "{}", machine.name);
    }
    let canary = shown(&site, &rollout);
    assert_eq!((&canary["state"], &canary["dispatched_at"]), (&json!("Failed"), &Value::Null), "{canary}");
    let explained = site.muster(&site.machines[0], ["explain", "node-3"]).run().ok();
    let reason = format!("it has not fetched its target within {FETCH_SECONDS} s");
    assert!(explained.contains(&reason), "{explained}");
    // Nothing is known against a system that nobody has run.
    assert_eq!(site.machines[0].control().look("/v1/quarantines")["quarantines"], json!([]));

    // Once the cache has it, the next release of the same systems goes through.
    site.offer("v2");
    let systems = ["v1", "v1", "v2"].map(|system| site.path(system));
    let targets: Vec<_> = site.machines.iter().zip(systems).collect();
    let again = site.publish_ref(&site.machines[0], "r2", &targets);
    site.machines.iter().for_each(|machine| site.wait_for_rollout(machine, &again, "Terminal"));
    ["v1", "v1", "v2"].into_iter().zip(&site.machines).for_each(|(system, machine)| {
        assert_settled_on(&site, machine, system);
    });
}

#[test]
fn a_host_that_cannot_fetch_its_system_is_left_behind_and_joins_when_it_can() {
    if !can_run_machines() {
        return;
    }
    let waves = json!([{ "selector": { "all": true }, "soakSeconds": 0 }]);
    let site = three(waves)
        .policy("healthGate", json!({ "maxFailures": 1 }))
        .launch(&[System::new("v1"), System::new("v2")]);
    let (rollout, late) = (roll_out(&site), &site.machines[2]);
    for machine in &site.machines[..2] {
        site.wait_for_rollout(machine, &rollout, "Terminal");
        assert_settled_on(&site, machine, "v1");
    }
    let left = shown(&site, &rollout);
    assert_eq!(
        (&left["state"], &left["excused"]),
        (&json!("Failed"), &json!("failed, as many may")),
        "{left}"
    );
    assert_settled_on(&site, late, "v0");

    site.offer("v2");
    site.wait_for_system(late, "v2");
    site.wait("it has converged", || (shown(&site, &rollout)["state"] == "Converged").then_some(()));
    assert_settled_on(&site, late, "v2");
    for step in ["DispatchAck", "ActivationStarted", "ActivationCompleted", "Converged"] {
        only_said(&site, late, step);
    }
    site.machines[..2].iter().for_each(|machine| assert_settled_on(&site, machine, "v1"));
}
