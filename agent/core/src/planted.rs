//! Bugs for the simulator to find, one per rule that matters.
//!
//! A bug is an argument of the constructors with which only the simulator makes a node, and goes with its documents and
//! what is made of them. Without the feature `planted`, which only the simulator turns on, no such constructor exists
//! and every question here is answered no.

macro_rules! bugs {
    ($($(#[$when:meta])* $variant:ident $name:literal $what:literal,)*) => {
        /// One planted bug.
        #[cfg_attr(not(feature = "planted"), expect(unreachable_pub, reason = "it is exported with the feature only"))]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[$when])* #[doc = $what] $variant,)*
        }

        #[cfg(feature = "planted")]
        impl Bug {
            /// Every bug.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What is wrong with it, in words.
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

bugs! {
    QuorumMinusOne "quorum-minus-one" "one signature less than a quorum certifies",
    BudgetOffByOne "budget-off-by-one" "a budget lets one host more in flight",
    BudgetIgnoresFailed "budget-ignores-failed" "a failed host counts in no budget",
    BudgetIgnoresOthers "budget-ignores-others" "hosts in flight for other rollouts count in no budget",
    BudgetForgetsPending "budget-forgets-pending" "a dispatched host counts once it has acknowledged",
    SilenceFreesSlot "silence-frees-slot" "a host that is not heard of gives its slot up",
    WaveIgnored "wave-ignored" "hosts are dispatched whatever the earlier waves are",
    InFlightIsDone "in-flight-is-done" "a host in flight does not hold its wave",
    EmptyCanaryProves "empty-canary-proves" "a wave of which nobody converged lets the next one go",
    QuarantineIgnored "quarantine-ignored" "quarantined closures are dispatched and activated",
    BusyIgnored "busy-ignored" "a host in flight is dispatched into another rollout, and goes",
    ForgetRollbackDebt "forget-rollback-debt" "a rollback that was owed at a restart is not made",
    SwitchTwice "switch-twice" "a restarted host switches again although its switch had begun",
    RollbackOnTrust "rollback-on-trust" "a rollback is taken to have worked whatever the backend says",
    RollbackElsewhere "rollback-elsewhere" "a rollback goes to what ran first of all",
    ClockJumpIgnored "clock-jump-ignored" "a soak goes on over a jump of the wall clock",
    SoakUnchecked "soak-unchecked" "a healthy host converges without soaking",
    ConvergeUnasked "converge-unasked" "a host converges without asking what runs",
    SilenceIsHealth "silence-is-health" "a probe without a result counts as passing",
    ArrivalForgotten "arrival-forgotten" "a certified decision is stored without noting when it came",
    ViewForgotten "view-forgotten" "the view of a converged host is not written",
    FeedRowForgotten "feed-row-forgotten" "an envelope is published that was not stored",
    SendBeforeStore "send-before-store" "messages leave before what they say is durable",
    VoteForgotten "vote-forgotten" "votes are not stored",
    #[cfg(feature = "planted")]
    VoteTwice "vote-twice" "votes are given without regard to an earlier one of the term",
    #[cfg(feature = "planted")]
    SkipElectability "skip-electability" "votes are given to candidates whose log is older",
    NoTerminal "no-terminal" "a rollout that is done is never said to be",
    NoAdvance "no-advance" "a wave that is done never lets the next one go",
    OwnDecisions "own-decisions" "coordinators derive different bytes from one entry",
    ForgedAccepted "forged-accepted" "documents count whoever signed them",
    PromotionIgnored "promotion-ignored" "a wave goes on without the person whom it asks for",
    PauseIgnored "pause-ignored" "a pause holds nobody back",
    LateTaken "late-taken" "a dispatch is taken after its end",
    ObjectionForgotten "objection-forgotten" "who objected to a decision may sign it later",
    EndorsementUnstored "endorsement-unstored" "a signature leaves that was not stored",
    SignersKept "signers-kept" "a ref counts although its operators were replaced",
    SoakFromDispatch "soak-from-dispatch" "a soak counts from the dispatch instead of the activation",
    DeferredKept "deferred-kept" "a host that waits for its reboot keeps a target that has failed elsewhere",
    HistoryRefused "history-refused" "a fleet document that was missed is refused as a downgrade",
    SaidOnce "said-once" "a signature is sent once and never again",
    FeedUnasked "feed-unasked" "a host goes on from its disk without asking where its feed ends",
    MajorityForLies "majority-for-lies" "a majority certifies although coordinators may lie",
    ForkUntold "fork-untold" "who finds a host's two histories tells nobody",
    CheckpointDropped "checkpoint-dropped" "the checkpoint from which a replay would go on is given up itself",
    RetentionIgnored "retention-ignored" "a rollout is pruned as soon as it is over",
    FetchForEver "fetch-for-ever" "a host that can never fetch its target holds its wave for ever",
    StaleDispatched "stale-dispatched" "a ref is dispatched however old it is",
    WindowIgnored "window-ignored" "hosts are dispatched while no maintenance window is open",
    ChannelEdgeIgnored "channel-edge-ignored" "a channel does not wait for the one that goes first",
    HostEdgeIgnored "host-edge-ignored" "a host does not wait for the one that goes first",
    SilentDispatched "silent-dispatched" "a host is dispatched although nobody hears of it",
    UnfetchedDispatched "unfetched-dispatched" "a host is dispatched although it has not fetched its target",
    SnapshotForgets "snapshot-forgets" "who takes a snapshot of the log keeps what it knew of rollouts before",
    UncertifiedActed "uncertified-acted" "the leader hands out decisions that it alone has signed, and hosts take them",
}

/// The bug that a node is made with; none, unless the simulator makes it.
#[cfg_attr(
    not(feature = "planted"),
    expect(unreachable_pub, reason = "it is exported with the feature only")
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(feature = "planted")]
    bug: Option<Bug>,
}

#[cfg(feature = "planted")]
impl Planted {
    /// A bug, or none.
    pub const fn of(bug: Option<Bug>) -> Self {
        Self { bug }
    }

    /// Whether it is this bug.
    pub(crate) fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

#[cfg(not(feature = "planted"))]
impl Planted {
    /// Nothing is ever planted.
    #[expect(clippy::unused_self, reason = "with the feature it looks at the bug")]
    pub(crate) const fn has(self, _bug: Bug) -> bool {
        false
    }
}
