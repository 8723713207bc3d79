//! What `muster doctor` finds: nothing on a host in order, and every fault that is planted.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use muster_tests::{Agent, Fleet, Muster, wait_for};
use serde_json::Value;

/// The findings of one verdict, as `check: what`.
fn found(report: &Value, verdict: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let of = checks.filter(|finding| finding["verdict"] == verdict);
    of.map(|finding| format!("{}: {}", text(finding, "check"), text(finding, "what"))).collect()
}

fn doctor(agent: &Agent) -> (i32, Value) {
    let ran = Muster::new(["doctor", "--json", "--config"]).arg(agent.config()).run();
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    for finding in report["checks"].as_array().unwrap() {
        let mended = finding["mend"].as_str().is_some_and(|mend| !mend.is_empty());
        assert!(mended || finding["verdict"] == "ok", "nobody knows how to mend this: {finding}");
    }
    assert_eq!((&report["schema"], report["ok"] == true), (&1.into(), ran.code == 0), "{report}");
    (ran.code, report)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// What a fault keeps hold of while it is looked for.
type Held = Option<UdpSocket>;
/// A fault, the check that must find it, and what the finding must speak of.
type Fault = (&'static str, &'static str, fn(&Agent, &Path) -> Held);

const FAULTS: [Fault; 14] = [
    ("config", "retention_day", |agent, _| {
        edit(&agent.config(), "fleet = ", "retention_day = 3\nfleet = ");
        None
    }),
    ("config", "mode 0666", |agent, _| {
        chmod(&agent.config(), 0o666);
        None
    }),
    ("config", "mdns", |agent, _| {
        edit(&agent.config(), "fleet = ", "mdns = true\nfleet = ");
        None
    }),
    ("key", "mode 0644", |agent, _| {
        chmod(&agent.folder.join("key"), 0o644);
        None
    }),
    ("key", "not an OpenSSH", |agent, _| {
        fs::write(agent.folder.join("key"), "not a key\n").unwrap();
        None
    }),
    ("trust", "No such file", |_, top| {
        fs::remove_file(top.join("trust.json")).unwrap();
        None
    }),
    ("trust", "pins the fleet away", |_, top| {
        edit(&top.join("trust.json"), "\"home\"", "\"away\"");
        None
    }),
    ("trust", "mode 0664", |_, top| {
        chmod(&top.join("trust.json"), 0o664);
        None
    }),
    ("ports", "another process has UDP port", |agent, _| {
        Some(UdpSocket::bind(("127.0.0.1", agent.port)).unwrap())
    }),
    ("state", "is no folder", |agent, _| {
        fs::write(agent.folder.join("state"), "in the way").unwrap();
        None
    }),
    ("store", "corrupt", |agent, _| {
        fs::create_dir(agent.folder.join("state")).unwrap();
        fs::write(agent.store(), [7; 8192]).unwrap();
        None
    }),
    ("backend", "no release can lie there", |agent, _| {
        fs::remove_dir_all(agent.root()).unwrap();
        None
    }),
    ("backend", "probe", |agent, _| {
        fs::write(agent.root().join("releases/v0/health-checks.json"), r#"{"x": {"kind": "guess"}}"#)
            .unwrap();
        None
    }),
    ("backend", "activation.root", |agent, _| {
        edit(&agent.config(), "root = ", "# root = ");
        None
    }),
];

#[test]
fn each_planted_fault_is_found_and_comes_with_its_mending() {
    for (check, words, plant) in FAULTS {
        let fleet = Fleet::of(1).build();
        let agent = &fleet.agents[0];
        let (code, before) = doctor(agent);
        assert_eq!((code, found(&before, "wrong")), (0, Vec::new()), "{before}");
        let held = plant(agent, fleet.folder());
        let (code, report) = doctor(agent);
        let wrong = found(&report, "wrong");
        let seen = wrong.iter().any(|what| what.starts_with(&format!("{check}: ")) && what.contains(words));
        assert!(seen && code == 1, "{check} says nothing of {words:?}: {report}");
        drop(held);
    }
}

#[test]
fn a_fleet_in_order_has_no_faults_and_one_that_lost_its_quorum_says_so() {
    let fleet = Fleet::of(2).build();
    fleet.launch();
    let agent = &fleet.agents[0];
    let in_order = wait_for("nothing is wrong", Duration::from_secs(30), || {
        let (code, report) = doctor(agent);
        (code == 0 && found(&report, "ok").iter().any(|what| what.starts_with("clock: "))).then_some(report)
    });
    for what in ["agent: answers as host-0", "quorum: 2 of 2", "peers: 1 of 1", "fleet: fleet document 1"] {
        assert!(found(&in_order, "ok").iter().any(|found| found.starts_with(what)), "{what}: {in_order}");
    }
    let text = Muster::new(["doctor", "--config"]).arg(agent.config()).run().ok();
    assert!(text.contains("ok       quorum"), "{text}");

    fleet.agents[1].stop();
    wait_for("the lost quorum is found", Duration::from_secs(60), || {
        let (code, report) = doctor(agent);
        let wrong = found(&report, "wrong");
        let says = |what: &str| wrong.iter().any(|found| found.starts_with(what));
        (code == 1 && says("quorum: 1 of 2") && says("peers: 0 of 1")).then_some(())
    });
    agent.stop();
    let (_, stopped) = doctor(agent);
    assert!(found(&stopped, "ok").iter().any(|what| what.contains("opens, format 1")), "{stopped}");
    edit(&agent.config(), "host = \"host-0\"", "host = \"host-9\"");
    let (code, report) = doctor(agent);
    assert_eq!(code, 1, "{report}");
    assert!(found(&report, "wrong")[0].contains("host-0"), "another host's store: {report}");
}
