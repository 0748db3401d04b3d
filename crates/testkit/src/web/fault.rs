//! What may go wrong.

use std::time::Duration;

use bytes::Bytes;

use super::{Page, Request};

/// One way to misbehave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers this in the place of the file.
    Answer {
        /// The status.
        status: u16,
        /// Headers beside `Content-Length`.
        headers: Vec<(String, String)>,
        /// The body.
        body: Bytes,
    },
    /// Sends these bytes, head and all, and ends the connection.
    Raw(Bytes),
    /// Ends the connection after so many bytes of a body.
    Cut {
        /// Bytes of this answer's body.
        after: u64,
    },
    /// Ends the connection after so many bytes of a body; from then on the file is another.
    Become {
        /// Bytes of this answer's body.
        after: u64,
        /// What it is then.
        page: Page,
    },
    /// Answers a request for a part with the whole.
    IgnoreRange,
    /// Gives the file out whatever conditions the request has.
    IgnoreConditions,
    /// Says that this is the part that comes, in the place of the truth.
    ContentRange(String),
    /// Sends the body in chunks, without saying its length.
    Chunked,
    /// Sends the body without saying its length; it ends with the connection.
    Unframed,
    /// Sends the body over and over, without an end.
    Endless,
    /// Sends the body a few bytes at a time.
    Trickle {
        /// Bytes at a time.
        bytes: usize,
        /// The time between.
        every: Duration,
    },
    /// Answers only after this time.
    Delay(Duration),
    /// Never answers.
    Hang,
    /// Falls silent after so many bytes of a body; 0 is right after the head.
    Stall {
        /// Bytes of this answer's body.
        after: u64,
    },
}

impl Fault {
    /// A status with a body, in the place of the file.
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Answer { status, headers: vec![("Content-Type".into(), "text/html".into())], body: body.into() }
    }

    /// Leads elsewhere with this status.
    pub fn redirect(status: u16, to: &str) -> Self {
        Self::Answer { status, headers: vec![("Location".into(), to.into())], body: Bytes::new() }
    }

    /// Whether it shows in the answer to this request.
    fn concerns(&self, request: &Request) -> bool {
        match self {
            Self::Cut { .. } | Self::Become { .. } | Self::Trickle { .. } | Self::Stall { .. } => {
                request.method != "HEAD"
            }
            Self::IgnoreRange | Self::ContentRange(_) => request.header("range").is_some(),
            _ => true,
        }
    }
}

/// Where and how often something goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    path: String,
    method: Option<String>,
    skip: u32,
    times: Option<u32>,
    fault: Fault,
}

impl Rule {
    /// Always at this path, whatever the method. What concerns bodies alone is not used up by answers without one, nor what
    /// concerns ranges by requests without one.
    pub fn of(path: &str, fault: Fault) -> Self {
        Self { path: path.to_owned(), method: None, skip: 0, times: None, fault }
    }

    /// For requests of this method alone.
    #[must_use]
    pub fn only(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Not for the first `skip` requests.
    #[must_use]
    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// So many times, and then no longer.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The fault, where it strikes now.
    pub(super) fn strike(&mut self, request: &Request) -> Option<Fault> {
        let meant = self.method.as_ref().is_none_or(|method| *method == request.method);
        if request.path != self.path || !meant || !self.fault.concerns(request) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if let Some(times) = &mut self.times {
            *times = times.checked_sub(1)?;
        }
        Some(self.fault.clone())
    }
}

impl From<(&str, Fault)> for Rule {
    fn from((path, fault): (&str, Fault)) -> Self {
        Self::of(path, fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str) -> Request {
        Request { method: method.into(), path: "/a".into(), query: None, headers: Vec::new() }
    }

    #[test]
    fn a_rule_strikes_where_and_as_often_as_it_says() {
        let mut rule = Rule::of("/a", Fault::Hang).only("GET").skip(1).times(2);
        let mut strikes = |method| rule.strike(&request(method)).is_some();
        assert_eq!(["GET", "HEAD", "GET", "GET", "GET"].map(&mut strikes), [false, false, true, true, false]);
        assert!(Rule::of("/b", Fault::Hang).strike(&request("GET")).is_none());
    }

    #[test]
    fn what_concerns_bodies_is_not_used_up_by_a_head() {
        let mut rule = Rule::of("/a", Fault::Cut { after: 1 }).times(1);
        assert!(rule.strike(&request("HEAD")).is_none());
        assert!(rule.strike(&request("GET")).is_some());
    }
}
