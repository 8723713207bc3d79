//! What the coordinators decide: who signed it, and whether its time had come.

use std::collections::BTreeSet;

use muster_core::document::Verb;
use muster_core::ledger::{Reference, Table};
use muster_core::wire::{Decision, DecisionBody, HostState, codec};
use muster_signing::Certificate;

use super::Truth;
use crate::disk::fnv;
use crate::host::Host;

impl Truth {
    pub(super) fn decision_row(&mut self, host: usize, value: &[u8], hosts: &[Host]) {
        let Ok(certificate) = Certificate::parse(value) else {
            return self.broken(10, "a certificate on disk cannot be read".to_owned());
        };
        let hash = fnv(certificate.payload());
        let Ok(decision) = codec::decode::<Decision>("decision", certificate.payload()) else {
            return self.broken(7, "a certified decision cannot be read".to_owned());
        };
        let id = decision.id();
        if let DecisionBody::Quarantine { channel, closure, .. } = &decision.body {
            self.quarantines[host].insert((channel.clone(), closure.clone(), id));
        }
        if let Some((known, _)) = self.decisions.get(&id) {
            if *known != hash {
                self.broken(7, format!("two certificates for decision {id:?} differ"));
            }
            return;
        }
        self.check_quorum(&certificate, &decision);
        self.note_opened(&decision);
        self.decisions.insert(id, (hash, decision.clone()));
        self.check_waves(&decision, hosts);
    }

    /// Whether a quorum of the electorate signed, counted anew.
    pub(super) fn check_quorum(&mut self, certificate: &Certificate, decision: &Decision) {
        let Some(electorate) = self.electorates.get(&decision.fleet_serial) else {
            return self.broken(2, format!("{decision:?} names a fleet document that nobody signed"));
        };
        let keys: BTreeSet<_> = electorate.members.keys().copied().collect();
        let (n, lies) = (keys.len(), electorate.faults > 0);
        let quorum = if lies { (n + (n - 1) / 3 + 1).div_ceil(2) } else { n / 2 + 1 };
        let signed = certificate.verify(self.documents.fleet_name().as_str(), &keys).signers().len();
        if signed < quorum {
            self.broken(2, format!("{signed} of {n} coordinators signed {decision:?}, it takes {quorum}"));
        }
    }

    /// Property 4, asked when a coordinator signs: nobody of an earlier wave is truly under way.
    pub(super) fn check_waves(&mut self, decision: &Decision, hosts: &[Host]) {
        let DecisionBody::Dispatch { host, rollout_id, wave, .. } = &decision.body else { return };
        let Some(plan) = self.plans.get(rollout_id).cloned() else { return };
        let before = usize::try_from(*wave).unwrap_or(0).min(plan.waves.len());
        let limits = &plan.policy;
        for (earlier, wave) in plan.waves[..before].iter().enumerate() {
            let patience = limits
                .lost_after_secs
                .min(limits.activation_timeout_secs + wave.soak_secs + 2 * limits.sustained_failure_secs);
            let mut converged = 0;
            let mut let_go = 0;
            let mut deferred = 0;
            let of_wave = |it: &Host| !it.is_dormant && wave.hosts.contains(&it.name);
            for (number, state) in hosts.iter().enumerate().filter(|(_, it)| of_wave(it)) {
                let own = self.own[number].get(rollout_id);
                let is = |wanted| usize::from(own.is_some_and(|own| own.state == wanted));
                converged += is(HostState::Converged);
                deferred += is(HostState::Deferred);
                if self.is_let_go(&state.name, rollout_id) || self.is_twofold(&state.name) {
                    let_go += 1;
                    continue;
                }
                let Some(own) = own else { continue };
                let lost = self.now.saturating_sub(own.acked) + 100_000_000 >= patience * 1_000_000;
                let under_way = own.in_flight() && own.state != HostState::Deferred;
                if under_way && own.log_index < decision.log_index && !lost {
                    let what = format!(
                        "{host} of a later wave is dispatched into {rollout_id} while {} of wave {} is {}",
                        state.name,
                        earlier + 1,
                        own.state.name()
                    );
                    return self.broken(4, what);
                }
            }
            let cleared =
                |verb: &Verb| matches!(verb, Verb::ClearRollout { rollout } if rollout == rollout_id);
            let twofold = wave.hosts.iter().any(|host| self.is_twofold(host));
            let by_people = twofold || let_go == wave.hosts.len() || self.verbs.iter().any(cleared);
            let by_deferral = deferred > 0 && limits.deferred_advances;
            if converged == 0 && !by_people && !by_deferral && !plan.urgent {
                let wave = earlier + 1;
                let what = format!(
                    "{host} is dispatched into {rollout_id}, and nobody of wave {wave} has converged"
                );
                return self.broken(4, what);
            }
        }
    }

    /// Committed entries are the same everywhere.
    pub(super) fn arrival_row(&mut self, host: usize, value: &[u8], state: &Host) {
        let Ok(reference) = Reference::read(value) else { return };
        if reference.table != Table::Log {
            return;
        }
        let Some(index) = reference.key.as_slice().try_into().map(u64::from_be_bytes).ok() else { return };
        let row = state.disk.row(Table::Log, &reference.key);
        let entry = row.map_or(0, |entry| fnv(entry));
        if let Some(row) = row.filter(|_| !self.log.contains_key(&index)) {
            self.entered(row);
        }
        if *self.log.entry(index).or_insert(entry) != entry {
            self.broken(7, format!("host {host} committed another entry {index} than another coordinator"));
        }
    }

    /// A coordinator signs a decision.
    pub(crate) fn endorsed(&mut self, now: u64, host: usize, decision: &[u8], hosts: &[Host]) {
        self.now = now;
        if hosts[host].lies() {
            return;
        }
        let hash = fnv(decision);
        let Ok(decision) = codec::decode::<Decision>("decision", decision) else { return };
        if let Some(known) = self.endorsed.insert((host, decision.id()), hash) {
            if known != hash {
                let what = format!("{} signs two decisions {:?}", hosts[host].name, decision.id());
                self.broken(7, what);
            }
            return;
        }
        self.check_word(host, &decision, hosts);
        let DecisionBody::Dispatch { rollout_id, target_closure, .. } = &decision.body else { return };
        let channel = rollout_id.channel();
        let barred = self.quarantines[host].iter().any(|(on, closure, id)| {
            *on == channel && closure == target_closure && !self.lifted.contains(&(on.clone(), *id))
        });
        if barred {
            let what = format!("{} signs a dispatch to the quarantined {target_closure}", hosts[host].name);
            self.broken(5, what);
        }
        self.check_waves(&decision, hosts);
    }
}
