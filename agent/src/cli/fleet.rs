//! stub
use clap::Args;
use super::{Exit, Failure};
/// Fleet
#[derive(Debug, Args)]
pub struct FleetCommand {}
impl FleetCommand { pub(super) fn run(self) -> Result<Exit, Failure> { Ok(Exit::Done) } }
