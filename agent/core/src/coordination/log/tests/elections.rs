//! Who gets elected, and who does not.

use super::group::{Group, at, config, id};
use crate::coordination::log::{Body, Candidacy, Durable, Log, Message, Standing, Tolerance};
use crate::time::Mono;

fn candidacy(group: &Group, from: usize, term: u64, forced: bool) -> Message {
    let log = &group.logs[from];
    let last_index = log.last_index();
    let last_term = log.entry(last_index).map_or(0, |entry| entry.term);
    group.message(from, term, Body::Vote(Candidacy { forced, last_term, last_index }))
}

/// Whether the member's only answer grants a vote.
fn grants(group: &mut Group, who: usize, from: usize, message: Message) -> bool {
    group.on_the_way.clear();
    group.handle(who, from, message);
    group.on_the_way.drain(..).any(|(_, _, message)| {
        let (Body::VoteAnswer(ballot) | Body::PreVoteAnswer(ballot)) = message.body else { return false };
        ballot.granted
    })
}

#[test]
fn single_member_elects_itself_on_its_first_tick() {
    let mut log = Log::new(config(1, 0), Durable::default(), Mono(0));
    assert!(log.tick(at(0)).write.is_some());
    assert_eq!(log.standing(), Standing::Leader);
    assert_eq!(log.wakes_at(), None);
}

#[test]
fn member_votes_once_in_a_term_even_across_a_restart() {
    let mut group = Group::new(3);
    let (first, second) = (candidacy(&group, 1, 5, false), candidacy(&group, 2, 5, false));
    assert!(grants(&mut group, 0, 1, first.clone()));
    assert!(!grants(&mut group, 0, 2, second.clone()));
    group.restart(0);
    assert!(!grants(&mut group, 0, 2, second));
    assert!(grants(&mut group, 0, 1, first), "the same candidate may ask again");
}

#[test]
fn candidate_with_an_older_log_gets_no_vote() {
    let mut group = Group::led_by_first(3);
    group.propose(0, b"a");
    group.deliver_without(&[2]);
    group.millis += 2_000;
    let behind = candidacy(&group, 2, 9, false);
    assert!(!grants(&mut group, 1, 2, behind));
    let ahead = candidacy(&group, 0, 10, false);
    assert!(grants(&mut group, 1, 0, ahead));
}

#[test]
fn member_that_hears_its_leader_refuses_others_unless_the_leader_asked_for_it() {
    let mut group = Group::led_by_first(3);
    let term = group.logs[0].term();
    let unasked = candidacy(&group, 2, term + 1, false);
    assert!(!grants(&mut group, 1, 2, unasked));
    assert_eq!(group.logs[1].term(), term, "nor does the term change");
    let mut pre_vote = candidacy(&group, 2, term, false);
    let Body::Vote(body) = pre_vote.body else { panic!("a vote was made") };
    pre_vote.body = Body::PreVote(body);
    assert!(!grants(&mut group, 1, 2, pre_vote));
    let asked = candidacy(&group, 2, term + 1, true);
    assert!(grants(&mut group, 1, 2, asked));
}

#[test]
fn pre_candidate_changes_no_term() {
    let mut group = Group::led_by_first(3);
    let term = group.logs[1].term();
    group.millis += 2_000;
    group.tick(1);
    assert_eq!(group.logs[1].standing(), Standing::PreCandidate);
    assert_eq!(group.logs[1].term(), term);
}

#[test]
fn leader_that_hears_no_quorum_steps_down() {
    let mut group = Group::led_by_first(5);
    group.millis += 900;
    group.tick(0);
    assert_eq!(group.logs[0].standing(), Standing::Leader);
    group.millis += 200;
    group.tick(0);
    assert_eq!(group.logs[0].standing(), Standing::Follower);
}

#[test]
fn closed_connections_count_as_not_heard_at_once() {
    let mut group = Group::led_by_first(3);
    let (now, leader) = (group.now(), id(0));
    let ready = group.logs[1].disconnected(now, leader);
    group.take(1, ready);
    let ready = group.logs[2].disconnected(now, leader);
    group.take(2, ready);
    assert!(group.logs[1].wakes_at().unwrap().since(now.mono).as_millis() < 100);
    group.millis += 100;
    group.tick(1);
    group.deliver_without(&[0]);
    assert_eq!(group.logs[1].standing(), Standing::Leader);

    let now = group.now();
    for other in [0, 2] {
        let ready = group.logs[1].disconnected(now, id(other));
        group.take(1, ready);
    }
    group.tick(1);
    assert_eq!(group.logs[1].standing(), Standing::Follower, "a leader without connections leads nobody");
}

#[test]
fn leader_that_shuts_down_hands_over_without_a_pause() {
    let mut group = Group::led_by_first(3);
    let now = group.now();
    let ready = group.logs[0].hand_over(now);
    group.take(0, ready);
    assert!(group.logs[0].propose(now, vec![b"late".to_vec()]).is_err());
    group.deliver();
    assert_eq!(group.logs[0].standing(), Standing::Follower);
    assert!((1..3).any(|who| group.logs[who].standing() == Standing::Leader));
}

#[test]
fn votes_of_every_quorum_size_are_counted() {
    for (count, quorum) in [(4, 3), (5, 4), (7, 5)] {
        let mut group = Group::new(count);
        let mut config = config(count, 0);
        config.tolerance = Tolerance::Lies;
        group.logs[0] = Log::new(config, Durable::default(), Mono(0));
        let cut_off: Vec<usize> = (quorum - 1..count).filter(|who| *who != 0).collect();
        group.elect_without(0, &cut_off);
        assert_ne!(group.logs[0].standing(), Standing::Leader, "{} of {count} are too few", quorum - 1);
        group.elect_without(0, &cut_off[1..]);
        assert_eq!(group.logs[0].standing(), Standing::Leader, "{quorum} of {count} suffice");
    }
}
