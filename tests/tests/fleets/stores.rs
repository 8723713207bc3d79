//! What lies on a stopped agent's disk: views that follow from the log, and damage that is named.

use std::fs;

use muster_tests::{Agent, Fleet, Muster, Ran, Release};

/// What the release says when it fails; the host's signed event repeats it.
const LAST_WORDS: &[u8] = b"the disk of this release is on fire";

fn verify(agent: &Agent) -> Ran {
    Muster::new(["store", "verify", "--store"]).arg(agent.store()).run()
}

#[test]
fn every_view_follows_from_the_log_and_a_flipped_byte_is_named() {
    let fleet = Fleet::of(2).coordinators(1).build();
    fleet.install("v1", Release::GOOD);
    fleet.install("v2", Release::BROKEN);
    fleet.launch();
    let good = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&good, "Terminal");
    let bad = fleet.roll_out("r2", "v2");
    fleet.wait_for_rollout(&bad, "Reverted");
    for agent in &fleet.agents {
        assert!(agent.stop().success());
        let ran = verify(agent);
        assert!(!ran.stdout.is_empty(), "it says what it compared");
        ran.ok();
    }

    let agent = &fleet.agents[0];
    let mut bytes = fs::read(agent.store()).unwrap();
    let places: Vec<_> =
        (0..bytes.len() - LAST_WORDS.len()).filter(|&at| bytes[at..].starts_with(LAST_WORDS)).collect();
    assert!(!places.is_empty(), "the event is in the store as it was signed");
    for at in places {
        bytes[at] ^= 0x20;
    }
    fs::write(agent.store(), bytes).unwrap();
    let ran = verify(agent).expect_code(1);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("host-"), "the record is named by its host: {said}");
    assert!(!said.contains("panicked"), "{said}");
}
