//! The host machine: how one host goes through one rollout.
//!
//! ```text
//!            DispatchAck             ActivationCompleted             Converged
//!  Pending ---------------> Activating ----------------> Soaking ------------> Converged
//!     |                      |     |                     ^     |
//!     +- DispatchRejected    |     +--> Deferred --------+     | Failed
//!        (stays)             |             |  ActivationCompleted
//!                            |             |                   v
//!                            +-------------+-------------->  Failed ------------> Reverted
//!                                ActivationFailed                RollbackComplete
//! ```
//!
//! One reducer, [`step`], serves both sides: the host itself ([`Local`]) and every coordinator that mirrors it
//! ([`Mirror`]). Both come to the same [`Record`] for the same events; only their effects differ, and so do the
//! types of these. What decides about the host's own health while it activates and soaks is [`Vigil`]; it turns
//! what the workers saw into events and is never stored. What a restarted host owes is [`recover`], and how
//! long it keeps at what does not work say [`Boots`] and [`rollback_refused`].

mod effect;
mod error;
mod persistence;
mod record;
mod recover;
mod role;
mod step;
mod vigil;

pub use effect::{Effect, Level, LocalEffect, QueuedDispatch, RemoteEffect};
pub use error::{Invariant, StepError};
pub use persistence::{BOOTS_MAX, Boots, ROLLBACK_PAUSE, ROLLBACK_TRIES_MAX, Refused, rollback_refused};
pub use record::{NO_EXIT_CODE, Owed, ProbeRecord, Record, THIRD_CLOSURE_EXIT_CODE, Terms};
pub use recover::{Boot, Found, Job, Recovery, activation_ended, recover};
pub use role::{Local, Mirror, Role};
pub use step::{HostContext, Step, before_incarnation, step, step_incarnation};
pub use vigil::{CLOCK_JUMP_SECS_MAX, OBSERVE_AGAIN_SECS, PROBE_REPEAT_SECS, ProbeRun, Vigil, Vigilance};

use chrono::{DateTime, TimeDelta, Utc};

/// The moment `secs` after `at`; the last moment there is if that is out of range, so that a signed number never panics.
pub(crate) fn after(at: DateTime<Utc>, secs: u64) -> DateTime<Utc> {
    i64::try_from(secs)
        .ok()
        .and_then(TimeDelta::try_seconds)
        .and_then(|delta| at.checked_add_signed(delta))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
