//! Whole fleets of nodes in one thread and in virtual time.
//!
//! What runs is the shipped [`muster_core::node::Node`] behind the shipped [`muster_core::drive::Drive`]; only
//! the clock, the network, the disk and the machines that switch are stand-ins. A run is a pure function of its
//! seed and of what the scenario does, so a failing seed is a bug report.

mod disk;
mod draw;
pub mod fault;
pub mod fleet;
mod host;
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
pub use machine::Health;
pub use world::World;
