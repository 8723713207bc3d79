//! What must hold after every step, whatever happens to network, disks and processes.

use crate::member::Member;
use muster_core::coordination::log::{Entry, MemberId, ProposalId, Standing};
use std::collections::{BTreeMap, BTreeSet};

/// What was seen so far of a run, and must never be contradicted.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Everything committed, by whoever applied it first.
    pub(crate) committed: Vec<Entry>,
    pub(crate) proposed: BTreeSet<Vec<u8>>,
    placed: BTreeMap<ProposalId, usize>,
    pub(crate) leaders: BTreeMap<u64, MemberId>,
    /// The greatest term of a member at the time something was committed.
    committed_in_term: u64,
}

impl Checker {
    /// One member applies one entry.
    pub(crate) fn applied(
        &mut self,
        members: &[Member],
        who: usize,
        index: u64,
        entry: &Entry,
    ) -> Result<(), String> {
        let position = usize::try_from(index).unwrap_or(0).wrapping_sub(1);
        let expected = members[who].applied.len();
        if position != expected {
            return Err(format!("member {who} applies index {index} after {expected} entries"));
        }
        if let Some(known) = self.committed.get(position) {
            return match known == entry {
                true => Ok(()),
                false => Err(format!("member {who} applies {entry:?} at {index}, another applied {known:?}")),
            };
        }
        self.first_applied(members, who, position, entry)
    }

    fn first_applied(
        &mut self,
        members: &[Member],
        who: usize,
        position: usize,
        entry: &Entry,
    ) -> Result<(), String> {
        let index = position + 1;
        let holders = holders(members, position, entry);
        if holders < members[who].config.quorum {
            return Err(format!("member {who} applies index {index}, which only {holders} disks hold"));
        }
        match &entry.id {
            None if entry.payload.is_empty() => {}
            Some(_) if self.proposed.contains(&entry.payload) => {}
            _ => return Err(format!("member {who} applies {entry:?}, which nobody proposed")),
        }
        if let Some(other) = entry.id.and_then(|id| self.placed.insert(id, position)) {
            return Err(format!("one proposal is applied at {index} and at {}", other + 1));
        }
        let term = members[who].log.as_ref().map_or(0, muster_core::coordination::log::Log::term);
        self.committed_in_term = self.committed_in_term.max(term);
        self.committed.push(entry.clone());
        Ok(())
    }

    /// The state between two steps.
    pub(crate) fn between_steps(&mut self, members: &[Member]) -> Result<(), String> {
        if let Some(last) = self.committed.last() {
            let holders = holders(members, self.committed.len() - 1, last);
            if holders < members[0].config.quorum {
                return Err(format!(
                    "only {holders} disks still hold the committed index {}",
                    self.committed.len()
                ));
            }
        }
        for (who, member) in members.iter().enumerate() {
            let Some(log) = member.log.as_ref().filter(|log| log.standing() == Standing::Leader) else {
                continue;
            };
            let known = self.leaders.get(&log.term()).copied();
            if known.is_some_and(|known| known != member.config.me) {
                return Err(format!("member {who} is the second leader of term {}", log.term()));
            }
            if known.is_none() {
                self.leaders.insert(log.term(), member.config.me);
                self.has_everything_committed(who, log)?;
            }
        }
        Ok(())
    }

    fn has_everything_committed(
        &self,
        who: usize,
        log: &muster_core::coordination::log::Log,
    ) -> Result<(), String> {
        let index = self.committed.len() as u64;
        let complete = log.entry(index) == self.committed.last();
        if log.term() > self.committed_in_term && !complete {
            return Err(format!(
                "member {who} leads term {} without the committed index {index}",
                log.term()
            ));
        }
        Ok(())
    }
}

fn holders(members: &[Member], position: usize, entry: &Entry) -> usize {
    members
        .iter()
        .filter(|member| member.disk.entries.get(position).is_some_and(|(_, held)| held == entry))
        .count()
}
