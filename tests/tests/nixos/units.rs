//! The agent's own unit: what reaches it through systemd, and how soon it acts.

use std::os::unix::fs::MetadataExt as _;

use chrono::{DateTime, Utc};
use muster_tests::machine::{Machine, Site, System, can_run_machines};
use muster_tests::note;
use serde_json::{Value, json};

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

/// When systemd began to start the first unit of these names, by the machine's journal.
fn started(machine: &Machine, units: &str, since: DateTime<Utc>) -> DateTime<Utc> {
    let since = format!("--since=@{}", since.timestamp());
    let words = ["journalctl", "--quiet", "--no-pager", "--output=short-unix", &since, "--unit", units];
    let lines = machine.run(words).ok();
    let seconds: f64 = lines.split_whitespace().next().unwrap().parse().unwrap();
    DateTime::from_timestamp_micros((seconds * 1e6).round() as i64).unwrap()
}

#[test]
fn a_certified_dispatch_begins_the_switch_which_takes_so_long() {
    if !can_run_machines() {
        return;
    }
    let systems = ["v1", "v2", "v3", "v4", "v5"];
    let site = Site::of(1).launch(&systems.map(System::new));
    let machine = &site.machines[0];
    let mut took = Vec::new();
    for system in systems {
        let rollout = site.roll_out(&format!("to-{system}"), system);
        site.wait_for_rollout(machine, &rollout, "Terminal");
        let feed = machine.control().events();
        let is_it = |event: &&Value| event["kind"] == "event" && event["name"] == "DispatchAck";
        let taken = feed.iter().rev().find(is_it).and_then(|event| event["at"].as_str());
        let taken: DateTime<Utc> = taken.unwrap().parse().unwrap();
        let helper = started(machine, "muster-activate@*", taken);
        let switch = started(machine, &format!("muster-switch-stable:to-{system}-*"), taken);
        let millis = |moment: DateTime<Utc>| (moment - taken).num_milliseconds();
        took.push((millis(switch), millis(helper)));
    }
    took.sort_unstable();
    let (switch, helper) = took[took.len() / 2];
    note(&format!(
        "a certified dispatch taken -> its switch's unit starts: median {switch} ms, of which {helper} ms until the helper \
         is called; all: {took:?}"
    ));
}
