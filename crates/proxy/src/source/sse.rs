//! Server-sent events (WHATWG HTML, section 9.2.6), read as they come.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// What it is; `message` where the stream does not say.
    pub(super) name: String,
    /// Its lines, joined by line feeds.
    pub(super) data: String,
    /// The newest id in the stream so far, also where it came with an earlier event.
    pub(super) id: Option<String>,
}

/// An event, or a line of it, is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {limit} bytes")]
pub(super) struct TooLong {
    limit: usize,
}

/// Puts events together from bytes, wherever these are cut.
#[derive(Debug)]
pub(super) struct Parser {
    limit: usize,
    line: Vec<u8>,
    /// The line feed of a line end that has begun with a carriage return belongs to it.
    after_return: bool,
    begun: bool,
    name: String,
    data: Option<String>,
    id: Option<String>,
}

impl Parser {
    /// A parser for one stream that holds at most `limit` bytes of a line, and of an event's data.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, line: Vec::new(), after_return: false, begun: false, name: String::new(), data: None, id: None }
    }

    /// Takes the next bytes and returns the events that they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        while let [first, rest @ ..] = bytes {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = rest;
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.extend(bytes)?;
                break;
            };
            self.extend(&bytes[..end])?;
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            events.extend(self.line_ended()?);
        }
        Ok(events)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn line_ended(&mut self) -> Result<Option<Event>, TooLong> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let mut line = line.as_ref();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let event = |data| Event {
                name: if name.is_empty() { "message".to_owned() } else { name },
                data,
                id: self.id.clone(),
            };
            return Ok(self.data.take().map(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => {
                let held = self.data.as_ref().map_or(0, String::len);
                if held + value.len() > self.limit {
                    return Err(TooLong { limit: self.limit });
                }
                match &mut self.data {
                    None => self.data = Some(value.to_owned()),
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                }
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // A comment begins with the colon, so its field is empty. How long to wait is decided elsewhere.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(name: &str, data: &str, id: Option<&str>) -> Event {
        Event { name: name.into(), data: data.into(), id: id.map(str::to_owned) }
    }

    fn parse(text: &str) -> Vec<Event> {
        Parser::new(1000).push(text.as_bytes()).unwrap()
    }

    #[test]
    fn events_are_read_as_they_are_sent() {
        let text = "event: snapshot\nid: 7\ndata: {\"a\":1}\n\n: keep-alive\n\nevent: upsert\ndata: x\n\n";
        assert_eq!(parse(text), [event("snapshot", "{\"a\":1}", Some("7")), event("upsert", "x", Some("7"))]);
    }

    #[test]
    fn the_odd_corners_of_the_format_are_kept() {
        assert_eq!(parse("data: a\ndata:  b\ndata\n\n"), [event("message", "a\n b\n", None)]);
        assert_eq!(
            parse("\u{feff}data: a\r\rdata: b\r\n\r\n"),
            [event("message", "a", None), event("message", "b", None)]
        );
        assert_eq!(parse("event: x\n\ndata: a\n\n"), [event("message", "a", None)], "an event without data is none");
        assert_eq!(parse("id: 1\n\ndata: a\n\n"), [event("message", "a", Some("1"))], "but its id counts");
        assert_eq!(parse("id: 1\nid: 2\0\nretry: 5\nwhat: ever\ndata: a\n\n"), [event("message", "a", Some("1"))]);
        assert_eq!(parse("data: a\n"), [], "unfinished");
    }

    #[test]
    fn lines_and_events_are_bounded() {
        assert!(Parser::new(8).push(b"data: 12\n\n").is_ok());
        assert!(Parser::new(8).push(b"data: 123").is_err());
        assert!(Parser::new(8).push(b": and a comment too").is_err());
        let mut parser = Parser::new(8);
        parser.push(b"data: 12\ndata: 34\n").unwrap();
        assert!(parser.push(b"data: 56\ndata: 78\ndata: 90\n").is_err());
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(
            pieces in proptest::collection::vec(
                prop_oneof!["data", ": ?", "event: [a-z]{0,4}", "id: [0-9]{0,3}", "ä€😀", Just("\n".to_owned()),
                    Just("\r".to_owned()), Just("\r\n".to_owned()), Just("data: x\n".to_owned()), Just("\n\n".to_owned())], 0..40),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10),
        ) {
            let text = pieces.concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let mut parser = Parser::new(1000);
            let mut events = Vec::new();
            for pair in at.windows(2) {
                events.extend(parser.push(&text.as_bytes()[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(events, parse(&text));
        }
    }
}
