//! stub
use clap::Args;
use super::{Exit, Failure};
/// Fleet
#[derive(Debug, Args)]
pub struct Sign {}
impl Sign { pub(super) fn run(self) -> Result<Exit, Failure> { Ok(Exit::Done) } }
