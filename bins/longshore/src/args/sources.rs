//! What is known of the places that adapters come from, by a command that is about one adapter.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use longshore_agent::SourceFlags;

/// Flags about sources, and about what one of them is shown.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Sources")]
pub struct SourceArgs {
    /// What the source is shown to be let in, and nobody else: a file of `name: value` lines (YAML or JSON), or a
    /// directory with a file for each name, as a mounted Secret is. Without it, the environment is asked: HF_TOKEN for
    /// hf://; AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN for s3://
    #[arg(long, value_name = "PATH", env = "LONGSHORE_CREDENTIALS", hide_env_values = true)]
    pub credentials: Option<PathBuf>,

    #[command(flatten)]
    pub flags: SourceFlags,
}
