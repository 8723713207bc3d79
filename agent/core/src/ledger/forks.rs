//! Hosts that signed two histories, and the proofs of it.

use muster_signing::{Verified, sha256};

use super::{FeedError, Ledger, Table};
use crate::id::HostId;
use crate::verify;
use crate::wire::{Envelope, ForkProof, Received, codec};

impl Ledger {
    /// The proofs that are held, by host.
    pub fn forks(&self) -> impl Iterator<Item = (&HostId, &ForkProof)> {
        self.forks.iter()
    }

    /// Whether a host signed two histories: nobody can know what it does until it gets another key.
    pub fn is_forked(&self, host: &HostId) -> bool {
        self.feeds.get(host).is_some_and(super::Feed::is_forked)
    }

    /// Takes in what somebody else found out; false if it is known, or proves nothing under the present keys.
    pub fn fork(&mut self, proof: &ForkProof) -> bool {
        let (Ok(first), Ok(second)) =
            (verify::envelope(&self.roster, &proof.first), verify::envelope(&self.roster, &proof.second))
        else {
            return false;
        };
        let host = first.content.host.clone();
        if self.forks.contains_key(&host) || !contradict(&first, &second) {
            return false;
        }
        let (incarnation, seq) = (second.content.incarnation, second.content.seq);
        self.keep_fork(&host, proof.clone(), &FeedError::Fork { incarnation, seq });
        true
    }

    pub(super) fn keep_fork(&mut self, host: &HostId, proof: ForkProof, why: &FeedError) {
        self.feeds.entry(host.clone()).or_default().mark_forked();
        let row = sha256(&proof.second).0.to_vec();
        self.batch.put(Table::Proofs, row, codec::encode(&proof));
        self.forks.insert(host.clone(), proof);
        self.alarm(format!("{host} signed two histories: {why}"));
    }
}

fn contradict(first: &Verified<Received<Envelope>>, second: &Verified<Received<Envelope>>) -> bool {
    let (a, b) = (&first.content, &second.content);
    let one_feed = a.host == b.host && a.incarnation == b.incarnation;
    let one_place = a.seq == b.seq && first.hash != second.hash;
    let next_place = b.seq == a.seq.saturating_add(1) && b.prev != first.hash;
    one_feed && (one_place || next_place)
}
