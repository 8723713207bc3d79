//! Server-sent events: what this host learns, as it learns it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use chrono::{DateTime, Utc};
use futures::Stream;
use futures::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::wire::Event;
use super::{Answer, Ask, Code, Door, EVENTS_MAX, EventFilter, PeerCredentials, Problem, Query};

/// The name of the frame that ends a stream early; all others have none.
pub(super) const PROBLEM_FRAME: &str = "problem";
/// How often a comment says that the line is not dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often is looked without being woken: what is learnt shows only once it is on the disk, a little later.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Sends the events that fit the filter, each with its position as id, then whatever follows.
pub(super) fn follow(
    door: Door,
    filter: EventFilter,
    peer: Option<PeerCredentials>,
    place: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Result<Frame, Infallible>>> {
    let follower =
        Follower { door, filter, peer, ready: VecDeque::new(), behind: true, over: false, _place: place };
    let frames = unfold(follower, async |mut follower| {
        let frame = follower.next().await?;
        Some((Ok(frame), follower))
    });
    Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

struct Follower {
    door: Door,
    filter: EventFilter,
    peer: Option<PeerCredentials>,
    ready: VecDeque<Event>,
    /// Whether there may be more to ask for than has been.
    behind: bool,
    over: bool,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if self.over {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                let frame = Frame::default().id(event.position.to_string());
                return frame.json_data(&event).ok();
            }
            if !self.behind && !self.woken().await {
                return None;
            }
            if let Err(problem) = self.ask().await {
                self.over = true;
                return Frame::default().event(PROBLEM_FRAME).json_data(&problem).ok();
            }
        }
    }

    /// Waits until there may be more; false once the agent stops.
    async fn woken(&mut self) -> bool {
        match timeout(LOOK_EVERY, self.door.position.changed()).await {
            Ok(changed) => changed.is_ok(),
            Err(_) => true,
        }
    }

    async fn ask(&mut self) -> Result<(), Problem> {
        // Looked at first: all up to there is in the answer that follows, whether or not the filter lets it through.
        let newest = self.page(EventFilter { limit: 1, ..EventFilter::default() }).await?;
        let newest = newest.last().map(|event| event.position);
        let after = self.filter.after;
        let Some(newest) = newest.filter(|newest| after.is_none_or(|after| *newest > after)) else {
            self.behind = false;
            if after.is_none() {
                // All there will be follows, the oldest first, which no position says: the first thing has number 0.
                self.filter.since.get_or_insert(DateTime::<Utc>::MIN_UTC);
                self.filter.limit = EVENTS_MAX;
            }
            return Ok(());
        };
        let page = self.page(self.filter.clone()).await?;
        let full = page.len() >= self.filter.limit as usize;
        // Otherwise these are the newest ones, and none is left.
        let oldest_first = after.is_some() || self.filter.since.is_some();
        self.behind = full && oldest_first;
        let reached = match page.last() {
            Some(last) if self.behind => last.position,
            Some(last) => last.position.max(newest),
            None => newest,
        };
        self.filter.after = Some(reached.max(after.unwrap_or(0)));
        self.filter.limit = EVENTS_MAX;
        self.ready = page.into();
        Ok(())
    }

    async fn page(&self, filter: EventFilter) -> Result<Vec<Event>, Problem> {
        let Answer::Events(page) = self.door.ask(Ask::Query(Query::Events(filter)), self.peer).await? else {
            return Err(Problem::new(Code::Internal, "the agent answered something else"));
        };
        Ok(page.events)
    }
}
