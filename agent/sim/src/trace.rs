//! What happened in a run: lines for people if they are wanted, and always a hash over everything.

use crate::disk::fnv;
use crate::host::true_time;

/// The story of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) wanted: bool,
    pub(crate) lines: Vec<String>,
    hash: u64,
}

impl Trace {
    /// Notes a line, made only if it is wanted.
    pub(crate) fn line(&mut self, now: u64, who: &str, what: impl FnOnce() -> String) {
        if self.wanted {
            let at = true_time(now).format("%H:%M:%S%.3f");
            self.lines.push(format!("{at} {who:>4} {}", what()));
        }
    }

    /// Mixes something that happened into the hash.
    pub(crate) fn mix(&mut self, now: u64, host: usize, what: &[u8]) {
        let host = host as u64;
        self.hash =
            (self.hash.rotate_left(5) ^ fnv(what) ^ now ^ (host << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// The hash of everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}
