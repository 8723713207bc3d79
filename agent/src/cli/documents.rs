//! The three kinds of documents, as far as the command line tells them apart.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use muster_core::document::{ChannelRefDocument, Command, Fleet, Refusal, kind_of};
use muster_core::id::FleetName;
use muster_core::wire::DocumentKind;
use muster_signing::Namespace;

/// A kind of document, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A fleet document.
    Fleet,
    /// A channel ref.
    ChannelRef,
    /// An operator's command.
    Command,
}

impl Kind {
    /// The kind that a document says it is.
    pub fn of(bytes: &[u8]) -> Result<Self, Refusal> {
        Ok(match kind_of(bytes)? {
            DocumentKind::Fleet => Self::Fleet,
            DocumentKind::ChannelRef => Self::ChannelRef,
            DocumentKind::Command => Self::Command,
        })
    }

    /// The namespace that its signatures are made in.
    pub fn namespace(self) -> Namespace {
        match self {
            Self::Fleet => Namespace::Fleet,
            Self::ChannelRef => Namespace::ChannelRef,
            Self::Command => Namespace::Command,
        }
    }

    /// Its name in sentences.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fleet => "fleet document",
            Self::ChannelRef => "channel ref",
            Self::Command => "command",
        }
    }
}

/// A document whose form is right; its signatures are another matter.
#[derive(Debug)]
pub enum Parsed {
    /// A fleet document.
    Fleet(Box<Fleet>),
    /// A channel ref.
    ChannelRef(Box<ChannelRefDocument>),
    /// An operator's command.
    Command(Box<Command>),
}

impl Parsed {
    /// Reads a document of whichever kind it says it is.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        Ok(match Kind::of(bytes)? {
            Kind::Fleet => Self::Fleet(Box::new(Fleet::parse(bytes)?)),
            Kind::ChannelRef => Self::ChannelRef(Box::new(ChannelRefDocument::parse(bytes)?)),
            Kind::Command => Self::Command(Box::new(Command::parse(bytes)?)),
        })
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Fleet(_) => Kind::Fleet,
            Self::ChannelRef(_) => Kind::ChannelRef,
            Self::Command(_) => Kind::Command,
        }
    }

    /// What it is about, in a few words.
    pub fn title(&self) -> String {
        let what = match self {
            Self::Fleet(fleet) => fleet.name.to_string(),
            Self::ChannelRef(document) => document.rollout_id().to_string(),
            Self::Command(command) => command.verb.name().to_owned(),
        };
        format!("{} {what}", self.kind().words())
    }

    /// The fleet that it is for.
    pub fn fleet(&self) -> &FleetName {
        match self {
            Self::Fleet(fleet) => &fleet.name,
            Self::ChannelRef(document) => &document.fleet,
            Self::Command(command) => &command.fleet,
        }
    }

    /// Its serial.
    pub fn serial(&self) -> u64 {
        match self {
            Self::Fleet(fleet) => fleet.serial,
            Self::ChannelRef(document) => document.serial,
            Self::Command(command) => command.serial,
        }
    }

    /// When it says it was signed.
    pub fn signed_at(&self) -> DateTime<Utc> {
        match self {
            Self::Fleet(fleet) => fleet.signed_at,
            Self::ChannelRef(document) => document.signed_at,
            Self::Command(command) => command.signed_at,
        }
    }

    /// Past this it counts no more.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Fleet(fleet) => fleet.expires_at,
            Self::ChannelRef(document) => document.expires_at,
            Self::Command(command) => command.expires_at,
        }
    }
}

/// A time as documents and JSON write it.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
