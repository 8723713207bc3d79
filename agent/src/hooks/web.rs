//! A hook that posts to a web server, over plain HTTP or TLS 1.3.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::message::Message;
use crate::probe::tcp::connect;

/// The longest head of an answer that is read, in bytes; nothing of its body is.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Where systems keep the authorities that they trust, the first that is there.
const CA_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// The largest file of authorities that is read, in bytes.
const CA_BYTES_MAX: u64 = 4 << 20;
/// The header that holds the signature.
const SIGNATURE_HEADER: &str = "muster-signature";
/// The header that names the event.
const EVENT_HEADER: &str = "muster-event";

/// A server and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    url: Uri,
    host: String,
    port: u16,
    /// Whether it speaks TLS.
    secure: bool,
    /// Whose certificates are believed; none: whose the system believes.
    ca_file: Option<PathBuf>,
}

impl Web {
    /// Reads a URL; the error is why it does not serve.
    pub fn new(url: &str, ca_file: Option<PathBuf>) -> Result<Self, String> {
        // What is refused is not repeated: a URL may be a secret.
        let parsed: Uri = url.parse().map_err(|error| format!("url: {error}"))?;
        let secure = match parsed.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err("url does not begin with http:// or https://".to_owned()),
        };
        if parsed.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("url: a URL with a user's name or password is not supported".to_owned());
        }
        if ca_file.is_some() && !secure {
            return Err("ca_file is for an https url".to_owned());
        }
        let host = parsed.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("url names no host".to_owned());
        }
        let port = parsed.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { url: parsed, host, port, secure, ca_file })
    }

    /// The server, without path and query: these may be secret.
    pub fn place(&self) -> String {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        format!("{}://{authority}", self.url.scheme_str().unwrap_or_default())
    }

    /// Posts a message; the error is why that failed. Redirects are not followed: whoever is told has been named.
    pub async fn post(&self, message: &Message) -> Result<(), String> {
        let stream = connect(&self.host, self.port).await?;
        if !self.secure {
            return self.exchange(stream, message).await;
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|error| self.failed(&error))?;
        let config = trusting(self.ca_file.as_deref())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        self.exchange(stream.map_err(|error| self.failed(&error))?, message).await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        message: &Message,
    ) -> Result<(), String> {
        let builder = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).to_owned();
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| self.failed(&error))?;
        // The connection ends with this function, also when it is dropped in the middle.
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let response =
            sender.send_request(self.request(message)?).await.map_err(|error| self.failed(&error))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => {
                Err(self.failed(&format_args!("status {}; redirects are not followed", status.as_u16())))
            }
            status => Err(self.failed(&format_args!("status {}{}", status.as_u16(), named(status)))),
        }
    }

    fn request(&self, message: &Message) -> Result<Request<Full<Bytes>>, String> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        Request::post(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("muster/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .header(CONTENT_TYPE, "application/json")
            .header(EVENT_HEADER, message.event)
            .header(SIGNATURE_HEADER, &message.signature)
            .body(Full::new(message.body.clone().into()))
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> String {
        format!("{}: {error}", self.place())
    }
}

fn named(status: StatusCode) -> String {
    status.canonical_reason().map_or_else(String::new, |reason| format!(" {reason}"))
}

/// TLS that believes the authorities of a file, or of the system. They are read for each call: they change over the years.
fn trusting(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let system = || {
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        named.or_else(|| CA_FILES.iter().map(PathBuf::from).find(|file| file.exists()))
    };
    let file = ca_file.map(Path::to_owned).or_else(system);
    let file = file.ok_or_else(|| {
        format!("no file says whose certificates the system believes ({}); set ca_file", CA_FILES.join(", "))
    })?;
    let unread = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    if std::fs::metadata(&file).map_err(|error| unread(&error))?.len() > CA_BYTES_MAX {
        return Err(unread(&format_args!("more than {CA_BYTES_MAX} bytes")));
    }
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&file).map_err(|error| unread(&error))?;
    // One that cannot be read takes nothing from the others.
    roots.add_parsable_certificates(certificates.flatten());
    if roots.is_empty() {
        return Err(unread(&"there is no certificate in it"));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
