//! What other coordinators said to decisions that the log has not led to here yet; bounded for each of them.

use std::collections::{BTreeMap, BTreeSet};

use muster_signing::PublicKey;

use crate::verify::Endorsement;
use crate::wire::DecisionId;

/// Decisions of which one coordinator's word is kept; the lowest count, since the log comes to them first.
const EARLY_MAX: usize = 2048;

/// Signatures and objections that came before their entry.
#[derive(Debug, Default)]
pub(super) struct Early {
    endorsed: BTreeMap<PublicKey, BTreeMap<DecisionId, Endorsement>>,
    objected: BTreeMap<PublicKey, BTreeSet<DecisionId>>,
    named: BTreeSet<PublicKey>,
}

impl Early {
    /// Keeps a signature; true the first time that its signer said too much.
    pub(super) fn endorsed(&mut self, endorsement: Endorsement) -> bool {
        let by = *endorsement.endorsed.signer();
        let of = self.endorsed.entry(by).or_default();
        of.entry(endorsement.decision.id()).or_insert(endorsement);
        let too_many = of.len() > EARLY_MAX;
        if too_many {
            of.pop_last();
        }
        too_many && self.named.insert(by)
    }

    /// Keeps an objection; true the first time that its signer said too much.
    pub(super) fn objected(&mut self, id: DecisionId, by: PublicKey) -> bool {
        let of = self.objected.entry(by).or_default();
        of.insert(id);
        let too_many = of.len() > EARLY_MAX;
        if too_many {
            of.pop_last();
        }
        too_many && self.named.insert(by)
    }

    /// Takes out the signatures of a decision that the log has led to.
    pub(super) fn endorsements(&mut self, id: DecisionId) -> Vec<Endorsement> {
        self.endorsed.values_mut().filter_map(|of| of.remove(&id)).collect()
    }

    /// Takes out who objected to a decision that the log has led to.
    pub(super) fn objectors(&mut self, id: DecisionId) -> BTreeSet<PublicKey> {
        self.objected.iter_mut().filter_map(|(by, of)| of.remove(&id).then_some(*by)).collect()
    }
}
