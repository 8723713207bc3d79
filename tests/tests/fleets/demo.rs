//! The demonstration on one machine, as a newcomer runs it.

use muster_tests::{Muster, Permit};
use serde_json::{Value, json};

#[test]
fn the_demo_tells_its_whole_story() {
    let _permit = Permit::acquire(5);
    let told = Muster::new(["demo", "--json"]).run().json();
    let known = [
        "agents_max_rss_mib",
        "coordinators",
        "hosts",
        "hosts_on_bad_release",
        "publish_to_dispatch_ms",
        "quarantined",
        "rollouts",
        "schema",
        "seconds",
    ];
    assert_eq!(told.as_object().unwrap().keys().collect::<Vec<_>>(), known, "{told}");
    assert_eq!((&told["schema"], &told["hosts"], &told["coordinators"]), (&json!(1), &json!(5), &json!(3)));
    assert_eq!(told["hosts_on_bad_release"], 0, "{told}");
    for figure in ["publish_to_dispatch_ms", "agents_max_rss_mib", "seconds"] {
        assert!(told[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {told}");
    }

    let rollouts = told["rollouts"].as_array().unwrap();
    let ends: Vec<_> = rollouts.iter().map(|rollout| (&rollout["id"], &rollout["state"])).collect();
    let end = |id: &str, state: &str| (json!(id), json!(state));
    let expected = [end("stable@v1", "Terminal"), end("stable@v2", "Terminal"), end("stable@v3", "Reverted")];
    assert_eq!(ends, expected.iter().map(|(id, state)| (id, state)).collect::<Vec<_>>());
    let killed: Vec<_> =
        rollouts.iter().filter(|rollout| rollout["coordinator_killed"] != Value::Null).collect();
    assert!(killed.len() == 1 && killed[0]["id"] == "stable@v2", "{told}");
    assert!(killed[0]["recovered_ms"].is_u64(), "{told}");
    assert_eq!(told["quarantined"], json!([{ "channel": "stable", "closure": "dir:v3" }]));
}
