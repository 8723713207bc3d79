//! Hooks as an operator configures them, and how one is called: a program that reads JSON, or a server that it is posted to.
//!
//! What they are called for, and how often, is decided in [`muster_core::hook`]; this only calls.

pub mod message;
mod web;

use std::path::PathBuf;
use std::time::Duration;

use muster_core::hook::{Event, Policy};
use serde::Deserialize;

use crate::process::{Ending, Program, feed};
use message::Message;
pub use web::Web;

/// How many hooks one agent has at most.
pub const HOOKS_MAX: usize = 16;
/// The longest that one call may take.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// How long it may take unless the configuration says otherwise, in seconds.
const TIMEOUT_DEFAULT_SECS: u64 = 30;
/// How often a call is tried unless the configuration says otherwise: for about two hours.
const TRIES_DEFAULT: u32 = 20;
/// The most often that it can be asked to be tried.
const TRIES_MAX: u32 = 100;
/// The longest name of a hook, in bytes.
const NAME_BYTES_MAX: usize = 32;
/// Asks for every event.
const ALL: &str = "all";
/// The variable of a program's environment that holds the signature.
const SIGNATURE_VARIABLE: &str = "MUSTER_HOOK_SIGNATURE";
/// How much of the end of a program's stderr is told.
const TAIL_BYTES_MAX: usize = 256;

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// What it is called for, and how often each call is tried.
    pub policy: Policy,
    /// What is called.
    pub calls: Calls,
    /// How long one call may take.
    pub timeout: Duration,
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calls {
    /// A program and its arguments; no shell reads them.
    Command(Vec<String>),
    /// A web server.
    Web(Web),
}

/// A `[[hook]]` of the configuration, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHook {
    name: String,
    events: Vec<String>,
    command: Option<Vec<String>>,
    url: Option<String>,
    ca_file: Option<PathBuf>,
    timeout_seconds: Option<u64>,
    tries: Option<u32>,
}

impl RawHook {
    /// The hook's name, to speak of it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks what is written; the error is why it does not serve.
    pub fn complete(self) -> Result<Hook, String> {
        let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.bytes().all(named) {
            return Err(format!("a hook's name is 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -"));
        }
        let within = |key: &str, value: u64, max: u64| match value {
            1.. if value <= max => Ok(()),
            _ => Err(format!("{key} = {value} is not in 1 to {max}")),
        };
        let timeout_secs = self.timeout_seconds.unwrap_or(TIMEOUT_DEFAULT_SECS);
        within("timeout_seconds", timeout_secs, TIMEOUT_MAX.as_secs())?;
        let tries = self.tries.unwrap_or(TRIES_DEFAULT);
        within("tries", tries.into(), TRIES_MAX.into())?;
        let calls = match (self.command, self.url) {
            (Some(_), None) if self.ca_file.is_some() => return Err("ca_file is for an https url".to_owned()),
            (Some(command), None) => Calls::Command(program(command)?),
            (None, Some(url)) => Calls::Web(Web::new(&url, self.ca_file)?),
            (Some(_), Some(_)) | (None, None) => {
                return Err("it calls either a command or a url, one of them".to_owned());
            }
        };
        let policy = Policy { events: events(&self.events)?, tries };
        Ok(Hook { name: self.name, policy, calls, timeout: Duration::from_secs(timeout_secs) })
    }
}

fn program(command: Vec<String>) -> Result<Vec<String>, String> {
    match command.first() {
        Some(program) if program.starts_with('/') => Ok(command),
        Some(program) => Err(format!("command: {program:?} is not the whole path of a program")),
        None => Err("command is empty".to_owned()),
    }
}

fn events(names: &[String]) -> Result<std::collections::BTreeSet<Event>, String> {
    if names.is_empty() {
        return Err(format!("events is empty; there are {ALL}, {}", Event::ALL.map(Event::name).join(", ")));
    }
    if names.iter().any(|name| name == ALL) && names.len() == 1 {
        return Ok(Event::ALL.into());
    }
    names
        .iter()
        .map(|name| name.parse::<Event>().map_err(|error| format!("{error}, or {ALL} alone")))
        .collect()
}

impl Hook {
    /// What is called, for people: the program, or the server without what may be secret of the URL.
    pub fn place(&self) -> String {
        match &self.calls {
            Calls::Command(command) => command.first().cloned().unwrap_or_default(),
            Calls::Web(web) => web.place(),
        }
    }

    /// Calls it once; the error is why that failed.
    pub async fn call(&self, message: &Message) -> Result<(), String> {
        match &self.calls {
            Calls::Command(command) => self.run(command, message).await,
            Calls::Web(web) => match tokio::time::timeout(self.timeout, web.post(message)).await {
                Ok(result) => result,
                Err(_) => Err(format!("{}: no answer within {} s", web.place(), self.timeout.as_secs())),
            },
        }
    }

    async fn run(&self, command: &[String], message: &Message) -> Result<(), String> {
        let (program, args) = command.split_first().ok_or("the command is empty")?;
        let ended = feed(
            &Program {
                program: program.into(),
                args: args.to_vec(),
                dir: "/".into(),
                env: vec![(SIGNATURE_VARIABLE, message.signature.clone().into())],
                timeout: self.timeout,
                tail_bytes_max: TAIL_BYTES_MAX,
            },
            &message.body,
        )
        .await;
        let what = match ended.ending {
            Ending::Exited(0) => return Ok(()),
            Ending::Exited(code) => format!("exit code {code}"),
            Ending::Signalled(signal) => format!("ended by signal {signal}"),
            Ending::TimedOut => format!("killed after {} s", self.timeout.as_secs()),
            Ending::Lost(reason) => reason,
        };
        let said = ended.tail.trim();
        Err(if said.is_empty() { format!("{program}: {what}") } else { format!("{program}: {what}: {said}") })
    }
}

#[cfg(test)]
mod tests;
