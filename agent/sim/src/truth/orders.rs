//! Orders that bind whoever signs or takes a dispatch and knows of them: pauses, promotions, hosts that go first, its end.

use muster_core::document::{Plan, Verb};
use muster_core::id::{HostId, RolloutId};
use muster_core::ledger::key;
use muster_core::wire::{Decision, DecisionBody, DecisionId, DocumentKind, codec};
use muster_core::wire::{Notice, NoticeBody};
use muster_signing::Sealed;

use super::Truth;
use crate::host::{Host, true_time};

/// How far a coordinator's clock may be off while its word still shows what it knew.
const CLOCK_OFF_MAX: chrono::TimeDelta = chrono::TimeDelta::seconds(30);

impl Truth {
    /// A coordinator's word about a decision became durable: what it knew before that binds the word.
    pub(super) fn said_row(&mut self, host: usize, row: &[u8]) {
        self.said_at.entry((host, row.to_vec())).or_insert(self.now);
    }

    /// A document became durable on a host, which knows it from now on.
    pub(super) fn document_row(&mut self, host: usize, row: &[u8]) {
        self.known_at.entry((host, row.to_vec())).or_insert(self.now);
    }

    /// A coordinator refuses a decision for good.
    pub(crate) fn objected(&mut self, host: usize, notice: &[u8]) {
        let notice = Sealed::parse(notice)
            .ok()
            .and_then(|sealed| codec::decode::<Notice>("notice", sealed.payload()).ok());
        if let Some(Notice { body: NoticeBody::Objection { decision, .. }, .. }) = notice {
            self.objections.insert((host, decision));
        }
    }

    /// Property 14, asked when a coordinator first signs a decision.
    pub(super) fn check_word(&mut self, signer: usize, decision: &Decision, hosts: &[Host]) {
        let (id, name) = (decision.id(), &hosts[signer].name);
        let row = key::endorsed(id);
        if hosts[signer].disk.row(muster_core::ledger::Table::Endorsed, &row).is_none() {
            return self.broken(10, format!("{name} signs {id:?} and has not stored that it does"));
        }
        if self.objections.contains(&(signer, id)) {
            return self.broken(14, format!("{name} signs {id:?}, to which it has objected"));
        }
        let DecisionBody::Dispatch { host, rollout_id, wave, .. } = &decision.body else { return };
        let Some(plan) = self.plans.get(rollout_id).cloned() else { return };
        let said = self.said_at.get(&(signer, row)).copied().unwrap_or(0);
        if self.knows_pause(signer, said, &plan, host) {
            let what =
                format!("{name} signs a dispatch of {host} into {rollout_id}, which it knows is paused");
            return self.broken(14, what);
        }
        if let Some(earlier) = self.lacks_promotion(&plan, *wave) {
            let what = format!(
                "{name} signs a dispatch of {host} into {rollout_id}, and nobody promoted wave {earlier}"
            );
            return self.broken(14, what);
        }
        // Whoever's own clock is off may take a host to be overdue that is not.
        let off = hosts[signer].utc(self.now) - true_time(self.now);
        if off.abs() <= CLOCK_OFF_MAX {
            self.check_order(name, host, decision.log_index, &plan, hosts);
            self.check_gates(signer, said, decision, hosts);
        }
    }

    /// Whether a host knew of a pause when what it said then became durable.
    fn knows_pause(&self, knows: usize, said: u64, plan: &Plan, host: &HostId) -> bool {
        // Whose commands count after operators were replaced depends on who has heard of that.
        if !self.handovers.is_empty() {
            return false;
        }
        let utc = true_time(self.now) + self.calendar;
        let pause = self.documents.paused(&plan.channel, &plan.rollout_id, host, utc);
        pause.is_some_and(|(_, pause)| {
            let row = key::document(DocumentKind::Command, None, pause.serial, &pause.hash);
            self.known_at.get(&(knows, row)).is_some_and(|known| *known < said)
        })
    }

    /// The first wave before this one that asks for a person's promotion and was never given it.
    fn lacks_promotion(&self, plan: &Plan, wave: u32) -> Option<u32> {
        let waits = |number: u32| {
            let asks = plan.wave(number).is_some_and(|wave| wave.manual_promotion);
            let given = |verb: &Verb| matches!(verb, Verb::Promote { rollout, wave } if *rollout == plan.rollout_id && *wave == number);
            asks && !self.verbs.iter().any(given)
        };
        (0..wave).find(|number| !plan.urgent && waits(*number)).map(|number| number + 1)
    }

    /// Hosts that go first are not under way any more.
    fn check_order(&mut self, signer: &HostId, host: &HostId, log_index: u64, plan: &Plan, hosts: &[Host]) {
        let edges = plan.edges.iter().filter(|edge| edge.gated.contains(host));
        for first in edges.flat_map(|edge| &edge.gates).filter(|first| *first != host) {
            let Some(number) = hosts.iter().position(|it| it.name == *first && !it.is_dormant) else {
                continue;
            };
            let Some(own) = self.own[number].get(&plan.rollout_id) else { continue };
            let lost = self.is_lost(own, plan, first);
            let waits = own.in_flight() && own.state != muster_core::wire::HostState::Deferred;
            let let_go = self.is_let_go(first, &plan.rollout_id) || self.is_twofold(first);
            if waits && own.log_index < log_index && !lost && !let_go {
                let (rollout, state) = (&plan.rollout_id, own.state.name());
                let what = format!(
                    "{signer} signs a dispatch of {host} into {rollout} while {first}, which goes first, is {state}"
                );
                return self.broken(14, what);
            }
        }
    }

    /// Property 14, asked when a host takes a dispatch.
    pub(super) fn check_taken(
        &mut self,
        host: usize,
        rollout: &RolloutId,
        log_index: u64,
        received_at: chrono::DateTime<chrono::Utc>,
        hosts: &[Host],
    ) {
        let name = &hosts[host].name;
        if self.is_twofold(name) {
            return;
        }
        let of_entry = self.decisions.range(DecisionId { log_index, ordinal: 0 }..);
        let end = of_entry.take_while(|(id, _)| id.log_index == log_index).find_map(|(_, (_, decision))| {
            match &decision.body {
                DecisionBody::Dispatch { host, not_after, .. } if host == name => Some(*not_after),
                DecisionBody::Dispatch { .. }
                | DecisionBody::Quarantine { .. }
                | DecisionBody::RolloutTransition { .. }
                | DecisionBody::Withdrawn { .. }
                | DecisionBody::LogSnapshot { .. } => None,
            }
        });
        if let Some(end) = end.filter(|end| received_at > *end) {
            let what =
                format!("{name} takes entry {log_index} of {rollout} at {received_at}, which ends at {end}");
            return self.broken(14, what);
        }
        let Some(plan) = self.plans.get(rollout).cloned() else { return };
        if self.knows_pause(host, self.now, &plan, name) {
            let what = format!("{name} takes a dispatch into {rollout}, which it knows is paused");
            self.broken(14, what);
        }
    }
}
