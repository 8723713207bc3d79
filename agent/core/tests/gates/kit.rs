//! One node's evidence, made of real signed documents, envelopes and certificates, so that tests read as stories.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use muster_core::coordination::approval::{Judgement, judge};
use muster_core::coordination::log::Entry;
use muster_core::document::{Acceptance, Documents, Refusal, Trust};
use muster_core::gate::{self, Blocked, Gate, Reason};
use muster_core::id::{Closure, HostId, RolloutId};
use muster_core::ledger::{Applied, Derived, FeedError, Ledger, NO_HASH, Rows};
use muster_core::node::{BackendKind, Node, Output, Settings};
use muster_core::planner;
use muster_core::presence::Presences;
use muster_core::time::{Mono, Now};
use muster_core::verify::{self, Certified};
use muster_core::view::View;
use muster_core::wire::codec;
use muster_core::wire::{
    Cause, Decision, DecisionId, DocumentKind, Envelope, EnvelopeRef, FeedBody, HostEvent, HostEventKind,
    HostState, LogPayload, LogStatement, Notice, NoticeBody, Presence, RULES, Received, RolloutEvent,
    StoreState,
};
use muster_signing::{
    Digest, Namespace, Purpose, SignedDocument, SigningKey, Verified, assemble, seal, sha256, sign_decision,
    sign_document, verify_document,
};
use serde_json::{Value, json};

pub(crate) const FLEET: &str = "home";
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(30);

pub(crate) fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

pub(crate) fn closure(name: &str) -> Closure {
    format!("dir:{name}").parse().unwrap()
}

pub(crate) fn rollout(name: &str) -> RolloutId {
    name.parse().unwrap()
}

pub(crate) fn start() -> DateTime<Utc> {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

pub(crate) fn key_of(name: &str) -> SigningKey {
    SigningKey::from_seed(sha256(name.as_bytes()).0)
}

fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A fleet document over hosts; `h1` to `h3` coordinate, and everything else is up to the test.
pub(crate) fn fleet_of(hosts: &[&str], policy: Value) -> Value {
    let entry = |name: &&str| {
        let mut tags = vec![(*name).to_owned()];
        if ["h1", "h2", "h3"].contains(name) {
            tags.push("coordinator".to_owned());
        }
        let host = json!({ "key": key_of(name).public().to_openssh(), "channel": "stable", "tags": tags });
        ((*name).to_owned(), host)
    };
    let hosts: serde_json::Map<String, Value> = hosts.iter().map(entry).collect();
    json!({
        "kind": "muster/fleet/1", "fleet": FLEET, "serial": 1, "signedAt": stamp(start()),
        "operators": { "alice": key_of("alice").public().to_openssh() },
        "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
        "coordinators": { "selector": { "tags": ["coordinator"] } },
        "hosts": hosts,
        "channels": { "stable": { "rolloutPolicy": "policy", "freshnessWindowMinutes": 1440 } },
        "rolloutPolicies": { "policy": policy },
    })
}

/// One wave of one host after another, without a soak.
pub(crate) fn one_by_one(hosts: &[&str]) -> Value {
    let waves: Vec<Value> =
        hosts.iter().map(|name| json!({ "selector": { "hosts": [name] }, "soakSeconds": 0 })).collect();
    json!({ "waves": waves })
}

/// Everybody in one wave, without a soak.
pub(crate) fn all_at_once() -> Value {
    json!({ "waves": [{ "selector": { "all": true }, "soakSeconds": 0 }] })
}

pub(crate) fn trust() -> Trust {
    let pin = json!({ "fleet": FLEET, "operators": { "alice": key_of("alice").public().to_openssh() }, "threshold": 1 });
    Trust::parse(pin.to_string().as_bytes()).unwrap()
}

pub(crate) fn signed(namespace: Namespace, document: &Value) -> Verified<SignedDocument> {
    signed_by(&["alice"], namespace, document)
}

pub(crate) fn signed_by(
    operators: &[&str],
    namespace: Namespace,
    document: &Value,
) -> Verified<SignedDocument> {
    let bytes = document.to_string().into_bytes();
    let signatures = operators.iter().map(|name| sign_document(&key_of(name), namespace, &bytes)).collect();
    verify_document(namespace, bytes, signatures)
}

/// Changes values by JSON pointer; null takes the key away.
pub(crate) fn with(mut document: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(name);
        } else {
            parent.insert(name.to_owned(), value.clone());
        }
    }
    document
}

#[derive(Debug, Clone, Copy)]
struct FeedEnd {
    incarnation: u64,
    seq: u64,
    hash: Digest,
}

/// What one coordinator holds, and the hands of everybody else.
pub(crate) struct Story {
    pub(crate) ledger: Ledger,
    pub(crate) presences: Presences,
    pub(crate) void: BTreeSet<DecisionId>,
    pub(crate) tentative: BTreeSet<HostId>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) mono: Mono,
    pub(crate) fleet: Value,
    pub(crate) derived: Vec<Derived>,
    pub(crate) entries: Vec<Entry>,
    serial: u64,
    feeds: BTreeMap<HostId, FeedEnd>,
    events: BTreeMap<(HostId, RolloutId), u64>,
    notices: u64,
}

impl Story {
    /// The fleet document is accepted and adopted, and every host was heard of.
    pub(crate) fn new(fleet: Value) -> Self {
        Self::as_host("h1", fleet)
    }

    pub(crate) fn as_host(me: &str, fleet: Value) -> Self {
        let mut story = Self::empty(me, fleet.clone());
        story.publish_fleet(fleet);
        story.everybody_speaks();
        story
    }

    fn empty(me: &str, fleet: Value) -> Self {
        let documents = Documents::new(vec![trust()]).unwrap();
        Self {
            ledger: Ledger::new(FLEET.parse().unwrap(), host(me), documents),
            presences: Presences::new(host(me), HEARTBEAT, Mono(0)),
            void: BTreeSet::new(),
            tentative: BTreeSet::new(),
            now: start() + TimeDelta::minutes(1),
            mono: Mono(1_000_000),
            fleet,
            derived: Vec::new(),
            entries: Vec::new(),
            serial: 1,
            feeds: BTreeMap::new(),
            events: BTreeMap::new(),
            notices: 0,
        }
    }

    /// Both clocks move on, and nobody speaks meanwhile.
    pub(crate) fn pass(&mut self, secs: u64) {
        self.now += TimeDelta::seconds(i64::try_from(secs).unwrap());
        self.mono = self.mono.after(Duration::from_secs(secs));
    }

    fn clocks(&self) -> Now {
        Now { utc: self.now, mono: self.mono }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            ledger: &self.ledger,
            presences: &self.presences,
            void: &self.void,
            tentative: &self.tentative,
            mono: self.mono,
        }
    }

    // What operators do.

    pub(crate) fn accept(&mut self, document: &Verified<SignedDocument>) -> Result<Digest, Refusal> {
        match self.ledger.documents().check(document, self.now)? {
            Acceptance::New(accepted) => self.ledger.document(accepted),
            other @ (Acceptance::Duplicate | Acceptance::Waits { .. }) => panic!("{other:?}"),
        }
        Ok(document.digest())
    }

    /// Signs, accepts and adopts a fleet document with the next serial.
    pub(crate) fn publish_fleet(&mut self, fleet: Value) -> Digest {
        let hash = self.accept_fleet(fleet);
        let serial = self.serial;
        self.adopt(DocumentKind::Fleet, serial, hash);
        hash
    }

    pub(crate) fn accept_fleet(&mut self, fleet: Value) -> Digest {
        self.serial += 1;
        self.fleet = with(fleet, &[("/serial", self.serial.into()), ("/signedAt", stamp(self.now).into())]);
        let document = signed(Namespace::Fleet, &self.fleet);
        self.accept(&document).unwrap()
    }

    pub(crate) fn changed_fleet(&mut self, changes: &[(&str, Value)]) -> Digest {
        let fleet = with(self.fleet.clone(), changes);
        self.publish_fleet(fleet)
    }

    /// A ref that gives each host of the channel `dir:<name>`.
    pub(crate) fn ref_document(&mut self, channel: &str, name: &str, changes: &[(&str, Value)]) -> Value {
        self.serial += 1;
        let hosts = self.fleet["hosts"].as_object().unwrap();
        let targets: serde_json::Map<String, Value> = hosts
            .iter()
            .filter(|(_, entry)| entry["channel"] == channel)
            .map(|(host, _)| (host.clone(), json!(format!("dir:{name}"))))
            .collect();
        let document = json!({
            "kind": "muster/channel-ref/1", "fleet": FLEET, "channel": channel, "ref": name,
            "serial": self.serial, "signedAt": stamp(self.now), "fleetSerial": self.fleet["serial"],
            "fleetHash": sha256(self.fleet.to_string().as_bytes()).to_string(), "targets": targets,
        });
        with(document, changes)
    }

    /// Signs and accepts a ref.
    pub(crate) fn publish(&mut self, channel: &str, name: &str, changes: &[(&str, Value)]) -> Digest {
        let document = self.ref_document(channel, name, changes);
        self.accept(&signed(Namespace::ChannelRef, &document)).unwrap()
    }

    /// A ref is signed, accepted, adopted and its rollout opened.
    pub(crate) fn release(&mut self, name: &str) -> RolloutId {
        self.release_on("stable", name, &[])
    }

    pub(crate) fn release_on(&mut self, channel: &str, name: &str, changes: &[(&str, Value)]) -> RolloutId {
        let hash = self.publish(channel, name, changes);
        let serial = self.serial;
        self.adopt(DocumentKind::ChannelRef, serial, hash);
        let id = rollout(&format!("{channel}@{name}"));
        let at = self.now;
        let open =
            self.ledger.rollouts().values().find(|it| it.channel.as_str() == channel && it.state.is_open());
        let mut events = Vec::new();
        events.extend(open.map(|record| RolloutEvent::SuccessorOpened {
            superseded_rollout_id: record.rollout_id.clone(),
            successor_rollout_id: id.clone(),
            at,
        }));
        events.push(RolloutEvent::RolloutOpened {
            rollout_id: id.clone(),
            channel: id.channel(),
            target_ref: id.target_ref(),
            at,
        });
        self.says(events);
        id
    }

    /// A command is signed and accepted; `order` holds the verb and what it applies to.
    pub(crate) fn accept_command(&mut self, order: &Value) -> Digest {
        self.serial += 1;
        let document = json!({
            "kind": "muster/command/1", "fleet": FLEET, "serial": self.serial, "signedAt": stamp(self.now),
            "reason": "because",
        });
        let changes: Vec<(String, Value)> = order
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (format!("/{name}"), value.clone()))
            .collect();
        let changes: Vec<(&str, Value)> =
            changes.iter().map(|(at, value)| (at.as_str(), value.clone())).collect();
        self.accept(&signed(Namespace::Command, &with(document, &changes))).unwrap()
    }

    /// A command is signed, accepted and adopted.
    pub(crate) fn command(&mut self, order: &Value) -> Digest {
        let hash = self.accept_command(order);
        let serial = self.serial;
        self.adopt(DocumentKind::Command, serial, hash);
        hash
    }

    // What the coordinators' log says.

    pub(crate) fn entry(&mut self, what: LogStatement) -> Applied {
        let payload = codec::encode(&LogPayload { rules: RULES, what });
        let entry = Entry { at: self.now, id: None, term: 1, payload, chain_hash: [0; 32] };
        let applied = self.ledger.entry(self.ledger.applied() + 1, &entry).unwrap();
        self.entries.push(entry);
        self.derived.extend(applied.decisions.iter().cloned());
        applied
    }

    pub(crate) fn says(&mut self, events: Vec<RolloutEvent>) -> Vec<Derived> {
        self.entry(LogStatement::Rollout { events }).decisions
    }

    pub(crate) fn adopt(&mut self, kind: DocumentKind, serial: u64, hash: Digest) {
        self.entry(LogStatement::DocumentAdopted { kind, channel: None, serial, hash });
    }

    /// The log says that a host is dispatched; what follows from it.
    pub(crate) fn join(&mut self, id: &RolloutId, name: &str) -> Derived {
        let wave = self.ledger.plan(id).unwrap().wave_of(&host(name)).unwrap();
        let event =
            RolloutEvent::HostJoined { rollout_id: id.clone(), host_id: host(name), wave, at: self.now };
        let dispatch = |it: &Derived| it.decision.body.name() == "Dispatch";
        self.says(vec![event]).into_iter().find(dispatch).unwrap()
    }

    pub(crate) fn claims(&mut self, id: &RolloutId, name: &str, to: HostState, cause: Cause) -> Vec<Derived> {
        let from =
            self.ledger.rollouts()[id].hosts.get(&host(name)).map_or(HostState::Pending, |it| it.state);
        let (rollout_id, host_id, at) = (id.clone(), host(name), self.now);
        self.says(vec![RolloutEvent::HostStateChanged { rollout_id, host_id, from, to, cause, at }])
    }

    /// Everything that the planner proposes is committed, until it proposes nothing; what it proposed.
    pub(crate) fn plan(&mut self) -> Vec<LogStatement> {
        let mut all = Vec::new();
        for _ in 0..20 {
            let statements = planner::propose(&self.view(), &BTreeSet::new(), self.now);
            if statements.is_empty() {
                return all;
            }
            for statement in statements {
                self.entry(statement.clone());
                all.push(statement);
            }
        }
        panic!("the planner never comes to rest: {all:#?}");
    }

    pub(crate) fn proposal(&self) -> Vec<LogStatement> {
        planner::propose(&self.view(), &BTreeSet::new(), self.now)
    }

    /// A quorum's certificate of a decision, as its bytes travel.
    pub(crate) fn certificate(&self, decision: &Decision, signers: &[&str]) -> Vec<u8> {
        let payload = codec::encode(decision);
        let sign = |name: &&str| (key_of(name).public(), sign_decision(&key_of(name), FLEET, &payload));
        assemble(&payload, &signers.iter().map(sign).collect())
    }

    pub(crate) fn certified(&self, decision: &Decision) -> Certified {
        verify::certificate(self.ledger.roster(), &self.certificate(decision, &["h1", "h2"])).unwrap()
    }

    /// A quorum signed the decision, and this node learns of it.
    pub(crate) fn certify(&mut self, derived: &Derived) -> bool {
        let certified = self.certified(&derived.decision);
        self.ledger.decision(&certified.certificate, &certified.decision)
    }

    // What hosts do.

    pub(crate) fn envelope(&mut self, name: &str, body: FeedBody) -> Verified<Received<Envelope>> {
        let end = self.feeds.get(&host(name)).copied();
        let end = end.unwrap_or(FeedEnd { incarnation: 1, seq: 0, hash: NO_HASH });
        let envelope = Envelope {
            fleet: FLEET.parse().unwrap(),
            host: host(name),
            incarnation: end.incarnation,
            seq: end.seq + 1,
            prev: end.hash,
            at: self.now,
            body,
        };
        let bytes = seal(&key_of(name), Purpose::Envelope, FLEET, &codec::encode(&envelope));
        let end = FeedEnd { seq: envelope.seq, hash: sha256(&bytes), ..end };
        self.feeds.insert(host(name), end);
        verify::envelope(self.ledger.roster(), &bytes).unwrap()
    }

    /// Signs an envelope of another place than the next.
    pub(crate) fn envelope_at(
        &self,
        name: &str,
        (incarnation, seq, prev): (u64, u64, Digest),
        body: FeedBody,
    ) -> Verified<Received<Envelope>> {
        let envelope = Envelope {
            fleet: FLEET.parse().unwrap(),
            host: host(name),
            incarnation,
            seq,
            prev,
            at: self.now,
            body,
        };
        let bytes = seal(&key_of(name), Purpose::Envelope, FLEET, &codec::encode(&envelope));
        verify::envelope(self.ledger.roster(), &bytes).unwrap()
    }

    /// The host's next feed begins anew, as after a reinstallation.
    pub(crate) fn reinstall(&mut self, name: &str, incarnation: u64) {
        self.feeds.insert(host(name), FeedEnd { incarnation, seq: 0, hash: NO_HASH });
        self.events.retain(|(of, _), _| *of != host(name));
    }

    pub(crate) fn event(&mut self, name: &str, id: &RolloutId, kind: HostEventKind) -> FeedBody {
        let seq = self.events.entry((host(name), id.clone())).or_default();
        *seq += 1;
        FeedBody::Rollout(HostEvent { rollout_id: id.clone(), seq: *seq, kind })
    }

    /// The host signs an event and this node hears of it.
    pub(crate) fn reports(&mut self, name: &str, id: &RolloutId, kind: HostEventKind) -> EnvelopeRef {
        let body = self.event(name, id, kind);
        let envelope = self.envelope(name, body);
        self.takes(&envelope).unwrap();
        let Envelope { incarnation, seq, .. } = envelope.content;
        EnvelopeRef { incarnation, seq, hash: envelope.hash }
    }

    pub(crate) fn takes(&mut self, envelope: &Verified<Received<Envelope>>) -> Result<(), FeedError> {
        let now = self.clocks();
        self.presences.heard_envelope(now, &envelope.content.host, envelope.content.at);
        self.ledger.envelope(envelope)
    }

    pub(crate) fn acks(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        let log_index = self.ledger.record(&host(name), id).unwrap().record.log_index;
        let received_at = self.now;
        let current_closure_at_dispatch = Some(closure("v0"));
        self.reports(
            name,
            id,
            HostEventKind::DispatchAck { current_closure_at_dispatch, received_at, log_index },
        )
    }

    pub(crate) fn completes(&mut self, name: &str, id: &RolloutId) {
        let observed_current_closure =
            self.ledger.record(&host(name), id).unwrap().record.target_closure.clone();
        let completed_at = self.now;
        self.reports(
            name,
            id,
            HostEventKind::ActivationCompleted { observed_current_closure, exit_code: 0, completed_at },
        );
    }

    pub(crate) fn soaks(&mut self, name: &str, id: &RolloutId) {
        self.acks(name, id);
        self.completes(name, id);
        let declared_at = self.now;
        self.reports(name, id, HostEventKind::ProbeTopologyDeclared { probes: Vec::new(), declared_at });
    }

    /// Acknowledged, switched, soaked, converged; all by the host's own word.
    pub(crate) fn converges(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        self.soaks(name, id);
        self.settles(name, id)
    }

    pub(crate) fn settles(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        let record = &self.ledger.record(&host(name), id).unwrap().record;
        let current_closure = record.target_closure.clone();
        let converged_at = self.now.max(record.soak_deadline().unwrap());
        self.reports(name, id, HostEventKind::Converged { converged_at, current_closure })
    }

    pub(crate) fn defers(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        self.acks(name, id);
        let deferred_at = self.now;
        self.reports(name, id, HostEventKind::ActivationDeferred { component: "dbus".into(), deferred_at })
    }

    pub(crate) fn fails(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        self.acks(name, id);
        let failed_at = self.now;
        let stderr_tail = "no".to_owned();
        self.reports(name, id, HostEventKind::ActivationFailed { exit_code: 1, stderr_tail, failed_at })
    }

    pub(crate) fn reverts(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        self.fails(name, id);
        let completed_at = self.now;
        let reverted_to_closure = closure("v0");
        self.reports(
            name,
            id,
            HostEventKind::RollbackComplete { reverted_to_closure, exit_code: 0, completed_at },
        )
    }

    pub(crate) fn rejects(&mut self, name: &str, id: &RolloutId) -> EnvelopeRef {
        let log_index = self.ledger.record(&host(name), id).unwrap().record.log_index;
        self.rejects_index(name, id, log_index)
    }

    pub(crate) fn rejects_index(&mut self, name: &str, id: &RolloutId, log_index: u64) -> EnvelopeRef {
        let rejected_at = self.now;
        let reason = muster_core::wire::RejectReason::Busy;
        self.reports(name, id, HostEventKind::DispatchRejected { reason, rejected_at, log_index })
    }

    /// Dispatched and converged, as the log and the feed say.
    pub(crate) fn done(&mut self, id: &RolloutId, name: &str) {
        self.join(id, name);
        self.converges(name, id);
    }

    pub(crate) fn presence(&self, name: &str) -> Presence {
        let head = self.feeds.get(&host(name));
        Presence {
            head_seq: head.map_or(0, |head| head.seq),
            head_hash: head.map_or(NO_HASH, |head| head.hash),
            current_closure: Some(closure("v0")),
            fetched: Vec::new(),
            prefetches: false,
            store: StoreState::Ok,
            agent_version: "1".to_owned(),
            fleet_serial: 1,
            uptime_secs: 1,
            outbox: 0,
            failing_enforce_probes: Vec::new(),
            heartbeat_millis: 30_000,
        }
    }

    /// A heartbeat of a host comes in.
    pub(crate) fn speaks(&mut self, name: &str) {
        self.speaks_as(name, |_| {});
    }

    pub(crate) fn speaks_as(&mut self, name: &str, change: impl FnOnce(&mut Presence)) {
        let at = self.now;
        self.speaks_at(name, at, change);
    }

    /// A heartbeat of a host whose clock shows `at`.
    pub(crate) fn speaks_at(&mut self, name: &str, at: DateTime<Utc>, change: impl FnOnce(&mut Presence)) {
        let mut presence = self.presence(name);
        change(&mut presence);
        self.notices += 1;
        let notice = Notice {
            fleet: FLEET.parse().unwrap(),
            host: host(name),
            incarnation: self.feeds.get(&host(name)).map_or(1, |end| end.incarnation),
            boot: 1,
            n: self.notices,
            at,
            body: NoticeBody::Presence(Box::new(presence.clone())),
        };
        let bytes = seal(&key_of(name), Purpose::Notice, FLEET, &codec::encode(&notice));
        let received = verify::notice(self.ledger.roster(), &bytes).unwrap();
        let now = self.clocks();
        assert!(self.presences.hear(now, &received.content, &presence));
    }

    pub(crate) fn everybody_speaks(&mut self) {
        let names: Vec<String> = self.fleet["hosts"].as_object().unwrap().keys().cloned().collect();
        for name in names {
            self.speaks(&name);
        }
    }

    // What the gates and the approval say.

    pub(crate) fn admit(&self, id: &RolloutId, name: &str) -> Result<(), Blocked> {
        gate::admit(&self.view(), self.ledger.plan(id).unwrap(), &host(name), self.now)
    }

    /// What one gate says, whatever the others do.
    pub(crate) fn asks(&self, which: Gate, id: &RolloutId, name: &str) -> Result<(), Reason> {
        let (_, gate) = gate::GATES.iter().find(|(gate, _)| *gate == which).unwrap();
        gate(&self.view(), self.ledger.plan(id).unwrap(), &host(name), self.now).map_err(|blocked| {
            assert_eq!(blocked.gate, which);
            blocked.reason
        })
    }

    pub(crate) fn judges(&self, derived: &Derived) -> Judgement {
        judge(&self.view(), derived, self.now)
    }

    /// Alarms since this was last asked.
    pub(crate) fn alarms(&mut self) -> Vec<String> {
        let happenings = self.ledger.take_happenings().into_iter();
        let alarms = happenings.filter_map(|it| match it {
            muster_core::ledger::Happening::Alarm { message } => Some(message),
            muster_core::ledger::Happening::HostMoved { .. }
            | muster_core::ledger::Happening::RolloutMoved { .. } => None,
        });
        alarms.collect()
    }
}

/// Asserts that a gate lets through.
#[track_caller]
pub(crate) fn admitted(answer: Result<(), Reason>) {
    assert_eq!(answer, Ok(()));
}

/// Asserts why a gate holds back.
#[track_caller]
pub(crate) fn blocked(answer: Result<(), Reason>, reason: Reason) {
    assert_eq!(answer, Err(reason));
}

/// A node that starts from what a store holds.
pub(crate) fn node(name: &str, rows: &impl Rows, utc: DateTime<Utc>) -> (Node, Vec<Output>) {
    let settings = Settings {
        fleet: FLEET.parse().unwrap(),
        host: host(name),
        heartbeat: HEARTBEAT,
        agent_version: "1".to_owned(),
        boot_id: "boot".to_owned(),
        backend: BackendKind::Directory,
        seed: 1,
    };
    Node::start(settings, key_of(name), vec![trust()], rows, Now { utc, mono: Mono(0) }).unwrap()
}
