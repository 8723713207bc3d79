//! A host's own last word: every check before it acts, and what it owes after a restart.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for what it asks about")]

mod dispatching;
mod hearing;
mod refusing;
mod restarting;

use muster_core::id::RolloutId;
use muster_core::ledger::Derived;
use muster_core::node::{HostOrder, HostReport, Input, Node, Note, Origin, Output, Topic};
use muster_core::time::Now;
use muster_core::verify;
use muster_core::wire::{Decision, FeedBody, HostEventKind, HostState, IncarnationStarted, RejectReason};
use muster_signing::{Digest, SignedDocument, Verified};

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
        self.is_alone();
    }

    /// Nobody answers where its feed ends, so that it goes on by itself.
    fn is_alone(&mut self) {
        let mono = self.story.mono.after(std::time::Duration::from_secs(20));
        let outputs = self.node.step(Now { utc: self.story.now, mono }, Input::Tick);
        self.obey(outputs);
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
        self.is_alone();
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
