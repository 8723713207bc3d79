//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The path of the `muster` that belongs to these sources, built once for all tests.
///
/// `MUSTER_TEST_BINARY` names another one instead, such as a release build.
pub fn muster_binary() -> &'static Path {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BINARY
        .get_or_init(|| std::env::var_os("MUSTER_TEST_BINARY").map_or_else(build, |path| Ok(path.into())));
    built.as_ref().unwrap_or_else(|failure| panic!("{failure}"))
}

fn build() -> Result<PathBuf, String> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "-p", "muster", "--bin", "muster", "--message-format=json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    if !output.status.success() {
        let (said, errors) = (String::from_utf8_lossy(&output.stderr), rendered(&output.stdout));
        return Err(format!("muster does not build:\n{said}\n{errors}"));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "muster").then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executables.next_back().ok_or_else(|| "cargo does not name the program that it built".to_owned())
}

/// What the compiler said, out of cargo's messages.
fn rendered(messages: &[u8]) -> String {
    let messages = String::from_utf8_lossy(messages);
    let texts = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["message"]["rendered"].as_str().map(str::to_owned)
    });
    texts.collect()
}
