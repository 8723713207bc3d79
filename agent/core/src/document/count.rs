//! Counting keys: distinct bytes, never names.

use std::collections::{BTreeMap, BTreeSet};

/// Two names of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTwice<N> {
    /// The one name.
    pub first: N,
    /// The other.
    pub second: N,
}

/// The distinct keys of a list, or two names that share one.
pub(super) fn distinct<'a, N: Clone + 'a, K: Ord>(
    keys: impl IntoIterator<Item = (&'a N, K)>,
) -> Result<BTreeSet<K>, ListedTwice<N>> {
    let mut names: BTreeMap<K, &N> = BTreeMap::new();
    for (name, key) in keys {
        if let Some(first) = names.get(&key) {
            return Err(ListedTwice { first: (*first).clone(), second: name.clone() });
        }
        names.insert(key, name);
    }
    Ok(names.into_keys().collect())
}
