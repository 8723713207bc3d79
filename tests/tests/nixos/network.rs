//! A system that cuts its machine off the network goes back by itself: nobody could tell it to.

use muster_tests::machine::{Site, System, can_run_machines};
use serde_json::json;

use super::{assert_settled_on, only_said};

#[test]
fn a_system_that_cuts_the_network_is_rolled_back_by_the_host_alone() {
    if !can_run_machines() {
        return;
    }
    let reach =
        json!({ "kind": "peers", "mode": "enforce", "intervalSeconds": 1, "timeoutSeconds": 5, "min": 1 });
    let waves = json!([
        { "selector": { "tags": ["node-3"] }, "soakSeconds": 120 },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ]);
    let site = Site::of(3)
        .policy("waves", waves)
        .launch(&[System::new("v1").without_network().with_check("reach", reach)]);
    let (canary, rollout) = (&site.machines[2], site.roll_out("r1", "v1"));
    site.wait("the network is cut", || {
        (canary.times("severed", "switch", site.path("v1")) == 1).then_some(())
    });
    site.wait_for_system(canary, "v0");
    // The others hear of it once the network is back.
    site.wait_for_rollout(&site.machines[0], &rollout, "Reverted");
    assert!(only_said(&site, canary, "Failed").contains("reach"));
    for machine in &site.machines {
        assert_settled_on(&site, machine, "v0");
    }
    assert_eq!(site.machines[0].times("began", "switch", site.path("v1")), 0);
}
