//! The API server's audit log: who asked for what, and what the answer was.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// `system:serviceaccount:NAMESPACE:NAME` for a pod, and so on.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `patch` and so on; an HTTP method in lower case for a path that is no resource.
    pub verb: String,
    /// The API group; empty for the core group and for paths that are no resource.
    pub group: String,
    /// The resource in the plural; empty for paths that are no resource.
    pub resource: String,
    /// Such as `status`; mostly empty.
    pub subresource: String,
    /// Empty for all namespaces and for objects that have none.
    pub namespace: String,
    /// The object's name; empty where there is none yet, and for many objects.
    pub name: String,
    /// The path and query.
    pub uri: String,
    /// HTTP status of the answer.
    pub code: u16,
    /// When the request came, in UTC, as in `2026-01-31T12:00:00.123456Z`.
    pub received: String,
}

impl AuditEntry {
    /// Whether it was made by this service account.
    pub fn is_by(&self, namespace: &str, account: &str) -> bool {
        self.user == format!("system:serviceaccount:{namespace}:{account}")
    }

    /// Whether it can change anything.
    pub fn is_write(&self) -> bool {
        !["get", "list", "watch", "head"].contains(&self.verb.as_str())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "auditID")]
    audit_id: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Object,
    response_status: Option<Status>,
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// Reads the log. A line that is being written is left for the next time.
pub(crate) fn read(path: &Path) -> Vec<AuditEntry> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text)
}

/// A long request has a line when it starts and one when it ends, of which the last counts.
fn parse(text: &str) -> Vec<AuditEntry> {
    let mut order = Vec::new();
    let mut entries = BTreeMap::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let line: Line = match serde_json::from_str(line) {
            Ok(line) => line,
            Err(error) => panic!("audit log: {error}: {line}"),
        };
        let object = line.object_ref;
        let entry = AuditEntry {
            user: line.user.username,
            verb: line.verb,
            group: object.api_group,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            uri: line.request_uri,
            code: line.response_status.map_or(0, |status| status.code),
            received: line.request_received_timestamp,
        };
        if entries.insert(line.audit_id.clone(), entry).is_none() {
            order.push(line.audit_id);
        }
    }
    order.iter().filter_map(|id| entries.remove(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_one_entry_and_half_a_line_is_none() {
        let line = |id: &str, verb: &str, code: u16| {
            format!(
                r#"{{"auditID":"{id}","requestURI":"/api/v1/pods","verb":"{verb}","user":{{"username":"u"}},"objectRef":{{"resource":"pods"}},"responseStatus":{{"code":{code}}},"requestReceivedTimestamp":"t"}}"#
            )
        };
        let text =
            format!("{}\n{}\n{}\n{}", line("1", "watch", 200), line("2", "list", 403), line("1", "watch", 200), "{");
        let seen: Vec<_> = parse(&text).into_iter().map(|entry| (entry.verb, entry.code)).collect();
        assert_eq!(seen, [("watch".to_owned(), 200), ("list".to_owned(), 403)]);
    }
}
