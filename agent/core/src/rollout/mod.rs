//! The rollout machine: how one release goes through the hosts of its plan, by what the log says.
//!
//! ```text
//!  RolloutOpened      HostJoined           WaveAdvanced (none left)          RolloutTerminal
//!  ------------> Opening ----> Active <------------------------> Converging ----------------> Terminal
//!                   |            | ^       (waves left)              |                           |
//!                   |            | | OperatorClearance               |                           |
//!                   | Cancelled  v |                                 |                           |
//!                   +--------> Failed <------------------------------+  too many hosts failed    |
//!                   |            | |                                                             |
//!                   |            v | HostStateChanged{to: Reverted}                              |
//!                   |        Reverted                                                            |
//!                   |            |                                                               |
//!                   +------------+----> Superseded (SuccessorOpened, from all of these) <--------+
//!
//!  Terminal, Reverted, Failed, Superseded --RetentionExpired--> Pruned
//! ```
//!
//! [`step`] reads the plan, the record and one event of the log, and nothing else; so every coordinator comes to the
//! same effects, byte for byte. A log entry is a claim: what it lets through, each approver checks by its own evidence.

mod effect;
mod error;
mod excuse;
mod observe;
mod record;
mod step;

pub use effect::Effect;
pub use error::StepError;
pub use record::{Excuse, HostEntry, Override, RETENTION_SECS, Record, Verb};
pub use step::{Step, StepContext, step, withdraw};
