//! Everything that decides, and nothing that acts: documents, reducers, gates, the ordered log, endorsement.
//!
//! This crate has no clock, socket, file, thread or source of randomness; its manifest and a house rule see to
//! that. Time and seeds are arguments. So the daemon, the simulator and commands that ask "what would happen"
//! all run the same code.
//!
//! Read it in this order. [`id`] and [`wire`] name things. [`document`] is what operators sign, down to a
//! rollout's [`document::Plan`]. [`host`] and [`rollout`] are the two state machines. [`ledger`] is what a node
//! knows for good, [`presence`] whom it heard of lately, and [`view`] both together, which the [`gate`]s ask.
//! [`verbs`] says what an operator's command means to them, and [`preview`] what a new ref would.
//! [`planner`] proposes entries to the coordinators' log, [`coordination`] orders and approves them, and
//! [`node`] puts all of it behind one door: [`node::Node::step`]. [`verify`] is what bytes from outside must
//! pass before they get to that door, and [`drive`] the order in which a shell carries out what comes out.
//! [`hook`] stands beside it: what of all that was learnt people want to be called for, and how often it is tried.

pub mod coordination;
pub mod document;
pub mod drive;
pub mod gate;
pub mod hook;
pub mod host;
pub mod id;
pub mod ledger;
mod memo;
pub mod node;
pub mod planner;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
pub mod presence;
pub mod preview;
pub mod rollout;
pub mod time;
pub mod verbs;
pub mod verify;
pub mod view;
pub mod wire;
