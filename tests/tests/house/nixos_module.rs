//! The NixOS module's own tests, run as one test of this binary.

use std::io::Write as _;
use std::process::{Command, Stdio};

use muster_tests::muster_binary;
use serde_json::Value;

use super::top;

#[test]
fn the_nixos_module_passes_its_own_tests() {
    let script = top().join("nixos-module/tests/run.sh");
    let output = Command::new(&script).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let skipped: Vec<_> = said.lines().filter(|line| line.starts_with("skipped ")).collect();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    if std::env::var("MUSTER_TEST_REQUIRE").is_ok_and(|value| value == "all") {
        assert!(skipped.is_empty(), "with MUSTER_TEST_REQUIRE=all nothing may be skipped:\n{said}");
    }
    for line in skipped {
        // Straight to the terminal: what a passing test prints is not shown, and a skip must not go unnoticed.
        muster_tests::note(line);
    }
}

#[test]
fn a_failing_case_fails_the_modules_tests() {
    let folder = tempfile::tempdir().unwrap();
    let script = std::fs::read_to_string(top().join("nixos-module/tests/run.sh")).unwrap();
    let copy = folder.path().join("run.sh");
    std::fs::write(&copy, script).unwrap();
    // Without its cases beside it and with every tool required, the script has nothing that could pass.
    let output = Command::new("bash").arg(&copy).env("MUSTER_TEST_REQUIRE", "all").output().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What Nix makes of an attribute of a file below the module's folder; none where Nix is not installed.
fn evaluated(file: &str, attribute: &str) -> Option<Value> {
    let mut nix = Command::new("nix-instantiate");
    nix.args(["--eval", "--strict", "--json", file, "-A", attribute]).current_dir(top().join("nixos-module"));
    match nix.output() {
        Ok(output) => {
            assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
            Some(serde_json::from_slice(&output.stdout).unwrap())
        }
        Err(error) => {
            let required = std::env::var("MUSTER_TEST_REQUIRE").is_ok_and(|value| value == "all");
            assert!(!required, "nix-instantiate: {error}");
            muster_tests::note(&format!("skipped {attribute} of {file}: nix-instantiate: {error}"));
            None
        }
    }
}

/// Whether `muster fleet check -` takes a document, and what it says.
fn checked(document: &Value) -> (bool, String) {
    let mut program = Command::new(muster_binary());
    program.args(["fleet", "check", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = program.spawn().unwrap();
    running.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_example_is_a_valid_fleet_without_warnings() {
    let Some(document) = evaluated("example", "document") else { return };
    let (taken, said) = checked(&document);
    assert!(taken, "{said}");
    assert!(!said.contains("warning:"), "{said}");
}

#[test]
fn the_program_refuses_whatever_mkfleet_refuses() {
    let Some(documents) = evaluated("tests", "refused") else { return };
    let documents = documents.as_object().unwrap();
    assert!(documents.len() > 20, "the cases are where this test looks for them");
    for (case, document) in documents {
        let (taken, said) = checked(document);
        assert!(!taken, "{case}: {said}");
    }
}

#[test]
fn the_program_knows_every_key_that_the_module_writes() {
    let Some(written) = evaluated("tests", "all.systems.full.toml") else { return };
    let folder = tempfile::tempdir().unwrap();
    let refused_for = |written: &Value| {
        let path = folder.path().join("muster.toml");
        std::fs::write(&path, toml::to_string(written).unwrap()).unwrap();
        // There is no key, so that the agent cannot start whatever it was told.
        let mut agent = Command::new(muster_binary());
        agent.arg("agent").arg("--config").arg(&path).env("MUSTER_IDENTITY", folder.path().join("none"));
        let output = agent.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused_for(&written);
    assert!(!said.contains("unknown field"), "{said}");
    let mut with_typo = written;
    with_typo["thresold"] = Value::from(1);
    let said = refused_for(&with_typo);
    assert!(said.contains("unknown field"), "{said}");
}
