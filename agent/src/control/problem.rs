//! How the control socket says no: RFC 9457 problem details with a `code` for programs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// What stands before the code in a problem's `type`.
const TYPE_PREFIX: &str = "urn:muster:problem:";

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// Names the kind of problem: `urn:muster:problem:<code>`.
    pub r#type: String,
    /// The kind of problem in words, the same for each of its kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// The kind of problem, for programs.
    pub code: Code,
    /// What to do about it, where that is known better than the kind tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of that kind.
    pub fn new(code: Code, detail: impl fmt::Display) -> Self {
        Self {
            r#type: format!("{TYPE_PREFIX}{}", code.name()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.to_string(),
            code,
            hint: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $code:ident = $name:literal, $status:literal;)+) => {
        /// The kinds of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Code {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $code,)+
            /// A kind that a newer agent knows.
            #[serde(other)]
            Unknown,
        }

        impl Code {
            /// Every kind that an agent of this version uses.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// The code as it stands in JSON.
            pub fn name(self) -> &'static str {
                match self { $(Self::$code => $name,)+ Self::Unknown => "unknown" }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(Self::$code => $status,)+ Self::Unknown => 500 }
            }

            /// The kind in words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$code => concat!($($doc),+).trim_ascii(),)+ Self::Unknown => "Unknown" }
            }
        }
    };
}

codes! {
    /// The document is too large
    TooLarge = "too_large", 422;
    /// The document is no JSON
    NotJson = "not_json", 422;
    /// The document has a field that it must not have
    UnknownField = "unknown_field", 422;
    /// The document is for another fleet
    WrongFleet = "wrong_fleet", 422;
    /// The document has no signature
    Unsigned = "unsigned", 422;
    /// A signature is not what it should be
    BadSignature = "bad_signature", 422;
    /// Too few operators signed the document
    Threshold = "threshold", 422;
    /// The document is not valid yet
    NotYet = "not_yet", 422;
    /// The document has expired
    Expired = "expired", 422;
    /// The document is outside its freshness window
    Stale = "stale", 422;
    /// A newer document is held already
    Downgrade = "downgrade", 422;
    /// Another document with this serial is held already
    Equivocation = "equivocation", 409;
    /// The document builds on a fleet document that this host does not hold
    UnknownFleetDocument = "unknown_fleet_document", 422;
    /// The document breaks a rule
    Invalid = "invalid", 422;
    /// The command does not fit what is under way
    Misfit = "misfit", 409;
    /// The request makes no sense
    BadRequest = "bad_request", 400;
    /// There is no such thing
    NotFound = "not_found", 404;
    /// The route does not know this method
    MethodNotAllowed = "method_not_allowed", 405;
    /// The request took too long to arrive
    RequestTimeout = "request_timeout", 408;
    /// Too many clients at once
    TooManyClients = "too_many_clients", 503;
    /// The agent is starting, stopping or overloaded
    Unavailable = "unavailable", 503;
    /// The agent could not do it
    Internal = "internal", 500;
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_code_is_written_as_its_name_and_read_back() {
        for code in Code::ALL {
            let text = serde_json::to_string(code).unwrap();
            assert_eq!(text, format!("{:?}", code.name()));
            assert_eq!(serde_json::from_str::<Code>(&text).unwrap(), *code);
        }
        assert_eq!(serde_json::from_str::<Code>("\"of_tomorrow\"").unwrap(), Code::Unknown);
    }

    #[test]
    fn a_problem_reads_as_rfc_9457_wants_it() {
        let problem = Problem::new(Code::Equivocation, "serial 7 of stable is held with another content");
        assert_eq!(
            serde_json::to_value(problem).unwrap(),
            serde_json::json!({
                "type": "urn:muster:problem:equivocation",
                "title": "Another document with this serial is held already",
                "status": 409,
                "detail": "serial 7 of stable is held with another content",
                "code": "equivocation",
            })
        );
    }
}
