//! The NixOS backend: a closure is a system in the store, and `switch-to-configuration` puts it into place.

pub mod machine;
pub mod root;
pub mod unit;

#[cfg(test)]
pub(crate) mod testing;
