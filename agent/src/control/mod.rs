//! The control socket: how people and programs ask the agent, and hand it documents.
//!
//! [`server`] speaks HTTP/1.1 with JSON over a Unix socket; it knows nothing of the fleet. Each request becomes a
//! [`Request`] on the daemon's bounded queue and is answered by the daemon's one loop with the [`wire`] type of its
//! route. [`client`] is the other end, for the command line.

pub mod client;
mod events;
pub mod metrics;
pub mod problem;
mod routes;
pub mod server;
mod stall;
pub mod wire;

use std::time::Duration;

use chrono::{DateTime, Utc};
use muster_signing::DocumentParts;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

pub use problem::{Code, Problem};

/// How many requests wait for the loop; more wait at the socket.
pub const REQUESTS_MAX: usize = 64;
/// How long the loop may take for an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the verification of the store may take: it looks at every signature again that the host ever received.
pub const VERIFY_TIMEOUT: Duration = Duration::from_secs(600);
/// How long it may take to call a hook.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(crate::hooks::TIMEOUT_MAX.as_secs() + 10);
/// How many events one answer has at most, and how many if the query does not say.
pub const EVENTS_MAX: u32 = 1000;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The fleet at a glance.
    Status,
    /// The newest fleet document, with its signatures.
    Fleet,
    /// The roster and the connections.
    Peers,
    /// All rollouts.
    Rollouts,
    /// One rollout, by its id.
    Rollout(String),
    /// The same without what happened: where it stands now, which costs little.
    RolloutNow(String),
    /// Why a host or a rollout does not move.
    Explain(String),
    /// What this host learned.
    Events(EventFilter),
    /// Which closures must not be activated.
    Quarantines,
    /// What was released on a channel.
    Channel(String),
    /// Who answers.
    Id,
    /// What lies on the disk.
    Store,
    /// How far a document has come, by its hash: `sha256-` and 64 lower-case hexadecimal digits.
    Document(String),
    /// OpenMetrics text.
    Metrics,
}

/// Which events are asked for: those that fit everything that is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Of this host.
    pub host: Option<String>,
    /// Of this rollout.
    pub rollout: Option<String>,
    /// Not before.
    pub since: Option<DateTime<Utc>>,
    /// Behind this position: the oldest of them first. Without it, the newest `limit` are asked for, in the same order.
    pub after: Option<u64>,
    /// At most so many, from 1 to [`EVENTS_MAX`].
    pub limit: u32,
}

/// What the loop is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// To say something.
    Query(Query),
    /// To verify the whole store, beside everything else.
    VerifyStore,
    /// To take in a document, and answer once it is stored.
    Publish(DocumentParts),
    /// Foresees what publishing a channel ref would do.
    Plan(DocumentParts),
    /// To do something with one of its hooks.
    Hook {
        /// The hook's name.
        name: String,
        /// What to do.
        verb: HookVerb,
    },
}

/// What can be done with a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookVerb {
    /// Calls it now, about nothing.
    Test,
    /// Tries again what was given up.
    Retry,
    /// Forgets what was given up.
    Forget,
}

/// What the loop answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To [`Query::Status`].
    Status(wire::Status),
    /// To [`Query::Fleet`].
    Fleet(wire::FleetDocument),
    /// To [`Query::Peers`].
    Peers(wire::Peers),
    /// To [`Query::Rollouts`].
    Rollouts(wire::Rollouts),
    /// To [`Query::Rollout`] and [`Query::RolloutNow`].
    Rollout(wire::RolloutShow),
    /// To [`Query::Explain`].
    Explain(wire::Explain),
    /// To [`Query::Events`].
    Events(wire::Events),
    /// To [`Query::Quarantines`].
    Quarantines(wire::Quarantines),
    /// To [`Query::Id`].
    Id(wire::Id),
    /// To [`Query::Store`].
    Store(wire::StoreInfo),
    /// To [`Ask::VerifyStore`].
    StoreVerified(wire::StoreVerified),
    /// To [`Query::Document`].
    Document(wire::DocumentInfo),
    /// To [`Query::Metrics`].
    Metrics(String),
    /// To [`Query::Channel`].
    Channel(wire::Channel),
    /// To [`Ask::Plan`].
    Plan(wire::Plan),
    /// To [`Ask::Publish`].
    Receipt(wire::DocumentReceipt),
    /// To [`Ask::Hook`].
    Hook(wire::HookDone),
}

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// The user.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// The process.
    pub pid: i32,
}

/// One request on its way to the loop.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// Who asks.
    pub peer: Option<PeerCredentials>,
    /// Takes the answer. Whoever asked may have gone away meanwhile.
    pub reply: oneshot::Sender<Result<Answer, Problem>>,
}

/// The loop's end of the door.
#[derive(Debug)]
pub struct Inbox {
    /// The requests, in the order in which they came.
    pub requests: mpsc::Receiver<Request>,
    /// The position of the newest event. The loop sets it when something was learnt; who follows the events then asks
    /// again.
    pub position: watch::Sender<u64>,
}

/// The socket's end of the door to the loop.
#[derive(Debug, Clone)]
pub struct Door {
    requests: mpsc::Sender<Request>,
    position: watch::Receiver<u64>,
}

/// Makes the two ends.
pub fn door() -> (Door, Inbox) {
    let (sender, requests) = mpsc::channel(REQUESTS_MAX);
    let (position, watched) = watch::channel(0);
    (Door { requests: sender, position: watched }, Inbox { requests, position })
}

impl Door {
    /// Asks the loop and waits for its answer, at most [`ANSWER_TIMEOUT`], or [`VERIFY_TIMEOUT`] or [`HOOK_TIMEOUT`] for these.
    pub async fn ask(&self, ask: Ask, peer: Option<PeerCredentials>) -> Result<Answer, Problem> {
        let patience = match ask {
            Ask::VerifyStore => VERIFY_TIMEOUT,
            Ask::Hook { .. } => HOOK_TIMEOUT,
            Ask::Query(_) | Ask::Publish(_) | Ask::Plan(_) => ANSWER_TIMEOUT,
        };
        let answered = async {
            let (reply, answer) = oneshot::channel();
            let stopped = || Problem::new(Code::Unavailable, "the agent is stopping");
            self.requests.send(Request { ask, peer, reply }).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        };
        timeout(patience, answered).await.unwrap_or_else(|_| {
            let seconds = patience.as_secs();
            Err(Problem::new(Code::Unavailable, format_args!("the agent gave no answer in {seconds} s")))
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
