//! Whom an agent calls: a program and a web server, told of the same, as often as it takes, also over a kill.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use muster_tests::{Agent, Fleet, Receiver, Release, has_program, note, wait_for};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// What was told, and the signature under it.
#[derive(Debug)]
struct Told {
    body: Vec<u8>,
    signature: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A program that writes down what it reads and the signature, one line each.
fn scribe(agent: &Agent) -> (PathBuf, PathBuf) {
    let (program, out) = (agent.folder.join("tell"), agent.folder.join("told"));
    let script =
        format!("#!/bin/sh\n{{ cat; echo; echo \"$MUSTER_HOOK_SIGNATURE\"; }} >> {}\n", out.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, out)
}

fn written(out: &Path) -> Vec<Told> {
    let text = fs::read_to_string(out).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let told = |pair: &[&str]| Told { body: pair[0].as_bytes().to_vec(), signature: pair[1].to_owned() };
    lines.chunks_exact(2).map(told).collect()
}

fn posted(receiver: &Receiver) -> Vec<Told> {
    let told = receiver.posted().into_iter().map(|posted| {
        assert_eq!(posted.header("content-type"), Some("application/json"));
        assert_eq!(posted.header("muster-event"), posted.json()["event"].as_str());
        let signature = posted.header("muster-signature").unwrap().to_owned();
        Told { body: posted.body, signature }
    });
    told.collect()
}

/// Waits until an event was told, and gives it.
fn wait_until_told(what: &str, event: &str, told: impl Fn() -> Vec<Told>) -> Told {
    wait_for(&format!("{what} is told {event}"), SOON, || {
        told().into_iter().find(|told| told.json()["event"] == event)
    })
}

/// Checks a signature as a receiver would, with OpenSSH alone.
fn check_signature(folder: &Path, agent: &Agent, told: &Told) {
    if !has_program("ssh-keygen") {
        return note("skipped: there is no ssh-keygen");
    }
    let armor = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", told.signature);
    fs::write(folder.join("event.sig"), armor).unwrap();
    let signers = format!("{} {}\n", agent.name, agent.key.public().to_openssh());
    fs::write(folder.join("allowed_signers"), signers).unwrap();
    let other = String::from_utf8_lossy(&told.body).replace("home", "away").into_bytes();
    for (body, valid) in [(&told.body, true), (&other, false)] {
        fs::write(folder.join("event.json"), body).unwrap();
        let stdin = fs::File::open(folder.join("event.json")).unwrap();
        let arguments =
            ["-Y", "verify", "-f", "allowed_signers", "-n", "muster-hook", "-s", "event.sig", "-I"];
        let mut command = Command::new("ssh-keygen");
        command.current_dir(folder).args(arguments).arg(&agent.name).stdin(stdin);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.success(), valid, "{told:?}");
    }
}

fn hook(agent: &Agent, name: &str) -> Value {
    let mut hooks = agent.look("/v1/status")["hooks"].take();
    let hooks = hooks.as_array_mut().into_iter().flatten();
    hooks.into_iter().find(|hook| hook["name"] == name).map(Value::take).unwrap_or_default()
}

#[test]
fn a_bad_release_and_a_lost_quorum_are_told_to_a_program_and_to_a_server() {
    let fleet = Fleet::of(3).build();
    let (program, out) = scribe(&fleet.agents[0]);
    let receiver = Receiver::new("127.0.0.1:0");
    fleet.agents[0].configure(&format!(
        "[[hook]]\nname = \"pager\"\nevents = [\"all\"]\ncommand = [\"{}\"]",
        program.display()
    ));
    fleet.agents[1].configure(&format!(
        "[[hook]]\nname = \"chat\"\nevents = [\"rollout-failed\", \"quarantined\", \"host-failed\"]\nurl = \"http://{}/in\"",
        receiver.address()
    ));
    fleet.install("v1", Release::SICK);
    fleet.launch();
    let rollout = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&rollout, "Reverted");

    for event in ["rollout-failed", "quarantined", "host-failed"] {
        let by_program = wait_until_told("the program", event, || written(&out));
        let by_post = wait_until_told("the server", event, || posted(&receiver));
        let (one, other) = (by_program.json(), by_post.json());
        assert_eq!((&one["sender"], &other["sender"]), (&json!("host-0"), &json!("host-1")));
        assert_eq!(
            (&one["schema"], &one["fleet"], &one["rollout"]),
            (&json!(1), &json!("home"), &json!(rollout))
        );
        let keys: Vec<&String> = one.as_object().unwrap().keys().collect();
        let expected =
            ["at", "closure", "event", "fleet", "host", "id", "reason", "rollout", "schema", "sender"];
        assert_eq!(keys, expected, "{one}");
        // Both hosts tell of the same thing under the same id, though of three failed hosts any may come first.
        let ids: Vec<Value> = written(&out).iter().map(|told| told.json()["id"].clone()).collect();
        assert!(ids.contains(&other["id"]), "{other} is not among {ids:?}");
        check_signature(fleet.folder(), &fleet.agents[0], &by_program);
        check_signature(fleet.folder(), &fleet.agents[1], &by_post);
    }
    let failed = wait_until_told("the program", "host-failed", || written(&out)).json();
    assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("failed for")), "{failed}");
    assert_eq!(failed["closure"], "dir:v1", "{failed}");
    wait_until_told("the program", "host-reverted", || written(&out));
    wait_until_told("the program", "rollout-reverted", || written(&out));
    assert!(posted(&receiver).iter().all(|told| told.json()["event"] != "host-reverted"));

    trying_shows_how_it_goes(&fleet.agents[0], &out);
    for agent in &fleet.agents[1..] {
        agent.kill();
    }
    let lost = wait_until_told("the program", "quorum-lost", || written(&out)).json();
    assert!(lost["reason"].as_str().is_some_and(|it| it.starts_with("1 of 3 coordinators")), "{lost}");
    for agent in &fleet.agents[1..] {
        agent.start();
    }
    wait_until_told("the program", "quorum-restored", || written(&out));
}

/// `muster hook`, and the figures.
fn trying_shows_how_it_goes(agent: &Agent, out: &Path) {
    let said = agent.muster(["hook", "test", "pager"]).run().ok();
    assert_eq!(said.trim_end(), "the hook was called, and it went well");
    assert!(written(out).iter().any(|told| told.json()["event"] == "test"));
    let missing = agent.muster(["hook", "test", "nobody"]).run().expect_code(1);
    assert!(missing.stderr.contains("it has pager"), "{missing:?}");
    let list = agent.muster(["hook", "list"]).run().ok();
    assert!(list.contains("pager") && list.contains("/tell"), "{list}");
    let metrics = String::from_utf8(agent.ask("/metrics").unwrap().body).unwrap();
    let delivered = "muster_hook_deliveries_total{hook=\"pager\",result=\"delivered\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(delivered)).unwrap();
    assert!(count.parse::<u64>().unwrap() >= 5, "{metrics}");
}

#[test]
fn what_could_not_be_told_is_told_after_a_kill_or_given_up_and_tried_again() {
    let fleet = Fleet::of(1).build();
    let agent = &fleet.agents[0];
    let address = agent.free_address();
    let hook_of = |name: &str, tries: u32| {
        format!(
            "[[hook]]\nname = \"{name}\"\nevents = [\"rollout-failed\"]\ntries = {tries}\nurl = \"http://{address}/{name}\""
        )
    };
    agent.configure(&format!("{}\n{}", hook_of("patient", 100), hook_of("hasty", 2)));
    fleet.install("v1", Release::SICK);
    fleet.launch();
    fleet.roll_out("r1", "v1");

    wait_for("the hasty hook gives up", SOON, || (hook(agent, "hasty")["given_up"] == 1).then_some(()));
    let hasty = hook(agent, "hasty");
    assert_eq!((&hasty["pending"], &hasty["failed"], &hasty["delivered"]), (&json!(0), &json!(2), &json!(0)));
    assert_eq!(hasty["dead"][0]["event"], "rollout-failed", "{hasty}");
    assert!(hasty["failed_last"].as_str().is_some_and(|it| it.contains("refused")), "{hasty}");
    let doctor = muster_tests::Muster::new(["doctor", "--config"]).arg(agent.config()).run();
    assert!(doctor.stdout.contains("hasty: 1 call given up"), "{doctor:?}");
    let status = agent.muster(["status"]).run().ok();
    assert!(status.contains("HOOK") && status.contains("hasty"), "{status}");

    wait_for("the patient hook waits", SOON, || (hook(agent, "patient")["pending"] == 1).then_some(()));
    agent.kill();
    let receiver = Receiver::new(&address);
    agent.start();
    fleet.wait_until_up(agent);
    let told = wait_until_told("the server", "rollout-failed", || posted(&receiver));
    wait_for("it is noted", SOON, || (hook(agent, "patient")["delivered"] == 1).then_some(()));
    assert_eq!(receiver.posted()[0].head[0], "POST /patient HTTP/1.1");

    // What was given up is still known, and the same call can be made up for.
    agent.muster(["hook", "retry", "hasty"]).run().ok();
    wait_for("the hasty hook is heard", SOON, || {
        receiver.posted().into_iter().find(|posted| posted.head[0] == "POST /hasty HTTP/1.1")
    });
    wait_for("nothing is given up any more", SOON, || {
        let hasty = hook(agent, "hasty");
        (hasty["delivered"] == 1 && hasty["dead"] == json!([])).then_some(())
    });
    assert!(posted(&receiver).iter().all(|it| it.json()["id"] == told.json()["id"]));
}
