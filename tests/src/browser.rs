//! A headless Chromium, driven through chromedriver by the WebDriver protocol over plain HTTP.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use data_encoding::BASE64;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::control::parse;
use crate::{has_program, wait_for};

/// How long the browser may take for one command.
const PATIENCE: Duration = Duration::from_secs(60);
/// The name under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one empty profile; it and its driver end when this is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: TempDir,
}

impl Browser {
    /// Starts one; none where Chromium or its driver is not installed.
    ///
    /// # Panics
    ///
    /// If they are installed and do not start.
    pub fn start() -> Option<Self> {
        if !has_program("chromium") || !has_program("chromedriver") {
            return None;
        }
        let profile = tempfile::tempdir().expect("a folder can be made");
        let said = profile.path().join("driver.log");
        let log = File::create(&said).expect("a file can be made");
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            // One group with the browser, so that both end together.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log can be opened twice"))
            .stderr(log)
            .spawn()
            .expect("chromedriver can be started");
        let mut browser = Self { driver, port: 0, session: String::new(), profile };
        browser.port = wait_for("chromedriver says its port", PATIENCE, || port(&said));
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,1000",
        ];
        let folder = format!("--user-data-dir={}", browser.profile.path().join("profile").display());
        let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).chain([folder]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let session = browser.call("POST", "/session", &wanted);
        session["sessionId"].as_str().expect("a session has an id").clone_into(&mut browser.session);
        Some(browser)
    }

    /// Goes to an address and waits until its page is loaded.
    pub fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({ "url": url }));
    }

    /// What a piece of JavaScript returns in the page.
    pub fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text that the page shows.
    pub fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows something.
    pub fn wait_for_text(&self, part: &str) {
        let shown = crate::poll(PATIENCE, || self.text().contains(part).then_some(()));
        assert!(shown.is_some(), "the page does not show {part:?}:\n{}", self.text());
    }

    /// Types into what has the focus; `\u{e004}` is Tab, `\u{e007}` Enter.
    pub fn press(&self, keys: &str) {
        let active = self.command("GET", "/element/active", &Value::Null);
        let element = active[ELEMENT].as_str().expect("something has the focus");
        self.command("POST", &format!("/element/{element}/value"), &json!({ "text": keys }));
    }

    /// What the page wrote to its console since this was asked last, and what the browser had to say about the page.
    pub fn console(&self) -> Vec<String> {
        let entries = self.command("POST", "/se/log", &json!({ "type": "browser" }));
        let text = |entry: &Value| format!("{}: {}", entry["level"], entry["message"]);
        entries.as_array().into_iter().flatten().map(text).collect()
    }

    /// Writes what the page looks like to a PNG file.
    pub fn screenshot(&self, file: &Path) {
        let image = self.command("GET", "/screenshot", &Value::Null);
        let image = BASE64.decode(image.as_str().unwrap_or_default().as_bytes()).expect("an image is base64");
        fs::write(file, image).expect("an image can be written");
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.json());
        answer.json()["value"].take()
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> io::Result<crate::Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )?;
        let bytes = read_answer(&mut stream)?;
        parse(&bytes)
            .ok_or_else(|| io::Error::other(format!("not HTTP: {}", String::from_utf8_lossy(&bytes))))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser that it started; without its answer both are still ended below.
        if !self.session.is_empty() {
            let _ = self.ask("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        if let Ok(group) = i32::try_from(self.driver.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.driver.wait();
    }
}

/// Reads one answer: the driver leaves the connection open, and says how long its answer is.
fn read_answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..read]);
        if read == 0 || whole_length(&bytes).is_some_and(|length| bytes.len() >= length) {
            return Ok(bytes);
        }
    }
}

/// How long an answer is with its head, once the head is there.
fn whole_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    Some(end + 4 + length.trim().parse::<usize>().ok()?)
}

/// The port that chromedriver took, out of what it said.
fn port(log: &Path) -> Option<u16> {
    let said = fs::read_to_string(log).ok()?;
    let rest = said.split_once("started successfully on port ")?.1;
    rest.trim_end().trim_end_matches('.').parse().ok()
}
