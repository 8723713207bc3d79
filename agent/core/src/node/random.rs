//! A small counter-based generator: the seed comes from outside, so that a run can be repeated.

use muster_signing::sha256;

/// Draws numbers from a seed.
#[derive(Debug, Clone)]
pub(super) struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// A number of 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.drawn += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.seed.to_be_bytes());
        bytes[8..].copy_from_slice(&self.drawn.to_be_bytes());
        let digest = sha256(&bytes);
        digest.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A number from 0 to below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
