//! The operators that a host's own configuration pins: where the chain of fleet documents begins.

use std::collections::BTreeMap;

use muster_signing::OperatorKey;
use serde::Deserialize;

use super::count::{ListedTwice, distinct};
use super::json::{self, UniqueMap};
use super::refusal::Refusal;
use crate::id::{FleetName, OperatorName};

/// A pinned root: `trust.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trust {
    /// The fleet.
    pub fleet: FleetName,
    /// Who may sign the first fleet document and recovery documents; each key once.
    pub operators: BTreeMap<OperatorName, OperatorKey>,
    /// How many of them have to.
    pub threshold: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    fleet: FleetName,
    operators: UniqueMap<OperatorName, OperatorKey>,
    threshold: usize,
}

/// Why a pinned root is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error("the trust file cannot be read: {0}")]
    Unreadable(Box<Refusal>),
    /// One person would count as two.
    #[error("the operators {} and {} have one key", .0.first, .0.second)]
    KeyTwice(ListedTwice<OperatorName>),
    /// A threshold that nobody or anybody meets.
    #[error("the threshold is {found}, it has to be 1 to {operators}, the number of operators")]
    Threshold {
        /// What it is.
        found: usize,
        /// How many distinct operator keys there are.
        operators: usize,
    },
    /// Nothing is pinned.
    #[error("no root is pinned")]
    Nothing,
    /// Roots of different fleets.
    #[error("roots of two fleets are pinned, {0} and {1}")]
    TwoFleets(FleetName, FleetName),
}

impl Trust {
    /// Reads and validates a trust file.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let form: Form = json::read(bytes).map_err(|refusal| TrustError::Unreadable(Box::new(refusal)))?;
        Self::new(form.fleet, form.operators.0, form.threshold)
    }

    /// Pins a root.
    pub fn new(
        fleet: FleetName,
        operators: BTreeMap<OperatorName, OperatorKey>,
        threshold: usize,
    ) -> Result<Self, TrustError> {
        let keys = distinct(operators.iter().map(|(name, key)| (name, key.bytes())));
        let keys = keys.map_err(TrustError::KeyTwice)?.len();
        if !(1..=keys).contains(&threshold) {
            return Err(TrustError::Threshold { found: threshold, operators: keys });
        }
        Ok(Self { fleet, operators, threshold })
    }

    /// The trust file that says the same.
    pub fn to_json(&self) -> String {
        let operators: BTreeMap<&OperatorName, String> =
            self.operators.iter().map(|(name, key)| (name, key.to_openssh())).collect();
        serde_json::json!({ "fleet": self.fleet, "operators": operators, "threshold": self.threshold })
            .to_string()
    }
}
