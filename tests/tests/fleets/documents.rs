//! Documents that must not be accepted, each refused for its own reason.

use chrono::{SecondsFormat, TimeDelta, Utc};
use muster_signing::Namespace;
use muster_tests::{Fleet, Operator, Release};
use serde_json::{Value, json};

fn from_now(minutes: i64) -> Value {
    json!((Utc::now() + TimeDelta::minutes(minutes)).to_rfc3339_opts(SecondsFormat::Secs, true))
}

fn with(mut document: Value, key: &str, value: Value) -> Vec<u8> {
    document[key] = value;
    document.to_string().into_bytes()
}

/// One document with its signatures, and the code that it is refused with.
struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    signatures: Vec<String>,
    code: &'static str,
}

/// Everything that is wrong with a ref for itself, whatever was accepted before.
fn bad_refs(fleet: &Fleet, good: &Value) -> Vec<Case> {
    let alice = &fleet.operators[0];
    let mallory = Operator::new(fleet.folder(), "mallory");
    let text = good.to_string().into_bytes();
    let sign = |operator: &Operator, bytes: &[u8]| vec![operator.sign(Namespace::ChannelRef, bytes)];
    let signed = |what, bytes: Vec<u8>, code| Case { what, signatures: sign(alice, &bytes), bytes, code };
    let flipped = {
        let mut bytes = text.clone();
        let at = bytes.windows(3).position(|window| window == b"v1\"").unwrap() + 1;
        bytes[at] = b'2';
        bytes
    };
    let nobodys = json!(muster_signing::sha256(b"never signed").to_string());
    let mut unlucky = sign(alice, &text);
    unlucky[0] = unlucky[0].replacen("U1NIU0lH", "U1NIU0lI", 1);
    vec![
        Case { what: "no signature", bytes: text.clone(), signatures: vec![], code: "unsigned" },
        Case {
            what: "signed by a stranger",
            bytes: text.clone(),
            signatures: sign(&mallory, &text),
            code: "threshold",
        },
        Case {
            what: "signed for another use",
            bytes: text.clone(),
            signatures: vec![alice.sign(Namespace::Fleet, &text)],
            code: "bad_signature",
        },
        Case {
            what: "a byte flipped after signing",
            bytes: flipped,
            signatures: sign(alice, &text),
            code: "bad_signature",
        },
        Case {
            what: "a byte flipped in the signature",
            bytes: text.clone(),
            signatures: unlucky,
            code: "bad_signature",
        },
        signed("not JSON", b"{\"kind\":".to_vec(), "not_json"),
        signed("an unknown field", with(good.clone(), "maxInFlihgt", json!(1)), "unknown_field"),
        signed("another fleet", with(good.clone(), "fleet", json!("work")), "wrong_fleet"),
        signed("signed an hour ahead", with(good.clone(), "signedAt", from_now(60)), "not_yet"),
        signed("expired", with(good.clone(), "expiresAt", from_now(-1)), "expired"),
        signed("older than the freshness window", with(good.clone(), "signedAt", from_now(-61)), "stale"),
        signed(
            "a fleet document that nobody has",
            with(good.clone(), "fleetHash", nobodys),
            "unknown_fleet_document",
        ),
        signed(
            "a host that is not in the fleet",
            with(good.clone(), "targets", json!({ "host-9": "dir:v1" })),
            "invalid",
        ),
    ]
}

#[test]
fn refs_that_must_not_be_accepted_are_refused_each_with_its_code() {
    let fleet = Fleet::of(1).build();
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    let agent = &fleet.agents[0];
    for case in bad_refs(&fleet, &fleet.channel_ref("r1", "v1", 1)) {
        let answer = agent.post(&case.bytes, &case.signatures);
        let problem = answer.json();
        assert_eq!(problem["code"], case.code, "{}: {problem}", case.what);
        assert_eq!(answer.status, 422, "{}: {problem}", case.what);
        assert_eq!(answer.media_type, "application/problem+json", "{}", case.what);
        assert!(
            problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
            "{}: {problem}",
            case.what
        );

        // The same from the command line.
        let file = fleet.folder().join("bad.json");
        let signature = fleet.folder().join("bad.json.sig");
        std::fs::write(&file, &case.bytes).unwrap();
        match case.signatures.first() {
            Some(armored) => std::fs::write(&signature, armored).unwrap(),
            None => drop(std::fs::remove_file(&signature)),
        }
        let ran = agent.muster(["publish"]).arg(&file).run().expect_code(1);
        let wanted =
            if case.code == "unsigned" { "no signature" } else { problem["title"].as_str().unwrap() };
        assert!(ran.stderr.contains(wanted), "{}: {}", case.what, ran.stderr);
    }
    assert_eq!(agent.look("/v1/rollouts")["rollouts"], json!([]), "nothing was opened by any of them");
}

#[test]
fn a_ref_older_than_an_accepted_one_and_its_contradiction_are_refused() {
    let fleet = Fleet::of(1).build();
    fleet.install("v1", Release::GOOD);
    fleet.install("v2", Release::GOOD);
    fleet.launch();
    let agent = &fleet.agents[0];
    let post = |document: &Value| {
        let bytes = document.to_string().into_bytes();
        agent.post(&bytes, &[fleet.operators[0].sign(Namespace::ChannelRef, &bytes)])
    };
    let accepted = fleet.channel_ref("r5", "v1", 5);
    let first = post(&accepted);
    assert_eq!((first.status, &first.json()["duplicate"]), (202, &json!(false)), "{}", first.json());
    let second = post(&accepted);
    assert_eq!((second.status, &second.json()["duplicate"]), (202, &json!(true)), "{}", second.json());
    fleet.wait_for_rollout("stable@r5", "Terminal");

    let older = post(&fleet.channel_ref("r4", "v2", 4));
    assert_eq!((older.status, &older.json()["code"]), (422, &json!("downgrade")), "{}", older.json());
    let other = post(&fleet.channel_ref("r5-again", "v2", 5));
    assert_eq!((other.status, &other.json()["code"]), (409, &json!("equivocation")), "{}", other.json());

    // The operators contradicted themselves; a greater serial settles it.
    assert_eq!(post(&fleet.channel_ref("r6", "v2", 6)).status, 202);
    fleet.wait_for_rollout("stable@r6", "Terminal");
    assert_eq!(agent.current(), "dir:v2");
}

#[test]
fn a_fleet_document_needs_the_threshold_of_the_pinned_operators() {
    let fleet = Fleet::of(1).operators(2, 2).build();
    fleet.start();
    let agent = &fleet.agents[0];
    let document = std::fs::read(fleet.document_file()).unwrap();
    let sign = |operator: usize| fleet.operators[operator].sign(Namespace::Fleet, &document);
    for (what, signatures) in [("one of two", vec![sign(0)]), ("one of them twice", vec![sign(0), sign(0)])] {
        let answer = agent.post(&document, &signatures);
        assert_eq!((answer.status, &answer.json()["code"]), (422, &json!("threshold")), "{what}");
    }
    assert_eq!(agent.post(&document, &[sign(0), sign(1)]).status, 202);
}
