//! `muster activate` as systemd starts it: a connection is its standard input.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use muster::activation::nixos::root::{Dispatch, Order};
use muster::helper::protocol::{Answer, CarryOut, Request};

fn activate(folder: &Path, stdin: Stdio) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.arg("activate").arg("--config").arg(folder.join("muster.toml")).stdin(stdin);
    command.env("STATE_DIRECTORY", folder.join("state")).stdout(Stdio::null()).stderr(Stdio::piped());
    // The end of this test's own group is not the agent's: whoever runs it has to be let in by name.
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    command.arg("--user").arg(user.name);
    command
}

/// What the helper answers to these bytes.
fn answer(folder: &Path, request: &[u8]) -> Answer {
    let (mut agent, helper) = UnixStream::pair().unwrap();
    let mut child = activate(folder, OwnedFd::from(helper).into()).spawn().unwrap();
    agent.write_all(request).unwrap();
    agent.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    agent.read_to_end(&mut answer).unwrap();
    assert!(child.wait().unwrap().success());
    Answer::decode(&answer).unwrap()
}

#[test]
fn a_connection_is_answered_and_nothing_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let closure = "/nix/store/00000000000000000000000000000000-nixos-system-web".parse().unwrap();
    let dispatch = Dispatch { rollout: "stable@v1".parse().unwrap(), log_index: 1 };
    let order = Order::Switch { dispatch, to: closure, timeout_secs: 5 };
    let bare = Request::CarryOut(CarryOut { order, papers: None }).encode();
    let refused = |request: &[u8]| match answer(&root, request) {
        Answer::Refused { rule, reason } => (rule, reason),
        other @ (Answer::Done(_) | Answer::Failed(_)) => panic!("{other:?}"),
    };
    assert_eq!(refused(b"switch, please").0, "malformed");
    // Without a configuration of root's nobody knows which host this is.
    let (rule, reason) = refused(&bare);
    assert_eq!((rule.as_str(), reason.contains("muster.toml")), ("file", true), "{reason}");
    let trust = root.join("trust.json");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    std::fs::write(&trust, format!(r#"{{"fleet":"home","operators":{{"a":"{key}"}},"threshold":1}}"#))
        .unwrap();
    std::fs::write(
        root.join("muster.toml"),
        format!("fleet = \"home\"\nhost = \"web\"\ntrust = {trust:?}\n"),
    )
    .unwrap();
    assert_eq!(refused(&bare).0, "no-papers");
}

#[test]
fn without_a_connection_it_says_who_starts_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = activate(folder.path(), Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("systemd starts this command"), "{said}");
}
