//! Stories of whole fleets, told with real processes on loopback.

mod crashes;
mod demo;
mod documents;
mod failover;
mod reading;
mod rollouts;
mod signatures;
mod stores;
mod strangers;
mod verbs;
