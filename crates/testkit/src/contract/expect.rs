//! What an answer is expected to be.

use http::header::{ALLOW, CONTENT_TYPE, LOCATION};
use serde_json::Value;

use super::http::Answer;
use crate::Version;

/// The form of an answer, besides its status.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// Nothing at all.
    Empty,
    /// This text, without a Content-Type.
    Text(String),
    /// `{"error": {message, type, param, code}}` with this type and this in its message.
    Error { kind: &'static str, says: &'static str },
    /// `{"detail": …}`, the form of the web framework.
    Detail(&'static str),
    /// `{"error": "Unauthorized"}`: a text, not an object.
    Unauthorized,
    /// JSON in which these paths have these values.
    Json(Vec<(&'static str, Value)>),
    /// JSON in which these paths are there.
    Has(Vec<&'static str>),
    /// Server-sent events that contain these texts in this order.
    Events(Vec<&'static str>),
    /// The text exposition of Prometheus with series of these names.
    Metrics(Vec<&'static str>),
    /// `Allow` with this method.
    Allow(&'static str),
    /// `Location` that ends so.
    Redirect(&'static str),
    /// Anything with that status.
    Any,
}

/// A status and a form.
pub(super) type Expected = (u16, Form);

/// What each version answers.
#[derive(Clone, Debug)]
pub(super) struct Expect {
    older: Expected,
    newer: Expected,
}

/// The same in every version.
pub(super) fn both(status: u16, form: Form) -> Expect {
    Expect { older: (status, form.clone()), newer: (status, form) }
}

/// One thing in 0.11.0, another in 0.32.0.
pub(super) fn either(older: Expected, newer: Expected) -> Expect {
    Expect { older, newer }
}

/// An error in the engine's form.
pub(super) fn error(kind: &'static str, says: &'static str) -> Form {
    Form::Error { kind, says }
}

/// What a bad adapter is answered: 400 with the bare message, later 500 with the message in a sentence.
pub(super) fn refused(older: &'static str, newer: &'static str) -> Expect {
    either((400, error("BadRequestError", older)), (500, error("InternalServerError", newer)))
}

/// A path that only the newer version has.
pub(super) fn only_newer(status: u16, form: Form) -> Expect {
    either((404, Form::Detail("Not Found")), (status, form))
}

impl Expect {
    /// What is wrong with the answer.
    pub(super) fn check(&self, version: Version, answer: &Answer) -> Result<(), String> {
        let (status, form) = match version {
            Version::V0_11_0 => &self.older,
            Version::V0_32_0 => &self.newer,
        };
        let result = if answer.status == *status { form.check(answer) } else { Err(format!("expected {status}")) };
        result.map_err(|why| {
            let body: String = answer.body.chars().take(300).collect();
            format!("{why}; got {} {body:?}", answer.status)
        })
    }
}

impl Form {
    fn check(&self, answer: &Answer) -> Result<(), String> {
        let body = answer.body.as_str();
        let content_type = answer.header(CONTENT_TYPE);
        let ok = |good: bool, wanted: String| if good { Ok(()) } else { Err(format!("expected {wanted}")) };
        let typed = |wanted: &str| {
            let found = content_type.is_some_and(|found| found.starts_with(wanted));
            ok(found, format!("Content-Type {wanted}, got {content_type:?}"))
        };
        match self {
            Self::Empty => ok(body.is_empty(), "no body".into()),
            Self::Text(text) => {
                ok(content_type.is_none(), format!("no Content-Type, got {content_type:?}"))?;
                ok(body == text, format!("{text:?}"))
            }
            Self::Error { kind, says } => {
                typed("application/json")?;
                let error = &answer.json()["error"];
                let code = error["code"].as_u64();
                ok(error["type"] == *kind, format!("type {kind:?}"))?;
                ok(error["message"].as_str().is_some_and(|m| m.contains(says)), format!("a message with {says:?}"))?;
                ok(error.get("param").is_some(), "param, or null for it".into())?;
                ok(code == Some(u64::from(answer.status)), "code to be the status".into())
            }
            Self::Detail(text) => {
                typed("application/json")?;
                ok(answer.json() == serde_json::json!({"detail": text}), format!("detail {text:?}"))
            }
            Self::Unauthorized => {
                let wanted = serde_json::json!({"error": "Unauthorized"});
                ok(answer.json() == wanted, wanted.to_string())
            }
            Self::Json(wanted) => {
                typed("application/json")?;
                let body = answer.json();
                let off = wanted.iter().find(|(path, value)| body.pointer(path) != Some(value));
                off.map_or(Ok(()), |(path, value)| Err(format!("{path} to be {value}")))
            }
            Self::Has(paths) => {
                typed("application/json")?;
                let body = answer.json();
                let off = paths.iter().find(|path| body.pointer(path).is_none());
                off.map_or(Ok(()), |path| Err(format!("{path} to be there")))
            }
            Self::Events(texts) => {
                typed("text/event-stream")?;
                let mut rest = body;
                for text in texts {
                    let at = rest.find(text).ok_or_else(|| format!("expected {text:?} in its place"))?;
                    rest = &rest[at + text.len()..];
                }
                Ok(())
            }
            Self::Metrics(names) => {
                typed("text/plain")?;
                let has = |name: &str| {
                    let series = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
                    body.lines().any(series)
                };
                let off = names.iter().find(|name| !has(name));
                off.map_or(Ok(()), |name| Err(format!("the series {name}")))
            }
            Self::Allow(method) => ok(answer.header(ALLOW) == Some(*method), format!("Allow: {method}")),
            Self::Redirect(path) => {
                let to = answer.header(LOCATION).unwrap_or_default();
                ok(to.starts_with("http://") && to.ends_with(path), format!("a Location that ends with {path}"))
            }
            Self::Any => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use serde_json::json;

    use super::*;

    fn answer(status: u16, content_type: Option<&'static str>, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Answer { status, headers, body: body.to_owned() }
    }

    fn holds(form: Form, answer: &Answer) -> bool {
        both(200, form).check(Version::V0_32_0, answer).is_ok()
    }

    #[test]
    fn each_form_takes_what_it_describes_and_nothing_else() {
        let json = Some("application/json");
        let error_body = r#"{"error":{"message":"no a","type":"T","param":null,"code":200}}"#;
        let cases: [(Form, Answer, Answer); 8] = [
            (Form::Empty, answer(200, None, ""), answer(200, None, "x")),
            (Form::Text("x".into()), answer(200, None, "x"), answer(200, json, "x")),
            (error("T", "no"), answer(200, json, error_body), answer(200, json, &error_body.replace("\"T\"", "\"U\""))),
            (error("T", "no"), answer(200, json, error_body), answer(200, json, &error_body.replace(":200", ":500"))),
            (Form::Detail("d"), answer(200, json, r#"{"detail":"d"}"#), answer(200, json, r#"{"detail":"e"}"#)),
            (
                Form::Json(vec![("/a/0", json!(1))]),
                answer(200, json, r#"{"a":[1]}"#),
                answer(200, json, r#"{"a":[2]}"#),
            ),
            (
                Form::Events(vec!["a", "b"]),
                answer(200, Some("text/event-stream"), "a b"),
                answer(200, Some("text/event-stream"), "b a"),
            ),
            (
                Form::Metrics(vec!["x:y"]),
                answer(200, Some("text/plain"), "x:y{l=\"1\"} 1.0"),
                answer(200, Some("text/plain"), "x:yz 1.0"),
            ),
        ];
        for (form, good, bad) in cases {
            assert!(holds(form.clone(), &good), "{form:?}");
            assert!(!holds(form.clone(), &bad), "{form:?}");
            assert!(!holds(form.clone(), &Answer { status: 404, ..good }), "{form:?}");
        }
    }

    #[test]
    fn each_version_is_held_to_its_own_answer() {
        let expect = either((200, Form::Any), (400, Form::Any));
        let ok = answer(200, None, "");
        assert!(expect.check(Version::V0_11_0, &ok).is_ok());
        assert!(expect.check(Version::V0_32_0, &ok).is_err());
    }
}
