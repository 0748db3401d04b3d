//! What a web server is shown.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_types::Secret;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::error::Error;
use crate::origin::Credentials;

/// Headers that say what is asked for or how it is sent, which is not a credential's to say.
const OURS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The headers that stand for these credentials. Those of `headers` go before those that the others come to.
pub(super) fn headers(credentials: &Credentials) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    if credentials.is_empty() {
        return Ok(headers);
    }
    let own = credentials.get(&["headers"]);
    if let Some(token) = credentials.get(&["token", "bearer_token"]) {
        headers.insert(AUTHORIZATION, value("token", &format!("Bearer {}", token.expose()))?);
    } else if let Some(user) = credentials.get(&["username", "user"]) {
        let password = credentials.need(&["password"])?;
        if user.expose().contains(':') {
            return Err(invalid("username", "has a colon, which no user name can have".into()));
        }
        let both = STANDARD.encode(format!("{}:{}", user.expose(), password.expose()));
        headers.insert(AUTHORIZATION, value("password", &format!("Basic {both}"))?);
    } else if own.is_none() {
        // Somebody means to be let in with something, and it is of no use here.
        credentials.need(&["token"])?;
    }
    if let Some(own) = own {
        add_own(&mut headers, &own)?;
    }
    Ok(headers)
}

fn add_own(headers: &mut HeaderMap, own: &Secret) -> Result<(), Error> {
    // The parser's own words may hold what it read.
    let own: BTreeMap<String, String> = serde_json::from_str(own.expose()).map_err(|_| {
        invalid("headers", r#"is no JSON object of header names and texts, such as {"X-Token": "..."}"#.into())
    })?;
    for (name, text) in own {
        let header =
            HeaderName::try_from(&name).map_err(|_| invalid("headers", "has a name that no header can have".into()))?;
        if OURS.contains(&header.as_str()) || header.as_str().starts_with("proxy-") {
            return Err(invalid("headers", format!("sets {header}, which is no credential: take it out")));
        }
        headers.insert(header, value("headers", &text)?);
    }
    Ok(())
}

fn value(name: &str, text: &str) -> Result<HeaderValue, Error> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| invalid(name, "holds characters that no header can have".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn invalid(name: &str, problem: String) -> Error {
    Error::CredentialInvalid { name: name.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(some: &[(&str, &str)]) -> Result<HeaderMap, Error> {
        headers(&Credentials::new(some.iter().map(|(name, value)| (name, Secret::new(value)))))
    }

    fn authorization(some: &[(&str, &str)]) -> String {
        of(some).unwrap()[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn credentials_become_headers() {
        assert!(of(&[]).unwrap().is_empty());
        assert_eq!(authorization(&[("token", "abc\n")]), "Bearer abc");
        assert_eq!(authorization(&[("BEARER_TOKEN", "abc")]), "Bearer abc");
        // The example of RFC 7617.
        let both = [("username", "Aladdin"), ("password", "open sesame")];
        assert_eq!(authorization(&both), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let own = of(&[("headers", r#"{"X-Api-Key": "k", "authorization": "Token t"}"#), ("token", "abc")]).unwrap();
        assert_eq!((own["x-api-key"].as_bytes(), own[AUTHORIZATION].as_bytes()), (&b"k"[..], &b"Token t"[..]));
    }

    #[test]
    fn i8_what_is_shown_to_a_server_is_shown_to_nobody_else() {
        let all = of(&[("token", "hunter2"), ("headers", r#"{"X-Api-Key": "hunter2"}"#)]).unwrap();
        assert!(all.values().all(HeaderValue::is_sensitive));
        assert!(!format!("{all:?}").contains("hunter2"));
    }

    #[test]
    fn credentials_of_no_use_are_refused_without_being_told() {
        for bad in [
            &[("aws_access_key_id", "hunter2")][..],
            &[("username", "hunter2")],
            &[("username", "a:hunter2"), ("password", "hunter2")],
            &[("token", "hunter2\u{7}x")],
            &[("headers", "hunter2")],
            &[("headers", r#"["hunter2"]"#)],
            &[("headers", r#"{"X-Token": {"hunter2": 1}}"#)],
            &[("headers", r#"{"X hunter2": "1"}"#)],
            &[("headers", r#"{"X-Token": "hunter2\r\nHost: evil"}"#)],
            &[("headers", r#"{"Range": "hunter2"}"#)],
            &[("headers", r#"{"HOST": "hunter2"}"#)],
            &[("headers", r#"{"Proxy-Authorization": "hunter2"}"#)],
        ] {
            let error = of(bad).unwrap_err();
            assert_eq!((error.reason(), error.is_transient()), ("CredentialInvalid", false), "{bad:?}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
