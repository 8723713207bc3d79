//! Everything that decides.

pub mod coordination;
pub mod document;
pub mod gate;
pub mod host;
pub mod id;
pub mod rollout;
pub mod time;
pub mod wire;
