//! Flags and environment variables.

mod artifact;
mod engine;
mod sources;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use longshore_agent::SourceFlags;
use longshore_cluster::local::EngineConfig;
use longshore_runtime::telemetry::Format;
use longshore_runtime::{Listen, seconds};
use longshore_testkit::Version;
use longshore_types::Namespace;

pub use artifact::{FetchArgs, Form, PullArgs, VerifyArgs};

/// Serve LoRA adapters on a fleet of inference engines.
#[derive(Clone, Debug, Parser)]
#[command(name = "longshore", version, max_term_width = 100, subcommand_required = true)]
pub struct Args {
    /// Log level, or levels by module: info,longshore_cluster=debug [default: warn; up: error]
    #[arg(long, global = true, value_name = "FILTER", env = "LONGSHORE_LOG", hide_env_values = true)]
    pub log: Option<String>,

    /// How log lines look: text, json or auto
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "LONGSHORE_LOG_FORMAT",
        hide_env_values = true,
        default_value_t = Format::Auto
    )]
    pub log_format: Format,

    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// What is logged. `up` says what happens in lines of its own, so its log holds what is odd only.
    pub fn filter(&self) -> String {
        self.log.clone().unwrap_or_else(|| match self.command {
            Command::Up(_) => "error".to_owned(),
            _ => "warn".to_owned(),
        })
    }
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve the adapters of manifests on engines: controller and router in one process, no cluster
    Up(Box<UpArgs>),
    /// List adapters or engines
    Get(GetArgs),
    /// Tell in plain words what an adapter or engine is doing, and why it is not ready
    Explain(ExplainArgs),
    /// Bring an adapter into the store: fetched, checked and ready to be loaded
    Pull(Box<PullArgs>),
    /// Tell whether an adapter is one that engines can load, and what is wrong with it, without keeping it
    Verify(Box<VerifyArgs>),
    /// Run a simulated vLLM, as strict as the real one
    SimEngine(SimEngineArgs),
}

/// Flags of `longshore up`.
#[derive(Clone, Debug, ClapArgs)]
pub struct UpArgs {
    /// An engine: URL[,key=value…], with the keys store (where it sees the store), label.KEY, name, namespace, kind,
    /// api-key-file, max-loras, max-cpu-loras, max-lora-rank; any other key is a label. May be given more than once
    #[arg(long = "engine", value_name = "URL[,KEY=VALUE…]", value_parser = engine::parse)]
    pub engines: Vec<EngineConfig>,

    /// A file that lists engines; it is watched for changes
    #[arg(long, value_name = "FILE")]
    pub engines_file: Option<PathBuf>,

    /// File with the bearer token of every engine that names none of its own
    #[arg(long, value_name = "FILE", env = "LONGSHORE_ENGINE_API_KEY_FILE", hide_env_values = true)]
    pub engine_api_key_file: Option<PathBuf>,

    /// Simulated engines to start in this process: N[,base=NAME] [default: 3 where no engine is named]
    #[arg(long, value_name = "N[,base=NAME]")]
    pub simulate: Option<Simulate>,

    /// A manifest, or a directory of manifests, at any depth; watched for changes. May be given more than once
    /// [default: samples/standalone]
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub manifests: Vec<PathBuf>,

    /// Where requests are answered
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LONGSHORE_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:8080"
    )]
    pub listen: Listen,

    /// Where the fleet API, /livez, /readyz and /metrics are answered
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LONGSHORE_ADMIN",
        hide_env_values = true,
        default_value = "127.0.0.1:9090"
    )]
    pub admin: Listen,

    /// File with the bearer token that the fleet API asks for. Needed where --admin is not on loopback
    #[arg(long, value_name = "FILE", env = "LONGSHORE_ADMIN_TOKEN_FILE", hide_env_values = true)]
    pub admin_token_file: Option<PathBuf>,

    /// Where adapters are kept for engines to load; by default the same on each start, so that what engines still hold is
    /// known again [default: ~/.local/share/longshore/store]
    #[arg(long, value_name = "DIR", env = "LONGSHORE_STORE", hide_env_values = true)]
    pub store: Option<PathBuf>,

    /// Seconds between two listings of an engine
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = positive_seconds)]
    pub list_interval: Duration,

    /// Seconds that an engine may be away before its adapters are placed on others
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub not_ready_grace: Duration,

    /// Seconds before the first retry of a failed load; each further one waits twice as long
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = positive_seconds)]
    pub retry_base: Duration,

    /// Seconds that requests under way are given before their adapter is unloaded
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub drain: Duration,

    /// Seconds that everything may take at the end
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub shutdown: Duration,

    /// At the end leave adapters loaded: the next start takes them over
    #[arg(long)]
    pub leave_loaded: bool,

    /// Write one line per change also where standard output is a terminal. --log does so too, where it goes there
    #[arg(long)]
    pub plain: bool,

    #[command(flatten)]
    pub sources: SourceFlags,
}

/// What `--simulate` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulate {
    /// How many.
    pub count: usize,
    /// The name of their base model.
    pub base: String,
}

impl Default for Simulate {
    fn default() -> Self {
        Self { count: 3, base: longshore_testkit::tiny::NAME.to_owned() }
    }
}

impl std::str::FromStr for Simulate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut simulate = Self::default();
        let (count, rest) = text.split_once(',').map_or((text, None), |(count, rest)| (count, Some(rest)));
        simulate.count = count.parse().map_err(|_| format!("{count:?} is no number of engines"))?;
        // Each is a server with a port of its own.
        if simulate.count > 256 {
            return Err("at most 256 engines are simulated in one process".to_owned());
        }
        if let Some(rest) = rest {
            let base = rest.strip_prefix("base=").ok_or_else(|| format!("{rest:?}: expected base=NAME"))?;
            base.parse::<longshore_types::BaseModel>().map_err(|invalid| invalid.to_string())?;
            base.clone_into(&mut simulate.base);
        }
        Ok(simulate)
    }
}

/// Flags of the commands that read the fleet API.
#[derive(Clone, Debug, ClapArgs)]
pub struct ServerArgs {
    /// The admin address of `longshore up` or of a controller
    #[arg(
        long,
        value_name = "URL",
        env = "LONGSHORE_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:9090"
    )]
    pub server: String,

    /// File with the bearer token that it asks for
    #[arg(long, value_name = "FILE", env = "LONGSHORE_SERVER_TOKEN_FILE", hide_env_values = true)]
    pub server_token_file: Option<PathBuf>,

    /// Only this namespace
    #[arg(short, long)]
    pub namespace: Option<Namespace>,
}

/// Flags of `longshore get`.
#[derive(Clone, Debug, ClapArgs)]
pub struct GetArgs {
    /// What to list
    pub what: What,

    /// How it is written
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Output,

    #[command(flatten)]
    pub server: ServerArgs,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Adapters, as clients name them
    #[value(alias = "adapter")]
    Adapters,
    /// Engines, and what they hold
    #[value(alias = "engine")]
    Engines,
}

/// How a listing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns for people
    Table,
    /// More columns
    Wide,
    /// The fleet API's own JSON
    Json,
}

/// Flags of `longshore explain`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ExplainArgs {
    /// An adapter's or engine's name, or namespace/name
    pub name: String,

    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `longshore sim-engine`, named as those of `vllm serve` with the same effect.
#[derive(Clone, Debug, ClapArgs)]
pub struct SimEngineArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub host: std::net::IpAddr,

    /// Port to listen on; 0 takes any free one
    #[arg(long, default_value_t = 8000)]
    pub port: u16,

    /// Whose statuses and texts are given
    #[arg(long, value_name = "VERSION", default_value_t = Version::default())]
    pub behaves_like: Version,

    /// Name of the base model
    #[arg(long, value_name = "NAME", default_value = longshore_testkit::tiny::NAME)]
    pub served_model_name: String,

    /// What /v1/models shows as the base model's root
    #[arg(long, value_name = "PATH")]
    pub model: Option<String>,

    /// Serve no adapters at all
    #[arg(long)]
    pub disable_lora: bool,

    /// Distinct adapters in one batch
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub max_loras: usize,

    /// Adapters kept in memory [default: --max-loras]
    #[arg(long, value_name = "N")]
    pub max_cpu_loras: Option<usize>,

    /// Largest rank
    #[arg(long, value_name = "RANK", default_value_t = 64)]
    pub max_lora_rank: usize,

    /// Requests in one batch
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub max_num_seqs: usize,

    /// Tokens of prompt and answer together
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub max_model_len: usize,

    /// Bearer token that paths below /v1 ask for
    #[arg(long, value_name = "KEY", env = "VLLM_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,

    /// Whether adapters can be loaded and unloaded over HTTP: True or 1
    #[arg(
        long,
        value_name = "BOOL",
        env = "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
        hide_env_values = true,
        default_value = "True"
    )]
    pub runtime_lora_updating: String,

    /// Adapters that are there from the start: name=path
    #[arg(long, value_name = "NAME=PATH", num_args = 1.., value_parser = module)]
    pub lora_modules: Vec<(String, String)>,

    /// Directory that stands for what an engine would download: org/name is DIR/org/name
    #[arg(long, value_name = "DIR")]
    pub hub: Option<PathBuf>,

    /// Milliseconds per token
    #[arg(long, value_name = "MS", default_value_t = 1)]
    pub token_delay: u64,

    /// Milliseconds that each load takes and blocks the engine
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub load_delay: u64,

    /// Faults from the start, as JSON; POST /sim/faults changes them while it runs: {"hang_load":true}
    #[arg(long, value_name = "JSON")]
    pub faults: Option<String>,
}

impl SimEngineArgs {
    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::from((self.host, self.port))
    }
}

fn module(text: &str) -> Result<(String, String), String> {
    let (name, path) = text.split_once('=').ok_or_else(|| format!("{text:?}: expected NAME=PATH"))?;
    Ok((name.to_owned(), path.to_owned()))
}

fn positive_seconds(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text)?;
    // Anything shorter keeps an engine busy with nothing but listings.
    if seconds < Duration::from_millis(50) { Err("expected at least 0.05".to_owned()) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_help_is_what_people_have_read() {
        let mut text = String::new();
        for name in ["up", "get", "explain", "pull", "verify", "sim-engine"] {
            let mut command = Args::command().term_width(100);
            let help = command.find_subcommand_mut(name).map(|command| command.render_long_help().to_string());
            text.push_str(&format!("=== longshore {name}\n{}\n", help.unwrap_or_default()));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_number_of_simulated_engines_may_name_their_base() {
        assert_eq!("3".parse(), Ok(Simulate::default()));
        assert_eq!("2,base=llama".parse(), Ok(Simulate { count: 2, base: "llama".to_owned() }));
        for bad in ["", "x", "3,llama", "3,base=", "999"] {
            assert!(bad.parse::<Simulate>().is_err(), "{bad}");
        }
    }
}
