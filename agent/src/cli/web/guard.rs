//! Who may read the page, and what the page may do in a browser.
//!
//! A page of another site can make a browser ask this server, under a name that the site points to this address: that
//! is why a request must call the server by a name that no stranger can give it.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// All that the page may load or run is this server's own; it is shown in no frame, and sends no form.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What every answer carries.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The names by which the server may be called besides `localhost` and bare addresses.
#[derive(Debug, Clone)]
pub(super) struct Names(Vec<String>);

impl Names {
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a `Host` header calls the server by a name that no stranger can point here. A bare address is one: there
    /// is no name in it.
    fn know(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((name, port)) => (name, port),
                None => return false,
            },
            None => host.find(':').map_or((host.as_str(), ""), |at| host.split_at(at)),
        };
        let port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        port && (name == "localhost"
            || name.parse::<IpAddr>().is_ok()
            || self.0.iter().any(|known| known == name))
    }
}

/// Lets a request through that reads, calls the server by a known name, and comes from the page itself.
pub(super) async fn check(State(names): State<Names>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&names, request.method(), request.headers()) {
        Some((status, why)) => (status, format!("{why}\n")).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(names: &Names, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    if method != Method::GET && method != Method::HEAD {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "nothing can be changed here"));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| names.know(host)) {
        let why = "this server is not known by that name; muster web --name NAME --allow-remote makes it so";
        return Some((StatusCode::MISDIRECTED_REQUEST, why));
    }
    // A browser says where a request comes from; what is not a browser does not.
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if matches!(site, Some(b"cross-site" | b"same-site")) && !is_navigation(headers) {
        return Some((StatusCode::FORBIDDEN, "only the page itself may ask"));
    }
    None
}

/// Whether a person follows a link, which may stand anywhere.
fn is_navigation(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
    is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_stranger_could_point_here_is_not_known() {
        let names = Names::new(&["Web-01.example.org".to_owned()]);
        for (host, known) in [
            ("localhost", true),
            ("LOCALHOST:9747", true),
            ("127.0.0.1:9747", true),
            ("[::1]:9747", true),
            ("[::1]", true),
            ("10.0.0.7", true),
            ("web-01.example.org:80", true),
            ("evil.example:9747", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("localhost:9747@evil.example", false),
            ("localhost:x", false),
            ("[::1", false),
            ("", false),
        ] {
            assert_eq!(names.know(host), known, "{host}");
        }
    }
}
