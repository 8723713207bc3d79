//! What operators sign: fleet documents, channel refs and commands.

pub mod plan;
pub mod window;
