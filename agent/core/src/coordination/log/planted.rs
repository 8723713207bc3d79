//! Bugs for the simulator to find; without the feature `planted` there are none.

use super::Log;

/// Bugs that the simulator must find.
#[cfg_attr(
    not(feature = "planted"),
    expect(unreachable_pub, reason = "it is exported with the feature only")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The caller lets messages leave before their write is durable.
    #[cfg(feature = "planted")]
    SendBeforeStore,
    /// Entries count as stored by their leader before they are.
    CountOwnMatchEarly,
    /// Votes are given without regard to an earlier one of the term.
    VoteTwice,
    /// Entries of earlier terms are committed by counting copies.
    CommitOldTerm,
    /// Votes are given to candidates whose log is older.
    SkipElectability,
    /// Every acknowledgement triggers the next send.
    DuplicateAckStorm,
}

impl Log {
    #[cfg(feature = "planted")]
    pub(super) fn plants(&self, bug: Planted) -> bool {
        self.config.planted == Some(bug)
    }

    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "with the feature it reads the configuration")]
    pub(super) const fn plants(&self, _bug: Planted) -> bool {
        false
    }
}
