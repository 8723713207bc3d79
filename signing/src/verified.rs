//! Proof, held as a type, that what is inside was checked against a signature.

use std::ops::Deref;

/// A value that a signature check produced; only this crate can make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// Gives the value up, and the proof with it.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// Reads something out of verified content; what comes of it alone is as verified as the content.
    ///
    /// `read` must be a pure function of its argument: what it takes from elsewhere was never signed.
    pub fn parse<U, E>(self, read: impl FnOnce(&T) -> Result<U, E>) -> Result<Verified<U>, E> {
        read(&self.0).map(Verified)
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
