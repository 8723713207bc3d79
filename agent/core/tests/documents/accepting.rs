//! What is accepted after what, by whose signatures and when.

use chrono::TimeDelta;
use muster_core::document::held::ProofPlace;
use muster_core::document::{Acceptance, Documents, Refusal, Trust};
use muster_core::id::{ChannelId, HostId, RolloutId};
use muster_signing::{Namespace, sha256, sign_document, verify_document};
use serde_json::{Value, json};

use crate::kit::{
    ALICE, BOB, CI, FLEET, PAUSE, STABLE, TRUST, accept, assert_refusal, empty, key, line, now, refused,
    sign, stable, time, unpublishable, with, with_fleet,
};

fn fleet(serial: u64, changes: &[(&str, Value)]) -> Vec<u8> {
    let mut all = vec![("/serial", json!(serial))];
    all.extend_from_slice(changes);
    with(FLEET, &all)
}

fn channel() -> ChannelId {
    "stable".parse().unwrap()
}

fn with_bob() -> (&'static str, Value) {
    ("/operators", json!({"alice": line(ALICE), "bob": line(BOB)}))
}

#[test]
fn the_first_fleet_document_needs_the_threshold_of_a_pinned_root() {
    let bytes = FLEET.as_bytes();
    for (seeds, code, fragment) in [
        (&[][..], "unsigned", "no signature"),
        (&[ALICE], "threshold", "1 of the pinned operators signed, 2 have to"),
        (&[ALICE, ALICE], "threshold", "1 of the pinned operators"),
        (&[ALICE, BOB], "threshold", "1 of the pinned operators"),
    ] {
        assert_refusal(&refused(&empty(), bytes, seeds), code, fragment);
    }
    assert_eq!(with_fleet().fleet().unwrap().serial, 7);
}

#[test]
fn signatures_count_only_for_the_bytes_and_the_kind_that_they_speak_of() {
    let documents = with_fleet();
    let of_other_bytes = sign_document(&key(CI), Namespace::ChannelRef, b"something else");
    let other = verify_document(Namespace::ChannelRef, STABLE.into(), vec![of_other_bytes]);
    assert_refusal(&documents.check(&other, now()).unwrap_err(), "bad_signature", "none of the 1 signatures");
    let as_command = sign_document(&key(CI), Namespace::Command, STABLE.as_bytes());
    let command = verify_document(Namespace::Command, STABLE.into(), vec![as_command]);
    assert_refusal(
        &documents.check(&command, now()).unwrap_err(),
        "bad_signature",
        "in the namespace muster-command",
    );
}

#[test]
fn checks_come_in_the_order_of_the_rules() {
    // Each document breaks every later rule as well.
    let documents = with_fleet();
    let late = json!("2026-11-21T11:00:00Z");
    let past = json!("2026-11-21T09:00:00Z");
    let broken =
        [("/channel", json!("beta")), ("/expiresAt", past), ("/signedAt", late), ("/fleet", json!("work"))];
    let unknown = [&broken[..], &[("/x", json!(1))]].concat();
    for (changes, seeds, code) in [
        (&unknown[..], &[][..], "unknown_field"),
        (&broken[..], &[], "wrong_fleet"),
        (&broken[..3], &[], "unsigned"),
        (&broken[..3], &[BOB], "threshold"),
        (&broken[..3], &[CI], "not_yet"),
        (&broken[..2], &[CI], "expired"),
        (&broken[..1], &[CI], "invalid"),
    ] {
        let refusal = refused(&documents, &with(STABLE, changes), seeds);
        assert_eq!(refusal.code(), code, "{refusal}");
    }
}

#[test]
fn a_successor_needs_the_operators_replaced_and_those_named() {
    let documents = with_fleet();
    let successor = fleet(8, &[with_bob()]);
    assert_refusal(
        &refused(&documents, &successor, &[ALICE, BOB]),
        "threshold",
        "1 of the current operators",
    );
    assert_refusal(
        &refused(&documents, &successor, &[ALICE, CI]),
        "threshold",
        "1 of the operators that it names",
    );
    let mut documents = documents;
    accept(&mut documents, &successor, &[ALICE, BOB, CI]);
    assert_eq!(documents.fleet().unwrap().serial, 8);
    assert_eq!(documents.chain().len(), 2);
    accept(&mut documents, &fleet(9, &[with_bob()]), &[ALICE, BOB]);
    assert_eq!(documents.chain().len(), 2, "the third changed no operators");
    assert_refusal(&refused(&documents, &fleet(10, &[]), &[ALICE, CI]), "threshold", "current operators");
}

#[test]
fn fleet_serials_only_grow() {
    let mut documents = with_fleet();
    let eighth = fleet(8, &[]);
    accept(&mut documents, &eighth, &[ALICE, CI]);
    assert_refusal(
        &refused(&documents, &fleet(6, &[]), &[ALICE, CI]),
        "downgrade",
        "6 is not greater than 8",
    );
    let again = documents.check(&sign(FLEET.as_bytes(), &[ALICE, CI]), now());
    assert_eq!(again, Ok(Acceptance::Duplicate));
    // What a ref names may be older, and does not become the newest.
    let Ok(Acceptance::New(named)) = documents.check_named(&sign(&fleet(6, &[]), &[ALICE, CI]), now()) else {
        panic!("the named document is not accepted");
    };
    documents.insert(named);
    assert_eq!(documents.fleet().unwrap().serial, 8);
    assert!(documents.fleet_by_serial(6).is_some());
}

#[test]
fn a_named_document_is_signed_by_the_operators_of_its_time() {
    let mut documents = with_fleet();
    accept(&mut documents, &fleet(9, &[with_bob()]), &[ALICE, BOB, CI]);
    let eighth = fleet(8, &[]);
    let named = documents.check_named(&sign(&eighth, &[ALICE, CI]), now());
    assert!(matches!(named, Ok(Acceptance::New(_))), "{named:?}");
    let refusal = documents.check_named(&sign(&eighth, &[ALICE, BOB]), now()).unwrap_err();
    assert_refusal(&refusal, "threshold", "1 of the current operators");
    assert_refusal(&refused(&documents, &eighth, &[ALICE, CI]), "threshold", "1 of the current operators");
}

#[test]
fn links_of_the_operators_chain_may_be_expired_but_not_its_end() {
    let past = ("/expiresAt", json!("2026-11-21T10:09:00Z"));
    let mut documents = empty();
    accept(&mut documents, &fleet(7, std::slice::from_ref(&past)), &[ALICE, CI]);
    assert!(documents.fleet_is_expired(now()));
    accept(&mut documents, &fleet(8, &[with_bob(), past.clone()]), &[ALICE, BOB, CI]);
    let end = fleet(9, &[with_bob(), past]);
    assert_refusal(&refused(&documents, &end, &[ALICE, BOB]), "expired", "expired at");
    accept(&mut documents, &fleet(9, &[with_bob()]), &[ALICE, BOB]);
    assert!(!documents.fleet_is_expired(now()));
}

#[test]
fn a_recovery_undoes_the_largest_number_and_begins_the_order_of_refs_anew() {
    let mut documents = with_fleet();
    let stolen = fleet(u64::MAX, &[]);
    accept(&mut documents, &stolen, &[ALICE, CI]);
    accept(&mut documents, &stable(&stolen, u64::MAX, "evil"), &[CI]);
    let recovery = |replaces: u64, serial: u64| {
        fleet(serial, &[with_bob(), ("/recovery", json!(true)), ("/replaces", json!(replaces))])
    };
    let all = &[ALICE, BOB, CI];
    assert_refusal(
        &refused(&documents, &recovery(u64::MAX, 8), &[ALICE, BOB]),
        "threshold",
        "pinned operators",
    );
    assert_refusal(&refused(&documents, &recovery(u64::MAX, 8), &[ALICE, CI]), "threshold", "that it names");
    assert_refusal(&refused(&documents, &recovery(7, 8), all), "invalid", "replaces serial 7");
    accept(&mut documents, &recovery(u64::MAX, 8), all);
    assert_eq!(documents.fleet().unwrap().serial, 8);
    assert_eq!(documents.last_recovery().unwrap().serial, 8);
    assert!(documents.channel_ref(&channel()).is_none());
    let old = stable(&stolen, u64::MAX, "evil-2");
    assert_refusal(&refused(&documents, &old, &[ALICE]), "downgrade", "recovery document has replaced");
    let again = stable(&recovery(u64::MAX, 8), 1, "evil");
    assert_refusal(&unpublishable(&documents, &again, &[ALICE]), "invalid", "pick a new name");
    accept(&mut documents, &stable(&recovery(u64::MAX, 8), 1, "good"), &[ALICE]);
    // Replayed in the order of acceptance, the store comes to the same.
    let mut restored = empty();
    for document in documents.all() {
        let accepted = restored.stored(document.signed()).unwrap();
        restored.insert(accepted);
    }
    assert_eq!(restored.fleet(), documents.fleet());
    assert_eq!(restored.channel_ref(&channel()), documents.channel_ref(&channel()));
}

#[test]
fn a_new_pin_is_a_root_for_recovery_when_keys_are_lost() {
    let documents = with_fleet();
    let pin = with(TRUST, &[("/operators", json!({"bob": line(BOB)})), ("/threshold", json!(1))]);
    let mut pinned =
        Documents::new(vec![Trust::parse(&pin).unwrap(), Trust::parse(TRUST.as_bytes()).unwrap()]).unwrap();
    for document in documents.all() {
        let accepted = pinned.stored(document.signed()).unwrap();
        pinned.insert(accepted);
    }
    let only_bob = [
        ("/operators", json!({"bob": line(BOB)})),
        ("/thresholds", json!({"fleet": 1, "channelRef": 1, "command": 1})),
        ("/recovery", json!(true)),
        ("/replaces", json!(7)),
    ];
    accept(&mut pinned, &fleet(8, &only_bob), &[BOB]);
    assert_refusal(
        &refused(&documents, &fleet(8, &only_bob), &[BOB]),
        "threshold",
        "0 of the pinned operators",
    );
}

#[test]
fn refs_are_ordered_by_fleet_serial_and_serial() {
    let mut documents = with_fleet();
    accept(&mut documents, STABLE.as_bytes(), &[CI]);
    let lower = stable(FLEET.as_bytes(), 41, "older");
    assert_refusal(&refused(&documents, &lower, &[CI]), "downgrade", "(7, 41) is below (7, 42)");
    let eighth = fleet(8, &[]);
    accept(&mut documents, &eighth, &[ALICE, CI]);
    accept(&mut documents, &stable(&eighth, 1, "newer"), &[ALICE]);
    let huge = stable(FLEET.as_bytes(), u64::MAX, "stolen");
    assert_refusal(&refused(&documents, &huge, &[CI]), "downgrade", "is below (8, 1)");
    assert_eq!(documents.refs(&channel()).count(), 2);
    let plan = documents.plan_by_ref(&documents.channel_ref(&channel()).unwrap().hash).unwrap();
    assert_eq!(plan.rollout_id.as_str(), "stable@newer");
}

#[test]
fn a_ref_waits_for_the_fleet_document_that_it_names() {
    let eighth = fleet(8, &[with_bob()]);
    let early = sign(&stable(&eighth, 1, "next"), &[BOB]);
    let waits = Acceptance::Waits { fleet_serial: 8, fleet_hash: sha256(&eighth) };
    let mut documents = with_fleet();
    assert_eq!(empty().check(&early, now()), Ok(waits.clone()));
    assert_eq!(documents.check(&early, now()), Ok(waits));
    assert_refusal(
        &documents.check_publish(&early, now()).unwrap_err(),
        "unknown_fleet_document",
        "serial 8",
    );
    accept(&mut documents, &eighth, &[ALICE, BOB, CI]);
    assert!(matches!(documents.check(&early, now()), Ok(Acceptance::New(_))));
    let old = fleet(6, &[]);
    assert_refusal(&refused(&documents, &stable(&old, 1, "old"), &[CI]), "threshold", "current operators");
}

#[test]
fn a_refresh_repeats_all_but_its_times() {
    let mut documents = with_fleet();
    accept(&mut documents, STABLE.as_bytes(), &[CI]);
    let again = |changes: &[(&str, Value)]| with(STABLE, &[&[("/serial", json!(43))], changes].concat());
    for change in [("/targets/web-01", json!("dir:v2")), ("/contents", Value::Null), ("/urgent", json!(true))]
    {
        let refusal = unpublishable(&documents, &again(&[change]), &[CI]);
        assert_refusal(&refusal, "invalid", "a1b2c3d4 was used on channel stable before");
    }
    let times = [("/signedAt", json!("2026-11-21T10:09:00Z")), ("/expiresAt", json!("2026-12-01T00:00:00Z"))];
    accept(&mut documents, &again(&times), &[CI]);
    let rollout: RolloutId = "stable@a1b2c3d4".parse().unwrap();
    assert_eq!(documents.ref_of_rollout(&rollout).unwrap().serial, 43);
    accept(&mut documents, &stable(FLEET.as_bytes(), 44, "next"), &[CI]);
    let back = with(STABLE, &[("/serial", json!(45))]);
    assert_refusal(&unpublishable(&documents, &back, &[CI]), "invalid", "pick a new name");
}

#[test]
fn of_two_releases_with_one_name_that_were_published_apart_the_first_one_has_it() {
    let rollout: RolloutId = "stable@a1b2c3d4".parse().unwrap();
    let other = with(STABLE, &[("/serial", json!(43)), ("/targets/web-01", json!("dir:v2"))]);
    let refresh = with(STABLE, &[("/serial", json!(44))]);
    for order in [[STABLE.as_bytes(), &other, &refresh], [&refresh, &other, STABLE.as_bytes()]] {
        let mut documents = with_fleet();
        for bytes in order {
            // A later one may come first; what is older then comes as what the log has adopted.
            let Acceptance::New(accepted) = documents.check_named(&sign(bytes, &[CI]), now()).unwrap() else {
                panic!("refused");
            };
            documents.insert(accepted);
        }
        assert_eq!(documents.ref_of_rollout(&rollout).unwrap().serial, 44);
        assert_eq!(documents.channel_ref(&channel()).unwrap().serial, 44);
        assert!(!documents.are_one_release(&sha256(&other), &sha256(&refresh)));
    }
}

#[test]
fn what_the_log_adopted_is_held_beside_what_contradicts_it() {
    let mut documents = with_fleet();
    accept(&mut documents, STABLE.as_bytes(), &[CI]);
    let other = sign(&stable(FLEET.as_bytes(), 42, "other"), &[CI]);
    let Acceptance::New(accepted) = documents.check_named(&other, now()).unwrap() else { panic!("refused") };
    documents.insert(accepted);
    assert!(documents.plan_by_ref(&other.digest()).is_some());
    assert_eq!(documents.channel_ref(&channel()).unwrap().hash, sha256(STABLE.as_bytes()));
    assert!(documents.stored_proof(&sign(&stable(FLEET.as_bytes(), 42, "third"), &[CI])).is_some());
}

#[test]
fn equivocation_blocks_until_a_greater_serial() {
    let mut documents = with_fleet();
    accept(&mut documents, STABLE.as_bytes(), &[CI]);
    let other = stable(FLEET.as_bytes(), 42, "other");
    let Refusal::Equivocation(proof) = refused(&documents, &other, &[CI]) else { panic!("no proof") };
    assert_eq!(proof.held(), sha256(STABLE.as_bytes()));
    assert_eq!(proof.other().bytes(), other);
    assert!(matches!(proof.place(), ProofPlace::Channel { .. }));
    assert!(!documents.is_blocked(&channel()));
    documents.insert_proof(*proof);
    assert!(documents.is_blocked(&channel()));
    assert!(!documents.is_blocked(&"edge".parse().unwrap()));
    accept(&mut documents, &stable(FLEET.as_bytes(), 43, "next"), &[CI]);
    assert!(!documents.is_blocked(&channel()));

    let another = fleet(7, &[("/signedAt", json!("2026-11-21T10:01:00Z"))]);
    let refusal = refused(&documents, &another, &[ALICE, CI]);
    assert_refusal(&refusal, "equivocation", "two fleet documents with serial 7");
    let Refusal::Equivocation(proof) = refusal else { panic!("no proof") };
    documents.insert_proof(*proof);
    assert!(documents.is_fleet_blocked() && documents.is_blocked(&channel()));
    accept(&mut documents, &fleet(8, &[]), &[ALICE, CI]);
    assert!(!documents.is_fleet_blocked() && !documents.is_blocked(&channel()));
    assert_eq!(documents.proofs().count(), 2);
}

#[test]
fn publishing_refuses_a_stale_ref_that_gossip_takes() {
    let documents = with_fleet();
    let signed = sign(STABLE.as_bytes(), &[CI]);
    let last = time("2026-11-22T10:05:00Z");
    assert!(documents.check_publish(&signed, last).is_ok());
    let late = last + TimeDelta::seconds(1);
    assert!(documents.check(&signed, late).is_ok());
    assert_refusal(
        &documents.check_publish(&signed, late).unwrap_err(),
        "stale",
        "1440 minutes of channel stable",
    );
}

#[test]
fn commands_are_a_set_in_the_order_of_serial_and_hash() {
    let mut documents = with_fleet();
    assert_refusal(
        &refused(&empty(), PAUSE.as_bytes(), &[ALICE]),
        "unknown_fleet_document",
        "no fleet document",
    );
    for (serial, host) in [(5, "web-01"), (1, "web-02"), (5, "db-01")] {
        let command = [("/serial", json!(serial)), ("/channel", Value::Null), ("/host", json!(host))];
        accept(&mut documents, &with(PAUSE, &command), &[ALICE]);
    }
    let order: Vec<_> = documents.commands().map(|command| (command.serial, command.hash)).collect();
    assert!(order.is_sorted());
    assert_eq!(order.len(), 3);
}

#[test]
fn a_resume_lifts_the_earlier_pauses_of_its_very_scope() {
    let channel_scope = ("channel", "stable");
    let host_scope = ("host", "web-01");
    let rollout_scope = ("rollout", "stable@v1");
    for (commands, paused) in [
        (vec![(1, "pause", channel_scope)], true),
        (vec![(1, "pause", rollout_scope)], true),
        (vec![(1, "pause", ("rollout", "stable@v2"))], false),
        (vec![(1, "pause", ("host", "web-02"))], false),
        (vec![(1, "pause", channel_scope), (2, "resume", channel_scope)], false),
        (vec![(2, "resume", channel_scope), (1, "pause", channel_scope)], false),
        (vec![(2, "pause", channel_scope), (1, "resume", channel_scope)], true),
        (vec![(1, "pause", host_scope), (2, "resume", channel_scope)], true),
        (vec![(1, "pause", channel_scope), (2, "resume", host_scope)], true),
    ] {
        let mut documents = with_fleet();
        for (serial, verb, (key, value)) in &commands {
            let key = format!("/{key}");
            let changes = [
                ("/serial", json!(serial)),
                ("/verb", json!(verb)),
                ("/channel", Value::Null),
                (&key, json!(value)),
            ];
            accept(&mut documents, &with(PAUSE, &changes), &[ALICE]);
        }
        let (rollout, host): (RolloutId, HostId) = ("stable@v1".parse().unwrap(), "web-01".parse().unwrap());
        let found = documents.paused(&channel(), &rollout, &host, now());
        assert_eq!(found.is_some(), paused, "{commands:?}");
    }
}

#[test]
fn a_command_counts_no_more_when_expired_or_when_its_operator_is_gone() {
    let mut documents = with_fleet();
    let expiring = with(PAUSE, &[("/expiresAt", json!("2026-11-21T12:00:00Z"))]);
    accept(&mut documents, &expiring, &[CI]);
    assert_eq!(documents.commands_in_force(now()).count(), 1);
    assert_eq!(documents.commands_in_force(time("2026-11-21T12:00:00Z")).count(), 0);
    accept(&mut documents, STABLE.as_bytes(), &[CI]);
    let hash = sha256(STABLE.as_bytes());
    assert!(documents.is_still_signed(&hash));
    accept(&mut documents, &fleet(8, &[with_bob()]), &[ALICE, BOB, CI]);
    assert_eq!(documents.commands_in_force(now()).count(), 0);
    assert!(!documents.is_still_signed(&hash));
}

#[test]
fn what_is_needed_is_not_forgotten() {
    let mut documents = with_fleet();
    let first = accept(&mut documents, STABLE.as_bytes(), &[CI]);
    let eighth = accept(&mut documents, &fleet(8, &[]), &[ALICE, CI]);
    let ninth = accept(&mut documents, &fleet(9, &[]), &[ALICE, CI]);
    let pause = accept(&mut documents, PAUSE.as_bytes(), &[ALICE]);
    let clone = documents.clone();
    for (hash, goes) in [(first, false), (eighth, true), (ninth, false), (pause, true), (pause, false)] {
        assert_eq!(documents.forget(&hash), goes, "{hash}");
    }
    assert!(!documents.forget(&sha256(FLEET.as_bytes())), "it is the root and the ref names it");
    assert!(clone.holds(&pause), "a clone is a picture of its moment");
}
