//! Requests, as they are read and logged.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// The longest head that is read.
const LONGEST_HEAD: u64 = 64 << 10;

/// One request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What stands behind the question mark.
    pub query: Option<String>,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The next one on a connection, its body dropped; none at the connection's end.
    pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut head = from.take(LONGEST_HEAD);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if head.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            match line.trim_end_matches(['\r', '\n']) {
                "" if lines.is_empty() => {}
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let Some(request) = Self::parse(&lines) else { return Ok(None) };
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        tokio::io::copy(&mut from.take(length), &mut tokio::io::sink()).await?;
        Ok(Some(request))
    }

    fn parse(lines: &[String]) -> Option<Self> {
        let (first, rest) = lines.split_first()?;
        let (method, rest_of_line) = first.split_once(' ')?;
        let (target, _version) = rest_of_line.rsplit_once(' ')?;
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let header = |line: &String| {
            line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers: rest.iter().filter_map(header).collect(),
        })
    }

    /// The bytes that it asks for, of `length`: none where it asks for all, an error where there are none such.
    pub(super) fn range(&self, length: u64) -> Option<Result<std::ops::Range<u64>, ()>> {
        let (from, to) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let range = match (from.parse::<u64>(), to.parse::<u64>()) {
            (Ok(from), Ok(to)) if to >= from => from..(to + 1).min(length),
            (Ok(from), Err(_)) if to.is_empty() => from..length,
            (Err(_), Ok(last)) if from.is_empty() => length.saturating_sub(last)..length,
            // Not understood, so not heard.
            _ => return None,
        };
        Some(if range.is_empty() { Err(()) } else { Ok(range) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_has_them() {
        let asked = |range: &str, length| {
            let lines = ["GET /a?b HTTP/1.1".to_owned(), format!("Range: {range}")];
            Request::parse(&lines).unwrap().range(length)
        };
        assert_eq!(asked("bytes=3-", 10), Some(Ok(3..10)));
        assert_eq!(asked("bytes=3-4", 10), Some(Ok(3..5)));
        assert_eq!(asked("bytes=3-99", 10), Some(Ok(3..10)));
        assert_eq!(asked("bytes=-4", 10), Some(Ok(6..10)));
        assert_eq!(asked("bytes=10-", 10), Some(Err(())));
        assert_eq!(asked("bytes=0-0", 0), Some(Err(())));
        assert_eq!(asked("lines=1-2", 10), None);
    }
}
