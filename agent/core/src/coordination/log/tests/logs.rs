//! How entries are stored, agreed on and committed.

use super::group::{Group, at, config, id};
use crate::coordination::log::{
    AppendAnswer, Body, Durable, Entry, Forward, Forwarded, Log, Outcome, PAYLOAD_BYTES_MAX, Proposal,
    ProposalId, ProposeError, Standing,
};
use crate::time::Mono;

#[test]
fn entry_is_committed_only_once_it_is_stored() {
    let mut log = Log::new(config(1, 0), Durable::default(), Mono(0));
    let started = log.tick(at(0));
    assert_eq!(log.stored(at(0), started.write.unwrap().id).committed.len(), 1);
    let (_, first) = log.propose(at(1), vec![b"a".to_vec()]).unwrap();
    let (_, second) = log.propose(at(1), vec![b"b".to_vec()]).unwrap();
    assert!(first.committed.is_empty() && second.committed.is_empty());
    let committed = log.stored(at(2), first.write.unwrap().id).committed;
    assert_eq!(committed.iter().map(|(_, entry)| entry.payload.as_slice()).collect::<Vec<_>>(), [b"a"]);
    assert_eq!(log.stored(at(2), second.write.unwrap().id).committed.len(), 1);
}

#[test]
fn proposals_reach_everybody_in_order() {
    let mut group = Group::led_by_first(5);
    for payload in [b"a", b"b", b"c"] {
        group.propose(0, payload);
    }
    group.deliver();
    for who in 0..5 {
        assert_eq!(group.payloads(who), [b"a", b"b", b"c"], "member {who}");
    }
    assert!(group.alarms.is_empty());
}

#[test]
fn time_in_the_log_never_goes_back() {
    let mut log = Log::new(config(1, 0), Durable::default(), Mono(0));
    let _ = log.tick(at(5_000));
    let mut now = at(6_000);
    now.utc = at(1_000).utc;
    let _ = log.propose(now, vec![b"a".to_vec()]).unwrap();
    assert_eq!(log.entry(2).unwrap().at, at(5_000).utc);
}

#[test]
fn entry_of_an_earlier_term_is_not_committed_by_counting() {
    let mut group = Group::led_by_first(3);
    group.propose(0, b"old");
    group.on_the_way.clear();
    let index = group.logs[0].last_index();
    group.elect_without(0, &[1, 2]);
    group.millis += 5_000;
    // The others vote for it, but nothing after the vote arrives.
    group.tick(0);
    group.tick(0);
    for _ in 0..2 {
        let asked: Vec<_> = group.on_the_way.drain(..).collect();
        asked.into_iter().for_each(|(from, to, message)| group.handle(to, from, message));
        let answered: Vec<_> = group.on_the_way.drain(..).collect();
        answered.into_iter().for_each(|(from, to, message)| group.handle(to, from, message));
    }
    assert_eq!(group.logs[0].standing(), Standing::Leader);
    group.on_the_way.clear();
    let commit = group.logs[0].commit();
    let term = group.logs[0].term();
    for from in [1, 2] {
        let outcome = Outcome::Stored { matched: index };
        let message = group.message(from, term, Body::AppendAnswer(AppendAnswer { sent: 0, outcome }));
        group.handle(0, from, message);
    }
    assert_eq!(group.logs[0].commit(), commit, "all three hold it, and still it may be overwritten");
    let outcome = Outcome::Stored { matched: index + 1 };
    let message = group.message(1, term, Body::AppendAnswer(AppendAnswer { sent: 0, outcome }));
    group.handle(0, 1, message);
    assert_eq!(group.logs[0].commit(), index + 1, "with an entry of the leader's own term it is");
}

#[test]
fn acknowledgement_that_comes_twice_triggers_nothing() {
    let mut group = Group::led_by_first(3);
    group.propose(0, b"a");
    group.deliver();
    let (term, matched) = (group.logs[0].term(), group.logs[0].last_index());
    let outcome = Outcome::Stored { matched };
    let message = group.message(1, term, Body::AppendAnswer(AppendAnswer { sent: 0, outcome }));
    group.handle(0, 1, message);
    assert!(group.on_the_way.is_empty());
}

#[test]
fn backing_up_takes_a_round_per_term_and_not_per_entry() {
    let mut group = Group::led_by_first(3);
    for number in 0..100u8 {
        group.propose(0, &[number]);
    }
    group.on_the_way.clear();
    group.elect_without(1, &[0]);
    for number in 0..100u8 {
        group.propose(1, &[number, number]);
        group.deliver_without(&[0]);
    }
    group.millis += 300;
    group.tick(1);
    let mut rounds = 0;
    while let Some((from, to, message)) = group.on_the_way.pop_front() {
        rounds += usize::from(from == 1 && to == 0);
        group.handle(to, from, message);
        group.tick(1);
    }
    assert_eq!(group.logs[0].last_index(), group.logs[1].last_index());
    assert!(rounds < 10, "{rounds} messages to the member that came back");
    assert_eq!(group.payloads(0), group.payloads(1));
}

#[test]
fn lost_batches_are_sent_again() {
    let mut group = Group::led_by_first(3);
    group.propose(0, b"a");
    group.on_the_way.clear();
    group.millis += 60;
    group.tick(0);
    group.deliver();
    assert_eq!(group.payloads(2), [b"a"]);
}

#[test]
fn forwarded_proposal_is_appended_once_however_often_it_arrives() {
    let mut group = Group::led_by_first(3);
    let now = group.now();
    let (ids, ready) = group.logs[1].forward(now, vec![b"mine".to_vec()]).unwrap();
    assert!(ready.messages.len() == 1);
    let (_, message) = ready.messages[0].clone();
    group.take(1, ready);
    group.handle(0, 1, message.clone());
    group.handle(0, 1, message);
    let mut told = Vec::new();
    while let Some((from, to, message)) = group.on_the_way.pop_front() {
        let now = group.now();
        let ready = group.logs[to].handle(now, id(from), message);
        told.extend(ready.forwarded.clone());
        group.take(to, ready);
    }
    assert_eq!(told, [(ids[0], Forwarded::Taken)]);
    assert_eq!(group.payloads(0), [b"mine"]);
    assert_eq!(group.payloads(1), [b"mine"]);
}

#[test]
fn nobody_proposes_in_anothers_name() {
    let mut group = Group::led_by_first(3);
    let last = group.logs[0].last_index();
    let stolen = ProposalId { boot: 1, member: id(2), counter: 1 };
    let forward = Forward { proposals: vec![Proposal { id: stolen, payload: b"x".to_vec() }] };
    let message = group.message(1, group.logs[0].term(), Body::Forward(forward));
    group.handle(0, 1, message);
    assert_eq!(group.logs[0].last_index(), last);
}

#[test]
fn too_much_is_refused() {
    let mut group = Group::led_by_first(3);
    let now = group.now();
    let long = vec![0; PAYLOAD_BYTES_MAX + 1];
    assert_eq!(
        group.logs[0].propose(now, vec![long]).unwrap_err(),
        ProposeError::TooLong(PAYLOAD_BYTES_MAX + 1)
    );
    assert_eq!(group.logs[0].propose(now, vec![Vec::new(); 2_000]).unwrap_err(), ProposeError::Full);
    assert_eq!(
        group.logs[1].propose(now, vec![]).unwrap_err(),
        ProposeError::NotLeader { leader: Some(id(0)) }
    );
    let longest = vec![1; PAYLOAD_BYTES_MAX];
    group.propose(0, &longest);
    group.deliver();
    assert!(group.payloads(2) == [longest.as_slice()]);
}

#[test]
fn restart_keeps_what_was_committed() {
    let mut group = Group::led_by_first(3);
    group.propose(0, b"a");
    group.deliver();
    (0..3).for_each(|who| group.restart(who));
    group.elect(2);
    assert_eq!(group.payloads(2), [b"a"]);
    assert!(group.alarms.is_empty());
}

#[test]
fn repeated_proposal_of_a_lying_leader_is_applied_once() {
    let mut group = Group::new(3);
    let id_of_both = ProposalId { boot: 1, member: id(1), counter: 7 };
    let first = Entry::following(&super::group::EPOCH, 1, Some(id_of_both), at(0).utc, b"a".to_vec());
    let second = Entry::following(&first.chain_hash, 1, Some(id_of_both), at(0).utc, b"a".to_vec());
    let mut append = group.append_after(0, 0, vec![first, second]);
    append.commit = 2;
    let message = group.message(1, 1, Body::Append(append));
    group.handle(0, 1, message);
    assert_eq!(group.logs[0].commit(), 2);
    assert_eq!(group.payloads(0), [b"a"]);
}
