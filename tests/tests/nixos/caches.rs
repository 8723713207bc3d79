//! What a cache offers counts only under a key that the machine's own Nix trusts.

use muster_tests::machine::{Site, System, can_run_machines};

use super::assert_settled_on;

/// A rollout to a system that cannot be had: it waits at the gate, says why, and nothing of the system is in the store.
fn assert_is_refused(site: &Site, system: &str, reason: &str) {
    site.roll_out("r1", system);
    let machine = &site.machines[0];
    site.wait(&format!("{reason} is told"), || {
        let status = machine.control().look("/v1/status");
        status["hosts"][0]["fetching"].as_str()?.contains(reason).then_some(())
    });
    let explained = machine.control().look(&format!("/v1/explain/{}", machine.name));
    assert_eq!(explained["gates"][0]["gate"], "fetched", "{explained}");
    assert_settled_on(site, machine, "v0");
    assert_eq!(machine.switches(), [""; 0]);
    assert_ne!(machine.run(["nix-store", "--check-validity", site.path(system)]).code, 0);
}

#[test]
fn a_system_signed_by_a_stranger_is_refused() {
    if !can_run_machines() {
        return;
    }
    let mut site = Site::of(1).launch(&[]);
    site.build_untrusted(System::new("v1"));
    assert_is_refused(&site, "v1", "not signed by any of the keys");
}

#[test]
fn a_system_that_was_tampered_with_is_refused() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(1).launch(&[System::new("v1")]);
    site.tamper("v1");
    assert_is_refused(&site, "v1", "hash mismatch");
}
