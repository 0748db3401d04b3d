//! Flags about sources, for every program that fetches.

use clap::Args;
use clap::builder::BoolishValueParser;
use longshore_artifacts::{HubOptions, Setup};

/// What is to be known of the places that adapters come from. A source that has to be told something gets its flag here,
/// and its line in [`SourceFlags::setup`].
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sources")]
pub struct SourceFlags {
    /// Reach loopback and private addresses too. Link-local ones, where clouds keep a machine's own credentials, are
    /// never reached
    #[arg(
        long,
        env = "LONGSHORE_ALLOW_PRIVATE_ADDRESSES",
        hide_env_values = true,
        value_parser = BoolishValueParser::new()
    )]
    pub allow_private_addresses: bool,

    /// Where Hugging Face repositories are fetched from: a mirror, or a hub of your own
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", hide_env_values = true, default_value = "https://huggingface.co", value_parser = HubOptions::at)]
    pub hf_endpoint: HubOptions,
}

impl SourceFlags {
    /// How the sources of this process are set up.
    pub fn setup(&self) -> Setup {
        let mut setup = Setup { hub: self.hf_endpoint.clone(), ..Setup::default() };
        setup.reach.private = self.allow_private_addresses;
        setup
    }
}
