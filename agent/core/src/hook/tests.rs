//! Which calls become due when, and what is told of what was learnt.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use muster_signing::Digest;
use proptest::prelude::*;

use super::*;
use crate::host::Record;
use crate::id::{HostId, RolloutId};
use crate::time::{Mono, Now};
use crate::wire::{
    Decision, DecisionBody, Envelope, EnvelopeRef, FeedBody, HealthPolicy, HostEvent, HostEventKind,
    RolloutState, codec,
};

fn now(secs: u64) -> Now {
    let utc = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
    Now { utc: utc + TimeDelta::seconds(i64::try_from(secs).unwrap()), mono: Mono(secs * 1_000_000) }
}

fn policy(tries: u32) -> Policy {
    Policy { events: Event::ALL.into(), tries }
}

fn occurrence(number: u64, at: DateTime<Utc>) -> Occurrence {
    Occurrence {
        id: format!("host-failed:event:beta:1:{number}"),
        event: Event::HostFailed,
        at,
        rollout: None,
        host: None,
        closure: None,
        reason: None,
    }
}

fn line(count: u64) -> Line {
    let mut line = Line::new(now(0).utc, 0);
    line.learnt(&policy(3), now(0).utc, count, (0..count).map(|number| occurrence(number, now(0).utc)));
    line
}

/// What the store gives back after a crash.
fn restarted(line: &Line) -> Line {
    codec::decode("line", &codec::encode(line)).unwrap()
}

fn ids<'a>(of: impl Iterator<Item = &'a Occurrence>) -> Vec<&'a str> {
    of.map(|it| it.id.rsplit(':').next().unwrap()).collect()
}

#[test]
fn one_call_is_under_way_at_a_time_and_they_go_in_order() {
    let mut line = line(2);
    let first = line.begin(&policy(3), now(0)).unwrap();
    assert_eq!((first.occurrence.id.as_str(), first.number), ("host-failed:event:beta:1:0", 1));
    assert_eq!((line.due(Mono(0)), line.begin(&policy(3), now(0))), (Due::Nothing, None));
    line.end(&policy(3), now(1), Ok(()));
    assert_eq!(line.begin(&policy(3), now(1)).unwrap().occurrence.id, "host-failed:event:beta:1:1");
    line.end(&policy(3), now(1), Ok(()));
    // An answer to what is over changes nothing.
    line.end(&policy(3), now(1), Err("late".to_owned()));
    assert_eq!((line.due(Mono(0)), line.delivered(), line.failing()), (Due::Nothing, 2, None));
}

#[test]
fn each_failure_doubles_the_wait_up_to_ten_minutes_and_the_last_try_gives_up() {
    let patient = policy(14);
    let mut line = line(2);
    let mut at = 0;
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600] {
        line.begin(&patient, now(at)).unwrap();
        line.end(&patient, now(at), Err("refused".to_owned()));
        assert_eq!(line.due(now(at).mono), Due::At(now(at + wait).mono));
        at += wait;
        assert_eq!(line.due(now(at).mono), Due::Now);
    }
    assert_eq!(line.begin(&patient, now(at)).unwrap().number, 14);
    line.end(&patient, now(at), Err("refused".to_owned()));
    let dead: Vec<_> = line.dead().map(|dead| (dead.tries, dead.reason.as_str())).collect();
    assert_eq!((dead, line.given_up(), line.failures()), (vec![(14, "refused")], 1, 14));
    // The next one is not made to wait for the failures of this one.
    assert_eq!(line.begin(&patient, now(at)).unwrap().number, 1);
}

#[test]
fn a_call_is_given_up_after_a_day_however_many_tries_are_left() {
    let mut line = line(1);
    line.begin(&policy(100), now(0)).unwrap();
    line.end(&policy(100), now(0), Err("refused".to_owned()));
    let later = now(24 * 3600);
    // The agent was off meanwhile; the call is made once more.
    let mut line = restarted(&line);
    assert_eq!(line.begin(&policy(100), later).unwrap().number, 2);
    line.end(&policy(100), later, Err("refused".to_owned()));
    assert_eq!((line.pending().len(), line.dead().len()), (0, 1));
}

#[test]
fn a_crash_in_the_middle_of_a_call_repeats_it_and_counts_as_a_try() {
    let mut line = line(2);
    for number in 1..=3 {
        assert_eq!(line.begin(&policy(3), now(0)).unwrap().number, number);
        line = restarted(&line);
    }
    let next = line.begin(&policy(3), now(0)).unwrap();
    assert_eq!((next.occurrence.id.as_str(), next.number), ("host-failed:event:beta:1:1", 1));
    assert_eq!(line.dead().next().unwrap().reason, "the agent ended while it made the last try");
}

#[test]
fn more_calls_than_fit_push_out_the_oldest_but_never_the_one_under_way() {
    for under_way in [false, true] {
        let mut line = line(PENDING_MAX as u64);
        if under_way {
            line.begin(&policy(3), now(0)).unwrap();
        }
        let more = (0..DEAD_MAX as u64 + 5).map(|number| occurrence(1000 + number, now(0).utc));
        line.learnt(&policy(3), now(0).utc, 0, more);
        assert_eq!((line.pending().len(), line.dead().len()), (PENDING_MAX, DEAD_MAX));
        assert_eq!(line.given_up(), DEAD_MAX as u64 + 5);
        let first = if under_way { "0" } else { "105" };
        assert_eq!(ids(line.pending())[0], first);
        line.end(&policy(3), now(0), Ok(()));
        assert_eq!(line.delivered(), u64::from(under_way));
    }
}

#[test]
fn what_happened_before_the_hook_was_there_or_is_not_asked_for_is_not_told() {
    let mut line = Line::new(now(3600).utc, 7);
    let quiet = Policy { events: BTreeSet::from([Event::Quarantined]), tries: 3 };
    assert!(!line.learnt(&quiet, now(3600).utc, 8, [occurrence(1, now(3600).utc)]));
    assert!(!line.learnt(&policy(3), now(3600).utc, 9, [occurrence(2, now(3000).utc)]));
    assert!(line.learnt(&policy(3), now(3600).utc, 10, [occurrence(3, now(3500).utc)]));
    assert_eq!((ids(line.pending()), line.position()), (vec!["3"], 10));
    line.learnt(&policy(3), now(3600).utc, 4, []);
    assert_eq!(line.position(), 10);
}

#[test]
fn what_was_given_up_can_be_tried_again_in_its_order_or_forgotten() {
    let mut line = line(3);
    for _ in 0..2 {
        line.begin(&policy(1), now(0)).unwrap();
        line.end(&policy(1), now(0), Err("refused".to_owned()));
    }
    line.begin(&policy(1), now(0)).unwrap();
    assert_eq!(line.retry(), 2);
    assert_eq!(ids(line.pending()), ["2", "0", "1"]);
    line.end(&policy(1), now(0), Ok(()));
    assert_eq!(ids(line.pending()), ["0", "1"]);
    line.begin(&policy(1), now(0)).unwrap();
    line.end(&policy(1), now(0), Err("refused".to_owned()));
    assert_eq!((line.forget(), line.failing(), line.given_up()), (1, None, 3));
}

#[test]
fn a_quorum_counts_as_lost_after_its_grace_and_each_change_is_told_once() {
    let mut watch = QuorumWatch::new(Duration::from_secs(60));
    let mut line = Line::new(now(0).utc, 0);
    let me: HostId = "alpha".parse().unwrap();
    let mut told = Vec::new();
    for (secs, lacks, expected) in [
        (0, true, None),
        (10, false, None),
        (20, true, None),
        (79, true, None),
        (80, true, Some("quorum-lost:seen:alpha:1795000020000")),
        (90, true, None),
        (95, false, Some("quorum-restored:seen:alpha:1795000095000")),
        (99, false, None),
    ] {
        if let Some((lost, since)) = watch.seen(now(secs), lacks) {
            line.quorum(&policy(3), now(secs).utc, lost, || quorum_changed(&me, lost, since, String::new()));
        }
        told.extend(expected);
        assert_eq!(line.pending().map(|it| it.id.as_str()).collect::<Vec<_>>(), told, "at {secs} s");
    }
    assert_eq!(watch.wakes_at(), None);
    watch.seen(now(100), true);
    assert_eq!(watch.wakes_at(), Some(now(160).mono));
}

#[test]
fn an_unknown_event_is_refused_with_the_names_of_those_there_are() {
    for event in Event::ALL {
        assert_eq!(event.name().parse(), Ok(event));
    }
    let error = "rollout-exploded".parse::<Event>().unwrap_err().to_string();
    assert!(error.contains("\"rollout-exploded\"") && error.contains("rollout-failed, "), "{error}");
    assert!("test".parse::<Event>().is_err());
}

/// Views in which these hosts failed.
struct Views(Vec<HostId>);

impl Records for Views {
    fn record(&self, _: &RolloutId, _: &HostId) -> Option<Record> {
        None
    }

    fn failed(&self, _: &RolloutId) -> Vec<HostId> {
        self.0.clone()
    }

    fn words(&self, event: &HostEvent) -> String {
        format!("{}{}", event.kind.name(), "é".repeat(400))
    }

    fn now(&self) -> DateTime<Utc> {
        now(9).utc
    }
}

fn hosts(count: usize) -> Vec<HostId> {
    (0..count).map(|number| format!("h{number}").parse().unwrap()).collect()
}

#[test]
fn a_rollouts_moves_are_told_and_a_step_from_open_to_reverted_tells_both() {
    use RolloutState as S;
    let cases: [(Option<S>, S, &[&str]); 9] = [
        (None, S::Opening, &["rollout-opened"]),
        (Some(S::Opening), S::Active, &[]),
        (Some(S::Active), S::Active, &[]),
        (Some(S::Active), S::Failed, &["rollout-failed"]),
        (Some(S::Failed), S::Reverted, &["rollout-reverted"]),
        (Some(S::Active), S::Reverted, &["rollout-failed", "rollout-reverted"]),
        (Some(S::Converging), S::Terminal, &["rollout-completed"]),
        (Some(S::Active), S::Superseded, &["rollout-superseded"]),
        (Some(S::Terminal), S::Pruned, &[]),
    ];
    for (from, to, expected) in cases {
        let rollout_id = "stable@v2".parse().unwrap();
        let body = DecisionBody::RolloutTransition { rollout_id, from, to, wave: 0, at: now(3).utc };
        let told = of_decision(&decision(body), &Views(hosts(1)));
        assert_eq!(told.iter().map(|it| it.event.name()).collect::<Vec<_>>(), expected, "{from:?} {to:?}");
        for occurrence in told {
            assert_eq!(occurrence.id, format!("{}:decision:0707070707070707:12.1", occurrence.event));
            let reason = (occurrence.event == Event::RolloutFailed).then_some("1 host failed: h0");
            assert_eq!((occurrence.reason.as_deref(), occurrence.at), (reason, now(3).utc));
        }
    }
}

fn decision(body: DecisionBody) -> Decision {
    Decision {
        v: 1,
        fleet: "home".parse().unwrap(),
        epoch: Digest([7; 32]),
        fleet_serial: 3,
        log_index: 12,
        ordinal: 1,
        body,
    }
}

#[test]
fn a_quarantine_names_closure_channel_and_host() {
    let body = DecisionBody::Quarantine {
        channel: "stable".parse().unwrap(),
        closure: "dir:v2".parse().unwrap(),
        rollout_id: "stable@v2".parse().unwrap(),
        host: "beta".parse().unwrap(),
        evidence: EnvelopeRef { incarnation: 1, seq: 2, hash: Digest([0; 32]) },
    };
    let told = of_decision(&decision(body), &Views(Vec::new())).remove(0);
    assert_eq!(told.id, "quarantined:decision:0707070707070707:12.1");
    assert_eq!(told.reason.as_deref(), Some("it failed on beta and is barred from stable"));
    assert_eq!(told.closure.unwrap().to_string(), "dir:v2");
    assert_eq!((told.host.unwrap().to_string(), told.at), ("beta".to_owned(), now(9).utc));
}

#[test]
fn a_reason_is_bounded_and_names_only_some_of_many_hosts() {
    for (count, expected) in [
        (0, "an operator cancelled it, or more hosts are lost than its policy allows"),
        (2, "2 hosts failed: h0, h1"),
        (9, "9 hosts failed: h0, h1, h2, h3, h4, h5, h6, h7, ..."),
    ] {
        let rollout_id = "stable@v2".parse().unwrap();
        let (from, to) = (Some(RolloutState::Active), RolloutState::Failed);
        let body = DecisionBody::RolloutTransition { rollout_id, from, to, wave: 0, at: now(3).utc };
        let told = of_decision(&decision(body), &Views(hosts(count)));
        assert_eq!(told[0].reason.as_deref(), Some(expected));
    }
}

#[test]
fn a_hosts_word_is_told_where_it_failed_went_back_or_waits() {
    let at = now(5).utc;
    let back = |exit_code| HostEventKind::RollbackComplete {
        reverted_to_closure: "dir:v1".parse().unwrap(),
        exit_code,
        completed_at: at,
    };
    let failed = HostEventKind::Failed {
        failed_at: at,
        sustained_duration_secs: 3,
        failing_probes: Vec::new(),
        policy_applied: HealthPolicy::Halt,
    };
    let deferred = HostEventKind::ActivationDeferred { component: "dbus".to_owned(), deferred_at: at };
    let converged = HostEventKind::Converged { converged_at: at, current_closure: "dir:v1".parse().unwrap() };
    for (kind, expected) in [
        (failed, Some("host-failed")),
        (back(0), Some("host-reverted")),
        (back(1), Some("host-failed")),
        (deferred, Some("host-deferred")),
        (converged, None),
    ] {
        let envelope = Envelope {
            fleet: "home".parse().unwrap(),
            host: "beta".parse().unwrap(),
            incarnation: 4,
            seq: 9,
            prev: Digest([0; 32]),
            at,
            body: FeedBody::Rollout(HostEvent { rollout_id: "stable@v2".parse().unwrap(), seq: 1, kind }),
        };
        let told = of_envelope(&envelope, &Views(Vec::new()));
        let id = expected.map(|name| format!("{name}:event:beta:4:9"));
        assert_eq!(told.as_ref().map(|it| it.id.clone()), id);
        let bounded = told.is_none_or(|it| it.reason.unwrap().len() <= REASON_BYTES_MAX);
        assert!(bounded);
    }
}

#[derive(Debug, Clone)]
enum Happens {
    Learnt(u8),
    Begins,
    Ends(bool),
    Passes(u16),
    Restarts,
    Retries,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (1..80_u8).prop_map(Happens::Learnt),
        Just(Happens::Begins),
        any::<bool>().prop_map(Happens::Ends),
        (0..2000_u16).prop_map(Happens::Passes),
        Just(Happens::Restarts),
        Just(Happens::Retries),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_no_call_is_lost_bounds_hold_and_what_is_due_can_be_made(
        steps in prop::collection::vec(happens(), 0..200),
        tries in 1..5_u32,
    ) {
        let policy = policy(tries);
        let mut line = Line::new(now(0).utc, 0);
        let (mut told, mut retried, mut secs) = (0_u64, 0_u64, 0_u64);
        for step in steps {
            match step {
                Happens::Learnt(count) => {
                    let new = (told..told + u64::from(count)).map(|it| occurrence(it, now(secs).utc));
                    line.learnt(&policy, now(secs).utc, told, new);
                    told += u64::from(count);
                }
                Happens::Begins => {
                    let due = line.due(now(secs).mono) == Due::Now;
                    let (only, dead) = (line.pending().len() == 1, line.given_up());
                    let begun = line.begin(&policy, now(secs));
                    // The one that the agent did not survive may have been the last.
                    prop_assert_eq!(begun.is_some(), due && !(only && line.given_up() > dead));
                    prop_assert!(begun.is_none_or(|attempt| attempt.number <= tries));
                }
                Happens::Ends(well) => {
                    line.end(&policy, now(secs), if well { Ok(()) } else { Err("no".to_owned()) });
                }
                Happens::Passes(more) => secs += u64::from(more),
                Happens::Restarts => line = restarted(&line),
                Happens::Retries => retried += line.retry() as u64,
            }
            let waiting = line.pending().len() as u64;
            prop_assert_eq!(line.delivered() + line.given_up() + waiting, told + retried);
            prop_assert!(line.pending().len() <= PENDING_MAX && line.dead().len() <= DEAD_MAX);
            prop_assert!(line.pending().len() == 0 || line.due(Mono(u64::MAX)) != Due::At(Mono(u64::MAX)));
        }
    }
}
