//! A client of web servers, over plain HTTP or TLS: one request on a connection of its own, and no redirects.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The longest head of an answer that is read, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The variable that names the file of the authorities that the system trusts, as OpenSSL's programs know it.
const CA_VARIABLE: &str = "SSL_CERT_FILE";
/// Where systems keep that file; the first that is there counts. NixOS has the first one, too.
const CA_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// The largest file of authorities that is read, in bytes.
const CA_BYTES_MAX: u64 = 4 << 20;

/// A server, and what of it a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    url: Uri,
    host: String,
    port: u16,
    secure: bool,
    ca_file: Option<PathBuf>,
}

/// An answer whose body is read as it comes; the connection ends with it.
#[derive(Debug)]
pub struct Answer {
    /// Status, headers, and the body to come.
    pub response: Response<Incoming>,
    _connection: JoinSet<Result<(), hyper::Error>>,
}

impl Server {
    /// Reads a URL; the error is why it does not serve, without the URL, which may be a secret.
    ///
    /// `ca_file` holds, in PEM, the authorities whose certificates are believed instead of those that the system trusts.
    pub fn new(url: &str, ca_file: Option<PathBuf>) -> Result<Self, String> {
        let parsed: Uri = url.parse().map_err(|error| format!("no URL: {error}"))?;
        let secure = match parsed.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err("a URL begins with http:// or https://".to_owned()),
        };
        if parsed.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("a URL with a user's name or password is not supported".to_owned());
        }
        match &ca_file {
            Some(_) if !secure => return Err("a file of authorities is for an https URL".to_owned()),
            Some(file) if !file.is_absolute() => return Err(format!("{} is not absolute", file.display())),
            Some(_) | None => {}
        }
        let host = parsed.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = parsed.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { url: parsed, host, port, secure, ca_file })
    }

    /// The whole URL.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// The server alone: path and query may be a secret.
    pub fn place(&self) -> String {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        format!("{}://{authority}", self.url.scheme_str().unwrap_or_default())
    }

    /// A request for what the URL names, to be completed.
    pub fn request(&self, method: Method) -> Builder {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("muster/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
    }

    /// Sends a request; the error is why there is no answer.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Answer, String>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("{} port {}: {error}", self.host, self.port))?;
        if !self.secure {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let file = self.ca_file.clone();
        // The system's file has a few hundred certificates, which nobody else need wait for.
        let config = tokio::task::spawn_blocking(move || trusting(file.as_deref())).await;
        let config = config.map_err(|error| error.to_string())??;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        exchange(stream.map_err(|error| error.to_string())?, request).await
    }
}

async fn exchange<B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<B>,
) -> Result<Answer, String>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let says = |error: hyper::Error| error.to_string();
    let builder = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).to_owned();
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(says)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let response = sender.send_request(request).await.map_err(says)?;
    Ok(Answer { response, _connection: tasks })
}

/// TLS that believes the authorities of a file, or those that the system trusts. They are read for each request: they change
/// over the years, and an agent runs for as long.
fn trusting(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let system = || {
        let named = std::env::var_os(CA_VARIABLE).map(PathBuf::from);
        named.or_else(|| CA_FILES.iter().map(PathBuf::from).find(|file| file.exists()))
    };
    let file = ca_file.map(Path::to_owned).or_else(system).ok_or_else(|| {
        format!(
            "no file says which authorities the system trusts: neither {CA_VARIABLE} nor {}",
            CA_FILES.join(", ")
        )
    })?;
    let unread = |error: &dyn Display| format!("{}: {error}", file.display());
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
    // libp2p's QUIC uses the same provider, so that there is one TLS stack.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
pub(crate) mod testing {
    //! A server with a certificate of an authority of its own.
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    /// An authority.
    pub(crate) struct Authority {
        key: KeyPair,
        certificate: rcgen::Certificate,
    }

    impl Authority {
        pub(crate) fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            Self { key, certificate }
        }

        /// Its certificate, in a file of a folder.
        pub(crate) fn file(&self, folder: &Path) -> PathBuf {
            let file = folder.join("ca.pem");
            let der = data_encoding::BASE64.encode(self.certificate.der());
            std::fs::write(&file, format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n"))
                .unwrap();
            file
        }

        /// What accepts connections as a server of that name, with a certificate of this authority.
        pub(crate) fn acceptor(&self, name: &str) -> TlsAcceptor {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &self.certificate, &self.key).unwrap();
            let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
                )
                .unwrap();
            TlsAcceptor::from(Arc::new(config))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn only_urls_of_servers_are_taken_and_never_repeated() {
        let file = || Some(PathBuf::from("/ca.pem"));
        for (url, ca_file, problem) in [
            ("ftp://x/secret", None, "begins with http:// or https://"),
            ("/secret", None, "begins with http:// or https://"),
            ("https://me:secret@x/", None, "user's name"),
            ("http://", None, "no URL"),
            ("http://x/secret", file(), "for an https URL"),
            ("https://x/secret", Some("ca.pem".into()), "ca.pem is not absolute"),
        ] {
            let reason = Server::new(url, ca_file).unwrap_err();
            assert!(reason.contains(problem) && !reason.contains("secret"), "{url}: {reason}");
        }
        for (url, host, port, place) in [
            ("http://[::1]:8080", "::1", 8080, "http://[::1]:8080"),
            ("http://x/a?b", "x", 80, "http://x"),
            ("https://x/a?b", "x", 443, "https://x"),
        ] {
            let server = Server::new(url, None).unwrap();
            assert_eq!((server.host.as_str(), server.port, server.place().as_str()), (host, port, place));
        }
        assert!(Server::new("https://x", file()).is_ok());
    }

    #[test]
    fn a_file_of_authorities_that_holds_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        assert!(trusting(Some(&file)).unwrap_err().contains("ca.pem: No such file"));
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&file, text).unwrap();
            assert!(trusting(Some(&file)).unwrap_err().ends_with("there is no certificate in it"));
        }
        std::fs::File::create(&file).unwrap().set_len(CA_BYTES_MAX + 1).unwrap();
        assert!(trusting(Some(&file)).unwrap_err().contains("more than"));
    }
}
