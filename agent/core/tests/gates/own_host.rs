//! A host's own last word: every check before it acts, and what it owes after a restart.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for what it asks about")]

use chrono::TimeDelta;
use muster_core::document::Refusal;
use muster_core::host::{Boot, Found, Job as Trace};
use muster_core::id::{Closure, RolloutId};
use muster_core::ledger::{Derived, NO_HASH, Table};
use muster_core::node::{
    HostOrder, HostReport, Input, MessageRef, Node, Note, Origin, Output, RequestId, Topic, Verdict,
};
use muster_core::time::Now;
use muster_core::verify;
use muster_core::wire::{
    Decision, DecisionBody, FeedBody, HostEvent, HostEventKind, HostState, IncarnationStarted, Notice,
    NoticeBody, RejectReason,
};
use muster_signing::{Digest, Namespace, Purpose, SignedDocument, Verified, seal};
use serde_json::{Value, json};

use crate::history::Disk;
use crate::kit::*;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

/// Host h4 beside a story that the coordinators live.
struct Own {
    story: Story,
    node: Node,
    disk: Disk,
    said: Vec<HostEventKind>,
    begun: Vec<IncarnationStarted>,
    orders: Vec<HostOrder>,
    notes: Vec<Note>,
    outputs: Vec<Output>,
    /// What the backend answers when it is asked; it is slow to answer until it was asked once.
    running: Option<&'static str>,
}

impl Own {
    /// It holds the fleet document and `dir:v0` runs.
    fn new() -> Self {
        let mut own = Self::fresh(Story::new(fleet_of(&HOSTS, all_at_once())));
        own.hears_fleet();
        own.runs("v0");
        own
    }

    fn fresh(story: Story) -> Self {
        let mut disk = Disk(std::collections::BTreeMap::new());
        let (node, outputs) = node("h4", &disk, story.now);
        for output in outputs {
            if let Output::Persist { rows, .. } = output {
                disk.write(rows);
            }
        }
        let (said, begun, orders, notes, outputs) = Default::default();
        Self { story, node, disk, said, begun, orders, notes, outputs, running: None }
    }

    fn step(&mut self, input: Input) {
        let now = Now { utc: self.story.now, mono: self.story.mono };
        let outputs = self.node.step(now, input);
        self.obey(outputs);
    }

    fn obey(&mut self, outputs: Vec<Output>) {
        let mut asked = false;
        self.outputs.clone_from(&outputs);
        for output in outputs {
            match output {
                Output::Persist { rows, .. } => self.disk.write(rows),
                Output::Publish { topic: Topic::Events, bytes } => {
                    let roster = self.node.ledger().roster();
                    match verify::envelope(roster, &bytes).map(|it| it.content.body.clone()) {
                        Ok(FeedBody::Rollout(event)) => self.said.push(event.kind),
                        Ok(FeedBody::Incarnation(started)) => self.begun.push(started),
                        Err(_) => {}
                    }
                }
                Output::Order(HostOrder::Observe) if self.running.is_some() => asked = true,
                Output::Order(order) => self.orders.push(order),
                Output::Tell(note) => self.notes.push(note),
                _ => {}
            }
        }
        if let Some(running) = self.running.filter(|_| asked) {
            self.runs(running);
        }
    }

    fn hears(&mut self, hash: Digest) {
        let document = self.document(hash);
        self.step(Input::Document { document, origin: Origin::Sync });
    }

    fn document(&self, hash: Digest) -> Verified<SignedDocument> {
        let documents = self.story.ledger.documents();
        match documents.get(&hash).unwrap() {
            muster_core::document::Document::Fleet(held) => (*held.signed).clone(),
            muster_core::document::Document::ChannelRef(held) => (*held.signed).clone(),
            muster_core::document::Document::Command(held) => (*held.signed).clone(),
        }
    }

    fn hears_fleet(&mut self) {
        let hash = self.story.ledger.documents().fleet().unwrap().hash;
        self.hears(hash);
    }

    fn hears_ref(&mut self, id: &RolloutId) {
        let hash = self.story.ledger.documents().channel_ref(&id.channel()).unwrap().hash;
        self.hears(hash);
    }

    /// A release that h4 holds the ref of.
    fn release(&mut self, name: &str) -> RolloutId {
        let id = self.story.release(name);
        self.hears_ref(&id);
        id
    }

    fn certified(&mut self, decision: &Decision) {
        let certified = self.story.certified(decision);
        self.step(Input::Decision { certified, message: None });
    }

    /// The coordinators dispatch h4.
    fn dispatched(&mut self, id: &RolloutId) -> Derived {
        let derived = self.story.join(id, "h4");
        self.certified(&derived.decision);
        derived
    }

    fn runs(&mut self, name: &'static str) {
        self.running = Some(name);
        self.step(Input::Host(HostReport::Running(Some(closure(name)))));
    }

    fn switched(&mut self, id: &RolloutId, exit_code: i32, runs: &str) {
        let (rollout, stderr_tail, observed) = (id.clone(), String::new(), Some(closure(runs)));
        self.step(Input::Host(HostReport::SwitchEnded { rollout, exit_code, stderr_tail, observed }));
    }

    /// Its agent starts anew from its disk.
    fn restarts(&mut self) {
        let (node, outputs) = node("h4", &self.disk, self.story.now);
        self.node = node;
        self.orders.clear();
        self.said.clear();
        self.running = None;
        self.obey(outputs);
    }

    fn state(&self, id: &RolloutId) -> Option<HostState> {
        self.node.ledger().record(&host("h4"), id).map(|it| it.record.state)
    }

    fn switches(&self) -> usize {
        self.orders.iter().filter(|order| matches!(order, HostOrder::Switch(_))).count()
    }

    #[track_caller]
    fn rejected(&self, reason: RejectReason) {
        let reasons = self.said.iter().filter_map(|kind| match kind {
            HostEventKind::DispatchRejected { reason, .. } => Some(*reason),
            _ => None,
        });
        assert_eq!(reasons.collect::<Vec<_>>(), [reason], "{:?}", self.notes);
        assert_eq!(self.switches(), 0);
    }

    #[track_caller]
    fn silent(&self) {
        assert_eq!(self.said, []);
        assert_eq!(self.switches(), 0);
    }

    #[track_caller]
    fn acknowledged(&self) {
        assert!(matches!(self.said.first(), Some(HostEventKind::DispatchAck { .. })), "{:?}", self.said);
        assert_eq!(self.switches(), 1);
    }

    fn warned(&self) -> bool {
        self.notes.iter().any(|note| matches!(note, Note::Warning { .. } | Note::Alarm { .. }))
    }
}

#[test]
fn a_dispatch_with_nothing_against_it_is_acknowledged_and_switched_to_once() {
    let mut own = Own::new();
    let id = own.release("v1");
    let derived = own.dispatched(&id);
    own.acknowledged();
    own.certified(&derived.decision);
    own.step(Input::Tick);
    assert_eq!(own.switches(), 1);
    assert_eq!(own.state(&id), Some(HostState::Activating));
    assert!(!own.warned());
}

#[test]
fn a_dispatch_of_another_host_is_none_of_its_business() {
    let mut own = Own::new();
    let id = own.release("v1");
    let decision = own.story.join(&id, "h3").decision;
    own.certified(&decision);
    own.silent();
}

#[test]
fn a_dispatch_is_refused_past_its_end() {
    let mut own = Own::new();
    let id = own.release("v1");
    let decision = own.story.join(&id, "h4").decision;
    own.story.pass(601);
    own.certified(&decision);
    own.rejected(RejectReason::TooLate);
}

#[test]
fn a_dispatch_whose_end_lies_below_the_greatest_time_ever_signed_is_refused_whatever_the_clock_says() {
    for restarted in [false, true] {
        let mut own = Own::new();
        let id = own.release("v1");
        let decision = own.story.join(&id, "h4").decision;
        let now = own.story.now;
        own.story.pass(700);
        own.step(Input::Tick);
        own.story.now = now;
        if restarted {
            own.restarts();
            own.runs("v0");
        }
        own.certified(&decision);
        own.rejected(RejectReason::TooLate);
    }
}

/// The other hosts speak, and their clocks are off by this.
fn others_speak(own: &mut Own, off: TimeDelta, n: u64) {
    for name in ["h1", "h2", "h3"] {
        let notice = Notice {
            fleet: FLEET.parse().unwrap(),
            host: host(name),
            incarnation: 1,
            boot: 1,
            n,
            at: own.story.now + off,
            body: NoticeBody::Presence(Box::new(own.story.presence(name))),
        };
        let bytes = seal(&key_of(name), Purpose::Notice, FLEET, &muster_core::wire::codec::encode(&notice));
        let notice = verify::notice(own.node.ledger().roster(), &bytes).unwrap();
        own.step(Input::Notice { notice, message: None });
    }
}

#[test]
fn a_host_whose_clock_is_far_off_that_of_the_others_refuses() {
    for (minutes, refuses) in [(0, false), (4, false), (6, true), (-4, false), (-6, true), (-600, true)] {
        let mut own = Own::new();
        let id = own.release("v1");
        let decision = own.story.join(&id, "h4").decision;
        let off = TimeDelta::minutes(minutes);
        others_speak(&mut own, off, 1);
        own.story.pass(30);
        others_speak(&mut own, off, 2);
        own.certified(&decision);
        match refuses {
            true => own.rejected(RejectReason::Clock),
            false => own.acknowledged(),
        }
    }
}

#[test]
fn a_host_whose_key_was_revoked_refuses_and_still_starts_from_its_own_store() {
    let mut own = Own::new();
    let id = own.release("v1");
    let decision = own.story.join(&id, "h4").decision;
    let mut fleet = own.story.fleet.clone();
    fleet["hosts"].as_object_mut().unwrap().remove("h4");
    let hash = own.story.accept_fleet(fleet);
    own.hears(hash);
    own.certified(&decision);
    assert_eq!(own.switches(), 0);
    assert!(
        own.notes
            .iter()
            .any(|note| matches!(note, Note::DispatchRejected { reason: RejectReason::Revoked, .. }))
    );
    own.restarts();
    assert_eq!(own.state(&id), Some(HostState::Pending));
}

#[test]
fn a_dispatch_whose_ref_is_not_held_waits_for_it_without_a_word() {
    let mut own = Own::new();
    let id = own.story.release("v1");
    own.dispatched(&id);
    own.silent();
    own.story.pass(5);
    own.hears_ref(&id);
    own.acknowledged();

    let mut own = Own::new();
    let id = own.story.release("v1");
    own.dispatched(&id);
    own.story.pass(700);
    own.step(Input::Tick);
    own.silent();
    assert!(!own.warned());
}

#[test]
fn a_dispatch_waits_until_the_backend_has_said_what_runs() {
    let mut own = Own::fresh(Story::new(fleet_of(&HOSTS, all_at_once())));
    own.hears_fleet();
    let id = own.release("v1");
    own.dispatched(&id);
    own.silent();
    own.runs("v0");
    own.acknowledged();
}

#[test]
fn a_pause_holds_a_dispatch_and_a_resume_lets_it_go() {
    let mut own = Own::new();
    let id = own.release("v1");
    let hash = own.story.accept_command(&json!({ "verb": "pause", "host": "h4" }));
    own.hears(hash);
    own.dispatched(&id);
    own.silent();
    let hash = own.story.accept_command(&json!({ "verb": "resume", "host": "h4" }));
    own.hears(hash);
    own.acknowledged();
}

#[test]
fn an_expired_fleet_document_holds_a_dispatch() {
    let mut own = Own::new();
    let at = own.story.now + TimeDelta::seconds(60);
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let hash = own.story.changed_fleet(&[("/expiresAt", at.into())]);
    own.hears(hash);
    let id = own.release("v1");
    own.story.pass(60);
    own.dispatched(&id);
    own.silent();
}

#[test]
fn a_closure_that_the_operators_did_not_sign_for_this_host_is_refused() {
    let mut own = Own::new();
    let id = own.release("v1");
    let mut decision = own.story.join(&id, "h4").decision;
    let DecisionBody::Dispatch { target_closure, .. } = &mut decision.body else { panic!() };
    *target_closure = closure("evil");
    own.certified(&decision);
    own.rejected(RejectReason::NotMyTarget);
}

#[test]
fn a_ref_that_its_operators_no_longer_sign_is_refused() {
    let mut own = Own::new();
    let id = own.release("v1");
    let decision = own.story.join(&id, "h4").decision;
    let two = json!({
        "alice": key_of("alice").public().to_openssh(), "bob": key_of("bob").public().to_openssh(),
    });
    let hash = own.story.changed_fleet(&[("/operators", two), ("/thresholds/channelRef", 2.into())]);
    own.hears(hash);
    own.certified(&decision);
    own.rejected(RejectReason::RefSignature);
}

#[test]
fn a_ref_that_expired_or_is_stale_is_refused() {
    let mut own = Own::new();
    let at = (own.story.now + TimeDelta::seconds(60)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let id = own.story.release_on("stable", "v1", &[("/expiresAt", at.into())]);
    own.hears_ref(&id);
    own.story.pass(60);
    own.dispatched(&id);
    own.rejected(RejectReason::RefExpired);

    let mut own = Own::new();
    let id = own.release("v1");
    own.story.pass(1440 * 60 + 1);
    own.dispatched(&id);
    own.rejected(RejectReason::RefStale);
}

#[test]
fn a_ref_older_than_one_that_ran_here_is_refused() {
    let mut own = Own::new();
    let old = own.release("v1");
    let decision = own.story.join(&old, "h4").decision;
    let id = own.release("v2");
    own.dispatched(&id);
    own.switched(&id, 1, "v0");
    let (rollout, observed) = (id.clone(), Some(closure("v0")));
    own.step(Input::Host(HostReport::RollbackEnded { rollout, exit_code: 0, observed }));
    assert_eq!(own.state(&id), Some(HostState::Reverted));
    own.said.clear();
    own.orders.clear();
    own.certified(&decision);
    own.rejected(RejectReason::RefDowngrade);
}

#[test]
fn a_quarantined_closure_is_refused() {
    let mut own = Own::new();
    let id = own.release("v1");
    let decision = own.story.join(&id, "h4").decision;
    own.story.join(&id, "h3");
    let envelope = own.story.fails("h3", &id);
    let cause = muster_core::wire::Cause::Reported { envelope };
    let derived = own.story.claims(&id, "h3", HostState::Failed, cause);
    let quarantine = derived.iter().find(|it| it.decision.body.name() == "Quarantine").unwrap();
    own.certified(&quarantine.decision);
    own.certified(&decision);
    own.rejected(RejectReason::Quarantined);
}

#[test]
fn a_dispatch_from_before_this_incarnation_is_refused() {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let id = story.release("v1");
    let decision = story.join(&id, "h4").decision;
    story.pass(10);
    let mut own = Own::fresh(story);
    own.hears_fleet();
    own.hears_ref(&id);
    own.runs("v0");
    own.certified(&decision);
    own.rejected(RejectReason::TooLate);
}

#[test]
fn a_host_under_way_in_another_rollout_is_busy() {
    let mut own = Own::new();
    let old = own.release("v1");
    own.dispatched(&old);
    own.said.clear();
    own.orders.clear();
    let id = own.release("v2");
    own.dispatched(&id);
    own.rejected(RejectReason::Busy);
}

#[test]
fn a_closure_of_another_backend_is_refused() {
    let mut own = Own::new();
    let path = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-system";
    assert!(path.parse::<Closure>().is_ok());
    let id = own.story.release_on("stable", "v1", &[("/targets", json!({ "h4": path }))]);
    own.hears_ref(&id);
    own.dispatched(&id);
    own.rejected(RejectReason::Backend);
}

#[test]
fn a_dispatch_of_what_already_runs_is_proven_and_switches_nothing() {
    let mut own = Own::new();
    let id = own.release("v0");
    own.dispatched(&id);
    let names: Vec<_> = own.said.iter().map(HostEventKind::name).collect();
    assert_eq!(names, ["DispatchAck", "ActivationStarted", "ActivationCompleted"]);
    assert_eq!(own.switches(), 0);
    assert!(own.orders.iter().any(|order| matches!(order, HostOrder::StartProbes { .. })));
    assert_eq!(own.state(&id), Some(HostState::Soaking));
}

#[test]
fn a_second_dispatch_into_a_rollout_that_is_under_way_changes_nothing() {
    let mut own = Own::new();
    let id = own.release("v1");
    let first = own.story.join(&id, "h4");
    own.story.pass(601);
    let second = own.story.join(&id, "h4");
    own.certified(&second.decision);
    own.acknowledged();
    own.certified(&first.decision);
    own.step(Input::Tick);
    assert_eq!(own.switches(), 1);
    assert!(!own.warned(), "{:?}", own.notes);
}

#[test]
fn a_new_incarnation_says_so_first_and_once() {
    let mut own = Own::fresh(Story::new(fleet_of(&HOSTS, all_at_once())));
    own.runs("v0");
    assert!(own.begun.is_empty(), "nobody knows this host yet");
    own.hears_fleet();
    assert_eq!(own.begun.len(), 1);
    assert_eq!(own.begun[0].current_closure, Some(closure("v0")));
    own.restarts();
    own.runs("v0");
    own.step(Input::Tick);
    assert_eq!(own.begun.len(), 1);
}

fn found(job: Trace, runs: &str) -> Found {
    Found { boot: Boot::Same, job, observed: Some(closure(runs)) }
}

#[test]
fn a_restart_in_the_middle_of_a_switch_asks_what_became_of_it() {
    let ended = || Trace::Ended { exit_code: 0, stderr_tail: String::new() };
    let table: [(Trace, &str, HostState, usize); 4] = [
        (Trace::None, "v0", HostState::Activating, 1),
        (Trace::Running, "v0", HostState::Activating, 0),
        (ended(), "v1", HostState::Soaking, 0),
        (Trace::Ended { exit_code: 4, stderr_tail: String::new() }, "v0", HostState::Failed, 0),
    ];
    for (job, runs, state, switches) in table {
        let mut own = Own::new();
        let id = own.release("v1");
        own.dispatched(&id);
        own.restarts();
        assert!(own.orders.iter().any(|it| matches!(it, HostOrder::Inspect { rollback: false, .. })));
        assert_eq!(own.switches(), 0);
        own.step(Input::Host(HostReport::Inspected { rollout: id.clone(), found: found(job.clone(), runs) }));
        assert_eq!((own.state(&id), own.switches()), (Some(state), switches), "{job:?}");
    }
}

#[test]
fn a_rollback_that_was_owed_is_still_owed_after_a_restart() {
    let mut own = Own::new();
    let id = own.release("v1");
    own.dispatched(&id);
    own.switched(&id, 1, "v1");
    assert!(own.orders.iter().any(|order| matches!(order, HostOrder::RollBack(_))));
    own.restarts();
    assert!(
        own.orders.iter().any(|it| matches!(it, HostOrder::Inspect { rollback: true, .. })),
        "{:?}",
        own.orders
    );
    own.step(Input::Host(HostReport::Inspected { rollout: id.clone(), found: found(Trace::None, "v1") }));
    let back = own.orders.iter().find_map(|order| match order {
        HostOrder::RollBack(job) => Some(job.target.clone()),
        _ => None,
    });
    assert_eq!(back, Some(closure("v0")));
}

#[test]
fn a_host_that_waits_for_its_reboot_takes_back_a_release_that_failed_elsewhere() {
    for deferred in [false, true] {
        let mut own = Own::new();
        let id = own.release("v1");
        own.dispatched(&id);
        if deferred {
            let feed = own.node.ledger().feed(&host("h4")).unwrap();
            let (incarnation, head) = (feed.incarnation(), feed.head().unwrap());
            let kind =
                HostEventKind::ActivationDeferred { component: "dbus".into(), deferred_at: own.story.now };
            let seq = own.node.ledger().record(&host("h4"), &id).unwrap().record.last_event_seq + 1;
            let body = FeedBody::Rollout(HostEvent { rollout_id: id.clone(), seq, kind });
            let envelope = own.story.envelope_at("h4", (incarnation, head.seq + 1, head.hash), body);
            own.step(Input::Envelope { envelope, message: None });
            assert_eq!(own.state(&id), Some(HostState::Deferred));
        }
        own.story.join(&id, "h3");
        let envelope = own.story.fails("h3", &id);
        let cause = muster_core::wire::Cause::Reported { envelope };
        let derived = own.story.claims(&id, "h3", HostState::Failed, cause);
        for derived in &derived {
            own.certified(&derived.decision);
        }
        // Who activates already finishes by itself.
        let state = if deferred { HostState::Failed } else { HostState::Activating };
        assert_eq!(own.state(&id), Some(state));
        let back = own.orders.iter().any(|order| matches!(order, HostOrder::RollBack(_)));
        assert_eq!(back, deferred);
    }
}

#[test]
fn other_coordinators_than_those_of_the_running_fleet_are_refused_but_by_recovery() {
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
    assert!(matches!(refusal, Refusal::VotersChanged(_)), "{refusal}");
    assert_eq!(refusal.code(), "invalid");
    let recovery = with(fleet, &[("/recovery", true.into()), ("/replaces", newest.into())]);
    assert_eq!(publish(&recovery), Ok(()));
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
        (signed(Namespace::Fleet, &with(newer.clone(), &[("/serial", 1.into())])), Verdict::Ignore),
        (signed_by(&[], Namespace::Fleet, &newer), Verdict::Reject),
        (signed(Namespace::Command, &newer), Verdict::Reject),
        (signed(Namespace::Fleet, &other), Verdict::Reject),
    ];
    for (row, (document, verdict)) in table.into_iter().enumerate() {
        assert_eq!(verdict_on(document), Some(verdict), "row {row}");
    }
}

#[test]
fn what_was_not_durable_before_a_crash_is_not_owed_twice_after_it() {
    let mut own = Own::new();
    let id = own.release("v1");
    let before = own.disk.0.clone();
    own.dispatched(&id);
    own.acknowledged();
    own.disk.0 = before;
    own.restarts();
    own.runs("v0");
    own.silent();
    assert!(own.disk.0.keys().filter(|(table, _)| *table == Table::Decisions).count() == 0);
}

#[test]
fn a_coordinator_stops_for_good_when_a_recovery_document_ends_its_epoch() {
    let story = Story::as_host("h1", fleet_of(&["h1"], all_at_once()));
    let mut disk = Disk(std::collections::BTreeMap::new());
    let now = |story: &Story| Now { utc: story.now, mono: story.mono };
    let (mut node, outputs) = node("h1", &disk, story.now);
    let run = |node: &mut Node, disk: &mut Disk, mut outputs: Vec<Output>| {
        let mut alarms = Vec::new();
        while !outputs.is_empty() {
            let mut next = Vec::new();
            for output in outputs {
                match output {
                    Output::Persist { batch, rows } => {
                        disk.write(rows);
                        next.extend(node.step(now(&story), Input::Stored { batch }));
                    }
                    Output::Tell(Note::Alarm { message }) => alarms.push(message),
                    _ => {}
                }
            }
            outputs = next;
        }
        alarms
    };
    run(&mut node, &mut disk, outputs);
    let document =
        |fleet: &Value| Input::Document { document: signed(Namespace::Fleet, fleet), origin: Origin::Sync };
    let outputs = node.step(now(&story), document(&story.fleet));
    run(&mut node, &mut disk, outputs);
    assert!(node.leads());
    let recovery =
        [("/recovery", true.into()), ("/replaces", story.fleet["serial"].clone()), ("/serial", 9.into())];
    let outputs = node.step(now(&story), document(&with(story.fleet.clone(), &recovery)));
    let alarms = run(&mut node, &mut disk, outputs);
    assert!(alarms.iter().any(|alarm| alarm.contains("recovery document has ended")), "{alarms:?}");
    assert!(!node.leads());
    let (mut node, outputs) = crate::kit::node("h1", &disk, story.now);
    run(&mut node, &mut disk, outputs);
    let outputs = node.step(now(&story), Input::Tick);
    run(&mut node, &mut disk, outputs);
    assert!(!node.leads());
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
