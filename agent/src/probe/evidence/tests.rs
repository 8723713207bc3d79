//! Tests of evidence probes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use muster_signing::{SigningKey, armor, sign_document};
use serde_json::{Value, json};

use super::*;

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

/// A folder with evidence, and the probe that reads it.
struct Desk {
    folder: tempfile::TempDir,
    probe: Evidence,
    memory: Memory,
}

impl Desk {
    fn new(overrides: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let probe = json!({ "framework": "nis2", "evidencePath": folder.path().join("nis2.json"),
                            "controlOverrides": overrides });
        let probe = serde_json::from_value::<Evidence>(probe).unwrap().checked().unwrap();
        Self { folder, probe, memory: Memory::default() }
    }

    fn write(&self, text: &str, signer: &SigningKey, namespace: Namespace) {
        let path = self.folder.path().join("nis2.json");
        std::fs::write(&path, text).unwrap();
        let signature = armor(&sign_document(signer, namespace, text.as_bytes()));
        std::fs::write(signature_path(&path), signature).unwrap();
    }

    fn signed(&self, report: &Value) {
        self.write(&report.to_string(), &key(), Namespace::Evidence);
    }

    fn run(&mut self) -> (Result<(), String>, Option<Vec<SubResult>>) {
        self.probe.run(&key().public(), &mut self.memory)
    }

    #[track_caller]
    fn fails(&mut self, problem: &str) {
        let (result, results) = self.run();
        let reason = result.unwrap_err();
        assert!(reason.contains(problem), "{reason}");
        assert_eq!(results, None);
    }
}

fn report(statuses: &[(&str, &str)]) -> Value {
    let control = |(id, status): &(&str, &str)| json!({ "id": id, "status": status, "article": "21(2)" });
    json!({ "framework": "nis2", "controls": statuses.iter().map(control).collect::<Vec<_>>() })
}

#[test]
fn it_passes_when_every_enforced_control_passes_and_tells_of_each() {
    for (mode, passes) in [("observe", true), ("disabled", true), ("enforce", false)] {
        let mut desk = Desk::new(json!({ "backup": { "mode": mode, "reason": "not before May" } }));
        desk.signed(&report(&[("backup", "fail"), ("disk", "pass")]));
        let (result, results) = desk.run();
        let expected =
            if passes { Ok(()) } else { Err("1 enforced controls of nis2 fail: backup".to_owned()) };
        assert_eq!(result, expected, "{mode}");
        let results = results.unwrap();
        assert_eq!(results.len(), 2);
        assert_eq!(results[0].override_reason.as_deref(), Some("not before May"));
        assert_eq!((results[1].effective_mode, results[1].status), (ProbeMode::Enforce, ProbeStatus::Pass));
        assert_eq!((results[1].framework.as_str(), results[1].article.as_deref()), ("nis2", Some("21(2)")));
    }
}

#[test]
fn only_what_this_hosts_key_signed_as_evidence_counts() {
    let mut desk = Desk::new(json!({}));
    let good = report(&[("disk", "pass")]);
    desk.fails("No such file");
    desk.write(&good.to_string(), &SigningKey::from_seed([8; 32]), Namespace::Evidence);
    desk.fails("signed by another key than this host's");
    desk.write(&good.to_string(), &key(), Namespace::Command);
    desk.fails("namespace");
    desk.signed(&good);
    assert_eq!(desk.run().0, Ok(()));
    // Another text under the old signature, of another length so that it is read again.
    std::fs::write(desk.folder.path().join("nis2.json"), format!("{good} ")).unwrap();
    desk.fails("nis2.json: ");
    std::fs::write(desk.folder.path().join("nis2.json.sig"), "no signature").unwrap();
    desk.fails("nis2.json.sig: ");
}

#[test]
fn it_is_read_again_only_when_it_has_changed() {
    let mut desk = Desk::new(json!({}));
    desk.signed(&report(&[("disk", "fail")]));
    assert!(desk.run().0.is_err());
    let known = desk.memory.0.clone();
    assert!(desk.run().0.is_err());
    assert_eq!(desk.memory.0, known);
    desk.signed(&report(&[("disk", "pass"), ("net", "pass")]));
    assert_eq!(desk.run().0, Ok(()));
    std::fs::remove_file(desk.folder.path().join("nis2.json")).unwrap();
    desk.fails("No such file");
}

#[test]
fn evidence_that_cannot_be_understood_or_told_is_a_failure() {
    let long = "x".repeat(65);
    let many: Vec<(String, &str)> = (0..129).map(|n| (format!("c{n}"), "pass")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(id, status)| (id.as_str(), *status)).collect();
    for (text, problem) in [
        ("{".to_owned(), "EOF"),
        (json!({ "framework": "nis2" }).to_string(), "missing field `controls`"),
        (report(&[]).to_string(), "0 controls are not 1 to 128"),
        (report(&many).to_string(), "129 controls"),
        (report(&[("a", "pass"), ("a", "fail")]).to_string(), "the control a comes twice"),
        (report(&[(&long, "pass")]).to_string(), "`id`"),
        (report(&[("a", "unknown")]).to_string(), "unknown variant"),
        (
            report(&[("a", "pass")]).to_string().replace("nis2", "iso"),
            "it speaks of \"iso\", not of \"nis2\"",
        ),
        (report(&[("a", "pass")]).to_string().replace("article", "clause"), "unknown field `clause`"),
        (" ".repeat(1024 * 1024 + 1), "more than 1048576 bytes"),
    ] {
        let mut desk = Desk::new(json!({}));
        desk.write(&text, &key(), Namespace::Evidence);
        desk.fails(problem);
    }
    let mut desk = Desk::new(json!({ "backup": { "mode": "enforce", "reason": "the board wants it" } }));
    desk.signed(&report(&[("disk", "pass")]));
    desk.fails("it says nothing of the control backup");
}

#[test]
fn the_largest_report_fits_into_one_event() {
    let name = |n: usize| format!("{n:064}");
    let overrides: BTreeMap<String, Value> = (0..CONTROLS_MAX)
        .map(|n| (name(n), json!({ "mode": "observe", "reason": "r".repeat(128) })))
        .collect();
    let mut desk = Desk::new(json!(overrides));
    desk.probe.framework = "f".repeat(64);
    let controls: Vec<Value> = (0..CONTROLS_MAX)
        .map(|n| json!({ "id": name(n), "status": "fail", "article": "a".repeat(64) }))
        .collect();
    desk.signed(&json!({ "framework": "f".repeat(64), "controls": controls }));
    let results = desk.run().1.unwrap();
    let bytes = muster_core::wire::codec::encode(&results).len();
    assert!(bytes < muster_signing::PAYLOAD_BYTES_MAX - 2048, "{bytes}");
}
