//! What can go wrong with a process.

use std::error::Error as StdError;
use std::io;

/// Why a process could not start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server could not listen.
    #[error("cannot listen on {address}: {}", hint(source.kind(), flag))]
    Bind {
        /// The address as it was given.
        address: String,
        /// The flag that it was given by.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A listen address is none.
    #[error("`{text}` is not an address to listen on: write `host:port`, `[ipv6]:port`, or `:port` for all interfaces")]
    Address {
        /// The text.
        text: String,
    },
    /// A log filter is none.
    #[error("`{filter}` is not a log filter: write a level, or levels by module such as `info,longshore_engine=debug`")]
    Filter {
        /// The text.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was set up before.
    #[error("logging is set up already")]
    Logging,
    /// Signals cannot be listened to.
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
    /// A task that the process cannot do without has failed.
    #[error("{task} failed")]
    TaskFailed {
        /// Which task.
        task: &'static str,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A task that the process cannot do without has panicked, which is a defect.
    #[error("{task} panicked: {message}")]
    TaskPanicked {
        /// Which task.
        task: &'static str,
        /// What the panic said.
        message: String,
    },
    /// A task that the process cannot do without came to an end on its own.
    #[error("{task} ended although nobody asked it to")]
    TaskEnded {
        /// Which task.
        task: &'static str,
    },
}

impl Error {
    /// A CamelCase word from a closed set, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "BindFailed",
            Self::Address { .. } => "InvalidAddress",
            Self::Filter { .. } => "InvalidLogFilter",
            Self::Logging => "LoggingAlreadySet",
            Self::Signals(_) => "SignalsUnavailable",
            Self::TaskFailed { .. } => "TaskFailed",
            Self::TaskPanicked { .. } => "TaskPanicked",
            Self::TaskEnded { .. } => "TaskEnded",
        }
    }

    /// Whether starting the process again, as it is, may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TaskFailed { .. } | Self::TaskPanicked { .. } | Self::TaskEnded { .. } => true,
            // A port is often still held by the process that this one takes over from.
            Self::Bind { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            Self::Address { .. } | Self::Filter { .. } | Self::Logging | Self::Signals(_) => false,
        }
    }
}

/// What to do about a failure to listen.
fn hint(kind: io::ErrorKind, flag: &str) -> String {
    let what = match kind {
        io::ErrorKind::AddrInUse => "port in use",
        io::ErrorKind::PermissionDenied => "not permitted, as ports below 1024 mostly are",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "the system refuses",
    };
    format!("{what}: choose another with {flag}")
}
