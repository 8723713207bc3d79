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
    /// The electorate changes again before its last change is committed.
    TwoStepsAtOnce,
    /// A new leader changes the electorate before anything of its term is committed.
    StepBeforeOwnTerm,
    /// Votes and copies of founders count although they were removed.
    RemovedStillCounted,
    /// Votes and copies of learners count.
    LearnersCounted,
    /// A step that is cut from the log stays in force.
    KeepCutSteps,
    /// A snapshot tells the founders instead of the electorate at its index.
    SnapshotWithoutElectorate,
    /// A snapshot does not tell which proposals it holds.
    SnapshotWithoutProposals,
    /// A snapshot is acknowledged when its first chunk has come.
    AcknowledgeFirstChunk,
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
