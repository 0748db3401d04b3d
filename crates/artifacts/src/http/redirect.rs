//! Where an answer leads.

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{StatusCode, Url};

use super::shown;

/// The URL that the answer of `from` leads to: none where it is an answer in itself, an error where it is not gone to.
pub(super) fn target(from: &Url, status: StatusCode, headers: &HeaderMap) -> Option<Result<Url, String>> {
    // The others of their hundred speak of choices, caches and proxies.
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    Some(judge(from, headers.get(LOCATION)?.as_bytes()))
}

fn judge(from: &Url, location: &[u8]) -> Result<Url, String> {
    let target = std::str::from_utf8(location).ok().and_then(|location| from.join(location).ok());
    let mut target = target.ok_or("to something that is no URL")?;
    target.set_fragment(None);
    if !matches!(target.scheme(), "http" | "https") {
        // Of others, nobody knows which part is secret.
        return Err(format!("to a URL of {}:, and only http: and https: are followed", target.scheme()));
    }
    if !target.username().is_empty() || target.password().is_some() {
        return Err(format!("to {} with a user name, which is not followed", shown(&target)));
    }
    if from.scheme() == "https" && target.scheme() == "http" {
        return Err(format!("from https to {}, where anybody could read and change it", shown(&target)));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn led(from: &str, status: u16, location: &str) -> Option<Result<String, String>> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_bytes(location.as_bytes()).unwrap())]);
        let led = target(&from.parse().unwrap(), StatusCode::from_u16(status).unwrap(), &headers);
        led.map(|led| led.map(String::from))
    }

    #[test]
    fn an_answer_leads_to_where_a_browser_would_go() {
        for (location, expected) in [
            ("https://b.example/x?sig=1#top", "https://b.example/x?sig=1"),
            ("/other", "https://a.example/other"),
            ("sibling", "https://a.example/dir/sibling"),
            ("//b.example/x", "https://b.example/x"),
            ("?page=2", "https://a.example/dir/a.tgz?page=2"),
            ("/gr\u{fc}n", "https://a.example/gr%C3%BCn"),
        ] {
            for status in [301, 302, 303, 307, 308] {
                let led = led("https://a.example/dir/a.tgz", status, location);
                assert_eq!(led, Some(Ok(expected.into())), "{status} {location}");
            }
        }
        assert_eq!(led("http://a.example/", 301, "https://a.example/"), Some(Ok("https://a.example/".into())));
        for status in [200, 201, 300, 304, 305, 306, 404] {
            assert_eq!(led("https://a.example/", status, "https://b.example/"), None, "{status}");
        }
        assert!(target(&"http://a/".parse().unwrap(), StatusCode::FOUND, &HeaderMap::new()).is_none());
    }

    #[test]
    fn nobody_is_followed_to_a_worse_place() {
        for location in [
            "http://a.example/a.tgz?sig=hunter2",
            "file:///etc/passwd",
            "ftp://b.example/x",
            "data:text/plain,hunter2",
            "gopher://127.0.0.1:6379/_hunter2",
            "https://user:hunter2@b.example/",
            "https://hunter2@b.example/",
            "https://[::1/",
            "http://",
        ] {
            let refused = led("https://a.example/a.tgz", 302, location).unwrap().unwrap_err();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
