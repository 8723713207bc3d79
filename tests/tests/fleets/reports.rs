//! Looking back: one page about a rollout, and the fleet as it was.

use std::fs;

use muster_tests::{Fleet, Muster, Release};

#[test]
fn the_page_about_a_rollout_tells_the_whole_story_from_the_agent_and_from_its_stopped_store() {
    let fleet = Fleet::of(3).tag("canary", [2]).policy("waves", two_waves()).build();
    fleet.install("v1", Release::GOOD);
    fleet.install("v2", Release::BROKEN);
    fleet.launch();
    let good = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&good, "Terminal");
    let bad = fleet.roll_out("r2", "v2");
    fleet.wait_for_rollout(&bad, "Reverted");
    let agent = &fleet.agents[0];
    let page = |id: &str, store: bool| {
        let file = fleet.folder().join("report.html");
        let mut command = if store {
            Muster::new(["rollout", "report", id, "--store"]).arg(agent.store())
        } else {
            agent.muster(["rollout", "report", id])
        };
        command = command.arg("--html").arg(&file);
        command.run().ok();
        fs::read_to_string(&file).unwrap()
    };
    let told = page(&good, false);
    for part in [
        "3 of 3",
        "Wave 2",
        "signed by alice",
        "host-2: Converged",
        "✓ Terminal",
        "Told by the agent of host-0",
    ] {
        assert!(told.contains(part), "{part}:\n{told}");
    }
    assert!(!told.contains("nobody whose signature holds"), "every signature holds:\n{told}");
    // A quorum is two of three, and which two is theirs to say.
    assert!(
        told.contains("signed by host-0, host-1")
            || told.contains("signed by host-0, host-2")
            || told.contains("signed by host-1, host-2")
    );
    let failed = page(&bad, false);
    for part in ["↶ Reverted", "went back", "quarantined", "dir:v2"] {
        assert!(failed.contains(part), "{part}:\n{failed}");
    }
    agent.muster(["rollout", "report", "stable@none", "--html", "/nonexistent/x"]).run().expect_code(1);
    agent.stop();
    let body = |page: &str| page[..page.find("<footer>").unwrap()].to_owned();
    assert_eq!(body(&page(&good, true)), body(&told), "the store tells what the agent told");
}

fn two_waves() -> serde_json::Value {
    serde_json::json!([
        { "selector": { "tags": ["canary"] }, "soakSeconds": 1 },
        { "selector": { "all": true }, "soakSeconds": 1 },
    ])
}
