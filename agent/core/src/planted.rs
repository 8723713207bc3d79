//! Bugs for the simulator to find, one per rule that matters.
//!
//! Without the feature `planted`, which only the simulator turns on, there are none and every question here is answered
//! no. With it a bug exists only while the simulator runs a node inside [`with`].

#[cfg(feature = "planted")]
use std::cell::Cell;

macro_rules! bugs {
    ($($(#[$when:meta])* $variant:ident $name:literal $what:literal,)*) => {
        /// One planted bug, or one way in which a coordinator lies.
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
    #[cfg(feature = "planted")]
    CountOwnMatchEarly "count-own-match-early" "entries count as stored by their leader before they are",
    NoTerminal "no-terminal" "a rollout that is done is never said to be",
    NoAdvance "no-advance" "a wave that is done never lets the next one go",
    NoWithdrawals "no-withdrawals" "a dispatch that came to nothing is never given up",
    OwnDecisions "own-decisions" "coordinators derive different bytes from one entry",
    ForgedAccepted "forged-accepted" "documents count whoever signed them",
    UncertifiedActed "uncertified-acted" "the leader hands out decisions that it alone has signed, and hosts take them",
    LieEarly "lie-early" "a coordinator dispatches and signs whatever its evidence says",
    LieForge "lie-forge" "a coordinator claims that hosts converged which did not",
    #[cfg(feature = "planted")]
    LieSilent "lie-silent" "a coordinator tells the others nothing",
    LieRules "lie-rules" "a leading coordinator says that its entries are of rules that nobody knows",
    LieHealthy "lie-healthy" "a host says that it converged, whatever came of its switch",
    LieFlood "lie-flood" "a host fills its feed with events of rollouts that nobody knows",
    LiePresence "lie-presence" "a host's heartbeats say what is not so",
    #[cfg(feature = "planted")]
    LieFork "lie-fork" "a host tells two histories of itself",
    #[cfg(feature = "planted")]
    LieTwice "lie-twice" "a coordinator signs two decisions of one id",
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Runs something with a bug, or none.
#[cfg(feature = "planted")]
pub fn with<T>(bug: Option<Bug>, run: impl FnOnce() -> T) -> T {
    let before = PLANTED.replace(bug);
    let result = run();
    PLANTED.set(before);
    result
}

/// Whether a bug is planted here and now.
#[cfg(feature = "planted")]
pub(crate) fn on(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Nothing is ever planted.
#[cfg(not(feature = "planted"))]
pub(crate) const fn on(_bug: Bug) -> bool {
    false
}
