//! What changes, for all pages at once: one look at the agent at a time, however many look at the page.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use super::super::asking::{REFRESH, rest};
use crate::control::client::{Client, ClientError};

/// How often a comment says that the line is not dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What was last seen of the agent.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    agent: Client,
    last: watch::Sender<Arc<Seen>>,
    /// Until when the agent is left alone; whoever holds it is asking.
    rests: Arc<Mutex<Option<Instant>>>,
}

/// The fleet, or why it cannot be seen.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    status: Option<Value>,
    /// The position of the newest event.
    position: u64,
    trouble: Option<String>,
}

impl Feed {
    pub(super) fn new(agent: Client) -> Self {
        Self { agent, last: watch::Sender::default(), rests: Arc::default() }
    }

    /// Sends what is seen now, and again whenever it has changed.
    pub(super) fn follow(&self) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let mut watched = self.last.subscribe();
        watched.mark_changed();
        let frames = unfold((self.clone(), watched), async |(feed, mut watched)| {
            loop {
                feed.look().await;
                // Before the first look there is nothing to send.
                let changed = watched.has_changed().unwrap_or(false);
                let seen = Arc::clone(&watched.borrow_and_update());
                if changed && let Some(frame) = seen.frame() {
                    return Some((Ok(frame), (feed, watched)));
                }
                // What another page has asked for meanwhile is shown on this one at once.
                if let Ok(Ok(())) = timeout(REFRESH, watched.changed()).await {
                    watched.mark_changed();
                }
            }
        });
        Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
    }

    /// Asks the agent, unless that was done not long ago.
    async fn look(&self) {
        let mut rests = self.rests.lock().await;
        let begun = Instant::now();
        if rests.is_some_and(|until| begun < until) {
            return;
        }
        let seen = match self.ask().await {
            Ok(seen) => seen,
            Err(error) => Seen { trouble: Some(error.to_string()), ..Seen::default() },
        };
        *rests = Some(Instant::now() + rest(REFRESH, begun.elapsed()));
        self.last.send_if_modified(|last| {
            let changed = **last != seen;
            if changed {
                *last = Arc::new(seen);
            }
            changed
        });
    }

    async fn ask(&self) -> Result<Seen, ClientError> {
        let status: Value = self.agent.read("/v1/status").await?;
        let newest: Value = self.agent.read("/v1/events?limit=1").await?;
        let position = newest["events"][0]["position"].as_u64().unwrap_or(0);
        Ok(Seen { status: Some(status), position, trouble: None })
    }
}

impl Seen {
    fn frame(&self) -> Option<Event> {
        let (name, data) = match (&self.status, &self.trouble) {
            (Some(status), _) => ("fleet", json!({ "status": status, "position": self.position })),
            (None, Some(trouble)) => ("trouble", json!({ "detail": trouble })),
            (None, None) => return None,
        };
        Event::default().event(name).json_data(data).ok()
    }
}
