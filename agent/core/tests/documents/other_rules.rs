//! Every rule of channel refs, commands and trust files, broken once.

use muster_core::document::{ChannelRefDocument, Command, Trust};
use serde_json::{Value, json};

use crate::kit::{
    ALICE, CI, CLEAR, PAUSE, STABLE, TRUST, assert_refusal, line, refused, unpublishable, with, with_fleet,
};

#[test]
fn refs_that_break_a_rule_are_refused() {
    let documents = with_fleet();
    let closure = json!("dir:v1");
    for (changes, code, fragment) in [
        (vec![("/target", json!({}))], "unknown_field", "target"),
        (vec![("/channel", json!("beta"))], "invalid", "channel beta is not declared"),
        (vec![("/targets/web-09", closure.clone())], "invalid", "target web-09 is not declared"),
        (vec![("/targets/edge-01", closure.clone())], "invalid", "edge-01 is on channel edge, not on stable"),
        (vec![("/targets", json!({})), ("/contents", Value::Null)], "invalid", "at least one target"),
        (vec![("/targets/web-01", json!("/nix/store/../etc"))], "invalid", "closure"),
        (vec![("/targets/web-01", Value::Null)], "invalid", "web-01, which has no target"),
        (vec![("/contents/web-01", json!("sha256-00"))], "invalid", "64 lowercase hex"),
        (vec![("/fleetSerial", json!(6))], "invalid", "names fleet serial 6, but"),
        (vec![("/fleet", json!("work"))], "wrong_fleet", "of fleet work"),
        (vec![("/ref", json!("a b"))], "invalid", "channel ref"),
        (vec![("/expiresAt", json!("2026-11-21T10:09:00Z"))], "expired", "expired at 2026-11-21 10:09:00"),
        (vec![("/signedAt", json!("2026-11-21T10:15:01Z"))], "not_yet", "5 minutes ahead"),
    ] {
        assert_refusal(&refused(&documents, &with(STABLE, &changes), &[CI]), code, fragment);
    }
    let twice = STABLE.replacen("\"targets\": {", "\"targets\": { \"web-01\": \"dir:v1\",", 1);
    assert_refusal(
        &ChannelRefDocument::parse(twice.as_bytes()).unwrap_err(),
        "invalid",
        "web-01 is given twice",
    );
}

#[test]
fn each_verb_applies_to_what_it_says() {
    let (channel, rollout, host) =
        (("/channel", json!("stable")), ("/rollout", json!("stable@v1")), ("/host", json!("web-01")));
    let closure = ("/closure", json!("dir:v1"));
    let wave = ("/wave", json!(0));
    let quarantines = ("/quarantines", json!([{"logIndex": 1, "ordinal": 0}]));
    let all = [&channel, &rollout, &host, &closure, &wave, &quarantines];
    let allowed: [(&str, &[&[usize]]); 7] = [
        ("pause", &[&[0], &[1], &[2]]),
        ("resume", &[&[0], &[1], &[2]]),
        ("cancel", &[&[1]]),
        ("promote", &[&[1, 4]]),
        ("clear", &[&[1], &[0, 3], &[0, 3, 5]]),
        ("skip", &[&[2], &[1, 2]]),
        ("readmit", &[&[2]]),
    ];
    for (verb, good) in allowed {
        for set in 0..1usize << all.len() {
            let given: Vec<usize> = (0..all.len()).filter(|at| set & (1 << at) != 0).collect();
            let mut changes = vec![("/verb", json!(verb)), ("/channel", Value::Null)];
            changes.extend(given.iter().map(|at| all[*at].clone()));
            let read = Command::parse(&with(PAUSE, &changes));
            assert_eq!(read.is_ok(), good.contains(&given.as_slice()), "{verb} with {given:?}: {read:?}");
            if let Err(refusal) = read {
                assert_refusal(&refusal, "invalid", "applies to");
            }
        }
    }
}

#[test]
fn commands_that_break_a_rule_are_refused() {
    let documents = with_fleet();
    for (golden, changes, code, fragment) in [
        (PAUSE, vec![("/channel", json!("beta"))], "invalid", "channel beta is not declared"),
        (PAUSE, vec![("/channel", Value::Null), ("/host", json!("web-09"))], "invalid", "host web-09"),
        (PAUSE, vec![("/channel", Value::Null), ("/rollout", json!("beta@v1"))], "invalid", "channel beta"),
        (PAUSE, vec![("/verb", json!("rollback"))], "invalid", "rollback"),
        (PAUSE, vec![("/reason", json!(" "))], "invalid", "1 to 1024"),
        (PAUSE, vec![("/reason", json!("x".repeat(1025)))], "invalid", "1 to 1024"),
        (PAUSE, vec![("/reason", Value::Null)], "invalid", "missing field `reason`"),
        (PAUSE, vec![("/channels", json!(["stable"]))], "unknown_field", "channels"),
        (PAUSE, vec![("/fleet", json!("work"))], "wrong_fleet", "of fleet work"),
        (CLEAR, vec![("/quarantines/0/index", json!(1))], "unknown_field", "index"),
    ] {
        assert_refusal(&unpublishable(&documents, &with(golden, &changes), &[ALICE]), code, fragment);
    }
    let many: Vec<Value> = (0..1025).map(|at| json!({"logIndex": at, "ordinal": 0})).collect();
    let refusal = unpublishable(&documents, &with(CLEAR, &[("/quarantines", many.into())]), &[ALICE]);
    assert_refusal(&refusal, "invalid", "at most 1024 quarantines");
}

#[test]
fn trust_files_that_break_a_rule_are_refused() {
    for (changes, fragment) in [
        (vec![("/threshold", json!(0))], "the threshold is 0, it has to be 1 to 2"),
        (vec![("/threshold", json!(3))], "the threshold is 3"),
        (vec![("/operators/carol", json!(line(ALICE)))], "alice and carol have one key"),
        (vec![("/operator", json!({}))], "operator"),
        (vec![("/fleet", json!(""))], "fleet name"),
    ] {
        let message = Trust::parse(&with(TRUST, &changes)).unwrap_err().to_string();
        assert!(message.contains(fragment), "{message}");
    }
}
