//! Why a demo did not go as it should.

use std::io;
use std::path::PathBuf;

use crate::control::client::ClientError;
use crate::keys::KeyFileError;

/// Why a demo did not go as it should.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file, a folder or a program does not serve.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder holds something already.
    #[error("{path} is not empty, and a demo never writes over what is there")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The folder's name cannot stand in a configuration.
    #[error("{path} is not UTF-8, which configurations are written in")]
    NotText {
        /// The folder.
        path: PathBuf,
    },
    /// The kernel would refuse the sockets.
    #[error(
        "{path} is too long: the sockets below it would have {bytes} bytes, and a socket's path has at most {bytes_max}"
    )]
    TooLong {
        /// The folder.
        path: PathBuf,
        /// The length of the longest socket's path.
        bytes: usize,
        /// The greatest length.
        bytes_max: usize,
    },
    /// No demo was kept there, or it was stopped already.
    #[error("{path} holds no running demo")]
    NoDemo {
        /// The folder.
        path: PathBuf,
    },
    /// A key cannot be made or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// An agent ended that nobody had ended.
    #[error("the agent of {host} ended by itself: {status}")]
    AgentEnded {
        /// Its host.
        host: String,
        /// How.
        status: String,
    },
    /// An agent refuses, or cannot be asked.
    #[error("{host}: {source}")]
    Agent {
        /// Its host.
        host: String,
        /// What is wrong.
        source: ClientError,
    },
    /// Something took too long.
    #[error("waited {secs} s in vain: {what}")]
    Late {
        /// For what.
        what: String,
        /// How long.
        secs: u64,
    },
    /// Something else happened than the story tells.
    #[error("{0}")]
    Unexpected(String),
}

impl DemoError {
    /// Says which file it was.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
