//! The spread of timers: a counter-based generator (SplitMix64), seeded by the caller.

use super::message::MemberId;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Members given one seed still draw different numbers.
    pub(super) fn new(seed: u64, member: &MemberId) -> Self {
        let fold = |state: u64, byte: &u8| (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(member.0.iter().fold(seed ^ 0xcbf2_9ce4_8422_2325, fold))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A span from zero up to but without `end`.
    pub(super) fn below(&mut self, end: Duration) -> Duration {
        let micros = u64::try_from(end.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.next() % micros)
    }
}
