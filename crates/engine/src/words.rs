//! An engine's own words, made fit to be shown.

use longshore_types::Secret;

/// The longest quotation. A fault's message has 512 characters, and our own sentence comes first.
const LONGEST: usize = 240;

/// `text` on one line, without the secrets given and what else looks like one, without absolute paths, and short.
///
/// vLLM 0.32 writes `<path>` for a path by itself; 0.11 shows it. A path tells no more than the one that was asked for.
pub(crate) fn clean(text: &str, secrets: &[&Secret]) -> String {
    shorten(&tokens(text, secrets, true))
}

/// As [`clean`], but paths stay: for a text that is a path.
pub(crate) fn clean_path(text: &str, secrets: &[&Secret]) -> String {
    shorten(&tokens(text, secrets, false))
}

fn tokens(text: &str, secrets: &[&Secret], hide_paths: bool) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().map(|secret| secret.expose()).filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "…");
        // As it stands in a JSON text that is quoted as it is.
        let escaped = secret.replace('\\', r"\\").replace('"', r#"\""#);
        text = text.replace(&escaped, "…");
    }
    let mut out = String::with_capacity(text.len());
    let mut after_bearer = false;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        if after_bearer {
            out.push('…');
        } else if word.contains("://") {
            out.push_str(&without_credentials(word));
        } else if hide_paths {
            out.push_str(&without_paths(&without_tokens(word)));
        } else {
            out.push_str(&without_tokens(word));
        }
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        after_bearer = !after_bearer && bare.eq_ignore_ascii_case("bearer");
    }
    out
}

/// A URL without userinfo and query, where keys and signatures stand.
fn without_credentials(word: &str) -> String {
    let (scheme, rest) = word.split_once("://").unwrap_or(("", word));
    let (rest, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?…"),
        None => (rest, ""),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}{query}")
}

/// A word without what looks like a token of a model hub or an API: the prefix stays, so that one sees what it was.
fn without_tokens(word: &str) -> String {
    for prefix in ["hf_", "sk-"] {
        if let Some(at) = word.find(prefix) {
            let starts = word[..at].chars().next_back().is_none_or(|c| !c.is_ascii_alphanumeric());
            let rest = &word[at + prefix.len()..];
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(rest.len());
            // Shorter ones are words like `hf_hub` or `sk-learn`.
            if starts && length >= 16 {
                return format!("{}{prefix}…{}", &word[..at], &rest[length..]);
            }
        }
    }
    word.to_owned()
}

/// A word with `<path>` for an absolute path of two parts or more, as it stands alone, in quotes or behind `=`.
fn without_paths(word: &str) -> String {
    let Some(at) = word.find('/') else { return word.to_owned() };
    let before = word[..at].chars().next_back();
    if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '>')) {
        return word.to_owned();
    }
    let rest = &word[at..];
    let end = rest.find(['\'', '"', '`', ',', ';', ')', ']', '}', '>']).unwrap_or(rest.len());
    let path = rest[..end].trim_end_matches([':', '.']);
    if path[1..].contains('/') { format!("{}<path>{}", &word[..at], &rest[path.len()..]) } else { word.to_owned() }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn i8_what_is_a_secret_or_looks_like_one_is_taken_out() {
        let key = Secret::new("marked-key-1");
        for (text, shown) in [
            ("got marked-key-1, want another", "got …, want another"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer …"),
            ("{\"authorization\": \"bearer other\"}", "{\"authorization\": \"bearer …"),
            ("get https://u:p@host/a?X-Amz-Signature=1", "get https://host/a?…"),
            ("token=hf_abcdefghijklmnopqrst.", "token=hf_…."),
            ("sk-learn and hf_hub stay", "sk-learn and hf_hub stay"),
        ] {
            assert_eq!(clean(text, &[&key]), shown);
        }
    }

    #[test]
    fn i8_a_secret_is_found_as_it_is_and_in_the_form_that_json_gives_it() {
        let key = Secret::new(r#"mar"ked\key"#);
        let text = serde_json::json!({ "got": key.expose() }).to_string();
        assert_eq!(clean(&text, &[&key]), r#"{"got":"…"}"#);
        assert_eq!(clean(&format!("got {}", key.expose()), &[&key]), "got …");
    }

    #[test]
    fn a_path_is_hidden_as_newer_engines_do_themselves() {
        for (text, shown) in [
            ("/srv/store/x doesn't contain tensors", "<path> doesn't contain tensors"),
            ("Not a directory: '/srv/a/f.bin'", "Not a directory: '<path>'"),
            ("While loading /a/b, expected", "While loading <path>, expected"),
            ("No adapter found for <path>", "No adapter found for <path>"),
            ("either/or, org/name and 5 GB/s stay", "either/or, org/name and 5 GB/s stay"),
        ] {
            assert_eq!(clean(text, &[]), shown);
        }
    }

    #[test]
    fn it_is_one_short_line() {
        assert_eq!(clean("a\n  b\r\nc\u{7}d", &[]), "a b c d");
        let long = clean(&"word ".repeat(500), &[]);
        assert_eq!(long.chars().count(), LONGEST + 1);
    }

    proptest! {
        #[test]
        fn i8_no_text_shows_a_known_secret(before in ".{0,40}", key in "[a-z0-9]{8,20}", after in ".{0,40}") {
            let secret = Secret::new(&key);
            let shown = clean(&format!("{before}{key}{after}"), &[&secret]);
            prop_assert!(!shown.contains(&key), "{shown}");
        }
    }
}
