//! Amazon S3, and what speaks its protocol.

use opendal::services::S3;
use reqsign_aws_v4::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, IMDSv2CredentialProvider, StaticCredentialProvider,
};
use reqwest::Url;

use super::Built;
use super::options::{ObjectOptions, endpoint, label};
use super::place::Place;
use super::session::{Session, Shown};
use super::wire::Wire;
use crate::error::Error;
use crate::origin::Credentials;

const KEY: [&str; 1] = ["aws_access_key_id"];
const SECRET: [&str; 1] = ["aws_secret_access_key"];
const TOKEN: [&str; 2] = ["aws_session_token", "aws_security_token"];
const REGION: [&str; 2] = ["aws_region", "aws_default_region"];
const ENDPOINT: [&str; 3] = ["aws_endpoint_url", "aws_endpoint_url_s3", "aws_endpoint"];
const PATH_STYLE: [&str; 2] = ["aws_s3_force_path_style", "s3_force_path_style"];
/// Where buckets are that nobody names a region for.
const FIRST_REGION: &str = "us-east-1";

/// What all fetches of a process share.
#[derive(Debug)]
pub(super) struct Process {
    role: Option<Session<AssumeRoleWithWebIdentityCredentialProvider>>,
    instance: Option<Session<IMDSv2CredentialProvider>>,
    sts: Option<Url>,
}

impl Process {
    pub(super) fn new(options: &ObjectOptions) -> Result<Self, Error> {
        let identity = options.s3.web_identity.as_ref();
        let region = label("region", options.s3.region.as_deref().unwrap_or(FIRST_REGION))?;
        let role = identity.map(|identity| {
            let (role, file) = (identity.role_arn.clone(), identity.token_file.clone());
            let provider = AssumeRoleWithWebIdentityCredentialProvider::with_config(role, file)
                .with_role_session_name("longshore".to_owned())
                .with_region(region)
                .with_regional_sts_endpoint();
            Session::new(provider)
        });
        let instance = options.instance_credentials.then(|| Session::new(IMDSv2CredentialProvider::new()));
        let sts = identity.and_then(|identity| identity.sts_endpoint.as_deref());
        Ok(Self { role, instance, sts: sts.map(|sts| endpoint("sts_endpoint", sts)).transpose()? })
    }
}

/// Where a bucket is, and how it is named there.
#[derive(Debug, PartialEq, Eq)]
struct Site {
    endpoint: String,
    region: String,
    /// Whether the bucket is a host below the endpoint's.
    virtual_host: bool,
    /// Whether the credentials of a fetch have named it, and not this process.
    foreign: bool,
}

impl Site {
    fn of(credentials: &Credentials, options: &ObjectOptions, bucket: &str) -> Result<Self, Error> {
        let region = match credentials.get(&REGION) {
            Some(region) => label(REGION[0], region.expose())?,
            None => label("region", options.s3.region.as_deref().unwrap_or(FIRST_REGION))?,
        };
        let theirs = credentials.get(&ENDPOINT).map(|url| endpoint(ENDPOINT[0], url.expose())).transpose()?;
        let ours = options.s3.endpoint.as_deref().map(|url| endpoint("endpoint", url)).transpose()?;
        let foreign = theirs.is_some();
        let configured = theirs.or(ours);
        let path_style = match credentials.get(&PATH_STYLE) {
            None => options.s3.path_style,
            Some(text) => Some(match text.expose().to_ascii_lowercase().as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => {
                    let problem = "is neither true nor false".to_owned();
                    return Err(Error::CredentialInvalid { name: PATH_STYLE[0].into(), problem });
                }
            }),
        };
        // A certificate's wildcard stands for one label, and an address has none below it.
        let can_be_host = !bucket.contains(['.', '_', '$']) && !bucket.chars().any(|c| c.is_ascii_uppercase());
        let is_address =
            |url: &Url| url.host_str().is_some_and(|h| h.starts_with('[') || h.parse::<std::net::IpAddr>().is_ok());
        let can_be_host = can_be_host && !configured.as_ref().is_some_and(is_address);
        let virtual_host = can_be_host && !path_style.unwrap_or(configured.is_some());
        let endpoint = match configured {
            Some(url) => url.to_string().trim_end_matches('/').to_owned(),
            None if region.starts_with("cn-") => format!("https://s3.{region}.amazonaws.com.cn"),
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        Ok(Self { endpoint, region, virtual_host, foreign })
    }

    /// The endpoint as the client takes it. Where a host begins with the bucket's name, the client would cut that off, and
    /// sign for another host; it does not in upper case, which is the same host.
    fn for_client(&self) -> String {
        match Url::parse(&self.endpoint).ok().and_then(|url| url.host_str().map(str::to_owned)) {
            Some(host) => self.endpoint.replacen(&host, &host.to_ascii_uppercase(), 1),
            None => self.endpoint.clone(),
        }
    }
}

pub(super) fn open(
    credentials: &Credentials,
    options: &ObjectOptions,
    process: &Process,
    place: &Place,
    mut wire: Wire,
) -> Result<Built, Error> {
    let site = Site::of(credentials, options, &place.bucket)?;
    if site.foreign {
        wire.stay_outside();
    } else {
        if let (Some(_), Ok(url)) = (&options.s3.endpoint, Url::parse(&site.endpoint)) {
            wire.trust(&url, &place.bucket);
        }
        if let Some(sts) = &process.sts {
            wire.sessions_from(sts.clone());
        }
    }
    let shown = shown(credentials, options, process, site.foreign)?;
    let mut builder = S3::default()
        .bucket(&place.bucket)
        .endpoint(&site.for_client())
        .region(&site.region)
        .disable_config_load()
        .disable_ec2_metadata();
    if site.virtual_host {
        builder = builder.enable_virtual_host_style();
    }
    let why = shown.as_ref().map(|shown| shown.why.clone());
    builder = match shown {
        Some(shown) => builder.credential_provider_chain(shown.chain),
        None => builder.skip_signature(),
    };
    let identity = format!("{}\0{}\0{}\0{}", site.endpoint, site.region, site.virtual_host, place.bucket);
    Ok(Built { operator: super::operator(builder, wire)?, identity, why })
}

/// What is shown to the store; nothing where there is nothing. What is this process's own is shown to no endpoint that a
/// fetch's credentials name.
fn shown(
    credentials: &Credentials,
    options: &ObjectOptions,
    process: &Process,
    foreign: bool,
) -> Result<Option<Shown<Credential>>, Error> {
    if let Some(keys) = keys(credentials)? {
        return Ok(Some(keys.chain()));
    }
    if foreign {
        return Ok(None);
    }
    if let Some(keys) = keys(&options.credentials)? {
        return Ok(Some(keys.chain()));
    }
    let role = process.role.as_ref().map(Session::chain);
    Ok(role.or_else(|| process.instance.as_ref().map(Session::chain)))
}

fn keys(credentials: &Credentials) -> Result<Option<Session<StaticCredentialProvider>>, Error> {
    if [&KEY[..], &SECRET, &TOKEN].iter().all(|names| credentials.get(names).is_none()) {
        return Ok(None);
    }
    let (key, secret) = (credentials.need(&KEY)?, credentials.need(&SECRET)?);
    let mut provider = StaticCredentialProvider::new(key.expose(), secret.expose());
    if let Some(token) = credentials.get(&TOKEN) {
        provider = provider.with_session_token(token.expose());
    }
    Ok(Some(Session::new(provider)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_types::Secret;

    fn credentials(entries: &[(&str, &str)]) -> Credentials {
        Credentials::new(entries.iter().map(|(name, value)| (*name, Secret::new(value))))
    }

    fn site(entries: &[(&str, &str)], options: &ObjectOptions, bucket: &str) -> Site {
        Site::of(&credentials(entries), options, bucket).unwrap()
    }

    #[test]
    fn a_bucket_is_where_credentials_or_the_process_say_or_at_amazon() {
        let none = ObjectOptions::default();
        let here = site(&[], &none, "bucket");
        assert_eq!((&*here.endpoint, &*here.region), ("https://s3.us-east-1.amazonaws.com", "us-east-1"));
        assert!(here.virtual_host && !here.foreign);
        assert!(!site(&[], &none, "my.bucket").virtual_host);
        assert_eq!(
            site(&[("aws_region", "cn-north-1")], &none, "b").endpoint,
            "https://s3.cn-north-1.amazonaws.com.cn"
        );

        let mut options = ObjectOptions::default();
        options.s3.endpoint = Some("minio:9000".into());
        let ours = site(&[], &options, "bucket");
        assert_eq!((&*ours.endpoint, ours.virtual_host, ours.foreign), ("https://minio:9000", false, false));
        assert!(site(&[("aws_s3_force_path_style", "false")], &options, "bucket").virtual_host);
        let theirs = site(&[("AWS_ENDPOINT_URL", "https://r2.example.com")], &options, "bucket");
        assert_eq!((&*theirs.endpoint, theirs.foreign), ("https://r2.example.com", true));
    }

    #[test]
    fn an_address_has_no_hosts_below_it() {
        for endpoint in ["http://127.0.0.1:9000", "http://[::1]:9000"] {
            let entries = [("aws_endpoint_url", endpoint), ("aws_s3_force_path_style", "false")];
            assert!(!site(&entries, &ObjectOptions::default(), "bucket").virtual_host, "{endpoint}");
        }
    }

    #[test]
    fn a_region_cannot_lead_to_another_host() {
        let entries = credentials(&[("aws_region", "evil.example/#")]);
        assert_eq!(Site::of(&entries, &ObjectOptions::default(), "b").unwrap_err().reason(), "CredentialInvalid");
    }

    #[test]
    fn the_client_does_not_cut_the_bucket_off_a_host_that_begins_like_it() {
        let entries = [("aws_endpoint_url", "https://minio.example.com/minio")];
        let site = site(&entries, &ObjectOptions::default(), "minio");
        assert_eq!(site.for_client(), "https://MINIO.EXAMPLE.COM/minio");
    }

    #[test]
    fn i8_what_is_the_processs_own_is_shown_to_no_endpoint_of_somebody_elses() {
        let keys = [("aws_access_key_id", "AK"), ("aws_secret_access_key", "SK")];
        let options =
            ObjectOptions { credentials: credentials(&keys), instance_credentials: true, ..Default::default() };
        let process = Process::new(&options).unwrap();
        let shows = |entries: &[(&str, &str)], foreign| {
            shown(&credentials(entries), &options, &process, foreign).unwrap().is_some()
        };
        assert!(shows(&[], false));
        assert!(!shows(&[], true));
        assert!(shows(&keys, true));
    }

    #[test]
    fn half_a_key_is_no_key_and_not_nobody_either() {
        for half in [("aws_access_key_id", "AK"), ("aws_secret_access_key", "SK"), ("aws_session_token", "T")] {
            assert_eq!(keys(&credentials(&[half])).unwrap_err().reason(), "CredentialInvalid", "{half:?}");
        }
        assert!(keys(&credentials(&[("aws_region", "x")])).unwrap().is_none());
    }
}
