//! Error bodies, in the forms of each version.

use http::StatusCode;
use serde_json::{Value, json};

use super::config::Version;
use super::http::{Reply, json_reply, text_reply};
use super::python;

/// `{"error": {message, type, param, code}}`.
pub(super) fn error(version: Version, status: StatusCode, kind: &str, param: Option<&str>, message: &str) -> Reply {
    let message = match version {
        Version::V0_32_0 => python::hide_paths(message).trim().to_owned(),
        Version::V0_11_0 => message.to_owned(),
    };
    let body = json!({"error": {"message": message, "type": kind, "param": param, "code": status.as_u16()}});
    json_reply(status, &body)
}

/// A refused value: 400 and the newer version's name of the field and of the value.
pub(super) fn bad_request(version: Version, param: Option<(&str, &Value)>, message: &str) -> Reply {
    let newer = param.filter(|_| version == Version::V0_32_0);
    let message = match newer {
        Some((name, Value::Null)) => format!("{message} (parameter={name})"),
        Some((name, value)) => format!("{message} (parameter={name}, value={value})"),
        None => message.to_owned(),
    };
    error(version, StatusCode::BAD_REQUEST, "BadRequestError", newer.map(|(name, _)| name), &message)
}

/// A name that no model has. Only the newer version says which ones there are, and only base models.
pub(super) fn unknown_model(version: Version, name: &str, base: &str) -> Reply {
    let (param, more) = match version {
        Version::V0_32_0 => (Some("model"), format!(" Valid aliases: {base}.")),
        Version::V0_11_0 => (None, String::new()),
    };
    error(version, StatusCode::NOT_FOUND, "NotFoundError", param, &format!("The model `{name}` does not exist.{more}"))
}

/// What a request gets when the engine has died under it or before it.
pub(super) fn dead(version: Version, at_load: bool) -> Reply {
    let message = "EngineCore encountered an issue. See stack trace (above) for the root cause.";
    let (status, kind) = match (version, at_load) {
        (Version::V0_32_0, _) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
        (Version::V0_11_0, false) => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        (Version::V0_11_0, true) => (StatusCode::BAD_REQUEST, "BadRequestError"),
    };
    error(version, status, kind, None, message)
}

/// `{"detail": …}`: the web framework's own form, for paths and methods that it does not know.
pub(super) fn detail(status: StatusCode) -> Reply {
    json_reply(status, &json!({"detail": status.canonical_reason()}))
}

/// What the web framework answers when the engine's code throws.
pub(super) fn crashed() -> Reply {
    text_reply(StatusCode::INTERNAL_SERVER_ERROR, Some("text/plain; charset=utf-8"), "Internal Server Error")
}

/// One thing that is wrong with a body.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) kind: &'static str,
    /// The field, or the index of a character, or neither: the body itself.
    pub(super) field: Option<String>,
    pub(super) message: String,
    pub(super) input: Value,
    pub(super) context: Option<String>,
}

impl Problem {
    pub(super) fn missing(field: &str, body: &Value) -> Self {
        Self::of("missing", Some(field), "Field required", body)
    }

    pub(super) fn of(kind: &'static str, field: Option<&str>, message: &str, input: &Value) -> Self {
        Self { kind, field: field.map(str::to_owned), message: message.to_owned(), input: input.clone(), context: None }
    }

    fn newer(&self) -> String {
        let input = match &self.input {
            Value::Object(fields) => format!("<dict of {} items>", fields.len()),
            Value::Array(items) => format!("<list of {} items>", items.len()),
            Value::String(text) => text.clone(),
            other => python::repr(other),
        };
        self.form(&python::quoted(&self.place()), &python::quoted(&input))
    }

    fn older(&self) -> String {
        let place = match &self.field {
            None => "('body',)".to_owned(),
            Some(index) if index.parse::<usize>().is_ok() => format!("('body', {index})"),
            Some(field) => format!("('body', {})", python::quoted(field)),
        };
        self.form(&place, &python::repr(&self.input))
    }

    fn place(&self) -> String {
        self.field.as_ref().map_or_else(|| "body".to_owned(), |field| format!("body.{field}"))
    }

    fn form(&self, place: &str, input: &str) -> String {
        let context = self.context.as_ref().map(|c| format!(", 'ctx': {{'error': {c}}}")).unwrap_or_default();
        let message = python::quoted(&self.message);
        format!("{{'type': '{}', 'loc': {place}, 'msg': {message}, 'input': {input}{context}}}", self.kind)
    }
}

/// Where in the older version's source a path is handled; it says so in its answers.
pub(super) struct Handler {
    pub(super) path: &'static str,
    pub(super) file: &'static str,
    pub(super) line: u32,
    pub(super) function: &'static str,
}

/// 400 with everything that is wrong.
pub(super) fn invalid(version: Version, handler: &Handler, problems: &[Problem]) -> Reply {
    let many = if problems.len() == 1 { "" } else { "s" };
    let head = format!("{} validation error{many}:", problems.len());
    let (message, param) = match version {
        Version::V0_32_0 => {
            let lines: String = problems.iter().map(|problem| format!("\n  {}", problem.newer())).collect();
            (head + &lines, problems.first().map(Problem::place))
        }
        Version::V0_11_0 => {
            let all: Vec<String> = problems.iter().map(Problem::older).collect();
            let Handler { path, file, line, function } = handler;
            let source = "/usr/local/lib/python3.11/site-packages/vllm/entrypoints";
            let at = format!("\n\n  File \"{source}/{file}\", line {line}, in {function}\n    POST {path}");
            (format!("{head}\n  {}{at} [{}]", all.join("\n  "), all.join(", ")), None)
        }
    };
    error(version, StatusCode::BAD_REQUEST, "Bad Request", param.as_deref(), &message)
}

/// 400 for a body that is not declared to be JSON.
pub(super) fn not_json(version: Version) -> Reply {
    let mut message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed".to_owned();
    if version == Version::V0_11_0 {
        message.push_str(" [\"Unsupported Media Type: Only 'application/json' is allowed\"]");
    }
    error(version, StatusCode::BAD_REQUEST, "Bad Request", None, &message)
}
