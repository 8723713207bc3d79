//! What is over and may be given up: how long ago it ended, and whether anything that still counts refers to it.

use chrono::{DateTime, Utc};

use super::Ledger;
use super::views::Subject;
use crate::host::Record;
use crate::id::{Closure, HostId, RolloutId};
use crate::wire::{HostState, RolloutState};

/// On how many of its last closures a host is known to have converged.
const PROVEN_MAX: usize = 10;

impl Ledger {
    /// The rollouts of which the log heard the last before that moment, that are over, not pruned yet, and that nothing
    /// refers to.
    pub fn expired(&self, before: DateTime<Utc>) -> impl Iterator<Item = &RolloutId> {
        let over = self.rollouts.iter().filter(move |(_, record)| {
            let over = !record.state.is_open() && record.state != RolloutState::Pruned;
            over && record.last_heard_at() < before
        });
        over.map(|(id, _)| id).filter(|id| !self.refers_to(id))
    }

    /// Whether anything that still counts refers to a rollout, by all that is known here: a channel's ref, a quarantine in
    /// force, a slot that nothing has freed, or a host that is on its way.
    pub fn refers_to(&self, rollout: &RolloutId) -> bool {
        let newest = self.documents.channel_ref(&rollout.channel());
        self.log_refers_to(rollout)
            || newest.is_some_and(|held| held.rollout_id() == *rollout)
            || self.quarantines().any(|(.., quarantine)| quarantine.rollout_id == *rollout)
            || self.slots.hosts().any(|host| self.slots.of(host).any(|slot| slot.rollout == *rollout))
            || self
                .records
                .values()
                .any(|of_host| of_host.get(rollout).is_some_and(|mirrored| is_under_way(&mirrored.record)))
    }

    /// Gives up what is over, with the records of its hosts.
    pub(super) fn retire(&mut self, before: DateTime<Utc>) {
        for id in self.retiring(before) {
            self.give_up(&id);
        }
    }

    /// Every rollout that is over since before a moment and that nothing refers to; who follows the log waits for it to say
    /// so.
    pub(crate) fn retiring(&self, before: DateTime<Utc>) -> Vec<RolloutId> {
        let over = self.rollouts.iter().filter(|(id, record)| {
            let over = match self.follows_log {
                true => record.state == RolloutState::Pruned,
                false => !record.state.is_open(),
            };
            over && record.last_heard_at() < before && self.heard_of_hosts(id) < Some(before)
        });
        let gone = over.map(|(id, _)| id).filter(|id| !self.refers_to(id) && !self.is_last_of_a_host(id));
        gone.cloned().collect()
    }

    fn give_up(&mut self, id: &RolloutId) {
        let position = self.last_position();
        if let Some(record) = self.rollouts.remove(id)
            && record.came_to_its_end()
        {
            let ended = self.ended.entry(record.channel.clone()).or_default();
            *ended = (*ended).max(record.opened_log_index);
        }
        self.touch(Subject::Rollout(id.clone()), position);
        let hosts: Vec<HostId> =
            self.records.iter().filter(|(_, of)| of.contains_key(id)).map(|(host, _)| host.clone()).collect();
        for host in hosts {
            let Some(of_host) = self.records.get_mut(&host) else { continue };
            let Some(mirrored) = of_host.remove(id) else { continue };
            if of_host.is_empty() {
                self.records.remove(&host);
            }
            if mirrored.record.state == HostState::Converged {
                let proven = self.proven.entry(host.clone()).or_default();
                proven.insert(mirrored.record.log_index, mirrored.record.target_closure.clone());
                while proven.len() > PROVEN_MAX {
                    proven.pop_first();
                }
            }
            self.touch(Subject::HostRecord(id.clone(), host), position);
        }
        for feed in self.feeds.values_mut() {
            feed.forget(id);
        }
        self.retired.insert(id.clone());
    }

    /// Whether a host converged on a closure in a rollout that was given up since.
    pub(crate) fn has_proven(&self, host: &HostId, closure: &Closure) -> bool {
        self.proven.get(host).is_some_and(|proven| proven.values().any(|known| known == closure))
    }

    /// When a host last reported anything in the rollout.
    fn heard_of_hosts(&self, rollout: &RolloutId) -> Option<DateTime<Utc>> {
        self.records.values().filter_map(|of_host| of_host.get(rollout)?.reported_at).max()
    }

    /// Whether it is the last that an enrolled host was dispatched into: that tells what the host runs.
    fn is_last_of_a_host(&self, rollout: &RolloutId) -> bool {
        self.records.iter().any(|(host, of_host)| {
            let last = of_host.values().max_by_key(|it| it.record.log_index);
            let is_it = last.is_some_and(|it| it.record.rollout_id == *rollout);
            is_it && self.documents.fleet().is_some_and(|fleet| fleet.hosts.contains_key(host))
        })
    }

    /// Whether the log itself does, the same on every coordinator: a channel's newest rollout is never given up.
    pub(super) fn log_refers_to(&self, rollout: &RolloutId) -> bool {
        let channel = rollout.channel();
        let adopted = self.adopted.refs.get(&channel).and_then(|hash| self.documents.ref_by_hash(hash));
        self.newest.get(&channel) == Some(rollout)
            || adopted.is_some_and(|held| held.rollout_id() == *rollout)
    }
}

/// Whether its host may still act in the rollout.
fn is_under_way(record: &Record) -> bool {
    match record.state {
        HostState::Pending | HostState::Activating | HostState::Deferred | HostState::Soaking => true,
        HostState::Failed => record.owes_rollback(),
        HostState::Converged | HostState::Reverted => false,
    }
}
