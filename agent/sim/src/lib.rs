//! Whole fleets of nodes in one thread and in virtual time.
//!
//! What runs is the shipped [`muster_core::node::Node`] behind the shipped [`muster_core::drive::Drive`]; only
//! the clock, the network, the disk and the machines that switch are stand-ins. A run is a pure function of its
//! seed and of what the scenario does, so a failing seed is a bug report.
//!
//! A [`run`](run::run) draws a fleet, its habits and a mix of [faults](fault::Fault) from a seed, lets operators
//! release and order things meanwhile, then repairs everything and waits for what is open to end. What is asked of it
//! are the [properties](property::PROPERTIES): those of safety after every durable write, signature, publication and
//! switch, against the true state of the world, which never asks a node what it believes; those of liveness once the
//! faults have stopped.
//!
//! A [`Forecast`](forecast::Forecast) plays one channel ref on a copy of a fleet, for operators who want to know what
//! would become of it.
//!
//! The harness is tested itself: `muster-sim --mutants` plants one bug after the other into the nodes and has each
//! caught; the table below names them. `muster-sim --tolerate lies` has as many coordinators lie as their electorate
//! tolerates. Liars are hosts whose outputs the world changes on their way out (see [`Lie`]); the node inside them is the
//! shipped one. The program and the tests have the feature `planted` on, which also stands cheap stand-ins in for keys
//! (`--real-signatures` turns those off); who takes this crate for its library alone takes it without.
#![doc = ""]
#![doc = include_str!("../mutants.md")]

pub mod bench;
mod disk;
mod draw;
mod electorate;
pub mod fault;
pub mod fleet;
pub mod forecast;
mod host;
mod liar;
#[cfg(feature = "planted")]
pub mod log;
mod machine;
mod network;
mod operator;
mod parcel;
pub mod property;
mod random;
pub mod run;
mod strike;
mod trace;
mod truth;
pub mod world;

pub use draw::Size;
pub use host::Bug;
pub use liar::Lie;
pub use machine::Health;
pub use world::World;
