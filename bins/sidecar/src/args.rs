//! Flags and environment variables.

mod aibrix;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use longshore_agent::{Config, EngineConfig, Namespace, Secret, SourceFlags, read_key_file};
use longshore_runtime::telemetry::Format;
use longshore_runtime::{Listen, seconds};

/// Where a volume that engine and sidecar share is usually mounted.
const STORE: &str = "/adapters";
/// Where Secrets that requests name are mounted.
const SECRETS: &str = "/var/run/secrets/longshore/credentials";

/// Fetches, checks and loads adapters for the engine beside it, and keeps them loaded.
#[derive(Clone, Debug, Parser)]
#[command(name = "longshore-sidecar", version, max_term_width = 100)]
pub struct Args {
    /// Where its API, /livez, /readyz and /metrics are answered. Elsewhere than on loopback --token-file is needed
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LONGSHORE_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:8080"
    )]
    pub listen: Listen,

    /// The engine: http://host:port, with properties as `longshore up --engine` takes them
    #[arg(
        long,
        value_name = "ENGINE",
        env = "LONGSHORE_ENGINE",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8000"
    )]
    engine: EngineConfig,

    /// File with the engine's bearer token
    #[arg(long, value_name = "PATH", env = "LONGSHORE_ENGINE_API_KEY_FILE", hide_env_values = true)]
    pub engine_api_key_file: Option<PathBuf>,

    /// Where adapters are kept: a volume that the engine sees too, under the same path or as its property `store` says
    #[arg(long, value_name = "DIR", env = "LONGSHORE_STORE", hide_env_values = true, default_value = STORE)]
    pub store: PathBuf,

    /// Where it is kept what is in force, for the time after a restart: a file of its own for each sidecar [default:
    /// .sidecar.json in the store]
    #[arg(long, value_name = "FILE", env = "LONGSHORE_RECORD", hide_env_values = true)]
    record: Option<PathBuf>,

    /// The engine's namespace: nothing is taken in for another [default: that of --engine, else `default`]
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", hide_env_values = true)]
    namespace: Option<Namespace>,

    /// Directory with the Secrets that requests name, each mounted under its name
    #[arg(long, value_name = "DIR", env = "LONGSHORE_SECRETS", hide_env_values = true, default_value = SECRETS)]
    pub secrets: PathBuf,

    /// File with the bearer token that callers must show; it may be replaced at any time
    #[arg(long, value_name = "PATH", env = "LONGSHORE_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,

    /// Answer everybody who can connect, without a token, wherever it listens: whoever that is may load what they like
    #[arg(long, env = "LONGSHORE_OPEN", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub open: bool,

    /// Seconds between two listings of the engine
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_LIST_INTERVAL", hide_env_values = true, default_value = "2", value_parser = seconds)]
    pub list_interval: Duration,

    /// Seconds that requests under way are given before an adapter is unloaded
    #[arg(long, value_name = "SECONDS", env = "LONGSHORE_DRAIN", hide_env_values = true, default_value = "30", value_parser = seconds)]
    pub drain: Duration,

    /// Log level, or levels by module: info,longshore_cluster=debug
    #[arg(long, value_name = "FILTER", env = "LONGSHORE_LOG", hide_env_values = true, default_value = "info")]
    pub log: String,

    /// How log lines look: text, json or auto
    #[arg(long, value_name = "FORMAT", env = "LONGSHORE_LOG_FORMAT", hide_env_values = true, default_value_t = Format::Auto)]
    pub log_format: Format,

    #[command(flatten)]
    pub sources: SourceFlags,

    /// The engine's bearer token, where the environment has it.
    #[arg(skip)]
    api_key: Option<Secret>,

    /// What is to be said of what was asked for.
    #[arg(skip)]
    remarks: Vec<String>,
}

impl Args {
    /// The arguments of this process, in the language that its name says.
    ///
    /// # Errors
    /// What is wrong with them; also where nobody who asks would have to show a token.
    pub fn of_this_process() -> Result<Self, clap::Error> {
        Self::of(std::env::args_os(), |name| std::env::var(name).ok())
    }

    fn of(args: impl IntoIterator<Item = OsString>, env: impl Fn(&str) -> Option<String>) -> Result<Self, clap::Error> {
        let args: Vec<OsString> = args.into_iter().collect();
        if aibrix::is_meant(args.first()) {
            return aibrix::args(args, env);
        }
        let args = Self::try_parse_from(args)?;
        if args.token_file.is_none() && !args.open && !args.listen.is_loopback() {
            let text = "--listen is reachable from elsewhere, and whoever can connect could load what they like: give \
                        --token-file, or --open where only those can connect who may";
            return Err(Self::command().error(ErrorKind::MissingRequiredArgument, text));
        }
        Ok(args)
    }

    /// The engine, with its key.
    ///
    /// # Errors
    /// Where the key's file cannot be read.
    pub fn engine(&self) -> anyhow::Result<EngineConfig> {
        let mut engine = self.engine.clone();
        if let Some(namespace) = &self.namespace {
            engine.namespace = namespace.clone();
        }
        if let Some(path) = &self.engine_api_key_file {
            let key = read_key_file(path).with_context(|| format!("--engine-api-key-file {}", path.display()))?;
            engine.api_key = engine.api_key.or(Some(key));
        }
        engine.api_key = engine.api_key.or_else(|| self.api_key.clone());
        Ok(engine)
    }

    /// Where what is in force is kept: beside the adapters, so that it lasts as long as they do.
    pub fn record(&self) -> PathBuf {
        self.record.clone().unwrap_or_else(|| self.store.join(".sidecar.json"))
    }

    /// How the brain behaves.
    pub fn config(&self) -> Config {
        Config { list_interval: self.list_interval, drain: self.drain, ..Config::default() }
    }

    /// What is to be said of what was asked for.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::of(args.iter().map(Into::into), |_| None)
    }

    #[test]
    fn the_help_is_what_people_have_read() {
        let help = Args::command().term_width(100).render_long_help().to_string();
        insta::assert_snapshot!(help);
    }

    #[test]
    fn whoever_can_connect_from_elsewhere_needs_a_token() {
        for open in [":8080", "0.0.0.0:8080", "10.1.2.3:8080", "[::]:8080"] {
            let error = parse(&["longshore-sidecar", "--listen", open]).unwrap_err();
            assert!(error.to_string().contains("--token-file"), "{error}");
            assert!(parse(&["longshore-sidecar", "--listen", open, "--token-file", "/t"]).is_ok());
            assert!(parse(&["longshore-sidecar", "--listen", open, "--open"]).is_ok());
        }
        for own in ["127.0.0.1:8080", "[::1]:0", "localhost:1"] {
            assert!(parse(&["longshore-sidecar", "--listen", own]).is_ok(), "{own}");
        }
    }
}
