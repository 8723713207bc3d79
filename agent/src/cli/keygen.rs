//! `muster keygen`: a key where there is none.

use std::path::PathBuf;

use clap::Args;

use super::output::{line, note};
use super::{Exit, Failure};
use crate::keys;

/// Makes an ed25519 key pair in OpenSSH's form: FILE, readable only by its owner, and FILE.pub.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  muster keygen operator --comment alice    writes operator and operator.pub")]
pub struct Keygen {
    /// Where the private key goes; a key that is there is never overwritten.
    file: PathBuf,
    /// What the public key's line ends with.
    #[arg(long, default_value = "")]
    comment: String,
}

impl Keygen {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        if self.comment.chars().any(char::is_control) || self.comment.len() > 256 {
            return Err(Failure::usage("a comment is one line of at most 256 bytes"));
        }
        let key = keys::generate()?;
        let public = keys::write_pair(&self.file, &key, &self.comment)?;
        note(format_args!("wrote {} and {}", self.file.display(), public.display()));
        line(format_args!("{} {}", key.public(), self.comment).to_string().trim_end());
        Ok(Exit::Done)
    }
}
