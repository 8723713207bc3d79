//! The two sides that run the host machine.

use super::effect::{LocalEffect, RemoteEffect};
use super::error::StepError;
use super::record::Record;
use crate::id::Closure;
use crate::wire::HostEvent;

/// A host about itself.
#[derive(Debug, Clone, Copy)]
pub struct Local;

/// A coordinator that mirrors a host.
#[derive(Debug, Clone, Copy)]
pub struct Mirror;

/// One of the two sides; nobody else can be one.
pub trait Role: sealed::Side {}

impl Role for Local {}
impl Role for Mirror {}

pub(super) mod sealed {
    use super::{Closure, HostEvent, Record, StepError};

    /// What tells the sides apart: their effects, and whether events can be missing.
    pub trait Side {
        /// The side's own effects.
        type Effect;

        /// Refuses an event that is not the next one, as far as the side can tell.
        fn check_next(last: u64, got: u64) -> Result<(), StepError>;
        /// Says the event to others, or keeps it.
        fn tell(record: &Record, event: &HostEvent) -> Self::Effect;
        /// Switches to the target.
        fn switch(record: &Record) -> Option<Self::Effect>;
        /// Goes back to what ran before.
        fn roll_back(record: &Record, closure: &Closure) -> Option<Self::Effect>;
        /// Starts the probes anew.
        fn reset_probes(record: &Record) -> Option<Self::Effect>;
        /// Takes the target as suspect.
        fn suspect(record: &Record) -> Option<Self::Effect>;
    }
}

impl sealed::Side for Local {
    type Effect = LocalEffect;

    fn check_next(_last: u64, _got: u64) -> Result<(), StepError> {
        Ok(())
    }

    fn tell(record: &Record, event: &HostEvent) -> LocalEffect {
        LocalEffect::EmitEvent {
            rollout_id: record.rollout_id.clone(),
            payload: event.clone(),
            durable: event.kind.durable(),
        }
    }

    fn switch(record: &Record) -> Option<LocalEffect> {
        let (rollout_id, target) = (record.rollout_id.clone(), record.target_closure.clone());
        Some(LocalEffect::FireSwitch { rollout_id, target })
    }

    fn roll_back(record: &Record, closure: &Closure) -> Option<LocalEffect> {
        Some(LocalEffect::FireRollbackTo { rollout_id: record.rollout_id.clone(), closure: closure.clone() })
    }

    fn reset_probes(record: &Record) -> Option<LocalEffect> {
        Some(LocalEffect::ResetProbeCache { rollout_id: record.rollout_id.clone() })
    }

    fn suspect(_record: &Record) -> Option<LocalEffect> {
        None
    }
}

impl sealed::Side for Mirror {
    type Effect = RemoteEffect;

    fn check_next(last: u64, got: u64) -> Result<(), StepError> {
        let expected = last.saturating_add(1);
        if got == expected { Ok(()) } else { Err(StepError::SeqGap { expected, got }) }
    }

    fn tell(record: &Record, event: &HostEvent) -> RemoteEffect {
        RemoteEffect::AppendEventLog {
            host: record.host.clone(),
            rollout_id: record.rollout_id.clone(),
            payload: event.clone(),
        }
    }

    fn switch(_record: &Record) -> Option<RemoteEffect> {
        None
    }

    fn roll_back(_record: &Record, _closure: &Closure) -> Option<RemoteEffect> {
        None
    }

    fn reset_probes(_record: &Record) -> Option<RemoteEffect> {
        None
    }

    fn suspect(record: &Record) -> Option<RemoteEffect> {
        let (channel, closure) = (record.channel.clone(), record.target_closure.clone());
        Some(RemoteEffect::InsertQuarantine { channel, closure })
    }
}
