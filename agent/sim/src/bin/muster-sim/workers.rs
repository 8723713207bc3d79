//! Seeds are independent of each other: several are run at once, and told in order.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

/// How many run at once if nobody says otherwise.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Works on every number of a range and hands the results over in their order, until somebody has had enough.
pub(super) fn in_order<T: Send>(
    range: Range<u64>,
    workers: usize,
    work: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(u64, T) -> ControlFlow<()>,
) {
    let (next, enough) = (AtomicU64::new(range.start), AtomicBool::new(false));
    thread::scope(|scope| {
        let (done, results) = mpsc::channel();
        for _ in 0..workers.max(1) {
            let done = done.clone();
            let (next, enough, work) = (&next, &enough, &work);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= range.end || done.send((number, work(number))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let (mut early, mut due) = (BTreeMap::new(), range.start);
        for (number, result) in results {
            early.insert(number, result);
            while let Some(result) = early.remove(&due) {
                if take(due, result).is_break() {
                    enough.store(true, Ordering::Relaxed);
                    return;
                }
                due += 1;
            }
        }
    });
}
