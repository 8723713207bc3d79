//! Stories of whole fleets, told with real processes on loopback.

mod crashes;
mod demo;
mod doctor;
mod documents;
mod failover;
mod hooks;
mod metrics;
mod power;
mod reading;
mod reports;
mod rollouts;
mod signatures;
mod stores;
mod strangers;
mod verbs;
mod web;
