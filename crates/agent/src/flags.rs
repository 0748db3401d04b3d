//! Flags about sources, for every program that fetches.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use longshore_artifacts::{
    AzureOptions, GcsOptions, HubOptions, ObjectOptions, OciOptions, S3Options, Setup, WebIdentity,
};

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
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", hide_env_values = true, default_value = "https://huggingface.co", value_parser = hub)]
    pub hf_endpoint: HubOptions,

    /// Where s3:// buckets are, where that is not Amazon
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL", hide_env_values = true)]
    pub s3_endpoint: Option<String>,

    /// Region of s3:// buckets whose credentials name none [default: us-east-1]
    #[arg(long, value_name = "REGION", env = "AWS_REGION", hide_env_values = true)]
    pub s3_region: Option<String>,

    /// Whether a bucket stands in the path of an s3:// URL and not in the host's name [default: only at an --s3-endpoint]
    #[arg(long, value_name = "BOOL", env = "LONGSHORE_S3_PATH_STYLE", hide_env_values = true)]
    pub s3_path_style: Option<bool>,

    /// A role that this process may take at Amazon, with the token in --s3-web-identity-token-file
    #[arg(
        long,
        value_name = "ARN",
        env = "AWS_ROLE_ARN",
        hide_env_values = true,
        requires = "s3_web_identity_token_file"
    )]
    pub s3_role_arn: Option<String>,

    /// File with the cluster's token for --s3-role-arn; it is read again for each session
    #[arg(long, value_name = "PATH", env = "AWS_WEB_IDENTITY_TOKEN_FILE", hide_env_values = true)]
    pub s3_web_identity_token_file: Option<PathBuf>,

    /// Where gs:// buckets are, where that is not Google
    #[arg(long, value_name = "URL", env = "LONGSHORE_GCS_ENDPOINT", hide_env_values = true)]
    pub gcs_endpoint: Option<String>,

    /// Storage account of az:// references whose credentials name none
    #[arg(long, value_name = "NAME", env = "AZURE_STORAGE_ACCOUNT", hide_env_values = true)]
    pub azure_account: Option<String>,

    /// Where az:// containers are, where that is not Azure
    #[arg(long, value_name = "URL", env = "LONGSHORE_AZURE_ENDPOINT", hide_env_values = true)]
    pub azure_endpoint: Option<String>,

    /// Ask the cloud for the machine's own identity where a fetch has no credentials: whoever may declare an adapter then
    /// reads what the machine may read
    #[arg(
        long,
        env = "LONGSHORE_INSTANCE_CREDENTIALS",
        hide_env_values = true,
        value_parser = BoolishValueParser::new()
    )]
    pub instance_credentials: bool,

    /// An oci:// registry that speaks plain HTTP, as host:port; may be given more than once
    #[arg(
        long = "plain-http-registry",
        value_name = "HOST:PORT",
        env = "LONGSHORE_PLAIN_HTTP_REGISTRIES",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub plain_http_registries: Vec<String>,
}

/// A hub; the usual one where a variable is empty.
fn hub(url: &str) -> Result<HubOptions, longshore_types::Invalid> {
    if url.is_empty() { Ok(HubOptions::default()) } else { HubOptions::at(url) }
}

impl SourceFlags {
    /// How the sources of this process are set up.
    pub fn setup(&self) -> Setup {
        // A variable that is empty is none.
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let role = given(&self.s3_role_arn).zip(self.s3_web_identity_token_file.clone());
        let web_identity = role.map(|(role_arn, token_file)| WebIdentity { role_arn, token_file, sts_endpoint: None });
        let objects = ObjectOptions {
            s3: S3Options {
                endpoint: given(&self.s3_endpoint),
                region: given(&self.s3_region),
                path_style: self.s3_path_style,
                web_identity,
            },
            gcs: GcsOptions { endpoint: given(&self.gcs_endpoint) },
            azure: AzureOptions { account: given(&self.azure_account), endpoint: given(&self.azure_endpoint) },
            instance_credentials: self.instance_credentials,
            ..ObjectOptions::default()
        };
        let oci = OciOptions {
            plain_http: self.plain_http_registries.iter().filter(|host| !host.is_empty()).cloned().collect(),
        };
        let mut setup = Setup { hub: self.hf_endpoint.clone(), objects, oci, ..Setup::default() };
        setup.reach.private = self.allow_private_addresses;
        setup
    }
}
