//! Where an adapter's files come from.

use std::borrow::Cow;
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
        let invalid = |rule| Err(Invalid::new("artifactURL", &without_secrets(text), rule));
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
        f.write_str(&without_secrets(&self.text))
    }
}

impl fmt::Debug for ArtifactUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text without userinfo, query and fragment, whether it is a reference or only meant to be one.
fn without_secrets(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| *scheme != "file") else {
        return text.into();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A repository without an owner has its revision here: `hf://gpt2@main`. It has no path then.
    let is_revision = matches!(scheme, "huggingface" | "hf") && path.is_empty();
    match authority.rsplit_once('@') {
        Some((_, host)) if !is_revision => format!("{scheme}://{host}{path}").into(),
        // No port: userinfo with a `/`, `?` or `#` in it that was not escaped, which then ends the authority too early.
        _ if authority.rsplit_once(':').is_some_and(|(host, port)| !is_port(port) && !host.starts_with('[')) => {
            format!("{scheme}://…").into()
        }
        _ => format!("{scheme}://{authority}{path}").into(),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
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
    }

    #[test]
    fn i8_secrets_are_not_shown_where_they_do_not_belong_either() {
        for (text, shown) in [
            ("hf://user:pass@org/repo@main", "hf://org/repo@main"),
            ("https://user:pa/ss@example.com/a", "https://…"),
            ("https://user:pa?ss@example.com/a", "https://…"),
            ("s3://key:se#cret@bucket/a", "s3://…"),
            ("https://example.com:8443/a@b", "https://example.com:8443/a@b"),
            ("https://[::1]/a", "https://[::1]/a"),
            ("oci://registry:5000/x@sha256:ab", "oci://registry:5000/x@sha256:ab"),
        ] {
            assert_eq!(ArtifactUrl::new(text).unwrap().to_string(), shown);
        }
        for bad in
            ["https://user:pass@example.com/a b?sig=pass", "ftp://user:pass@example.com/", "s3://user:pass@?pass\n"]
        {
            let error = ArtifactUrl::new(bad).unwrap_err();
            assert!(!error.to_string().contains("pass"), "{error}");
        }
    }

    #[test]
    fn a_revision_is_kept() {
        assert_eq!(ArtifactUrl::new("hf://gpt2@main").unwrap().to_string(), "hf://gpt2@main");
        assert_eq!(ArtifactUrl::new("hf://org/repo@v1.0").unwrap().to_string(), "hf://org/repo@v1.0");
    }
}
