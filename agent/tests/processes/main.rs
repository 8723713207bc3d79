//! The real program as its users and the agent run it.

mod documents;
mod switch;
