//! The shape of the sources: a sentence on top of each file, no endless files, no endless functions.

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::{none, rust_files};

/// The most lines of one file.
const FILE_LINES_MAX: usize = 600;
/// The most lines of one function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 100;

struct Functions(Vec<(String, usize)>);

impl Functions {
    fn measure(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let lines = body.span().end().line - signature.span().start().line + 1;
        self.0.push((signature.ident.to_string(), lines));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.measure(&function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

fn breaches(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//! ") {
        found.push(format!("{path} does not begin with `//!` and a sentence"));
    } else if !text.lines().next().is_some_and(|line| line.chars().any(char::is_alphabetic)) {
        found.push(format!("{path} says nothing of itself in its first line"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(format!("{path} has {lines} lines, more than {FILE_LINES_MAX}"));
    }
    let mut functions = Functions(Vec::new());
    functions.visit_file(&syn::parse_file(text).unwrap());
    let long = functions.0.into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX);
    found.extend(
        long.map(|(name, lines)| format!("{path}: {name} has {lines} lines, more than {FUNCTION_LINES_MAX}")),
    );
    found
}

#[test]
fn files_and_functions_keep_their_shape() {
    let found: Vec<_> = rust_files().iter().flat_map(|(path, text)| breaches(path, text)).collect();
    none("out of shape", &found);
}

#[test]
fn whatever_is_out_of_shape_is_found() {
    let body = "\n".repeat(FUNCTION_LINES_MAX - 1);
    let long = |head: &str, tail: &str| format!("//! A sentence.\n{head}{{{body}\n}}{tail}");
    for bad in [
        "fn f() {}".to_owned(),
        "// A sentence.\nfn f() {}".to_owned(),
        "//! .\nfn f() {}".to_owned(),
        format!("//! A sentence.\n{}", "// more\n".repeat(FILE_LINES_MAX)),
        long("fn f() ", ""),
        long("impl S { fn f() ", "}"),
        long("trait T { fn f() ", "}"),
        long("fn outer() { fn f() ", "}"),
    ] {
        assert_ne!(breaches("sample.rs", &bad), [""; 0], "{bad}");
    }
    let body = "\n".repeat(FUNCTION_LINES_MAX - 2);
    assert_eq!(breaches("sample.rs", &format!("//! A sentence.\nfn f() {{{body}\n}}")), [""; 0]);
}
