//! Who we are to a registry.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_types::Secret;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::reference::Reference;
use crate::error::Error;
use crate::origin::Credentials;

/// The name of a Docker configuration in a Secret of the type `kubernetes.io/dockerconfigjson`.
const DOCKER: &str = ".dockerconfigjson";

/// Who we are to a registry. Its `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Identity {
    /// Nobody: there are no credentials, or none for this registry.
    Nobody {
        /// Whether there is a Docker configuration, but without the registry.
        unlisted: bool,
    },
    /// A user with a password.
    User(Secret, Secret),
    /// Whoever holds this token, which the registry takes as it is.
    Holder(Secret),
}

impl Identity {
    /// Who `credentials` make us at the registry of `reference`: `username` and `password`, or `token`, or the entry of
    /// the registry in `.dockerconfigjson`, in this order.
    ///
    /// # Errors
    /// [`Error::CredentialMissing`], [`Error::CredentialInvalid`].
    pub(crate) fn of(credentials: &Credentials, reference: &Reference) -> Result<Self, Error> {
        if credentials.is_empty() {
            return Ok(Self::Nobody { unlisted: false });
        }
        if credentials.get(&["username", "password"]).is_none() {
            if let Some(token) = credentials.get(&["token", "registry_token", "bearer_token"]) {
                return Ok(Self::Holder(token));
            }
            if let Some(config) = credentials.get(&[DOCKER]) {
                let entry = entry_for(&config, &reference.registry, &reference.repository)?;
                return Ok(entry.unwrap_or(Self::Nobody { unlisted: true }));
            }
        }
        user(credentials.need(&["username"])?, credentials.need(&["password"])?, "username")
    }

    /// The header of a user.
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        let Self::User(name, password) = self else { return None };
        let pair = STANDARD.encode(format!("{}:{}", name.expose(), password.expose()));
        sensitive(&format!("Basic {pair}"))
    }
}

/// A header with `text`, which logs of the client leave out.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn invalid(name: &str, problem: impl Into<String>) -> Error {
    Error::CredentialInvalid { name: name.to_owned(), problem: problem.into() }
}

fn user(name: Secret, password: Secret, called: &str) -> Result<Identity, Error> {
    if name.expose().contains(':') {
        return Err(invalid(called, "has a colon in the user's name, which registries take for its end"));
    }
    Ok(Identity::User(name, password))
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    /// `username:password` in Base64.
    auth: Option<String>,
    /// A token that the registry takes as it is.
    registrytoken: Option<String>,
    /// A token to get tokens for, by a form of its own.
    identitytoken: Option<String>,
}

/// Who the Docker configuration makes us at a registry. As with the kubelet, a host may have `*` for a label or a part of
/// one and a path in front of the repository; the longest entry that fits wins.
fn entry_for(config: &Secret, registry: &str, repository: &str) -> Result<Option<Identity>, Error> {
    let parsed = serde_json::from_str(config.expose());
    // The parser's own words cite what it reads.
    let DockerConfig { auths } = parsed.map_err(|error: serde_json::Error| {
        let at = format!("line {} column {}", error.line(), error.column());
        invalid(DOCKER, format!("is not the JSON of a Docker configuration with `auths`, at {at}"))
    })?;
    let fitting = auths.into_iter().filter(|(key, _)| fits(key, registry, repository));
    let Some((_, entry)) = fitting.max_by_key(|(key, _)| (!key.contains('*'), key.len())) else { return Ok(None) };
    let some = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let Entry { username, password, auth, registrytoken, identitytoken } = entry;
    if let (Some(name), Some(password)) = (some(username), some(password)) {
        return user(Secret::new(name), Secret::new(password), DOCKER).map(Some);
    }
    if let Some(token) = some(registrytoken) {
        return Ok(Some(Identity::Holder(Secret::new(token))));
    }
    if some(identitytoken).is_some() {
        let problem =
            format!("has an identitytoken for {registry}, which only Docker uses: give a user and a password");
        return Err(invalid(DOCKER, problem));
    }
    let pair = some(auth).and_then(|auth| STANDARD.decode(auth).ok()).and_then(|pair| String::from_utf8(pair).ok());
    let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
    let problem = || format!("has neither username and password nor a readable auth for {registry}");
    let (name, password) = pair.ok_or_else(|| invalid(DOCKER, problem()))?;
    user(Secret::new(name), Secret::new(password.trim_end_matches('\0')), DOCKER).map(Some)
}

/// Whether an entry's name, such as `registry.example`, `https://registry.example/v1/` or `*.example/team`, is for a
/// repository of a registry.
fn fits(key: &str, registry: &str, repository: &str) -> bool {
    let key = key.trim();
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = path.trim_end_matches('/');
    let (host, port) = parts(host);
    let (registry_host, registry_port) = parts(registry);
    let is_below =
        |path: &str| repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    port == registry_port
        && labels_fit(alias(&host.to_ascii_lowercase()), alias(registry_host))
        && (matches!(path, "" | "v1" | "v2") || is_below(path))
}

/// Docker Hub's entry has the name that its first registry had.
fn alias(host: &str) -> &str {
    if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host }
}

fn parts(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port).filter(|port| *port != "443")),
        _ => (authority, None),
    }
}

/// A star stands for any characters of one label.
fn labels_fit(pattern: &str, host: &str) -> bool {
    let (patterns, labels): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    patterns.len() == labels.len() && patterns.iter().zip(&labels).all(|(pattern, label)| label_fits(pattern, label))
}

fn label_fits(pattern: &str, label: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == label };
    let Some(label) = label.strip_prefix(start) else { return false };
    // One star is as much as a name needs; more than one fits nothing.
    !rest.contains('*') && label.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reach::Reach;
    use crate::source::oci::OciOptions;

    fn identity(entries: &[(&str, &str)], url: &str) -> Result<Identity, Error> {
        let credentials = Credentials::new(entries.iter().map(|(name, value)| (*name, Secret::new(value))));
        let reference = Reference::parse(&url.parse().unwrap(), &OciOptions::default(), &Reach::default()).unwrap();
        Identity::of(&credentials, &reference)
    }

    fn user(name: &str, password: &str) -> Identity {
        Identity::User(Secret::new(name), Secret::new(password))
    }

    #[test]
    fn credentials_are_taken_under_each_of_their_names() {
        let at = "oci://r.example/org/a";
        assert_eq!(identity(&[], at).unwrap(), Identity::Nobody { unlisted: false });
        assert_eq!(identity(&[("username", "u"), ("password", "p\n")], at).unwrap(), user("u", "p"));
        assert_eq!(identity(&[("token", "t")], at).unwrap(), Identity::Holder(Secret::new("t")));
        let config = r#"{"auths":{"r.example":{"auth":"dTpwOnE="}}}"#;
        assert_eq!(identity(&[(".dockerconfigjson", config)], at).unwrap(), user("u", "p:q"));
        assert_eq!(identity(&[("username", "u")], at).unwrap_err().reason(), "CredentialInvalid");
        assert_eq!(identity(&[("aws_access_key_id", "u")], at).unwrap_err().reason(), "CredentialInvalid");
        assert_eq!(identity(&[("username", "a:b"), ("password", "p")], at).unwrap_err().reason(), "CredentialInvalid");
        assert_eq!(user("u", "p").basic().unwrap(), "Basic dTpw");
    }

    #[test]
    fn a_docker_configuration_is_for_the_registries_that_it_lists() {
        let config = |key: &str| format!(r#"{{"auths":{{"{key}":{{"username":"u","password":"p"}}}}}}"#);
        for (key, url, listed) in [
            ("r.example", "oci://r.example/a", true),
            ("https://r.example/v2/", "oci://r.example/a", true),
            ("r.example:5000", "oci://r.example:5000/a", true),
            ("r.example:443", "oci://r.example/a", true),
            ("R.Example", "oci://r.example/a", true),
            ("r.example/org", "oci://r.example/org/a", true),
            ("*.example", "oci://r.example/a", true),
            ("123.*.example", "oci://123.west-1.example/a", true),
            ("https://index.docker.io/v1/", "oci://docker.io/org/a", true),
            ("r.example", "oci://r.example:5000/a", false),
            ("r.example:5000", "oci://r.example/a", false),
            ("r.example/org", "oci://r.example/organisation/a", false),
            ("r.example", "oci://x.r.example/a", false),
            ("r.example", "oci://r.example.evil/a", false),
            ("*.example", "oci://a.b.example/a", false),
            ("*", "oci://r.example/a", false),
        ] {
            let found = identity(&[(".dockerconfigjson", &config(key))], url).unwrap();
            let expected = if listed { user("u", "p") } else { Identity::Nobody { unlisted: true } };
            assert_eq!(found, expected, "{key} for {url}");
        }
    }

    #[test]
    fn the_closest_entry_wins() {
        let config = r#"{"auths":{"*.example":{"username":"star","password":"p"},"r.example":{"username":"host","password":"p"},
                         "r.example/org":{"username":"path","password":"p"}}}"#;
        let name = |url| identity(&[(".dockerconfigjson", config)], url).unwrap();
        assert_eq!(name("oci://r.example/org/a"), user("path", "p"));
        assert_eq!(name("oci://r.example/b"), user("host", "p"));
        assert_eq!(name("oci://s.example/b"), user("star", "p"));
    }

    #[test]
    fn i8_a_broken_docker_configuration_is_refused_without_being_shown() {
        for broken in [
            "hunter2",
            r#"{"auths":"hunter2"}"#,
            r#"{"auths":{"r.example":{"auth":"hunter2"}}}"#,
            r#"{"auths":{"r.example":{"identitytoken":"hunter2"}}}"#,
            r#"{"auths":{"r.example":{"username":["hunter2"]}}}"#,
            r#"{"hunter2":{}}"#,
        ] {
            let error = identity(&[(".dockerconfigjson", broken)], "oci://r.example/a").unwrap_err();
            assert_eq!(error.reason(), "CredentialInvalid", "{broken}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let shown = format!("{:?}", [user("hunter2", "hunter2"), Identity::Holder(Secret::new("hunter2"))]);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
