//! The sidecar's wire forms: what one engine should hold. JSON with camelCase names; fields are added, never renamed.
//!
//! `PUT /v1/desired` takes a [`DesiredSet`] and answers [`Accepted`], or 409 where an older leader speaks.

use std::collections::BTreeMap;
use std::fmt;

use longshore_types::ArtifactUrl;
use serde::{Deserialize, Serialize};

/// Where in the order of everything that leaders have said this stands. Of two, the greater was said later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stamp {
    /// When the Lease that they lead by was created, in seconds since 1970: one that is made anew counts from the start.
    pub lease_created: u64,
    /// How often it had changed hands.
    pub transitions: u64,
    /// What the leader itself counts up.
    pub revision: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.lease_created, self.transitions, self.revision)
    }
}

/// Everything that an engine should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DesiredSet {
    /// Who says so.
    pub stamp: Stamp,
    /// The namespace of the objects that declare them.
    pub namespace: String,
    /// The adapters, each name once.
    pub adapters: Vec<DesiredAdapter>,
}

/// One adapter that an engine should hold. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DesiredAdapter {
    /// Its name on the engine.
    pub name: String,
    /// Where its files come from, as its object has it.
    #[serde(rename = "artifactURL")]
    pub artifact_url: String,
    /// The digest that they must have, `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_digest: Option<String>,
    /// What the source is shown, under the names that the Secret has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, String>,
    /// The engine's bearer token for its own loads and unloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_api_key: Option<String>,
    /// Whether an adapter of this name that somebody else loaded is taken over.
    #[serde(default)]
    pub adopt: bool,
}

impl fmt::Debug for DesiredAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, artifact_url, artifact_digest, credentials, engine_api_key, adopt } = self;
        f.debug_struct("DesiredAdapter")
            .field("name", name)
            .field("artifact_url", &ArtifactUrl::new(artifact_url).map(|url| url.to_string()).unwrap_or_default())
            .field("artifact_digest", artifact_digest)
            .field("credentials", &credentials.keys())
            .field("engine_api_key", &engine_api_key.is_some())
            .field("adopt", adopt)
            .finish()
    }
}

/// The answer to a set that was taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// The stamp that is in force.
    pub stamp: Stamp,
    /// Whether it changed anything.
    pub changed: bool,
}

/// `GET /v1/desired`: what is in force, without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// The last stamp, null as long as no leader has spoken.
    pub stamp: Option<Stamp>,
    /// The adapters, by name.
    pub adapters: Vec<AdapterInForce>,
}

/// One adapter that is wanted now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdapterInForce {
    /// Namespace of what declares it.
    pub namespace: String,
    /// Its name on the engine.
    pub name: String,
    /// Where its files come from, without userinfo and query.
    #[serde(rename = "artifactURL")]
    pub artifact_url: String,
    /// The digest that they must have, null where any will do.
    pub artifact_digest: Option<String>,
    /// `leader`, `caller` (by one of the other systems' paths) or `record` (what was in force before a restart).
    pub declared_by: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_lease_a_new_leader_and_a_new_revision_each_come_later() {
        let stamp = |lease_created, transitions, revision| Stamp { lease_created, transitions, revision };
        let in_order = [stamp(1, 1, 9), stamp(1, 2, 0), stamp(1, 2, 1), stamp(2, 0, 0)];
        assert!(in_order.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn i8_a_desired_adapter_shows_no_secret() {
        let adapter = DesiredAdapter {
            name: "sql".into(),
            artifact_url: "https://user:hunter2@h/a.tgz?sig=hunter2".into(),
            credentials: [("token".to_owned(), "hunter2".to_owned())].into(),
            engine_api_key: Some("hunter2".into()),
            ..DesiredAdapter::default()
        };
        let shown = format!("{adapter:?}");
        assert!(shown.contains("token") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn the_smallest_set_is_read_and_a_field_that_nobody_knows_is_not() {
        let text = r#"{"stamp":{"leaseCreated":1,"transitions":0,"revision":1},"namespace":"default",
            "adapters":[{"name":"sql","artifactURL":"/srv/sql"}]}"#;
        let set: DesiredSet = serde_json::from_str(text).unwrap();
        assert_eq!(set.adapters[0].artifact_url, "/srv/sql");
        assert!(serde_json::from_str::<DesiredSet>(&text.replace("\"name\"", "\"nam\"")).is_err());
    }
}
