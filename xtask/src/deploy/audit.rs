//! Whether what is granted is what is used: the table of [`rbac`](mod@super::rbac) against an API server's audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::rbac::{Account, GRANTS};

/// A verb on a resource, such as `patch` on `modeladapters/status` of `model.aibrix.ai`.
type Use = (Account, String, String, String);

/// What the accounts of [`Account`] asked for, in whatever namespace they live.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    used: BTreeSet<Use>,
    /// What was refused, how often.
    refused: BTreeMap<String, u64>,
    /// What was refused at one time and allowed at another on the same server, how often.
    untimely: BTreeMap<String, u64>,
    /// The same of the server whose log is being read.
    open: Log,
    requests: u64,
}

/// What one server said, in words.
#[derive(Clone, Debug, Default)]
struct Log {
    refused: BTreeMap<String, u64>,
    allowed: BTreeSet<String>,
}

/// One line of the log, as far as it matters: `audit.k8s.io/v1`, `Event`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(default)]
    stage: String,
    #[serde(default, rename = "requestURI")]
    request_uri: String,
    user: User,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    api_group: String,
    namespace: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
    message: String,
}

/// What [`Audit`] comes to. Shown as lines for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many requests of the two accounts were seen.
    pub requests: u64,
    /// Verbs that are granted and were never used.
    pub unused: Vec<String>,
    /// Requests that were refused, and how often.
    pub refused: Vec<(String, u64)>,
    /// Requests that were refused and, at another time, allowed: a server takes some milliseconds to learn of a grant, and one
    /// is taken back while who had it still ends.
    pub untimely: Vec<(String, u64)>,
}

impl Audit {
    /// Reads one line. Lines of others, and empty ones, count for nothing.
    ///
    /// # Errors
    /// Where the line is no audit event.
    pub fn read(&mut self, line: &str) -> Result<()> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let event: Event = serde_json::from_str(line).context("not an audit event")?;
        let Some(account) = account(&event.user.username) else { return Ok(()) };
        // A watch is told twice, at its start and at its end; any other request at its end only.
        if event.stage == "RequestReceived" || (event.stage == "ResponseStarted" && event.verb != "watch") {
            return Ok(());
        }
        if event.stage != "ResponseStarted" {
            self.requests += 1;
        }
        if event.is_refused() {
            *self.open.refused.entry(event.in_words(account)).or_default() += 1;
            return Ok(());
        }
        self.open.allowed.insert(event.in_words(account));
        let Some(object) = &event.object_ref else { return Ok(()) };
        let resource = object.resource();
        let mut use_of =
            |verb: &str| self.used.insert((account, object.api_group.clone(), resource.clone(), verb.into()));
        use_of(&event.verb);
        // A server-side apply that makes the object is checked for both verbs.
        if event.verb == "patch" && event.code() == 201 {
            use_of("create");
        }
        Ok(())
    }

    /// The log of one server is at its end: what comes next is another's, which may grant other things.
    pub fn end(&mut self) {
        let Log { refused, allowed } = std::mem::take(&mut self.open);
        for (what, count) in refused {
            let into = if allowed.contains(&what) { &mut self.untimely } else { &mut self.refused };
            *into.entry(what).or_default() += count;
        }
    }

    /// What it comes to.
    pub fn report(mut self) -> Report {
        self.end();
        let mut unused = BTreeSet::new();
        for grant in GRANTS {
            for verb in grant.verbs {
                let wanted = (grant.account, grant.group.to_owned(), grant.resource.to_owned(), (*verb).to_owned());
                if !self.used.contains(&wanted) {
                    unused.insert(format!("{} may {verb} {}", grant.account, kind(grant.resource, grant.group)));
                }
            }
        }
        let (refused, untimely) = (self.refused.into_iter().collect(), self.untimely.into_iter().collect());
        Report { requests: self.requests, unused: unused.into_iter().collect(), refused, untimely }
    }
}

impl Report {
    /// Whether every granted verb was used and nothing was refused.
    pub fn is_clean(&self) -> bool {
        self.unused.is_empty() && self.refused.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in &self.unused {
            writeln!(f, "never used: {what}")?;
        }
        for (what, count) in &self.refused {
            writeln!(f, "refused {count} times: {what}")?;
        }
        for (what, count) in &self.untimely {
            writeln!(f, "refused {count} times while its grant was not in force, allowed at another: {what}")?;
        }
        let (unused, refused) = (self.unused.len(), self.refused.len());
        writeln!(f, "{} requests, {unused} granted verbs unused, {refused} kinds of request refused", self.requests)
    }
}

impl Event {
    fn code(&self) -> u16 {
        self.response_status.as_ref().map_or(0, |status| status.code)
    }

    /// Whether the authorizer said no. Other parts of the server answer 403 too: a namespace that ends, a quota, a security
    /// level. What tells them apart is the authorizer's annotation, and, for an apply that would have created the object,
    /// where that speaks of the patch alone, the form of the message.
    fn is_refused(&self) -> bool {
        match self.annotations.get("authorization.k8s.io/decision").map(String::as_str) {
            Some("forbid") => true,
            Some("allow") => {
                let message = self.response_status.as_ref().map_or("", |status| &status.message);
                self.code() == 403 && message.contains("User \"") && message.contains(" cannot ")
            }
            _ => self.code() == 403,
        }
    }

    fn in_words(&self, account: Account) -> String {
        let Some(object) = &self.object_ref else { return format!("{account}: {} {}", self.verb, self.request_uri) };
        let mut text = format!("{account}: {} {}", self.verb, kind(&object.resource(), &object.api_group));
        if !object.name.is_empty() {
            text.push_str(&format!(" {}", object.name));
        }
        if !object.namespace.is_empty() {
            text.push_str(&format!(" in {}", object.namespace));
        }
        text
    }
}

impl ObjectRef {
    fn resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// `resource.group`, as kubectl has it.
fn kind(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// Whose request it is, by `system:serviceaccount:NAMESPACE:NAME`.
fn account(username: &str) -> Option<Account> {
    let (_, name) = username.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    Account::ALL.into_iter().find(|account| account.name() == name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CONTROLLER: &str = "system:serviceaccount:longshore-system:longshore-controller";

    fn event(user: &str, verb: &str, group: &str, resource: &str, code: u16) -> Value {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "stage": "ResponseComplete", "verb": verb,
            "requestURI": "/apis", "user": {"username": user},
            "objectRef": {"resource": resource, "subresource": subresource, "apiGroup": group, "namespace": "team-a", "name": "sql"},
            "responseStatus": {"code": code},
            "annotations": {"authorization.k8s.io/decision": if code == 403 { "forbid" } else { "allow" }},
        })
    }

    fn audit(events: impl IntoIterator<Item = Value>) -> Audit {
        let mut audit = Audit::default();
        for event in events {
            audit.read(&event.to_string()).unwrap();
        }
        audit
    }

    fn all_used() -> Vec<Value> {
        let user = |account: Account| format!("system:serviceaccount:somewhere:{account}");
        let each = |grant: &super::super::rbac::Grant| {
            let (account, group, resource) = (grant.account, grant.group, grant.resource);
            grant.verbs.iter().map(move |verb| event(&user(account), verb, group, resource, 200)).collect::<Vec<_>>()
        };
        GRANTS.iter().flat_map(each).collect()
    }

    #[test]
    fn a_run_that_uses_every_verb_is_clean() {
        let report = audit(all_used()).report();
        assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn a_granted_verb_that_nobody_used_is_named() {
        let used = all_used().into_iter().filter(|event| event["objectRef"]["resource"] != "secrets");
        let report = audit(used).report();
        assert_eq!(report.unused, ["longshore-controller may get secrets"]);
        assert!(report.to_string().starts_with("never used: longshore-controller may get secrets\n"), "{report}");
    }

    #[test]
    fn a_refused_request_is_named_and_counts_as_no_use() {
        // Nobody may list them.
        let refused = || event(CONTROLLER, "list", "", "secrets", 403);
        let report = audit(all_used().into_iter().chain([refused(), refused()])).report();
        assert_eq!(report.refused, [("longshore-controller: list secrets sql in team-a".to_owned(), 2)]);
        assert!(!report.is_clean());
        assert!(audit([refused()]).used.is_empty());
    }

    #[test]
    fn a_request_that_came_before_its_grant_was_in_force_is_named_and_no_fault() {
        let early = event(CONTROLLER, "get", "", "secrets", 403);
        let report = audit([early.clone()].into_iter().chain(all_used())).report();
        assert!(report.is_clean() && report.untimely.len() == 1, "{report}");
        let mut elsewhere = early.clone();
        elsewhere["objectRef"]["namespace"] = "team-b".into();
        let report = audit([elsewhere].into_iter().chain(all_used())).report();
        assert_eq!((report.refused.len(), report.untimely.len()), (1, 0), "{report}");
        let mut two = audit([early]);
        two.end();
        all_used().iter().for_each(|event| two.read(&event.to_string()).unwrap());
        assert_eq!(two.report().refused.len(), 1, "another server's grants are none of this one's");
    }

    #[test]
    fn an_apply_that_made_the_object_used_both_verbs() {
        let made = audit([event(CONTROLLER, "patch", "", "services", 201)]);
        let verbs: Vec<_> = made.used.iter().map(|(_, _, _, verb)| verb.as_str()).collect();
        assert_eq!(verbs, ["create", "patch"]);
        assert_eq!(audit([event(CONTROLLER, "patch", "", "services", 200)]).used.len(), 1);
    }

    #[test]
    fn subresources_are_told_apart() {
        let status = audit([event(CONTROLLER, "patch", "model.aibrix.ai", "modeladapters/status", 200)]);
        assert!(status.used.iter().any(|(_, _, resource, _)| resource == "modeladapters/status"));
    }

    #[test]
    fn only_the_authorizer_refuses() {
        let mut ending = event(CONTROLLER, "patch", "", "services", 403);
        ending["annotations"]["authorization.k8s.io/decision"] = "allow".into();
        ending["responseStatus"]["message"] =
            "services \"sql\" is forbidden: unable to create new content in namespace \
            team-a because it is being terminated"
                .into();
        assert!(audit([ending.clone()]).report().refused.is_empty());
        ending["responseStatus"]["message"] =
            "services \"sql\" is forbidden: User \"system:serviceaccount:a:b\" cannot \
            create resource \"services\" in API group \"\" in the namespace \"team-a\""
                .into();
        assert_eq!(audit([ending]).report().refused.len(), 1);
    }

    #[test]
    fn what_others_do_and_what_has_no_object_counts_for_nothing() {
        let mut version = event(CONTROLLER, "get", "", "", 200);
        version.as_object_mut().unwrap().remove("objectRef");
        let others = ["admin", "system:serviceaccount:kube-system:longshore", "system:node:longshore-router"];
        let events = others.map(|user| event(user, "delete", "", "secrets", 403)).into_iter().chain([version]);
        let audit = audit(events);
        assert!(audit.used.is_empty());
        let report = audit.report();
        assert_eq!((report.refused.len(), report.requests), (0, 1));
    }

    #[test]
    fn a_watch_counts_from_its_start() {
        let mut watch = event(CONTROLLER, "watch", "", "pods", 200);
        watch["stage"] = "ResponseStarted".into();
        let audit = audit([watch]);
        assert_eq!((audit.used.len(), audit.requests), (1, 0));
    }

    #[test]
    fn a_line_that_is_no_event_is_an_error() {
        assert!(Audit::default().read("{\"kind\": \"Pod\"}").is_err());
        Audit::default().read("").unwrap();
    }
}
