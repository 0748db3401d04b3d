//! Where something is, and what is shown to be let in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use longshore_types::{ArtifactUrl, Secret};

use crate::error::Error;

/// A reference, and the credentials that go with it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The reference.
    pub url: ArtifactUrl,
    /// What the source is shown, and nobody else.
    pub credentials: Credentials,
}

impl Origin {
    /// A reference that everybody may read.
    pub fn public(url: ArtifactUrl) -> Self {
        Self { url, credentials: Credentials::default() }
    }
}

/// Credentials under the names that a Kubernetes Secret has for them: `huggingface_token`, `aws_access_key_id`, ...
/// Names differ only by letters and digits: `AWS_ACCESS_KEY_ID` and `aws-access-key-id` are one. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(Arc<BTreeMap<String, (String, Secret)>>);

impl Credentials {
    /// Credentials with these names. An empty value is no value.
    pub fn new<N: AsRef<str>>(entries: impl IntoIterator<Item = (N, Secret)>) -> Self {
        let named = entries.into_iter().filter(|(_, value)| !value.expose().trim().is_empty());
        let entry = |(name, value): (N, Secret)| (folded(name.as_ref()), (name.as_ref().to_owned(), value));
        Self(Arc::new(named.map(entry).collect()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first that there is under one of `names`, without the line end that editors and `echo` leave behind.
    pub fn get(&self, names: &[&str]) -> Option<Secret> {
        let found = names.iter().find_map(|name| self.0.get(&folded(name)));
        found.map(|(_, secret)| Secret::new(secret.expose().trim()))
    }

    /// The same, where there have to be some once there are any.
    ///
    /// # Errors
    /// [`Error::CredentialMissing`], which names the first of `names`.
    pub fn need(&self, names: &[&str]) -> Result<Secret, Error> {
        self.get(names).ok_or_else(|| Error::CredentialMissing {
            name: names.first().copied().unwrap_or_default().to_owned(),
            present: self.0.values().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

fn folded(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The names alone (I8).
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.values().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_found_however_its_name_is_written() {
        let some = Credentials::new([("AWS_ACCESS_KEY_ID", Secret::new("AK\n")), ("empty", Secret::new(" \n"))]);
        assert_eq!(some.get(&["aws_access_key_id"]).unwrap().expose(), "AK");
        assert_eq!(some.get(&["x", "aws-access-key-id"]).unwrap().expose(), "AK");
        assert!(some.get(&["empty"]).is_none());
        let missing = some.need(&["aws_secret_access_key"]).unwrap_err();
        assert_eq!(missing.reason(), "CredentialInvalid");
        assert!(missing.to_string().contains("aws_secret_access_key"), "{missing}");
    }

    #[test]
    fn i8_credentials_show_their_names_only() {
        let some = Credentials::new([("huggingface_token", Secret::new("hf_hunter2"))]);
        assert_eq!(format!("{some:?}"), r#"{"huggingface_token"}"#);
    }
}
