//! Keys and documents through the command line, and to and from OpenSSH's own tools.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

/// A folder of an operator's, and a fleet of two hosts in it.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["alice", "bob", "mallory", "web-01", "db-01"] {
            desk.ok(&["keygen", name, "--comment", &format!("{name}@home")]);
        }
        desk.write("fleet.json", &desk.fleet(1, &["alice", "bob"]));
        desk.write("targets.json", &json!({ "web-01": "dir:v1", "db-01": "dir:v1" }));
        let operators = json!({ "alice": desk.public("alice"), "bob": desk.public("bob") });
        desk.write("trust.json", &json!({ "fleet": "home", "operators": operators, "threshold": 2 }));
        desk
    }

    fn fleet(&self, serial: u64, operators: &[&str]) -> Value {
        let host = |name: &str| json!({ "key": self.public(name), "channel": "stable", "tags": [name] });
        let operators: serde_json::Map<_, _> =
            operators.iter().map(|name| ((*name).to_owned(), json!(self.public(name)))).collect();
        json!({
            "kind": "muster/fleet/1", "fleet": "home", "serial": serial, "signedAt": "2026-01-01T10:00:00Z",
            "thresholds": { "fleet": operators.len(), "channelRef": 1, "command": 1 },
            "operators": operators,
            "hosts": { "web-01": host("web-01"), "db-01": host("db-01") },
            "channels": { "stable": { "rolloutPolicy": "careful", "freshnessWindowMinutes": 60 } },
            "rolloutPolicies": { "careful": { "waves": [
                { "selector": { "tags": ["web-01"] }, "soakMinutes": 1 },
                { "selector": { "all": true }, "soakMinutes": 0 } ] } }
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, value: &Value) {
        fs::write(self.path(name), value.to_string()).unwrap();
    }

    fn public(&self, name: &str) -> String {
        let line = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    fn command(&self, program: impl AsRef<Path>, args: &[&str]) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("MUSTER_SOCKET")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_muster"), args).output().unwrap()
    }

    /// What a command that succeeds writes to stdout.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What a command that ends with this code says.
    fn fails(&self, code: i32, args: &[&str], problem: &str) {
        let output = self.run(args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(problem), "{args:?}: {said}");
    }

    fn sign_ref(&self, key: &str, more: &[&str]) -> Output {
        let mut args = vec![
            "sign",
            "channel-ref",
            "--channel",
            "stable",
            "--ref",
            "a1b2",
            "--targets",
            "targets.json",
            "--fleet",
            "fleet.json",
            "--key",
            key,
        ];
        args.extend(more);
        self.run(&args)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_key_is_made_once_and_tells_who_the_host_is() {
    let desk = Desk::new();
    assert_eq!(fs::metadata(desk.path("web-01")).unwrap().permissions().mode() & 0o777, 0o600);
    desk.fails(1, &["keygen", "web-01"], "never overwritten");
    let listed = desk.command("ssh-keygen", &["-y", "-f", "web-01"]).output().unwrap();
    assert!(text(&listed.stdout).starts_with(&desk.public("web-01")), "{}", text(&listed.stderr));

    let line = desk.ok(&["id", "--identity", "web-01", "--host", "web-01"]);
    let parsed: Value = serde_json::from_str(&format!("{{{line}}}")).unwrap();
    assert_eq!(parsed, json!({ "web-01": { "key": desk.public("web-01"), "channel": "stable" } }));
    let id: Value =
        serde_json::from_str(&desk.ok(&["id", "--identity", "web-01.pub", "--host", "web-01", "--json"]))
            .unwrap();
    assert_eq!((&id["schema"], &id["host"]), (&json!(1), &json!("web-01")));
    assert_eq!(id["key"], json!(desk.public("web-01")));
    assert!(id["peer_id"].as_str().unwrap().starts_with("12D3Koo"));
    desk.fails(1, &["id", "--identity", "nothing", "--host", "web-01"], "nothing: No such file");
}

#[test]
fn a_fleet_document_is_checked_and_shown() {
    let desk = Desk::new();
    let shown = desk.ok(&["fleet", "check", "fleet.json"]);
    for word in ["fleet home", "serial 1", "channel stable", "web-01", "valid"] {
        assert!(shown.contains(word), "{shown}");
    }
    let shown: Value = serde_json::from_str(&desk.ok(&["fleet", "check", "fleet.json", "--json"])).unwrap();
    assert_eq!(shown["channels"][0]["waves"][1]["hosts"], json!(["db-01"]));
    assert_eq!(shown["schema"], json!(1));
    desk.write("next.json", &desk.fleet(2, &["alice"]));
    desk.ok(&["fleet", "check", "next.json", "--replaces", "fleet.json"]);
    desk.fails(
        1,
        &["fleet", "check", "fleet.json", "--replaces", "next.json"],
        "serial 1 is not greater than 2",
    );
    let mut fleet = desk.fleet(1, &["alice"]);
    fleet["maxInFlihgt"] = json!(1);
    desk.write("typo.json", &fleet);
    for (file, code, said) in [("fleet.json", 0, ""), ("typo.json", 1, "stdin: ")] {
        let mut piped = desk.command(env!("CARGO_BIN_EXE_muster"), &["fleet", "check", "-"]);
        let output = piped.stdin(fs::File::open(desk.path(file)).unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
    desk.fails(1, &["fleet", "check", "typo.json"], "maxInFlihgt");
    desk.fails(1, &["fleet", "check", "targets.json"], "targets.json");
    desk.fails(2, &["fleet", "check"], "Usage");
}

#[test]
fn operators_sign_a_fleet_document_until_the_threshold_holds() {
    let desk = Desk::new();
    let verify = ["verify", "fleet.json", "--trust", "trust.json"];
    desk.fails(1, &verify, "0 of the pinned operators signed it, 2 have to");
    desk.fails(1, &["sign", "fleet", "fleet.json", "--key", "bob", "--add"], "none to add one to");
    let written = desk.ok(&["sign", "fleet", "fleet.json", "--key", "alice"]);
    assert_eq!(written, "fleet.json.alice.sig\n");
    desk.fails(1, &verify, "1 of the pinned operators signed it, 2 have to");
    let added = desk.ok(&["sign", "fleet", "fleet.json", "--key", "bob", "--add"]);
    assert_eq!(added, "fleet.json.bob.sig\n");
    assert!(desk.ok(&verify).contains("valid"));
    assert!(
        desk.ok(&["verify", "fleet.json", "--trust", "fleet.json"]).contains("good fleet.json.bob.sig: bob")
    );
    desk.fails(1, &["verify", "fleet.json", "--trust", "trust.json", "--kind", "command"], "not a command");
    let absent = ["verify", "fleet.json", "--socket", "absent.sock"];
    desk.fails(3, &absent, "no agent answers at absent.sock");
    desk.fails(3, &absent, "--trust takes a trust.json");

    let strange = desk.ok(&["sign", "fleet", "fleet.json", "--key", "mallory"]);
    assert!(strange.starts_with("fleet.json.key-"), "{strange}");
    assert!(desk.ok(&verify).contains("nobody's who counts"));
    fs::copy(desk.path("fleet.json.bob.sig"), desk.path("other.json.bob.sig")).unwrap();
    desk.write("other.json", &desk.fleet(2, &["alice", "bob"]));
    desk.fails(1, &["verify", "other.json", "--trust", "trust.json"], "bad  other.json.bob.sig");
    let report = desk.run(&["verify", "other.json", "--trust", "trust.json", "--json"]);
    assert_eq!(report.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!((&report["schema"], &report["valid"]), (&json!(1), &json!(false)));
    assert_eq!(report["thresholds"][0]["signed"], json!(0));
    assert!(report["signatures"][0]["problem"].is_string());
}

#[test]
fn a_replaced_operator_signs_the_document_that_replaces_him() {
    let desk = Desk::new();
    desk.write("next.json", &desk.fleet(2, &["mallory"]));
    let written = desk.ok(&["sign", "fleet", "next.json", "--key", "alice", "--fleet", "fleet.json"]);
    assert_eq!(written, "next.json.alice.sig\n");
    desk.ok(&["sign", "fleet", "next.json", "--key", "bob", "--operator", "bob"]);
    let problem = "0 of the operators that it names signed it, 1 have to";
    desk.fails(1, &["verify", "next.json", "--trust", "fleet.json"], problem);
    desk.ok(&["sign", "fleet", "next.json", "--key", "mallory"]);
    desk.ok(&["verify", "next.json", "--trust", "fleet.json"]);
}

#[test]
fn a_channel_ref_is_made_against_its_fleet_document_and_signed() {
    let desk = Desk::new();
    let output = desk.sign_ref("alice", &["--serial", "7", "--expires", "2h"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "stable.json.alice.sig\n");
    let document: Value = serde_json::from_slice(&fs::read(desk.path("stable.json")).unwrap()).unwrap();
    assert_eq!(document["targets"], json!({ "web-01": "dir:v1", "db-01": "dir:v1" }));
    assert_eq!((&document["serial"], &document["fleetSerial"]), (&json!(7), &json!(1)));
    let verify = ["verify", "stable.json", "--trust", "fleet.json", "--kind", "channel-ref"];
    assert!(desk.ok(&verify).contains("channel ref stable@a1b2, serial 7"));

    let added = desk.run(&[
        "sign",
        "channel-ref",
        "--channel",
        "stable",
        "--fleet",
        "fleet.json",
        "--key",
        "bob",
        "--add",
    ]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert!(desk.ok(&verify).contains("2 of the trusted fleet document's operators signed it"));

    let output = desk.sign_ref("alice", &["--serial", "8"]);
    assert!(
        text(&output.stderr).contains("stable.json.bob.sig is not a signature of what the document says now")
    );
    desk.ok(&verify);

    desk.write("next.json", &desk.fleet(2, &["alice"]));
    desk.fails(1, &["verify", "stable.json", "--trust", "next.json"], "names the fleet document");
}

#[test]
fn what_would_be_refused_later_is_not_signed() {
    let desk = Desk::new();
    let check = |output: Output, code: i32, problem: &str| {
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(problem), "{}", text(&output.stderr));
        assert!(!desk.path("stable.json").exists());
    };
    let absent = ["--socket", "absent.sock"];
    check(desk.sign_ref("alice", &absent), 2, "--serial is needed to make a channel ref: no agent answers");
    check(desk.sign_ref("alice", &absent), 2, "give --serial, one more than");
    check(desk.sign_ref("mallory", &["--serial", "1"]), 1, "no operator of the fleet has the key");
    check(desk.sign_ref("alice", &["--serial", "1", "--expires", "soon"]), 2, "is no time");
    check(desk.sign_ref("alice", &["--serial", "1", "--operator", "bob"]), 1, "bob's key is not");
    let unknown = desk.sign_ref("mallory", &["--serial", "1", "--operator", "mallory"]);
    check(unknown, 1, "the fleet has no operator mallory");
    desk.write("targets.json", &json!({ "web-02": "dir:v1" }));
    check(desk.sign_ref("alice", &["--serial", "1"]), 1, "web-02");
    desk.write("targets.json", &json!({ "web-01": "v1" }));
    check(desk.sign_ref("alice", &["--serial", "1"]), 1, "is not a closure");
    fs::set_permissions(desk.path("alice"), fs::Permissions::from_mode(0o644)).unwrap();
    check(desk.sign_ref("alice", &["--serial", "1"]), 1, "chmod 600");
    desk.fails(
        1,
        &["sign", "command", "fleet.json", "--key", "bob"],
        "it is a fleet document, not a command",
    );
}

#[test]
fn a_stale_or_expired_document_is_not_valid() {
    let desk = Desk::new();
    let command = |signed_at: &str, expires_at: Value| {
        let mut command = json!({
            "kind": "muster/command/1", "fleet": "home", "serial": 1, "signedAt": signed_at, "verb": "pause",
            "channel": "stable", "reason": "a fire"
        });
        if !expires_at.is_null() {
            command["expiresAt"] = expires_at;
        }
        desk.write("pause.json", &command);
        desk.ok(&["sign", "command", "pause.json", "--key", "bob", "--fleet", "fleet.json"]);
    };
    let verify = ["verify", "pause.json", "--trust", "fleet.json"];
    command("2026-01-01T10:00:00Z", Value::Null);
    desk.ok(&verify);
    command("2026-01-01T10:00:00Z", json!("2026-01-02T10:00:00Z"));
    desk.fails(1, &verify, "it expired at 2026-01-02T10:00:00Z");
    command("2226-01-01T10:00:00Z", Value::Null);
    desk.fails(1, &verify, "is yet to come");

    assert!(desk.sign_ref("alice", &["--serial", "1"]).status.success());
    let text = fs::read_to_string(desk.path("stable.json")).unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    document["signedAt"] = json!("2026-01-01T10:00:00Z");
    desk.write("stable.json", &document);
    let add = ["-Y", "sign", "-n", "muster-channel-ref", "-f", "alice", "stable.json"];
    assert!(desk.command("ssh-keygen", &add).output().unwrap().status.success());
    desk.fails(1, &["verify", "stable.json", "--trust", "fleet.json"], "sign it anew");
}

#[test]
fn a_ref_is_played_before_it_is_signed_or_published() {
    let desk = Desk::new();
    assert!(desk.sign_ref("alice", &["--serial", "1"]).status.success());
    let play = |more: &[&'static str]| [&["simulate", "stable.json", "--fleet", "fleet.json"], more].concat();
    let played = desk.ok(&play(&[]));
    for words in [
        "stable@a1b2 on fleet home",
        "wave 1 of 2: 1 host, each soaks 60 s",
        "0:00:00  web-01 is told to switch",
        "0:00:30  web-01 is on dir:v1, the soak begins",
        "0:01:30  web-01 has converged",
        "0:01:30  db-01 is told to switch",
        "\u{2713} Terminal after 0:02:00: 2 of 2 hosts converged",
    ] {
        assert!(played.contains(words), "{words}:\n{played}");
    }
    let slow = desk.ok(&play(&["--activation-seconds", "300"]));
    assert!(slow.contains("Terminal after 0:11:00"), "{slow}");
    let failed = play(&["--fail", "web-01"]);
    desk.fails(4, &failed, "web-01 failed: its health check failed");
    desk.fails(4, &failed, "Reverted after");
    desk.fails(4, &failed, "quarantine: the closure is quarantined on stable: it failed on web-01");
    desk.fails(2, &play(&["--fail", "nosuch"]), "no host nosuch: it has db-01, web-01");
    desk.fails(5, &play(&["--offline", "db-01"]), "1 of 2 coordinators are up, 2 have to agree; down: db-01");
    desk.fails(5, &play(&["--lose-coordinator"]), "nothing moves any more");
    desk.fails(1, &play(&["--at", "2030-01-01T00:00:00Z"]), "sign it anew");
    desk.fails(2, &play(&["--at", "tomorrow"]), "a time is written");
    desk.fails(
        1,
        &["simulate", "fleet.json", "--fleet", "fleet.json"],
        "it is a fleet document, not a channel ref",
    );
    desk.fails(
        3,
        &["simulate", "stable.json", "--socket", "absent.sock"],
        "--fleet FILE names the fleet document",
    );

    let output = desk.run(&play(&["--fail", "web-01", "--json"]));
    assert_eq!(output.status.code(), Some(4));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["schema"], &told["end"], &told["rollout"]),
        (&json!(1), &json!("reverted"), &json!("stable@a1b2"))
    );
    assert_eq!(told["hosts"][0]["state"], json!("Reverted"));
    assert_eq!(told["hosts"][1]["held_by"]["gate"], json!("quarantine"));
    assert_eq!(told["happenings"][0]["what"], json!("published"));

    fs::remove_file(desk.path("stable.json.alice.sig")).unwrap();
    let unsigned = desk.run(&play(&[]));
    assert!(unsigned.status.success());
    assert!(text(&unsigned.stderr).contains("0 of 1 operators signed stable.json so far"));
    desk.write("fleet.json", &desk.fleet(2, &["alice"]));
    desk.fails(1, &play(&[]), "stable.json: the ref names fleet document");
}

#[test]
fn openssh_verifies_what_muster_signs_and_muster_what_openssh_signs() {
    let desk = Desk::new();
    desk.ok(&["sign", "fleet", "fleet.json", "--key", "alice"]);
    fs::write(desk.path("signers"), format!("alice {}\n", desk.public("alice"))).unwrap();
    let check = |signature: &str| {
        let args = ["-Y", "verify", "-n", "muster-fleet", "-f", "signers", "-I", "alice", "-s", signature];
        let document = fs::File::open(desk.path("fleet.json")).unwrap();
        desk.command("ssh-keygen", &args).stdin(document).output().unwrap()
    };
    let said = check("fleet.json.alice.sig");
    assert!(said.status.success(), "{}{}", text(&said.stdout), text(&said.stderr));

    let sign = ["-Y", "sign", "-n", "muster-fleet", "-f", "bob", "fleet.json"];
    assert!(desk.command("ssh-keygen", &sign).output().unwrap().status.success());
    assert!(desk.path("fleet.json.sig").exists());
    assert!(desk.ok(&["verify", "fleet.json", "--trust", "trust.json"]).contains("good fleet.json.sig: bob"));
}

/// A running ssh-agent, ended with the test.
struct SshAgent(Child);

impl SshAgent {
    fn start(socket: &Path) -> Self {
        let mut agent =
            Command::new("ssh-agent").args(["-D", "-a"]).arg(socket).stdout(Stdio::piped()).spawn().unwrap();
        // It says where it listens once it does.
        let mut said = String::new();
        BufReader::new(agent.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains("SSH_AUTH_SOCK"), "{said}");
        Self(agent)
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_ssh_agent_signs_with_a_key_whose_file_is_not_there() {
    let desk = Desk::new();
    let sign = ["sign", "fleet", "fleet.json", "--key", "alice.pub"];
    desk.fails(1, &sign, "SSH_AUTH_SOCK is not set");
    let _agent = SshAgent::start(&desk.path("agent"));
    let with_agent = |program: &str, args: &[&str]| {
        desk.command(program, args).env("SSH_AUTH_SOCK", desk.path("agent")).output().unwrap()
    };
    let refused = with_agent(env!("CARGO_BIN_EXE_muster"), &sign);
    assert!(text(&refused.stderr).contains("does not hold"), "{}", text(&refused.stderr));
    let rsa = ["-q", "-t", "rsa", "-N", "", "-f", "rsa"];
    assert!(desk.command("ssh-keygen", &rsa).status().unwrap().success());
    for key in ["rsa", "bob", "alice"] {
        assert!(with_agent("ssh-add", &["-q", key]).status.success());
        fs::remove_file(desk.path(key)).unwrap();
    }
    for key in ["alice", "bob"] {
        let args = ["sign", "fleet", "fleet.json", "--key", &format!("{key}.pub")];
        let signed = with_agent(env!("CARGO_BIN_EXE_muster"), &args);
        assert_eq!(text(&signed.stdout), format!("fleet.json.{key}.sig\n"), "{}", text(&signed.stderr));
    }
    desk.ok(&["verify", "fleet.json", "--trust", "trust.json"]);
}

#[test]
fn a_key_with_a_passphrase_is_left_to_the_ssh_agent() {
    let desk = Desk::new();
    let protect = ["-q", "-p", "-N", "secret", "-P", "", "-f", "alice"];
    assert!(desk.command("ssh-keygen", &protect).output().unwrap().status.success());
    desk.fails(1, &["sign", "fleet", "fleet.json", "--key", "alice"], "ssh-add alice");
}
