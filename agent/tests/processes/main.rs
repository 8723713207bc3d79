//! The real program as its users and the agent run it.

mod agent;
mod documents;
mod switch;
