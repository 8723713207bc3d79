//! A small web server that remembers what it was posted.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

/// One request that was posted.
#[derive(Debug, Clone)]
pub struct Posted {
    /// The first line and the headers, one on each line.
    pub head: Vec<String>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Posted {
    /// The value of a header, whose name is lower-case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.iter().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(header, _)| *header == name).map(|(_, value)| value)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// A server that takes whatever is posted; it ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Begins to listen.
    pub fn new(address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("loopback can be listened on");
        let address = listener.local_addr().expect("it has an address");
        let (posted, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (took, ends) = (Arc::clone(&posted), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                // Whoever hangs up in the middle has not posted anything.
                if let Some(request) = stream.ok().and_then(|stream| take(&stream)) {
                    took.lock().expect("no test panicked here").push(request);
                }
            }
        });
        Self { address, posted, over, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that was posted so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().expect("no test panicked here").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes it up to see that.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn take(mut stream: &TcpStream) -> Option<Posted> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut posted = Posted { head, body: Vec::new() };
    let length: usize = posted.header("content-length")?.parse().ok()?;
    posted.body.resize(length, 0);
    reader.read_exact(&mut posted.body).ok()?;
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").ok()?;
    Some(posted)
}
