//! Why a verb does not fit, each case in a sentence of its own, and what to do instead.

use std::collections::BTreeSet;
use std::fmt;

use crate::document::Scope;
use crate::id::{ChannelId, Closure, HostId, RolloutId};
use crate::rollout::Record;
use crate::wire::{DecisionId, RolloutState};

/// The verbs that are about a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RolloutVerb {
    /// Nothing more is dispatched in it.
    Pause,
    /// Its pause is lifted.
    Resume,
    /// It stops for good.
    Cancel,
    /// A wave is opened.
    Promote,
    /// It goes on although it failed.
    Clear,
    /// It goes on without a host.
    Skip,
}

/// Where a rollout stands, as far as verbs are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// No such rollout is known.
    Unknown,
    /// It has just opened.
    Opening,
    /// A wave is under way.
    Active,
    /// Every wave is done.
    Converging,
    /// It is finished.
    Terminal,
    /// It failed, and its hosts went back.
    Reverted,
    /// It failed.
    Failed,
    /// An operator cancelled it.
    Cancelled,
    /// A newer one took its place.
    Superseded,
    /// It is forgotten.
    Pruned,
}

impl RolloutVerb {
    /// Every verb.
    pub const ALL: [Self; 6] =
        [Self::Pause, Self::Resume, Self::Cancel, Self::Promote, Self::Clear, Self::Skip];

    /// The verb's name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Promote => "promote",
            Self::Clear => "clear",
            Self::Skip => "skip",
        }
    }
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Opening,
        Self::Active,
        Self::Converging,
        Self::Terminal,
        Self::Reverted,
        Self::Failed,
        Self::Cancelled,
        Self::Superseded,
        Self::Pruned,
    ];

    /// The stage of a rollout.
    pub fn of(record: Option<&Record>) -> Self {
        let Some(record) = record else { return Self::Unknown };
        match record.state {
            RolloutState::Opening => Self::Opening,
            RolloutState::Active => Self::Active,
            RolloutState::Converging => Self::Converging,
            RolloutState::Terminal => Self::Terminal,
            RolloutState::Reverted => Self::Reverted,
            RolloutState::Failed if record.is_cancelled() => Self::Cancelled,
            RolloutState::Failed => Self::Failed,
            RolloutState::Superseded => Self::Superseded,
            RolloutState::Pruned => Self::Pruned,
        }
    }
}

/// Why a verb does not fit what is under way; waves are counted from 1, as people do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", Why(self))]
pub enum Misfit {
    /// The rollout is not at a stage for it.
    Rollout {
        /// What was ordered.
        verb: RolloutVerb,
        /// Where the rollout stands.
        stage: Stage,
        /// The rollout.
        rollout: RolloutId,
        /// The newest rollout of its channel, if that is another one.
        newest: Option<RolloutId>,
    },
    /// That very scope is paused.
    PausedAlready {
        /// What is paused.
        scope: Scope,
        /// The reason that was given.
        reason: String,
    },
    /// That very scope is not paused.
    NotPaused {
        /// What was to be resumed.
        scope: Scope,
        /// What is paused, and may have been meant.
        others: BTreeSet<Scope>,
    },
    /// The rollout has fewer waves.
    NoSuchWave {
        /// The rollout.
        rollout: RolloutId,
        /// The wave that was named.
        wave: u32,
        /// How many there are.
        waves: u32,
    },
    /// Nothing follows the wave.
    LastWave {
        /// The rollout.
        rollout: RolloutId,
        /// The wave.
        wave: u32,
    },
    /// The wave asks for no promotion.
    OpensByItself {
        /// The rollout.
        rollout: RolloutId,
        /// The wave.
        wave: u32,
    },
    /// The wave was promoted.
    PromotedAlready {
        /// The rollout.
        rollout: RolloutId,
        /// The wave.
        wave: u32,
    },
    /// A newer rollout of the channel is there.
    NotNewest {
        /// The rollout.
        rollout: RolloutId,
        /// The newer one.
        newest: RolloutId,
    },
    /// Nothing bars the closure.
    NotQuarantined {
        /// The channel.
        channel: ChannelId,
        /// The closure.
        closure: Closure,
    },
    /// The clearance lifts nothing, although something stands.
    NamesNoQuarantine {
        /// The channel.
        channel: ChannelId,
        /// The closure.
        closure: Closure,
        /// What stands.
        standing: BTreeSet<DecisionId>,
    },
    /// A quarantine that is named does not stand.
    NotStanding {
        /// The channel.
        channel: ChannelId,
        /// The closure.
        closure: Closure,
        /// The decision that was named.
        decision: DecisionId,
    },
    /// Nothing waits for the host.
    NoPart {
        /// The host.
        host: HostId,
        /// In this rollout; absent: in any.
        rollout: Option<RolloutId>,
    },
    /// The host was skipped.
    SkippedAlready {
        /// The host.
        host: HostId,
        /// In this rollout; absent: in all.
        rollout: Option<RolloutId>,
    },
    /// The host is done.
    HasConverged {
        /// The host.
        host: HostId,
        /// In this rollout; absent: in all.
        rollout: Option<RolloutId>,
    },
    /// The host does not coordinate.
    NoCoordinator {
        /// The host.
        host: HostId,
    },
    /// The host coordinates as it should.
    Coordinates {
        /// The host.
        host: HostId,
    },
}

struct Why<'a>(&'a Misfit);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Misfit::Rollout { verb, stage, rollout, newest } => {
                f.write_str(&at_stage(*verb, *stage, rollout, newest.as_ref()))
            }
            Misfit::PausedAlready { scope, reason } => write!(f, "{scope} is paused already: {reason}"),
            Misfit::NotPaused { scope, others } if others.is_empty() => write!(f, "{scope} is not paused"),
            Misfit::NotPaused { scope, others } => {
                write!(f, "{scope} is not paused by itself; what is paused is {}", list(others))
            }
            Misfit::NoSuchWave { rollout, wave, waves } => {
                write!(f, "{rollout} has no wave {wave}: its waves are 1 to {waves}")
            }
            Misfit::LastWave { rollout, wave } => {
                write!(f, "wave {wave} is the last one of {rollout}: nothing follows that could be opened")
            }
            Misfit::OpensByItself { rollout, wave } => {
                write!(f, "wave {wave} of {rollout} needs no promotion: the next one opens by itself")
            }
            Misfit::PromotedAlready { rollout, wave } => {
                write!(f, "wave {wave} of {rollout} was promoted before")
            }
            Misfit::NotNewest { rollout, newest } => {
                write!(f, "{newest} came after {rollout}: to go on with the older one would be to go back")
            }
            Misfit::NotQuarantined { channel, closure } => {
                write!(f, "{closure} is not quarantined on {channel}")
            }
            Misfit::NamesNoQuarantine { channel, closure, standing } => write!(
                f,
                "the clearance names none of the quarantines of {closure} on {channel}, which are {}",
                list(standing.iter().map(decision))
            ),
            Misfit::NotStanding { channel, closure, decision: named } => {
                write!(f, "no quarantine {} of {closure} stands on {channel}", decision(named))
            }
            Misfit::NoPart { host, rollout: Some(rollout) } => {
                write!(f, "{rollout} has no target for {host}, and {host} holds no slot in it")
            }
            Misfit::NoPart { host, rollout: None } => {
                write!(f, "{host} is in no open rollout and holds no slot: nothing waits for it")
            }
            Misfit::SkippedAlready { host, rollout: Some(rollout) } => {
                write!(f, "{host} was skipped in {rollout} before")
            }
            Misfit::SkippedAlready { host, rollout: None } => write!(f, "{host} was skipped before"),
            Misfit::HasConverged { host, rollout: Some(rollout) } => {
                write!(f, "{host} has converged in {rollout}: nothing waits for it there")
            }
            Misfit::HasConverged { host, rollout: None } => {
                write!(f, "{host} has converged wherever it is part of: nothing waits for it")
            }
            Misfit::NoCoordinator { host } => write!(f, "{host} is none of the coordinators"),
            Misfit::Coordinates { host } => {
                write!(f, "{host} takes part among the coordinators: it has not stopped")
            }
        }
    }
}

fn at_stage(verb: RolloutVerb, stage: Stage, id: &RolloutId, newest: Option<&RolloutId>) -> String {
    use RolloutVerb as V;
    use Stage as S;
    let newer = || newest.map_or_else(|| "a newer one".to_owned(), ToString::to_string);
    match (verb, stage) {
        (verb, S::Unknown) => format!("no rollout {id} is known here: nothing to {}", verb.name()),
        (verb, S::Pruned) => format!("{id} is over and forgotten: nothing is left to {}", verb.name()),
        (V::Pause, S::Reverted) => format!("{id} failed and its hosts went back: nobody is dispatched in it"),
        (V::Pause, S::Failed) => format!("{id} has failed: nobody is dispatched in it"),
        (V::Pause, S::Cancelled) => format!("{id} is cancelled: nobody is dispatched in it"),
        (V::Pause, S::Superseded) => {
            format!("{} took the place of {id}: nobody is dispatched in it", newer())
        }
        (V::Cancel, S::Terminal) => format!("{id} is finished: nothing is left to cancel"),
        (V::Cancel, S::Reverted) => format!("{id} failed and its hosts went back: it is over already"),
        (V::Cancel, S::Failed) => format!("{id} has failed: it stands still already"),
        (V::Cancel, S::Cancelled) => format!("{id} was cancelled before"),
        (V::Cancel, S::Superseded) => format!("{} took the place of {id}, which stands still", newer()),
        (V::Promote, S::Terminal) => format!("{id} is finished: every wave of it was opened"),
        (V::Promote, S::Reverted) => {
            format!("{id} failed and its hosts went back: no wave of it opens until it is cleared")
        }
        (V::Promote, S::Failed) => format!("{id} has failed: no wave of it opens until it is cleared"),
        (V::Promote, S::Cancelled) => {
            format!("{id} was cancelled: no wave of it opens until it is cleared")
        }
        (V::Promote, S::Superseded) => format!("{} took the place of {id}: its waves stay closed", newer()),
        (V::Clear, S::Opening) => format!("{id} has only just opened: no failure is there to clear"),
        (V::Clear, S::Active) => format!("{id} is under way: it has not failed, so nothing is to clear"),
        (V::Clear, S::Converging) => format!("every wave of {id} is done: nothing is to clear"),
        (V::Clear, S::Terminal) => format!("{id} is finished and did not fail: nothing is to clear"),
        (V::Clear, S::Superseded) => {
            format!("{} took the place of {id}: to go on with it would be to go back", newer())
        }
        (V::Skip, S::Terminal) => format!("{id} is finished: it waits for no host"),
        (V::Skip, S::Reverted) => format!("{id} failed and its hosts went back: it waits for no host"),
        (V::Skip, S::Failed) => format!("{id} has failed: it waits for no host, and this one holds no slot"),
        (V::Skip, S::Cancelled) => format!("{id} was cancelled: it waits for no host"),
        (V::Skip, S::Superseded) => format!("{} took the place of {id}: it waits for no host", newer()),
        (V::Resume, _)
        | (V::Pause, S::Opening | S::Active | S::Converging | S::Terminal)
        | (V::Cancel | V::Promote | V::Skip, S::Opening | S::Active | S::Converging)
        | (V::Clear, S::Reverted | S::Failed | S::Cancelled) => {
            format!("{id} is not to be {}d", verb.name())
        }
    }
}

impl Misfit {
    /// What to do instead.
    pub fn way_out(&self) -> String {
        match self {
            Self::Rollout { verb, stage, rollout, newest } => {
                instead(*verb, *stage, rollout, newest.as_ref())
            }
            Self::PausedAlready { scope, .. } => {
                format!(
                    "muster resume {} lets it go on; a pause that lasts longer takes its place",
                    typed(scope)
                )
            }
            Self::NotPaused { others, .. } => match others.first() {
                Some(other) => format!("muster resume {}", typed(other)),
                None => "muster status says what each host waits for".to_owned(),
            },
            Self::NoSuchWave { rollout, .. } => format!("muster rollout show {rollout} names its waves"),
            Self::LastWave { rollout, .. } | Self::PromotedAlready { rollout, .. } => {
                format!("muster explain {rollout} says what holds it")
            }
            Self::OpensByItself { rollout, .. } => {
                format!("muster explain {rollout} says what the next wave waits for")
            }
            Self::NotNewest { newest, .. } => format!("muster explain {newest} says where that one stands"),
            Self::NotQuarantined { .. } => "muster quarantine list names what is barred".to_owned(),
            Self::NamesNoQuarantine { channel, closure, .. } | Self::NotStanding { channel, closure, .. } => {
                format!("muster clear {channel} {closure} names all that stand")
            }
            Self::NoPart { host, .. }
            | Self::SkippedAlready { host, .. }
            | Self::HasConverged { host, .. } => {
                format!("muster explain {host} says what it waits for")
            }
            Self::NoCoordinator { .. } => {
                "muster fleet check names the coordinators of a fleet document".to_owned()
            }
            Self::Coordinates { .. } => {
                "muster status shows the coordinators and what alarms them".to_owned()
            }
        }
    }
}

fn instead(verb: RolloutVerb, stage: Stage, id: &RolloutId, newest: Option<&RolloutId>) -> String {
    use RolloutVerb as V;
    use Stage as S;
    let channel = id.channel();
    match (verb, stage, newest) {
        (_, S::Unknown | S::Pruned, _) => {
            "muster rollout list names those that this host knows; of a new one it may hear in a moment"
                .to_owned()
        }
        (V::Clear, S::Superseded, Some(newest)) => {
            format!("muster explain {newest} says what holds that one")
        }
        (V::Skip, S::Superseded, Some(newest)) => {
            format!("muster skip HOST --rollout {newest} if that one is meant")
        }
        (verb, S::Superseded, Some(newest)) => {
            format!("muster {} {newest} if that one is meant", verb.name())
        }
        (V::Pause, _, _) => format!("muster pause {channel} holds back whatever is released next"),
        (V::Cancel, S::Terminal, _) => {
            format!("muster rollback {channel} sends its hosts back to what ran before")
        }
        (V::Cancel, _, _) => {
            format!("a new ref on {channel} takes its place; muster clear {id} lets it go on")
        }
        (V::Promote, S::Reverted | S::Failed | S::Cancelled, _) => {
            format!("muster clear {id} lets it go on without the hosts that failed")
        }
        (V::Clear, S::Terminal, _) => {
            "a barred closure is cleared by its channel and name: muster quarantine list".to_owned()
        }
        (V::Clear, _, _) => format!("muster explain {id} says what holds it; muster cancel {id} stops it"),
        (V::Promote | V::Skip | V::Resume, _, _) => format!("muster rollout show {id} says how it ended"),
    }
}

/// A scope as the verbs take it.
fn typed(scope: &Scope) -> String {
    match scope {
        Scope::Channel(channel) => channel.to_string(),
        Scope::Rollout(rollout) => rollout.to_string(),
        Scope::Host(host) => format!("--host {host}"),
    }
}

fn decision(id: &DecisionId) -> String {
    format!("{}.{}", id.log_index, id.ordinal)
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
