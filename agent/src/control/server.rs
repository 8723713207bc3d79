//! Listens on the control socket, and keeps every client, also of the metrics, to its limits.

use std::fs::{self, File};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, socket, sockopt,
};
use nix::unistd::{Group, chown};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::routes::{self, Client};
use super::stall::Stall;
use super::{Door, PeerCredentials};

/// Who may use the socket beside root and the agent's own user.
const SOCKET_GROUP: &str = "muster";
/// The socket's mode.
const SOCKET_MODE: u32 = 0o660;
/// The longest path that a Unix socket can have, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How many clients beyond the limit are told that there is no place for them; the rest is hung up on.
const REFUSALS_MAX: usize = 16;
/// How long nothing is accepted after the system refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections at once.
    pub connections: usize,
    /// How many of them may follow the events.
    pub followers: usize,
    /// The longest body, in bytes.
    pub body_bytes: usize,
    /// How long a request may take to arrive, and a connection may be idle.
    pub request_time: Duration,
    /// How long a client may leave an answer unread.
    pub write_time: Duration,
    /// How old the metrics may be that are told over TCP.
    pub metrics_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            followers: 32,
            body_bytes: 8 * 1024 * 1024,
            request_time: Duration::from_secs(10),
            write_time: Duration::from_secs(30),
            metrics_age: Duration::from_secs(1),
        }
    }
}

/// Why the socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another agent answers there.
    #[error("{path}: another process listens there")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else lies there.
    #[error("{path}: not a socket; it is left alone")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The path is longer than the system allows.
    #[error("{path}: a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes, not {bytes}")]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A server in a task of its own; it stops when this is dropped.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
}

impl Server {
    /// Listens at `path` and answers within the usual limits.
    pub fn start(path: &Path, door: Door) -> Result<Self, BindError> {
        let listener = Listener::bind(path)?;
        let serving = listener.serve(door, Limits::default(), std::future::pending());
        Ok(Self { task: tokio::spawn(serving) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The socket, listening. Its file goes when this does.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl Listener {
    /// Listens at `path`. A socket that a dead process left behind is replaced; nothing else is.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let bytes = path.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(BindError::PathTooLong { path: path.to_owned(), bytes });
        }
        let io_error = |source| BindError::Io { path: path.to_owned(), source };
        make_room(path)?;
        let listener = listen(path).map_err(io_error)?;
        hand_to_group(path);
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(io_error)?;
        let inode = inode(path).map_err(io_error)?;
        Ok(Self { listener, path: path.to_owned(), inode })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers clients until `shutdown` is done; requests that are being answered then are cut off.
    pub async fn serve(self, door: Door, limits: Limits, shutdown: impl Future<Output = ()>) {
        let accept = |cx: &mut Context<'_>| {
            let accepted = self.listener.poll_accept(cx);
            accepted.map_ok(|(stream, _)| (Client { credentials: credentials(&stream) }, stream))
        };
        attend(accept, routes::router(door, limits), limits, shutdown).await;
    }
}

/// Attends to whoever `accept` lets in, within the limits, until `shutdown` is done.
pub(super) async fn attend<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(Client, S)>>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let refuse = routes::full(limits);
    let mut clients = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
            accepted = poll_fn(&mut accept) => match accepted {
                Ok((client, stream)) => {
                    if let Ok(place) = places.clone().try_acquire_owned() {
                        clients.spawn(converse(stream, client, router.clone(), limits, place));
                    } else if let Ok(place) = refusals.clone().try_acquire_owned() {
                        clients.spawn(converse(stream, client, refuse.clone(), limits, place));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "nobody is accepted for a moment");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|found| found == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

fn make_room(path: &Path) -> Result<(), BindError> {
    let io_error = |source| BindError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match BlockingStream::connect(path) {
        Ok(_) => Err(BindError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io_error)
        }
        Err(error) => Err(io_error(error)),
    }
}

/// Binds a socket that has its mode already, so that there is no moment at which just anybody may connect.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = File::from(socket(AddressFamily::Unix, SockType::Stream, flags, None)?);
    socket.set_permissions(fs::Permissions::from_mode(SOCKET_MODE))?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::listen(&socket, Backlog::MAXCONN)?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

fn hand_to_group(path: &Path) {
    match Group::from_name(SOCKET_GROUP) {
        Ok(Some(group)) => {
            // The unit's own group is often that group already, and its sandbox forbids to change owners.
            let given = fs::metadata(path).is_ok_and(|socket| socket.gid() == group.gid.as_raw());
            if !given && let Err(error) = chown(path, None, Some(group.gid)) {
                tracing::warn!(%error, group = SOCKET_GROUP, "the control socket stays with the agent's own group");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, group = SOCKET_GROUP, "the group cannot be looked up"),
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    client: Client,
    router: Router,
    limits: Limits,
    _place: OwnedSemaphorePermit,
) {
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(client);
        routes.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_time)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Stall::new(stream, limits.write_time)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client went away");
    }
}

fn credentials(stream: &UnixStream) -> Option<PeerCredentials> {
    let found = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    Some(PeerCredentials { uid: found.uid(), gid: found.gid(), pid: found.pid() })
}
