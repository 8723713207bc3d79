//! Keeps as many agents running at once as the machine carries, however many tests run in parallel.

use std::sync::{Condvar, Mutex, PoisonError};

/// How many agents run at once for each processor.
const AGENTS_PER_CPU: usize = 6;

static RUNNING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to run some agents; given back when dropped.
#[derive(Debug)]
pub struct Permit(usize);

impl Permit {
    /// Waits until there is room for so many agents. More than the machine carries have it for themselves.
    pub fn acquire(agents: usize) -> Self {
        let capacity = AGENTS_PER_CPU * std::thread::available_parallelism().map_or(1, usize::from);
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |running: &mut usize| *running > 0 && *running + agents > capacity;
        let mut running = FREED.wait_while(running, full).unwrap_or_else(PoisonError::into_inner);
        *running += agents;
        Self(agents)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FREED.notify_all();
    }
}
