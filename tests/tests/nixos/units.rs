//! The agent's own unit: what reaches it through systemd, and how soon it acts.

use std::os::unix::fs::MetadataExt as _;

use chrono::{DateTime, Utc};
use muster_tests::machine::{Machine, Site, System, can_run_machines};
use muster_tests::note;
use serde_json::json;

/// Where systemd puts the agent's key.
const CREDENTIAL: &str = "/run/credentials/muster.service/identity";
const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

/// Whether a program succeeds with the rights of a user and no groups.
fn may(machine: &Machine, user: &str, program: &[&str]) -> bool {
    let rights = ["setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups"];
    machine.command(&[&rights, program].concat()).output().unwrap().status.success()
}

#[test]
fn the_agents_key_comes_as_a_credential_which_the_agent_alone_reads() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(1).option("identityFile", json!(HOST_KEY)).launch(&[]);
    let machine = &site.machines[0];
    let pid = machine.run(["systemctl", "show", "--value", "-p", "MainPID", "muster.service"]).ok();
    let environ = std::fs::read(machine.path(&format!("/proc/{}/environ", pid.trim()))).unwrap();
    let told = format!("MUSTER_IDENTITY={CREDENTIAL}");
    assert!(environ.split(|byte| *byte == 0).any(|variable| variable == told.as_bytes()), "{told}");
    assert_eq!(machine.control().look("/v1/id")["public_key"], machine.key.public().to_openssh());

    // The file that it came from is root's, and the agent has no way to it.
    for user in ["muster", "nobody"] {
        assert!(!may(machine, user, &["cat", HOST_KEY]), "{user} reads the host's key");
    }
    // systemd mounts credentials for the unit; others see an empty folder, or one that is closed.
    assert!(!may(machine, "nobody", &["cat", CREDENTIAL]));
    let seen = machine.path(&format!("/proc/{}/root{CREDENTIAL}", pid.trim()));
    let file = std::fs::metadata(&seen).unwrap();
    assert_eq!(file.mode() & 0o077 & !0o040, 0, "{:o}", file.mode());
    assert_eq!(std::fs::read(&seen).unwrap(), std::fs::read(machine.path(HOST_KEY)).unwrap());
}

/// When the first program of a unit was started, by the machine's journal.
fn started(machine: &Machine, unit: &str) -> DateTime<Utc> {
    let lines =
        machine.run(["journalctl", "--quiet", "--no-pager", "--output=short-unix", "--unit", unit]).ok();
    let seconds: f64 = lines.split_whitespace().next().unwrap().parse().unwrap();
    DateTime::from_timestamp_micros((seconds * 1e6) as i64).unwrap()
}

#[test]
fn a_certified_dispatch_begins_the_switch_which_takes_so_long() {
    if !can_run_machines() {
        return;
    }
    let site = Site::of(1).launch(&[System::new("v1"), System::new("v2"), System::new("v3")]);
    let machine = &site.machines[0];
    let mut took = Vec::new();
    for (name, system) in [("r1", "v1"), ("r2", "v2"), ("r3", "v3")] {
        let rollout = site.roll_out(name, system);
        site.wait_for_rollout(machine, &rollout, "Terminal");
        let units = format!("muster-switch-stable:{name}-*");
        let began = started(machine, &units);
        let feed = machine.control().events();
        let at = |wanted: &str| -> DateTime<Utc> {
            let newest = feed.iter().rev().find(|it| it["kind"] == "event" && it["name"] == wanted).unwrap();
            newest["at"].as_str().unwrap().parse().unwrap()
        };
        let (taken, owed) = (at("DispatchAck"), at("ActivationStarted"));
        took.push(format!(
            "{} ms ({} ms to the backend)",
            (began - taken).num_milliseconds(),
            (owed - taken).num_milliseconds()
        ));
    }
    note(&format!(
        "certified dispatch taken -> the switch's unit starts, through the helper: {}",
        took.join(", ")
    ));
}
