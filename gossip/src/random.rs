//! Jitter and choice of peers: unpredictable enough to spread load, unfit for secrets.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A splitmix64 generator.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Starts from the process' own randomness.
    pub(crate) fn new() -> Self {
        Self(RandomState::new().hash_one(0_u8))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Picks an index below `count`; 0 when there is none.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        if count == 0 { 0 } else { (self.next() % count as u64) as usize }
    }

    /// Stretches or shrinks a pause by up to a quarter.
    pub(crate) fn jitter(&mut self, pause: Duration) -> Duration {
        let spread = (self.next() % 501) as u32;
        pause * (750 + spread) / 1000
    }

    /// Removes up to `count` random elements and returns them.
    pub(crate) fn take<T>(&mut self, from: &mut Vec<T>, count: usize) -> Vec<T> {
        let count = count.min(from.len());
        (0..count).map(|_| from.swap_remove(self.below(from.len()))).collect()
    }
}
