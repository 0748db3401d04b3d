//! What can go wrong with an engine.

mod refusal;

use std::fmt;
use std::io;
use std::time::Duration;

use longshore_types::{AdapterName, Fault, Scope};

pub use refusal::Refusal;

/// Why a call to an engine failed. No text in it holds a secret (I8), nor does any of its sources.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process has not chosen its TLS implementation.
    #[error("this process has installed no rustls provider")]
    NoTlsProvider,
    /// The HTTP client could not be built.
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
    /// An engine's URL is not one. The text is not shown: it may hold a password.
    #[error("this is not an engine's URL: {rule}")]
    BaseUrl {
        /// What is expected.
        rule: &'static str,
    },
    /// The api key cannot be sent.
    #[error("the api key has characters that no HTTP header can carry, such as a line break at its end")]
    Key,
    /// No connection: the engine was not asked.
    #[error("{call}: {failure}")]
    Connect {
        /// What was to be asked.
        call: Call,
        /// Why there is none.
        failure: ConnectFailure,
        /// What the client says.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke before the answer was complete.
    #[error("{call}: the connection was cut before the answer was complete")]
    Cut {
        /// What was asked.
        call: Call,
        /// What the client says.
        #[source]
        source: reqwest::Error,
    },
    /// No complete answer in time.
    #[error("{call}: no answer within {} s", after.as_secs_f64())]
    Timeout {
        /// What was asked.
        call: Call,
        /// How long was waited.
        after: Duration,
    },
    /// A status that is no success.
    #[error("{call}: status {status}{}{}", said(words), advice(*status))]
    Status {
        /// What was asked.
        call: Call,
        /// The HTTP status.
        status: u16,
        /// The engine's own words, shortened, without secrets and paths; empty where there are none.
        words: String,
    },
    /// More bytes than an answer of this kind may have.
    #[error("{call}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// What was asked.
        call: Call,
        /// The limit in bytes.
        limit: usize,
    },
    /// An answer of another form. The parser's own words are not kept: they quote the answer, which may echo a secret.
    #[error("{call}: the answer is not what an engine says (line {line}, column {column})")]
    Body {
        /// What was asked.
        call: Call,
        /// Where it stops making sense.
        line: usize,
        /// Where in that line.
        column: usize,
    },
    /// The metrics lack something that is needed.
    #[error("{}: {name} is missing", Call::Metrics)]
    Metric {
        /// The metric's name.
        name: &'static str,
    },
    /// The engine serves something else by that name. Nothing was changed.
    #[error("`{name}` is the name of {holder}")]
    NameTaken {
        /// The name.
        name: AdapterName,
        /// What has it.
        holder: String,
    },
    /// The engine said no.
    #[error("{refusal}{}", said(words))]
    Refused {
        /// What was asked.
        call: Call,
        /// What it comes down to.
        refusal: Refusal,
        /// The engine's own words, shortened, without secrets and paths; empty where they add nothing.
        words: String,
    },
    /// The engine said no for no reason that is known, and is not healthy.
    #[error("{call}: the engine is not healthy{}", said(words))]
    Unhealthy {
        /// What was asked.
        call: Call,
        /// The engine's own words, as above.
        words: String,
    },
    /// The engine may have done it, or may do it yet: only a listing can tell.
    #[error("whether the engine has done it, or will, is not known")]
    Unsettled {
        /// What was asked.
        call: Call,
        /// What came instead of an answer.
        #[source]
        source: Box<Error>,
    },
}

impl Error {
    /// How far it reaches.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Connect { .. } | Self::Cut { .. } | Self::Timeout { .. } | Self::Unhealthy { .. } => Scope::Transient,
            Self::Status { status: 429 | 500.., .. } => Scope::Transient,
            Self::Refused { refusal, .. } => refusal.scope(),
            Self::Unsettled { .. } => Scope::Unknown,
            _ => Scope::Engine,
        }
    }

    /// A CamelCase word from a closed set: condition reason, event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoTlsProvider | Self::Client(_) | Self::BaseUrl { .. } => "Misconfigured",
            Self::Key | Self::Status { status: 401 | 403, .. } => "Unauthorized",
            Self::Connect { failure, .. } => failure.reason(),
            Self::Cut { .. } => "ConnectionReset",
            Self::Timeout { .. } | Self::Status { status: 504, .. } => "Timeout",
            Self::Status { status: 429, .. } => "TooManyRequests",
            Self::Status { status: 502, .. } => "BadGateway",
            Self::Status { status: 503, .. } => "Unavailable",
            Self::Status { status: 500.., .. } => "ServerError",
            Self::Status { .. } => "UnexpectedStatus",
            Self::TooLarge { .. } | Self::Body { .. } | Self::Metric { .. } => "InvalidAnswer",
            Self::NameTaken { .. } => "NameTaken",
            Self::Refused { call: Call::Unload, refusal: Refusal::Other, .. } => "UnloadFailed",
            Self::Refused { refusal, .. } => refusal.reason(),
            Self::Unhealthy { .. } => "EngineUnhealthy",
            Self::Unsettled { call: Call::Unload, .. } => "UnloadTimeout",
            Self::Unsettled { .. } => "LoadTimeout",
        }
    }

    /// Whether asking the same again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self.scope(), Scope::Transient | Scope::Unknown)
    }

    /// What the client's error comes down to, with the URL taken out of it.
    pub(crate) fn from_client(call: Call, after: Duration, error: reqwest::Error) -> Self {
        let source = error.without_url();
        if source.is_connect() {
            let failure = ConnectFailure::of(&source);
            Self::Connect { call, failure, source }
        } else if source.is_timeout() {
            Self::Timeout { call, after }
        } else {
            Self::Cut { call, source }
        }
    }
}

impl From<Error> for Fault {
    /// The text, and that of a source of ours. A client's sources say `error sending request` and the like, which tells
    /// a person nothing, but where we have no word of our own for why there is no connection.
    fn from(error: Error) -> Self {
        let mut message = error.to_string();
        let more = match &error {
            Error::Unsettled { source, .. } => Some(source.to_string()),
            Error::Connect { failure: ConnectFailure::Other, source, .. } => Some(innermost(source).to_string()),
            _ => None,
        };
        if let Some(more) = more {
            message.push_str(": ");
            message.push_str(&more);
        }
        Self::new(error.scope(), error.reason(), message)
    }
}

/// What an engine is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Which models it serves.
    Models,
    /// Its metrics.
    Metrics,
    /// Whether it is healthy.
    Health,
    /// To load an adapter.
    Load,
    /// To unload one.
    Unload,
}

/// Method and path.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self {
            Self::Models | Self::Metrics | Self::Health => "GET",
            Self::Load | Self::Unload => "POST",
        };
        write!(f, "{method} {}", self.path())
    }
}

impl Call {
    /// The path behind the engine's base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Models => "/v1/models",
            Self::Metrics => "/metrics",
            Self::Health => "/health",
            Self::Load => "/v1/load_lora_adapter",
            Self::Unload => "/v1/unload_lora_adapter",
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectFailure {
    /// Nothing listens there.
    Refused,
    /// It was reset at once.
    Reset,
    /// The connect timeout passed.
    TimedOut,
    /// No route to the host.
    NoRoute,
    /// Its network cannot be reached.
    NetworkUnreachable,
    /// Anything else: the host's name cannot be resolved, TLS fails.
    Other,
}

impl ConnectFailure {
    fn of(error: &reqwest::Error) -> Self {
        let kind = innermost(error).downcast_ref::<io::Error>().map(io::Error::kind);
        match kind {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => Self::Reset,
            Some(io::ErrorKind::HostUnreachable) => Self::NoRoute,
            Some(io::ErrorKind::NetworkUnreachable) => Self::NetworkUnreachable,
            _ if error.is_timeout() => Self::TimedOut,
            _ => Self::Other,
        }
    }

    /// The fault's reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Refused => "ConnectionRefused",
            Self::Reset => "ConnectionReset",
            Self::TimedOut => "ConnectTimeout",
            Self::NoRoute => "NoRouteToHost",
            Self::NetworkUnreachable => "NetworkUnreachable",
            Self::Other => "ConnectFailed",
        }
    }
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::TimedOut => "no connection in time",
            Self::NoRoute => "no route to host",
            Self::NetworkUnreachable => "network unreachable",
            Self::Other => "no connection",
        })
    }
}

fn advice(status: u16) -> &'static str {
    if matches!(status, 401 | 403) {
        " (the engine wants another api key: outside a cluster, name it with --engine-api-key-file)"
    } else {
        ""
    }
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// The end of the chain of sources: the one that says what happened.
fn innermost(error: &reqwest::Error) -> &(dyn std::error::Error + 'static) {
    let mut last: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> Error {
        Error::Status { call: Call::Models, status, words: String::new() }
    }

    #[test]
    fn a_status_has_the_scope_and_reason_that_retrying_goes_by() {
        for (code, scope, reason) in [
            (307, Scope::Engine, "UnexpectedStatus"),
            (401, Scope::Engine, "Unauthorized"),
            (403, Scope::Engine, "Unauthorized"),
            (404, Scope::Engine, "UnexpectedStatus"),
            (429, Scope::Transient, "TooManyRequests"),
            (500, Scope::Transient, "ServerError"),
            (502, Scope::Transient, "BadGateway"),
            (503, Scope::Transient, "Unavailable"),
            (504, Scope::Transient, "Timeout"),
        ] {
            assert_eq!((status(code).scope(), status(code).reason()), (scope, reason), "{code}");
        }
    }

    #[test]
    fn what_may_yet_be_done_is_unknown_and_says_what_came_instead() {
        let timeout = Error::Timeout { call: Call::Load, after: Duration::from_millis(30_500) };
        let error = Error::Unsettled { call: Call::Load, source: Box::new(timeout) };
        assert!(error.is_transient());
        let fault = Fault::from(error);
        assert_eq!((fault.scope, fault.reason), (Scope::Unknown, "LoadTimeout"));
        assert_eq!(
            fault.message,
            "whether the engine has done it, or will, is not known: POST /v1/load_lora_adapter: no answer within 30.5 s"
        );
    }

    #[test]
    fn a_refusal_tells_what_to_do_and_ends_with_the_engines_words() {
        let error = Error::Refused {
            call: Call::Load,
            refusal: Refusal::RankTooHigh,
            words: "LoRA rank 64 is greater than max_lora_rank 16.".into(),
        };
        assert_eq!(
            error.to_string(),
            "the adapter's rank is above the engine's --max-lora-rank: LoRA rank 64 is greater than max_lora_rank 16."
        );
        let off = Error::Refused { call: Call::Load, refusal: Refusal::UpdatingOff, words: String::new() };
        assert!(off.to_string().ends_with("VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"));
    }
}
