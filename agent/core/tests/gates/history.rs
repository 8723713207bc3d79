//! The ledger: feeds in order, certificates, and what a restart makes of it all.

use std::collections::BTreeMap;

use muster_core::document::Documents;
use muster_core::gate::{Gate, Reason};
use muster_core::id::RolloutId;
use muster_core::ledger::{
    Batch, Fault, FeedError, Ledger, NO_HASH, RebuildError, Rows, Table, Views, key, rebuild,
};
use muster_core::verify::{self, VerifyError};
use muster_core::wire::{
    Decision, FeedBody, HostEvent, HostEventKind, HostState, IncarnationStarted, RejectReason, RolloutState,
};
use muster_signing::{Digest, sha256};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::kit::*;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

fn simple() -> (Story, RolloutId) {
    let mut story = Story::as_host("h4", fleet_of(&HOSTS, all_at_once()));
    let id = story.release("v1");
    (story, id)
}

fn event(id: &RolloutId, seq: u64, log_index: u64) -> FeedBody {
    let kind =
        HostEventKind::DispatchRejected { reason: RejectReason::Busy, rejected_at: start(), log_index };
    FeedBody::Rollout(HostEvent { rollout_id: id.clone(), seq, kind })
}

fn begun() -> FeedBody {
    FeedBody::Incarnation(IncarnationStarted { current_closure: None, started_at: start() })
}

#[test]
fn a_feed_is_taken_in_strictly_in_order() {
    let (mut story, id) = simple();
    let first = story.envelope("h1", event(&id, 1, 90));
    let second = story.envelope("h1", event(&id, 2, 91));
    let third = story.envelope("h1", event(&id, 3, 92));
    assert_eq!(story.takes(&second), Err(FeedError::Gap { wanted: 1, got: 2 }));
    assert_eq!(story.takes(&first), Ok(()));
    assert_eq!(story.takes(&first), Err(FeedError::Duplicate { incarnation: 1, seq: 1 }));
    assert_eq!(story.takes(&third), Err(FeedError::Gap { wanted: 2, got: 3 }));
    assert_eq!(story.takes(&second), Ok(()));
    assert_eq!(story.takes(&third), Ok(()));
    assert_eq!(story.takes(&second), Err(FeedError::Duplicate { incarnation: 1, seq: 2 }));
    assert_eq!(story.ledger.feed(&host("h1")).unwrap().head().unwrap().seq, 3);
    assert!(story.alarms().is_empty());
}

#[test]
fn two_histories_stop_a_feed_until_its_host_gets_another_key() {
    let second = |story: &Story, id: &RolloutId, first: Digest| {
        [
            story.envelope_at("h1", (1, 1, NO_HASH), event(id, 1, 77)),
            story.envelope_at("h1", (1, 2, sha256(b"another first")), event(id, 2, 91)),
            story.envelope_at("h1", (1, 2, first), event(id, 2, 91)),
        ]
    };
    for (row, position) in [(0, 1), (1, 2)] {
        let (mut story, id) = simple();
        let first = story.envelope("h1", event(&id, 1, 90));
        story.takes(&first).unwrap();
        let envelopes = second(&story, &id, first.hash);
        assert_eq!(story.takes(&envelopes[row]), Err(FeedError::Fork { incarnation: 1, seq: position }));
        assert!(story.alarms()[0].contains("h1 signed two histories"));
        assert_eq!(story.takes(&envelopes[2]), Err(FeedError::Forked));
        let disk = Disk::of(&mut story.ledger);
        assert_eq!(disk.0.keys().filter(|(table, _)| *table == Table::Proofs).count(), 1);
        let key = key_of("another h1").public().to_openssh();
        story.changed_fleet(&[("/hosts/h1/key", key.into())]);
        assert!(!story.ledger.feed(&host("h1")).unwrap().is_forked());
    }
}

#[test]
fn a_new_incarnation_ends_open_records_and_begins_its_count_anew() {
    let (mut story, id) = simple();
    for name in ["h1", "h2", "h3"] {
        story.join(&id, name);
    }
    story.acks("h1", &id);
    story.rejects("h2", &id);
    story.converges("h3", &id);
    for name in ["h1", "h2", "h3"] {
        story.reinstall(name, 2);
        let body = begun();
        let envelope = story.envelope(name, body);
        story.takes(&envelope).unwrap();
    }
    let state = |story: &Story, name: &str| story.ledger.record(&host(name), &id).unwrap().record.state;
    assert_eq!(state(&story, "h1"), HostState::Failed);
    assert_eq!(state(&story, "h2"), HostState::Pending);
    assert_eq!(state(&story, "h3"), HostState::Converged);
    // The host counts from 1 again, and its mirror does too.
    story.acks("h2", &id);
    assert_eq!(state(&story, "h2"), HostState::Activating);
    // What it said before is kept when it comes late, and brings nothing back.
    let head = story.ledger.feed(&host("h1")).unwrap().heads().find(|(of, _)| *of == 1).unwrap().1;
    let late = story.envelope_at("h1", (1, head.seq + 1, head.hash), event(&id, 2, 90));
    assert_eq!(story.takes(&late), Ok(()));
    assert_eq!(state(&story, "h1"), HostState::Failed);
    assert!(story.alarms().is_empty());
}

#[test]
fn an_older_incarnation_whose_beginning_comes_late_ends_nothing_of_the_newer_one() {
    let (mut story, id) = simple();
    for name in ["h1", "h2"] {
        story.join(&id, name);
        story.reinstall(name, 2);
        let envelope = story.envelope(name, begun());
        story.takes(&envelope).unwrap();
    }
    story.acks("h1", &id);
    story.rejects("h2", &id);
    for name in ["h1", "h2"] {
        let late = story.envelope_at(name, (1, 1, NO_HASH), begun());
        assert_eq!(story.takes(&late), Ok(()));
    }
    let record = |story: &Story, name: &str| story.ledger.record(&host(name), &id).unwrap().record.clone();
    assert_eq!(record(&story, "h1").state, HostState::Activating);
    assert_eq!(record(&story, "h2").last_event_seq, 1, "it goes on counting where it was");
    story.acks("h2", &id);
    assert_eq!(record(&story, "h2").state, HostState::Activating);
    assert!(story.alarms().is_empty());
}

#[test]
fn a_mirror_stops_before_an_event_whose_record_is_not_open_and_goes_on_when_it_is() {
    let (mut story, id) = simple();
    let log_index = story.ledger.applied() + 1;
    let (received_at, current_closure_at_dispatch) = (story.now, Some(closure("v0")));
    story.reports(
        "h1",
        &id,
        HostEventKind::DispatchAck { current_closure_at_dispatch, received_at, log_index },
    );
    let failed_at = story.now;
    let stderr_tail = String::new();
    story.reports("h1", &id, HostEventKind::ActivationFailed { exit_code: 1, stderr_tail, failed_at });
    assert_eq!(story.ledger.feed(&host("h1")).unwrap().backlog(), 2);
    assert!(story.ledger.record(&host("h1"), &id).is_none());
    story.join(&id, "h1");
    assert_eq!(story.ledger.feed(&host("h1")).unwrap().backlog(), 0);
    assert_eq!(story.ledger.record(&host("h1"), &id).unwrap().record.state, HostState::Failed);
}

#[test]
fn an_answer_to_a_dispatch_that_the_log_does_not_have_is_an_alarm_and_holds_nothing_up() {
    let (mut story, id) = simple();
    story.join(&id, "h1");
    story.rejects_index("h1", &id, 2);
    assert_eq!(story.ledger.feed(&host("h1")).unwrap().backlog(), 0);
    assert_eq!(story.alarms().len(), 1);
}

#[test]
fn certificates_that_prove_nothing_are_refused() {
    let (mut story, id) = simple();
    let decision = story.join(&id, "h1").decision;
    let check = |story: &Story, decision: &Decision, signers: &[&str]| {
        verify::certificate(story.ledger.roster(), &story.certificate(decision, signers)).map(|_| ())
    };
    let few = |signed| Err(VerifyError::NoQuorum { signed, needed: 2 });
    assert_eq!(check(&story, &decision, &["h1", "h2"]), Ok(()));
    assert_eq!(check(&story, &decision, &["h3", "h1", "h2"]), Ok(()));
    assert_eq!(check(&story, &decision, &["h1"]), few(1));
    assert_eq!(check(&story, &decision, &["h1", "h4"]), few(1));
    assert_eq!(check(&story, &decision, &["alice", "mallory"]), few(0));
    let of_other_fleet = Decision { fleet: "other".parse().unwrap(), ..decision.clone() };
    assert!(matches!(check(&story, &of_other_fleet, &["h1", "h2"]), Err(VerifyError::OtherFleet(_))));
    let newer = Decision { v: 2, ..decision.clone() };
    assert_eq!(check(&story, &newer, &["h1", "h2"]), Err(VerifyError::Version(2)));
    let unknown = Decision { fleet_serial: 99, ..decision.clone() };
    assert_eq!(check(&story, &unknown, &["h1", "h2"]), Err(VerifyError::UnknownFleetSerial(99)));
    let key = key_of("another h2").public().to_openssh();
    story.changed_fleet(&[("/hosts/h2/key", key.into())]);
    assert_eq!(check(&story, &decision, &["h1", "h2"]), few(1), "its key is enrolled no more");
    assert_eq!(check(&story, &decision, &["h1", "h3"]), Ok(()));
}

#[test]
fn a_decision_of_another_epoch_or_a_second_one_of_the_same_id_changes_nothing() {
    let (mut story, id) = simple();
    let derived = story.join(&id, "h1");
    let mut other = derived.clone();
    other.decision.epoch = Digest([9; 32]);
    assert!(!story.certify(&other));
    assert!(story.alarms()[0].contains("another epoch"));
    assert!(story.ledger.certified().is_empty());
    assert!(story.certify(&derived));
    assert!(!story.certify(&derived));
    assert!(story.alarms().is_empty());
    let mut second = derived;
    second.decision.body = muster_core::wire::DecisionBody::Withdrawn { decision: second.decision.id() };
    assert!(!story.certify(&second));
    assert!(story.alarms()[0].contains("two certificates"));
}

/// What a store holds of a ledger's batches.
pub(crate) struct Disk(pub(crate) BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Disk {
    pub(crate) fn of(ledger: &mut Ledger) -> Self {
        let mut disk = Self(BTreeMap::new());
        disk.write(ledger.take_batch());
        disk
    }

    pub(crate) fn write(&mut self, batch: Batch) {
        for change in batch.0 {
            match change.value {
                Some(value) => self.0.insert((change.table, change.key), value),
                None => self.0.remove(&(change.table, change.key)),
            };
        }
    }

    fn views(&self) -> Views {
        let derived = self.0.iter().filter(|((table, _), _)| Table::DERIVED.contains(table));
        derived.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl Rows for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn table(&self, table: Table) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>> {
        let rows = self.0.iter().filter(move |((of, _), _)| *of == table);
        rows.map(|((_, key), value)| Ok((key.clone(), value.clone())))
    }
}

pub(crate) fn empty_ledger() -> Ledger {
    Ledger::new(FLEET.parse().unwrap(), host("h4"), Documents::new(vec![trust()]).unwrap())
}

/// A story of some length, with everything that a coordinator writes; log entries are the caller's to store.
pub(crate) fn long_story() -> (Story, Disk) {
    let mut story = Story::as_host("h4", fleet_of(&HOSTS, one_by_one(&HOSTS)));
    story.publish("stable", "v1", &[]);
    story.plan();
    story.converges("h1", &rollout("stable@v1"));
    story.plan();
    story.reverts("h2", &rollout("stable@v1"));
    story.plan();
    for derived in story.derived.clone() {
        story.certify(&derived);
    }
    story.accept_command(&json!({ "verb": "clear", "rollout": "stable@v1" }));
    story.plan();
    let mut disk = Disk::of(&mut story.ledger);
    for (index, entry) in (1..).zip(&story.entries) {
        disk.0.insert((Table::Log, key::number(index)), muster_core::wire::codec::encode(entry));
    }
    (story, disk)
}

#[test]
fn learning_everything_again_gives_the_very_same_views() {
    let (story, disk) = long_story();
    let (again, views) = rebuild(empty_ledger(), &disk).unwrap();
    assert_eq!(views, disk.views());
    assert_eq!(again.rollouts(), story.ledger.rollouts());
    assert_eq!(again.position(), story.ledger.position());
    assert_eq!(again.applied(), story.ledger.applied());
    assert!(again.records().eq(story.ledger.records()));
    assert_eq!(again.slots().hosts().count(), story.ledger.slots().hosts().count());
    assert_eq!(again.rollouts()[&rollout("stable@v1")].state, RolloutState::Active);
}

#[test]
fn a_flipped_byte_or_a_missing_record_is_named() {
    let (_, disk) = long_story();
    let canonical = [Table::Documents, Table::Feeds, Table::Decisions];
    let rows: Vec<(Table, Vec<u8>)> =
        disk.0.keys().filter(|(table, _)| canonical.contains(table)).cloned().collect();
    assert!(rows.len() > 10);
    for row in rows {
        let length = disk.0[&row].len();
        for at in [0, length / 3, length / 2, length - 1] {
            let mut flipped = Disk(disk.0.clone());
            flipped.0.get_mut(&row).unwrap()[at] ^= 1;
            match rebuild(empty_ledger(), &flipped) {
                Err(RebuildError::Record(error)) => assert_eq!((error.table, &error.key), (row.0, &row.1)),
                // The hint beside a signature proves nothing, so it can break nothing.
                Ok((_, views)) if row.0 == Table::Decisions => assert_eq!(views, disk.views()),
                other => panic!("{row:?} at {at}: {:?}", other.map(|_| ())),
            }
        }
        let mut missing = Disk(disk.0.clone());
        missing.0.remove(&row);
        let error = match rebuild(empty_ledger(), &missing) {
            Err(RebuildError::Record(error)) => error,
            other => panic!("{row:?}: {:?}", other.map(|_| ())),
        };
        assert_eq!((error.table, error.fault), (row.0, Fault::Missing));
    }
    let mut gap = Disk(disk.0.clone());
    gap.0.remove(&(Table::Arrivals, key::number(3)));
    assert!(matches!(rebuild(empty_ledger(), &gap), Err(RebuildError::Arrival { position: 3, .. })));
}

/// What a host outside the electorate learns of one rollout, in the order in which it was made.
enum Learnt {
    Document(Value, muster_signing::Namespace),
    Decision(Decision),
    Envelope(Vec<u8>),
}

fn learnt() -> (Vec<Learnt>, Ledger) {
    let mut story = Story::as_host("h1", fleet_of(&HOSTS, all_at_once()));
    let fleet = story.fleet.clone();
    let id = story.release("v1");
    let reference = story.ledger.documents().channel_ref(&id.channel()).unwrap();
    let reference: Value = serde_json::from_slice(reference.bytes()).unwrap();
    for name in ["h1", "h2"] {
        story.join(&id, name);
    }
    story.rejects("h2", &id);
    story.plan();
    for name in ["h1", "h2"] {
        story.converges(name, &id);
    }
    story.reverts("h3", &id);
    story.plan();
    let mut all = vec![
        Learnt::Document(fleet, muster_signing::Namespace::Fleet),
        Learnt::Document(reference, muster_signing::Namespace::ChannelRef),
    ];
    all.extend(story.derived.iter().map(|derived| Learnt::Decision(derived.decision.clone())));
    let disk = Disk::of(&mut story.ledger);
    let feeds = disk.0.into_iter().filter(|((table, _), _)| *table == Table::Feeds);
    all.extend(feeds.map(|(_, envelope)| Learnt::Envelope(envelope)));
    (all, story.ledger)
}

/// Learns everything in an order; what cannot be taken in yet is tried again until all is.
fn learn(story: &Story, all: &[Learnt], order: &[usize]) -> (Ledger, Disk) {
    let mut ledger = empty_ledger();
    let mut rest: Vec<usize> = order.to_vec();
    while !rest.is_empty() {
        let before = rest.len();
        rest.retain(|at| match &all[*at] {
            Learnt::Document(document, namespace) => {
                match ledger.documents().check(&signed(*namespace, document), story.now) {
                    Ok(muster_core::document::Acceptance::New(accepted)) => {
                        ledger.document(accepted);
                        false
                    }
                    _ => true,
                }
            }
            Learnt::Decision(decision) => {
                let bytes = story.certificate(decision, &["h1", "h2"]);
                match verify::certificate(ledger.roster(), &bytes) {
                    Ok(certified) => !ledger.decision(&certified.certificate, &certified.decision),
                    Err(_) => true,
                }
            }
            Learnt::Envelope(bytes) => match verify::envelope(ledger.roster(), bytes) {
                Ok(envelope) => ledger.envelope(&envelope).is_err(),
                Err(_) => true,
            },
        });
        assert!(rest.len() < before, "nothing more can be learnt");
    }
    let disk = Disk::of(&mut ledger);
    (ledger, disk)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_comes_first_a_host_without_a_log_comes_to_the_same(
        seed in prop::collection::vec(any::<u32>(), 64)
    ) {
        let (all, leader) = learnt();
        let story = Story::as_host("h4", fleet_of(&HOSTS, all_at_once()));
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|at| seed[at % seed.len()]);
        let (ledger, disk) = learn(&story, &all, &order);
        prop_assert!(ledger.feeds().values().all(|feed| feed.backlog() == 0));
        let records = |ledger: &Ledger| ledger.records().cloned().collect::<Vec<_>>();
        prop_assert_eq!(records(&ledger), records(&leader));
        prop_assert_eq!(ledger.quarantines().count(), leader.quarantines().count() + 1);
        let states = |ledger: &Ledger| {
            ledger.rollouts().values().map(|it| (it.rollout_id.clone(), it.state)).collect::<Vec<_>>()
        };
        prop_assert_eq!(states(&ledger), states(&leader));
        let slots = |ledger: &Ledger| ledger.slots().hosts().cloned().collect::<Vec<_>>();
        prop_assert_eq!(slots(&ledger), slots(&leader));
        let (_, views) = rebuild(empty_ledger(), &disk).unwrap();
        prop_assert_eq!(views, disk.views());
    }

    #[test]
    fn bytes_from_anywhere_never_panic_at_the_front_door(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let (mut story, id) = simple();
        let derived = story.join(&id, "h1");
        let envelope = story.envelope("h1", begun()).bytes.clone();
        let certificate = story.certificate(&derived.decision, &["h1", "h2"]);
        let document = signed(muster_signing::Namespace::Fleet, &story.fleet).to_wire();
        let roster = story.ledger.roster().clone();
        let refused = |bytes: &[u8]| {
            let document = verify::document(bytes).is_err();
            let envelope = verify::envelope(&roster, bytes).is_err();
            let notice = verify::notice(&roster, bytes).is_err();
            let certificate = verify::certificate(&roster, bytes).is_err();
            let consensus = verify::consensus(&roster, &key_of("h2").public(), bytes).is_err();
            let message = verify::EndorsementMessage { decision: bytes.to_vec(), signature: muster_signing::Signature([7; 64]) };
            let endorsement = verify::endorsement(&roster, &key_of("h2").public(), &message).is_err();
            let payload = muster_core::wire::codec::decode::<muster_core::wire::LogPayload>("log entry", bytes).is_err();
            let entry = muster_core::coordination::log::Entry {
                at: story.now, id: None, term: 1, change: None, payload: bytes.to_vec(), chain_hash: [0; 32],
            };
            let mut ledger = story.ledger.clone();
            let _ = ledger.entry(ledger.applied() + 1, &entry);
            (document, envelope, notice, certificate, consensus, endorsement, payload)
        };
        refused(&bytes);
        for sound in [envelope, certificate, document] {
            let mut flipped = sound.clone();
            flipped[at.index(sound.len())] ^= flip;
            let (_, envelope, notice, certificate, ..) = refused(&flipped);
            prop_assert!(envelope && notice);
            // A certificate of three signatures survives the loss of one, not the change of what was signed.
            prop_assert!(certificate || flipped != sound);
            refused(&sound[..at.index(sound.len())]);
        }
    }
}

#[test]
fn an_equivocation_still_blocks_its_channel_after_a_restart() {
    let (mut story, _) = simple();
    let one = story.ref_document("stable", "v2", &[]);
    let other = with(one.clone(), &[("/ref", "v2b".into())]);
    let sign = |document: &Value| signed(muster_signing::Namespace::ChannelRef, document);
    story.accept(&sign(&one)).unwrap();
    let refusal = story.accept(&sign(&other)).unwrap_err();
    story.ledger.keep_equivocation(&refusal).unwrap();
    assert!(story.ledger.documents().is_blocked(&"stable".parse().unwrap()));
    let mut disk = Disk::of(&mut story.ledger);
    for (index, entry) in (1..).zip(&story.entries) {
        disk.0.insert((Table::Log, key::number(index)), muster_core::wire::codec::encode(entry));
    }
    let node = node("h4", &disk, story.now);
    assert!(node.0.ledger().documents().is_blocked(&"stable".parse().unwrap()));
}

#[test]
fn a_forked_feed_is_still_forked_after_a_restart() {
    let (mut story, id) = simple();
    let first = story.envelope("h1", event(&id, 1, 90));
    story.takes(&first).unwrap();
    let fork = story.envelope_at("h1", (1, 1, NO_HASH), event(&id, 1, 77));
    story.takes(&fork).unwrap_err();
    let mut disk = Disk::of(&mut story.ledger);
    for (index, entry) in (1..).zip(&story.entries) {
        disk.0.insert((Table::Log, key::number(index)), muster_core::wire::codec::encode(entry));
    }
    let node = node("h4", &disk, story.now);
    assert!(node.0.ledger().feed(&host("h1")).unwrap().is_forked());
}

#[test]
fn a_clearance_by_the_log_lifts_a_quarantine_for_the_gate_of_every_coordinator() {
    let (story, disk) = long_story();
    let id = rollout("stable@v1");
    let (again, _) = rebuild(empty_ledger(), &disk).unwrap();
    assert_eq!(again.quarantines().count(), 1);
    let held = story.asks(Gate::Quarantine, &id, "h3").unwrap_err();
    assert!(
        matches!(held, Reason::Quarantined { .. }),
        "clearing a rollout lifts no certified quarantine: {held}"
    );
}
