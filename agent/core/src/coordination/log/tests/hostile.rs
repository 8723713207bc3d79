//! What broken disks and lying members cause: alarms, never a wrong step and never a panic.

use super::group::{EPOCH, Group, at, id};
use crate::coordination::log::message::encode;
use crate::coordination::log::{
    Alarm, Append, AppendAnswer, Ballot, Body, Candidacy, DecodeError, Durable, Echo, ElectorateStep, Entry,
    Forward, ForwardAnswer, MESSAGE_BYTES_MAX, MESSAGE_ENTRIES_MAX, Membership, Message, Outcome,
    PAYLOAD_BYTES_MAX, Proposal, ProposalId, Snapshot, SnapshotAnswer, SnapshotChunk, TimeoutNow,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn entry_after(previous: &[u8; 32], term: u64, payload: &[u8]) -> Entry {
    let id = ProposalId { boot: 1, member: id(1), counter: u64::from(payload.first().copied().unwrap_or(0)) };
    Entry::following(previous, term, Some(id), at(1_000_000).utc, payload.to_vec())
}

#[test]
fn another_logs_messages_are_refused_with_an_alarm() {
    let mut group = Group::new(3);
    let mut message = group.message(1, 5, Body::TimeoutNow(TimeoutNow {}));
    message.epoch = [1; 32];
    group.handle(0, 1, message);
    assert_eq!(group.alarms, [Alarm::OtherEpoch { from: id(1), epoch: [1; 32] }]);
    assert_eq!(group.logs[0].term(), 0);
}

#[test]
fn strangers_are_ignored_whatever_they_say() {
    let mut group = Group::new(3);
    let mut message = group.message(1, 5, Body::TimeoutNow(TimeoutNow {}));
    message.epoch = [1; 32];
    for stranger in [id(7), id(0)] {
        assert!(!group.logs[0].admits(&stranger));
        assert!(group.logs[0].handle(at(1), stranger, message.clone()).is_empty());
    }
}

#[test]
fn terms_cannot_be_used_up_by_one_message() {
    let mut group = Group::new(3);
    let message = group.message(1, u64::MAX, Body::TimeoutNow(TimeoutNow {}));
    group.handle(0, 1, message);
    assert_eq!(group.alarms, [Alarm::TermJump { from: id(1), term: u64::MAX }]);
}

#[test]
fn another_chain_hash_at_one_index_and_term_stops_the_member() {
    let mut group = Group::led_by_first(3);
    group.elect(1);
    let (term, index) = (group.logs[1].term(), group.logs[0].last_index());
    let mut append = group.append_after(0, index, Vec::new());
    append.prev_hash = [3; 32];
    let message = group.message(1, term, Body::Append(append));
    group.handle(0, 1, message);
    let ours = group.logs[0].entry(index).unwrap().chain_hash;
    assert_eq!(group.alarms, [Alarm::Diverged { leader: id(1), index, ours, theirs: [3; 32] }]);
    assert!(group.logs[0].is_stopped() && group.on_the_way.is_empty());
    group.millis += 10_000;
    group.tick(0);
    assert!(group.on_the_way.is_empty(), "it does not stand for election either");
}

#[test]
fn leader_that_lacks_what_is_committed_stops_the_member() {
    let mut group = Group::led_by_first(3);
    let commit = group.logs[1].commit();
    assert!(commit > 0);
    let entry = entry_after(&EPOCH, 9, b"other");
    let append = group.append_after(1, 0, vec![entry]);
    let message = group.message(2, 9, Body::Append(append));
    group.handle(1, 2, message);
    let ours = group.logs[1].entry(1).unwrap().term;
    assert_eq!(group.alarms, [Alarm::CommittedContradicted { leader: id(2), index: 1, ours, theirs: 9 }]);
    assert!(group.logs[1].is_stopped());
}

#[test]
fn entries_that_do_not_follow_are_not_stored() {
    let base = entry_after(&EPOCH, 2, b"a");
    let mut forged = base.clone();
    forged.payload = b"b".to_vec();
    let future = entry_after(&EPOCH, 3, b"a");
    let mut early = entry_after(&base.chain_hash, 2, b"b");
    early.at = at(0).utc;
    early.chain_hash = early.chain_hash_after(&base.chain_hash);
    for entries in [vec![forged], vec![future], vec![base, early]] {
        let mut group = Group::new(3);
        let index = entries.len() as u64;
        let append = group.append_after(0, 0, entries);
        let message = group.message(1, 2, Body::Append(append));
        group.handle(0, 1, message);
        assert_eq!(group.alarms, [Alarm::BadAppend { from: id(1), index }]);
        assert_eq!(group.logs[0].last_index(), 0);
        assert!(group.on_the_way.is_empty());
    }
}

#[test]
fn two_heads_for_one_place_prove_a_lie() {
    let mut group = Group::new(3);
    for payload in [b"a", b"b"] {
        let append = group.append_after(0, 0, vec![entry_after(&EPOCH, 2, payload)]);
        let mut message = group.message(1, 2, Body::Append(append));
        message.set_signature(payload.to_vec());
        group.handle(0, 1, message);
    }
    let [Alarm::LyingLeader { first, second }] = group.alarms.as_slice() else {
        panic!("{:?}", group.alarms)
    };
    assert_eq!((first.signature.as_deref(), second.signature.as_deref()), (Some(&b"a"[..]), Some(&b"b"[..])));
    assert_eq!(first.head.last_index, second.head.last_index);
    assert_ne!(first.head.to_bytes(), second.head.to_bytes());
    assert_eq!(group.logs[0].entry(1).unwrap().payload, b"a");
}

#[test]
fn second_leader_of_a_term_is_an_alarm() {
    let mut group = Group::led_by_first(3);
    let term = group.logs[0].term();
    for who in [0, 1] {
        let append = group.append_after(who, 0, Vec::new());
        let message = group.message(2, term, Body::Append(append));
        group.handle(who, 2, message);
    }
    let alarm = Alarm::TwoLeaders { term, known: id(0), other: id(2) };
    assert_eq!(group.alarms, [alarm.clone(), alarm]);
}

#[test]
fn disk_put_back_is_noticed_and_neither_votes_nor_acknowledges() {
    let mut group = Group::led_by_first(3);
    let backup = group.disks[2].clone();
    group.propose(0, b"a");
    group.deliver();
    let lost = Durable::default();
    for disk in [backup, lost] {
        group.disks[2] = disk;
        group.alarms.clear();
        group.restart(2);
        group.millis += 300;
        group.tick(0);
        group.on_the_way.retain(|(_, to, _)| *to == 2);
        group.deliver();
        let [Alarm::DiskPutBack { member, remembered, found }] = group.alarms.as_slice() else {
            panic!("{:?}", group.alarms)
        };
        assert_eq!(*member, id(2));
        assert!(remembered.index > found.index || remembered.store != found.store);
        assert!(group.logs[2].is_stopped());
    }
}

#[test]
fn votes_of_a_replaced_store_do_not_count() {
    let mut group = Group::led_by_first(3);
    group.disks[2] = Durable::default();
    group.disks[2].hard_state.store = 77;
    let term = group.logs[0].term();
    let body = Body::AppendAnswer(AppendAnswer { sent: 0, outcome: Outcome::Stored { matched: 1 } });
    let message = group.message(2, term, body);
    group.handle(0, 2, message.clone());
    group.handle(0, 2, message);
    assert!(matches!(group.alarms.as_slice(), [Alarm::DiskPutBack { member, .. }] if *member == id(2)));
}

#[test]
fn store_whose_entries_do_not_follow_stops_the_member() {
    let mut group = Group::led_by_first(3);
    group.propose(0, b"a");
    group.deliver();
    group.disks[1].entries[1].1.payload = b"b".to_vec();
    group.restart(1);
    assert_eq!(group.alarms, [Alarm::StoreDamaged { index: 2 }]);
    assert!(group.logs[1].is_stopped());
}

#[test]
fn head_is_signed_as_deterministic_cbor() {
    let group = Group::new(3);
    let entry = entry_after(&EPOCH, 2, b"a");
    let chain_hash = entry.chain_hash;
    let message = group.message(1, 2, Body::Append(group.append_after(0, 0, vec![entry])));
    let mut expected = vec![0xa4, 0x64];
    expected.extend(b"term\x02\x65epoch\x58\x20");
    expected.extend(EPOCH);
    expected.extend(b"\x6achain_hash\x58\x20");
    expected.extend(chain_hash);
    expected.extend(b"\x6alast_index\x01");
    assert_eq!(message.head_bytes().unwrap(), expected);
    assert!(group.message(1, 2, Body::TimeoutNow(TimeoutNow {})).head_bytes().is_none());
}

#[test]
fn oversized_messages_are_refused() {
    let group = Group::new(3);
    let decode = |append: Append| Message::decode(&group.message(1, 2, Body::Append(append)).encode());
    let small = entry_after(&EPOCH, 2, b"a");
    let entries = vec![small; MESSAGE_ENTRIES_MAX + 1];
    assert!(matches!(decode(group.append_after(0, 0, entries)), Err(DecodeError::TooManyEntries(65))));
    let long = entry_after(&EPOCH, 2, &vec![0; PAYLOAD_BYTES_MAX + 1]);
    assert!(matches!(decode(group.append_after(0, 0, vec![long])), Err(DecodeError::PayloadTooLong(_))));
    assert!(matches!(Message::decode(&vec![0; MESSAGE_BYTES_MAX + 1]), Err(DecodeError::TooLong(_))));
    let mut bytes = group.message(1, 2, Body::TimeoutNow(TimeoutNow {})).encode();
    bytes.push(0);
    assert!(matches!(Message::decode(&bytes), Err(DecodeError::Trailing(1))));
    let fullest = vec![entry_after(&EPOCH, 2, &vec![1; PAYLOAD_BYTES_MAX / 64]); MESSAGE_ENTRIES_MAX];
    assert!(decode(group.append_after(0, 0, fullest)).is_ok(), "the limits leave room for what is allowed");
}

fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![0..6u64, Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 24)]
}

fn entry() -> impl Strategy<Value = Entry> {
    let step = proptest::option::weighted(0.3, step());
    (number(), proptest::option::of(number()), any::<[u8; 2]>(), step).prop_map(
        |(term, counter, payload, step)| {
            let id = counter.map(|counter| ProposalId { boot: 1, member: id(1), counter });
            let entry = Entry::following(&EPOCH, term, id, at(0).utc, payload.to_vec());
            step.map_or(entry.clone(), |step| entry.stepping(&EPOCH, step))
        },
    )
}

fn step() -> impl Strategy<Value = ElectorateStep> {
    (0..3, 0..5usize).prop_map(|(kind, who)| match kind {
        0 => ElectorateStep::AddLearner(id(who)),
        1 => ElectorateStep::Promote(id(who)),
        _ => ElectorateStep::Remove(id(who)),
    })
}

/// Whole snapshots in one chunk, and chunks of nothing.
fn chunk() -> impl Strategy<Value = SnapshotChunk> {
    let recent = proptest::collection::vec(number(), 0..2);
    (number(), number(), number(), recent, any::<bool>(), 0..5usize).prop_map(
        |(term, index, offset, recent, whole, voters)| {
            let of_self = |counter| ProposalId { boot: 1, member: id(1), counter };
            let snapshot = Snapshot {
                at: at(0).utc,
                term,
                index,
                state: vec![1],
                recent: recent.into_iter().map(|at| (of_self(at), at)).collect(),
                chain_hash: EPOCH,
                membership: Membership::of_voters((0..voters).map(id).collect()),
            };
            let data = encode(&snapshot);
            let digest = Sha256::digest(&data).into();
            let (offset, total) = if whole { (0, data.len() as u64) } else { (offset, term) };
            SnapshotChunk { data, sent: 0, index, total, digest, offset }
        },
    )
}

fn append() -> impl Strategy<Value = Append> {
    let numbers = (number(), number(), number(), number(), number());
    (numbers, proptest::collection::vec(entry(), 0..3)).prop_map(|(numbers, entries)| {
        let (sent, commit, prev_term, prev_index, round_trip) = numbers;
        Append { sent, commit, entries, prev_hash: EPOCH, prev_term, signature: None, prev_index, round_trip }
    })
}

fn body() -> impl Strategy<Value = Body> {
    let candidacy = (any::<bool>(), number(), number())
        .prop_map(|(forced, last_term, last_index)| Candidacy { forced, last_term, last_index });
    let ballot = (number(), any::<bool>()).prop_map(|(term, granted)| Ballot { term, granted });
    let stored = (number(), number())
        .prop_map(|(sent, matched)| AppendAnswer { sent, outcome: Outcome::Stored { matched } });
    let refused = (number(), number(), number()).prop_map(|(prev, hint, hint_term)| AppendAnswer {
        sent: 0,
        outcome: Outcome::Refused { prev, hint, hint_term },
    });
    let proposal = |counter| ProposalId { boot: 1, member: id(1), counter };
    prop_oneof![
        candidacy.clone().prop_map(Body::PreVote),
        candidacy.prop_map(Body::Vote),
        ballot.clone().prop_map(Body::PreVoteAnswer),
        ballot.prop_map(Body::VoteAnswer),
        append().prop_map(Body::Append),
        stored.prop_map(Body::AppendAnswer),
        refused.prop_map(Body::AppendAnswer),
        number().prop_map(move |counter| {
            Body::Forward(Forward { proposals: vec![Proposal { id: proposal(counter), payload: vec![1] }] })
        }),
        number()
            .prop_map(move |counter| Body::ForwardAnswer(ForwardAnswer { taken: vec![proposal(counter)] })),
        Just(Body::TimeoutNow(TimeoutNow {})),
        chunk().prop_map(Body::Snapshot),
        (number(), number()).prop_map(|(sent, received)| {
            Body::SnapshotAnswer(SnapshotAnswer { sent, digest: EPOCH, received })
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let echo = proptest::option::weighted(0.1, (number(), number(), number()));
    (body(), number(), echo).prop_map(|(body, term, echo)| {
        let echo = echo.map(|(boot, term, index)| Echo { boot, term, index, store: 1 });
        Message { body, boot: 1, echo, term, epoch: EPOCH, store: 1, to: id(0), life: None }
    })
}

proptest! {
    #[test]
    fn no_sequence_of_messages_makes_a_member_panic(
        leads: bool,
        messages in proptest::collection::vec((1..3usize, message()), 1..40),
    ) {
        let mut group = if leads { Group::led_by_first(3) } else { Group::new(3) };
        for (from, mut message) in messages {
            message.store = group.disks[from].hard_state.store;
            group.millis += 40;
            group.handle(0, from, message);
            group.tick(0);
            group.on_the_way.clear();
        }
    }

    #[test]
    fn message_survives_its_encoding(message in message()) {
        prop_assert_eq!(Message::decode(&message.encode()).unwrap(), message);
    }

    #[test]
    fn no_bytes_make_decoding_panic(message in message(), flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6), cut: usize) {
        let mut bytes = message.encode();
        for (place, value) in flips {
            let place = place % bytes.len();
            bytes[place] = value;
        }
        bytes.truncate(cut % (bytes.len() + 1));
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn no_random_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Message::decode(&bytes).is_err());
    }
}
