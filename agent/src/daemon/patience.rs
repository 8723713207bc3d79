//! Asks the service manager for more time while a large store is verified and replayed at the start.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sd_notify::NotifyState;

/// The time that is asked for, in microseconds.
const EXTENSION_MICROS: u32 = 60_000_000;
/// How often it is asked for again.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// How often at most: a start that takes longer than an hour has got stuck.
const ASKED_MAX: u32 = 240;

/// Asks until it is dropped.
#[derive(Debug)]
pub(super) struct Patience {
    over: Option<Sender<()>>,
    asking: Option<JoinHandle<()>>,
}

impl Patience {
    pub(super) fn ask() -> Self {
        // Without a service manager there is nobody to ask.
        Self::asking(|| drop(sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(EXTENSION_MICROS)])))
    }

    fn asking(ask: impl Fn() + Send + 'static) -> Self {
        let (over, is_over) = mpsc::channel();
        let asking = thread::spawn(move || {
            for _ in 0..ASKED_MAX {
                ask();
                if is_over.recv_timeout(ASK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Self { over: Some(over), asking: Some(asking) }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        drop(self.over.take());
        if self.asking.take().is_some_and(|asking| asking.join().is_err()) {
            tracing::warn!("who asked the service manager for time has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn time_is_asked_for_at_once_and_no_more_when_the_start_is_over() {
        let (asked, questions) = mpsc::channel();
        let patience = Patience::asking(move || asked.send(()).unwrap());
        questions.recv().unwrap();
        drop(patience);
        assert!(questions.recv().is_err());
    }
}
