//! The rules by which a verb fits, as tables over what it is about.

use std::collections::BTreeSet;

use super::misfit::{Misfit, RolloutVerb, Stage};
use crate::id::{ChannelId, Closure, HostId, RolloutId};
use crate::wire::DecisionId;

/// What a promotion of a wave would meet in a rollout that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The rollout has no such wave.
    NoSuchWave,
    /// Nothing follows it.
    Last,
    /// What follows it needs nobody's word.
    OpensByItself,
    /// It was promoted before.
    Promoted,
    /// What follows it waits for a person, now or once it is done.
    Waits,
}

/// What a skip of a host would meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skippable {
    /// Nothing that is under way is for it, and it holds no slot.
    NoPart,
    /// It was skipped before.
    Skipped,
    /// It is done.
    Converged,
    /// Something waits for it, or it holds a slot.
    Waits,
}

/// What a host does among the coordinators, as far as a node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinating {
    /// It is none of them.
    No,
    /// It takes part.
    Works,
    /// It stands still.
    Stopped,
    /// It is one of them, and only itself knows how it does.
    Unknown,
}

/// What a clearance of a closure names, and what there is to lift.
#[derive(Debug, Clone, Copy)]
pub struct Lifted<'a> {
    /// The quarantines that it names.
    pub named: &'a BTreeSet<DecisionId>,
    /// The quarantines that stand.
    pub standing: &'a BTreeSet<DecisionId>,
    /// Whether this node itself suspects the closure.
    pub suspect: bool,
}

/// Whether a verb fits a rollout at its stage.
///
/// Of `Resume` the pause decides, whatever became of the rollout; of `Skip` this is asked of hosts without a slot.
pub fn on_rollout(
    verb: RolloutVerb,
    stage: Stage,
    rollout: &RolloutId,
    newest: Option<&RolloutId>,
) -> Result<(), Misfit> {
    use RolloutVerb as V;
    use Stage as S;
    let fits = match verb {
        V::Resume => true,
        // Whoever was offline is dispatched into a finished rollout when it returns.
        V::Pause => matches!(stage, S::Opening | S::Active | S::Converging | S::Terminal),
        V::Cancel | V::Promote | V::Skip => matches!(stage, S::Opening | S::Active | S::Converging),
        V::Clear => matches!(stage, S::Reverted | S::Failed | S::Cancelled),
    };
    if fits {
        return Ok(());
    }
    let newest = newest.filter(|newest| *newest != rollout).cloned();
    Err(Misfit::Rollout { verb, stage, rollout: rollout.clone(), newest })
}

/// Whether a wave can be promoted; waves are counted from 0 here.
pub fn promotes(rollout: &RolloutId, wave: u32, waves: u32, readiness: Readiness) -> Result<(), Misfit> {
    let (rollout, wave) = (rollout.clone(), wave.saturating_add(1));
    Err(match readiness {
        Readiness::Waits => return Ok(()),
        Readiness::NoSuchWave => Misfit::NoSuchWave { rollout, wave, waves },
        Readiness::Last => Misfit::LastWave { rollout, wave },
        Readiness::OpensByItself => Misfit::OpensByItself { rollout, wave },
        Readiness::Promoted => Misfit::PromotedAlready { rollout, wave },
    })
}

/// Whether a host can be skipped, in one rollout or in all.
pub fn skips(host: &HostId, rollout: Option<&RolloutId>, skippable: Skippable) -> Result<(), Misfit> {
    let (host, rollout) = (host.clone(), rollout.cloned());
    Err(match skippable {
        Skippable::Waits => return Ok(()),
        Skippable::NoPart => Misfit::NoPart { host, rollout },
        Skippable::Skipped => Misfit::SkippedAlready { host, rollout },
        Skippable::Converged => Misfit::HasConverged { host, rollout },
    })
}

/// Whether a coordinator can be readmitted.
pub fn readmits(host: &HostId, coordinating: Coordinating) -> Result<(), Misfit> {
    match coordinating {
        Coordinating::Stopped | Coordinating::Unknown => Ok(()),
        Coordinating::No => Err(Misfit::NoCoordinator { host: host.clone() }),
        Coordinating::Works => Err(Misfit::Coordinates { host: host.clone() }),
    }
}

impl Lifted<'_> {
    /// Whether there is something to lift, and all that is named stands.
    pub fn check(&self, channel: &ChannelId, closure: &Closure) -> Result<(), Misfit> {
        let (channel, closure) = (channel.clone(), closure.clone());
        if let Some(decision) = self.named.difference(self.standing).next() {
            return Err(Misfit::NotStanding { channel, closure, decision: *decision });
        }
        match (self.standing.first(), self.named.first()) {
            (None, _) if !self.suspect => Err(Misfit::NotQuarantined { channel, closure }),
            (Some(_), None) => {
                Err(Misfit::NamesNoQuarantine { channel, closure, standing: self.standing.clone() })
            }
            (None | Some(_), _) => Ok(()),
        }
    }
}
