//! What is answered: decided here, sent elsewhere.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Fault, Page, Request, State};

/// An answer, and how it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) delay: Duration,
    /// Never to be sent.
    pub(super) hangs: bool,
    /// Instead of all the rest.
    pub(super) raw: Option<Bytes>,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) framing: Framing,
    /// The body begins anew for ever.
    pub(super) endless: bool,
    /// Bytes at a time, and the time between.
    pub(super) pace: Option<(usize, Duration)>,
    /// After so many bytes of the body, what happens.
    pub(super) breaks: Option<(u64, Break)>,
    /// What the file is from the break on.
    pub(super) becomes: Option<Page>,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunks,
    Close,
}

/// What happens in the middle of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    Ends,
    Silence,
}

impl Answer {
    fn new(status: u16, headers: Vec<(String, String)>, body: Bytes) -> Self {
        Self {
            delay: Duration::ZERO,
            hangs: false,
            raw: None,
            status,
            headers,
            body,
            framing: Framing::Length,
            endless: false,
            pace: None,
            breaks: None,
            becomes: None,
        }
    }

    fn error(status: u16) -> Self {
        let body = format!("<html><body><h1>{status}</h1></body></html>");
        Self::new(status, vec![("Content-Type".into(), "text/html".into())], body.into())
    }

    /// The answer to `request`, which is logged.
    pub(super) fn to(request: &Request, state: &mut State) -> Self {
        state.requests.push(request.clone());
        let faults: Vec<Fault> = state.rules.iter_mut().filter_map(|rule| rule.strike(request)).collect();
        let mut answer =
            state.pages.get(&request.path).map_or_else(|| Self::error(404), |page| of(request, page, &faults));
        for fault in faults {
            answer.apply(fault);
        }
        answer
    }

    fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Answer { status, headers, body } => {
                (self.status, self.headers, self.body) = (status, headers, body);
            }
            Fault::Raw(bytes) => self.raw = Some(bytes),
            Fault::Cut { after } => self.breaks = Some((after, Break::Ends)),
            Fault::Become { after, page } => {
                (self.breaks, self.becomes) = (Some((after, Break::Ends)), Some(page));
            }
            Fault::Stall { after } => self.breaks = Some((after, Break::Silence)),
            Fault::ContentRange(said) => {
                self.headers.retain(|(name, _)| name != "Content-Range");
                self.headers.push(("Content-Range".into(), said));
            }
            Fault::Chunked => self.framing = Framing::Chunks,
            Fault::Unframed => self.framing = Framing::Close,
            Fault::Endless => (self.framing, self.endless) = (Framing::Chunks, true),
            Fault::Trickle { bytes, every } => self.pace = Some((bytes.max(1), every)),
            Fault::Delay(delay) => self.delay = delay,
            Fault::Hang => self.hangs = true,
            Fault::IgnoreRange | Fault::IgnoreConditions => {}
        }
    }

    /// The head, but for what only its sender knows.
    pub(super) fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, phrase(self.status));
        head.push_str(&format!("Date: {}\r\n", httpdate::fmt_http_date(SystemTime::now())));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.framing {
            Framing::Length => head.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
            Framing::Chunks => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::Close => head.push_str("Connection: close\r\n"),
        }
        head.push_str("\r\n");
        head
    }
}

/// What a good server would say, but for the faults that take away from that.
fn of(request: &Request, page: &Page, faults: &[Fault]) -> Answer {
    match (&page.authorization, request.header("authorization")) {
        (Some(_), None) => {
            let mut answer = Answer::error(401);
            answer.headers.push(("WWW-Authenticate".into(), "Bearer".into()));
            return answer;
        }
        (Some(expected), Some(shown)) if expected != shown => return Answer::error(403),
        _ => {}
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Answer::error(405);
    }
    if !faults.contains(&Fault::IgnoreConditions) && !holds(request, page) {
        return Answer::error(412);
    }
    let mut headers = page.headers.clone();
    let mut say = |name: &str, value: String| headers.push((name.to_owned(), value));
    say("Accept-Ranges", "bytes".into());
    page.etag.iter().for_each(|tag| say("ETag", tag.clone()));
    page.modified.iter().for_each(|time| say("Last-Modified", httpdate::fmt_http_date(*time)));
    page.content_type.iter().for_each(|kind| say("Content-Type", kind.clone()));
    let length = page.body.len() as u64;
    let heard = !faults.contains(&Fault::IgnoreRange) && request.method == "GET";
    match request.range(length).filter(|_| heard) {
        None => Answer::new(200, headers, page.body.clone()),
        Some(Err(())) => {
            let mut answer = Answer::error(416);
            answer.headers.push(("Content-Range".into(), format!("bytes */{length}")));
            answer
        }
        Some(Ok(range)) => {
            say("Content-Range", format!("bytes {}-{}/{length}", range.start, range.end - 1));
            let part = range.start as usize..range.end as usize;
            Answer::new(206, headers, page.body.slice(part))
        }
    }
}

/// Whether the request's conditions hold.
fn holds(request: &Request, page: &Page) -> bool {
    let tags = request.header("if-match").is_none_or(|tags| {
        let strong = page.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
        tags.split(',').any(|tag| Some(tag.trim()) == strong || tag.trim() == "*")
    });
    let time = request.header("if-unmodified-since").and_then(|time| httpdate::parse_http_date(time).ok());
    tags && time.is_none_or(|time| page.modified.is_none_or(|modified| modified <= time))
}

fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Odd")
}
