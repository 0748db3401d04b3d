//! How a registry says what it wants to be shown: `WWW-Authenticate` (RFC 9110, section 11.6.1).

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What a registry wants to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token that somebody else gives out.
    Bearer {
        /// Who: a URL.
        realm: String,
        /// For whom, in the words of whoever gives it out.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
    /// A name and a password.
    Basic,
}

impl Challenge {
    /// The best that we can answer of what `headers` ask for.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<(String, BTreeMap<String, String>)> = texts.flat_map(parse).collect();
        let bearer = all.iter().filter(|(scheme, _)| scheme == "bearer").find_map(|(_, values)| {
            let value = |name| values.get(name).filter(|value| !value.is_empty()).cloned();
            Some(Self::Bearer { realm: value("realm")?, service: value("service"), scope: value("scope") })
        });
        bearer.or_else(|| all.iter().any(|(scheme, _)| scheme == "basic").then_some(Self::Basic))
    }
}

/// Schemes in lower case, each with its values. What cannot be read ends the list.
fn parse(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match (behind.trim_start_matches([' ', '\t']).strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, values))) => {
                let Some((value, behind)) = value_of(value.trim_start_matches([' ', '\t'])) else { break };
                values.entry(word.to_ascii_lowercase()).or_insert(value);
                rest = behind;
            }
            // A value of no scheme.
            (Some(_), None) => break,
            (None, _) => {
                found.push((word.to_ascii_lowercase(), BTreeMap::new()));
                rest = behind;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// A value, quoted or not, and what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            c => value.push(c),
        }
    }
    None
}

/// RFC 9110, section 5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(WWW_AUTHENTICATE, text.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.into(), service: owned(service), scope: owned(scope) })
    }

    #[test]
    fn what_registries_send_is_understood() {
        let usual =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let scope = Some("repository:a/b:pull,push");
        assert_eq!(of(&[usual]), bearer("https://auth.example/token", Some("registry.example"), scope));
        assert_eq!(of(&[r#"bearer  Realm = "https://a" , SCOPE=x"#]), bearer("https://a", None, Some("x")));
        assert_eq!(of(&[r#"Bearer realm="a\"b\\c""#]), bearer(r#"a"b\c"#, None, None));
        assert_eq!(of(&[r#"Basic realm="Registry, Realm""#]), Some(Challenge::Basic));
        assert_eq!(of(&["Basic"]), Some(Challenge::Basic));
        assert_eq!(of(&[r#"Basic realm="x", Bearer realm="https://a""#]), bearer("https://a", None, None));
        assert_eq!(of(&["Negotiate abc=", r#"Basic realm="x""#]), Some(Challenge::Basic));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_to_its_end(text in r#"[ -~\t]{0,60}|([a-z]{0,3}[ ,="\\\\]{0,3}){0,12}"#) {
            for (scheme, values) in parse(&text) {
                proptest::prop_assert!(!scheme.is_empty() && values.keys().all(|name| !name.is_empty()));
            }
        }
    }

    #[test]
    fn what_cannot_be_answered_is_no_challenge() {
        for texts in
            [&[][..], &[""], &["Negotiate"], &["Bearer"], &[r#"Bearer realm="""#], &[r#"Bearer realm="x"#], &["=,="]]
        {
            assert_eq!(of(texts), None, "{texts:?}");
        }
    }
}
