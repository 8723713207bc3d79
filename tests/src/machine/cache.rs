//! The binary cache of a site: a folder of files, served over http at the hub.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket;

use super::hub::Hub;

/// The port of the cache at the hub's address.
pub(super) const PORT: u16 = 8080;
/// The longest that a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server of files that ends when it is dropped.
#[derive(Debug)]
pub(super) struct Cache {
    listener: TcpListener,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Cache {
    /// Serves a folder at the hub.
    pub(super) fn serve(hub: &Hub, folder: PathBuf) -> Self {
        let listener = hub.listen(PORT);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (theirs, seen) = (listener.try_clone().expect("a socket can be used twice"), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = theirs.accept() {
                let (folder, seen) = (folder.clone(), Arc::clone(&seen));
                // A client that goes away is its own affair.
                std::thread::spawn(move || drop(answer(&stream, &folder, &seen)));
            }
        });
        Self { listener, asked, thread: Some(thread) }
    }

    /// What was asked for and found, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread panicked here").clone()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Wakes the thread, whose next `accept` fails.
        let _ = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(stream: &TcpStream, folder: &Path, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let name = Path::new(path.trim_start_matches('/'));
    let inside = name.components().all(|part| matches!(part, Component::Normal(_)));
    let file = folder.join(name);
    let mut stream = stream;
    if !inside || !file.is_file() {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        return stream.shutdown(Shutdown::Write);
    }
    asked.lock().expect("no thread panicked here").push(path.to_owned());
    let length = fs::metadata(&file)?.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    if method != "HEAD" {
        io::copy(&mut File::open(file)?, &mut stream)?;
    }
    stream.shutdown(Shutdown::Write)
}
