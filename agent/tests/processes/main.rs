//! The real program as its users and the agent run it.

mod activate;
mod agent;
mod documents;
mod switch;
