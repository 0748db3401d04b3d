//! `oci://registry[:port]/repository[:tag][@sha256:digest]`.

use std::net::IpAddr;

use longshore_types::{ArtifactUrl, Digest};
use reqwest::Url;

use super::OciOptions;
use crate::error::Error;
use crate::http::reach::Reach;

/// The tag that is meant where none is written, as every client of registries has it.
const DEFAULT_TAG: &str = "latest";
/// How the distribution specification bounds a repository's name, the host's name included.
const LONGEST_NAME: usize = 255;
/// How it bounds a tag.
const LONGEST_TAG: usize = 128;
/// Docker Hub is known by a name at which it does not answer, and single names there are those of one organisation.
const HUB: (&str, &str, &str) = ("docker.io", "registry-1.docker.io", "library/");

/// What a reference names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// `registry:port` as it is written, in lower case: what credentials are listed under.
    pub(crate) registry: String,
    /// Where the registry answers, with `/` behind it.
    pub(crate) base: Url,
    /// The repository, which has no leading slash.
    pub(crate) repository: String,
    /// The digest, where one is written; the tag otherwise.
    pub(crate) version: Version,
    /// The whole, for messages.
    pub(crate) shown: String,
}

/// Which of a repository's manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// The one that the tag stands for now.
    Tag(String),
    /// This one for ever.
    Digest(Digest),
}

impl Version {
    fn as_path(&self) -> String {
        match self {
            Self::Tag(tag) => tag.clone(),
            Self::Digest(digest) => digest.to_string(),
        }
    }
}

impl Reference {
    /// Parses the reference. A registry is spoken to over https but for those that the process is set up to speak plain
    /// http with, and but for loopback addresses where private ones may be reached at all.
    ///
    /// # Errors
    /// [`Error::ReferenceInvalid`].
    pub(crate) fn parse(url: &ArtifactUrl, options: &OciOptions, reach: &Reach) -> Result<Self, Error> {
        let invalid = |problem: &str| Error::ReferenceInvalid { url: url.clone(), problem: problem.into() };
        let text = url.as_written().strip_prefix("oci://").ok_or_else(|| invalid("it begins with oci://"))?;
        if text.contains(['?', '#']) {
            return Err(invalid("a registry's artifacts have no query or fragment"));
        }
        let (authority, path) = text.split_once('/').ok_or_else(|| invalid("it names no repository"))?;
        if authority.contains('@') {
            return Err(invalid("credentials have no place in a reference: give them by a Secret"));
        }
        let (named, digest) = match path.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (path, None),
        };
        // Behind the host a colon can only begin a tag.
        let (repository, tag) = match named.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (named, None),
        };
        if !is_repository(repository) || authority.len() + repository.len() >= LONGEST_NAME {
            return Err(invalid("the repository is words of a-z, 0-9, `.`, `_` and `-`, with slashes between them"));
        }
        if !tag.is_none_or(is_tag) {
            return Err(invalid("a tag is up to 128 letters, digits, `.`, `_` and `-`, the first no `.` or `-`"));
        }
        let version = match digest {
            None => Version::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
            Some(digest) => {
                let digest = digest.parse();
                Version::Digest(digest.map_err(|_| invalid("a digest is `sha256:` and 64 digits of 0-9 and a-f"))?)
            }
        };
        let registry = authority.to_ascii_lowercase();
        let (host, repository) = match registry.as_str() {
            name if name == HUB.0 && !repository.contains('/') => (HUB.1, format!("{}{repository}", HUB.2)),
            name if name == HUB.0 => (HUB.1, repository.to_owned()),
            name => (name, repository.to_owned()),
        };
        let plain = |scheme: &str| {
            let plain = Url::parse(&format!("{scheme}://{host}/")).ok()?;
            (plain.host().is_some() && is_authority(host)).then_some(plain)
        };
        let over_http =
            plain("http").ok_or_else(|| invalid("the registry is a host, with `:port` where it needs one"))?;
        let base = if options.speaks_http(&over_http) || (reach.private && is_loopback(&over_http)) {
            Some(over_http)
        } else {
            plain("https")
        };
        let base = base.ok_or_else(|| invalid("the registry is a host, with `:port` where it needs one"))?;
        Ok(Self { registry, base, repository, version, shown: url.to_string() })
    }

    /// Where its manifest is.
    pub(crate) fn manifest(&self) -> Url {
        self.at("manifests", &self.version.as_path())
    }

    /// Where the manifest with this digest is, in the same repository.
    pub(crate) fn manifest_of(&self, digest: &Digest) -> Url {
        self.at("manifests", &digest.to_string())
    }

    /// Where a blob is.
    pub(crate) fn blob(&self, digest: &Digest) -> Url {
        self.at("blobs", &digest.to_string())
    }

    fn at(&self, kind: &str, name: &str) -> Url {
        let mut url = self.base.clone();
        // The parts were checked: none of them means anything else in a URL.
        url.set_path(&format!("/v2/{}/{kind}/{name}", self.repository));
        url
    }
}

/// Whether `text` is a repository's name: words with slashes between them; a word begins and ends with a letter or digit.
fn is_repository(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_word = |word: &str| {
        let parts: Vec<&str> = word.split(is_plain).filter(|part| !part.is_empty()).collect();
        word.starts_with(is_plain)
            && word.ends_with(is_plain)
            && parts.iter().all(|part| matches!(*part, "." | "_" | "__") || part.bytes().all(|b| b == b'-'))
    };
    text.split('/').all(is_word)
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= LONGEST_TAG && text.starts_with(is_word) && text.chars().all(|c| is_word(c) || c == '.' || c == '-')
}

/// A URL would take more than this for a host, and mean something else by it.
fn is_authority(text: &str) -> bool {
    let (host, address) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => ("", address),
        None => (text, ""),
    };
    host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))
        && address.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:5f2fe4e9f1262e27cd561ad7f21e3dd3639ef096b1ddc3c91b13dbfbb2a6f151";

    fn parse(text: &str) -> Result<Reference, Error> {
        let options = OciOptions { plain_http: ["Plain.Example:5000".into(), "bare.example:80".into()].into() };
        Reference::parse(&text.parse().unwrap(), &options, &Reach::default())
    }

    #[test]
    fn every_form_names_one_manifest() {
        for (text, manifest) in [
            ("oci://r.example/a", "https://r.example/v2/a/manifests/latest"),
            ("oci://r.example/a:1.0", "https://r.example/v2/a/manifests/1.0"),
            ("oci://r.example:5000/org/a_b/c-d:V1", "https://r.example:5000/v2/org/a_b/c-d/manifests/V1"),
            ("oci://plain.example:5000/a:1", "http://plain.example:5000/v2/a/manifests/1"),
            ("oci://plain.example:5001/a:1", "https://plain.example:5001/v2/a/manifests/1"),
            ("oci://bare.example/a:1", "http://bare.example/v2/a/manifests/1"),
            ("oci://[2001:db8::1]:5000/a:1", "https://[2001:db8::1]:5000/v2/a/manifests/1"),
            ("oci://docker.io/a:1", "https://registry-1.docker.io/v2/library/a/manifests/1"),
            ("oci://docker.io/org/a:1", "https://registry-1.docker.io/v2/org/a/manifests/1"),
        ] {
            assert_eq!(parse(text).unwrap().manifest().as_str(), manifest, "{text}");
        }
    }

    #[test]
    fn a_digest_decides_over_a_tag() {
        for text in [format!("oci://r.example/a@{DIGEST}"), format!("oci://r.example/a:1@{DIGEST}")] {
            let reference = parse(&text).unwrap();
            assert_eq!(reference.version, Version::Digest(DIGEST.parse().unwrap()));
            assert_eq!(reference.manifest().path(), format!("/v2/a/manifests/{DIGEST}"));
            assert_eq!(reference.shown, text);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_and_shows_no_secret() {
        let long = format!("oci://r.example/{}", "a".repeat(255));
        let tag = format!("oci://r.example/a:{}", "a".repeat(129));
        for bad in [
            "oci://r.example",
            "oci://r.example/",
            "oci://r.example/A",
            "oci://r.example/a//b",
            "oci://r.example/../b",
            "oci://r.example/a/../b",
            "oci://r.example/-a",
            "oci://r.example/a..b",
            "oci://r.example/a%2fb",
            "oci://r.example/a:",
            "oci://r.example/a:-1",
            "oci://r.example/a:1:2",
            "oci://r.example/a:x/y",
            "oci://r.example/a@sha256:abc",
            "oci://r.example/a@sha512:abc",
            "oci://r.example/a@",
            "oci://r.example/a?x=hunter2",
            "oci://user:hunter2@r.example/a",
            "oci://r.example:99999/a",
            "oci://r.example:x/a",
            "oci://[::1/a",
            "oci://r\\example/a",
            "oci://r%41.example/a",
            &long,
            &tag,
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.reason(), "ReferenceInvalid", "{bad}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn loopback_speaks_http_only_where_private_addresses_are_reached() {
        for loopback in ["oci://localhost:5000/a", "oci://127.0.0.2/a", "oci://[::1]:5000/a"] {
            let scheme = |private| {
                let reach = Reach { private, ..Reach::default() };
                let parsed = Reference::parse(&loopback.parse().unwrap(), &OciOptions::default(), &reach);
                parsed.unwrap().base.scheme().to_owned()
            };
            assert_eq!((scheme(false).as_str(), scheme(true).as_str()), ("https", "http"), "{loopback}");
        }
    }
}
