//! How Python writes things: the engine's error texts quote its JSON reader and its `repr`.

use std::fmt::Write as _;

use serde_json::Value;

/// Why a text is not JSON to Python's reader, and where: an index in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonError {
    pub(super) message: &'static str,
    pub(super) at: usize,
}

impl JsonError {
    /// The message with the place, as `json.JSONDecodeError` prints it.
    pub(super) fn with_place(&self, text: &str) -> String {
        let before: Vec<char> = text.chars().take(self.at).collect();
        let line = before.iter().filter(|c| **c == '\n').count() + 1;
        let column = before.iter().rev().take_while(|c| **c != '\n').count() + 1;
        format!("{}: line {line} column {column} (char {})", self.message, self.at)
    }
}

/// Reads `text` as Python's `json.loads` does.
///
/// NaN and infinities, which Python takes and JSON does not have, become null.
pub(super) fn parse(text: &str) -> Result<Value, JsonError> {
    let chars: Vec<char> = text.chars().collect();
    if chars.first() == Some(&'\u{feff}') {
        return Err(JsonError { message: "Unexpected UTF-8 BOM (decode using utf-8-sig)", at: 0 });
    }
    let mut reader = Reader { chars: &chars, at: 0 };
    reader.blank();
    let value = reader.value()?;
    reader.blank();
    if reader.at < chars.len() { Err(reader.error("Extra data")) } else { Ok(value) }
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn error(&self, message: &'static str) -> JsonError {
        JsonError { message, at: self.at }
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|c| matches!(c, ' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let found = word.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c));
        if found {
            self.at += word.len();
        }
        found
    }

    fn value(&mut self) -> Result<Value, JsonError> {
        match self.peek() {
            Some('"') => self.string().map(Value::String),
            Some('{') => self.object(),
            Some('[') => self.array(),
            Some('-' | '0'..='9') => self.number(),
            _ if self.word("true") => Ok(Value::Bool(true)),
            _ if self.word("false") => Ok(Value::Bool(false)),
            _ if self.word("null") || self.word("NaN") || self.word("Infinity") => Ok(Value::Null),
            _ => Err(self.error("Expecting value")),
        }
    }

    fn object(&mut self) -> Result<Value, JsonError> {
        const NAME: &str = "Expecting property name enclosed in double quotes";
        self.at += 1;
        self.blank();
        let mut object = serde_json::Map::new();
        if self.peek() == Some('}') {
            self.at += 1;
            return Ok(Value::Object(object));
        }
        loop {
            if self.peek() != Some('"') {
                return Err(self.error(NAME));
            }
            let name = self.string()?;
            self.blank();
            if self.peek() != Some(':') {
                return Err(self.error("Expecting ':' delimiter"));
            }
            self.at += 1;
            self.blank();
            object.insert(name, self.value()?);
            self.blank();
            match self.peek() {
                Some(',') => self.at += 1,
                Some('}') => break,
                _ => return Err(self.error("Expecting ',' delimiter")),
            }
            self.blank();
        }
        self.at += 1;
        Ok(Value::Object(object))
    }

    fn array(&mut self) -> Result<Value, JsonError> {
        self.at += 1;
        self.blank();
        let mut array = Vec::new();
        if self.peek() == Some(']') {
            self.at += 1;
            return Ok(Value::Array(array));
        }
        loop {
            array.push(self.value()?);
            self.blank();
            match self.peek() {
                Some(',') => self.at += 1,
                Some(']') => break,
                _ => return Err(self.error("Expecting ',' delimiter")),
            }
            self.blank();
        }
        self.at += 1;
        Ok(Value::Array(array))
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        if self.word("-Infinity") {
            return Ok(Value::Null);
        }
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while reader.peek().is_some_and(|c| c.is_ascii_digit()) {
                reader.at += 1;
            }
            reader.at > from
        };
        self.at += usize::from(self.peek() == Some('-'));
        if self.peek() == Some('0') {
            self.at += 1;
        } else if !digits(self) {
            self.at = start;
            return Err(self.error("Expecting value"));
        }
        let mut end = self.at;
        if self.peek() == Some('.') {
            self.at += 1;
            end = if digits(self) { self.at } else { end };
            self.at = end;
        }
        if self.peek().is_some_and(|c| matches!(c, 'e' | 'E')) {
            self.at += 1;
            self.at += usize::from(self.peek().is_some_and(|c| matches!(c, '+' | '-')));
            end = if digits(self) { self.at } else { end };
            self.at = end;
        }
        let text: String = self.chars[start..end].iter().collect();
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let start = self.at;
        let unterminated = JsonError { message: "Unterminated string starting at", at: start };
        self.at += 1;
        let mut out = String::new();
        loop {
            match self.peek().ok_or_else(|| unterminated.clone())? {
                '"' => break,
                '\\' => {
                    let escape = self.at;
                    self.at += 1;
                    out.push(match self.peek().ok_or_else(|| unterminated.clone())? {
                        c @ ('"' | '\\' | '/') => c,
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'u' => self.unicode()?,
                        _ => return Err(JsonError { message: "Invalid \\escape", at: escape }),
                    });
                }
                c if (c as u32) < 0x20 => return Err(self.error("Invalid control character at")),
                c => out.push(c),
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(out)
    }

    /// The character of `uXXXX` or of a surrogate pair; the reader is left on its last digit.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let invalid = JsonError { message: "Invalid \\uXXXX escape", at: self.at };
        let four = |from: usize| {
            let digits: String = self.chars.get(from..from + 4)?.iter().collect();
            u32::from_str_radix(&digits, 16).ok()
        };
        let high = four(self.at + 1).ok_or(invalid)?;
        let low = four(self.at + 7).filter(|low| {
            (0xd800..0xdc00).contains(&high)
                && (0xdc00..0xe000).contains(low)
                && self.chars[self.at + 5..self.at + 7] == ['\\', 'u']
        });
        self.at += if low.is_some() { 10 } else { 4 };
        let code = low.map_or(high, |low| 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
        Ok(char::from_u32(code).unwrap_or('\u{fffd}'))
    }
}

/// `repr(value)`. The keys of an object come in the order of their names, not in that of the text.
pub(super) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", joined(items.iter().map(repr))),
        Value::Object(fields) => {
            format!("{{{}}}", joined(fields.iter().map(|(k, v)| format!("{}: {}", quoted(k), repr(v)))))
        }
    }
}

/// `repr(text)`: single quotes, unless the text has one and no double quote.
pub(super) fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                // Writing into a string cannot fail.
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// Paths replaced by `<path>`, as vLLM 0.32 does before it answers (Source: `sanitize_message`): at least two parts
/// below a well-known top directory, or at least two parts with an extension at the end.
pub(super) fn hide_paths(message: &str) -> String {
    const TOPS: [&str; 9] = ["home", "usr", "opt", "var", "tmp", "root", "lib", "mnt", "srv"];
    let below_top = |text: &str| {
        let top = TOPS.iter().find(|top| text.get(1..).is_some_and(|t| t.starts_with(**top)))?;
        segments(&text[1 + top.len()..], |c| word(c) || c == '.' || c == '-').last().map(|end| 1 + top.len() + end)
    };
    // The regular expression backtracks from the longest run of parts to one that is followed by `.extension`.
    let with_extension = |text: &str| {
        let ends: Vec<usize> = segments(text, |c| word(c) || c == '-').collect();
        ends.iter().skip(1).rev().find_map(|end| {
            let extension = text[*end..].strip_prefix('.')?;
            let length = extension.find(|c| !word(c)).unwrap_or(extension.len());
            (length > 0).then_some(end + 1 + length)
        })
    };
    replace(&replace(message, below_top), with_extension)
}

/// Where the parts `/abc/def/…` at the start of `text` end, in order.
fn segments(text: &str, allowed: impl Fn(char) -> bool + Copy) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let part = text[at..].strip_prefix('/')?;
        let length = part.find(|c| !allowed(c)).unwrap_or(part.len());
        (length > 0).then(|| {
            at += 1 + length;
            at
        })
    })
}

fn word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn replace(text: &str, length_of_path: impl Fn(&str) -> Option<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = length_of_path(rest);
        out.push_str(if length.is_some() { "<path>" } else { "/" });
        rest = &rest[length.unwrap_or(1)..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CPython 3.11 says.
    #[test]
    fn json_is_refused_as_python_refuses_it() {
        for (text, message) in [
            ("{nope", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
            ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
            ("{\"a\": \"b\"", "Expecting ',' delimiter: line 1 column 10 (char 9)"),
            ("{\"a\": \"b\",}", "Expecting property name enclosed in double quotes: line 1 column 11 (char 10)"),
            ("nope", "Expecting value: line 1 column 1 (char 0)"),
            ("", "Expecting value: line 1 column 1 (char 0)"),
            ("{\"a\" 1}", "Expecting ':' delimiter: line 1 column 6 (char 5)"),
            ("{\"r\":8}x", "Extra data: line 1 column 8 (char 7)"),
            ("{\"r\": 8, \"lora", "Unterminated string starting at: line 1 column 10 (char 9)"),
            ("{\n \"a\": }", "Expecting value: line 2 column 7 (char 8)"),
            ("\u{feff}{}", "Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)"),
            ("[1,]", "Expecting value: line 1 column 4 (char 3)"),
            ("\"\\x\"", "Invalid \\escape: line 1 column 2 (char 1)"),
            ("\"a\nb\"", "Invalid control character at: line 1 column 3 (char 2)"),
        ] {
            assert_eq!(parse(text).unwrap_err().with_place(text), message, "{text:?}");
        }
    }

    #[test]
    fn json_is_read() {
        let text = r#" {"a": [1, -2.5e3, true, null, "\u00e9\ud83d\ude80\n"], "b": {}} "#;
        assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        let value = serde_json::json!({"a": [1, 1.5, true, null], "b": "it's \"x\"\n"});
        assert_eq!(repr(&value), r#"{'a': [1, 1.5, True, None], 'b': 'it\'s "x"\n'}"#);
        assert_eq!(quoted("it's"), "\"it's\"");
    }

    #[test]
    fn paths_are_hidden_where_the_engine_hides_them() {
        for (message, shown) in [
            ("found for /root/x/loras/a", "found for <path>"),
            ("found for /none", "found for /none"),
            ("found for /data/one/two", "found for /data/one/two"),
            ("Not a directory: '/data/one/two.json'", "Not a directory: '<path>'"),
            ("found for s3://bucket/key", "found for s3://bucket/key"),
            ("found for /tmp", "found for /tmp"),
            ("/tmp/a-b.c doesn't", "<path> doesn't"),
        ] {
            assert_eq!(hide_paths(message), shown);
        }
    }
}
