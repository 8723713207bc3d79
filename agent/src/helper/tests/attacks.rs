//! What a daemon that was taken over tries: one row per rule.

use muster_core::wire::DecisionId;

use super::*;
use crate::helper::memory::{USED_MAX, Used};

/// One lie, the rule that it breaks, and a word of the reason.
type Attack = (&'static str, fn(&mut Story), &'static str, &'static str);

async fn check(attacks: &[Attack]) {
    for (name, lie, rule, words) in attacks {
        let (bench, mut story) = (Bench::new(), Story::new());
        lie(&mut story);
        bench.refused_of(name, &story.request(), rule, words).await;
    }
}

fn dispatch_of(story: &mut Story) -> (&mut Closure, &mut DateTime<Utc>) {
    match &mut story.decision.body {
        DecisionBody::Dispatch { target_closure, not_after, .. } => (target_closure, not_after),
        other @ (DecisionBody::Quarantine { .. }
        | DecisionBody::RolloutTransition { .. }
        | DecisionBody::Withdrawn { .. }
        | DecisionBody::LogSnapshot { .. }) => panic!("{other:?}"),
    }
}

/// The decision and the order are for this closure, whatever the operators signed.
fn aim(story: &mut Story, target: &str) {
    *dispatch_of(story).0 = system(target);
    let dispatch = story.dispatch();
    story.order = Order::Switch { dispatch, to: system(target), timeout_secs: 5 };
}

/// What no operator signed.
const UNSIGNED: &[Attack] = &[
    ("no papers", |it| it.with_papers = false, "no-papers", "documents"),
    ("an unsigned ref", |it| it.channel_ref.by.clear(), "channel-ref", "no signature"),
    (
        "a ref that a stranger signed",
        |it| it.channel_ref.by = vec!["mallory"],
        "channel-ref",
        "0 of the current operators",
    ),
    (
        "a ref that is signed as something else",
        |it| it.channel_ref.namespace = Namespace::Command,
        "channel-ref",
        "none of the 1 signatures",
    ),
    (
        "a ref of another fleet",
        |it| it.channel_ref.json["fleet"] = "away".into(),
        "channel-ref",
        "fleet away",
    ),
    (
        "a ref that does not name this host",
        |it| change(&mut it.channel_ref.json, "/targets/web", Value::Null),
        "forbidden",
        "not_my_target",
    ),
    ("another host's target", |it| aim(it, OTHER), "forbidden", "not_my_target"),
    ("a closure that nobody signed", |it| aim(it, BEFORE), "forbidden", "not_my_target"),
    (
        "another closure than the decision's",
        |it| it.order = Order::Switch { dispatch: it.dispatch(), to: system(OTHER), timeout_secs: 5 },
        "other-order",
        "22222222",
    ),
    (
        "a fleet document that the pinned operators did not sign",
        |it| it.fleets[0].by = vec!["alice", "mallory"],
        "fleet-document",
        "1 of the pinned operators",
    ),
    (
        "a fleet document that one operator signed as two",
        |it| it.fleets[0].by = vec!["alice", "alice"],
        "fleet-document",
        "1 of the pinned operators",
    ),
    (
        "operators who appoint themselves",
        |it| {
            it.then_fleet(
                vec!["mallory"],
                &[("/operators", json!({ "m": line_of("mallory") })), ("/thresholds/fleet", 1.into())],
            )
        },
        "fleet-document",
        "0 of the current operators",
    ),
    ("no fleet document", |it| it.fleets.clear(), "no-fleet-document", "no fleet document"),
    (
        "a ref without its fleet document",
        |it| it.channel_ref.json["fleetSerial"] = 6.into(),
        "channel-ref",
        "fleet serial 6",
    ),
    (
        "a ref that names a fleet document which is not there",
        |it| {
            it.then_fleet(vec!["alice", "bob"], &[]);
            it.fleets.pop();
        },
        "ref-without-fleet-document",
        "serial 6",
    ),
    ("a fleet document for a ref", |it| it.channel_ref = it.fleets[0].clone(), "kind", "another kind"),
];

#[tokio::test]
async fn what_operators_did_not_sign_is_not_activated() {
    check(UNSIGNED).await;
}

/// What no quorum agreed to.
const UNCERTIFIED: &[Attack] = &[
    ("a quorum minus one", |it| it.coordinators.truncate(1), "certificate", "1 of the 2 coordinators"),
    ("nobody", |it| it.coordinators.clear(), "certificate", "0 of the 2 coordinators"),
    (
        "one key that signs twice",
        |it| it.coordinators = vec![("c1", "c1"), ("c2", "c1")],
        "certificate",
        "1 of the 2 coordinators",
    ),
    (
        "hosts that are no coordinators",
        |it| it.coordinators = vec![("web", "web"), ("db", "db")],
        "certificate",
        "0 of the 2",
    ),
    (
        "operators",
        |it| it.coordinators = vec![("alice", "alice"), ("bob", "bob")],
        "certificate",
        "0 of the 2",
    ),
    (
        "a coordinator and a stranger",
        |it| it.coordinators = vec![("c1", "c1"), ("c2", "mallory")],
        "certificate",
        "1 of the 2",
    ),
    (
        "an electorate that is not held",
        |it| it.decision.fleet_serial = 4,
        "certificate",
        "serial 4 is not held",
    ),
    (
        "a coordinator that was dropped since",
        |it| {
            it.then_fleet(
                vec!["alice", "bob"],
                &[("/hosts/c2", Value::Null), ("/coordinators/founders", founders())],
            );
        },
        "certificate",
        "1 of the 2",
    ),
    (
        "a decision of another fleet",
        |it| it.decision.fleet = "away".parse().unwrap(),
        "certificate",
        "fleet away",
    ),
    ("a decision of a version to come", |it| it.decision.v = 2, "certificate", "version 2"),
    ("a decision of another epoch", |it| it.decision.epoch = it.epoch(3), "other-epoch", "epoch"),
];

#[tokio::test]
async fn what_no_quorum_agreed_to_is_not_activated() {
    check(UNCERTIFIED).await;
}

fn founders() -> Value {
    json!([line_of("c1"), line_of("c2"), line_of("c3")])
}

/// What was decided for somebody or something else.
const MISDIRECTED: &[Attack] = &[
    (
        "another host's dispatch",
        |it| {
            if let DecisionBody::Dispatch { host, .. } = &mut it.decision.body {
                *host = "db".parse().unwrap();
            }
        },
        "other-host",
        "dispatches db, this host is web",
    ),
    (
        "another rollout's dispatch",
        |it| {
            it.dispatched("stable@v0", TARGET);
        },
        "other-rollout",
        "stable@v0",
    ),
    ("another entry's dispatch", |it| it.decision.log_index += 1, "other-order", "log index 40"),
    (
        "no dispatch",
        |it| it.decision.body = DecisionBody::Withdrawn { decision: it.decision.id() },
        "not-a-dispatch",
        "Withdrawn",
    ),
    (
        "a host that is in no fleet document",
        |it| {
            change(&mut it.fleets[0].json, "/hosts/web", Value::Null);
            change(&mut it.channel_ref.json, "/targets/web", Value::Null);
            it.name_newest();
            it.decision.epoch = it.epoch(0);
        },
        "not-enrolled",
        "web",
    ),
    (
        "a folder instead of a system",
        |it| {
            let dispatch = it.dispatch();
            it.order = Order::Switch { dispatch, to: system("dir:v1"), timeout_secs: 5 };
        },
        "not-a-store-path",
        "dir:v1",
    ),
];

#[tokio::test]
async fn a_decision_for_somebody_or_something_else_is_not_acted_on() {
    check(MISDIRECTED).await;
}

/// What is old or expired.
const OUTDATED: &[Attack] = &[
    (
        "a decision past its end",
        |it| *dispatch_of(it).1 = it.now - TimeDelta::seconds(1),
        "too-late",
        "could be used until",
    ),
    (
        "an expired ref",
        |it| it.channel_ref.json["expiresAt"] = stamp(it.now - TimeDelta::minutes(1)),
        "channel-ref",
        "expired",
    ),
    (
        "a ref outside its freshness window",
        |it| it.channel_ref.json["signedAt"] = stamp(it.now - TimeDelta::minutes(61)),
        "forbidden",
        "ref_stale",
    ),
    (
        "a ref of the future",
        |it| it.channel_ref.json["signedAt"] = stamp(it.now + TimeDelta::minutes(6)),
        "channel-ref",
        "ahead",
    ),
    (
        "an expired fleet document",
        |it| {
            it.fleets[0].json["expiresAt"] = stamp(it.now - TimeDelta::minutes(1));
            it.name_newest();
        },
        "fleet-expired",
        "serial 5",
    ),
    (
        "an operator who was dropped since",
        |it| {
            it.then_fleet(
                vec!["alice", "bob", "carol"],
                &[("/operators", json!({ "bob": line_of("bob"), "carol": line_of("carol") }))],
            );
        },
        "channel-ref",
        "0 of the current operators",
    ),
];

#[tokio::test]
async fn what_is_old_or_expired_is_not_acted_on() {
    check(OUTDATED).await;
}

#[tokio::test]
async fn a_system_of_other_contents_than_the_signed_ones_is_not_activated() {
    let (bench, mut story) = (Bench::new(), Story::new());
    let digest = |what: &str| json!({ "web": sha256(what.as_bytes()).to_string() });
    story.channel_ref.json["contents"] = digest(BEFORE);
    bench.refused(&story.request(), "contents", "the contents of /nix/store/1111").await;
    story.channel_ref.json["contents"] = digest(TARGET);
    bench.done(&story.request()).await;
}

#[tokio::test]
async fn what_was_used_or_overtaken_is_not_acted_on_again() {
    let (bench, first) = (Bench::new(), Story::new());
    bench.done(&first.request()).await;
    bench.refused(&first.request(), "used", "log index 40").await;
    let boot = Order::Boot { dispatch: first.dispatch(), to: system(TARGET), timeout_secs: 5 };
    bench.refused(&Story { order: boot, ..first.clone() }.request(), "used", "log index 40").await;

    let newer = first.next();
    bench.done(&newer.request()).await;
    // A quorum dispatches the older ref anew: it is a downgrade all the same.
    let mut older = first.clone();
    older.decision.log_index = 50;
    older.dispatched("stable@v1", TARGET);
    bench.refused(&older.request(), "older-ref", "(5, 9) is older").await;

    let mut contested = newer.clone();
    contested.channel_ref.json["targets"]["db"] = BEFORE.into();
    contested.decision.log_index = 60;
    contested.dispatched("stable@v10", TARGET);
    bench.refused(&contested.request(), "contested-ref", "(5, 10)").await;
}

#[tokio::test]
async fn an_older_fleet_document_than_one_that_was_acted_on_is_not_believed() {
    let (bench, old) = (Bench::new(), Story::new());
    let mut new = old.next();
    new.then_fleet(vec!["alice", "bob"], &[]);
    new.decision.fleet_serial = 6;
    bench.done(&new.request()).await;
    let mut old = old;
    old.decision.log_index = 70;
    old.dispatched("stable@v1", TARGET);
    bench.refused(&old.request(), "older-fleet-document", "serial 5").await;
    // Nor another one with the same serial.
    let mut other = new.next();
    other.fleets.pop();
    other.then_fleet(vec!["alice", "bob"], &[("/channels/stable/description", "another".into())]);
    bench.refused(&other.request(), "older-fleet-document", "serial 6").await;
    // Nor one that only claims to recover the fleet.
    let mut recovered = new.next();
    recovered.then_fleet(vec!["alice", "bob"], &[("/recovery", true.into()), ("/replaces", 4.into())]);
    bench.refused(&recovered.request(), "fleet-document", "replaces").await;
}

#[tokio::test]
async fn a_clock_that_goes_back_makes_nothing_young_again() {
    let (bench, mut story) = (Bench::new(), Story::new());
    let later = story.now + TimeDelta::minutes(30);
    bench.remember(|memory| memory.clock = Some(later));
    bench.refused(&story.request(), "too-late", "could be used until").await;
    *dispatch_of(&mut story).1 = later;
    bench.done(&story.request()).await;
}

#[tokio::test]
async fn the_way_back_leads_only_to_what_ran_and_only_once() {
    let (bench, story) = (Bench::new(), Story::new());
    bench.refused(&story.way_back(BEFORE), "nothing-to-roll-back", "stable@v1 at log index 40").await;
    bench.done(&story.request()).await;
    bench.refused(&story.way_back(OTHER), "other-way-back", "came from /nix/store/00000000").await;
    bench.refused(&story.way_back("dir:v1"), "not-a-store-path", "dir:v1").await;
    bench.refused(&story.next().way_back(BEFORE), "nothing-to-roll-back", "but for stable@v1").await;
    bench.done(&story.way_back(BEFORE)).await;
    bench.refused(&story.way_back(BEFORE), "rolled-back", "undone already").await;
    bench.refused(&story.request(), "used", "log index 40").await;
}

#[tokio::test]
async fn an_older_switch_is_not_undone_after_a_newer_one() {
    let (bench, story) = (Bench::new(), Story::new());
    bench.done(&story.request()).await;
    let next = story.next();
    bench.done(&next.request()).await;
    bench.refused(&story.way_back(BEFORE), "nothing-to-roll-back", "but for stable@v10").await;
    // The second one led from the target to itself: there is no way back from it.
    bench.refused(&next.way_back(BEFORE), "other-way-back", "nothing known").await;
}

#[tokio::test]
async fn decisions_are_remembered_until_they_end_and_not_beyond() {
    let (bench, story) = (Bench::new(), Story::new());
    let used = |minutes| -> Vec<Used> {
        let not_after = story.now + TimeDelta::minutes(minutes);
        let id = |log_index| DecisionId { log_index, ordinal: 0 };
        let used = |index| Used { epoch: story.decision.epoch, id: id(index), not_after };
        (100..100 + USED_MAX as u64).map(used).collect()
    };
    bench.remember(|memory| memory.used = used(5));
    bench.refused(&story.request(), "memory-full", "512 decisions").await;
    bench.remember(|memory| memory.used = used(-5));
    bench.done(&story.request()).await;
    assert_eq!(bench.memory().used.len(), 1);
}
