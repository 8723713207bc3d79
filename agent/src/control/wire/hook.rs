//! Whom the agent calls: a part of `/v1/status`, and the answer of `POST /v1/hooks/{name}/{verb}`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One hook of the agent that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Its name.
    pub name: String,
    /// What is called: a program, or a server without path and query.
    pub calls: String,
    /// What it is called for.
    pub events: Vec<String>,
    /// How many calls wait, the one under way included.
    pub pending: u64,
    /// How many calls went well.
    pub delivered: u64,
    /// How many tries failed.
    pub failed: u64,
    /// How many calls were given up, also those that are not kept any more.
    pub given_up: u64,
    /// How the last try failed; absent if it went well.
    pub failed_last: Option<String>,
    /// When it did.
    pub failed_last_at: Option<DateTime<Utc>>,
    /// The newest calls that were given up, the oldest of them first.
    pub dead: Vec<DeadCall>,
}

/// A call that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadCall {
    /// The id that the receiver would have seen.
    pub id: String,
    /// What happened.
    pub event: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The rollout that it was about.
    pub rollout: Option<String>,
    /// The host that it was about.
    pub host: Option<String>,
    /// When it was given up.
    pub given_up_at: DateTime<Utc>,
    /// How often it was tried.
    pub tries: u32,
    /// Why it was given up.
    pub reason: String,
}

/// What came of trying a hook, of putting back what was given up, or of forgetting it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookDone {
    /// The form's version.
    pub schema: u32,
    /// The hook.
    pub hook: String,
    /// Whether it went well.
    pub ok: bool,
    /// Why not.
    pub reason: Option<String>,
    /// How many calls it was about.
    pub calls: u64,
}
