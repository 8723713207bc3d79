//! What happened in a rollout, read once: whoever asks again is told the same, and what was learnt since.
//!
//! A timeline says whose signatures hold, and each costs as much to look at again as to check when it came. What was
//! learnt stays as it is, so that a signature that held holds for as long as the roster names the same keys.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_core::id::RolloutId;
use muster_core::verify::Roster;

use super::history::Source;
use super::rollouts;
use crate::control::{Problem, wire};

/// How many rollouts are kept; of more the ones that were asked about longest ago are read again.
const KEPT_MAX: usize = 8;

/// The timelines that were asked for lately.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Chronicle {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    asked: u64,
    /// Each with when it was asked for, in the order of the questions.
    of: BTreeMap<RolloutId, (u64, Arc<Mutex<Page>>)>,
}

/// What was read of one rollout.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Under whose keys the signatures hold.
    roster: Option<Arc<Roster>>,
    /// What is read next.
    next: u64,
    moments: Vec<wire::Moment>,
}

impl Chronicle {
    /// Completes a timeline by what the store says happened, each with its cause, and puts it in the order of the times.
    pub(super) fn timeline(
        &self,
        source: Source,
        id: &RolloutId,
        mut moments: Vec<wire::Moment>,
    ) -> Result<Vec<wire::Moment>, Problem> {
        let page = self.page(id);
        let mut page = lock(&page);
        page.read_on(source, id)?;
        moments.extend(page.moments.iter().cloned());
        moments.sort_by_key(|moment| moment.at);
        Ok(moments)
    }

    fn page(&self, id: &RolloutId) -> Arc<Mutex<Page>> {
        let mut pages = lock(&self.pages);
        pages.asked += 1;
        let asked = pages.asked;
        let (last, page) = pages.of.entry(id.clone()).or_default();
        *last = asked;
        let page = Arc::clone(page);
        if pages.of.len() > KEPT_MAX {
            let oldest = pages.of.iter().min_by_key(|(_, (last, _))| *last).map(|(id, _)| id.clone());
            oldest.and_then(|id| pages.of.remove(&id));
        }
        page
    }
}

impl Page {
    /// Reads what was learnt since the last time; everything, if other keys count now.
    fn read_on(&mut self, source: Source, id: &RolloutId) -> Result<(), Problem> {
        let roster = source.roster();
        if self.roster.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &roster)) {
            *self = Self { roster: Some(roster), ..Self::default() };
        }
        let history = source.read()?;
        let Self { next, moments, .. } = self;
        history.each_from(*next, |position, learnt| {
            moments.extend(rollouts::moment(&history, &learnt, id));
            *next = position.saturating_add(1);
            true
        })
    }
}

/// What is under these locks is whole after every record: a reader that panicked leaves one out at most.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
