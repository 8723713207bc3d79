//! Comments speak to a stranger in a year: no tags of unfinished work, no plans, no tickets, no shouting.

use super::source;
use super::{none, top, tracked};

/// Words that mark unfinished work or shout.
const TAGS: [&str; 6] = ["TODO", "FIXME", "XXX", "HACK", "LOADBEARING", "FOOTGUN"];
/// Words that with a number after them speak of a plan that the reader does not have.
const PLANS: [&str; 4] = ["phase", "issue", "ticket", "milestone"];
/// Places that a reader does not have.
const PLACES: [&str; 1] = ["shared/"];

/// What kind of file decides what its comments are.
fn comments_of(path: &str, text: &str) -> Option<String> {
    let ending =
        path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, ending)| ending);
    match ending {
        "rs" => Some(source::comments(text)),
        "md" => Some(text.to_owned()),
        "lock" | "json" | "txt" => None,
        "" if path.starts_with("LICENSE") => None,
        _ => Some(after_hashes(text)),
    }
}

/// What follows a `#` that begins a word, on each line; and what Nix has between `/*` and `*/`.
fn after_hashes(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        inside |= line.contains("/*");
        let hash = line.find('#').filter(|&at| at == 0 || line[..at].ends_with(char::is_whitespace));
        kept.push_str(if inside { line } else { hash.map_or("", |at| &line[at..]) });
        kept.push('\n');
        inside &= !line.contains("*/");
    }
    kept
}

/// The lines of comments that say what they must not.
fn breaches(path: &str, text: &str) -> Vec<String> {
    let comments = comments_of(path, text).unwrap_or_default();
    let bad = comments.lines().enumerate().filter(|(_, line)| offends(line));
    bad.map(|(index, line)| format!("{path}:{}: {}", index + 1, line.trim())).collect()
}

fn offends(line: &str) -> bool {
    let words: Vec<&str> =
        line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let plan = |word: &str| PLANS.contains(&word.to_ascii_lowercase().as_str());
    words.iter().any(|word| TAGS.contains(word))
        || words.windows(2).any(|pair| plan(pair[0]) && number(pair[1]))
        || PLACES.iter().any(|place| line.contains(place))
}

#[test]
fn comments_are_true_to_a_stranger_in_a_year() {
    let read = |path: String| {
        // What is not text has no comments.
        let text = String::from_utf8(std::fs::read(top().join(&path)).unwrap()).unwrap_or_default();
        breaches(&path, &text)
    };
    let found: Vec<_> = tracked().into_iter().flat_map(read).collect();
    none("comments that speak of what the reader does not have", &found);
}

#[test]
fn whatever_a_comment_must_not_say_is_found() {
    for (path, bad) in [
        ("a.rs", "// TODO: finish\n"),
        ("a.rs", "fn f() { /* FIXME */ }"),
        ("a.rs", "/// Comes in phase 2.\nstruct S;"),
        ("a.rs", "//! See issue #12."),
        ("a.rs", "// LOADBEARING"),
        ("a.rs", "// as shared/design says"),
        ("a.nix", "{ a = 1; # XXX later\n}"),
        ("a.nix", "/* first\n   HACK\n*/ { }"),
        ("run.sh", "# Phase 3 begins here\n"),
        (".ci/run", "true # TODO\n"),
        ("README.md", "What is still TODO.\n"),
    ] {
        assert_ne!(breaches(path, bad), [""; 0], "{path}: {bad}");
    }
}

#[test]
fn code_and_honest_comments_are_let_through() {
    for (path, good) in [
        ("a.rs", "// the second phase of a two-phase commit\nfn f() { g(\"TODO\", r#\"// FIXME\"#); }"),
        ("run.sh", "mktemp -d muster.XXXXXX\necho \"${#HACK}\"\n"),
        ("a.nix", "{ url = \"x#TODO\"; }\n"),
        ("Cargo.lock", "# TODO\n"),
    ] {
        assert_eq!(breaches(path, good), [""; 0], "{path}: {good}");
    }
}
