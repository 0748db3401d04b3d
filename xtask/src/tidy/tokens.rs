//! A Rust file as a flat list of tokens with lines: comments are gone, strings are opaque, macros are seen into.

use proc_macro2::{Delimiter, Group, LexError, Spacing, TokenStream, TokenTree};

/// One token. Groups are flattened into their brackets.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// An identifier, a punctuation mark or a bracket; empty for a literal, so that no text in it can match anything.
    pub(super) text: String,
    /// The first line, counted from 1.
    pub(super) line: usize,
    /// The last line: later than the first only for a literal of several lines.
    pub(super) last_line: usize,
    /// Whether it belongs to an item that is compiled for tests alone.
    pub(super) in_test: bool,
}

/// A path that a `use` brings in, braces expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// Its segments, `*` and `self` included.
    pub(super) path: Vec<String>,
    /// Where it is renamed.
    pub(super) alias: Option<String>,
    pub(super) line: usize,
    pub(super) in_test: bool,
}

/// Reads a file's text.
pub(super) fn parse(text: &str) -> Result<Vec<Token>, LexError> {
    let stream: TokenStream = text.parse()?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    mark_tests(&mut tokens);
    Ok(tokens)
}

fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while at < trees.len() {
        if let Some(length) = doc_comment(&trees[at..]) {
            at += length;
            continue;
        }
        match &trees[at] {
            TokenTree::Group(group) => {
                let (open, close) = brackets(group);
                push(out, open, group.span_open());
                flatten(group.stream(), out);
                push(out, close, group.span_close());
            }
            TokenTree::Ident(ident) => push(out, &ident.to_string(), ident.span()),
            TokenTree::Punct(punct) => {
                // `::` becomes one token, so that paths are easy to spell.
                let joined = punct.as_char() == ':'
                    && punct.spacing() == Spacing::Joint
                    && matches!(trees.get(at + 1), Some(TokenTree::Punct(next)) if next.as_char() == ':');
                if joined {
                    push(out, "::", punct.span());
                    at += 1;
                } else {
                    push(out, &punct.as_char().to_string(), punct.span());
                }
            }
            TokenTree::Literal(literal) => push(out, "", literal.span()),
        }
        at += 1;
    }
}

/// How many trees a doc comment takes: the lexer turns each into `#[doc = "..."]` or `#![doc = "..."]`.
fn doc_comment(trees: &[TokenTree]) -> Option<usize> {
    let is = |tree: Option<&TokenTree>, mark: char| matches!(tree, Some(TokenTree::Punct(p)) if p.as_char() == mark);
    if !is(trees.first(), '#') {
        return None;
    }
    let at = if is(trees.get(1), '!') { 2 } else { 1 };
    let Some(TokenTree::Group(group)) = trees.get(at) else { return None };
    let mut inner = group.stream().into_iter();
    let doc = matches!(inner.next(), Some(TokenTree::Ident(ident)) if ident == "doc");
    (doc && is(inner.next().as_ref(), '=')).then_some(at + 1)
}

fn brackets(group: &Group) -> (&'static str, &'static str) {
    match group.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

fn push(out: &mut Vec<Token>, text: &str, span: proc_macro2::Span) {
    let (line, last_line) = (span.start().line, span.end().line);
    out.push(Token { text: text.into(), line, last_line, in_test: false });
}

/// Whether the tokens begin with these texts.
pub(super) fn starts_with(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.text == *text)
}

/// The attribute that stands at the beginning of `tokens`: what is between its brackets, and how long it is in all.
pub(super) fn attribute(tokens: &[Token]) -> Option<(&[Token], usize)> {
    let open = if starts_with(tokens, &["#", "["]) {
        1
    } else if starts_with(tokens, &["#", "!", "["]) {
        2
    } else {
        return None;
    };
    let close = closing(tokens, open)?;
    Some((&tokens[open + 1..close], close + 1))
}

/// Whether an attribute makes a function a test: `test`, or a path that ends in it, as in `tokio::test(...)`.
pub(super) fn marks_test_function(attribute: &[Token]) -> bool {
    let path = attribute.split(|token| token.text == "(").next().unwrap_or_default();
    path.last().is_some_and(|last| last.text == "test")
}

fn marks_test_item(attribute: &[Token]) -> bool {
    marks_test_function(attribute)
        || starts_with(attribute, &["cfg", "(", "test", ")"])
        || starts_with(attribute, &["cfg", "(", "all", "(", "test", ","])
}

/// The index of the bracket that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at < tokens.len() {
        let Some((inside, length)) = attribute(&tokens[at..]) else {
            at += 1;
            continue;
        };
        if !marks_test_item(inside) {
            at += length;
            continue;
        }
        let inner = tokens[at + 1].text == "!";
        let end = if inner { tokens.len() } else { item_end(tokens, at + length) };
        for token in &mut tokens[at..end] {
            token.in_test = true;
        }
        at = end;
    }
}

/// One past the last token of the item that begins at `at`: its `;`, or the brace that closes its body.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            // The end of an enum's variant, a field or an expression that has the attribute.
            "," | "}" | ")" | "]" => return at,
            "(" | "[" => at = closing(tokens, at).unwrap_or(tokens.len()),
            "{" => {
                at = closing(tokens, at).unwrap_or(tokens.len());
                // The braces of `use a::{b};` or `const A: B = B { .. };` do not end the item.
                if !matches!(tokens.get(at + 1).map(|next| next.text.as_str()), Some(";" | "." | "?" | "," | ")")) {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    tokens.len()
}

/// Everything that the `use` items bring in.
pub(super) fn imports(tokens: &[Token]) -> Vec<Import> {
    let mut imports = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        // `use<'a>` in a return type captures lifetimes and imports nothing.
        if token.text == "use" && tokens.get(at + 1).is_some_and(|next| next.text != "<") {
            import_tree(tokens, at + 1, &[], &mut imports);
        }
    }
    imports
}

/// Reads one tree of a `use` and returns the index of the token after it.
fn import_tree(tokens: &[Token], mut at: usize, prefix: &[String], imports: &mut Vec<Import>) -> usize {
    let mut path = prefix.to_vec();
    let (mut line, mut in_test) = (0, false);
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "::" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    let after = import_tree(tokens, at, &path, imports);
                    // A comma; or what only a macro's pattern has here, which must not keep us for ever.
                    at = if after == at || tokens.get(after).is_some_and(|next| next.text == ",") {
                        after + 1
                    } else {
                        after
                    };
                }
                return at + 1;
            }
            "," | "}" | ";" | "as" => break,
            segment => {
                path.push(segment.to_owned());
                (line, in_test) = (token.line, token.in_test);
            }
        }
        at += 1;
    }
    let mut alias = None;
    if tokens.get(at).is_some_and(|token| token.text == "as") {
        alias = tokens.get(at + 1).map(|token| token.text.clone());
        at += 2;
    }
    if line > 0 {
        imports.push(Import { path, alias, line, in_test });
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> String {
        let tokens = parse(text).unwrap();
        tokens.iter().map(|token| token.text.as_str()).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_strings_are_not_seen() {
        let text = "//! async\n/// await\nfn f() { /* todo!() */ let s = \"Instant::now()\"; r#\"dbg!\"# }";
        assert_eq!(texts(text), "fn f ( ) { let s = ; }");
    }

    #[test]
    fn macros_are_seen_into() {
        assert_eq!(texts("vec![Instant::now()]"), "vec ! [ Instant :: now ( ) ]");
    }

    #[test]
    fn what_is_compiled_for_tests_alone_is_marked() {
        let text = "
            use a::b;
            #[cfg(test)] use c::{d, e};
            #[cfg(test)] const F: G = G { h: 1 };
            fn i() -> J { J { k: 2 } }
            #[cfg(test)] #[allow(dead_code)] mod l { fn m() {} }
            enum N { #[cfg(test)] O, P }
            #[tokio::test(start_paused = true)] fn q() {}
            fn r() {}";
        let tokens = parse(text).unwrap();
        let is_name = |token: &&Token| token.text.chars().all(char::is_alphabetic) && token.text.len() == 1;
        let plain: String = tokens.iter().filter(is_name).filter(|t| !t.in_test).map(|t| t.text.as_str()).collect();
        assert_eq!(plain, "abiJJkNPr");
    }

    #[test]
    fn an_inner_attribute_makes_the_whole_file_a_test() {
        assert!(parse("#![cfg(test)] fn a() {}").unwrap().iter().all(|token| token.in_test));
    }

    #[test]
    fn a_macro_pattern_that_looks_like_an_import_is_survived() {
        let tokens = parse("macro_rules! m { (use $a:path { ; b }) => { use $a::{$b, , c}; } }").unwrap();
        assert!(imports(&tokens).iter().any(|import| import.path.last().is_some_and(|last| last == "c")));
    }

    #[test]
    fn imports_are_expanded() {
        let tokens = parse("use std::{fs, time::{self, Instant as Clock}};\nuse ::core::net::*;").unwrap();
        let seen: Vec<_> =
            imports(&tokens).into_iter().map(|import| (import.path.join("::"), import.alias, import.line)).collect();
        let expected = [
            ("std::fs".to_owned(), None, 1),
            ("std::time::self".to_owned(), None, 1),
            ("std::time::Instant".to_owned(), Some("Clock".to_owned()), 1),
            ("core::net::*".to_owned(), None, 2),
        ];
        assert_eq!(seen, expected);
    }
}
