//! What has been told, so that nothing is told twice and nothing that went is kept. Pure.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Every object that has been told, by its version. About 150 bytes each.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By `namespace/name`, which no part has a `/` of its own in.
    objects: HashMap<Box<str>, Entry>,
    round: u64,
}

#[derive(Debug)]
struct Entry {
    uid: Option<Box<str>>,
    version: Option<Box<str>>,
    /// The list that it was last seen in, or the one before the event that told of it.
    round: u64,
}

/// An object that is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: Option<String>,
}

/// What there is to tell of an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It has been told as it is.
    Equal,
    /// It is new, or differs.
    Differs,
    /// It has taken the name of one that is gone, which is told first.
    Replaces(Lost),
}

impl Known {
    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    /// An object is as `metadata` says.
    pub(super) fn see(&mut self, metadata: &ObjectMeta) -> Seen {
        let entry = Entry {
            uid: metadata.uid.as_deref().map(Box::from),
            version: metadata.resource_version.as_deref().filter(|version| !version.is_empty()).map(Box::from),
            round: self.round,
        };
        let key = key(metadata);
        match self.objects.insert(key.clone(), entry) {
            Some(before) if differ(before.uid.as_deref(), metadata.uid.as_deref()) => {
                Seen::Replaces(lost(&key, before))
            }
            Some(before)
                if before.version.is_some() && before.version.as_deref() == metadata.resource_version.as_deref() =>
            {
                Seen::Equal
            }
            _ => Seen::Differs,
        }
    }

    /// An object is gone. `None` for one that was never told.
    pub(super) fn lose(&mut self, metadata: &ObjectMeta) -> Option<Lost> {
        let key = key(metadata);
        let known = self.objects.get(&key)?;
        if differ(known.uid.as_deref(), metadata.uid.as_deref()) {
            return None;
        }
        let entry = self.objects.remove(&key)?;
        Some(lost(&key, entry))
    }

    /// The list is complete: what was not in it is gone. In the order of names.
    pub(super) fn end(&mut self) -> Vec<Lost> {
        let round = self.round;
        let gone = self.objects.extract_if(|_, entry| entry.round < round);
        let mut gone: Vec<Lost> = gone.map(|(key, entry)| lost(&key, entry)).collect();
        gone.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        gone
    }
}

/// Whether these are certainly two objects.
fn differ(a: Option<&str>, b: Option<&str>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

fn key(metadata: &ObjectMeta) -> Box<str> {
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default()).into()
}

fn lost(key: &str, entry: Entry) -> Lost {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    Lost { namespace: namespace.to_owned(), name: name.to_owned(), uid: entry.uid.map(String::from) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, uid: &str, version: &str) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("ns".into()),
            name: Some(name.into()),
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        }
    }

    fn gone(name: &str, uid: &str) -> Lost {
        Lost { namespace: "ns".into(), name: name.into(), uid: Some(uid.into()) }
    }

    #[test]
    fn only_what_differs_is_told() {
        let mut known = Known::default();
        assert_eq!(known.see(&object("a", "1", "5")), Seen::Differs);
        assert_eq!(known.see(&object("a", "1", "5")), Seen::Equal);
        assert_eq!(known.see(&object("a", "1", "4")), Seen::Differs, "versions are not compared but for being equal");
        assert_eq!(known.see(&object("b", "2", "5")), Seen::Differs);
        let unversioned = ObjectMeta { resource_version: None, ..object("a", "1", "") };
        assert_eq!(known.see(&unversioned), Seen::Differs);
        assert_eq!(known.see(&unversioned), Seen::Differs);
    }

    #[test]
    fn what_a_list_lacks_is_gone() {
        let mut known = Known::default();
        for name in ["a", "b", "c"] {
            known.see(&object(name, name, "1"));
        }
        known.begin();
        known.see(&object("b", "b", "1"));
        known.begin();
        known.see(&object("c", "c", "2"));
        assert_eq!(known.end(), [gone("a", "a"), gone("b", "b")], "a list that broke off tells nothing");
        assert_eq!(known.end(), []);
    }

    #[test]
    fn one_that_takes_anothers_name_is_another() {
        let mut known = Known::default();
        known.see(&object("a", "1", "5"));
        assert_eq!(known.see(&object("a", "2", "6")), Seen::Replaces(gone("a", "1")));
        assert_eq!(known.lose(&object("a", "1", "7")), None, "that one has been told to be gone");
        assert_eq!(known.lose(&object("a", "2", "8")), Some(gone("a", "2")));
        assert_eq!(known.lose(&object("a", "2", "8")), None);
    }
}
