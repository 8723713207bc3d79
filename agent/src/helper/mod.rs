//! Privilege separation: the network daemon decides nothing that root believes.
//!
//! The agent talks to the whole fleet, so it runs without rights of its own. What only root can do is done by
//! `muster activate`, a second process that systemd starts for one connection of a local socket, without a network. It
//! takes one order, and **believes nothing that the daemon says**: it verifies by itself, from the documents that it is
//! handed and the root-owned trust file, that the operators signed this closure for this host, that a quorum of
//! coordinators agreed, and that none of it is old, expired, or used before. The rules are those of the agent, by the
//! very functions of `muster-core`.
//!
//! Read it in this order. [`protocol`] is what is asked and answered. [`authorize`] is the judgement, a pure function;
//! [`memory`] is what it remembers from one order to the next, and [`vault`] keeps that on disk before anything is done. [`serve`] is the process
//! around both, [`caller`] whom it listens to, [`trusted`] how it opens files, and [`restart`] how the agent is renewed.
//! The daemon's half is [`client`], and [`papers`], which takes the proofs out of its store.
//!
//! The types hold the order of things: an executor is given an [`authorize::Act`], an `Act` comes only out of
//! [`authorize::Authorized::remembered`], which has made the memory durable, and an `Authorized` only out of
//! [`authorize::authorize`].
//!
//! What a daemon that was taken over can still do: withhold pauses, quarantines and newer documents that this host has
//! not acted on yet; leave a certified switch undone; go back once, to what ran before the last switch; and stop. It cannot
//! activate what no operator signed for this host, nor anything before a quorum agreed, nor the same decision twice.

pub mod authorize;
pub mod caller;
pub mod client;
pub mod memory;
pub mod papers;
pub mod protocol;
mod refused;
pub mod restart;
pub mod serve;
pub mod trusted;
pub mod vault;

#[cfg(test)]
mod tests;
