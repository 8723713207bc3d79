//! Where a command runs in front of tests: its lines are caught, and its terminal and clock are what the test says.

use std::cell::RefCell;

use chrono::{DateTime, Utc};

/// What a command sees and has said.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// How many characters fit in a line.
    pub(super) width: u16,
    /// What time it is.
    pub(super) now: DateTime<Utc>,
    /// What went to stdout.
    pub(super) out: String,
    /// What went to stderr.
    pub(super) notes: String,
}

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// Runs something on a stage, in this thread; what it said.
pub(super) fn play(width: u16, now: DateTime<Utc>, act: impl FnOnce()) -> (String, String) {
    STAGE.set(Some(Stage { width, now, out: String::new(), notes: String::new() }));
    act();
    STAGE.take().map(|stage| (stage.out, stage.notes)).unwrap_or_default()
}

/// Changes or reads the stage, if there is one.
pub(super) fn with<T>(look: impl FnOnce(&mut Stage) -> T) -> Option<T> {
    STAGE.with_borrow_mut(|stage| stage.as_mut().map(look))
}
