//! The NixOS module's own tests, run as one test of this binary.

use std::process::Command;

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
