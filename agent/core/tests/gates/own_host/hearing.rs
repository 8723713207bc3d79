//! Which documents, envelopes and notices a host takes in, and whom it blames for the others.

use chrono::TimeDelta;
use muster_core::document::Refusal;
use muster_core::ledger::NO_HASH;
use muster_core::node::{Input, MessageRef, Node, Origin, Output, RequestId, Verdict};
use muster_core::time::Now;
use muster_core::verify;
use muster_core::wire::{FeedBody, IncarnationStarted, Notice, NoticeBody};
use muster_signing::{Namespace, Purpose, SignedDocument, Verified, seal};
use serde_json::{Value, json};

use super::Own;
use crate::history::Disk;
use crate::kit::*;

#[test]
fn other_coordinators_are_refused_without_the_founders_of_the_log_but_by_recovery() {
    let mut own = Own::new();
    let key = key_of("another h2").public().to_openssh();
    let newest: u64 = own.story.fleet["serial"].as_u64().unwrap();
    let fleet =
        with(own.story.fleet.clone(), &[("/hosts/h2/key", key.into()), ("/serial", (newest + 1).into())]);
    let mut publish = |fleet: &Value| {
        let document = signed(Namespace::Fleet, fleet);
        own.step(Input::Document { document, origin: Origin::Operator(RequestId(1)) });
        let reply = own.outputs.iter().find_map(|output| match output {
            Output::Reply { result, .. } => Some(result.clone()),
            _ => None,
        });
        reply.unwrap().map(|_| ()).map_err(|refusal| *refusal)
    };
    let refusal = publish(&fleet).unwrap_err();
    assert!(matches!(refusal, Refusal::OtherLog(_)), "{refusal}");
    assert_eq!(refusal.code(), "invalid");
    let recovery = with(fleet, &[("/recovery", true.into()), ("/replaces", newest.into())]);
    assert_eq!(publish(&recovery), Ok(()));
}

#[test]
fn a_coordinator_begins_the_log_anew_when_a_recovery_document_ends_it() {
    let story = Story::as_host("h1", fleet_of(&["h1"], all_at_once()));
    let mut disk = Disk(std::collections::BTreeMap::new());
    let now = |story: &Story| Now { utc: story.now, mono: story.mono };
    let (mut node, outputs) = node("h1", &disk, story.now);
    let run = |node: &mut Node, disk: &mut Disk, mut outputs: Vec<Output>| {
        while !outputs.is_empty() {
            let mut next = Vec::new();
            for output in outputs {
                if let Output::Persist { batch, rows } = output {
                    disk.write(rows);
                    next.extend(node.step(now(&story), Input::Stored { batch }));
                }
            }
            outputs = next;
        }
    };
    run(&mut node, &mut disk, outputs);
    let document =
        |fleet: &Value| Input::Document { document: signed(Namespace::Fleet, fleet), origin: Origin::Sync };
    let outputs = node.step(now(&story), document(&story.fleet));
    run(&mut node, &mut disk, outputs);
    assert!(node.leads());
    let (epoch, applied) = (node.ledger().epoch(), node.ledger().applied());
    assert!(applied > 0);
    let recovery =
        [("/recovery", true.into()), ("/replaces", story.fleet["serial"].clone()), ("/serial", 9.into())];
    let outputs = node.step(now(&story), document(&with(story.fleet.clone(), &recovery)));
    run(&mut node, &mut disk, outputs);
    let begins = |node: &Node| {
        let ledger = node.ledger();
        let shown = node.alarms().any(|alarm| alarm.contains("9 recovered the fleet"));
        shown && ledger.epoch() != epoch && ledger.applied() > ledger.log_begins_behind()
    };
    assert!(node.leads() && begins(&node), "{:?}", node.alarms().collect::<Vec<_>>());
    assert!(node.ledger().log_begins_behind() > applied, "no index of the old log comes again");
    let (mut node, outputs) = crate::kit::node("h1", &disk, story.now);
    run(&mut node, &mut disk, outputs);
    let outputs = node.step(now(&story), Input::Tick);
    run(&mut node, &mut disk, outputs);
    assert!(node.leads() && begins(&node));
}

#[test]
fn an_incarnation_from_the_future_is_not_taken_in() {
    for (ahead, taken) in [(299, true), (301, false)] {
        let mut own = Own::new();
        let body = FeedBody::Incarnation(IncarnationStarted { current_closure: None, started_at: start() });
        let incarnation =
            u64::try_from((own.story.now + TimeDelta::seconds(ahead)).timestamp_millis()).unwrap();
        let envelope = own.story.envelope_at("h3", (incarnation, 1, NO_HASH), body);
        own.step(Input::Envelope { envelope, message: Some(MessageRef(1)) });
        assert_eq!(own.node.ledger().feed(&host("h3")).is_some(), taken);
        let verdict = if taken { Verdict::Accept } else { Verdict::Ignore };
        assert!(
            own.outputs
                .iter()
                .any(|it| matches!(it, Output::Verdict { verdict: said, .. } if *said == verdict))
        );
    }
}

#[test]
fn gossip_blames_who_sends_what_no_honest_host_passes_on() {
    let verdict_on = |document: Verified<SignedDocument>| {
        let mut own = Own::new();
        own.step(Input::Document { document, origin: Origin::Gossip(MessageRef(1)) });
        own.outputs.iter().find_map(|output| match output {
            Output::Verdict { verdict, .. } => Some(*verdict),
            _ => None,
        })
    };
    let own = Own::new();
    let newer = with(own.story.fleet.clone(), &[("/serial", 50.into())]);
    let other = with(newer.clone(), &[("/fleet", "other".into())]);
    let table = [
        (signed(Namespace::Fleet, &newer), Verdict::Accept),
        (signed(Namespace::Fleet, &own.story.fleet), Verdict::Accept),
        (signed_by(&["mallory"], Namespace::Fleet, &newer), Verdict::Ignore),
        // An older one that was missed is history that others may still need.
        (signed(Namespace::Fleet, &with(newer.clone(), &[("/serial", 1.into())])), Verdict::Accept),
        (signed_by(&[], Namespace::Fleet, &newer), Verdict::Reject),
        (signed(Namespace::Command, &newer), Verdict::Reject),
        (signed(Namespace::Fleet, &other), Verdict::Reject),
    ];
    for (row, (document, verdict)) in table.into_iter().enumerate() {
        assert_eq!(verdict_on(document), Some(verdict), "row {row}");
    }
}

#[test]
fn a_notice_of_a_key_that_was_changed_meanwhile_is_not_heard() {
    for changed in [false, true] {
        let mut own = Own::new();
        let notice = Notice {
            fleet: FLEET.parse().unwrap(),
            host: host("h5"),
            incarnation: 9,
            boot: 1,
            n: 1,
            at: own.story.now,
            body: NoticeBody::Marks { feeds: Vec::new(), documents: Vec::new() },
        };
        let entry = |key: &str| json!({ "key": key_of(key).public().to_openssh(), "channel": "stable" });
        let hash = own.story.changed_fleet(&[("/hosts/h5", entry("h5"))]);
        own.hears(hash);
        let bytes = seal(&key_of("h5"), Purpose::Notice, FLEET, &muster_core::wire::codec::encode(&notice));
        let notice = verify::notice(own.node.ledger().roster(), &bytes).unwrap();
        if changed {
            let hash = own.story.changed_fleet(&[("/hosts/h5", entry("another h5"))]);
            own.hears(hash);
        }
        own.step(Input::Notice { notice, message: Some(MessageRef(1)) });
        let verdict = if changed { Verdict::Ignore } else { Verdict::Accept };
        assert!(
            own.outputs
                .iter()
                .any(|it| matches!(it, Output::Verdict { verdict: said, .. } if *said == verdict))
        );
    }
}
