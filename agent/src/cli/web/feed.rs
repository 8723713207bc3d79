//! What changes, for all pages at once: one look at the agent at a time, however many look at the page.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

use super::super::asking::REFRESH;
use crate::control::client::{Client, ClientError};

/// How often a comment says that the line is not dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What was last seen of the agent.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    agent: Client,
    last: watch::Sender<Arc<Seen>>,
    /// When the agent was asked last; whoever holds it is asking.
    asked: Arc<Mutex<Option<Instant>>>,
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
        Self { agent, last: watch::Sender::default(), asked: Arc::default() }
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
                sleep(REFRESH).await;
            }
        });
        Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
    }

    /// Asks the agent, unless that was just done for another page.
    async fn look(&self) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < REFRESH / 2) {
            return;
        }
        let seen = match self.ask().await {
            Ok(seen) => seen,
            Err(error) => Seen { trouble: Some(error.to_string()), ..Seen::default() },
        };
        *asked = Some(Instant::now());
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
