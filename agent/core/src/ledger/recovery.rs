//! A recovery: a fleet document that takes effect without the old coordinators, whose log it ends.
//!
//! What the old log decided counts no more, but for what hosts did by it: their slots stay taken until evidence frees
//! them, and of dispatches that this node never heard of their feeds tell. Entries and decisions of the new log have
//! greater indexes than any of the old one can have had, so that nothing of the one is taken for something of the other.

use super::snapshot::Traces;
use super::views::Subject;
use super::{Adopted, FIRST_RULES, Ledger};
use crate::document::Documents;

/// How many entries a log may have in a second for which it exists; far more than any has.
const ENTRIES_PER_SECOND: u64 = 1 << 20;

impl Ledger {
    /// Behind which index the log begins: 0, or what the last recovery document says.
    pub fn log_begins_behind(&self) -> u64 {
        self.base
    }

    /// Whether a recovery document has ended a log before this one.
    pub fn is_recovered(&self) -> bool {
        self.base > 0
    }

    /// Forgets the log that a recovery document has ended, if it has.
    pub(super) fn follow_recovery(&mut self) {
        let base = base_of(&self.documents);
        if base == self.base {
            return;
        }
        self.base = base;
        for rollout in std::mem::take(&mut self.rollouts).into_keys() {
            self.touch(Subject::Rollout(rollout), self.last_position());
        }
        self.newest.clear();
        self.retired.clear();
        self.ended.clear();
        self.adopted = Adopted::default();
        self.uncertified.clear();
        (self.traces, self.taken) = (Traces::default(), None);
        // A host that holds the recovery document acts on nothing that was certified before.
        self.owed.clear();
        (self.follows_log, self.rules, self.group, self.deciding) = (false, FIRST_RULES, None, 0);
        (self.applied, self.last_entry_at) = (base, None);
        let hosts: Vec<_> = self.feeds.keys().cloned().collect();
        for host in hosts {
            self.advance(&host);
        }
    }
}

fn base_of(documents: &Documents) -> u64 {
    let signed = documents.last_recovery().map_or(0, |fleet| fleet.signed_at.timestamp());
    u64::try_from(signed).unwrap_or_default().saturating_mul(ENTRIES_PER_SECOND)
}
