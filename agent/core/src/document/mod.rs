//! What operators sign: fleet documents, channel refs and commands.
//!
//! [`accept::Documents`] is the set of documents that a node has accepted; what gets in has passed every rule.
//! [`fleet::Fleet`], [`channel_ref::ChannelRefDocument`] and [`command::Command`] are their contents, parsed
//! into types that hold only what their rules allow, and [`plan::resolve`] turns a fleet document and a channel
//! ref into what a rollout will do.

pub mod accept;
pub mod channel_ref;
pub mod check;
pub mod command;
mod count;
mod dispatchable;
pub mod documents;
pub mod fleet;
mod fleet_form;
mod fleet_rules;
pub mod held;
mod json;
pub mod plan;
pub mod refusal;
pub mod selector;
pub mod trust;
pub mod window;

pub use accept::{Acceptance, Accepted};
pub use channel_ref::ChannelRefDocument;
pub use command::{Command, Scope, Verb};
pub use documents::{Document, Documents};
pub use fleet::{Electorate, Fleet};
pub use held::{Held, Proof};
pub use json::{kind_of, namespace_of};
pub use plan::Plan;
pub use refusal::Refusal;
pub use selector::Selector;
pub use trust::{Trust, TrustError};
pub use window::Window;
