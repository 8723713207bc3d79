//! A hook that posts to a web server, over plain HTTP or TLS.

use std::path::PathBuf;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, StatusCode};

use super::message::Message;
use crate::http_client::Server;

/// The header that holds the signature.
const SIGNATURE_HEADER: &str = "muster-signature";
/// The header that names the event.
const EVENT_HEADER: &str = "muster-event";

/// A server and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web(Server);

impl Web {
    /// Reads a URL, and the file of authorities that are believed instead of the system's; the error is why they do not serve.
    pub fn new(url: &str, ca_file: Option<PathBuf>) -> Result<Self, String> {
        Server::new(url, ca_file).map(Self).map_err(|reason| format!("url: {reason}"))
    }

    /// The server, without path and query: these may be secret.
    pub fn place(&self) -> String {
        self.0.place()
    }

    /// Posts a message; the error is why that failed. Redirects are not followed, for whoever is told has been named, and
    /// nothing of the answer's body is read.
    pub async fn post(&self, message: &Message) -> Result<(), String> {
        let request = self
            .0
            .request(Method::POST)
            .header(CONTENT_TYPE, "application/json")
            .header(EVENT_HEADER, message.event)
            .header(SIGNATURE_HEADER, &message.signature)
            .body(Full::<Bytes>::from(message.body.clone()))
            .map_err(|error| self.failed(&error))?;
        let answer = self.0.send(request).await.map_err(|reason| self.failed(&reason))?;
        match answer.response.status() {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => {
                Err(self.failed(&format_args!("status {}; redirects are not followed", status.as_u16())))
            }
            status => Err(self.failed(&format_args!("status {}{}", status.as_u16(), named(status)))),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> String {
        format!("{}: {error}", self.place())
    }
}

fn named(status: StatusCode) -> String {
    status.canonical_reason().map_or_else(String::new, |reason| format!(" {reason}"))
}
