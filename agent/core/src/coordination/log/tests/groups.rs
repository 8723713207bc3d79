//! How the electorate changes, how snapshots replace entries, and what one liar cannot do.

use super::group::{EPOCH, Group, at, config, id, store};
use crate::coordination::log::{
    Alarm, CompactError, Durable, Echo, ElectorateStep, Entry, Log, MemberId, Membership, Operation,
    Standing, Tolerance,
};
use crate::time::Mono;
use std::collections::BTreeSet;

fn ids(numbers: &[usize]) -> BTreeSet<MemberId> {
    numbers.iter().copied().map(id).collect()
}

/// A group of which only the first `founders` members vote; everybody knows everybody.
fn group_of(count: usize, founders: usize) -> Group {
    let mut group = Group::new(count);
    for who in 0..count {
        let mut config = config(count, who);
        config.electorate = (0..founders).map(id).collect();
        group.logs[who] = Log::new(config, Durable::default(), Mono(0));
        group.logs[who].acquaint((0..count).map(id).collect());
        group.disks[who] = Durable::default();
    }
    group.on_the_way.clear();
    (0..count).for_each(|who| group.tick(who));
    group.elect(0);
    group
}

fn aim(group: &mut Group, target: &[usize]) {
    for who in 0..group.logs.len() {
        let now = group.now();
        let ready = group.logs[who].aim_for(now, ids(target));
        group.take(who, ready);
    }
    for _ in 0..40 {
        group.deliver();
        group.millis += 60;
        (0..group.logs.len()).for_each(|who| group.tick(who));
    }
    group.deliver();
}

fn leader(group: &Group) -> usize {
    (0..group.logs.len()).find(|who| group.logs[*who].standing() == Standing::Leader).unwrap()
}

#[test]
fn quorums_of_neighbouring_electorates_share_more_members_than_may_lie() {
    for tolerance in [Tolerance::Crash, Tolerance::Lies] {
        for voters in 1..=14_usize {
            for next in [voters, voters + 1] {
                let shared = (tolerance.quorum(voters) + tolerance.quorum(next)).saturating_sub(next);
                assert!(shared > tolerance.faults(voters), "{tolerance:?}: {voters} and {next}");
            }
        }
    }
    let sizes = |tolerance: Tolerance| (1..=7).map(|n| tolerance.quorum(n)).collect::<Vec<_>>();
    assert_eq!(sizes(Tolerance::Crash), [1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(sizes(Tolerance::Lies), [1, 2, 2, 3, 4, 4, 5]);
}

#[test]
fn steps_that_make_no_sense_change_nothing() {
    let mut group = Membership::of_voters(ids(&[0]));
    for step in [
        ElectorateStep::Remove(id(0)),
        ElectorateStep::Remove(id(5)),
        ElectorateStep::Promote(id(1)),
        ElectorateStep::AddLearner(id(0)),
    ] {
        assert_eq!(group.after(step), None, "{step:?}");
    }
    for number in 1..40 {
        group = group.after(ElectorateStep::AddLearner(id(number))).unwrap_or(group);
    }
    assert_eq!(group.members().count(), crate::coordination::log::MEMBERS_MAX);
}

#[test]
fn chain_hash_covers_the_step() {
    let plain = Entry::following(&EPOCH, 1, None, at(0).utc, Vec::new());
    let add = plain.clone().stepping(&EPOCH, ElectorateStep::AddLearner(id(1)));
    let remove = plain.clone().stepping(&EPOCH, ElectorateStep::Remove(id(1)));
    assert!(plain.chain_hash != add.chain_hash && add.chain_hash != remove.chain_hash);
}

#[test]
fn leader_walks_to_other_voters_and_goes_last() {
    let mut group = group_of(5, 3);
    group.propose(0, b"a");
    aim(&mut group, &[2, 3, 4]);
    assert_eq!(group.logs[0].standing(), Standing::Follower, "it removed itself and stepped down");
    group.millis += 2_000;
    (2..5).for_each(|who| group.tick(who));
    group.deliver();
    group.millis += 1_000;
    (2..5).for_each(|who| group.tick(who));
    group.deliver();
    let leader = leader(&group);
    assert!(leader >= 2);
    assert_eq!(group.logs[leader].committed_membership(), &Membership::of_voters(ids(&[2, 3, 4])));
    group.propose(leader, b"b");
    group.deliver_without(&[0, 1]);
    assert_eq!(group.payloads(leader), [b"a", b"b"]);
    assert!(group.alarms.is_empty());
}

#[test]
fn one_voter_at_a_time_comes_and_each_is_up_to_date_first() {
    let mut group = group_of(4, 1);
    for number in 0..100 {
        group.propose(0, &[number]);
    }
    aim(&mut group, &[0, 1, 2, 3]);
    let steps: Vec<_> = group.committed[0].iter().filter_map(|entry| entry.change).collect();
    let place = |step: ElectorateStep| steps.iter().position(|it| *it == step).unwrap();
    for who in (1..4).map(id) {
        assert!(place(ElectorateStep::AddLearner(who)) < place(ElectorateStep::Promote(who)));
    }
    assert_eq!(steps.len(), 6);
    assert_eq!(group.payloads(3).len(), 100);
}

#[test]
fn learner_that_is_down_never_becomes_a_voter() {
    let mut group = group_of(3, 2);
    let now = group.now();
    let ready = group.logs[0].aim_for(now, ids(&[0, 1, 2]));
    group.take(0, ready);
    for _ in 0..20 {
        group.deliver_without(&[2]);
        group.millis += 200;
        group.tick(0);
    }
    assert_eq!(group.logs[0].membership().learners, ids(&[2]));
    assert_eq!(group.logs[0].membership().voters, ids(&[0, 1]));
    group.propose(0, b"a");
    group.deliver_without(&[2]);
    assert_eq!(group.payloads(1), [b"a"], "and holds nobody up");
}

#[test]
fn member_whose_disk_is_full_hands_over_and_does_not_stand() {
    let mut group = Group::led_by_first(3);
    let now = group.now();
    let ready = group.logs[0].can_write(now, false);
    group.take(0, ready);
    group.deliver();
    let other = leader(&group);
    assert_ne!(other, 0);
    group.millis += 5_000;
    group.tick(0);
    assert_eq!((group.logs[0].standing(), group.logs[0].wakes_at()), (Standing::Follower, None));
    let now = group.now();
    let ready = group.logs[0].can_write(now, true);
    group.take(0, ready);
    assert!(group.logs[0].wakes_at().is_some(), "with room again it stands for election as before");
}

#[test]
fn whoever_lacks_what_is_compacted_gets_the_state_in_chunks_and_goes_on() {
    let mut group = Group::led_by_first(3);
    group.propose(0, b"a");
    group.propose(0, b"b");
    group.deliver_without(&[2]);
    let state = vec![5; 700_000];
    let index = group.logs[0].commit();
    let ready = group.logs[0].compact(index, state.clone()).unwrap();
    group.take(0, ready);
    assert_eq!(group.logs[0].first_index(), index + 1);
    let mut installed = None;
    for _ in 0..20 {
        while let Some((from, to, message)) = group.on_the_way.pop_front() {
            let now = group.now();
            let ready = group.logs[to].handle(now, id(from), message);
            installed = ready.installed.clone().or(installed);
            group.take(to, ready);
        }
        group.millis += 300;
        group.tick(0);
    }
    assert_eq!(installed.map(|it| (it.index, it.state)), Some((index, state.clone())));
    group.propose(0, b"c");
    group.deliver();
    assert_eq!(group.payloads(2), [b"c"]);
    group.restart(2);
    assert_eq!(group.logs[2].first_index(), index + 1);
    assert_eq!(group.disks[2].snapshot.as_ref().unwrap().state, state);
    assert!(group.alarms.is_empty(), "{:?}", group.alarms);
}

#[test]
fn only_what_was_applied_is_compacted() {
    let mut group = Group::led_by_first(3);
    let index = group.logs[0].commit();
    group.propose(0, b"a");
    let refused = group.logs[0].compact(index + 1, Vec::new()).unwrap_err();
    assert_eq!(refused, CompactError::NotApplied { index: index + 1, applied: index });
}

#[test]
fn member_restarts_from_its_snapshot_with_electorate_and_entries_behind() {
    let mut group = group_of(3, 2);
    aim(&mut group, &[0, 1, 2]);
    group.propose(0, b"a");
    group.deliver();
    let index = group.logs[1].commit() - 1;
    let ready = group.logs[1].compact(index, vec![1]).unwrap();
    let kept: Vec<_> = ready.write.iter().flat_map(|write| &write.operations).collect();
    assert!(matches!(kept.as_slice(), [Operation::Compact(snapshot)] if snapshot.index == index));
    kept.into_iter().for_each(|operation| store(&mut group.disks[1], operation));
    let mut config = config(3, 1);
    config.electorate = ids(&[0, 1]);
    let log = Log::new(config, group.disks[1].clone(), Mono(0));
    assert_eq!(log.membership(), &Membership::of_voters(ids(&[0, 1, 2])));
    assert_eq!((log.first_index(), log.last_index(), log.commit()), (index + 1, index + 1, index));
    assert!(!log.is_stopped());
}

#[test]
fn as_many_as_may_lie_stop_nobody_by_a_false_memory() {
    let mut group = Group::new(4);
    let mut config = config(4, 0);
    config.tolerance = Tolerance::Lies;
    group.logs[0] = Log::new(config, Durable::default(), Mono(0));
    group.disks[0] = Durable::default();
    group.tick(0);
    let store = group.disks[0].hard_state.store;
    let lie = Echo { boot: 1, term: 9, index: 99, store };
    for (from, stopped) in [(1, false), (1, false), (2, true)] {
        let mut message = group.message(
            from,
            0,
            crate::coordination::log::Body::TimeoutNow(crate::coordination::log::TimeoutNow {}),
        );
        message.echo = Some(lie);
        group.handle(0, from, message);
        assert_eq!(group.logs[0].is_stopped(), stopped, "after member {from}");
    }
    let of_me = |alarm: &Alarm| matches!(alarm, Alarm::DiskPutBack { member, .. } if *member == id(0));
    assert_eq!(group.alarms.iter().filter(|alarm| of_me(alarm)).count(), 2, "each says so once");
}
