//! What is asked of the privileged helper and what it answers: one request per connection, then one answer.
//!
//! A request is CBOR from the first byte to the end of the stream: the daemon closes its half of the connection, so there
//! is no length to lie about, and a second request behind the first makes both of them nothing.

use muster_core::wire::codec::{self, DecodeError};
use muster_signing::{CERTIFICATE_BYTES_MAX, DOCUMENT_WIRE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::activation::nixos::root::{Order, Unit};
use crate::text::{head, tail};

/// The version of requests and answers.
pub const VERSION: u32 = 1;
/// The longest request, in bytes: a few large documents and many small ones.
pub const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How many fleet documents a request may hold.
pub const FLEETS_MAX: usize = 128;
/// The longest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest text in an answer, in bytes.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Carry out an order of the NixOS backend.
    CarryOut(CarryOut),
    /// Restart the agent into the program that its unit file names now.
    Restart,
    /// Tell the end of what one of the units said that the helper starts, and no other: the agent cannot read the journal.
    Said(Unit),
}

/// An order, with everything that proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarryOut {
    /// The order.
    pub order: Order,
    /// The proofs, which a switch needs; what goes back is proven by the helper's own memory.
    pub papers: Option<Papers>,
}

/// What proves a switch: documents in the form in which they travel, and a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Papers {
    /// The fleet documents, in the order in which they were accepted: those that changed the operators, those that the
    /// ref and the decision name, and the newest.
    pub fleets: Vec<ByteBuf>,
    /// The channel ref.
    pub channel_ref: ByteBuf,
    /// The dispatch, signed by a quorum.
    pub certificate: ByteBuf,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// It was carried out, or begun where it takes long; with a word on what was done.
    Done(String),
    /// A rule forbids it, and nothing was done.
    Refused {
        /// The rule.
        rule: String,
        /// Why, in words.
        reason: String,
    },
    /// It was allowed and did not work.
    Failed(String),
}

#[derive(Serialize)]
struct Sent<'a, T> {
    v: u32,
    what: &'a T,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Received<T> {
    v: u32,
    what: T,
}

impl Request {
    /// The request as it travels.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&Sent { v: VERSION, what: self })
    }

    /// Reads a request, which has to fill all of `bytes`, within every limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let request: Self = decode("request", bytes, REQUEST_BYTES_MAX)?;
        if let Self::CarryOut(CarryOut { papers: Some(papers), .. }) = &request {
            papers.within_limits()?;
        }
        Ok(request)
    }
}

impl Papers {
    fn within_limits(&self) -> Result<(), DecodeError> {
        let limit = |what: &str, found: usize, max: usize| {
            let detail = format!("{what}: {found}, at most {max} are read");
            if found <= max { Ok(()) } else { Err(DecodeError::new("request", detail)) }
        };
        limit("fleet documents", self.fleets.len(), FLEETS_MAX)?;
        for document in self.fleets.iter().chain([&self.channel_ref]) {
            limit("bytes of a document", document.len(), DOCUMENT_WIRE_BYTES_MAX)?;
        }
        limit("bytes of the certificate", self.certificate.len(), CERTIFICATE_BYTES_MAX)
    }
}

impl Answer {
    /// What a unit said, as much of its end as an answer holds.
    pub fn said(text: &str) -> Self {
        Self::Done(tail(text, TEXT_BYTES_MAX).to_owned())
    }

    /// The answer as it travels, its texts cut to their limit.
    pub fn encode(&self) -> Vec<u8> {
        let cut = |text: &String| head(text, TEXT_BYTES_MAX).to_owned();
        let answer = match self {
            Self::Done(what) => Self::Done(cut(what)),
            Self::Refused { rule, reason } => Self::Refused { rule: cut(rule), reason: cut(reason) },
            Self::Failed(why) => Self::Failed(cut(why)),
        };
        codec::encode(&Sent { v: VERSION, what: &answer })
    }

    /// Reads an answer, which has to fill all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode("answer", bytes, ANSWER_BYTES_MAX)
    }
}

fn decode<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<T, DecodeError> {
    if bytes.len() > bytes_max {
        return Err(DecodeError::new(what, format!("more than {bytes_max} bytes")));
    }
    let received: Received<T> = codec::decode(what, bytes)?;
    if received.v == VERSION {
        Ok(received.what)
    } else {
        Err(DecodeError::new(what, format!("version {} is not {VERSION}", received.v)))
    }
}
