//! The rules that keep the source tree in order, each with a sample that breaks it.

mod bans;
mod comments;
mod dependencies;
mod layering;
mod nixos_module;
mod shape;
mod source;
mod top_level;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The top of the source tree.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What a program prints when run at the top of the tree; it must succeed.
fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(top()).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What cargo prints, without asking the network.
fn cargo(arguments: &[&str]) -> String {
    output_of(env!("CARGO"), &[arguments, &["--offline"]].concat())
}

/// The files under version control, as paths from the top; those deleted in the work tree are left out.
fn tracked() -> Vec<String> {
    let listed = output_of("git", &["ls-files", "-z"]);
    let paths = listed.split('\0').filter(|path| !path.is_empty());
    paths.filter(|path| top().join(path).is_file()).map(str::to_owned).collect()
}

/// The Rust files under version control with their text.
fn rust_files() -> Vec<(String, String)> {
    let read = |path: String| {
        let text = std::fs::read_to_string(top().join(&path)).unwrap();
        (path, text)
    };
    tracked().into_iter().filter(|path| path.ends_with(".rs")).map(read).collect()
}

/// Fails with one line for each breach.
fn none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}
