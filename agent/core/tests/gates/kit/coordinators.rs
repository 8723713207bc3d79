//! What coordinators do: their log says something, and a quorum of them certifies what follows.

use std::collections::BTreeSet;

use muster_core::coordination::log::Entry;
use muster_core::id::RolloutId;
use muster_core::ledger::{Applied, Derived};
use muster_core::planner;
use muster_core::verify::{self, Certified};
use muster_core::wire::{
    Cause, Decision, DocumentKind, HostState, LogPayload, LogStatement, RULES, RolloutEvent, codec,
};
use muster_signing::{Digest, assemble, sign_decision};

use super::{FLEET, Story, host, key_of};

impl Story {
    pub(crate) fn entry(&mut self, what: LogStatement) -> Applied {
        let payload = codec::encode(&LogPayload { rules: RULES, what });
        let entry = Entry { at: self.now, id: None, term: 1, change: None, payload, chain_hash: [0; 32] };
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
}
