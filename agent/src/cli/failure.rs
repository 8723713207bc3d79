//! How a command fails: what is wrong, what to do about it, and the exit code.

use std::path::Path;
use std::process::ExitCode;

use super::output::{Tone, note, note_columns, plain, toned_note};
use super::render::hanging;
use crate::keys::KeyFileError;
use crate::ssh_agent::AgentError;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Refused or failed.
    Refused = 1,
    /// The command line asks for something that makes no sense.
    Usage = 2,
    /// The agent cannot be reached.
    NoAgent = 3,
    /// The rollout that was watched failed or was reverted.
    RolloutFailed = 4,
    /// It took longer than it was to be waited for.
    TimedOut = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// Something was refused or failed.
    pub fn new(message: impl ToString) -> Self {
        Self { exit: Exit::Refused, message: message.to_string(), hint: None }
    }

    /// The command line does not say enough, or too much.
    pub fn usage(message: impl ToString) -> Self {
        Self { exit: Exit::Usage, ..Self::new(message) }
    }

    /// A file that cannot be read or written.
    pub fn file(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::new(format_args!("{}: {error}", path.display()))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says it to the user.
    pub fn report(&self) {
        say(Tone::Bad, "error:", &self.message);
        if let Some(hint) = &self.hint {
            say(Tone::Strong, "hint:", hint);
        }
    }
}

/// A sentence behind a label; on a terminal its words stay whole.
fn say(tone: Tone, label: &str, sentence: &str) {
    let sentence = plain(sentence);
    let (width, indent) = (note_columns().map_or(usize::MAX, usize::from), label.len() + 1);
    let lines = sentence.lines().flat_map(|line| hanging(line, width, indent, indent));
    let text = lines.collect::<Vec<_>>().join("\n");
    note(format_args!("{} {}", toned_note(tone, label), text.trim_start()));
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        let failure = Self::new(&error);
        match &error {
            KeyFileError::Mode { path, .. } => failure.hint(format!("chmod 600 {}", path.display())),
            KeyFileError::Exists { .. } => failure.hint("give another name, or move the old key away first"),
            KeyFileError::Owner { .. } => failure.hint("run this as the key's owner"),
            KeyFileError::Key { source: muster_signing::KeyError::Encrypted, path } => failure.hint(format!(
                "ssh-add {0}, then give {0}.pub as the key: the ssh-agent will sign",
                path.display()
            )),
            KeyFileError::Key { .. } => {
                failure.hint("muster keygen FILE makes a key; so does ssh-keygen -t ed25519")
            }
            KeyFileError::Io { source, path } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                failure.hint(format!("only its owner can read {}", path.display()))
            }
            KeyFileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                failure.hint("is the name right? muster keygen FILE makes a key where there is none")
            }
            KeyFileError::Agent(AgentError::NoSocket) => {
                failure.hint("give the private key's file, or start an ssh-agent and ssh-add the key")
            }
            KeyFileError::Agent(AgentError::NotHeld { .. }) => {
                failure.hint("ssh-add the private key; ssh-add -L lists what the agent holds")
            }
            KeyFileError::Agent(AgentError::Refused { .. }) => {
                failure.hint("a hardware key has to be plugged in and touched, a confirmed one agreed to")
            }
            KeyFileError::Io { .. } | KeyFileError::NotAFile { .. } | KeyFileError::Agent(_) => failure,
        }
    }
}
