//! The fields of a `multipart/form-data` body (RFC 7578), read strictly.
//!
//! The engine reads the same bytes with another reader. Whatever the two could take differently (folded headers, bare
//! line feeds, escapes in a field's name, text before the first boundary) is refused, so that the engine cannot see
//! another `model` than we do (I1). What browsers, curl and the OpenAI clients send passes.

use std::ops::Range;

use memchr::memmem;

use crate::ModelError;

/// How many parts a body may have.
pub const MAX_PARTS: usize = 128;

/// How long the headers of one part may be, in bytes.
const MAX_HEADERS: usize = 16 * 1024;

/// The boundary that a content type names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary(String);

impl Boundary {
    /// Reads the boundary from the value of a `Content-Type` header.
    ///
    /// # Errors
    /// [`ModelError::NotAForm`] unless it is `multipart/form-data` with one boundary of 1 to 70 allowed characters
    /// (RFC 2046, section 5.1.1) and no charset but UTF-8 or ASCII, in which the engine would read the names otherwise.
    pub fn in_content_type(content_type: &str) -> Result<Self, ModelError> {
        let (essence, parameters) = content_type.split_once(';').ok_or(ModelError::NotAForm)?;
        if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
            return Err(ModelError::NotAForm);
        }
        let mut boundary = None;
        for (name, value) in parameters_of(parameters).ok_or(ModelError::NotAForm)? {
            match name.as_str() {
                "boundary" if boundary.is_some() => return Err(ModelError::NotAForm),
                "boundary" => boundary = Some(value),
                "charset" if value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("us-ascii") => {}
                "charset" => return Err(ModelError::NotAForm),
                name if name.contains('*') => return Err(ModelError::NotAForm),
                _ => {}
            }
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
        match boundary {
            Some(text) if (1..=70).contains(&text.len()) && text.bytes().all(allowed) => Ok(Self(text.to_owned())),
            _ => Err(ModelError::NotAForm),
        }
    }
}

/// One field of a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    /// Where its value stands in the body.
    pub(crate) span: Range<usize>,
    /// Whether it carries a file name.
    pub(crate) is_file: bool,
}

/// Every field of `body`, in order.
pub(crate) fn fields<'a>(body: &'a [u8], boundary: &Boundary) -> Result<Vec<Field<'a>>, ModelError> {
    let delimiter = format!("\r\n--{}", boundary.0);
    let finder = memmem::Finder::new(delimiter.as_bytes());
    // The first delimiter stands at the start, where no line end precedes it.
    let opening = delimiter.trim_start_matches("\r\n").as_bytes();
    let mut at = match body.starts_with(opening) {
        true => opening.len(),
        false => return Err(ModelError::BadForm("it does not begin with the boundary")),
    };
    let mut fields = Vec::new();
    loop {
        match &body[at..] {
            [b'-', b'-'] | [b'-', b'-', b'\r', b'\n'] => return Ok(fields),
            [b'\r', b'\n', ..] => at += 2,
            _ => return Err(ModelError::BadForm("a boundary is not followed by a line end or by the end")),
        }
        if fields.len() == MAX_PARTS {
            return Err(ModelError::BadForm("it has more than 128 parts"));
        }
        let length = finder.find(&body[at..]).ok_or(ModelError::BadForm("a part is not closed by the boundary"))?;
        let part = at..at + length;
        fields.push(field(body, part.clone())?);
        at = part.end + delimiter.len();
    }
}

/// The part of `body` that stands at `part`, its headers included.
fn field(body: &[u8], part: Range<usize>) -> Result<Field<'_>, ModelError> {
    let bytes = &body[part.clone()];
    let window = &bytes[..bytes.len().min(MAX_HEADERS)];
    let length = memmem::find(window, b"\r\n\r\n").ok_or(ModelError::BadForm("a part has no end of its headers"))?;
    let headers =
        std::str::from_utf8(&bytes[..length]).map_err(|_| ModelError::BadForm("a part's headers are not UTF-8"))?;
    let mut disposition = None;
    for line in headers.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(ModelError::BadForm("a part's header has no colon"))?;
        let token = !name.is_empty() && name.bytes().all(is_token);
        if !token || value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(ModelError::BadForm("a part's header is malformed"));
        }
        if name.eq_ignore_ascii_case("content-disposition") && disposition.replace(value).is_some() {
            return Err(ModelError::BadForm("a part has two content dispositions"));
        }
        if name.eq_ignore_ascii_case("content-transfer-encoding") {
            // RFC 7578, section 4.7, does away with it; some readers still decode it.
            return Err(ModelError::BadForm("a part has a content transfer encoding"));
        }
    }
    let (name, is_file) = disposition
        .and_then(name_in)
        .ok_or(ModelError::BadForm("a part has no content disposition that names its field plainly"))?;
    Ok(Field { name, span: part.start + length + 4..part.end, is_file })
}

/// The field's name, and whether there is a file name, in the value of a `Content-Disposition`.
fn name_in(disposition: &str) -> Option<(&str, bool)> {
    let (kind, parameters) = disposition.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let (mut name, mut is_file) = (None, false);
    for (parameter, value) in parameters_of(parameters)? {
        match parameter.as_str() {
            // One with an escape could be undone, or not, by the other reader.
            "name" if name.is_some() || value.contains(['\\', '%']) => return None,
            "name" => name = Some(value),
            "filename" | "filename*" => is_file = true,
            // RFC 2231's encoded and continued parameters, such as `name*0`, which only some readers put together.
            parameter if parameter.contains('*') => return None,
            _ => {}
        }
    }
    Some((name?, is_file))
}

/// The parameters of a header's value, names in lower case, values without quotes and with their escapes left in.
/// Nothing where they are malformed.
fn parameters_of(mut text: &str) -> Option<Vec<(String, &str)>> {
    let mut parameters = Vec::new();
    loop {
        text = text.trim_matches([' ', '\t']);
        if text.is_empty() {
            return Some(parameters);
        }
        let (name, rest) = text.split_once('=')?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.bytes().position(|byte| {
                    let closes = byte == b'"' && !escaped;
                    escaped = byte == b'\\' && !escaped;
                    closes
                })?;
                (&quoted[..end], &quoted[end + 1..])
            }
            None => {
                let end = rest.find(';').unwrap_or(rest.len());
                let value = rest[..end].trim_matches([' ', '\t']);
                if value.is_empty() || value.contains(['"', ' ', '\t']) {
                    return None;
                }
                (value, &rest[end..])
            }
        };
        parameters.push((name.to_ascii_lowercase(), value));
        let rest = rest.trim_start_matches([' ', '\t']);
        text = match rest.strip_prefix(';') {
            Some(next) => next,
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
}

/// Whether `byte` may stand in a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
