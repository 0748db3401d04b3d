//! What is known of the places that adapters come from: flags, environment, and the one place that makes both of them the
//! library's [`Setup`].

use std::path::PathBuf;

use clap::Args as ClapArgs;
use clap::builder::BoolishValueParser;
use longshore_artifacts::Setup;

/// Flags about sources. A source that has to be told something gets its flags here, and its line in [`SourceArgs::setup`].
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Sources")]
pub struct SourceArgs {
    /// What the source is shown to be let in, and nobody else: a file of `name: value` lines (YAML or JSON), or a
    /// directory with a file for each name, as a mounted Secret is. Without it, the environment is asked: HF_TOKEN for
    /// hf://; AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN for s3://
    #[arg(long, value_name = "PATH", env = "LONGSHORE_CREDENTIALS", hide_env_values = true)]
    pub credentials: Option<PathBuf>,

    /// Reach loopback and private addresses too. Link-local ones, where clouds keep a machine's own credentials, are
    /// never reached
    #[arg(
        long,
        env = "LONGSHORE_ALLOW_PRIVATE_ADDRESSES",
        hide_env_values = true,
        value_parser = BoolishValueParser::new()
    )]
    pub allow_private_addresses: bool,
}

impl SourceArgs {
    /// How the sources of this process are set up.
    pub fn setup(&self) -> Setup {
        let mut setup = Setup::default();
        setup.reach.private = self.allow_private_addresses;
        setup
    }
}
