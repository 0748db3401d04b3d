//! Flags of the commands that fetch and check adapters.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use longshore_types::Digest;

use super::sources::SourceArgs;

/// Flags of `longshore pull`.
#[derive(Clone, Debug, ClapArgs)]
pub struct PullArgs {
    /// Where the adapter is: a URL, such as hf://org/name@revision, or a directory
    #[arg(value_name = "URL")]
    pub from: String,

    /// Where it is kept [default: as `longshore up`: ~/.local/share/longshore/store]
    #[arg(long, value_name = "DIR", env = "LONGSHORE_STORE", hide_env_values = true)]
    pub store: Option<PathBuf>,

    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// Flags of `longshore verify`.
#[derive(Clone, Debug, ClapArgs)]
pub struct VerifyArgs {
    /// Where the adapter is: a directory, or a URL. What has to be fetched is removed at the end
    #[arg(value_name = "PATH|URL")]
    pub from: String,

    /// The base model that it has to fit: a directory with its config.json, or that file
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,

    /// The engines' --max-lora-rank, above which it is refused
    #[arg(long, value_name = "RANK", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_rank: Option<u32>,

    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// What both do.
#[derive(Clone, Debug, ClapArgs)]
pub struct FetchArgs {
    /// The digest that it must have: sha256:…
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<Digest>,

    /// How often it is tried again where a source fails for a passing reason
    #[arg(
        long,
        value_name = "N",
        env = "LONGSHORE_RETRIES",
        hide_env_values = true,
        default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(..=100)
    )]
    pub retries: u32,

    /// How the result is written
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Form,

    /// Neither progress nor description: of pull the path alone, of verify nothing but a refusal
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub sources: SourceArgs,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Lines for people
    Text,
    /// One object: url, digest, path, bytes, rank, reason, message
    Json,
}
