//! The agent of a fleet's host, and the command line that people use with it.
//!
//! What is decided is decided in `muster-core`; here is what touches the machine: [`activation`] puts closures into place,
//! [`helper`] is the other process that alone may do so where the agent itself has no rights, [`probe`] looks at their
//! health, [`hooks`] tells of what happens, [`control`] is the socket that people and programs ask, [`config`] and [`keys`]
//! read what the operator has put on the host, [`storage`] shows the store as the core sees it, and [`cli`] is the only
//! place that prints. [`daemon`] is the loop in which all of it meets.

pub mod activation;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod helper;
pub mod hooks;
pub mod http_client;
pub mod keys;
pub mod probe;
pub mod process;
pub mod ssh_agent;
pub mod storage;
pub mod text;
