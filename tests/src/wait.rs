//! Waiting for what has to come, with a deadline.

use std::time::{Duration, Instant};

/// How often is looked.
const PACE: Duration = Duration::from_millis(25);

/// Looks again and again until there is something to see; nothing if the deadline passes first.
pub fn poll<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if begun.elapsed() > deadline {
            return None;
        }
        std::thread::sleep(PACE);
    }
}

/// The same, for what must come.
///
/// # Panics
///
/// If the deadline passes first.
pub fn wait_for<T>(what: &str, deadline: Duration, look: impl FnMut() -> Option<T>) -> T {
    poll(deadline, look).unwrap_or_else(|| panic!("waited {deadline:?} in vain for this: {what}"))
}
