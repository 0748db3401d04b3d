//! Where an adapter's files come from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::Invalid;

/// The kinds of place that adapters are fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `huggingface://` or `hf://`.
    HuggingFace,
    /// `s3://`.
    S3,
    /// `gs://` or `gcs://`.
    Gcs,
    /// `az://`.
    Azure,
    /// `http://` or `https://`.
    Http,
    /// `oci://`.
    Oci,
    /// An absolute path, or `file://` with one.
    File,
    /// A path relative to the manifest that names it; only in manifests read from files.
    Relative,
}

/// A reference to an adapter's files, as a manifest writes it.
///
/// `Display` and `Debug` leave out userinfo and query, which may hold secrets (I8); [`ArtifactUrl::as_written`] has all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactUrl {
    scheme: Scheme,
    text: Arc<str>,
}

/// What a reference may look like, for messages.
const FORMS: &str = "expected huggingface://, hf://, s3://, gs://, gcs://, az://, http://, https://, oci://, file:///path, \
                     an absolute path, or in a manifest file a path relative to it";

impl ArtifactUrl {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`Invalid`] for an unknown scheme, nothing behind the scheme, control characters, or over 2,048 bytes.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
        let text = text.as_ref();
        let invalid = |rule| Err(Invalid::new("artifactURL", text, rule));
        if text.is_empty() || text.len() > 2048 || text.chars().any(|c| c.is_control() || c == ' ') {
            return invalid("1 to 2,048 characters without spaces or control characters");
        }
        let scheme = match text.split_once("://") {
            Some((scheme, rest)) => {
                let known = match scheme {
                    "huggingface" | "hf" => Scheme::HuggingFace,
                    "s3" => Scheme::S3,
                    "gs" | "gcs" => Scheme::Gcs,
                    "az" => Scheme::Azure,
                    "http" | "https" => Scheme::Http,
                    "oci" => Scheme::Oci,
                    "file" => Scheme::File,
                    _ => return invalid(FORMS),
                };
                if rest.trim_matches('/').is_empty() {
                    return invalid("nothing follows the scheme");
                }
                if known == Scheme::File && !rest.starts_with('/') {
                    return invalid("file:// takes an absolute path: file:///path/to/adapter");
                }
                known
            }
            None if text.starts_with('/') => Scheme::File,
            None if text.starts_with('~') => return invalid("`~` is not expanded: write the absolute path"),
            None => Scheme::Relative,
        };
        Ok(Self { scheme, text: Arc::from(text) })
    }

    /// The kind of place.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The text exactly as written, secrets included.
    pub fn as_written(&self) -> &str {
        &self.text
    }

    /// The path of an absolute or relative path or a `file://` reference.
    pub fn path(&self) -> Option<&str> {
        match self.scheme {
            Scheme::File | Scheme::Relative => Some(self.text.strip_prefix("file://").unwrap_or(&self.text)),
            _ => None,
        }
    }
}

impl FromStr for ArtifactUrl {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

impl fmt::Display for ArtifactUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.text.split_once("://") else {
            return f.write_str(&self.text);
        };
        if self.scheme == Scheme::File {
            return f.write_str(&self.text);
        }
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // A revision stands behind an `@` too, but in the path; only what is before the host is userinfo.
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        write!(f, "{scheme}://{host}{path}")
    }
}

impl fmt::Debug for ArtifactUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_recognised() {
        for (text, scheme) in [
            ("huggingface://org/repo@main", Scheme::HuggingFace),
            ("hf://org/repo", Scheme::HuggingFace),
            ("s3://bucket/prefix/", Scheme::S3),
            ("gs://b/p", Scheme::Gcs),
            ("gcs://b/p", Scheme::Gcs),
            ("az://c/p", Scheme::Azure),
            ("https://example.com/a.tar.gz", Scheme::Http),
            ("oci://registry/x:1", Scheme::Oci),
            ("file:///srv/a", Scheme::File),
            ("/srv/a", Scheme::File),
            ("adapters/a", Scheme::Relative),
            ("./a", Scheme::Relative),
        ] {
            assert_eq!(ArtifactUrl::new(text).unwrap().scheme(), scheme, "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in ["", "ftp://x/y", "s3://", "file://relative", "a b", "~/a", "hf:///", "x\ny"] {
            assert!(ArtifactUrl::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn i8_userinfo_and_query_are_never_shown() {
        let url = ArtifactUrl::new("https://user:pass@example.com/a.tgz?X-Amz-Signature=abc#frag").unwrap();
        assert_eq!(url.to_string(), "https://example.com/a.tgz");
        assert_eq!(format!("{url:?}"), "https://example.com/a.tgz");
        assert!(url.as_written().contains("pass"));
        assert_eq!(ArtifactUrl::new("hf://user:pass@org/repo@v1").unwrap().to_string(), "hf://org/repo@v1");
    }

    #[test]
    fn a_revision_is_kept() {
        assert_eq!(ArtifactUrl::new("hf://org/repo@v1.0").unwrap().to_string(), "hf://org/repo@v1.0");
    }
}
