//! How object stores are set up for a process.

use std::path::PathBuf;

use reqwest::Url;

use crate::error::Error;
use crate::origin::Credentials;

/// Where object stores are, and who this process is to them, where neither a reference nor its credentials say. By default
/// they are the public clouds, and whoever shows no credentials is nobody.
#[derive(Clone, Debug, Default)]
pub struct ObjectOptions {
    /// `s3://`.
    pub s3: S3Options,
    /// `gs://` and `gcs://`.
    pub gcs: GcsOptions,
    /// `az://`.
    pub azure: AzureOptions,
    /// What is shown where a fetch comes without credentials for its store, under the names that a Secret has for them.
    pub credentials: Credentials,
    /// Whether the machine's own identity is asked for at its cloud's metadata service where there is no other one. Whoever
    /// may declare an adapter then reads what the machine may read.
    pub instance_credentials: bool,
}

/// Amazon S3, or what speaks its protocol.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// Such as `https://minio.storage.svc:9000`; Amazon's for the region, where there is none. It may be at a private address.
    pub endpoint: Option<String>,
    /// Such as `eu-west-1`. Amazon's first one (`us-east-1`) where there is none, which other makers take too.
    pub region: Option<String>,
    /// Whether the bucket stands in the path and not in the host's name; by default only at an `endpoint`.
    pub path_style: Option<bool>,
    /// A role that this process may take.
    pub web_identity: Option<WebIdentity>,
}

/// A role that is taken with a token of the cluster's (IRSA).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentity {
    /// Such as `arn:aws:iam::123456789012:role/adapters`.
    pub role_arn: String,
    /// The file with the token, which is read again whenever a session ends.
    pub token_file: PathBuf,
    /// The service that gives out sessions, where it is not Amazon's for the region. It may be at a private address.
    pub sts_endpoint: Option<String>,
}

/// Google Cloud Storage.
#[derive(Clone, Debug, Default)]
pub struct GcsOptions {
    /// Such as `http://127.0.0.1:4443`; Google's, where there is none. It may be at a private address.
    pub endpoint: Option<String>,
}

/// Azure Blob Storage.
#[derive(Clone, Debug, Default)]
pub struct AzureOptions {
    /// The storage account of references that name none.
    pub account: Option<String>,
    /// Such as `http://127.0.0.1:10000/account`; Azure's for the account, where there is none. It may be at a private address.
    pub endpoint: Option<String>,
}

/// An endpoint as somebody has written it. `name` is what it was given as.
///
/// # Errors
/// [`Error::CredentialInvalid`], which does not show it: there may be a password in it.
pub(super) fn endpoint(name: &str, text: &str) -> Result<Url, Error> {
    let invalid = |problem: &str| Error::CredentialInvalid { name: name.to_owned(), problem: problem.to_owned() };
    let text = text.trim();
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&text).map_err(|_| invalid("is no URL: write it as https://host:port"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("has to begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("holds more than host, port and path"));
    }
    let mut bare = url.clone();
    bare.set_path(url.path().trim_end_matches('/'));
    Ok(bare)
}

/// A name that becomes part of a host's name.
///
/// # Errors
/// [`Error::CredentialInvalid`] where more could be meant by it.
pub(super) fn label(name: &str, text: &str) -> Result<String, Error> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > 63 || !text.chars().all(fits) || text.starts_with('-') || text.ends_with('-') {
        let problem = "is not made of 1 to 63 lower-case letters, digits and hyphens".to_owned();
        return Err(Error::CredentialInvalid { name: name.to_owned(), problem });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_nothing_that_is_secret() {
        for (text, url) in [
            ("https://s3.example.com/", "https://s3.example.com/"),
            ("minio:9000", "https://minio:9000/"),
            ("http://127.0.0.1:10000/account", "http://127.0.0.1:10000/account"),
        ] {
            assert_eq!(endpoint("e", text).unwrap().as_str(), url);
        }
        for bad in
            ["ftp://x", "http://", "https://hunter2@x", "https://x/?sig=hunter2", "https://x/#hunter2", "file:///"]
        {
            let error = endpoint("aws_endpoint_url", bad).unwrap_err();
            assert_eq!(error.reason(), "CredentialInvalid", "{bad}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn what_becomes_part_of_a_host_cannot_lead_to_another() {
        assert_eq!(label("aws_region", "eu-west-1").unwrap(), "eu-west-1");
        for bad in ["", "x.evil.example/#", "evil.example", "a/b", "A", "-a", "a-", "a@b", "a:1"] {
            assert!(label("aws_region", bad).is_err(), "{bad}");
        }
    }
}
