//! What no sound member says is refused before it can change anything.

use super::message::{Append, Body, Echo, Head, MemberId, Message};
use super::state::Log;
use super::{Alarm, SignedHead};
use std::collections::BTreeMap;

/// Terms that one message may skip: more than honest elections use up in months, too few to run out of terms.
const TERM_JUMP_MAX: u64 = 1 << 24;
/// Heads of leaders that are remembered, to find a contradiction.
const HEADS_MAX: usize = 1024;

impl Log {
    /// Refuses what no sound member says, before it can change anything.
    pub(super) fn credible(&mut self, from: MemberId, message: &Message) -> bool {
        if message.epoch != self.config.epoch {
            self.alarm(Alarm::OtherEpoch { from, epoch: message.epoch });
            return false;
        }
        if message.term > self.hard.term.saturating_add(TERM_JUMP_MAX) {
            self.alarm(Alarm::TermJump { from, term: message.term });
            return false;
        }
        if !self.own_store_is_as_remembered(from, message.echo) || !self.remember_store(from, message) {
            return false;
        }
        match message.head() {
            Some(head) => self.remember_head(from, head, message),
            None => true,
        }
    }

    /// What this member remembers of the others' stores; to be kept, since after a restart nobody else may know.
    #[must_use]
    pub fn memory(&self) -> &BTreeMap<MemberId, Echo> {
        &self.known
    }

    /// Remembers again what an earlier start of this member did.
    pub fn remember(&mut self, known: BTreeMap<MemberId, Echo>) {
        self.known = known;
    }

    /// A store that is behind what it once told another was put back: what it voted and acknowledged since is
    /// forgotten here and relied upon there.
    fn own_store_is_as_remembered(&mut self, from: MemberId, echo: Option<Echo>) -> bool {
        let Some(remembered) = echo else { return true };
        let found = Echo {
            boot: self.hard.boot,
            term: self.hard.term,
            index: self.last_index(),
            store: self.hard.store,
        };
        let behind = remembered.store != found.store
            || remembered.boot > found.boot
            || remembered.term > found.term
            || (remembered.term == found.term && remembered.index > found.index);
        if behind {
            self.contradicted(from, Alarm::DiskPutBack { member: self.config.me, remembered, found });
        }
        !behind
    }

    /// Notes how far the sender's store is. Nothing counts that comes from a store under another name, or from a later
    /// start with an earlier term: it is not the one that voted and acknowledged.
    fn remember_store(&mut self, from: MemberId, message: &Message) -> bool {
        let agreed = match &message.body {
            Body::Append(append) => append.prev_index.saturating_add(append.entries.len() as u64),
            Body::AppendAnswer(answer) => answer.matched(),
            Body::PreVote(_)
            | Body::PreVoteAnswer(_)
            | Body::Vote(_)
            | Body::VoteAnswer(_)
            | Body::Forward(_)
            | Body::ForwardAnswer(_)
            | Body::Snapshot(_)
            | Body::SnapshotAnswer(_)
            | Body::TimeoutNow(_) => 0,
        };
        let found = Echo { boot: message.boot, term: message.term, index: agreed, store: message.store };
        let known = self.known.entry(from).or_insert(found);
        if known.store != found.store || (found.boot > known.boot && found.term < known.term) {
            let remembered = *known;
            if self.put_back.insert(from) {
                self.alarm(Alarm::DiskPutBack { member: from, remembered, found });
            }
            return false;
        }
        known.boot = known.boot.max(found.boot);
        if (found.term, found.index) > (known.term, known.index) {
            (known.term, known.index) = (found.term, found.index);
        }
        true
    }

    /// One leader has one log in one term; a second digest for one place proves a lie.
    fn remember_head(&mut self, from: MemberId, head: Head, message: &Message) -> bool {
        let Body::Append(Append { signature, .. }) = &message.body else { return true };
        let signature = signature.clone();
        let place = (head.term, head.last_index);
        let second = SignedHead { from, head, signature };
        if let Some(first) = self.heads.get(&place) {
            if first.head.chain_hash != second.head.chain_hash {
                let first = first.clone();
                self.alarm(Alarm::LyingLeader { first, second });
                return false;
            }
            return true;
        }
        self.heads.insert(place, second);
        if self.heads.len() > HEADS_MAX {
            self.heads.pop_first();
        }
        true
    }
}
