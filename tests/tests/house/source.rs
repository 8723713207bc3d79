//! Reading Rust sources for the rules: tokens with their places, paths with `use` trees taken apart, comments.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

/// One path as it stands in a source, also inside `use` trees and macros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mention {
    /// The line that it ends on.
    pub(super) line: usize,
    /// Its segments; the last is `*` for a glob.
    pub(super) path: Vec<String>,
    /// Whether `as` follows.
    pub(super) renamed: bool,
}

/// Every path of a stream of tokens, outermost prefix included.
pub(super) fn mentions(tokens: TokenStream) -> Vec<Mention> {
    let mut found = Vec::new();
    collect(&tokens.into_iter().collect::<Vec<_>>(), &[], &mut found);
    found
}

fn collect(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<Mention>) {
    let mut index = 0;
    // Within the braces of a `use` tree every path goes on from the prefix.
    while index < tokens.len() {
        match &tokens[index] {
            TokenTree::Ident(_) => index = path_from(tokens, index, prefix, found),
            TokenTree::Group(group) => {
                collect(&group.stream().into_iter().collect::<Vec<_>>(), &[], found);
                index += 1;
            }
            TokenTree::Punct(punct) if punct.as_char() == '*' && !prefix.is_empty() => {
                let path = [prefix, &["*".to_owned()]].concat();
                found.push(Mention { line: line(punct.span()), path, renamed: false });
                index += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => index += 1,
        }
    }
}

/// Reads the path that begins at `index`; gives the index after it.
fn path_from(tokens: &[TokenTree], mut index: usize, prefix: &[String], found: &mut Vec<Mention>) -> usize {
    let mut path = prefix.to_vec();
    let mut end = Span::call_site();
    let mut open = false;
    while let Some(TokenTree::Ident(ident)) = tokens.get(index) {
        path.push(ident.to_string().trim_start_matches("r#").to_owned());
        end = ident.span();
        index += 1;
        // `<Utc>::now` names the same function as `Utc::now`.
        let closed = usize::from(is_punct(tokens.get(index), '>') && is_separator(tokens, index + 1));
        open = is_separator(tokens, index + closed);
        if !open {
            break;
        }
        index += closed + 2;
    }
    match tokens.get(index) {
        Some(TokenTree::Group(tree)) if tree.delimiter() == Delimiter::Brace && open => {
            collect(&tree.stream().into_iter().collect::<Vec<_>>(), &path, found);
            return index + 1;
        }
        Some(TokenTree::Punct(star)) if star.as_char() == '*' && open => {
            path.push("*".to_owned());
            index += 1;
        }
        _ => {}
    }
    let renamed = matches!(tokens.get(index), Some(TokenTree::Ident(word)) if *word == "as");
    found.push(Mention { line: line(end), path, renamed });
    index
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_separator(tokens: &[TokenTree], index: usize) -> bool {
    is_punct(tokens.get(index), ':') && is_punct(tokens.get(index + 1), ':')
}

fn line(span: Span) -> usize {
    span.end().line
}

/// Whether an item is built for tests only.
pub(super) fn for_tests_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let text = if list.path.is_ident("cfg") { list.tokens.to_string() } else { String::new() };
        text == "test" || text.starts_with("all") && text.contains("test") && !text.contains("not")
    })
}

/// The files, among `files`, that belong to modules built for tests only.
pub(super) fn test_files(files: &[(String, String)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in files {
        for item in syn::parse_file(text).unwrap().items {
            let syn::Item::Mod(module) = item else { continue };
            if module.content.is_none() && for_tests_only(&module.attrs) {
                let base = module_base(Path::new(path), &module.ident.to_string());
                let inside =
                    |file: &str| file == format!("{base}.rs") || file.starts_with(&format!("{base}/"));
                found.extend(files.iter().map(|(file, _)| file.clone()).filter(|file| inside(file)));
            }
        }
    }
    found
}

/// Where the source of a module declared in `path` lies, without its ending.
fn module_base(path: &Path, module: &str) -> String {
    let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    };
    folder.join(module).to_string_lossy().into_owned()
}

/// A Rust source with all that is code blanked out: what is left are its comments, on their lines.
pub(super) fn comments(text: &str) -> String {
    let tokens: TokenStream = text.parse().unwrap();
    let mut rest = text.as_bytes().to_vec();
    blank(tokens, text, &mut rest);
    String::from_utf8_lossy(&rest).into_owned()
}

fn blank(tokens: TokenStream, text: &str, rest: &mut [u8]) {
    for token in tokens {
        let whole = &text[token.span().byte_range()];
        if whole.starts_with("//") || whole.starts_with("/*") {
            // A doc comment becomes tokens whose place is the comment itself.
            continue;
        }
        let spans = match &token {
            TokenTree::Group(group) => {
                blank(group.stream(), text, rest);
                vec![group.span_open(), group.span_close()]
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => vec![token.span()],
        };
        for range in spans.into_iter().map(|span| span.byte_range()) {
            rest[range].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mention, comments, mentions, test_files};

    fn paths(source: &str) -> Vec<String> {
        let shown = |mention: Mention| {
            let mark = if mention.renamed { " as" } else { "" };
            format!("{}{mark}", mention.path.join("::"))
        };
        mentions(source.parse().unwrap()).into_iter().map(shown).collect()
    }

    #[test]
    fn use_trees_are_taken_apart_also_within_macros() {
        let source = "m! { use std::{time::{Instant, SystemTime as Clock}, fs::*, env}; }";
        let expected = [
            "m",
            "use",
            "std::time::Instant",
            "std::time::SystemTime as",
            "as",
            "Clock",
            "std::fs::*",
            "std::env",
        ];
        let found = paths(source);
        for path in expected.iter().filter(|path| path.contains("::")) {
            assert!(found.iter().any(|seen| seen == path), "{path} in {found:?}");
        }
    }

    #[test]
    fn only_comments_are_left_of_a_source() {
        let source =
            "//! Top.\nfn a() { let s = \"// no\"; /* in */ b('\\''); } // end\n/// Doc.\nstruct S; // é\n";
        let left = comments(source);
        let lines: Vec<_> = left.lines().map(str::trim).collect();
        assert_eq!(lines, ["//! Top.", "/* in */            // end", "/// Doc.", "// é"]);
    }

    #[test]
    fn files_of_test_modules_are_known() {
        let files = [
            ("a/src/lib.rs", "mod real; #[cfg(test)] mod tests;"),
            ("a/src/real.rs", "#[cfg(test)] mod checks; mod helper;"),
            ("a/src/real/checks.rs", ""),
            ("a/src/real/helper.rs", ""),
            ("a/src/tests/deep.rs", ""),
            ("a/src/tests/mod.rs", ""),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()));
        let found: Vec<_> = test_files(&files).into_iter().collect();
        assert_eq!(found, ["a/src/real/checks.rs", "a/src/tests/deep.rs", "a/src/tests/mod.rs"]);
    }
}
