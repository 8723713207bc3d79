//! What becomes of a liar's outputs and inputs.

use muster_core::node::{CoordinatorMessage, Input, Output, Topic};
use muster_core::verify::EndorsementMessage;
use muster_core::wire::{
    Decision, DecisionBody, Envelope, FeedBody, IncarnationStarted, Notice, NoticeBody, codec,
};
use muster_signing::{Purpose, Sealed, SigningKey, seal, sign_decision};
use std::rc::Rc;

use super::World;
use crate::fault::Fault;
use crate::fleet::FLEET;
use crate::liar::{Liar, Lie};
use crate::parcel::Parcel;
use crate::random::Random;

impl World {
    /// Draws who lies, and how: hosts that do not coordinate.
    pub(crate) fn choose_lying_hosts(&mut self, coordinators: usize, random: &mut Random) {
        const WAYS: [(Fault, Lie); 4] = [
            (Fault::LyingHealth, Lie::Healthy),
            (Fault::ForkedFeed, Lie::Fork),
            (Fault::Flood, Lie::Flood),
            (Fault::FalsePresence, Lie::Presence),
        ];
        let plain: Vec<usize> = (coordinators..self.fleet.names().len()).collect();
        for (fault, lie) in WAYS {
            // Most of a fleet is honest.
            let lies = random.below(250) < self.faults.strength(fault);
            let Some(host) = random.pick(&plain).copied().filter(|_| lies) else { continue };
            if self.hosts[host].liar.is_none() {
                self.make_liar(host, lie);
                self.truth.lies(&self.hosts[host].name);
                self.faults.hit(fault);
            }
        }
    }

    pub(crate) fn make_liar(&mut self, host: usize, lie: Lie) {
        let liar = Liar::new(lie, &self.hosts[host].disk);
        self.hosts[host].liar = Some(Box::new(liar));
    }

    /// Has a host lie from now on.
    pub fn make_lie(&mut self, host: &str, lie: Lie) {
        if let Some(number) = self.number(host) {
            self.make_liar(number, lie);
            let name = self.hosts[number].name.clone();
            self.truth.lies(&name);
        }
    }

    fn lie_of(&self, host: usize) -> Option<Lie> {
        self.hosts[host].liar.as_ref()?.lie
    }

    /// What a host lets out of what its node asked for: an honest one all of it.
    pub(super) fn lets_out(&mut self, host: usize, outputs: Vec<Output>) -> Vec<Output> {
        if self.hosts[host].liar.is_none() {
            return outputs;
        }
        let mut told: Vec<Output> =
            outputs.into_iter().flat_map(|output| self.output_instead(host, output)).collect();
        if matches!(self.lie_of(host), Some(Lie::Early | Lie::Forge | Lie::Rules)) {
            told.extend(self.enter_lies(host));
            told.extend(self.sign_all(host));
        }
        told
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "everything else is as the node asked for it")]
    fn output_instead(&mut self, host: usize, output: Output) -> Vec<Output> {
        let lie = self.lie_of(host);
        match output {
            Output::Send { .. } if lie == Some(Lie::Silent) => Vec::new(),
            Output::Send { to, message: CoordinatorMessage::Endorsement(endorsement), at_once }
                if lie == Some(Lie::Twice)
                    && self.fleet.number_of(&to).is_some_and(|to| to.is_multiple_of(2)) =>
            {
                let message = self.other_decision(host, endorsement);
                message.map(|message| Output::Send { to, message, at_once }).into_iter().collect()
            }
            Output::Publish { topic: Topic::Events, bytes } => {
                let publish = |bytes| Output::Publish { topic: Topic::Events, bytes };
                self.envelopes_instead(host, bytes).into_iter().map(publish).collect()
            }
            Output::Publish { topic: Topic::Presence, bytes } => self.presence_instead(host, bytes),
            output => vec![output],
        }
    }

    /// Another decision of the same id, signed as well.
    fn other_decision(&self, host: usize, mut endorsement: EndorsementMessage) -> Option<CoordinatorMessage> {
        let mut decision: Decision = codec::decode("decision", &endorsement.decision).ok()?;
        if let DecisionBody::Dispatch { soak_secs, .. } = &mut decision.body {
            *soak_secs = 0;
        }
        decision.ordinal ^= 1;
        endorsement.decision = codec::encode(&decision);
        endorsement.signature = sign_decision(self.key_of(host)?, FLEET, &endorsement.decision);
        Some(CoordinatorMessage::Endorsement(endorsement))
    }

    fn key_of(&self, host: usize) -> Option<&SigningKey> {
        self.fleet.hosts().get(&self.hosts[host].name)
    }

    fn envelopes_instead(&mut self, host: usize, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let Some(signer) = self.key_of(host).cloned() else { return vec![bytes] };
        let state = &mut self.hosts[host];
        let (Some(liar), Some(node)) = (&mut state.liar, &state.node) else { return vec![bytes] };
        let (Some(tale), Ok(sealed)) = (&mut liar.tale, Sealed::parse(&bytes)) else { return vec![bytes] };
        let Ok(envelope) = codec::decode::<Envelope>("envelope", sealed.payload()) else {
            return vec![bytes];
        };
        let record = match &envelope.body {
            FeedBody::Rollout(event) if liar.lie == Some(Lie::Healthy) => {
                node.ledger().record(&state.name, &event.rollout_id).map(|it| &it.record)
            }
            FeedBody::Rollout(_) | FeedBody::Incarnation(_) => None,
        };
        tale.instead(&signer, &envelope, record)
    }

    fn presence_instead(&mut self, host: usize, bytes: Vec<u8>) -> Vec<Output> {
        let mut outputs = Vec::new();
        let signer = self.key_of(host).cloned();
        let notice = Sealed::parse(&bytes)
            .ok()
            .and_then(|sealed| codec::decode::<Notice>("notice", sealed.payload()).ok());
        let liar = self.hosts[host].liar.as_mut();
        let (Some(signer), Some(mut notice), Some(liar)) = (signer, notice, liar) else { return outputs };
        let publish = |topic, bytes| Output::Publish { topic, bytes };
        if let NoticeBody::Presence(presence) = &mut notice.body {
            if let Some(tale) = &mut liar.tale {
                tale.join(notice.incarnation, (presence.head_seq, presence.head_hash));
                if liar.lie == Some(Lie::Flood) && tale.has_begun() {
                    let started = IncarnationStarted { current_closure: None, started_at: notice.at };
                    let like = Envelope {
                        fleet: notice.fleet.clone(),
                        host: notice.host.clone(),
                        incarnation: notice.incarnation,
                        seq: 0,
                        prev: muster_core::ledger::NO_HASH,
                        at: notice.at,
                        body: FeedBody::Incarnation(started),
                    };
                    let flood = tale.flood(&signer, &like);
                    outputs.extend(flood.into_iter().map(|bytes| publish(Topic::Events, bytes)));
                }
                (presence.head_seq, presence.head_hash) = tale.head();
            }
            if liar.lie == Some(Lie::Presence) {
                presence.head_seq = u64::MAX;
                presence.outbox = u64::MAX;
                presence.fleet_serial = u64::MAX;
                presence.heartbeat_millis = if notice.boot.is_multiple_of(2) { 1 } else { u64::MAX };
                presence.current_closure = "dir:elsewhere".parse().ok();
                presence.failing_enforce_probes.clear();
            }
        }
        let bytes = seal(&signer, Purpose::Notice, FLEET, &codec::encode(&notice));
        outputs.push(publish(Topic::Presence, bytes));
        outputs
    }

    /// Signs every decision that the log led to, and tells the other coordinators.
    fn sign_all(&mut self, host: usize) -> Vec<Output> {
        if self.lie_of(host) == Some(Lie::Rules) {
            return Vec::new();
        }
        let Some(signer) = self.key_of(host).cloned() else { return Vec::new() };
        let state = &mut self.hosts[host];
        let (Some(liar), Some(node)) = (&mut state.liar, &state.node) else { return Vec::new() };
        let mut outputs = Vec::new();
        for derived in node.ledger().uncertified() {
            if !liar.signed.insert(derived.decision.id()) {
                continue;
            }
            let decision = codec::encode(&derived.decision);
            let signature = sign_decision(&signer, FLEET, &decision);
            let electorate = node.ledger().roster().electorate(derived.decision.fleet_serial);
            let others = electorate.into_iter().flat_map(|it| it.members.keys());
            for to in others.filter(|to| **to != signer.public()) {
                let endorsement = EndorsementMessage { decision: decision.clone(), signature };
                let message = CoordinatorMessage::Endorsement(endorsement);
                outputs.push(Output::Send { to: *to, message, at_once: true });
            }
        }
        outputs
    }

    /// What of an input a liar lets its node hear: nothing of the history that it shows others.
    pub(super) fn lets_in(&self, host: usize, input: &Input) -> bool {
        let state = &self.hosts[host];
        let tells = state.liar.as_ref().is_some_and(|liar| liar.tale.is_some());
        !tells || !is_about_feed(&state.name, input)
    }

    /// The other history that a host tells some of the others, if it tells two.
    pub(super) fn other_history(&self, host: usize, topic: Topic, bytes: &[u8]) -> Option<Rc<Parcel>> {
        if self.lie_of(host) != Some(Lie::Fork) || topic != Topic::Events {
            return None;
        }
        let sealed = Sealed::parse(bytes).ok()?;
        let mut envelope: Envelope = codec::decode("envelope", sealed.payload()).ok()?;
        envelope.at += chrono::TimeDelta::milliseconds(1);
        let other = seal(self.key_of(host)?, Purpose::Envelope, FLEET, &codec::encode(&envelope));
        Some(Rc::new(Parcel::new(topic, other)))
    }

    /// Coordinators and hosts stop lying: who lies can delay for as long as he does.
    pub(crate) fn end_lies(&mut self) {
        for liar in self.hosts.iter_mut().filter_map(|host| host.liar.as_mut()) {
            liar.lie = None;
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else speaks of a host's own feed")]
fn is_about_feed(host: &muster_core::id::HostId, input: &Input) -> bool {
    match input {
        Input::Envelope { envelope, .. } => envelope.content.host == *host,
        Input::Notice { notice, .. } => matches!(notice.content.body, NoticeBody::Marks { .. }),
        _ => false,
    }
}

#[cfg(feature = "planted")]
mod entries {
    use muster_core::ledger::Mirrored;
    use muster_core::node::Node;
    use muster_core::wire::{Cause, HostState, LogPayload, LogStatement, RolloutEvent};

    use super::{Lie, Output, World};

    /// Between two lies in the log, in microseconds.
    const PAUSE: u64 = 2_000_000;

    impl World {
        /// What a lying leader enters into the log.
        pub(super) fn enter_lies(&mut self, host: usize) -> Vec<Output> {
            let (Some(lie), now) = (self.lie_of(host), self.now) else { return Vec::new() };
            let state = &mut self.hosts[host];
            let at = state.now(now);
            let (Some(liar), Some(node)) = (&mut state.liar, &mut state.node) else { return Vec::new() };
            if now < liar.rests_until || !node.leads() {
                return Vec::new();
            }
            let payloads = payloads(lie, node, at.utc);
            if payloads.is_empty() {
                return Vec::new();
            }
            liar.rests_until = now + PAUSE;
            node.enter(at, &payloads)
        }
    }

    fn payloads(lie: Lie, node: &Node, at: chrono::DateTime<chrono::Utc>) -> Vec<LogPayload> {
        let ledger = node.ledger();
        let mut events = Vec::new();
        for (id, record) in ledger.rollouts().iter().filter(|(_, record)| record.state.is_open()) {
            let Some(plan) = ledger.plan(id) else { continue };
            let waves = (0..=record.current_wave).zip(&plan.waves);
            for (wave, host) in waves.flat_map(|(number, wave)| wave.hosts.iter().map(move |it| (number, it)))
            {
                let entry = record.hosts.get(host);
                let evidence = ledger.record(host, id).and_then(|it: &Mirrored| it.evidence);
                let (rollout_id, host_id) = (id.clone(), host.clone());
                match (lie, entry, evidence) {
                    (Lie::Early, entry, _) if entry.is_none_or(|entry| entry.is_dispatchable(at)) => {
                        events.push(RolloutEvent::HostJoined { rollout_id, host_id, wave, at });
                    }
                    (Lie::Forge, Some(entry), Some(envelope)) if entry.state != HostState::Converged => {
                        events.push(RolloutEvent::HostStateChanged {
                            rollout_id,
                            host_id,
                            from: entry.state,
                            to: HostState::Converged,
                            cause: Cause::Reported { envelope },
                            at,
                        });
                    }
                    _ => {}
                }
            }
        }
        if lie == Lie::Rules {
            let raised = LogStatement::RulesRaised { rules: u32::MAX, announced: Vec::new() };
            let unknown = LogPayload { rules: u32::MAX, what: LogStatement::Rollout { events } };
            return vec![unknown, LogPayload { rules: ledger.rules(), what: raised }];
        }
        let payload = |events| LogPayload { rules: ledger.rules(), what: LogStatement::Rollout { events } };
        (!events.is_empty()).then(|| payload(events)).into_iter().collect()
    }
}

#[cfg(not(feature = "planted"))]
#[expect(clippy::unused_self, reason = "with the feature a lying leader enters what it likes")]
impl World {
    fn enter_lies(&mut self, _host: usize) -> Vec<Output> {
        Vec::new()
    }
}
