//! The program itself: what it teaches, what it refuses, and what its figures are.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn muster_sim(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muster-sim")).args(words).output().unwrap()
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn help_teaches_by_examples() {
    for (words, examples) in [
        (&["--help"][..], ["muster-sim --seeds 42..43 --trace", "muster-sim --coverage", "muster-sim log"]),
        (&["log", "--help"][..], ["--scenario all --seeds 0..500", "log --mutants", "ticks"]),
    ] {
        let output = muster_sim(words);
        let text = printed(&output);
        assert!(output.status.success(), "{text}");
        for example in examples {
            assert!(text.contains(example), "{words:?} lacks {example:?}:\n{text}");
        }
        let wide = text.lines().find(|line| line.chars().count() > 120);
        assert_eq!(wide, None, "{words:?}");
    }
}

#[test]
fn what_is_not_known_is_named_and_help_is_pointed_to() {
    for (words, named) in [
        (&["--sedes", "0..3"][..], "--sedes"),
        (&["--seeds", "3"][..], "A..B"),
        (&["--seeds", "5..5"][..], "no seed"),
        (&["--faults", "crash,earthquake"][..], "earthquake"),
        (&["--planted", "moth"][..], "moth"),
        (&["log", "--hosts", "3"][..], "--hosts"),
        (&["log", "--scenario", "calm"][..], "calm"),
    ] {
        let output = muster_sim(words);
        let text = printed(&output);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {text}");
        assert!(text.contains(named), "{words:?}: {text}");
        assert!(text.contains("--help"), "{words:?}: {text}");
    }
}

#[test]
fn a_row_of_the_log_tells_seeds_ticks_to_recover_and_changes_of_leader() {
    let text = printed(&muster_sim(&["log", "--scenario", "crashes-inside-writes", "--seeds", "0..5"]));
    let mut lines = text.lines().skip_while(|line| !line.contains("scenario"));
    let (head, row) = (lines.next().unwrap(), lines.next().unwrap());
    let row: Vec<&str> = row.split_whitespace().collect();
    let of = |column: &str| row[head.split_whitespace().position(|it| it == column).unwrap()];
    let number = |column: &str| of(column).parse::<u64>().unwrap();
    assert_eq!((of("scenario"), number("seeds"), number("broken")), ("crashes-inside-writes", 5, 0));
    assert!(0 < number("p50") && number("p50") <= number("p99") && number("p99") <= number("max"));
    assert_eq!(number("changes"), number("leaders") - 5);
    assert!(head.len() <= 120, "{} columns", head.len());
}

#[test]
fn coverage_says_which_kinds_strike_too_seldom() {
    let text = printed(&muster_sim(&["--coverage", "--seeds", "0..2", "--faults", "crash"]));
    assert!(text.contains("switch-third") && text.contains("too seldom"), "{text}");
    let below = text.lines().find(|line| line.starts_with("below 5 %:")).unwrap();
    assert!(below.contains("switch-third"), "{below}");
}
