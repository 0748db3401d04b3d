//! Logs, on standard error.

use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::{fmt, panic};

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::Error;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One line of text each, for people.
    Text,
    /// One JSON object a line, for machines.
    Json,
    /// Text where standard error is a terminal, else JSON.
    #[default]
    Auto,
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "auto" => Ok(Self::Auto),
            _ => Err("expected text, json or auto".into()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Auto => "auto",
        })
    }
}

/// A Kubernetes client logs what the API server has sent, whole, as a warning where it cannot be read: a Secret's value may be
/// in it. Its own errors come back to whoever called it. Only a filter that names this very module takes this away.
const KEPT_OUT: &str = "kube_client::client=off";

/// Logs to standard error from now on, for the whole process; panics too. `filter` is a level, or levels by module
/// (`info,longshore_engine=debug`).
///
/// # Errors
/// [`Error::Filter`], or [`Error::Logging`] where it was done before.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    let terminal = io::stderr().is_terminal();
    let json = match format {
        Format::Text => false,
        Format::Json => true,
        Format::Auto => !terminal,
    };
    subscriber(json, terminal, filter, io::stderr)?.try_init().map_err(|_| Error::Logging)?;
    log_panics();
    Ok(())
}

/// The subscriber that [`init`] installs, with its lines going to `writer`.
fn subscriber<W>(json: bool, terminal: bool, filter: &str, writer: W) -> Result<impl Subscriber + Send + Sync, Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(format!("{KEPT_OUT},{filter}"))
        .map_err(|source| Error::Filter { filter: filter.chars().take(64).collect(), source })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else if terminal {
        // Colours are then left to the library, which honours NO_COLOR.
        lines.boxed()
    } else {
        lines.with_ansi(false).boxed()
    };
    Ok(Registry::default().with(lines).with(filter))
}

/// A panic's own message is plain text that would tear a JSON log apart.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace =
            (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(message, place, backtrace, "Panicked");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, filter: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(json, false, filter, move || writer.clone()).unwrap(), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_the_fields_at_the_top() {
        let line = logged(true, "info", || tracing::info!(modelAdapter = "default/sql", pod = "p0", "Selected pods"));
        let line: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
        assert_eq!(line["message"], "Selected pods");
        assert_eq!(line["modelAdapter"], "default/sql");
        assert_eq!(line["pod"], "p0");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn text_lines_hold_field_and_value_side_by_side() {
        let line = logged(false, "info", || tracing::info!(modelAdapter = "default/sql", "Selected pods"));
        assert!(line.contains("Selected pods") && line.contains("modelAdapter=\"default/sql\""), "{line}");
        assert!(!line.contains('\u{1b}'), "colour in a file: {line:?}");
    }

    #[test]
    fn the_filter_goes_by_module() {
        let filter = "warn,longshore_engine=debug";
        let lines = logged(false, filter, || {
            tracing::info!("hidden");
            tracing::debug!(target: "longshore_engine", "shown");
        });
        assert!(lines.contains("shown") && !lines.contains("hidden"), "{lines}");
    }

    #[test]
    fn i8_what_a_kubernetes_client_could_not_read_is_not_logged() {
        let log = || {
            tracing::warn!(target: "kube_client::client", "hunter2");
            tracing::error!(target: "kube_client::client::builder", "failed with hunter2");
            tracing::info!(target: "kube_client::config", "shown");
        };
        for filter in ["info", "trace", "kube_client=trace", ""] {
            let lines = logged(false, filter, log);
            assert!(!lines.contains("hunter2"), "{filter}: {lines}");
            assert_eq!(lines.contains("shown"), !filter.is_empty(), "{filter}: {lines}");
        }
        assert!(logged(false, "info,kube_client::client=warn", log).contains("hunter2"), "whoever asks for it by name");
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let Err(error) = subscriber(false, false, "longshore=loud", io::sink) else { panic!("accepted") };
        assert!(error.to_string().starts_with("`longshore=loud` is not a log filter"), "{error}");
        assert_eq!(error.reason(), "InvalidLogFilter");
    }

    #[test]
    fn a_format_reads_back_as_it_was_written() {
        for format in [Format::Text, Format::Json, Format::Auto] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("xml".parse::<Format>().is_err());
    }
}
