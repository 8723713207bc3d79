//! Coordinators that die, and agents that are told to stop.

use std::time::Duration;

use muster_tests::{Agent, Fleet, Release, poll, wait_for};
use serde_json::{Value, json};

#[test]
fn a_rollout_goes_on_when_its_coordinator_is_killed() {
    let fleet = Fleet::of(5)
        .coordinators(3)
        .tag("canary", [4])
        .policy(
            "waves",
            json!([
                { "selector": { "tags": ["canary"] }, "soakSeconds": 0 },
                { "selector": { "all": true }, "soakSeconds": 0 },
            ]),
        )
        .build();
    fleet.install("v1", Release::GOOD);
    fleet.agents[4].install("v1", Release::SLOW);
    fleet.launch();
    let rollout = fleet.roll_out("r1", "v1");
    wait_for("the canary is in the middle of its switch", Duration::from_secs(30), || {
        (fleet.agents[4].times_begun("v1") == 1).then_some(())
    });
    let killed = fleet.coordinator();
    killed.kill();
    let survivors: Vec<_> = fleet.agents.iter().filter(|agent| agent.name != killed.name).collect();
    wait_for("another coordinator is elected", Duration::from_secs(30), || {
        let elected = survivors[0].look("/v1/status")["coordinator"].take();
        (elected.is_string() && elected != killed.name.as_str()).then_some(())
    });
    fleet.agents[4].open_gate(true);
    for agent in &survivors {
        wait_for(&format!("{} is on the release", agent.name), Duration::from_secs(60), || {
            (agent.current() == "dir:v1").then_some(())
        });
    }

    killed.start();
    fleet.wait_until_up(killed);
    wait_for("the killed coordinator is on the release", Duration::from_secs(60), || {
        (killed.current() == "dir:v1").then_some(())
    });
    fleet.wait_for_rollout(&rollout, "Terminal");
    fleet.wait_for_all("shows every host converged", |agent| {
        let hosts = agent.look("/v1/status")["hosts"].take();
        hosts.as_array().is_some_and(|hosts| {
            hosts.len() == 5
                && hosts.iter().all(|host| host["state"] == "Converged" && host["current"] == "dir:v1")
        })
    });
    for agent in &fleet.agents {
        assert_eq!(agent.times_begun("v1"), 1, "{} switched once", agent.name);
    }
}

#[test]
fn without_a_quorum_nothing_is_dispatched_and_status_says_who_is_missing() {
    let fleet = Fleet::of(3).build();
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    fleet.agents[1].kill();
    fleet.agents[2].kill();
    let left = &fleet.agents[0];
    let mut quorum = Value::Null;
    let lost = poll(Duration::from_secs(30), || {
        quorum = left.look("/v1/status")["quorum"].take();
        let missing = quorum["missing"].as_array()?;
        let both = missing.len() == 2
            && [json!("host-1"), json!("host-2")].iter().all(|host| missing.contains(host));
        (quorum["reachable"] == 1 && quorum["needed"] == 2 && both).then_some(())
    });
    assert!(lost.is_some(), "the quorum is not seen to be lost: {quorum}; {}", left.look("/v1/peers"));
    let rollout = fleet.roll_out("r1", "v1");
    let status = left.muster(["status"]).run().ok();
    assert!(status.contains("host-1") && status.contains("host-2"), "{status}");
    assert_eq!(left.current(), "dir:v0");

    fleet.agents[1].start();
    fleet.wait_until_up(&fleet.agents[1]);
    let on_release = |agent: &Agent| (agent.current() == "dir:v1").then_some(());
    wait_for("the first host is on the release", Duration::from_secs(60), || on_release(left));
    wait_for("the second host is on the release", Duration::from_secs(60), || on_release(&fleet.agents[1]));
    fleet.agents[2].start();
    fleet.wait_until_up(&fleet.agents[2]);
    wait_for("the third host is on the release", Duration::from_secs(60), || on_release(&fleet.agents[2]));
    fleet.wait_for_rollout(&rollout, "Terminal");
}

/// The entry up to which the newest certified snapshot of the log stands, as an agent shows it; 0 before the first.
fn compacted(agent: &Agent) -> u64 {
    let events = agent.events();
    let snapshots =
        events.iter().filter(|event| event["kind"] == "decision" && event["name"] == "LogSnapshot");
    let entry = |event: &Value| -> Option<u64> {
        let detail = event["detail"].as_str()?.strip_prefix("of the entries up to ")?;
        detail.split(';').next()?.parse().ok()
    };
    snapshots.filter_map(entry).max().unwrap_or_default()
}

#[test]
fn a_coordinator_that_was_away_while_the_log_was_compacted_is_sent_a_snapshot_and_decides_with_it() {
    let fleet = Fleet::of(4).coordinators(3).build();
    for agent in &fleet.agents {
        agent.set("snapshot_entries", 16);
    }
    fleet.install("v1", Release::GOOD);
    fleet.install("v2", Release::GOOD);
    fleet.launch();
    fleet.roll_out("r0", "v1");
    fleet.wait_for_release("v1");
    let leader = fleet.coordinator();
    let late = fleet.agents[..3].iter().find(|agent| agent.name != leader.name).unwrap();
    late.kill();
    let (mut releases, watcher) = (1, &fleet.agents[3]);
    let first = compacted(watcher);
    // With the next snapshot the log has nothing any more of what the killed one had last.
    while compacted(watcher) == first {
        let release = if releases % 2 == 0 { "v1" } else { "v2" };
        fleet.roll_out_at(3, &format!("r{releases}"), release);
        fleet.wait_for_release(release);
        releases += 1;
        assert!(releases < 10, "the log is not compacted beyond entry {first}");
    }
    late.start();
    fleet.wait_until_up(late);
    let other = fleet.agents[..3].iter().find(|agent| agent.name != late.name).unwrap();
    fleet.wait_for_release(if releases % 2 == 0 { "v2" } else { "v1" });
    other.kill();
    // Without the one that was away there is no quorum now.
    let last = fleet.roll_out_at(3, "last", if releases % 2 == 0 { "v1" } else { "v2" });
    fleet.wait_for_rollout(&last, "Terminal");
    late.muster(["store", "verify"]).run().ok();
}

#[test]
fn an_agent_that_is_told_to_stop_exits_cleanly() {
    let fleet = Fleet::of(1).build();
    fleet.agents[0].start();
    fleet.wait_until_up(&fleet.agents[0]);
    // Before its first document as well as after.
    let status = fleet.agents[0].stop();
    assert_eq!(status.code(), Some(0), "{status}\n{}", fleet.agents[0].log_tail());
    assert_eq!(fleet.agents[0].muster(["status"]).run().code, 3, "nobody answers any more");
    fleet.agents[0].start();
    fleet.wait_until_up(&fleet.agents[0]);
    fleet.found();
    let status = fleet.agents[0].stop();
    assert_eq!(status.code(), Some(0), "{status}\n{}", fleet.agents[0].log_tail());
}
