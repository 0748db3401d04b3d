//! What a reference to an object store stands for.

use longshore_types::ArtifactUrl;

use crate::error::Error;

/// Endings of archives.
const ARCHIVES: [&str; 5] = [".tar.gz", ".tgz", ".tar", ".tar.zst", ".zip"];
/// Hosts of Azure's clouds: `<account>.blob.core.windows.net`.
const AZURE: [&str; 3] = [".blob.core.windows.net", ".blob.core.chinacloudapi.cn", ".blob.core.usgovcloudapi.net"];

/// A bucket, and what is meant in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// As it was written: `gs` and `gcs` are one store, and messages name what people have written.
    pub(super) scheme: String,
    /// The storage account that the reference itself names; only in Azure's.
    pub(super) account: Option<Host>,
    pub(super) bucket: String,
    /// The key of an archive, or the beginning of keys: then it is empty or ends with a slash.
    pub(super) key: String,
    pub(super) is_archive: bool,
}

/// Azure's host of a storage account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) account: String,
    pub(super) host: String,
}

impl Place {
    /// Reads `url`. Keys stand in it as they are, without percent-encoding.
    ///
    /// # Errors
    /// [`Error::ReferenceInvalid`].
    pub(super) fn parse(url: &ArtifactUrl) -> Result<Self, Error> {
        let invalid = |problem: &str| Error::ReferenceInvalid { url: url.clone(), problem: problem.to_owned() };
        let (scheme, rest) = url.as_written().split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
        if rest.contains(['?', '#']) {
            return Err(invalid("`?` and `#` have no meaning here; credentials go into a Secret"));
        }
        let (mut bucket, mut key) = rest.split_once('/').unwrap_or((rest, ""));
        let mut account = None;
        if scheme == "az" && bucket.contains('.') {
            let suffix = AZURE.iter().find_map(|suffix| bucket.strip_suffix(suffix));
            let name =
                suffix.ok_or_else(|| invalid("write it as az://container/prefix, with the account beside it"))?;
            account = Some(Host { account: name.to_owned(), host: bucket.to_owned() });
            (bucket, key) = key.split_once('/').unwrap_or((key, ""));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '$');
        if bucket.is_empty() || bucket.len() > 222 || !bucket.chars().all(fits) || bucket.chars().all(|c| c == '.') {
            return Err(invalid("behind the scheme stands a bucket: letters, digits, `.`, `-` and `_`"));
        }
        let name = key.strip_suffix('/').unwrap_or(key);
        // The client below folds empty parts, and URLs fold the others: it would be another key that is read.
        if !name.is_empty() && name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(invalid("no part of a key may be empty, `.` or `..`"));
        }
        if name.trim() != name {
            return Err(invalid("a key may not begin or end with white space"));
        }
        let lower = name.to_ascii_lowercase();
        let is_archive = name == key && ARCHIVES.iter().any(|ending| lower.ends_with(ending));
        let key = match is_archive || name.is_empty() {
            true => name.to_owned(),
            false => format!("{name}/"),
        };
        Ok(Self { scheme: scheme.to_owned(), account, bucket: bucket.to_owned(), key, is_archive })
    }

    /// A key as people know it.
    pub(super) fn shown(&self, key: &str) -> String {
        match &self.account {
            None => format!("{}://{}/{key}", self.scheme, self.bucket),
            Some(Host { host, .. }) => format!("{}://{host}/{}/{key}", self.scheme, self.bucket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Place, Error> {
        Place::parse(&text.parse().unwrap())
    }

    #[test]
    fn a_reference_is_a_prefix_or_one_archive() {
        for (text, bucket, key, is_archive) in [
            ("s3://bucket/prefix/", "bucket", "prefix/", false),
            ("s3://bucket/prefix", "bucket", "prefix/", false),
            ("s3://bucket", "bucket", "", false),
            ("s3://bucket/", "bucket", "", false),
            ("gs://my.bucket/a/b/c", "my.bucket", "a/b/c/", false),
            ("gcs://my_bucket/a@b/%2e", "my_bucket", "a@b/%2e/", false),
            ("s3://bucket/a/adapter.tar.gz", "bucket", "a/adapter.tar.gz", true),
            ("az://container/adapter.ZIP", "container", "adapter.ZIP", true),
            ("s3://bucket/v1.tar/", "bucket", "v1.tar/", false),
            ("az://$root/a", "$root", "a/", false),
        ] {
            let place = parse(text).unwrap();
            assert_eq!((&*place.bucket, &*place.key, place.is_archive), (bucket, key, is_archive), "{text}");
            assert!(place.account.is_none());
        }
    }

    #[test]
    fn an_azure_reference_may_name_its_account() {
        let place = parse("az://acct.blob.core.windows.net/container/a").unwrap();
        assert_eq!(place.account.as_ref().unwrap().account, "acct");
        assert_eq!((&*place.bucket, &*place.key), ("container", "a/"));
        assert_eq!(place.shown("a/x"), "az://acct.blob.core.windows.net/container/a/x");
        assert_eq!(parse("az://evil.example.com/container/a").unwrap_err().reason(), "ReferenceInvalid");
    }

    #[test]
    fn a_key_that_would_be_read_as_another_is_refused() {
        for bad in [
            "s3://bucket/../other/",
            "s3://bucket/a/../b",
            "s3://bucket/a//b/",
            "s3://bucket//a",
            "s3://bucket/./a",
            "s3://bucket/a\u{a0}",
            "s3://bucket/a?sig=hunter2",
            "s3://bucket/a#b",
            "s3://user:hunter2@bucket/a",
            "s3://../a",
            "s3://b%2fc/a",
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.reason(), "ReferenceInvalid", "{bad}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
